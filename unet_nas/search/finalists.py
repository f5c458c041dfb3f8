"""What is trained once the trials are over: baselines, and the finalists with several seeds."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

from unet_nas.records.study import Timing, TrialRecord
from unet_nas.search.baselines import architecture_of
from unet_nas.search.config import Baseline, Finalists
from unet_nas.search.evaluate import Job, now
from unet_nas.search.folder import CHECKPOINT, only_one
from unet_nas.search.front import selected
from unet_nas.search.trials import finished_record, trained
from unet_nas.search.workplace import Workplace
from unet_nas.space.domains import Choice, Domain, Scalar
from unet_nas.space.sample import assign
from unet_nas.train.config import TrainConfig
from unet_nas.unet.dump import to_tree

__all__ = ["baseline_jobs", "default_train", "finalist_jobs", "run_jobs", "shorter_note"]


def default_train(place: Workplace) -> dict[str, Any]:
    """Returns the section ``train`` of baselines: that of the best trial, if it has holes.

    Before there is a trial, every hole has its first value.
    """
    records = place.folder.records("trials")
    best = selected(records, place.study.objectives[:1], 1)
    if best:
        return best[0].train
    tree = assign(place.candidates.tree, first_choice).tree
    return TrainConfig.model_validate(tree.get("train") or {}).model_dump(mode="json")


def first_choice(_name: str, domain: Domain) -> Scalar:
    """Picks the first value of every domain."""
    return domain.labels[0] if isinstance(domain, Choice) else domain.low


def baseline_jobs(place: Workplace) -> list[Job]:
    """Returns the baselines, to be trained as the trials were."""
    train = default_train(place)
    return [_baseline_job(place, baseline, train) for baseline in place.study.sections.baselines]


def _baseline_job(place: Workplace, baseline: Baseline, train: dict[str, Any]) -> Job:
    architecture = architecture_of(baseline, place.evaluator.task, base=place.study.base)
    tree = None if architecture is None else to_tree(architecture)
    data = place.candidates.tree.get("data")
    costs = {}
    if tree is not None:
        section = {"architecture": tree, "train": train}
        costs = place.candidates.costs(section | ({"data": data} if data else {}))
    return Job(
        kind="baseline",
        name=baseline.label,
        folder=place.folder.baseline(baseline.label),
        seed=place.order.seed,
        train=train,
        architecture=tree,
        network="architecture" if tree is not None else baseline.network,
        costs=costs,
    )


def finalist_jobs(place: Workplace) -> list[Job]:
    """Returns the longer trainings: of the finalists and of the baselines, with every seed."""
    wanted = place.study.search.finalists
    if wanted.count == 0 or not place.evaluator.has_test_cases:
        return []
    chosen = selected(place.folder.records("trials"), place.study.objectives, wanted.count)
    chosen += [r for r in place.folder.records("baselines") if r.state == "complete"]
    return [
        _finalist_job(place, record, place.order.seed + i)
        for record in chosen
        for i in range(wanted.seeds)
    ]


def shorter_note(finalists: Finalists, train: dict[str, Any]) -> str | None:
    """Says that finalists would be trained for less than a trial, if that is so.

    Args:
        finalists: the entry of the file.
        train: a section ``train`` without holes.
    """
    kind, amount = TrainConfig.model_validate(train).budget
    longer = finalists.budget(kind, amount)[kind]
    if finalists.count == 0 or longer is None or longer >= amount:
        return None
    return f"search.finalists trains for {longer:g} {kind}, less than the {amount:g} of a trial"


def _finalist_job(place: Workplace, record: TrialRecord, seed: int) -> Job:
    config = TrainConfig.model_validate(record.train)
    longer = place.study.search.finalists.budget(*config.budget)
    static = {name: cost for name, cost in record.costs.items() if name != "latency"}
    return Job(
        kind="finalist",
        name=record.name,
        folder=place.folder.finalist(record.name, seed),
        seed=seed,
        train={**record.train, **longer},
        architecture=record.architecture,
        network=record.network,
        number=record.number,
        parameters=record.parameters,
        digest=record.digest,
        costs=static,
    )


def waiting(place: Workplace, jobs: list[Job]) -> Iterator[Job]:
    """Yields the jobs that have no record."""
    return (job for job in jobs if place.folder.read_record(job.folder) is None)


def run_jobs(place: Workplace, jobs: list[Job]) -> Iterator[TrialRecord]:
    """Trains the jobs that nobody has trained or is training, and yields their records.

    Raises:
        KeyboardInterrupt: if a person stops it; what is whole stays.
    """
    for job in jobs:
        with only_one(job.folder) as mine:
            if mine and place.folder.read_record(job.folder) is None:
                yield _run(place, job)


def _run(place: Workplace, job: Job) -> TrialRecord:
    clock, started = perf_counter(), now()
    outcome = trained(place, job)
    if outcome.interrupted:
        raise KeyboardInterrupt
    parts = {
        "training_s": outcome.training_s,
        "validation_s": outcome.validation_s,
        "profiling_s": outcome.profiling_s,
    }
    spent = perf_counter() - clock - sum(parts.values())
    timing = Timing(started, now(), **parts, overhead_s=max(0.0, spent))
    record = finished_record(place, job, outcome, timing)
    place.folder.write_record(job.folder, record, outcome.files)
    (job.folder / CHECKPOINT).unlink(missing_ok=True)
    return record

"""The loop of one process: ask, train, write, tell, until enough trials are there."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any, Literal, TypeAlias

import yaml
from optuna.trial import FrozenTrial, Trial, TrialState

from unet_nas.errors import UnetNasError
from unet_nas.records.study import ARCHITECTURE, Point, Timing, TrialFailure, TrialRecord
from unet_nas.search.candidates import Verdict, suggest
from unet_nas.search.evaluate import Job, Outcome, now, record_of
from unet_nas.search.failures import HopelessError, failure_text
from unet_nas.search.ledger import Ledger
from unet_nas.search.recovery import (
    DRAWN,
    NOTE,
    RETRY_OF,
    WORKER,
    Undertaker,
    drop,
    is_result,
    note_of,
    tell,
)
from unet_nas.search.sampler import NothingLeftError
from unet_nas.search.storage import Heartbeat, backend_of
from unet_nas.search.workplace import Workplace
from unet_nas.space.sample import Assignment, assign
from unet_nas.train.config import TrainConfig

__all__ = ["Ending", "TrialLoop", "worker_name"]

Ending: TypeAlias = Literal["enough", "timeout", "nothing_left"]

#: where several processes share a study, one that has nothing to do looks again after so long
_LOOK_AGAIN_S = 0.5
#: if the first so many trials all fail, something is wrong that no search can mend
_HOPELESS = 5


def worker_name() -> str:
    """Returns the name of this process among all that may share a study."""
    return f"{socket.gethostname()}:{os.getpid()}"


class TrialLoop:
    """Runs trials until there are enough, the time is up, or no candidate is left.

    Args:
        place: what to work with.
        on_trial: called after every trial that this process has ended.
    """

    def __init__(self, place: Workplace, on_trial: Callable[[TrialRecord], None]) -> None:
        self.place, self.on_trial = place, on_trial
        self.study, self.claims, self.folder = place.optuna, place.claims, place.folder
        self.undertaker = Undertaker(self.study, self.claims, self.folder)
        self.ledger = Ledger()
        self.worker = worker_name()
        self.nothing_left: NothingLeftError | None = None

    def run(self) -> Ending:
        """Runs trials, and says why it ended.

        Raises:
            KeyboardInterrupt: if a person stops it; the trial in hand waits in the queue then.
            HopelessError: if the first trials all fail.
            UnetNasError: if the storage fails.
        """
        order = self.place.order
        while True:
            self.ledger.read(self.study)
            if self.ledger.results >= order.wanted:
                return "enough"
            if order.deadline is not None and time.time() >= order.deadline:
                return "timeout"
            self._give_up_if_hopeless()
            if self.ledger.results + self.ledger.running < order.wanted:
                if not self._one(self.ledger.known):
                    return "nothing_left"
            else:  # others are at the last ones; should they die, their trials are ours
                time.sleep(_LOOK_AGAIN_S)
                self.undertaker.sweep()

    def _give_up_if_hopeless(self) -> None:
        results, last = self.ledger.results, self.ledger.latest
        if last is None or results < _HOPELESS or self.ledger.states[TrialState.FAIL] < results:
            return
        failure = self.folder.failure(last.number)
        reason = failure_text(failure) if failure else "no reason was recorded"
        raise HopelessError(f"the first {results} trials have all failed; the last one: {reason}")

    # --- one trial -----------------------------------------------------------------------------

    def _one(self, known: int) -> bool:
        """Runs one trial; False if no candidate is left.

        Args:
            known: trials that there were when it was found to be wanted.
        """
        self.place.place.check_file()
        clock = perf_counter()
        started = now()
        trial = self.study.ask()
        surplus = trial.number != known and self._is_surplus(trial)
        if surplus:
            drop(self.study, trial, "unused")
            return True
        try:
            trial.set_user_attr(WORKER, self.worker)
            with Heartbeat(backend_of(self.study), trial._trial_id):
                return self._run(trial, started, clock)
        except KeyboardInterrupt:
            # it may come when the record is whole and the study does not know it yet
            self.undertaker.bury(self._frozen(trial))
            raise

    def _run(self, trial: Trial, started: str, clock: float) -> bool:
        try:
            job = self._job(trial)
        except NothingLeftError as error:
            self.nothing_left = error
            drop(self.study, trial, "unused")
            return False
        if job is None:
            drop(self.study, trial, "unused")
            return True
        outcome = self._outcome(trial, job)
        if outcome.interrupted:
            raise KeyboardInterrupt
        if self._frozen(trial).state != TrialState.RUNNING:
            return True  # it was silent too long, and its candidate went to another process
        record = self._record(job, outcome, started, clock)
        self.folder.write_record(job.folder, record, outcome.files)
        tell(self.study, trial, record)
        self.on_trial(record)
        return True

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)

    def _is_surplus(self, trial: Trial) -> bool:
        """Tells whether processes that asked at once have begun more trials than are wanted."""
        before = self.study.get_trials(deepcopy=False)[: trial.number]
        counted = sum(is_result(t) or t.state == TrialState.RUNNING for t in before)
        return counted >= self.place.order.wanted

    def _job(self, trial: Trial) -> Job | None:
        """Returns what is to be trained; None if it is another trial's."""
        tree = self.place.candidates.tree
        assignment = assign(tree, lambda name, domain: suggest(trial, name, domain))
        draw = self.place.sampler.last
        note: dict[str, Any]
        verdict = draw.verdict
        if verdict is not None:
            note = {"rejected": dict(draw.rejected), "fallback": draw.fallback}
        else:
            verdict = self._queued(trial, assignment)
            if verdict is None:
                return None
            drawn = trial.user_attrs.get(DRAWN) or {}
            note = {"rejected": {}, "fallback": False, **drawn}
        note["digest"] = verdict.digest
        trial.set_user_attr(NOTE, note)
        return job_of(self.place, trial.number, assignment, note, verdict=verdict)

    def _queued(self, trial: Trial, assignment: Assignment) -> Verdict | None:
        """Returns what is known of a candidate from the queue, if it may be trained."""
        verdict = self.place.candidates.examine(assignment.tree)
        if not verdict.feasible:
            return None
        old = trial.user_attrs.get(RETRY_OF)
        if old is None:
            mine = self.claims.claim(verdict.digest, trial.number)
        else:
            mine = self._is_over(old) and self.claims.pass_on(verdict.digest, old, trial.number)
        return verdict if mine else None

    def _is_over(self, number: int) -> bool:
        """Ends an interrupted trial whose candidate waits; False if it came to a result after all.

        Who queued the candidate may have died before ending the trial, or been late.
        """
        old = Trial(self.study, self.study.get_trials(deepcopy=False)[number]._trial_id)
        drop(self.study, old, "interrupted")
        return not is_result(self._frozen(old))

    def _outcome(self, trial: Trial, job: Job) -> Outcome:
        """Trains; whatever a network raises is a result."""
        points = 0

        def on_point(point: Point) -> bool:
            nonlocal points
            points += 1
            if not self.place.prunes or point.score is None:
                return False
            trial.report(point.score, points)
            return trial.should_prune()

        return trained(self.place, job, on_point)

    def _record(self, job: Job, outcome: Outcome, started: str, clock: float) -> TrialRecord:
        draw = self.place.sampler.last
        parts = {
            "sampling_s": draw.sampling_s,
            "checking_s": draw.checking_s,
            "training_s": outcome.training_s,
            "validation_s": outcome.validation_s,
            "profiling_s": outcome.profiling_s,
        }
        spent = perf_counter() - clock - sum(parts.values())
        timing = Timing(started, now(), **parts, overhead_s=max(0.0, spent))
        return finished_record(self.place, job, outcome, timing)


def finished_record(place: Workplace, job: Job, outcome: Outcome, timing: Timing) -> TrialRecord:
    """Returns the record of a training."""
    return record_of(
        job,
        outcome,
        objectives=place.study.objectives,
        limits_ms=place.limits_ms,
        timing=timing,
        device=place.evaluator.device_name,
    )


def trained(
    place: Workplace, job: Job, on_point: Callable[[Point], bool] = lambda point: False
) -> Outcome:
    """Trains a network; what it raises becomes a failure with a reason."""
    try:
        outcome = place.evaluator.evaluate(job, on_point)
    except Exception as error:  # one network must not end the search
        return Outcome("failed", failure=_failure(error))
    if job.architecture is None:
        return outcome
    return replace(outcome, files={**outcome.files, ARCHITECTURE: _yaml(job)})


def _failure(error: Exception) -> TrialFailure:
    text = " ".join(str(error).split())
    kind = "" if isinstance(error, UnetNasError) else f"{type(error).__name__}: "
    return TrialFailure("failed", f"{kind}{text}"[:500])


def _yaml(job: Job) -> bytes:
    document = {"name": job.name, "architecture": job.architecture}
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return text.encode()


def job_of(
    place: Workplace,
    number: int,
    assignment: Assignment,
    note: dict[str, Any],
    *,
    verdict: Verdict | None = None,
) -> Job:
    """Returns what the trial of a candidate trains."""
    tree = assignment.tree
    train = TrainConfig.model_validate(tree.get("train") or {})
    return Job(
        kind="trial",
        name=f"#{number}",
        folder=place.folder.trial(number),
        seed=place.order.seed,
        train=train.model_dump(mode="json"),
        architecture=tree["architecture"],
        number=number,
        parameters=dict(assignment.values),
        digest=note["digest"],
        costs=place.candidates.costs(tree, verdict),
        rejected=note["rejected"],
        fallback=note["fallback"],
    )


def rebuilt(place: Workplace, trial: FrozenTrial) -> tuple[Job, TrialRecord]:
    """Returns the record of a finished trial from what the study knows of it.

    Its curve, its weights and the scores that are no objectives are lost.
    """
    assignment = assign(place.candidates.tree, lambda name, _: trial.params[name])
    note = note_of(trial) or {"digest": "", "rejected": {}, "fallback": False}
    job = job_of(place, trial.number, assignment, note)
    names = [spec.name for spec in place.study.objectives]
    values = dict(zip(names, trial.values or (), strict=False))
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    lost = TrialFailure("failed", "its record was lost, and made again from the study")
    measured = {"latency": values["latency"]} if "latency" in values else {}
    state = states.get(trial.state, "failed")
    outcome = Outcome(
        state=state,  # type: ignore[arg-type]
        metrics={name: value for name, value in values.items() if name not in job.costs},
        failure=lost if state == "failed" else None,
        costs=measured,
    )
    timing = Timing(_iso(trial.datetime_start), _iso(trial.datetime_complete))
    record = finished_record(place, job, outcome, timing)
    return job, replace(record, constraints=trial.constraints, history=_curve(trial))


def _iso(moment: Any) -> str:
    return moment.astimezone().isoformat(timespec="seconds") if moment else ""


def _curve(trial: FrozenTrial) -> tuple[Point, ...]:
    """Returns the curve that a pruner saw; its steps are validations."""
    points = sorted(trial.intermediate_values.items())
    return tuple(Point(step, 0.0, None, value, 0.0, 0.0) for step, value in points)

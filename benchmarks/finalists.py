"""Is what a search finds better than known networks of the same size, and than random search?

``python finalists.py nuclei ../../shared/data/nuclei`` in this folder searches one of the ready
spaces with 20 trials for the best Dice and takes its best finalist (by the mean score on
validation); searches it with 20 random trials of another seed and takes the best; scales the 2015
network and nnU-Net's plain one to the finalist's parameter count, as deep as published (or as fits
the patch) and as deep as the finalist; trains all with five seeds for the same number of steps and
scores them on the test cases, which nothing before has seen. The differences to the finalist are
paired by seed; intervals are Student's at 95 %. Writes ``results/finalists-NAME.json``. Started
again, it goes on with what lies in ``--work``.

With ``--searches N`` all of this is done N times with other seeds of the search. The differences
are then those of the means of each search, and the interval is one over searches. Where a machine
has the room, they may run at once, with ``--seed`` and ``--output`` of their own; then
``--merge FILES`` puts their results together.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from conditions import RESULTS, conditions
from scipy.stats import t as student

from unet_nas.audit.memory import Device
from unet_nas.errors import InputError
from unet_nas.records import Run, TrialRecord, read_run
from unet_nas.search.baselines import architecture_of, scaled
from unet_nas.search.config import Baseline
from unet_nas.search.load import load_study
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.cases import Task
from unet_nas.train.data.load import load_data
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.dump import to_tree
from unet_nas.unet.graph import lower

ROOT = Path(__file__).parents[1]
TRIALS = 20
SEEDS = 5
#: steps of finalists, in steps of a trial
LONGER = 3
FINALISTS = f"search.finalists={{count: 3, seeds: 3, factor: {LONGER}}}"
SAME_DEPTH = ", same depth"
KNOWN = {
    "2015": ("preset:unet-2015", "padding=same"),
    "nnunet-plain": ("preset:nnunet-plain", "deep_supervision=0"),
}


def main() -> None:
    """Runs the comparison on one data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("space", help="a file of search_spaces, without .yaml")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the first search")
    parser.add_argument("--searches", type=int, default=1)
    parser.add_argument("--training-seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, help="of the last training; default: of a finalist")
    parser.add_argument("--set", action="append", default=[], help="over the file")
    parser.add_argument("--work", type=Path, help="folder of the searches and their trainings")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--merge", type=Path, nargs="+", help="results of single searches")
    options = parser.parse_args()
    output = options.output or RESULTS / f"finalists-{options.space}.json"
    if options.merge:
        parts = [json.loads(path.read_text("utf-8")) for path in options.merge]
        save(output, parts[0], [one for part in parts for one in part.pop("searches")])
        return
    work = options.work or Path(tempfile.gettempdir()) / f"finalists-{options.space}"
    settings = [f"data.source={options.data.resolve()}", "baselines=[]", "objectives=[dice]"]
    file = ROOT / "search_spaces" / f"{options.space}.yaml"
    settings += options.set
    place = Place(file, tuple(settings), options.jobs, options.device, options.training_seeds)
    found = [
        one_search(place, seed, options.steps, work / str(seed))
        for seed in range(options.seed, options.seed + options.searches)
    ]
    where = {"device": device_name(options.device), "space": options.space, "set": options.set}
    save(output, {**conditions("torch", "optuna"), **where, "trials": TRIALS}, found)


@dataclass(frozen=True)
class Place:
    """The space with its settings, and where it runs."""

    file: Path
    settings: tuple[str, ...]
    jobs: int
    device: Device
    seeds: int


def one_search(place: Place, seed: int, steps: int | None, work: Path) -> dict[str, Any]:
    """Searches, scales the known networks to the finalist, and trains and scores them all."""
    ours = [*place.settings, "search.sampler=tpe", FINALISTS]
    found = search(place, work / "search", ours, seed)
    at_random = [*place.settings, "search.sampler=random", "search.finalists=0"]
    lucky = search(place, work / "random", at_random, seed + 1_000)
    winner = best_finalist(found)
    best = best_trial(lucky)
    steps = steps or int(winner.train["steps"])
    networks = {
        "finalist": (winner.architecture, winner.train),
        "best of random": (best.architecture, best.train),
        **known_networks(load_study(str(place.file), place.settings), winner),
    }
    contenders = {
        name: (tree, {**section, "steps": steps}) for name, (tree, section) in networks.items()
    }
    scores = scores_of(contenders, place, work)
    return {
        "seed": seed,
        "steps": steps,
        "sampler": found.header.sampler["type"],
        "networks": {
            name: {
                "parameters": parameters(tree),
                "test_dice": scores[name],
                "mean": round(mean_of(scores[name]), 4),
                "architecture": tree,
            }
            for name, (tree, _) in contenders.items()
        },
    }


def search(place: Place, out: Path, settings: list[str], seed: int) -> Run:
    """Runs the command that a person would type."""
    command = [sys.executable, "-m", "unet_nas.cli", "search", str(place.file), "--out", str(out)]
    command += ["--trials", str(TRIALS), "--workers", str(min(place.jobs, 4)), "--seed", str(seed)]
    command += ["--device", place.device]
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, check=True, cwd=ROOT)
    return read_run(out)


def best_trial(run: Run) -> TrialRecord:
    """Returns the trial that a person would take where there are no finalists."""
    complete = [record for record in run.trials if record.feasible]
    return max(complete, key=lambda record: record.metrics["dice"])


def best_finalist(run: Run) -> TrialRecord:
    """Returns a record of the finalist with the best mean score on validation."""
    names = {record.name for record in run.finalists}

    def mean(name: str) -> float:
        return mean_of([r.metrics["dice"] for r in run.finalists if r.name == name])

    best = max(names, key=mean)
    return next(record for record in run.finalists if record.name == best)


def known_networks(study: Any, winner: TrialRecord) -> dict[str, Any]:
    """Returns the published networks at the finalist's parameter count, each at two depths."""
    data = load_data(study.data, base=study.base)
    size = TrainConfig.model_validate(winner.train).size(data.task.spatial_dims)
    assert size is not None
    assert winner.architecture is not None
    deepest = min(4, int(np.log2(min(size))) - 2)
    depth = Architecture.model_validate(winner.architecture).depth
    parameters = int(winner.costs["parameters"])
    made: dict[str, Any] = {}
    for name, (network, setting) in KNOWN.items():
        for label, depths in (("", range(deepest, 0, -1)), (SAME_DEPTH, (depth,))):
            tree = next(scaled_to(network, setting, depths, data.task, parameters), None)
            if tree is not None:
                made[name + label] = (tree, winner.train)
    return made


def scaled_to(
    network: str, setting: str, depths: Any, task: Task, parameters: int
) -> Iterator[dict[str, Any]]:
    """Yields a network at every depth at which it can have so many parameters."""
    for depth in depths:
        entry = Baseline(network=network, set=(setting, f"depth={depth}"))
        architecture = architecture_of(entry, task, base=ROOT)
        assert architecture is not None
        try:
            yield to_tree(scaled(architecture, parameters))
        except InputError:  # too deep for so few parameters
            continue


def scores_of(contenders: dict[str, Any], place: Place, work: Path) -> dict[str, list[float]]:
    """Trains every contender with every seed, and returns the scores on the test cases."""
    known = work / "scores.json"
    done: dict[str, float] = json.loads(known.read_text("utf-8")) if known.exists() else {}
    keys = {
        (name, seed): json.dumps([*what, seed], sort_keys=True)
        for seed in range(place.seeds)
        for name, what in contenders.items()
    }
    # two contenders may be the same network, as a published one that is as deep as the finalist
    missing = {key: name_seed for name_seed, key in keys.items() if key not in done}
    with ProcessPoolExecutor(place.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {
            pool.submit(train, *contenders[name], place, seed): key
            for key, (name, seed) in missing.items()
        }
        for job in as_completed(waiting):
            done[waiting[job]] = job.result()
            known.write_text(json.dumps(done), "utf-8")
            print(f"trained {len(done)} of {len(set(keys.values()))}", file=sys.stderr)
    return {name: [done[keys[name, seed]] for seed in range(place.seeds)] for name in contenders}


def train(architecture: dict[str, Any], section: dict[str, Any], place: Place, seed: int) -> float:
    """Returns the mean Dice on the test cases after one training."""
    import torch  # noqa: PLC0415 - in the worker, after it is spawned

    from unet_nas.train.loop import fit  # noqa: PLC0415
    from unet_nas.train.metrics import score  # noqa: PLC0415
    from unet_nas.unet.build import build  # noqa: PLC0415

    torch.set_num_threads(1)
    study = load_study(str(place.file), place.settings)
    data = load_data(study.data, base=study.base)
    config = TrainConfig.model_validate(section)
    torch.manual_seed(1000 + seed)
    module = build(Architecture.model_validate(architecture))
    fit(module, data, config, seed=1000 + seed, device=place.device)
    size = config.size(data.task.spatial_dims)
    assert size is not None
    scores = score(module, data.test, data.task, patch_size=size, device=place.device)
    return float(scores["dice"])


def save(output: Path, where: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """Writes the scores with the differences to the finalist."""
    others = [name for name in found[0]["networks"] if name != "finalist"]
    result = {
        **where,
        "finalist": round(mean_of([one["networks"]["finalist"]["mean"] for one in found]), 4),
        "interval over": "training seeds" if len(found) == 1 else "searches",
        "finalist minus": {
            name: difference(*paired(found, name))
            for name in others
            if all(name in one["networks"] for one in found)
        },
        "searches": found,
    }
    text = json.dumps(result, indent=1) + "\n"
    output.write_text(text, "utf-8")
    sys.stdout.write(text)


def device_name(device: Device) -> str:
    """Returns what the device calls itself."""
    import torch  # noqa: PLC0415 - it is needed nowhere else in this process

    return torch.cuda.get_device_name() if device == "cuda" else device


def paired(found: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Returns the finalist's scores and another's: of the seeds of one search, or of searches."""
    scores = [[one["networks"][n]["test_dice"] for one in found] for n in ("finalist", name)]
    if len(found) == 1:
        return scores[0][0], scores[1][0]
    ours, theirs = ([mean_of(values) for values in each] for each in scores)
    return ours, theirs


def mean_of(values: list[float]) -> float:
    """Returns the mean."""
    return float(np.mean(values))


def parameters(tree: dict[str, Any]) -> int:
    """Returns the trainable parameters of an architecture."""
    return lower(Architecture.model_validate(tree)).parameters()


def difference(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Returns the mean of the paired differences with its 95 % interval."""
    gaps = np.subtract(ours, theirs)
    half = student.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    mean = float(gaps.mean())
    return {
        "mean": round(mean, 4),
        "interval": [round(mean - float(half), 4), round(mean + float(half), 4)],
    }


if __name__ == "__main__":
    main()

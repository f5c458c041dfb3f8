"""Is what a search finds better than known networks of the same size, and than random search?

``python finalists.py nuclei ../../shared/data/nuclei`` in this folder searches one of the ready
spaces with 20 trials for the best Dice and takes its best finalist (by the mean score on
validation); searches it with 20 random trials of another seed and takes the best; scales the 2015
network and nnU-Net's plain one to the finalist's parameter count, as deep as published (or as fits
the patch) and as deep as the finalist; trains all with five seeds for the same number of steps and
scores them on the test cases, which nothing before has seen. The differences to the finalist are
paired by seed; intervals are Student's at 95 %. Writes ``results/finalists-NAME.json``. Started
again, it goes on with what lies in ``--work``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from conditions import RESULTS, conditions
from scipy.stats import t as student

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
KNOWN = {
    "2015": ("preset:unet-2015", "padding=same"),
    "nnunet-plain": ("preset:nnunet-plain", "deep_supervision=0"),
}


def main() -> None:
    """Runs the comparison on one data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("space", help="a file of search_spaces, without .yaml")
    parser.add_argument("data", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of the last training; default: of a finalist")
    parser.add_argument("--set", action="append", default=[], help="over the file")
    parser.add_argument("--work", type=Path, help="folder of the searches and their trainings")
    options = parser.parse_args()
    work = options.work or Path(tempfile.gettempdir()) / f"finalists-{options.space}"
    settings = [f"data.source={options.data.resolve()}", "baselines=[]", "objectives=[dice]"]
    settings += options.set
    file = ROOT / "search_spaces" / f"{options.space}.yaml"
    ours = [*settings, "search.sampler=tpe", FINALISTS]
    found = search(file, work / "search", ours, options.seed, options.jobs)
    at_random = [*settings, "search.sampler=random", "search.finalists=0"]
    lucky = search(file, work / "random", at_random, options.seed + 1_000, options.jobs)
    winner = best_finalist(found)
    best = best_trial(lucky)
    steps = options.steps or int(winner.train["steps"])
    networks = {
        "finalist": (winner.architecture, winner.train),
        "best of random": (best.architecture, best.train),
        **known_networks(load_study(str(file), settings), winner),
    }
    contenders = {
        name: (tree, {**section, "steps": steps}) for name, (tree, section) in networks.items()
    }
    scores = scores_of(contenders, file, settings, options.jobs, work)
    save(options.space, options.set, contenders, scores, found)


def search(file: Path, out: Path, settings: list[str], seed: int, jobs: int) -> Run:
    """Runs the command that a person would type."""
    command = [sys.executable, "-m", "unet_nas.cli", "search", str(file), "--out", str(out)]
    command += ["--trials", str(TRIALS), "--workers", str(jobs), "--seed", str(seed)]
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
        return float(np.mean([r.metrics["dice"] for r in run.finalists if r.name == name]))

    best = max(names, key=mean)
    return next(record for record in run.finalists if record.name == best)


def known_networks(study: Any, winner: TrialRecord) -> dict[str, Any]:
    """Returns the published networks at the finalist's parameter count, each at two depths."""
    data = load_data(study.data, base=study.base)
    size = TrainConfig.model_validate(winner.train).size(data.task.spatial_dims)
    assert size is not None
    assert winner.architecture is not None
    deepest = min(4, int(np.log2(min(size))) - 2)
    ours = Architecture.model_validate(winner.architecture).depth
    parameters = int(winner.costs["parameters"])
    made: dict[str, Any] = {}
    for name, (network, setting) in KNOWN.items():
        for label, depths in (("", range(deepest, 0, -1)), (f", depth {ours}", (ours,))):
            tree = next(scaled_to(network, setting, depths, data.task, parameters), None)
            if tree is not None and all(tree != other for other, _ in made.values()):
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


def scores_of(
    contenders: dict[str, Any], file: Path, settings: list[str], jobs: int, work: Path
) -> dict[str, list[float]]:
    """Trains every contender with every seed, and returns the scores on the test cases."""
    known = work / "scores.json"
    done: dict[str, float] = json.loads(known.read_text("utf-8")) if known.exists() else {}
    keys = {
        (name, seed): json.dumps([*what, seed], sort_keys=True)
        for seed in range(SEEDS)
        for name, what in contenders.items()
    }
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {
            pool.submit(train, *contenders[name], file, settings, seed): key
            for (name, seed), key in keys.items()
            if key not in done
        }
        for job in as_completed(waiting):
            done[waiting[job]] = job.result()
            known.write_text(json.dumps(done), "utf-8")
            print(f"trained {len(done)} of {len(keys)}", file=sys.stderr)
    return {name: [done[keys[name, seed]] for seed in range(SEEDS)] for name in contenders}


def train(
    architecture: dict[str, Any],
    section: dict[str, Any],
    file: Path,
    settings: list[str],
    seed: int,
) -> float:
    """Returns the mean Dice on the test cases after one training."""
    import torch  # noqa: PLC0415 - in the worker, after it is spawned

    from unet_nas.train.loop import fit  # noqa: PLC0415
    from unet_nas.train.metrics import score  # noqa: PLC0415
    from unet_nas.unet.build import build  # noqa: PLC0415

    torch.set_num_threads(1)
    study = load_study(str(file), settings)
    data = load_data(study.data, base=study.base)
    config = TrainConfig.model_validate(section)
    torch.manual_seed(1000 + seed)
    module = build(Architecture.model_validate(architecture))
    fit(module, data, config, seed=1000 + seed)
    size = config.size(data.task.spatial_dims)
    assert size is not None
    return float(score(module, data.test, data.task, patch_size=size)["dice"])


def save(
    space: str,
    settings: list[str],
    contenders: dict[str, Any],
    scores: dict[str, list[float]],
    run: Run,
) -> None:
    """Writes the scores with the differences to the finalist."""
    result = {
        **conditions("torch", "optuna"),
        "space": space,
        "set": settings,
        "trials": TRIALS,
        "steps": contenders["finalist"][1]["steps"],
        "sampler": run.header.sampler["type"],
        "networks": {
            name: {
                "parameters": parameters(tree),
                "test_dice": scores[name],
                "mean": round(float(np.mean(scores[name])), 4),
                "architecture": tree,
            }
            for name, (tree, _) in contenders.items()
        },
        "finalist minus": {
            name: difference(scores["finalist"], values)
            for name, values in scores.items()
            if name != "finalist"
        },
    }
    text = json.dumps(result, indent=1) + "\n"
    (RESULTS / f"finalists-{space}.json").write_text(text, "utf-8")
    sys.stdout.write(text)


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

"""Does the brief training rank architectures as a training ten times as long does?

``python fidelity.py`` in this folder draws architectures of ``search_spaces/nuclei.yaml`` (with
few MACs, so that it ends within an hour or so), trains each with the steps of that file
and with ten times as many (two seeds of the long one), on the nuclei data, and writes
``results/fidelity.json`` after every training: started again, it goes on. It reports Kendall's
tau between brief and long with a bootstrap interval over architectures, the tau between the two
seeds of the long training (no proxy can be expected to do better), and the regret: by how much
the best of the brief top five falls short, at length, of the best of all.
"""

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from conditions import RESULTS, conditions
from scipy.stats import kendalltau

from unet_nas.space.candidate import judge
from unet_nas.space.load import Space, load_space
from unet_nas.space.sample import draw
from unet_nas.train.config import TrainConfig
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower

ROOT = Path(__file__).parents[1]
SPACE = ROOT / "search_spaces" / "nuclei.yaml"
LONGER = 10
TOP = 5
BOOTSTRAPS = 2_000

#: which training: brief, and two seeds of the long one
TRAININGS = {"brief": (1, 0), "long": (LONGER, 1), "long, other seed": (LONGER, 2)}


def main() -> None:
    """Trains what is missing in the result, and sums up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data" / "nuclei"))
    parser.add_argument("--architectures", type=int, default=30)
    parser.add_argument("--macs", default="15M", help="in place of budget.macs")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    space = load_space(SPACE, [f"data.source={options.data}", f"budget.macs={options.macs}"])
    trees = feasible(space, options.architectures, options.seed)
    file = RESULTS / "fidelity.json"
    scores: dict[str, dict[str, float]] = {name: {} for name in TRAININGS}
    if file.exists():
        scores = json.loads(file.read_text("utf-8"))["scores"]
    waiting = [
        (name, digest) for digest in trees for name in TRAININGS if digest not in scores[name]
    ]
    context = get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        jobs = [
            (name, digest, pool.submit(train, trees[digest], options.data, *TRAININGS[name]))
            for name, digest in waiting
        ]
        for done, (name, digest, job) in enumerate(jobs, start=1):
            scores[name][digest] = job.result()
            print(
                f"{done} of {len(jobs)}: {name} {digest[:8]} {scores[name][digest]:.4f}", flush=True
            )
            file.write_text(
                json.dumps(report(scores, trees, options.macs), indent=1) + "\n", "utf-8"
            )
    print(json.dumps(report(scores, trees, options.macs)["summary"], indent=1))


def feasible(space: Space, number: int, seed: int) -> dict[str, dict[str, Any]]:
    """Returns trees within the budget by the digest of their graph, each network once."""
    rng, found = Random(seed), {}
    limits = space.budget.static_limits()
    while len(found) < number:
        tree = draw(space.part("architecture", "train", "data"), rng).tree
        candidate = judge(tree, limits)
        if candidate.feasible and candidate.graph is not None:
            found.setdefault(candidate.graph.digest(), tree)
    return found


def train(tree: dict[str, Any], data: str, longer: int, seed: int) -> float:
    """Returns the Dice on the validation cases after one training."""
    import torch  # noqa: PLC0415 - in the worker, after it is spawned

    from unet_nas.train.data.config import DataConfig  # noqa: PLC0415
    from unet_nas.train.data.load import load_data  # noqa: PLC0415
    from unet_nas.train.loop import fit  # noqa: PLC0415
    from unet_nas.unet.build import build  # noqa: PLC0415

    torch.set_num_threads(1)
    dataset = load_data(DataConfig.model_validate(tree["data"]), base=Path(data).parent, seed=0)
    config = TrainConfig.model_validate(tree["train"])
    config = config.model_copy(update={"steps": int(config.budget[1]) * longer})
    torch.manual_seed(seed)
    module = build(Architecture.model_validate(tree["architecture"]))
    result = fit(module, dataset, config, seed=seed, device="cpu")
    return float(result.metrics.get("dice", 0.0))


def report(
    scores: dict[str, dict[str, float]], trees: dict[str, dict[str, Any]], macs: str
) -> dict[str, Any]:
    """Returns the scores with what follows from those that are complete."""
    networks = {
        digest: {
            "architecture": tree["architecture"],
            "parameters": lower(Architecture.model_validate(tree["architecture"])).parameters(),
        }
        for digest, tree in trees.items()
    }
    whole = [d for d in trees if all(d in scores[name] for name in TRAININGS)]
    table = np.array([[scores[name][d] for name in TRAININGS] for d in whole])
    summary = summarise(table) if len(whole) > TOP else {"complete": len(whole)}
    return {
        **conditions(),
        "longer": LONGER,
        "summary": summary,
        "scores": scores,
        "networks": networks,
    }


def summarise(table: np.ndarray) -> dict[str, Any]:
    """Returns the figures for rows of (brief, long, long with another seed)."""
    long = table[:, 1:].mean(1)
    top = np.argsort(-table[:, 0])[:TOP]
    return {
        "complete": len(table),
        "tau of brief and long": with_interval(table, lambda t: tau(t[:, 0], t[:, 1:].mean(1))),
        "tau of brief and one seed of long": with_interval(table, lambda t: tau(t[:, 0], t[:, 1])),
        "ceiling: tau of two seeds of long": with_interval(table, lambda t: tau(t[:, 1], t[:, 2])),
        "regret of the brief top five": round(float(long.max() - long[top].max()), 4),
        "range of long": [round(float(long.min()), 4), round(float(long.max()), 4)],
    }


def tau(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Kendall's tau-b."""
    return float(kendalltau(first, second).statistic)


def with_interval(table: np.ndarray, statistic: Callable[[np.ndarray], float]) -> dict[str, Any]:
    """Returns a statistic with its 95 % bootstrap interval over architectures."""
    rng = np.random.default_rng(0)
    drawn = [statistic(table[rng.integers(len(table), size=len(table))]) for _ in range(BOOTSTRAPS)]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return {
        "value": round(statistic(table), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
    }


if __name__ == "__main__":
    main()

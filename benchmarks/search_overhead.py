"""Our own time per trial: everything but training, validation and the sampler's own draws.

``python benchmarks/search_overhead.py [TRIALS]`` writes ``results/search_overhead.json``. The
evaluator returns a computed score at once, with weights of 100 kB. Measured is the time from one
trial told to the next, less what the inner sampler took: asking, judging candidates by arithmetic
with their memory, claims, storage, progress, records and files. *In memory* the loop runs on
Optuna's in-memory storage and a folder in memory; *SQLite* is what a search uses, on the disk.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import optuna
from conditions import conditions, save

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support

from tests.support.searching import Fake
from unet_nas.records.study import TrialRecord
from unet_nas.search.claims import claims_of
from unet_nas.search.evaluate import Job, OnPoint, Outcome
from unet_nas.search.load import Study
from unet_nas.search.progress import Board
from unet_nas.search.sampler import FeasibleSampler
from unet_nas.search.trials import TrialLoop
from unet_nas.search.workplace import Order, Workplace, open_workplace

SPACE = """\
architecture:
  depth: {int: [2, 4]}
  width: {int: [8, 32, 4]}
  kernel_size: {choice: [3, 5], per_stage: true}
  norm: {choice: [batch, instance]}
  activation: {choice: [relu, leaky_relu, silu]}
  down: {choice: [max_pool, avg_pool, {type: strided_conv, kernel_size: {choice: [2, 3]}}]}
  up: {choice: [transposed_conv, {type: interpolation, mode: {choice: [nearest, linear]}}]}
  fusion: {choice: [concat, add], per_stage: true}
budget: {parameters: 4M, macs: 2G, training_memory: 256MiB}
objectives: [dice, macs]
data: {source: synthetic}
train: {patch_size: 64x64, batch_size: 8, learning_rate: {float: [1e-4, 1e-2], log: true}}
search: {sampler: SAMPLER}
"""
TRIALS = 2_000
MEMORY = Path("/dev/shm")
LAST = 200


class Instant(Fake):
    """Returns a score at once, with weights."""

    def evaluate(self, job: Job, on_point: OnPoint) -> Outcome:
        found = super().evaluate(job, on_point)
        return replace(found, files={"weights.safetensors": bytes(100_000)})


def make(study: Study, device: str, seed: int) -> Instant:
    return Instant()


def in_memory(place: Workplace) -> Workplace:
    """Returns the same with Optuna's in-memory storage."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    claims = claims_of(study)
    sampler = FeasibleSampler(place.sampler.inner, place.candidates, claims, seed=0)
    study.sampler, study.pruner = sampler, place.optuna.pruner
    return replace(place, optuna=study, claims=claims, sampler=sampler)


def measure(sampler: str, storage: str, trials: int) -> dict[str, Any]:
    """Runs a search, and returns milliseconds per trial."""
    parent = MEMORY if storage == "memory" and MEMORY.exists() else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        text = SPACE.replace("SAMPLER", sampler)
        order = Order(
            text=text,
            name="overhead",
            base=Path(folder),
            out=Path(folder),
            storage=None,
            seed=0,
            device="cpu",
            workers=1,
            wanted=trials,
            deadline=None,
            make=make,
        )
        place = open_workplace(order)
        return _run(in_memory(place) if storage == "memory" else place, trials)


def _run(place: Workplace, trials: int) -> dict[str, Any]:
    board = Board(place.study.objectives, trials, failure_of=place.folder.failure)
    ours: list[float] = []
    draws: list[float] = []
    rejected: list[int] = []
    cpu: list[float] = []
    clock, busy = time.perf_counter(), time.process_time()

    def on_trial(record: TrialRecord) -> None:
        nonlocal clock, busy
        board.read(place.optuna)
        assert record.timing is not None
        spent = time.perf_counter() - clock
        ours.append(1000 * (spent - record.timing.sampling_s))
        draws.append(1000 * record.timing.sampling_s)
        rejected.append(sum(record.rejected.values()))
        cpu.append(1000 * (time.process_time() - busy))
        clock, busy = time.perf_counter(), time.process_time()

    TrialLoop(place, on_trial).run()
    return {
        "trials": len(ours),
        "ours_ms_median": round(median(ours), 2),
        "ours_ms_95th_percentile": round(quantiles(ours, n=20)[-1], 2),
        f"ours_ms_median_of_the_last_{LAST}": round(median(ours[-LAST:]), 2),
        f"cpu_ms_with_the_sampler_median_of_the_last_{LAST}": round(median(cpu[-LAST:]), 2),
        f"sampler_ms_median_of_the_last_{LAST}": round(median(draws[-LAST:]), 2),
        "rejected_draws_per_trial": round(sum(rejected) / len(rejected), 2),
    }


def main(trials: int = TRIALS) -> dict[str, Any]:
    """Measures each sampler on each storage."""
    return {
        **conditions("optuna", "sqlalchemy", "pydantic"),
        "runs": {
            f"{sampler}, {storage}": measure(sampler, storage, trials)
            for storage in ("memory", "sqlite")
            for sampler in ("random", "nsga2")
        },
    }


if __name__ == "__main__":
    save("search_overhead", main(*map(int, sys.argv[1:])))

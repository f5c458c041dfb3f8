"""Compares the static peak memory with the real CPU allocator on random networks and options.

Every case draws a network, a patch size and a way to run it (precision, optimizer, loss,
checkpointing, in-place activations, …) from its seed, predicts the peak of a training step and of
inference without torch, then runs both and reads the allocator's events.

    python -m benchmarks.memory_exactness --cases 300 --first-seed 0

writes one row per case to ``results/memory_exactness.csv`` and the sums to ``….json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, astuple, dataclass, fields
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import torch

from tests.support.memory_cases import (
    MemoryCase,
    draw_memory_case,
    measured_inference,
    measured_training,
    predicted,
)

RESULTS = Path(__file__).parent / "results" / "memory_exactness.csv"


@dataclass(frozen=True)
class Row:
    """One case; bytes. ``raw`` counts operator-internal workspaces too."""

    seed: int
    dims: int
    nodes: int
    parameters: int
    batch: int
    patch_size: str
    options: str
    predicted_training: int
    measured_training: int
    raw_training: int
    predicted_inference: int
    measured_inference: int
    raw_inference: int
    error: str = ""


def run_case(case: MemoryCase) -> Row:
    """Predicts and measures one case."""
    training, inference = predicted(case)
    head = (
        case.seed,
        case.graph.dims,
        len(case.graph.nodes),
        case.graph.parameters(),
        case.batch,
        "x".join(map(str, case.size)),
        json.dumps(asdict(case.training)),
    )
    try:
        step, forward = measured_training(case), measured_inference(case)
    except NotImplementedError as error:  # PyTorch lacks a half-precision kernel
        return Row(*head, training, 0, 0, inference, 0, 0, str(error))
    return Row(
        *head,
        training,
        step.tensor_bytes,
        step.raw_bytes,
        inference,
        forward.tensor_bytes,
        forward.raw_bytes,
    )


def summary(rows: Sequence[Row], seconds: float) -> dict[str, object]:
    """Returns what the rows say, and where they come from."""
    ran = [row for row in rows if not row.error]
    return {
        "cases": len(rows),
        "not_supported_by_pytorch": len(rows) - len(ran),
        "training": _agreement([(r.predicted_training, r.measured_training) for r in ran]),
        "inference": _agreement([(r.predicted_inference, r.measured_inference) for r in ran]),
        "raw_over_tensor_training_median": round(
            statistics.median(r.raw_training / r.measured_training for r in ran), 4
        ),
        "misses": [asdict(r) for r in ran if _missed(r)],
        "seconds": round(seconds),
        "torch": torch.__version__,
        "threads": 1,
        "python": platform.python_version(),
        "machine": _processor(),
        "date": datetime.now(UTC).date().isoformat(),
        "revision": _revision(),
    }


def _agreement(pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
    errors = [abs(static - real) / real for static, real in pairs]
    return {
        "exact": sum(error == 0 for error in errors),
        "of": len(errors),
        "largest_relative_error": max(errors, default=0.0),
    }


def _missed(row: Row) -> bool:
    training = row.predicted_training != row.measured_training
    return training or row.predicted_inference != row.measured_inference


def _revision() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _run_seed(seed: int) -> Row:
    torch.set_num_threads(1)
    return run_case(draw_memory_case(seed))


def main() -> None:
    """Runs the cases and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--minutes", type=float, default=60, help="start no case after this time")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    start, rows = time.monotonic(), []
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.cases)
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        pending = deque(seeds)
        running = {pool.submit(_run_seed, pending.popleft()) for _ in range(arguments.jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            rows += [future.result() for future in done]
            if pending and time.monotonic() - start < 60 * arguments.minutes:
                running |= {pool.submit(_run_seed, pending.popleft())}
    rows.sort(key=lambda row: row.seed)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with arguments.output.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows(astuple(row) for row in rows)
    result = summary(rows, time.monotonic() - start)
    arguments.output.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

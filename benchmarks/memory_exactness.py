"""Compares the static peak memory with the real allocator on random networks and options.

Every case draws a network, a patch size and a way to run it (precision, optimizer, loss,
checkpointing, in-place activations, …) from its seed, predicts the peak of a training step and of
inference without torch, then runs both and reads the allocator's events.

    python -m benchmarks.memory_exactness --cases 300 --first-seed 0

writes one row per case to ``results/memory_exactness.csv`` and the sums to ``….json``; with
``--device cuda`` to ``results/memory_exactness_cuda.csv``. ``--again`` measures nothing: it
predicts the cases of that table anew, beside what was measured then, so that what a GPU once said
stays a check where there is none.
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
from dataclasses import asdict, astuple, dataclass, fields, replace
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
from unet_nas.audit.memory import Device

RESULTS = Path(__file__).parent / "results"


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


def summary(rows: Sequence[Row], seconds: float, device: Device) -> dict[str, object]:
    """Returns what the rows say, and where they come from."""
    return {
        **agreement(rows),
        "seconds": round(seconds),
        "torch": torch.__version__,
        "threads": 1,
        "python": platform.python_version(),
        "machine": _processor() if device == "cpu" else _gpu(),
        "date": datetime.now(UTC).date().isoformat(),
        "revision": _revision(),
    }


def agreement(rows: Sequence[Row]) -> dict[str, object]:
    """Returns how well predictions agree with measurements."""
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
    }


def read_rows(path: Path) -> list[Row]:
    """Reads a table back."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(**{f.name: (str if f.type == "str" else int)(row[f.name]) for f in fields(Row)})
            for row in csv.DictReader(file)
        ]


def predicted_again(row: Row, device: Device) -> Row:
    """Returns a row with what is predicted now.

    Raises:
        ValueError: if its seed draws another case now.
    """
    case = draw_memory_case(row.seed, device=device)
    training, inference = predicted(case)
    drawn = (len(case.graph.nodes), case.graph.parameters(), json.dumps(asdict(case.training)))
    if drawn != (row.nodes, row.parameters, row.options):
        raise ValueError(f"seed {row.seed} draws another case than it did")
    return replace(row, predicted_training=training, predicted_inference=inference)


def again(output: Path, device: Device) -> None:
    """Predicts a table anew, and says so beside the conditions of its measurement."""
    rows = [predicted_again(row, device) for row in read_rows(output)]
    before = json.loads(output.with_suffix(".json").read_text("utf-8"))
    predicted_on = {"date": datetime.now(UTC).date().isoformat(), "revision": _revision()}
    write(output, rows, {**before, **agreement(rows), "predicted_again": predicted_on})


def write(output: Path, rows: Sequence[Row], result: dict[str, object]) -> None:
    """Writes the table and its sums."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows(astuple(row) for row in rows)
    text = json.dumps(result, indent=2) + "\n"
    output.with_suffix(".json").write_text(text, encoding="utf-8")
    print(text)


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


def _gpu() -> str:
    cudnn: int = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {cudnn}"


def _run_seed(seed: int, device: Device) -> Row:
    torch.set_num_threads(1)
    return run_case(draw_memory_case(seed, device=device))


def main() -> None:
    """Runs the cases and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--minutes", type=float, default=60, help="start no case after this time")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--again", action="store_true", help="predict what was measured before")
    arguments = parser.parse_args()
    device = arguments.device
    name = "memory_exactness.csv" if device == "cpu" else f"memory_exactness_{device}.csv"
    output = arguments.output or RESULTS / name
    if arguments.again:
        again(output, device)
        return
    start, rows = time.monotonic(), []
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.cases)
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        pending = deque(seeds)
        running = {pool.submit(_run_seed, pending.popleft(), device) for _ in range(arguments.jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            rows += [future.result() for future in done]
            if pending and time.monotonic() - start < 60 * arguments.minutes:
                running |= {pool.submit(_run_seed, pending.popleft(), device)}
    rows.sort(key=lambda row: row.seed)
    write(output, rows, summary(rows, time.monotonic() - start, device))


if __name__ == "__main__":
    main()

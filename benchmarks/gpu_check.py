"""Static memory beside measured memory on a GPU: ``python benchmarks/gpu_check.py``.

Draws architectures and ways to run them from a seed, brings each to a patch whose training step
takes between 64 MiB and 4 GiB, measures training and inference in processes of their own, and
writes one row for each to ``results/gpu_check.csv``. It needs no network. Without a GPU it says
so and ends with 0; ``--device cpu`` runs a few small cases to see that everything works.

Predicted and measured are the bytes of *tensors*, and on CUDA what the caching allocator handed out
(*allocated*) and took from the device (*reserved*); what was in use on the device afterwards less
what was before (*device*) stands beside what is predicted as reserved. Errors are those of the
prediction, relative to what was measured; below zero is an under-estimate. With ``--jobs`` several
processes use the device at once, which spoils only *device*: it is left out.
"""

import argparse
import csv
import math
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support, which draws

from tests.support.draw import draw_architecture, verdict
from tests.support.memory_cases import draw_training
from unet_nas.audit.audit import Audit, audit
from unet_nas.audit.cuda import CudaMemory
from unet_nas.audit.fit import fit_patch
from unet_nas.audit.memory import Training
from unet_nas.profile.profile import profile
from unet_nas.records import PeakMemory, Profile
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.check import check
from unet_nas.unet.graph import lower

MIB = 2**20
#: bytes of a training step, least and most
TARGETS = {"cuda": (64 * MIB, 4096 * MIB), "cpu": (1 * MIB, 16 * MIB)}
WIDTHS = {"cuda": (16, 24, 32, 48, 64), "cpu": (4, 8)}
MAX_PARAMETERS = {"cuda": 50_000_000, "cpu": 200_000}
MAX_EXTENT = {1: 1 << 18, 2: 4096, 3: 256}


@dataclass(frozen=True)
class Case:
    """One network, an input, how it runs, and what is predicted."""

    seed: str
    architecture: Architecture
    batch: int
    training: Training
    predicted: Audit


def draw(seed: str, device: str) -> Case:
    """Returns the case of a seed: the same one on every machine with the same device kind."""
    rng = Random(seed)
    low, high = TARGETS[device]
    while True:
        architecture = _wide(rng, device)
        if architecture is None:
            continue
        graph = lower(architecture)
        training = replace(draw_training(rng, graph), device=device)
        batch = rng.choice((1, 1, 2, 4, 8))
        target = int(math.exp(rng.uniform(math.log(low), math.log(high))))
        size = fit_patch(architecture, target, (1,) * graph.dims, batch, training)
        if size is None or max(size) > MAX_EXTENT[graph.dims]:
            continue
        if check(architecture, size, batch_size=batch, mode="train").valid:
            found = audit(architecture, patch_size=size, batch_size=batch, training=training)
            return Case(seed, architecture, batch, training, found)


def _wide(rng: Random, device: str) -> Architecture | None:
    """Draws an architecture and makes it as wide as real ones are."""
    tree = draw_architecture(rng)
    for name in ("features", "max_width", "growth"):
        tree.pop(name, None)
    if tree.get("head") in ("none", {"type": "none"}):
        del tree["head"]
    tree["width"] = rng.choice(WIDTHS[device])
    architecture, _ = verdict(tree)
    if architecture is None or lower(architecture).parameters() > MAX_PARAMETERS[device]:
        return None
    return architecture


# --- rows ---------------------------------------------------------------------------------


def row_of(case: Case, measured: Profile, device: str) -> dict[str, Any]:
    """Returns one row of the table."""
    t, conditions, graph = case.training, measured.conditions, case.predicted.graph
    row: dict[str, Any] = {
        "seed": case.seed,
        "device": conditions.device_name if conditions else "",
        "torch": conditions.torch_version if conditions else "",
        "cuda": conditions.cuda_version if conditions else "",
        "cudnn": conditions.cudnn_version if conditions else "",
        "digest": graph.digest()[:12],
        "nodes": len(graph.nodes),
        "parameters": case.predicted.parameters,
        "patch_size": "x".join(map(str, case.predicted.patch_size)),
        "batch_size": case.batch,
        "precision": t.precision,
        "optimizer": f"{t.optimizer} ({t.implementation})",
        "loss": t.loss,
        "checkpoint": " ".join(t.checkpoint),
        "in_place": t.in_place,
        "set_to_none": t.set_to_none,
    }
    found = case.predicted
    for what, tensors, cuda, peak in (
        ("training", found.peak_training_bytes, found.cuda, measured.training_memory),
        ("inference", found.peak_inference_bytes, found.cuda_inference, measured.inference_memory),
    ):
        for kind, value in _kinds(peak, device).items():
            row[f"{what}_{kind}_bytes"] = value
            row[f"{what}_{kind}_predicted_bytes"] = _predicted(kind, tensors, cuda)
        failure = measured.failures.get(f"{what}_memory")  # type: ignore[call-overload]
        row[f"{what}_failure"] = f"{failure.kind}: {failure.reason}" if failure else ""
    return row


def _predicted(kind: str, tensors: int, cuda: CudaMemory | None) -> int:
    """Returns the prediction of one kind of memory: what the device uses begins as reserved."""
    if cuda is None or kind == "tensors":
        return tensors
    return cuda.allocated_bytes if kind == "allocated" else cuda.reserved_bytes


def _kinds(peak: PeakMemory | None, device: str) -> dict[str, int | None]:
    """Returns what was measured by what it counts."""
    kinds = ("tensors", "allocated", *(("reserved", "device") if device == "cuda" else ()))
    if peak is None:
        return dict.fromkeys(kinds)
    if peak.device_bytes is None or peak.device_before_bytes is None:
        return {"tensors": peak.tensor_bytes, "allocated": peak.allocated_bytes}
    return {
        "tensors": peak.tensor_bytes,
        "allocated": peak.allocated_bytes,
        "reserved": peak.reserved_bytes,
        "device": peak.device_bytes - peak.device_before_bytes,
    }


def summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yields one line for each kind of memory that was measured."""
    for what in ("training", "inference"):
        for kind in ("tensors", "allocated", "reserved", "device"):
            key = f"{what}_{kind}_bytes"
            wanted = f"{what}_{kind}_predicted_bytes"
            pairs = [(r[wanted], r[key]) for r in rows if r.get(key)]
            if pairs:
                errors = [100 * (predicted - found) / found for predicted, found in pairs]
                exact = sum(predicted == found for predicted, found in pairs)
                yield (
                    f"{what:9} {kind:9} {len(pairs):4} cases, {exact:4} exact, median error "
                    f"{median(map(abs, errors)):6.2f} %, worst under-estimate "
                    f"{min(*errors, 0.0):8.2f} %, worst over-estimate {max(*errors, 0.0):8.2f} %"
                )
        failed = [r for r in rows if r[f"{what}_failure"]]
        if failed:
            yield f"{what:9} not measured: {len(failed)}"


def measure(seed: str, device: str) -> dict[str, Any]:
    """Returns the row of a seed."""
    case = draw(seed, device)
    measured = profile(
        case.architecture,
        patch_size=case.predicted.patch_size,
        batch_size=case.batch,
        training=case.training,
        device=device,
        parts=("inference_memory", "training_memory"),
        time_limit_s=300,
    )
    return row_of(case, measured, device)


def main() -> None:
    """Runs the check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--cases", type=int, help="default: 120, and 3 on a CPU")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--jobs", type=int, default=1, help="processes that measure at once")
    parser.add_argument("--output", type=Path, help="default: results/gpu_check.csv, on CUDA")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"no GPU that torch {torch.__version__} can use: nothing to check (--device cpu)")
        return
    rows = []
    count = options.cases or (120 if options.device == "cuda" else 3)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        seeds = (f"{options.seed}-{number}" for number in range(count))
        for row in pool.map(partial(measure, device=options.device), seeds):
            shared = options.jobs > 1
            rows.append({k: v for k, v in row.items() if not (shared and "_device_" in k)})
            print(f"{len(rows)} of {count}: {row}", file=sys.stderr)
    _write(rows, options.output, options.device)
    print("\n".join(summary(rows)))


def _write(rows: list[dict[str, Any]], output: Path | None, device: str) -> None:
    if output is None and device == "cpu":
        return
    path = output or Path(__file__).parent / "results" / "gpu_check.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

"""Plots of one network, read off its graph: cost per stage, memory of a training step, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_nas.audit.cost import Cost, node_costs, part_costs
from unet_nas.audit.memory import Device, Memory, Training, training_memory
from unet_nas.errors import UnetNasError
from unet_nas.operators.builder import Graph
from unet_nas.records import Run, TrialRecord
from unet_nas.report.plots import SERIES_ROLES, Axis, Line, Plot, Series
from unet_nas.report.quantities import MIB, score_title
from unet_nas.space.load import conditions_of
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import Size, shapes

__all__ = ["Network", "network_of", "stage_plot", "timeline_plot", "training_plot"]

_SAMPLES = 300
_KINDS: Mapping[str, str] = {
    "parameters": "parameters",
    "buffers": "buffers",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "input": "input and target",
    "saved": "kept for backward",
    "temporaries": "temporary",
}


@dataclass(frozen=True)
class Network:
    """A recorded network brought back to life, as far as arithmetic goes.

    Attributes:
        graph: The network.
        sizes: Of every node, for one patch.
        batch_size: Of the training step.
        training: How the training step runs.
        memory: Of the training step.
    """

    graph: Graph
    sizes: tuple[Size, ...]
    batch_size: int
    training: Training
    memory: Memory

    @property
    def stages(self) -> list[Cost]:
        """What each part costs for one patch, in order of execution."""
        return part_costs(node_costs(self.graph, self.sizes))[1:]


def network_of(record: TrialRecord, run: Run) -> Network | None:
    """Returns the network of a record; None for those of others, and where none can run."""
    if record.architecture is None:
        return None
    conditions = conditions_of({"train": record.train})
    device: Device = "cuda" if record.device.startswith("cuda") else "cpu"
    training = conditions.training(device)
    try:
        graph = lower(Architecture.model_validate(record.architecture))
        size = conditions.size(graph.dims) or run.header.patch_size
        sizes = shapes(graph, size)
        memory = training_memory(graph, size, conditions.batch_size, training, sizes=sizes)
    except (UnetNasError, ValueError):  # a record of a network that this version does not know
        return None
    return Network(graph, sizes, conditions.batch_size, training, memory)


# --- cost per stage -----------------------------------------------------------------------


def stage_plot(name: str, network: Network) -> Plot:
    """Returns each stage's share of parameters, MACs and activations, as bars side by side."""
    costs = network.stages
    words = tuple(short_part(cost.name) for cost in costs)
    measures: tuple[tuple[str, list[int]], ...] = (
        ("parameters", [cost.parameters for cost in costs]),
        ("MACs", [cost.macs for cost in costs]),
        ("activations", [cost.activation_elements for cost in costs]),
    )
    series = []
    for (title, values), role in zip(measures, SERIES_ROLES, strict=False):
        total = max(1, sum(values))
        labels = [
            f"{word}: {value:,} {title} ({value / total:.1%})"
            for word, value in zip(words, values, strict=True)
        ]
        shares = [100 * value / total for value in values]
        series.append(Series(title, "bars", shares, words, role, labels=labels))
    axis = Axis("share of the whole (%)")
    return Plot(f"{name}-stages", "Cost per part", axis, Axis("", words=words), tuple(series))


def short_part(name: str) -> str:
    """Returns a part's name as it fits beside a bar.

    >>> short_part("encoder.stages.1"), short_part("decoder.ups.0"), short_part("deep_heads.1")
    ('encoder 1', 'up 0', 'deep head 1')
    """
    words = {"encoder.stages": "encoder", "encoder.downs": "down", "decoder.ups": "up"}
    words |= {"decoder.fusions": "fusion", "decoder.stages": "decoder", "deep_heads": "deep head"}
    base, _, number = name.rpartition(".")
    return f"{words.get(base, base)} {number}" if base else name


# --- memory of a training step ------------------------------------------------------------


def timeline_plot(name: str, network: Network) -> Plot:
    """Returns what is alive over one training step, by what it is, with the peak."""
    memory = network.memory
    at = _samples(memory.live_bytes)
    series = []
    for (kind, alive), role in zip(_alive(memory).items(), SERIES_ROLES, strict=False):
        if alive.any():
            shown = (alive[at] / MIB).round(4).tolist()
            series.append(Series(_KINDS[kind], "area", at.tolist(), shown, role))
    peak = memory.live_bytes.index(memory.peak_bytes)
    phases = [Line("x", start, text) for start, text in _phases(memory.visits) if text != "forward"]
    top = Line("y", memory.peak_bytes / MIB, f"peak {memory.peak_bytes / MIB:,.1f} MiB")
    return Plot(
        f"{name}-memory",
        f"Memory of a training step; the peak is at {memory.node} ({memory.phase})",
        Axis("allocations and releases of a step", limits=(0, int(at[-1]))),
        Axis("tensors alive (MiB)", limits=(0, 1.12 * memory.peak_bytes / MIB)),
        tuple(series),
        (top, *(line for line in phases if line.at != peak)),
    )


def _samples(live_bytes: Sequence[int]) -> NDArray[np.int64]:
    """Returns positions that show a curve: of every stretch its highest."""
    values = np.asarray(live_bytes)
    if len(values) <= _SAMPLES:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), _SAMPLES)
    tops = [int(stretch[np.argmax(values[stretch])]) for stretch in stretches]
    return np.asarray([0, *tops, len(values) - 1])


def _alive(memory: Memory) -> dict[str, NDArray[np.int64]]:
    """Returns the bytes alive at every position, by kind, as `Memory.breakdown` sorts them.

    What the timeline holds and no storage accounts for is temporary, as it is there.
    """
    length = len(memory.live_bytes)
    steps = {kind: np.zeros(length + 1, np.int64) for kind in _KINDS}
    for storage in memory.storages:
        born, died = storage.born, min(storage.died, length)
        kind: str = storage.kind
        since = min(max(storage.saved_from, born), died)
        until = max(min(storage.saved_until, died), since)
        if kind != "temporaries":
            since = until = died
        for start, end, where in (
            (born, since, kind), (since, until, "saved"), (until, died, kind),
        ):  # fmt: skip
            steps[where][start] += storage.size_bytes
            steps[where][end] -= storage.size_bytes
    alive = {kind: np.cumsum(step[:-1]) for kind, step in steps.items()}
    rest = np.asarray(memory.live_bytes, np.int64) - np.sum(list(alive.values()), axis=0)
    alive["temporaries"] = alive["temporaries"] + rest
    return alive


def _phases(visits: Sequence[tuple[int, str, str]]) -> list[tuple[int, str]]:
    """Returns where each phase begins for the first time; recomputation is part of backward."""
    found: dict[str, int] = {}
    for position, _, phase in visits:
        if phase not in ("recompute", "loss"):
            found.setdefault(phase, position)
    return [(position, phase) for phase, position in found.items()]


def breakdown_text(memory: Memory) -> list[tuple[str, int]]:
    """Returns what the peak is made of, the largest first."""
    parts = [(_KINDS[kind], size) for kind, size in memory.breakdown.items() if size]
    return sorted(parts, key=lambda part: -part[1])


# --- training -----------------------------------------------------------------------------


def training_plot(name: str, records: Sequence[TrialRecord], metric: str) -> Plot | None:
    """Returns the score over the steps of a training, one line per record; None without any."""
    series = []
    for number, record in enumerate(records):
        points = [point for point in record.history if point.score is not None]
        if points:
            label = record.kind if record.kind != "finalist" else f"finalist, seed {record.seed}"
            steps = [point.step for point in points]
            scores: list[Any] = [point.score for point in points]
            role = SERIES_ROLES[number % len(SERIES_ROLES)]
            series.append(Series(label, "line", steps, scores, role, labels=_texts(record)))
    if not series:
        return None
    x, y = Axis("optimizer steps", whole=True), Axis(f"{score_title(metric)}, validation")
    return Plot(f"{name}-training", "Training curves", x, y, tuple(series))


def _texts(record: TrialRecord) -> list[str]:
    return [
        f"step {p.step:,}: {p.score:.4f}" + ("" if p.loss is None else f", loss {p.loss:.4f}")
        for p in record.history
        if p.score is not None
    ]

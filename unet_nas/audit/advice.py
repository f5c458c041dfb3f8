"""Advice that is computed: what a few standard changes would do to this very network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from unet_nas.audit.cost import total_cost
from unet_nas.audit.memory import Training, training_memory
from unet_nas.operators.builder import Graph
from unet_nas.operators.fields import Stages
from unet_nas.operators.fusion import Add, AnyFusion, Concat, ConcatBottleneck
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower, lower_with_faults


@dataclass(frozen=True, slots=True)
class Advice:
    """One change and what it would do; the first row of a table is the network as it is.

    Args:
        change: what is changed, as a person would write it.
        parameters: trainable parameters after it.
        macs: multiply-accumulates of a forward pass after it (recomputation not counted).
        peak_training_bytes: peak of the training step after it.
    """

    change: str
    parameters: int
    macs: int
    peak_training_bytes: int


def advise(
    architecture: Architecture,
    *,
    patch_size: Sequence[int],
    batch_size: int = 1,
    training: Training | None = None,
) -> list[Advice]:
    """Returns the network as it is, and one row for every standard change that applies to it."""
    options = training or Training()
    graph = lower(architecture)
    rows = [_row("as it is", graph, patch_size, batch_size, options)]
    for change, changed in _options(options):
        rows.append(_row(change, graph, patch_size, batch_size, changed))
    for change, other in _architectures(architecture):
        lowered, faults = lower_with_faults(other)
        if not faults:
            rows.append(_row(change, lowered, patch_size, batch_size, options))
    return rows


def _row(
    change: str, graph: Graph, patch_size: Sequence[int], batch_size: int, training: Training
) -> Advice:
    cost = total_cost(graph, patch_size, batch_size)
    peak = training_memory(graph, patch_size, batch_size, training).peak_bytes
    return Advice(change, cost.parameters, cost.macs, peak)


def _options(training: Training) -> Iterator[tuple[str, Training]]:
    """Yields changes of how the step runs."""
    if "0" not in training.checkpoint:
        yield "checkpoint stage 0", replace(training, checkpoint=(*training.checkpoint, "0"))
    if not training.in_place:
        yield "in-place activations", replace(training, in_place=True)
    if training.precision == "fp32":
        yield "autocast to bf16", replace(training, precision="bf16")


def _architectures(architecture: Architecture) -> Iterator[tuple[str, Architecture]]:
    """Yields changes of the network."""
    fusion = architecture.fusion
    fusions: tuple[AnyFusion, ...]
    fusions = fusion if isinstance(fusion, tuple) else (fusion,) * architecture.depth
    if not any(isinstance(member, Concat) for member in fusions):
        return
    for change, member in (
        ("1x1 bottleneck after concat, to half", ConcatBottleneck()),
        ("add instead of concat", Add()),
    ):
        changed = Stages(member if isinstance(old, Concat) else old for old in fusions)
        yield change, architecture.model_copy(update={"fusion": changed})

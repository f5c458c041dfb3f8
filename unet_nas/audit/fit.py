"""Inversions: the largest batch, patch or width whose training step fits a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from unet_nas.audit.cuda import cuda_memory
from unet_nas.audit.memory import Training, training_memory
from unet_nas.errors import InputError
from unet_nas.operators.builder import Graph
from unet_nas.operators.fields import MAX_CHANNELS
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower, lower_with_faults
from unet_nas.unet.shapes import AxisSizes, Size


def _step_bytes(
    graph: Graph, patch_size: Sequence[int], batch_size: int, training: Training
) -> int:
    """Returns what a budget is compared with: tensors on a CPU, reserved memory on CUDA."""
    memory = training_memory(graph, patch_size, batch_size, training)
    if training.device == "cuda":
        return cuda_memory(graph, memory, training).reserved_bytes
    return memory.peak_bytes


def fit_batch(
    architecture: Architecture, budget_bytes: int, patch_size: Sequence[int], training: Training
) -> int | None:
    """Returns the largest batch whose training step fits; None where one sample does not."""
    graph = lower(architecture)
    return _largest(lambda batch: _step_bytes(graph, patch_size, batch, training), budget_bytes)


def fit_patch(
    architecture: Architecture,
    budget_bytes: int,
    shape: Sequence[int],
    batch_size: int,
    training: Training,
) -> Size | None:
    """Returns the largest valid patch of about the given shape that fits; None where none does.

    Args:
        architecture: the network.
        budget_bytes: limit of the training step.
        shape: the proportions of the axes, as a patch size; each axis is grown to the
            largest valid size that is at most a common multiple of it.
        batch_size: samples per batch.
        training: how the step runs.
    """
    graph = lower(architecture)
    axes = [AxisSizes(graph, axis) for axis in range(graph.dims)]
    longest = max(shape)

    def wanted(scale: int) -> list[tuple[AxisSizes, int]]:
        return [(axis, max(1, scale * n // longest)) for axis, n in zip(axes, shape, strict=True)]

    def patch(scale: int) -> Size | None:
        valid = [_at_most(axis, size) for axis, size in wanted(scale)]
        return None if None in valid else tuple(n for n in valid if n is not None)

    def cost(scale: int) -> float:
        size = patch(scale)
        if size is not None:
            return _step_bytes(graph, size, batch_size, training)
        # below the first valid size all is free; above the last, or where there is none, nothing
        ahead = all(axis.nearest(size)[1] is not None for axis, size in wanted(scale))
        return 0 if ahead else inf

    best = _largest(cost, budget_bytes)
    return None if best is None else patch(best)


def _at_most(axis: AxisSizes, size: int) -> int | None:
    return size if axis.valid(size) else axis.nearest(size)[0]


def fit_width(
    architecture: Architecture,
    budget_bytes: int,
    patch_size: Sequence[int],
    batch_size: int,
    training: Training,
) -> int | None:
    """Returns the widest ``width`` whose training step fits; None where no width does.

    Widths that break a rule of the architecture (groups that do not divide them) are left out.

    Raises:
        InputError: if the architecture lists its features, so that ``width`` plays no part.
    """
    if architecture.features is not None:
        raise InputError("--fit-width needs an architecture with width and growth, not features")

    def graph_of(width: int) -> Graph | None:
        graph, faults = lower_with_faults(architecture.model_copy(update={"width": width}))
        return None if faults else graph

    def cost(width: int) -> int:
        # a width that breaks a rule costs what the next narrower one does
        for narrower in range(width, 0, -1):
            graph = graph_of(narrower)
            if graph is not None:
                return _step_bytes(graph, patch_size, batch_size, training)
        return 0

    limit = architecture.max_width or MAX_CHANNELS
    best = _largest(cost, budget_bytes, limit)
    if best is None:
        return None
    return next((width for width in range(best, 0, -1) if graph_of(width)), None)


def _largest(cost: Callable[[int], float], budget: int, limit: int | None = None) -> int | None:
    """Returns the largest number (up to ``limit``) whose cost is within the budget."""
    if cost(1) > budget:
        return None
    low, high = 1, 2
    while (limit is None or high <= limit) and cost(high) <= budget:
        low, high = high, 2 * high
    high = high if limit is None else min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return low

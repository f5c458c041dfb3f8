"""What a training step would allocate and reserve on a CUDA device.

The blocks of the simulated step are handed to a copy of PyTorch's caching allocator, twice, as the
first and the second step would ask for them. Not counted: the CUDA context, and the workspaces of
cuDNN and cuBLAS, which can be larger than all tensors (``docs/memory.md`` has what was measured).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unet_nas.audit.caching import Block, CachingAllocator
from unet_nas.audit.memory import COUNTER_BYTES, Memory, Training
from unet_nas.operators.builder import Graph
from unet_nas.operators.eager import ALIVE, Storage
from unet_nas.operators.optimizer import state_sizes
from unet_nas.operators.primitives import BatchNorm
from unet_nas.operators.tape import buffer_elements, weight_elements

_STATE = ("parameters", "buffers", "optimizer")


@dataclass(frozen=True, slots=True)
class CudaMemory:
    """An estimate for a CUDA device.

    Attributes:
        tensor_bytes: Peak of the tensors themselves.
        allocated_bytes: Peak of their blocks, each rounded up to 512 bytes.
        reserved_bytes: Segments that the caching allocator holds after two steps.
    """

    tensor_bytes: int
    allocated_bytes: int
    reserved_bytes: int


def cuda_memory(
    graph: Graph, memory: Memory, training: Training, *, inference: bool = False
) -> CudaMemory:
    """Estimates what a training step takes on a CUDA device, libraries' workspaces left out.

    Args:
        graph: The network.
        memory: The step, as `unet_nas.audit.memory.training_memory` played it.
        training: How the step runs; its device must be ``"cuda"``.
        inference: The memory is that of a forward pass: there is no optimizer.
    """
    width = 2 if training.precision.startswith("pure") else 4
    weights = [width * n for node in graph.nodes for n in weight_elements(node.primitive)]
    allocator = CachingAllocator()
    for node in graph.nodes:
        for n in (*weight_elements(node.primitive), *buffer_elements(node.primitive)):
            allocator.allocate(width * n)
        if isinstance(node.primitive, BatchNorm):  # counts its batches
            allocator.allocate(COUNTER_BYTES)
    kept = _step(allocator, memory.storages)
    for size in [] if inference else _state_sizes(training, weights):
        allocator.allocate(size)
    _optimizer(allocator, training, [] if inference else weights)
    for block in kept:
        allocator.release(block)
    _step(allocator, memory.storages)
    _optimizer(allocator, training, [] if inference else weights)
    return CudaMemory(memory.peak_bytes, allocator.peak_bytes, allocator.reserved_bytes)


def _state_sizes(training: Training, weights: Sequence[int]) -> list[int]:
    return state_sizes(
        training.optimizer,
        training.implementation,
        weights,
        momentum=training.momentum,
        device=training.device,
    )


def _step(allocator: CachingAllocator, storages: Sequence[Storage]) -> list[Block]:
    """Plays allocations and releases in order; returns the blocks alive at the end."""
    blocks: dict[int, Block] = {}
    for _, dies, index, size in sorted(_events(storages)):
        if dies:
            allocator.release(blocks.pop(index))
        else:
            blocks[index] = allocator.allocate(size)
    return list(blocks.values())


def _events(storages: Sequence[Storage]) -> Iterator[tuple[int, bool, int, int]]:
    """Yields ``(position, is a release, number, bytes)`` of all that lives within a step."""
    for index, storage in enumerate(storages):
        if storage.kind in _STATE or not storage.size_bytes:
            continue
        yield storage.born, False, index, storage.size_bytes
        if storage.died < ALIVE:
            yield storage.died, True, index, storage.size_bytes


def _optimizer(allocator: CachingAllocator, training: Training, weights: Sequence[int]) -> None:
    """Plays the lists of temporaries of a ``foreach`` step; other kinds need next to none."""
    if training.implementation != "foreach":
        return
    decayed = training.weight_decay and training.optimizer != "adamw"
    for wanted in (decayed, training.optimizer != "sgd"):
        blocks = [allocator.allocate(size) for size in weights] if wanted else []
        for block in blocks:
            allocator.release(block)

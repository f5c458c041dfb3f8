"""CUDA's caching allocator, replayed: what it hands out in blocks, and what it reserves.

PyTorch rounds every request up to 512 bytes and serves it from segments: requests of up to
1 MiB from segments of 2 MiB, those below 10 MiB from segments of 20 MiB, larger ones from
segments of their own, rounded to 2 MiB. A free block is taken by best fit and split where
enough is left; neighbours that are free are joined. Segments are never given back in a step.
Source: ``c10/cuda/CUDACachingAllocator.cpp`` of PyTorch 2.13 with its default settings.

These are estimates until a GPU has confirmed them: cuDNN's and cuBLAS' workspaces, the CUDA
context and other streams are not in them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass

_ROUND = 512
_SMALL = 1 << 20
_SMALL_SEGMENT = 2 << 20
_LARGE = 10 << 20
_LARGE_SEGMENT = 20 << 20
_SEGMENT_ROUND = 2 << 20


@dataclass(frozen=True, slots=True)
class Reserved:
    """The peaks of the replay, in bytes.

    Args:
        allocated_bytes: blocks handed out (``torch.cuda.max_memory_allocated``).
        reserved_bytes: segments held (``torch.cuda.max_memory_reserved``).
    """

    allocated_bytes: int
    reserved_bytes: int


@dataclass(slots=True, eq=False)
class _Block:
    """A stretch of a segment, with its neighbours."""

    size: int
    small: bool
    before: _Block | None = None
    after: _Block | None = None
    free: bool = False


def round_up(size_bytes: int, step: int = _ROUND) -> int:
    """Returns a size rounded up to whole steps.

    >>> round_up(1), round_up(512), round_up(513)
    (512, 512, 1024)
    """
    return max(1, -(-size_bytes // step)) * step


def replay(events: Iterable[tuple[int, int]]) -> Reserved:
    """Replays allocations and releases in order.

    Args:
        events: ``(key, size in bytes)`` allocates a block under a key; a negative size
            releases the block of that key. Requests of no bytes take no block.

    >>> replay([(0, 3 << 20), (1, 3 << 20), (0, -1), (2, 2 << 20)]).reserved_bytes >> 20
    20
    """
    allocator = _Allocator()
    for key, size in events:
        if size < 0:
            allocator.release(key)
        elif size:
            allocator.allocate(key, size)
    return Reserved(allocator.peak, allocator.reserved)


class _Allocator:
    """The state of the caching allocator on one stream."""

    def __init__(self) -> None:
        #: free blocks by pool, as (size, order of becoming free, block)
        self._free: dict[bool, list[tuple[int, int, _Block]]] = {True: [], False: []}
        self._blocks: dict[int, _Block] = {}
        self._count = 0
        self.allocated = 0
        self.peak = 0
        self.reserved = 0

    def allocate(self, key: int, size_bytes: int) -> None:
        """Hands out the best free block, or one of a new segment."""
        size = round_up(size_bytes)
        small = size <= _SMALL
        block = self._best(size, small) or self._segment(size, small)
        rest = block.size - size
        if rest >= _ROUND if small else rest > _SMALL:
            self._split(block, size)
        self._blocks[key] = block
        self.allocated += block.size
        self.peak = max(self.peak, self.allocated)

    def release(self, key: int) -> None:
        """Takes a block back and joins it with free neighbours."""
        block = self._blocks.pop(key, None)
        if block is None:
            return
        self.allocated -= block.size
        for neighbour in (block.before, block.after):
            if neighbour is not None and neighbour.free:
                self._take(neighbour)
                self._join(block, neighbour)
        self._put(block)

    def _best(self, size: int, small: bool) -> _Block | None:
        free = self._free[small]
        at = bisect_left(free, size, key=lambda entry: entry[0])
        if at == len(free):
            return None
        block = free.pop(at)[2]
        block.free = False
        return block

    def _segment(self, size: int, small: bool) -> _Block:
        if small:
            whole = _SMALL_SEGMENT
        else:
            whole = _LARGE_SEGMENT if size < _LARGE else round_up(size, _SEGMENT_ROUND)
        self.reserved += whole
        return _Block(whole, small)

    def _split(self, block: _Block, size: int) -> None:
        rest = _Block(block.size - size, block.small, before=block, after=block.after)
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        self._put(rest)

    def _join(self, block: _Block, neighbour: _Block) -> None:
        block.size += neighbour.size
        if block.before is neighbour:
            block.before = neighbour.before
            if block.before is not None:
                block.before.after = block
        else:
            block.after = neighbour.after
            if block.after is not None:
                block.after.before = block

    def _put(self, block: _Block) -> None:
        block.free = True
        self._count += 1
        insort(self._free[block.small], (block.size, self._count, block), key=lambda e: e[:2])

    def _take(self, block: _Block) -> None:
        free = self._free[block.small]
        free.pop(next(i for i, entry in enumerate(free) if entry[2] is block))
        block.free = False

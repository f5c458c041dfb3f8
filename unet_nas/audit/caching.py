"""PyTorch's caching allocator for CUDA, in miniature: what is *reserved* for what is allocated.

Sizes are rounded up to 512 bytes. Requests up to 1 MiB are cut from segments of 2 MiB, larger ones
from segments of 20 MiB, or from one of their own, rounded up to 2 MiB, from 10 MiB on. The smallest
free block that is large enough is taken; what is left of it stays free if it is worth keeping;
neighbours that are free merge; segments are never given back. Source:
``c10/cuda/CUDACachingAllocator.cpp`` of PyTorch 2.13, with its default settings, for one stream.
``docs/memory.md`` says how far a GPU confirmed it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import count

_ROUND = 512
_MIB = 1 << 20
_SMALL_LIMIT = _MIB
_SMALL_SEGMENT = 2 * _MIB
_LARGE_LIMIT = 10 * _MIB
_LARGE_SEGMENT = 20 * _MIB


class Block:
    """A stretch of a segment, with its neighbours."""

    __slots__ = ("after", "before", "free", "number", "size", "small")

    def __init__(self, number: int, size: int, small: bool) -> None:
        self.number = number
        self.size = size
        self.small = small
        self.free = False
        self.before: Block | None = None
        self.after: Block | None = None


class CachingAllocator:
    """Hands out blocks and counts what it holds.

    Attributes:
        reserved_bytes: All segments.
        allocated_bytes: Blocks in use, rounded.
        peak_bytes: The most of ``allocated_bytes`` so far.

    >>> allocator = CachingAllocator()
    >>> block = allocator.allocate(1000)
    >>> allocator.allocated_bytes, allocator.reserved_bytes
    (1024, 2097152)
    """

    def __init__(self) -> None:
        self.reserved_bytes = 0
        self.allocated_bytes = 0
        self.peak_bytes = 0
        self._numbers = count()
        self._blocks: dict[int, Block] = {}
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}

    def allocate(self, size_bytes: int) -> Block:
        """Returns a block for a request."""
        size = max(_ROUND, -(-size_bytes // _ROUND) * _ROUND)
        small = size <= _SMALL_LIMIT
        block = self._take(size, small) or self._segment(size, small)
        rest = block.size - size
        if rest >= _ROUND if small else rest > _SMALL_LIMIT:
            self._split(block, size)
        self.allocated_bytes += block.size
        self.peak_bytes = max(self.peak_bytes, self.allocated_bytes)
        return block

    def release(self, block: Block) -> None:
        """Takes a block back and merges it with free neighbours."""
        self.allocated_bytes -= block.size
        for neighbour in (block.before, block.after):
            if neighbour is not None and neighbour.free:
                self._remove(neighbour)
                self._absorb(block, neighbour)
        self._insert(block)

    def _take(self, size: int, small: bool) -> Block | None:
        """Returns the smallest free block that is large enough."""
        free = self._free[small]
        position = bisect_left(free, (size, -1))
        if position == len(free):
            return None
        block = self._blocks[free[position][1]]
        self._remove(block)
        return block

    def _segment(self, size: int, small: bool) -> Block:
        """Reserves a new segment, one block as yet."""
        if small:
            total = _SMALL_SEGMENT
        elif size < _LARGE_LIMIT:
            total = _LARGE_SEGMENT
        else:
            total = -(-size // _SMALL_SEGMENT) * _SMALL_SEGMENT
        self.reserved_bytes += total
        return self._new(total, small)

    def _new(self, size: int, small: bool) -> Block:
        block = Block(next(self._numbers), size, small)
        self._blocks[block.number] = block
        return block

    def _split(self, block: Block, size: int) -> None:
        rest = self._new(block.size - size, block.small)
        block.size = size
        rest.before, rest.after = block, block.after
        if block.after is not None:
            block.after.before = rest
        block.after = rest
        self._insert(rest)

    def _absorb(self, block: Block, neighbour: Block) -> None:
        block.size += neighbour.size
        if neighbour is block.before:
            block.before = neighbour.before
            if block.before is not None:
                block.before.after = block
        else:
            block.after = neighbour.after
            if block.after is not None:
                block.after.before = block
        del self._blocks[neighbour.number]

    def _insert(self, block: Block) -> None:
        block.free = True
        insort(self._free[block.small], (block.size, block.number))

    def _remove(self, block: Block) -> None:
        block.free = False
        free = self._free[block.small]
        del free[bisect_left(free, (block.size, block.number))]

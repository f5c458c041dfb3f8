"""The tiles of an image, axis by axis.

An axis is planned by itself: a *tile* of ``size`` input positions gives ``output`` positions that
begin half of what is missing after its own beginning (valid padding; with same padding nothing is
missing). What a tile reads beyond the image is mirrored, so that the output covers the image.

Source: Ronneberger et al., arXiv:1505.04597 (overlap-tile strategy, mirrored border); Isensee et
al., "nnU-Net", Nature Methods 18 (2021) (Gaussian weights of overlapping tiles).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unet_nas.errors import SizeError
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.unet.shapes import AxisSizes, trace_axis

__all__ = ["AxisPlan", "mirrored", "output_length", "pads", "tiled_axis", "whole_axis"]

#: more sizes than this are not tried to find one whose output covers an image
_TRIES = 1024


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """The tiles along one axis.

    Attributes:
        size: Positions that a tile reads.
        output: Positions that the network gives for a tile.
        starts: Where the output of each tile begins in the image.
        weights: Of each position of an output.
    """

    size: int
    output: int
    starts: tuple[int, ...]
    weights: Tensor

    def reads(self, start: int, length: int) -> Tensor:
        """Returns the positions of an image of ``length`` that the tile at ``start`` reads."""
        first = start - (self.size - self.output) // 2
        return mirrored(torch.arange(first, first + self.size), length)

    def total(self, length: int) -> Tensor:
        """Returns the sum of the weights at each position of the image."""
        total = torch.zeros(length)
        for start in self.starts:
            kept = min(self.output, length - start)
            total[start : start + kept] += self.weights[:kept]
        return total


def mirrored(positions: Tensor, length: int) -> Tensor:
    """Brings positions beyond an axis back into it by mirroring at its first and last position.

    >>> mirrored(torch.arange(-2, 6), 4).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    if length == 1:
        return torch.zeros_like(positions)
    folded = positions.remainder(2 * (length - 1))
    return torch.minimum(folded, 2 * (length - 1) - folded)


def whole_axis(graph: Graph, axis: int, length: int) -> AxisPlan:
    """Returns the plan of one pass: the smallest valid size whose output covers the axis.

    Raises:
        SizeError: if there is none.
    """
    sizes = AxisSizes(graph, axis)
    size: int | None = length if sizes.valid(length) else sizes.nearest(length)[1]
    for _ in range(_TRIES):
        if size is None:
            break
        missing = length - output_length(graph, axis, size)
        if missing <= 0:
            return _one_tile(graph, axis, size, length)
        above = size + missing
        size = above if sizes.valid(above) else sizes.nearest(above)[1]
    raise SizeError(f"no input size of this network gives an output of {length} along axis {axis}")


def _one_tile(graph: Graph, axis: int, size: int, length: int) -> AxisPlan:
    """Returns the plan of one pass, with ``size`` made as small as the output allows."""
    sizes = AxisSizes(graph, axis)
    output = output_length(graph, axis, size)
    smaller = sizes.nearest(size)[0]
    while smaller is not None and (less := output_length(graph, axis, smaller)) >= length:
        size, output, smaller = smaller, less, sizes.nearest(smaller)[0]
    return AxisPlan(size, output, (0,), torch.ones(output))


def tiled_axis(length: int, size: int, output: int, stride: int, *, overlap: bool) -> AxisPlan:
    """Returns the tiles along an axis.

    They lie at multiples of ``stride``, so that pooling meets the same positions as in one pass.

    Args:
        length: Of the image.
        size: That a tile reads.
        output: That the network gives for a tile.
        stride: By how much an input may be shifted so that all maps shift by whole positions.
        overlap: Whether tiles overlap by half, and the middle of each weighs most: where an
            output sees the border of its tile. Else they lie side by side.

    >>> tiled_axis(100, 40, 40, 8, overlap=True).starts
    (0, 16, 32, 48, 64)
    >>> tiled_axis(100, 60, 20, 8, overlap=False).starts
    (0, 16, 32, 48, 64, 80)
    """
    room = output // 2 if overlap else output
    step = room - room % stride or room
    last = -(-max(length - output, 0) // step)
    starts = tuple(step * i for i in range(last + 1))
    weights = gaussian(output) if overlap else torch.ones(output)
    return AxisPlan(size, output, starts, weights)


def gaussian(size: int) -> Tensor:
    """Returns weights of which the outermost is ``exp(-8)`` of the middle one, or more."""
    distance = torch.arange(size) - (size - 1) / 2
    return torch.exp(-0.5 * (distance / (size / 8)) ** 2)


def output_length(graph: Graph, axis: int, size: int) -> int:
    """Returns the size of the first output for a valid size of the input."""
    trace = trace_axis(graph, axis, size)
    found = trace.sizes[graph.outputs[0]]
    if trace.misfits or found is None:
        raise SizeError(f"this network does not run on a size of {size} along axis {axis}")
    return found


def pads(graph: Graph) -> bool:
    """Tells whether an output may see the border of its tile, for something pads."""
    return any(
        (isinstance(node.primitive, p.Conv) and any(node.primitive.padding))
        or isinstance(node.primitive, p.Pad)
        for node in graph.nodes
    )

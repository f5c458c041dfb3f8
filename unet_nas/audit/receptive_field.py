"""Receptive fields: which stretch of the input an output position depends on, per axis.

Sizes, strides and starts follow Araujo, Norris and Sim, "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019. Behind an up-sampling neighbouring positions
(*phases*) have different fields, so the field of a node is one interval per phase.

Left aside are the borders of the maps, and what norms and global means see of the whole map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd, lcm

from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.unet.shapes import Size

#: beyond this many phases nothing is computed: it would take seconds, and nobody could read it
MAX_PHASES = 8192


@dataclass(frozen=True, slots=True)
class Field:
    """The receptive field of a node along one axis.

    Position ``phases * t + i`` depends on the input positions from
    ``starts[i] + stride * t`` to ``stops[i] + stride * t``.
    """

    stride: int
    starts: tuple[int, ...]
    stops: tuple[int, ...]

    @property
    def phases(self) -> int:
        """Number of neighbouring positions after which the pattern repeats."""
        return len(self.starts)

    @property
    def sizes(self) -> tuple[int, int]:
        """The smallest and the largest field among the phases, in input positions."""
        sizes = [stop - start + 1 for start, stop in zip(self.starts, self.stops, strict=True)]
        return min(sizes), max(sizes)

    def start(self, position: int) -> int:
        """Returns the first input position that an output position depends on."""
        t, i = divmod(position, len(self.starts))
        return self.starts[i] + self.stride * t

    def stop(self, position: int) -> int:
        """Returns the last input position that an output position depends on."""
        t, i = divmod(position, len(self.stops))
        return self.stops[i] + self.stride * t


def receptive_fields(graph: Graph, axis: int, sizes: Sequence[Size]) -> list[Field | None]:
    """Returns the receptive field of every node along ``axis``.

    Args:
        graph: the network.
        axis: spatial axis.
        sizes: of every node; crops and pads shift a map by what they need.

    Returns:
        One field per node; None behind a map whose field has no such form (resized by a
        ratio that is no integer, more than ``MAX_PHASES`` phases) and for global means.

    >>> from unet_nas.unet.architecture import Architecture
    >>> from unet_nas.unet.graph import lower
    >>> from unet_nas.unet.shapes import shapes
    >>> graph = lower(Architecture(norm="none", padding="valid", align="crop"))
    >>> fields = receptive_fields(graph, 0, shapes(graph, (572, 572)))
    >>> fields[graph.outputs[0]].sizes
    (188, 204)
    """
    fields: list[Field | None] = [Field(1, (0,), (0,))]
    for index, node in enumerate(graph.nodes[1:], start=1):
        known = [fields[i] for i in node.inputs]
        first = known[0]
        if first is None:
            fields.append(None)
        elif node.primitive.keeps_size:
            fields.append(first)
        elif isinstance(node.primitive, p.Concat | p.Add | p.Gate):
            fields.append(_union(known))
        else:
            before, after = sizes[node.inputs[0]][axis], sizes[index][axis]
            fields.append(_through(node.primitive, axis, first, before, after))
    return fields


def _through(
    primitive: p.Primitive, axis: int, field: Field, before: int, after: int
) -> Field | None:
    """Returns the field behind a primitive that reads one map along this axis."""
    match primitive:
        case p.Conv():
            extent = primitive.dilation[axis] * (primitive.kernel[axis] - 1)
            return _window(field, primitive.stride[axis], primitive.padding[axis], extent)
        case p.MaxPool() | p.AvgPool():
            extent = primitive.kernel[axis] - 1
            return _window(field, primitive.stride[axis], primitive.padding[axis], extent)
        case p.Blur():
            return _window(field, primitive.stride[axis], 0, primitive.kernel[axis] - 1)
        case p.PixelUnshuffle():
            return _window(field, primitive.factor[axis], 0, primitive.factor[axis] - 1)
        case p.Pad():
            return _window(field, 1, primitive.low[axis], 0)
        case p.CropTo():
            return _window(field, 1, -((before - after) // 2), 0)
        case p.PadTo():
            low = (after - before) // 2 if primitive.side == "both" else 0
            return _window(field, 1, low, 0)
        case p.ConvTranspose():
            return _transposed(primitive, axis, field)
        case p.PixelShuffle():
            return _grown(field, primitive.factor[axis], "nearest", False)
        case p.Interpolate():
            mode, aligned = primitive.mode, primitive.align_corners
            return _grown(field, primitive.factor[axis], mode, aligned)
        case p.ResizeTo():
            if after % before:
                return None
            return _grown(field, after // before, primitive.mode, primitive.align_corners)
    return None


def _window(field: Field, stride: int, shift: int, extent: int) -> Field:
    """Output ``o`` reads the positions from ``o * stride - shift``, ``extent`` further on."""
    phases = field.phases // gcd(field.phases, stride)
    first = [i * stride - shift for i in range(phases)]
    starts = tuple(field.start(position) for position in first)
    stops = tuple(field.stop(position + extent) for position in first)
    return Field(field.stride * phases * stride // field.phases, starts, stops)


def _transposed(primitive: p.ConvTranspose, axis: int, field: Field) -> Field | None:
    """Output ``o`` reads those ``i`` for which ``o = i * stride - padding + kernel element``."""
    stride, kernel = primitive.stride[axis], primitive.kernel[axis]
    padding = primitive.padding[axis]

    def window(o: int) -> tuple[int, int]:
        last = (o + padding) // stride
        return min(last, -((kernel - 1 - o - padding) // stride)), last

    return _expanded(field, stride, window)


def _grown(field: Field, factor: int, mode: str, aligned: bool) -> Field | None:
    """Interpolation: the nearest position, or the two neighbours of ``(o + 1/2)/f - 1/2``.

    With aligned corners the neighbours drift along the map; the widest pair is taken.
    """

    def window(o: int) -> tuple[int, int]:
        if mode == "nearest" or factor == 1:
            return o // factor, o // factor
        if aligned:
            return (o - factor + 1) // factor, o // factor + 1
        doubled = 2 * o + 1 - factor  # 2 * factor times the exact position
        low = doubled // (2 * factor)
        return low, low + (doubled % (2 * factor) > 0)

    return _expanded(field, factor, window)


def _expanded(field: Field, factor: int, window: Callable[[int], tuple[int, int]]) -> Field | None:
    """Returns the field behind an up-sampling whose output ``o`` reads ``window(o)``."""
    phases = field.phases * factor
    if phases > MAX_PHASES:
        return None
    windows = [window(o) for o in range(phases)]
    starts = tuple(field.start(low) for low, _ in windows)
    stops = tuple(field.stop(high) for _, high in windows)
    return Field(field.stride, starts, stops)


def _union(fields: Sequence[Field | None]) -> Field | None:
    """Returns the hull of the fields of maps that are put together."""
    known = [field for field in fields if field is not None]
    phases = lcm(*(field.phases for field in known))
    strides = {field.stride * (phases // field.phases) for field in known}
    if len(known) < len(fields) or len(strides) > 1 or phases > MAX_PHASES:
        return None
    starts = tuple(min(field.start(i) for field in known) for i in range(phases))
    stops = tuple(max(field.stop(i) for field in known) for i in range(phases))
    return Field(strides.pop(), starts, stops)

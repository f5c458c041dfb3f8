"""Sizes: every intermediate map of a graph for a patch size, and which patch sizes fit.

The axes are independent, so everything is computed one axis at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from math import lcm

from unet_nas.errors import SizeError
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph

Size = tuple[int, ...]

#: above this many residues no rule is looked for: nobody could read it
MAX_PERIOD = 4096


@dataclass(frozen=True, slots=True)
class AxisTrace:
    """Sizes of all nodes along one axis.

    Args:
        sizes: one per node; None where nothing could be assumed after a misfit.
        misfits: the nodes that the map does not fit, in order.
    """

    sizes: tuple[int | None, ...]
    misfits: tuple[tuple[int, p.Misfit], ...]


def trace_axis(graph: Graph, axis: int, size: int) -> AxisTrace:
    """Returns every node's size along ``axis`` for an input of ``size``.

    After a misfit, sizes go on with what the misfit assumes (at a fusion of unequal maps
    the size of the first), so that one pass finds every misfit.
    """
    sizes: list[int | None] = [size]
    misfits: list[tuple[int, p.Misfit]] = []
    for node in graph.nodes[1:]:
        primitive, inputs = node.primitive, node.inputs
        first = sizes[inputs[0]]
        if primitive.keeps_size:
            sizes.append(first)
            continue
        known = [first] if len(inputs) == 1 else [sizes[i] for i in inputs]
        if None in known:
            sizes.append(None)
            continue
        try:
            sizes.append(primitive.size(axis, known))  # type: ignore[arg-type]
        except p.Misfit as misfit:
            misfits.append((len(sizes), misfit))
            sizes.append(misfit.assume)
    return AxisTrace(tuple(sizes), tuple(misfits))


def shapes(graph: Graph, patch_size: Sequence[int]) -> tuple[Size, ...]:
    """Returns the spatial size of every node's output, in the order of ``graph.nodes``.

    Args:
        graph: the network.
        patch_size: spatial size of the input, one number per axis.

    Raises:
        SizeError: if the network cannot run on this size; ``check`` tells why.

    >>> from unet_nas.unet.architecture import Architecture
    >>> from unet_nas.unet.graph import lower
    >>> graph = lower(Architecture(padding="valid", align="crop"))
    >>> shapes(graph, (572, 572))[graph.outputs[0]]
    (388, 388)
    """
    check_patch_size(graph.dims, patch_size)
    traces = [trace_axis(graph, axis, size) for axis, size in enumerate(patch_size)]
    for axis, trace in enumerate(traces):
        for index, misfit in trace.misfits:
            name = graph.nodes[index].name
            met = " and ".join(map(str, misfit.got))
            raise SizeError(f"axis {axis}: {name} needs {misfit.need}, got {met}")
    return tuple(zip(*(trace.sizes for trace in traces), strict=True))


def check_patch_size(dims: int, patch_size: Sequence[int]) -> None:
    """Raises SizeError unless ``patch_size`` is one positive integer per axis."""
    given = "x".join(map(str, patch_size))
    if len(patch_size) != dims:
        raise SizeError(
            f"a patch size for a {dims}D network must have {dims} "
            f"{'number' if dims == 1 else 'numbers'}, got {len(patch_size)} ({given})"
        )
    if any(type(n) is not int or n < 1 for n in patch_size):
        raise SizeError(f"a patch size must be made of integers from 1 on, got {given}")


# --- which sizes fit ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ValidSizes:
    """The complete set of valid sizes along an axis, as an arithmetic rule.

    A size is valid if it is at least ``minimum`` and leaves one of ``residues`` when divided
    by ``step``. No residues: no size is valid.
    """

    minimum: int
    step: int
    residues: tuple[int, ...]

    def __contains__(self, size: int) -> bool:
        return size >= self.minimum and size % self.step in self.residues

    def describe(self) -> str:
        """Returns the rule in words.

        >>> ValidSizes(188, 16, (12,)).describe()
        '188, 204, 220, … (16k + 12, at least 188)'
        """
        if not self.residues:
            return "no size at all"
        if self.step == 1:
            return f"every size from {self.minimum} on"
        first = [n for n in range(self.minimum, self.minimum + 3 * self.step) if n in self][:3]
        terms = [f"{self.step}k + {r}" if r else f"{self.step}k" for r in self.residues]
        shown = terms if len(terms) <= 4 else [*terms[:3], f"{len(terms) - 3} more"]
        rule = " or ".join(shown)
        return f"{', '.join(map(str, first))}, … ({rule}, at least {self.minimum})"


class AxisSizes:
    """Tells for one axis of a graph which sizes are valid, quickly for many sizes."""

    def __init__(self, graph: Graph, axis: int) -> None:
        self.axis = axis
        self._program: list[tuple[p.Primitive, tuple[int, ...]]] = []
        slots = [0]
        for node in graph.nodes[1:]:
            inputs = tuple(slots[i] for i in node.inputs)
            if node.primitive.keeps_size:
                slots.append(inputs[0])
            else:
                self._program.append((node.primitive, inputs))
                slots.append(len(self._program))

    def misfits(self, size: int) -> Iterator[p.Misfit]:
        """Yields every misfit that an input of ``size`` meets."""
        sizes: list[int | None] = [size]
        for primitive, inputs in self._program:
            known = [sizes[i] for i in inputs]
            if None in known:
                sizes.append(None)
                continue
            try:
                sizes.append(primitive.size(self.axis, known))  # type: ignore[arg-type]
            except p.Misfit as misfit:
                sizes.append(misfit.assume)
                yield misfit

    def valid(self, size: int) -> bool:
        """Tells whether the network can run on ``size``."""
        return next(self.misfits(size), None) is None

    def nearest(self, size: int) -> tuple[int | None, int | None]:
        """Returns the next smaller and the next larger valid size, where there is one."""
        reach = 2 * min(self._period(), MAX_PERIOD)
        start = max(size, self._threshold() - 1)
        smaller = (n for n in range(size - 1, max(0, size - 1 - reach), -1) if self.valid(n))
        larger = (n for n in range(start + 1, start + 1 + reach) if self.valid(n))
        return next(smaller, None), next(larger, None)

    def rule(self) -> ValidSizes | None:
        """Returns the complete set of valid sizes; None where it follows no readable rule.

        Sizes only grow with the input, so a map that is large enough stays so: from a
        threshold on only equality and divisibility matter, and these repeat with the
        product of the strides.
        """
        period = self._period()
        if period > MAX_PERIOD:
            return None
        start = self._threshold()
        valid = [self.valid(n) for n in range(start, start + 2 * period)]
        if valid[:period] != valid[period:]:
            return None
        if not any(valid):
            return ValidSizes(start, 1, ())
        step = next(
            d
            for d in range(1, period + 1)
            if period % d == 0 and all(valid[i] == valid[i % d] for i in range(period))
        )
        sizes = [start + i for i in range(step) if valid[i]]
        return ValidSizes(sizes[0], step, tuple(sorted(n % step for n in sizes)))

    def _threshold(self) -> int:
        """Returns the smallest size from which no map is too small for what it meets."""
        high = next(1 << k for k in count() if not self._too_small(1 << k))
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._too_small(middle) else (low, middle)
        return high

    def _too_small(self, size: int) -> bool:
        reasons = ("too_small", "pad_too_large")
        return any(misfit.reason in reasons for misfit in self.misfits(size))

    def _period(self) -> int:
        """Returns the number after which the pattern of valid sizes repeats."""
        scales = [Fraction(1)]
        for primitive, inputs in self._program:
            scales.append(scales[inputs[0]] * _scale(primitive, self.axis))
        return lcm(*(scale.denominator for scale in scales))


def _scale(primitive: p.Primitive, axis: int) -> Fraction:
    """Returns by what factor a primitive changes sizes in the long run."""
    match primitive:
        case p.Conv() | p.MaxPool() | p.AvgPool() | p.Blur():
            return Fraction(1, primitive.stride[axis])
        case p.PixelUnshuffle():
            return Fraction(1, primitive.factor[axis])
        case p.ConvTranspose():
            return Fraction(primitive.stride[axis])
        case p.Interpolate() | p.PixelShuffle():
            return Fraction(primitive.factor[axis])
    return Fraction(1)

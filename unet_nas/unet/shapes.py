"""Sizes: every intermediate map of a graph for a patch size, and which patch sizes fit.

The axes are independent, so everything is computed one axis at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from math import gcd, lcm

from unet_nas.errors import SizeError
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph

Size = tuple[int, ...]

#: with more residues than this no rule is looked for: nobody could read it
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
    for _, primitive, inputs, _, _ in graph.nodes[1:]:
        first = sizes[inputs[0]]
        if primitive.keeps_size:
            sizes.append(first)
            continue
        known = (first,) if len(inputs) == 1 else [sizes[i] for i in inputs]
        if misfits and None in known:
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


def check_patch_size(dims: int, patch_size: object) -> None:
    """Raises SizeError unless ``patch_size`` is one positive integer per axis."""
    if isinstance(patch_size, str) or not isinstance(patch_size, Sequence):
        raise SizeError(
            f"a patch size must be a sequence of {dims} numbers, such as "
            f"{(256,) * dims}, got {patch_size!r}"
        )
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

    @classmethod
    def normal(cls, threshold: int, step: int, residues: Sequence[int]) -> ValidSizes:
        """Returns the rule in its shortest form, from the smallest valid size on."""
        kept = set(residues)
        shortest = next(
            d
            for d in range(1, step + 1)
            if step % d == 0 and len({r % d for r in kept}) * (step // d) == len(kept)
        )
        kept = {r % shortest for r in kept}
        minimum = next(n for n in range(threshold, threshold + shortest) if n % shortest in kept)
        return cls(minimum, shortest, tuple(sorted(kept)))

    def above(self, size: int) -> int | None:
        """Returns the next larger valid size."""
        start = max(size + 1, self.minimum)
        return next((n for n in range(start, start + self.step) if n in self), None)

    def below(self, size: int) -> int | None:
        """Returns the next smaller valid size."""
        stop = max(self.minimum - 1, size - 1 - self.step)
        return next((n for n in range(size - 1, stop, -1) if n in self), None)

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


@dataclass(frozen=True, slots=True)
class _Slot:
    """A size that differs from those before it, and how it depends on the input's size n.

    From some n on, ``size(n + period) = size(n) + scale * period``. ``regular`` is False where
    that need not hold (the smaller of two maps that grow at different rates).
    """

    primitive: p.Primitive
    inputs: tuple[int, ...]
    scale: Fraction
    period: int
    regular: bool


@dataclass(frozen=True, slots=True)
class _Equal:
    """Maps that must have equal sizes, by their slots, and the period of that condition."""

    primitive: p.Primitive
    inputs: tuple[int, ...]
    period: int
    possible: bool


class AxisSizes:
    """Tells for one axis of a graph which sizes are valid, quickly for many sizes.

    The graph is reduced to its *slots*, the sizes that can differ, and to the conditions that
    slots be equal. A fusion's output is not a slot: where the maps are equal it has the size
    of any of them, so it stands for the one that depends on the fewest down-samplings.
    """

    def __init__(self, graph: Graph, axis: int) -> None:
        self.axis = axis
        self._slots = [_Slot(graph.nodes[0].primitive, (), Fraction(1), 1, regular=True)]
        self._conditions: list[_Equal] = []
        #: slots and conditions in the order in which the network meets them
        self._steps: list[_Slot | _Equal] = []
        self._known: dict[object, int] = {}
        slots = [0]
        for node in graph.nodes[1:]:
            inputs = tuple([slots[i] for i in node.inputs])
            slots.append(self._slot(node.primitive, inputs))

    def _slot(self, primitive: p.Primitive, inputs: tuple[int, ...]) -> int:
        """Returns the slot of a node's output, a new one where its size is new."""
        if primitive.keeps_size:
            return inputs[0]
        match primitive:
            case p.ResizeTo():
                return inputs[1]
            case p.Concat() | p.Add() | p.Gate():
                return self._joined(primitive, inputs)
            case p.CropTo() | p.PadTo():
                inputs = tuple(sorted(set(inputs)))
                if len(inputs) == 1:
                    return inputs[0]
                key: object = (type(primitive), inputs)
            case _:
                key = (primitive, inputs)
        if key not in self._known:
            self._known[key] = len(self._slots)
            slot = self._new_slot(primitive, inputs)
            self._slots.append(slot)
            self._steps.append(slot)
        return self._known[key]

    def _joined(self, primitive: p.Primitive, inputs: tuple[int, ...]) -> int:
        distinct = tuple(dict.fromkeys(inputs))
        if len(distinct) > 1:
            joined = [self._slots[i] for i in distinct]
            possible = len({slot.scale for slot in joined}) == 1
            condition = _Equal(primitive, distinct, lcm(*(s.period for s in joined)), possible)
            self._conditions.append(condition)
            self._steps.append(condition)
        return min(distinct, key=lambda i: self._slots[i].period)

    def _new_slot(self, primitive: p.Primitive, inputs: tuple[int, ...]) -> _Slot:
        known = [self._slots[i] for i in inputs]
        scale, period = known[0].scale, lcm(*(slot.period for slot in known))
        regular = all(slot.regular and slot.scale == scale for slot in known)
        down, up = _factors(primitive, self.axis)
        # the period grows until what is divided by `down` is divisible by it
        period *= down // gcd(down, int(scale * period))
        return _Slot(primitive, inputs, scale * up / down, period, regular)

    @property
    def stride(self) -> int:
        """The smallest shift of an input by which every map shifts by whole positions."""
        return lcm(*(slot.scale.denominator for slot in self._slots))

    def misfits(self, size: int) -> Iterator[p.Misfit]:
        """Yields every misfit that an input of ``size`` meets."""
        axis = self.axis
        sizes: list[int | None] = [size]
        for step in self._steps:
            known = [sizes[i] for i in step.inputs]
            assumed = None
            if None not in known:
                try:
                    assumed = step.primitive.size(axis, known)  # type: ignore[arg-type]
                except p.Misfit as misfit:
                    assumed = misfit.assume
                    yield misfit
            if type(step) is _Slot:
                sizes.append(assumed)

    def valid(self, size: int) -> bool:
        """Tells whether the network can run on ``size``."""
        return next(self.misfits(size), None) is None

    def nearest(self, size: int) -> tuple[int | None, int | None]:
        """Returns the next smaller and the next larger valid size, where there is one."""
        rule = self.rule()
        if rule is not None:
            return rule.below(size), rule.above(size)
        smaller = (n for n in range(size - 1, max(0, size - 1 - MAX_PERIOD), -1) if self.valid(n))
        larger = (n for n in range(size + 1, size + 1 + MAX_PERIOD) if self.valid(n))
        return next(smaller, None), next(larger, None)

    def rule(self) -> ValidSizes | None:
        """Returns the complete set of valid sizes; None where it follows no readable rule.

        Sizes only grow with the input, so a map that is large enough stays so: from a
        threshold on only equality and divisibility matter. Each such condition repeats with
        a period of its own, so residues are sieved: condition after condition, from the
        shortest period on, only those that are left are looked at.
        """
        # where scales differ there may be no threshold: what PadTo adds can outgrow its map
        if not all(slot.regular for slot in self._slots):
            return None
        threshold = self._threshold()
        if not all(condition.possible for condition in self._conditions):
            few = any(self.valid(n) for n in range(1, threshold + MAX_PERIOD))
            return None if few else ValidSizes(threshold, 1, ())
        periods = {c.period for c in self._conditions}
        periods |= {s.period for s in self._slots if isinstance(s.primitive, p.PixelUnshuffle)}
        base = threshold - threshold % lcm(*periods) + lcm(*periods) if periods else threshold
        step, residues = 1, [0]
        for period in sorted(periods):
            modulus = lcm(step, period)
            if modulus // step * len(residues) > MAX_PERIOD:
                return None
            every = [r + step * i for i in range(modulus // step) for r in residues]
            left = [r for r in every if self._holds(base + r, period)]
            if len(left) < len(every):
                step, residues = modulus, left
        if not residues:
            return ValidSizes(threshold, 1, ())
        return ValidSizes.normal(threshold, step, residues)

    def _holds(self, size: int, period: int) -> bool:
        """Tells whether the conditions of a period hold for a size above the threshold."""
        sizes: list[int] = [size]
        for step in self._steps:
            out = 0
            if period % step.period == 0:  # else not needed, and it may rest on what fails
                try:
                    out = step.primitive.size(self.axis, [sizes[i] for i in step.inputs])
                except p.Misfit:
                    if step.period == period:
                        return False
            if type(step) is _Slot:
                sizes.append(out)
        return True

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


def _factors(primitive: p.Primitive, axis: int) -> tuple[int, int]:
    """Returns by what a primitive divides and multiplies sizes in the long run."""
    match primitive:
        case p.Conv() | p.MaxPool() | p.AvgPool() | p.Blur():
            return primitive.stride[axis], 1
        case p.PixelUnshuffle():
            return primitive.factor[axis], 1
        case p.ConvTranspose():
            return 1, primitive.stride[axis]
        case p.Interpolate() | p.PixelShuffle():
            return 1, primitive.factor[axis]
    return 1, 1

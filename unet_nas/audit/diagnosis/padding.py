"""Row 9: what padding a kernel needs to keep the size, and why even kernels have none.

From n = n + 2p - d(k - 1) follows p = d(k - 1) / 2: a whole number exactly where d(k - 1) is
even. Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning",
arXiv:1603.07285, section 2.3 ("half padding").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, Subject
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph


@dataclass(frozen=True, slots=True)
class KernelPadding:
    """The convolutions with one kernel, dilation and padding along one axis, stride 1.

    Args:
        axis: spatial axis.
        kernel: kernel elements.
        dilation: their spacing.
        low: positions added at the start.
        high: positions added at the end.
        count: number of such convolutions in the network.
        half: (k - 1) d / 2, the padding on each side that would keep the size.
    """

    axis: int
    kernel: int
    dilation: int
    low: int
    high: int
    count: int
    half: float

    @property
    def change(self) -> int:
        """By how much the size changes: negative where positions are lost."""
        return self.low + self.high - self.dilation * (self.kernel - 1)

    @property
    def kind(self) -> Literal["same", "uneven", "shrinks", "grows"]:
        """Whether the size stays, stays with uneven padding, shrinks or grows."""
        if self.change:
            return "shrinks" if self.change < 0 else "grows"
        return "same" if self.low == self.high else "uneven"


def same_padding(kernel: int, dilation: int = 1) -> Fraction:
    """Returns the padding on each side that keeps the size.

    >>> same_padding(3), same_padding(5), same_padding(4), same_padding(3, dilation=2)
    (Fraction(1, 1), Fraction(2, 1), Fraction(3, 2), Fraction(2, 1))
    """
    return Fraction(dilation * (kernel - 1), 2)


def analyse(subject: Subject) -> tuple[KernelPadding, ...]:
    """Returns the kernels of a network that are wider than 1 and have stride 1."""
    graph = subject.graph
    counts: dict[tuple[int, int, int, int, int], int] = {}
    for index, node in enumerate(graph.nodes):
        if not isinstance(node.primitive, p.Conv):
            continue
        for axis in range(graph.dims):
            kernel, dilation = node.primitive.kernel[axis], node.primitive.dilation[axis]
            if kernel > 1 and node.primitive.stride[axis] == 1:
                key = (axis, kernel, dilation, *_padded(graph, index, axis))
                counts[key] = counts.get(key, 0) + 1
    return tuple(
        KernelPadding(*key, count, float(same_padding(key[1], key[2])))
        for key, count in sorted(counts.items())
    )


def _padded(graph: Graph, index: int, axis: int) -> tuple[int, int]:
    """Returns what a convolution and the pad node made for it add at the two ends."""
    node = graph.nodes[index]
    assert isinstance(node.primitive, p.Conv)
    own, before = node.primitive.padding[axis], graph.nodes[node.inputs[0]]
    if isinstance(before.primitive, p.Pad) and before.name == f"{node.name}_pad":
        return own + before.primitive.low[axis], own + before.primitive.high[axis]
    return own, own


def findings(result: tuple[KernelPadding, ...], subject: Subject) -> Iterator[Finding]:
    """Yields what even kernels do, and what convolutions without enough padding take off."""
    first = [one for one in result if one.axis == min(other.axis for other in result)]
    for one in first:
        if one.kind == "uneven":
            yield _uneven(one)
        elif one.change:
            yield _changing(one)


def _uneven(one: KernelPadding) -> Finding:
    shift = one.count * (one.high - one.low) / 2
    text = (
        f"{one.count} convolutions have an even kernel of {one.kernel}: keeping the size would "
        f"need {one.half:g} on each side, so {one.low} is added before and {one.high} after, and "
        f"features move by half a position each time ({shift:g} in all, at the stages' own scales)"
    )
    fix = f"a kernel of {one.kernel - 1} or {one.kernel + 1} has the same padding on both sides"
    return Finding("same_padding", "warning", 0.2, text, fix)


def _changing(one: KernelPadding) -> Finding:
    verb = "takes" if one.change < 0 else "adds"
    off = "off" if one.change < 0 else "to"
    text = (
        f"each of {one.count} convolutions with kernel {one.kernel} {verb} {abs(one.change)} "
        f"positions {off} its map; {one.half:g} on each side would keep the size"
    )
    fix = "padding=same" if one.half.is_integer() else ""
    return Finding("same_padding", "note", 0.1, text, fix)


def figure(result: tuple[KernelPadding, ...]) -> Figure:
    """Returns the padding that keeps the size, for kernels 1 to 9; even ones need halves."""
    kernels = range(1, 10)
    odd = [k for k in kernels if k % 2]
    even = [k for k in kernels if not k % 2]
    series = tuple(
        Series(name, tuple(map(float, ks)), tuple(float(same_padding(k)) for k in ks))
        for name, ks in (("odd kernel: whole", odd), ("even kernel: none fits", even))
    )
    panel = Panel(
        "Padding that keeps the size",
        "kernel size k (positions)",
        "p = (k - 1) / 2 on each side (positions)",
        series,
        kind="stems",
    )
    return Figure("same_padding", "Same padding of a convolution with stride 1.", (panel,))

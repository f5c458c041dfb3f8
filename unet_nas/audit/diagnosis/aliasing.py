"""Row 6, static part: which down-samplings take every s-th position without a low-pass before.

What oscillates faster than half the new sampling rate (1 cycle in 2 s positions) comes back as
a slow wave that was never there. Sources: Zhang, "Making Convolutional Networks Shift-Invariant
Again", ICML 2019, arXiv:1904.11486; Oppenheim and Schafer, *Discrete-Time Signal Processing*,
section 4.6 (changing the sampling rate).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi, sin

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, Severity, Subject, numbered, percent
from unet_nas.operators import primitives as p

#: frequencies between the new limit and the old one at which a filter is looked at
_STEPS = 64


@dataclass(frozen=True, slots=True)
class Stride:
    """One node that goes down along one axis.

    Args:
        node: its name.
        stage: the stage that it leaves.
        axis: spatial axis.
        kind: ``max``, ``average``, ``blur``, ``strided`` (learned) or ``unshuffle``.
        stride: every so many positions are kept.
        kernel: positions that it reads for one.
        gain: the most that is left of an amplitude that will fold back; None: nothing fixed
            stands before the stride (the kernel is learned, or a maximum has none).
        unread: share of the positions that it never reads along this axis.
    """

    node: str
    stage: int
    axis: int
    kind: str
    stride: int
    kernel: int
    gain: float | None
    unread: float


def box_gain(kernel: int, frequency: float) -> float:
    """Returns what a mean over ``kernel`` positions leaves of a wave (cycles per position).

    >>> round(box_gain(2, 0.25), 3), round(box_gain(2, 0.5), 3)
    (0.707, 0.0)
    """
    half = pi * frequency
    return 1.0 if half == 0 else abs(sin(kernel * half) / (kernel * sin(half)))


def binomial_gain(taps: int, frequency: float) -> float:
    """Returns what a binomial filter leaves of a wave (cycles per position).

    >>> round(binomial_gain(3, 0.25), 3), round(binomial_gain(5, 0.25), 3)
    (0.5, 0.25)
    """
    return abs(cos(pi * frequency)) ** (taps - 1)


def analyse(subject: Subject) -> tuple[Stride, ...]:
    """Returns every strided node of the encoder, along every axis that it strides."""
    return tuple(_strides(subject))


def _strides(subject: Subject) -> Iterator[Stride]:
    for node in subject.graph.nodes:
        words = node.name.split(".")
        if words[0] not in ("encoder", "bottleneck"):
            continue
        at = subject.architecture.depth if words[0] == "bottleneck" else int(words[2])
        stage = at if words[1] == "downs" else at - 1
        for axis in range(subject.graph.dims):
            found = _stride(node.primitive, axis)
            if found is not None and found[1] > 1:
                kind, stride, kernel, gain = found
                unread = max(0.0, 1 - kernel / stride)
                yield Stride(node.name, stage, axis, kind, stride, kernel, gain, unread)


def _stride(primitive: p.Primitive, axis: int) -> tuple[str, int, int, float | None] | None:
    """Returns kind, stride, kernel and gain of a primitive that can go down."""
    match primitive:
        case p.MaxPool():
            return "max", primitive.stride[axis], primitive.kernel[axis], None
        case p.Conv():
            return "strided", primitive.stride[axis], primitive.kernel[axis], None
        case p.AvgPool():
            stride, kernel = primitive.stride[axis], primitive.kernel[axis]
            gain = max(box_gain(kernel, f) for f in _folding(stride))
            return "average", stride, kernel, gain
        case p.Blur():
            stride, taps = primitive.stride[axis], primitive.kernel[axis]
            return "blur", stride, taps, max(binomial_gain(taps, f) for f in _folding(stride))
        case p.PixelUnshuffle():
            return "unshuffle", primitive.factor[axis], primitive.factor[axis], None
    return None


def _folding(stride: int) -> list[float]:
    """Returns frequencies from the new limit to the old one, in cycles per position."""
    low = 0.5 / stride
    return [low + (0.5 - low) * i / _STEPS for i in range(_STEPS + 1)]


_SAYS = {
    "max": "{stages} {go} down by a maximum over {kernel} with stride {stride}, which has no "
    "low-pass: waves shorter than {length} positions fold back into slow ones",
    "strided": "{stages} {go} down by convolutions of {kernel} with stride {stride}; their "
    "kernels can learn a low-pass, but nothing makes them: waves shorter than {length} "
    "positions may fold back",
    "average": "{stages} {go} down by a mean over {kernel} with stride {stride}, a weak low-pass: "
    "{gain} of the amplitude of waves shorter than {length} positions can fold back",
    "blur": "",
    "unshuffle": "",
}
_FIXES = {
    "max": "--set down=anti_aliased_max_pool puts a filter before the stride that leaves 50 %",
    "strided": "--set down=anti_aliased_strided_conv filters first",
    "average": "",
}


def findings(result: tuple[Stride, ...], subject: Subject) -> Iterator[Finding]:
    """Yields the strides without a filter, one finding for all that are alike."""
    depth = subject.architecture.depth
    alike: dict[tuple[str, int, int], list[Stride]] = {}
    for stride in result:
        if _SAYS[stride.kind] and not stride.unread:
            alike.setdefault((stride.kind, stride.stride, stride.kernel), []).append(stride)
    for (kind, step, kernel), found in alike.items():
        stages = sorted({stride.stage for stride in found})
        text = _SAYS[kind].format(
            stages=numbered("stage", stages),
            go="goes" if len(stages) == 1 else "go",
            kernel=kernel,
            stride=step,
            length=2 * step,
            gain=percent(found[0].gain or 0.0),
        )
        severity: Severity = "note" if kind == "average" else "warning"
        weight = 0.5 * len(stages) / depth
        yield Finding("aliasing", severity, weight, text, _FIXES[kind])
    yield from _unread(result, depth)


def _unread(result: tuple[Stride, ...], depth: int) -> Iterator[Finding]:
    """Yields a finding on nodes that jump over positions."""
    found = [stride for stride in result if stride.unread]
    if not found:
        return
    by_node: dict[str, float] = {}
    for stride in found:
        by_node[stride.node] = by_node.get(stride.node, 1.0) * (1 - stride.unread)
    read = min(by_node.values())
    stages = sorted({stride.stage for stride in found})
    shortcuts = all(".shortcut." in name for name in by_node)
    what = "the shortcuts" if shortcuts else "the strided kernels"
    fix = (
        "block.strided_shortcut=average_pool reads them all"
        if shortcuts
        else ("a kernel of at least the stride reads them all")
    )
    text = f"{what} below {numbered('stage', stages)} read only {percent(read)} of the positions"
    yield Finding("aliasing", "warning", 0.5 * len(stages) / depth, text, fix)


def figure(result: tuple[Stride, ...]) -> Figure | None:
    """Returns the frequency response of the filters that stand before a stride of 2."""
    if not result:
        return None
    frequencies = tuple(i / 128 for i in range(65))
    gains = {
        "no filter (maximum, learned kernel)": [1.0 for _ in frequencies],
        "mean over 2": [box_gain(2, f) for f in frequencies],
        "binomial, 3 taps": [binomial_gain(3, f) for f in frequencies],
        "binomial, 5 taps": [binomial_gain(5, f) for f in frequencies],
    }
    series = tuple(Series(name, frequencies, tuple(gain)) for name, gain in gains.items())
    limit = Series("new limit at stride 2", (0.25, 0.25), (0.0, 1.0), dashed=True)
    panel = Panel(
        "What a filter leaves before the stride",
        "frequency (cycles per position)",
        "gain of the amplitude",
        (*series, limit),
    )
    return Figure("aliasing_filters", "Right of the dashed line everything folds back.", (panel,))

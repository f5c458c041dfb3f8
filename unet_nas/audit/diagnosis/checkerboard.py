"""Row 7, static part: how often a transposed convolution covers each output position.

Output position o is written by those kernel elements m with m = o + padding (mod stride): their
number is the same for every o exactly when the stride divides the kernel. Sources: Odena,
Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016,
doi:10.23915/distill.00003; Aitken et al., arXiv:1707.02937 (ICNR).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, Subject, listed, runs, span
from unet_nas.operators import primitives as p
from unet_nas.unet.outline import by, part_of


@dataclass(frozen=True, slots=True)
class Overlap:
    """How often the kernel of an up-sampling covers its output.

    Args:
        part: as in ``decoder.ups.2``.
        kind: ``transposed`` or ``shuffle`` (whose phases are filters of their own).
        kernel: per axis.
        stride: per axis.
        counts: per axis the number of kernel elements that write each phase, away from the border.
        icnr: a pixel shuffle starts with equal filters for all phases.
    """

    part: str
    kind: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]
    icnr: bool = False

    @property
    def uniform(self) -> bool:
        """Every output position is covered equally often."""
        return all(len(set(axis)) == 1 for axis in self.counts)


def overlap_counts(kernel: int, stride: int, padding: int = 0) -> tuple[int, ...]:
    """Returns how many kernel elements write each phase of the output, away from the border.

    >>> overlap_counts(3, 2), overlap_counts(4, 2), overlap_counts(2, 2), overlap_counts(5, 3, 1)
    ((2, 1), (2, 2), (1, 1), (2, 1, 2))
    """
    return tuple(
        sum((m - phase - padding) % stride == 0 for m in range(kernel)) for phase in range(stride)
    )


def analyse(subject: Subject) -> tuple[Overlap, ...]:
    """Returns the overlap of every learned up-sampling of a network."""
    return tuple(_overlaps(subject))


def _overlaps(subject: Subject) -> Iterator[Overlap]:
    nodes = subject.graph.nodes
    for node in nodes:
        part, primitive = part_of(node.name), node.primitive
        match primitive:
            case p.ConvTranspose():
                axes = zip(primitive.kernel, primitive.stride, primitive.padding, strict=True)
                counts = tuple(overlap_counts(k, s, pad) for k, s, pad in axes)
                yield Overlap(part, "transposed", primitive.kernel, primitive.stride, counts)
            case p.PixelShuffle():
                before = nodes[node.inputs[0]]
                kernel = getattr(before.primitive, "kernel", (1,) * subject.graph.dims)
                counts = tuple((1,) * f for f in primitive.factor)
                icnr = before.init is not None or prod(primitive.factor) == 1
                yield Overlap(part, "shuffle", kernel, primitive.factor, counts, icnr)


def findings(result: tuple[Overlap, ...], subject: Subject) -> Iterator[Finding]:
    """Yields the transposed convolutions that cover unevenly, and shuffles without ICNR."""
    uneven = [one for one in result if not one.uniform]
    for kernel, stride in dict.fromkeys((one.kernel, one.stride) for one in uneven):
        alike = [one for one in uneven if (one.kernel, one.stride) == (kernel, stride)]
        yield _uneven(alike, subject.architecture.depth)
    plain = [one for one in result if one.kind == "shuffle" and not one.icnr]
    if plain:
        text = (
            f"{_places(plain)}: the phases of the pixel shuffle start from different filters, "
            "which shows as a checkerboard until training has made them alike"
        )
        fix = "up.icnr=true starts them equal"
        yield Finding("checkerboard", "warning", 0.3, text, fix)


def _uneven(alike: list[Overlap], depth: int) -> Finding:
    first = alike[0]
    least, most = prod(map(min, first.counts)), prod(map(max, first.counts))
    parts = _places(alike)
    text = (
        f"{parts}: a kernel of {by(first.kernel)} with stride {by(first.stride)} covers output "
        f"positions {span(least, most)} times, a checkerboard in every channel"
    )
    if not least:
        text = (
            f"{parts}: a kernel of {by(first.kernel)} with stride {by(first.stride)} leaves "
            "output positions that nothing but the bias writes"
        )
    weight = len(alike) / depth * (1 - least / most)
    return Finding("checkerboard", "warning", weight, text, _fix(first))


def _places(found: list[Overlap]) -> str:
    """Returns where up-samplings stand: ``decoder.ups.0 to 3``."""
    stages = [int(one.part.rsplit(".", 1)[1]) for one in found]
    return f"decoder.ups.{listed(runs(stages))}"


def _fix(overlap: Overlap) -> str:
    """Returns the nearest kernel that the stride divides, with what keeps the factor exact."""
    pairs = list(zip(overlap.kernel, overlap.stride, strict=True))
    kernel = [max(1, round(k / s)) * s for k, s in pairs]
    extra = [k - s for k, (_, s) in zip(kernel, pairs, strict=True)]
    fix = f"a kernel that the stride divides covers all alike: kernel_size={by(kernel)}"
    if any(extra) and not any(n % 2 for n in extra):
        fix += f" with padding={by([n // 2 for n in extra])}"
    return fix


def figure(result: tuple[Overlap, ...]) -> Figure:
    """Returns the overlap count over output positions for k3s2, k4s2 and the network's own."""
    own = [one for one in result if one.kind == "transposed"]
    pairs = [(3, 2), (4, 2), *((one.kernel[0], one.stride[0]) for one in own)]
    panels = tuple(
        Panel(
            f"kernel {kernel}, stride {stride}",
            "output position",
            "kernel elements that write it",
            (Series("", tuple(map(float, range(12))), _repeated(overlap_counts(kernel, stride))),),
            kind="bars",
        )
        for kernel, stride in dict.fromkeys(pairs)
    )
    caption = "Coverage of the output by a transposed convolution along one axis (Odena et al.)."
    return Figure("checkerboard_overlap", caption, panels)


def _repeated(counts: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(float(counts[i % len(counts)]) for i in range(12))

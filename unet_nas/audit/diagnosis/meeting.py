"""The sizes that meet at the skips, what each alignment makes of them, and the border lost.

A stage of n positions goes down to n // 2 and comes back as 2 (n // 2): equal only where n is
even. Sources: Ronneberger, Fischer and Brox, MICCAI 2015, arXiv:1505.04597 (crop, and the border
of valid padding); Dumoulin and Visin, arXiv:1603.07285 (sizes).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from unet_nas.audit.diagnosis.subject import Subject
from unet_nas.operators.builder import Builder
from unet_nas.operators.fusion import AnyAlignment, Crop, PadSmaller, Resize, Strict
from unet_nas.unet.architecture import per_stage
from unet_nas.unet.check import check
from unet_nas.unet.shapes import AxisSizes, Size, trace_axis
from unet_nas.unet.skips import stage_ends

_ALIGNMENTS: tuple[AnyAlignment, ...] = (Strict(), Crop(), PadSmaller(), Resize())


@dataclass(frozen=True, slots=True)
class StageSize:
    """The map of an encoder stage along one axis, when it is brought down.

    Args:
        stage: 0 = full resolution.
        axis: spatial axis.
        size: positions.
        factor: by what the down-sampling divides it.
        skip: positions of its skip at the fusion; None: no skip, or never reached.
        up: positions of the decoder's map that meets it there, before it is aligned.
    """

    stage: int
    axis: int
    size: int
    factor: int
    skip: int | None
    up: int | None

    @property
    def odd(self) -> bool:
        """The factor does not divide the size, and the skip meets another one."""
        return self.size % self.factor != 0 and self.skip is not None and self.skip != self.up


@dataclass(frozen=True, slots=True)
class Policy:
    """What an alignment makes of the patch: the output's size, or None where it does not run."""

    align: str
    output_size: Size | None


@dataclass(frozen=True, slots=True)
class Alignment:
    """Sizes on the way down and up.

    Args:
        patch_size: of the input.
        output_size: of the main output; None where the network does not run.
        border: per axis what is lost before and after; None where the output has another
            scale than the input, or there is none.
        never_predicted: share of the input's positions without a prediction.
        stages: every encoder stage along every axis.
        policies: the same network under each alignment.
        nearest: per axis the next smaller and larger size at which all maps meet unaligned.
        problems: why it does not run, each with the reason that `check` gives.
        fixes: what makes it run, with the output's size then.
    """

    patch_size: Size
    output_size: Size | None
    border: tuple[tuple[int, int], ...] | None
    never_predicted: float
    stages: tuple[StageSize, ...]
    policies: tuple[Policy, ...]
    nearest: tuple[tuple[int | None, int | None], ...]
    problems: tuple[tuple[str, str], ...]
    fixes: tuple[str, ...]


def analyse(subject: Subject) -> Alignment | None:
    """Returns the alignment of a network on its patch; None where there is no patch."""
    patch = subject.patch_size
    if patch is None:
        return None
    verdict = None if subject.sizes is not None else check(subject.architecture, patch)
    output = None if subject.sizes is None else subject.sizes[subject.graph.outputs[0]]
    border = _border(subject, patch, output)
    share = 0.0
    if output is not None and border is not None:
        share = max(0.0, 1 - prod(output) / prod(patch))
    return Alignment(
        patch,
        output,
        border,
        share,
        tuple(_stages(subject, patch)),
        tuple(_policies(subject, patch)),
        tuple(_nearest(subject, patch)),
        ()
        if verdict is None
        else tuple((problem.reason, str(problem)) for problem in verdict.problems),
        () if verdict is None else tuple(fix.option for fix in verdict.fixes),
    )


def _border(
    subject: Subject, patch: Size, output: Size | None
) -> tuple[tuple[int, int], ...] | None:
    """Returns what is lost at both ends of each axis."""
    fields = [axis[subject.graph.outputs[0]] for axis in subject.fields]
    if output is None or any(f is not None and f.stride != f.phases for f in fields):
        return None
    lost = [n - m for n, m in zip(patch, output, strict=True)]
    return tuple((n // 2, n - n // 2) for n in lost) if min(lost) >= 0 else None


def _stages(subject: Subject, patch: Size) -> Iterator[StageSize]:
    """Yields the sizes that meet, along every axis and at every stage."""
    a, graph = subject.architecture, subject.graph
    ends, skips = stage_ends(graph, a.depth), {skip.stage: skip for skip in subject.skips}
    for axis, n in enumerate(patch):
        factors = _factors(subject, axis)
        sizes = trace_axis(graph, axis, n).sizes
        for stage, end in enumerate(ends):
            size = sizes[end]
            if size is None:
                break
            skip = skips.get(stage)
            pair = (None, None) if skip is None else _pair(subject, skip.source, skip.edges, sizes)
            yield StageSize(stage, axis, size, factors[stage], *pair)


def _pair(
    subject: Subject,
    source: int,
    edges: Sequence[tuple[int, int]],
    sizes: Sequence[int | None],
) -> tuple[int | None, int | None]:
    """Returns the sizes of the skip and of the decoder's map where they first meet."""
    stage = subject.graph.nodes[edges[0][0]].name.split(".")[2]
    inside = f"decoder.fusions.{stage}."
    outer = {
        i
        for node in subject.graph.nodes
        if node.name.startswith(inside)
        for i in node.inputs
        if not subject.graph.nodes[i].name.startswith(inside)
    }
    return sizes[source], sizes[max(outer)]


def _policies(subject: Subject, patch: Size) -> Iterator[Policy]:
    for align in _ALIGNMENTS:
        graph = subject.changed(align=align)
        if graph is None:
            continue
        traces = [trace_axis(graph, axis, n) for axis, n in enumerate(patch)]
        runs = not any(trace.misfits for trace in traces)
        size = tuple(trace.sizes[graph.outputs[0]] or 0 for trace in traces)
        yield Policy(align.type, size if runs else None)


def _nearest(subject: Subject, patch: Size) -> Iterator[tuple[int | None, int | None]]:
    """Yields per axis the next sizes without an odd map; the size itself twice if it has none."""
    graph = subject.changed(align=Strict())
    for axis, n in enumerate(patch):
        strict = None if graph is None else AxisSizes(graph, axis)
        if strict is not None and strict.valid(n):
            yield n, n
        elif strict is not None and (near := strict.nearest(n)) != (None, None):
            yield near
        else:  # valid padding: no size meets unaligned, but some have no odd map
            yield None, _even_size(subject, axis, n)


def _even_size(subject: Subject, axis: int, size: int) -> int | None:
    """Returns the next size from ``size`` on at which every factor divides its map."""
    ends = stage_ends(subject.graph, subject.architecture.depth)
    factors = _factors(subject, axis)
    for n in range(size, size + prod(factors)):
        trace = trace_axis(subject.graph, axis, n)
        sizes = [trace.sizes[end] for end in ends]
        fitting = not trace.misfits and None not in sizes
        if fitting and all((m or 0) % f == 0 for m, f in zip(sizes, factors, strict=True)):
            return n
    return None


def _factors(subject: Subject, axis: int) -> list[int]:
    """Returns by what each stage's down-sampling divides its map."""
    a = subject.architecture
    ones = Builder(a.spatial_dims, a.in_channels)
    downs = [per_stage(a, "down", stage) for stage in range(a.depth)]
    return [down.strides(ones, path)[axis] for down, path in downs]

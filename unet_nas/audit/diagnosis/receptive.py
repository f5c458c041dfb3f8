"""Row 1: the receptive field of every part and of the output, against the patch.

Source: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks",
Distill 2019, doi:10.23915/distill.00021.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, Subject, axis_words, percent, span
from unet_nas.audit.receptive_field import Field, receptive_fields
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.unet.outline import part_of
from unet_nas.unet.shapes import AxisSizes, trace_axis

#: a field this many times as wide as the patch sees mostly what was padded
MUCH_LARGER = 2


@dataclass(frozen=True, slots=True)
class PartField:
    """The receptive field of a part's last map along one axis, in positions of the input.

    Args:
        part: as in ``encoder.stages.1``; ``output`` for the main output.
        axis: spatial axis.
        sizes: the smallest and the largest among the phases; None where it has no short form.
        stride: how far the fields of neighbouring positions are apart, on average.
        start: where the field of the first position begins; negative: in the padding.
        phases: after how many positions the pattern of sizes repeats.
    """

    part: str
    axis: int
    sizes: tuple[int, int] | None
    stride: float | None
    start: int | None
    phases: int | None


@dataclass(frozen=True, slots=True)
class Reach:
    """The output's field along one axis, and the depth that would suit the patch better.

    Args:
        axis: spatial axis.
        patch: positions of the patch.
        sizes: of the output's field, smallest and largest.
        by_phase: the sizes of neighbouring output positions in turn.
        depth: another depth that suits the patch better; None: none is known.
        depth_sizes: of the field then.
    """

    axis: int
    patch: int
    sizes: tuple[int, int]
    by_phase: tuple[int, ...]
    depth: int | None = None
    depth_sizes: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ReceptiveFields:
    """The fields of all parts, the reach of the output, and how many maps are read whole."""

    parts: tuple[PartField, ...]
    reach: tuple[Reach, ...]
    global_means: int


def analyse(subject: Subject) -> ReceptiveFields:
    """Returns the receptive fields of a network; none where it does not run on the patch."""
    graph = subject.graph
    means = sum(isinstance(node.primitive, p.GlobalAvgPool) for node in graph.nodes)
    ends = _part_ends(graph)
    parts = [
        _part_field(name, axis, fields[end])
        for name, end in ends
        for axis, fields in enumerate(subject.fields)
    ]
    reach = [
        _reach(subject, axis, field)
        for axis, fields in enumerate(subject.fields)
        if (field := fields[graph.outputs[0]]) is not None
    ]
    return ReceptiveFields(tuple(parts), tuple(reach), means)


def _part_ends(graph: Graph) -> list[tuple[str, int]]:
    """Returns every part with its last node, and the main output."""
    numbered = list(enumerate(graph.nodes))[1:]
    groups = groupby(numbered, key=lambda pair: part_of(pair[1].name))
    ends = [(name, max(index for index, _ in group)) for name, group in groups]
    return [*ends, ("output", graph.outputs[0])]


def _part_field(part: str, axis: int, field: Field | None) -> PartField:
    if field is None:
        return PartField(part, axis, None, None, None, None)
    stride = field.stride / field.phases
    return PartField(part, axis, field.sizes, stride, field.start(0), field.phases)


def _reach(subject: Subject, axis: int, field: Field) -> Reach:
    assert subject.patch_size is not None
    patch, (low, high) = subject.patch_size[axis], field.sizes
    by_phase = tuple(b - a + 1 for a, b in zip(field.starts, field.stops, strict=True))
    depth, sizes = None, None
    if high < patch:
        depth, sizes = _first_depth(subject, axis, range(subject.architecture.depth + 1, 9), patch)
    elif low >= MUCH_LARGER * patch:
        depth, sizes = _first_depth(subject, axis, range(1, subject.architecture.depth), patch)
    return Reach(axis, patch, field.sizes, by_phase, depth, sizes)


def _first_depth(
    subject: Subject, axis: int, depths: range, patch: int
) -> tuple[int | None, tuple[int, int] | None]:
    """Returns the first depth whose field covers the patch, and that field; else the last."""
    found: tuple[int | None, tuple[int, int] | None] = (None, None)
    for depth in depths:
        graph = subject.at_depth(depth)
        sizes = None if graph is None else _output_field(graph, axis, patch)
        if sizes is None:
            break
        found = (depth, sizes)
        if sizes[0] >= patch:
            break
    return found


def _output_field(graph: Graph, axis: int, patch: int) -> tuple[int, int] | None:
    """Returns the output's field at the next size that fits; it is the same at every size."""
    valid = AxisSizes(graph, axis)
    fitting = patch if valid.valid(patch) else valid.nearest(patch)[1]
    if fitting is None:
        return None
    trace = trace_axis(graph, axis, fitting)
    sizes = [(n or 0,) * graph.dims for n in trace.sizes]
    field = receptive_fields(graph, axis, sizes)[graph.outputs[0]]
    return None if field is None else field.sizes


def findings(result: ReceptiveFields, subject: Subject) -> Iterator[Finding]:
    """Yields what the receptive field says about the patch."""
    dims = subject.graph.dims
    for reach, axes in _grouped(result.reach):
        if subject.given and reach.sizes[1] < reach.patch:
            yield _smaller(reach, axis_words(dims, axes))
        elif subject.given and reach.sizes[0] >= MUCH_LARGER * reach.patch:
            yield _larger(reach, axis_words(dims, axes))
    for by_phase in dict.fromkeys(reach.by_phase for reach in result.reach):
        if min(by_phase) < max(by_phase):
            axes = [reach.axis for reach in result.reach if reach.by_phase == by_phase]
            yield _varying(by_phase, axis_words(dims, axes))
    if result.global_means:
        text = (
            f"{result.global_means} global means (squeeze-excitation) read their whole map, so "
            "every output position also sees the mean of the whole patch"
        )
        yield Finding("receptive_field", "note", 0.0, text)


def _varying(by_phase: tuple[int, ...], words: str) -> Finding:
    low, high = min(by_phase), max(by_phase)
    text = (
        f"what an output position sees depends on where it lies: {span(low, high)} {words}, in a "
        f"pattern that repeats after {len(by_phase)} positions"
    )
    return Finding("receptive_field", "note", (high - low) / high, text)


def _grouped(reach: tuple[Reach, ...]) -> Iterator[tuple[Reach, list[int]]]:
    """Yields each reach once, with the axes that share it."""
    found: dict[tuple[object, ...], list[Reach]] = {}
    for one in reach:
        found.setdefault((one.patch, one.sizes, one.depth), []).append(one)
    for same in found.values():
        yield same[0], [one.axis for one in same]


def _smaller(reach: Reach, words: str) -> Finding:
    low, high = reach.sizes
    fix = "larger kernels or another stage reach further"
    if reach.depth is not None and reach.depth_sizes is not None:
        fix = f"with depth={reach.depth} it would be {span(*reach.depth_sizes)}"
    return Finding(
        "receptive_field",
        "warning",
        (1 - high / reach.patch) / 2,
        f"an output position sees {span(low, high)} of the {reach.patch} {words} of the patch: "
        f"nothing further than {high // 2} away can change it",
        fix,
    )


def _larger(reach: Reach, words: str) -> Finding:
    low = reach.sizes[0]
    fix = f"a patch of {low} or more would fill it"
    if reach.depth is not None and reach.depth_sizes is not None:
        fix = f"depth={reach.depth} still sees {span(*reach.depth_sizes)}, or {fix}"
    return Finding(
        "receptive_field",
        "warning",
        (1 - reach.patch / low) / 2,
        f"an output position could see {low} {words} and the patch has {reach.patch}: at least "
        f"{percent(1 - reach.patch / low)} of its field lies in the padding",
        fix,
    )


def figure(result: ReceptiveFields) -> Figure:
    """Returns the field's growth from part to part, and its size per output phase."""
    rows = [row for row in result.parts if row.axis == 0 and row.sizes is not None]
    places = tuple(float(i) for i in range(len(rows)))
    smallest = tuple(float(row.sizes[0]) for row in rows if row.sizes)
    largest = tuple(float(row.sizes[1]) for row in rows if row.sizes)
    growth = Panel(
        "Receptive field of each part",
        "part, in order of execution",
        "field, axis 0 (input positions)",
        (Series("largest phase", places, largest), Series("smallest phase", places, smallest)),
        ticks=tuple(row.part for row in rows),
    )
    phases = [
        Panel(
            "By output phase",
            "output position (phase)",
            "field (input positions)",
            (Series("", tuple(map(float, range(len(one.by_phase)))), _floats(one.by_phase)),),
            kind="bars",
        )
        for one in result.reach[:1]
    ]
    caption = "Theoretical receptive field along axis 0 (Araujo et al. 2019)."
    return Figure("receptive_field", caption, (growth, *phases))


def _floats(values: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(map(float, values))

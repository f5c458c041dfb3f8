"""Row 3: how many convolutions lie between the loss and each convolution, with and without skips.

With skips the shortest path to stage i goes through the decoder down to stage i and over: its
length does not depend on the depth. Without them it leads through the bottleneck and grows
linearly. Sources: Drozdzal et al., "The Importance of Skip Connections in Biomedical Image
Segmentation", arXiv:1608.04117; He et al., arXiv:1512.03385, on identity shortcuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, Subject, numbered, span
from unet_nas.operators.builder import Graph
from unet_nas.unet.outline import part_of
from unet_nas.unet.skips import Edge, fusion_stage, skip_edges, value_inputs


@dataclass(frozen=True, slots=True)
class PartPath:
    """The shortest and longest of the shortest paths to the convolutions of a part.

    A path's length is the number of convolutions on it, the one that it leads to included.
    """

    part: str
    with_skips: tuple[int, int]
    without_skips: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DepthPath:
    """The length of the path to the network's first convolution, for a depth."""

    depth: int
    with_skips: int
    without_skips: int


@dataclass(frozen=True, slots=True)
class GradientPaths:
    """Path lengths of the parts, and of the first convolution at other depths.

    Args:
        parts: in order of execution; those without a convolution are left out.
        depths: the same network at depth 1 to 8; empty where it has lists per stage.
        skipless: stages whose fusion takes no skip.
    """

    parts: tuple[PartPath, ...]
    depths: tuple[DepthPath, ...]
    skipless: tuple[int, ...]


def path_lengths(graph: Graph, without: frozenset[Edge] = frozenset()) -> list[int | None]:
    """Returns for every node the fewest convolutions between it and an output, its own included.

    Args:
        graph: the network; deep supervision gives it several outputs, each with a loss.
        without: edges that are taken out.

    Returns:
        One number per node; None where no path leads to an output.

    >>> from unet_nas.unet.architecture import Architecture
    >>> from unet_nas.unet.graph import lower
    >>> graph = lower(Architecture(depth=4))
    >>> path_lengths(graph)[1], path_lengths(graph, skip_edges(graph))[1]
    (5, 23)
    """
    lengths: list[int | None] = [None] * len(graph.nodes)
    for index in graph.outputs:
        lengths[index] = 0
    for index in range(len(graph.nodes) - 1, -1, -1):
        node, behind = graph.nodes[index], lengths[index]
        if behind is None:
            continue
        own = behind + node.primitive.is_conv
        lengths[index] = own
        for source in value_inputs(node):
            known = lengths[source]
            if (index, source) not in without and (known is None or own < known):
                lengths[source] = own
    return lengths


def analyse(subject: Subject) -> GradientPaths:
    """Returns the path lengths of a network."""
    graph = subject.graph
    taken = {skip.stage for skip in subject.skips}
    skipless = [stage for stage in range(subject.architecture.depth) if stage not in taken]
    return GradientPaths(
        tuple(_parts(graph)), tuple(_depths(subject)) if taken else (), tuple(skipless)
    )


def _parts(graph: Graph) -> Iterator[PartPath]:
    pair = path_lengths(graph), path_lengths(graph, skip_edges(graph))
    found: dict[str, list[tuple[int, int]]] = {}
    for index, node in enumerate(graph.nodes):
        with_skips, without = (lengths[index] for lengths in pair)
        if _learns(graph, index) and with_skips is not None and without is not None:
            found.setdefault(part_of(node.name), []).append((with_skips, without))
    for part, lengths in found.items():
        first, second = zip(*lengths, strict=True)
        yield PartPath(part, (min(first), max(first)), (min(second), max(second)))


def _depths(subject: Subject) -> Iterator[DepthPath]:
    """Yields the path to the first convolution of the same network at every depth."""
    for depth in range(1, 9):
        graph = subject.at_depth(depth)
        if graph is None:
            return
        first = _first_conv(graph)
        with_skips = path_lengths(graph)[first]
        without = path_lengths(graph, skip_edges(graph))[first]
        if with_skips is None or without is None:
            return
        yield DepthPath(depth, with_skips, without)


def _first_conv(graph: Graph) -> int:
    """Returns the first convolution with weights (a head has one at the latest)."""
    convs = (i for i, node in enumerate(graph.nodes) if _learns(graph, i) and not _fused(node.name))
    return next(convs, 0)


def _learns(graph: Graph, index: int) -> bool:
    primitive = graph.nodes[index].primitive
    return primitive.is_conv and primitive.parameters() > 0


def _fused(name: str) -> bool:
    return fusion_stage(name) is not None


def findings(result: GradientPaths, subject: Subject) -> Iterator[Finding]:
    """Yields how far the encoder is from the loss, and stages that lack the short way."""
    encoder = [path for path in result.parts if path.part.split(".")[0] in ("stem", "encoder")]
    if result.skipless and encoder:
        yield _skipless(result, encoder[0], subject.architecture.depth)
    if not subject.skips or not encoder:
        return
    first = encoder[0]
    text = (
        f"{first.part} is {first.with_skips[1]} convolutions from the loss with the skips and "
        f"{first.without_skips[1]} without them"
    )
    if len(result.depths) > 1:
        text += f"; from depth 1 to {result.depths[-1].depth} {_growth(result.depths)}"
    weight = 1 - first.with_skips[1] / max(1, first.without_skips[1])
    yield Finding("gradient_paths", "note", weight, text)


def _growth(depths: tuple[DepthPath, ...]) -> str:
    """Tells how the two lengths grow with the depth."""
    low, high = depths[0], depths[-1]
    constant = low.with_skips == high.with_skips
    first = (
        f"the first stays at {high.with_skips}"
        if constant
        else (f"the first grows from {low.with_skips} to {high.with_skips}")
    )
    return f"{first}, the second grows from {low.without_skips} to {high.without_skips}"


def _skipless(result: GradientPaths, first: PartPath, depth: int) -> Finding:
    stages = numbered("stage", result.skipless)
    verb = "takes" if len(result.skipless) == 1 else "take"
    text = (
        f"{stages} {verb} no skip, so gradients reach {first.part} only over "
        f"{span(*first.with_skips)} convolutions, and what is fine is lost on the way down"
    )
    return Finding(
        "gradient_paths", "warning", len(result.skipless) / depth, text, "set fusion=concat there"
    )


def figure(result: GradientPaths) -> Figure:
    """Returns the path lengths of the parts and, where known, their growth with the depth."""
    places = tuple(map(float, range(len(result.parts))))
    parts = Panel(
        "Shortest path from the loss",
        "part, in order of execution",
        "convolutions on the path",
        (
            Series("with skips", places, tuple(float(q.with_skips[1]) for q in result.parts)),
            Series("without", places, tuple(float(q.without_skips[1]) for q in result.parts)),
        ),
        ticks=tuple(q.part for q in result.parts),
    )
    depths = tuple(float(d.depth) for d in result.depths)
    growth = Panel(
        "Path to the first convolution",
        "depth (down-samplings)",
        "convolutions on the path",
        (
            Series("with skips", depths, tuple(float(d.with_skips) for d in result.depths)),
            Series("without", depths, tuple(float(d.without_skips) for d in result.depths)),
        ),
    )
    caption = "Convolutions between the loss and each part, with the skips and with them removed."
    return Figure("gradient_paths", caption, (parts, growth) if depths else (parts,))

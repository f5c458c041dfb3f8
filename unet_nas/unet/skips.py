"""Skip connections, found in the graph: where each leaves, where it joins, and by which edges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph, Node

#: an edge of the graph: the node that reads, and the node that is read
Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Skip:
    """One skip connection.

    Args:
        stage: the resolution that it belongs to, 0 = full.
        source: the encoder's node that it leaves from.
        join: the node that gives the fused map.
        edges: all edges by which the fusion reads the source.
    """

    stage: int
    source: int
    join: int
    edges: tuple[Edge, ...]


def skips(graph: Graph) -> tuple[Skip, ...]:
    """Returns the skip connections of a graph, full resolution first.

    A fusion reads the skip and the decoder's maps, and the skip is the oldest of them: all
    others were made from it further down. Where a fusion reads one map only, nothing is skipped.

    >>> from unet_nas.unet.architecture import Architecture
    >>> from unet_nas.unet.graph import lower
    >>> graph = lower(Architecture(depth=2, fusion=["concat", "none"]))
    >>> [(skip.stage, graph.nodes[skip.source].name) for skip in skips(graph)]
    [(0, 'encoder.stages.0.convs.1.act')]
    """
    members: dict[int, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        stage = fusion_stage(node.name)
        if stage is not None:
            members.setdefault(stage, []).append(index)
    return tuple(
        skip
        for stage, nodes in sorted(members.items())
        if (skip := _skip(graph, stage, nodes)) is not None
    )


def _skip(graph: Graph, stage: int, members: list[int]) -> Skip | None:
    inside = set(members)
    entering = [(i, j) for i in members for j in graph.nodes[i].inputs if j not in inside]
    sources = {source for _, source in entering}
    if len(sources) < 2:
        return None
    source = min(sources)
    edges = tuple(edge for edge in entering if edge[1] == source)
    return Skip(stage, source, members[-1], edges)


def fusion_stage(name: str) -> int | None:
    """Returns the stage of the fusion that a node belongs to, or None.

    >>> fusion_stage("decoder.fusions.2.concat"), fusion_stage("decoder.ups.2.conv")
    (2, None)
    """
    words = name.split(".")
    return int(words[2]) if words[:2] == ["decoder", "fusions"] else None


def skip_edges(graph: Graph, stages: Iterable[int] | None = None) -> frozenset[Edge]:
    """Returns the edges of the skips at some stages (default: all): without them, no skip is left.

    Whoever reads the graph leaves these edges out, or puts zeros in their place.
    """
    chosen = None if stages is None else set(stages)
    return frozenset(
        edge
        for skip in skips(graph)
        if chosen is None or skip.stage in chosen
        for edge in skip.edges
    )


def value_inputs(node: Node) -> tuple[int, ...]:
    """Returns the nodes whose values a node reads; of the others it takes only the size."""
    if isinstance(node.primitive, p.CropTo | p.PadTo | p.ResizeTo):
        return node.inputs[:1]
    return node.inputs


def stage_of(name: str, depth: int) -> int:
    """Returns the resolution at which a node's part stands, 0 = full.

    Stem and head stand at full resolution, the bottleneck at the lowest, a down-sampling at
    the stage that it leaves.

    >>> [stage_of(name, 4) for name in ("stem.conv", "bottleneck.convs.0.conv", "decoder.ups.2")]
    [0, 4, 2]
    """
    words = name.split(".")
    if words[0] == "bottleneck":
        return depth
    if words[0] == "deep_heads":
        return int(words[1])
    if words[:2] == ["head", "scales"]:
        return int(words[2])
    return int(words[2]) if words[0] in ("encoder", "decoder") else 0


def stage_ends(graph: Graph, depth: int) -> tuple[int, ...]:
    """Returns for each encoder stage 0 to depth - 1 the node whose map is brought down.

    >>> from unet_nas.unet.architecture import Architecture
    >>> from unet_nas.unet.graph import lower
    >>> graph = lower(Architecture(depth=1))
    >>> [graph.nodes[i].name for i in stage_ends(graph, 1)]
    ['encoder.stages.0.convs.1.act']
    """
    return tuple(_stage_end(graph, stage) for stage in range(depth))


def _stage_end(graph: Graph, stage: int) -> int:
    """The first node behind a stage reads its map; before it, whatever came last is that map."""
    last = 0
    for index, node in enumerate(graph.nodes[1:], start=1):
        words = node.name.split(".")
        if words[0] not in ("stem", "encoder"):
            return node.inputs[0]
        if words[0] == "encoder":
            at, is_down = int(words[2]), words[1] == "downs"
            if at > stage or (at == stage and is_down):
                return node.inputs[0]
        last = index
    return last

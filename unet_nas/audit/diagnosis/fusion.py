"""Row 8: what the network's own fusions cost, as they are, as a sum, and behind a 1x1 bottleneck.

Where skip and decoder have C channels each, the 3x3 convolution behind a concatenation has
9 * 2C * C = 18 C^2 weights in 2D, and 9 C^2 without the skip. Sources: Ronneberger et al.,
arXiv:1505.04597 (concatenation); Szegedy et al., arXiv:1409.4842, and He et al.,
arXiv:1512.03385 (1x1 bottlenecks).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, Subject, percent
from unet_nas.operators.builder import Graph
from unet_nas.operators.fields import Stages
from unet_nas.operators.fusion import Add, AnyFusion, Concat, ConcatBottleneck, NoFusion
from unet_nas.unet.architecture import per_stage
from unet_nas.unet.shapes import Size, trace_axis
from unet_nas.unet.skips import fusion_stage, skips, value_inputs
from unet_nas.units import format_count

#: name, and what it puts in the place of every fusion that takes a skip
ALTERNATIVES: tuple[tuple[str, AnyFusion], ...] = (
    ("concat", Concat()),
    ("bottleneck to 1/2", ConcatBottleneck()),
    ("bottleneck to 1/4", ConcatBottleneck(features=0.25)),
    ("add", Add()),
    ("none", NoFusion()),
)


@dataclass(frozen=True, slots=True)
class FusionCost:
    """What a fusion costs: its own nodes, and the convolutions that read the fused map.

    Args:
        stage: 0 = full resolution.
        fusion: one of the names of `ALTERNATIVES`, or ``as it is``.
        channels: of the fused map.
        parameters: trainable parameters.
        macs: multiply-accumulates for one sample; 0 where the network does not run.
    """

    stage: int
    fusion: str
    channels: int
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """The whole network with every fusion that takes a skip replaced."""

    fusion: str
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class FusionCosts:
    """Every fusion by itself, and the whole network, under every alternative."""

    fusions: tuple[FusionCost, ...]
    networks: tuple[NetworkCost, ...]


def analyse(subject: Subject) -> FusionCosts:
    """Returns the costs of a network's fusions; nothing where no fusion takes a skip."""
    if not subject.skips:
        return FusionCosts((), ())
    a = subject.architecture
    own = [per_stage(a, "fusion", stage)[0] for stage in range(a.depth)]
    graphs: list[tuple[str, Graph | None]] = [("as it is", subject.graph)]
    for name, fusion in ALTERNATIVES:
        members = [old if isinstance(old, NoFusion) else fusion for old in own]
        graphs.append((name, subject.changed(fusion=Stages(members))))
    behind = _readers_by_stage(subject.graph)
    fusions: list[FusionCost] = []
    networks: list[NetworkCost] = []
    for name, graph in graphs:
        if graph is None:
            continue
        macs = _macs(graph, subject.patch_size)
        networks.append(NetworkCost(name, graph.parameters(), sum(macs)))
        fusions += _fusions(graph, name, macs, behind)
    return FusionCosts(tuple(fusions), tuple(networks))


def _macs(graph: Graph, patch: Size | None) -> list[int]:
    """Returns the multiply-accumulates of every node; zeros where the network does not run."""
    traces = [trace_axis(graph, axis, n) for axis, n in enumerate(patch or ())]
    if patch is None or any(trace.misfits for trace in traces):
        return [0] * len(graph.nodes)
    positions = [
        prod(n or 0 for n in sizes) for sizes in zip(*(t.sizes for t in traces), strict=True)
    ]
    return [
        node.primitive.macs(positions[node.inputs[0]], positions[index])
        if node.primitive.is_conv
        else 0
        for index, node in enumerate(graph.nodes)
    ]


def _fusions(
    graph: Graph, name: str, macs: Sequence[int], behind: dict[int, set[str]]
) -> Iterator[FusionCost]:
    """Yields the cost of every fusion; the convolutions behind it are found by their names."""
    for stage, names in behind.items():
        readers = [i for i, node in enumerate(graph.nodes) if node.name in names]
        own = [i for i, node in enumerate(graph.nodes) if fusion_stage(node.name) == stage]
        members = {*own, *readers}
        parameters = sum(graph.nodes[i].primitive.parameters() for i in members)
        channels = graph.nodes[graph.nodes[readers[0]].inputs[0]].channels if readers else 0
        yield FusionCost(stage, name, channels, parameters, sum(macs[i] for i in members))


def _readers_by_stage(graph: Graph) -> dict[int, set[str]]:
    """Returns the names of the convolutions that read each fused map."""
    readers = graph.readers()
    return {
        skip.stage: {graph.nodes[i].name for i in _conv_readers(graph, readers, skip.join)}
        for skip in skips(graph)
    }


def _conv_readers(graph: Graph, readers: Sequence[Sequence[int]], index: int) -> set[int]:
    """Returns the convolutions that read a map, whatever passes it on unmixed in between."""
    found: set[int] = set()
    waiting = [index]
    while waiting:
        for reader in readers[waiting.pop()]:
            node = graph.nodes[reader]
            if node.primitive.is_conv:
                found.add(reader)
            elif len(value_inputs(node)) == 1:
                waiting.append(reader)
    return found


def findings(result: FusionCosts, subject: Subject) -> Iterator[Finding]:
    """Yields what the fusions cost, and what the cheaper ones would save."""
    by_name = {network.fusion: network for network in result.networks}
    own = by_name.get("as it is")
    if own is None or not own.macs:
        return
    fused = [cost for cost in result.fusions if cost.fusion == "as it is"]
    parameters = sum(cost.parameters for cost in fused)
    macs = sum(cost.macs for cost in fused)
    text = (
        f"the {len(fused)} fusions with the convolutions that read them take "
        f"{percent(parameters / own.parameters)} of the {format_count(own.parameters)} parameters "
        f"and {percent(macs / own.macs)} of the {format_count(own.macs)} MACs"
    )
    yield Finding("fusion_cost", "note", macs / own.macs, text, _savings(own, by_name))


def _savings(own: NetworkCost, by_name: dict[str, NetworkCost]) -> str:
    """Returns what cheaper fusions would save of the network's MACs."""
    options = {
        "bottleneck to 1/4": "fusion={type: concat_bottleneck, features: 0.25}",
        "add": "fusion=add",
    }
    parts = [
        f"{words} would save {percent(1 - other.macs / own.macs)} of the MACs"
        for name, words in options.items()
        if (other := by_name.get(name)) is not None and other.macs < own.macs
    ]
    return " and ".join(parts)


def figure(result: FusionCosts) -> Figure | None:
    """Returns the parameters and MACs of each fusion under every alternative."""
    names = [name for name, _ in ALTERNATIVES]
    if not result.fusions:
        return None
    panels = []
    for what, label in (("parameters", "parameters"), ("macs", "MACs of one sample")):
        series = []
        for name in names:
            rows = [row for row in result.fusions if row.fusion == name]
            places = tuple(float(row.stage) for row in rows)
            series.append(Series(name, places, tuple(float(getattr(row, what)) for row in rows)))
        panels.append(
            Panel(f"Fusion and its readers: {label}", "stage", label, tuple(series), kind="bars")
        )
    caption = "Each fusion with the convolutions that read the fused map."
    return Figure("fusion_cost", caption, tuple(panels))

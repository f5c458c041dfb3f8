"""Cuts a graph into the steps that a drawing shows: one box each, at its level of resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.unet.outline import part_of, words
from unet_nas.unet.shapes import Size

__all__ = ["Part", "Step", "steps"]

#: alignments of a skip, as they are called in a drawing
_VERBS = {p.CropTo: "crop", p.PadTo: "pad", p.ResizeTo: "resize"}

Kind = Literal["input", "conv", "conv1", "down", "up", "skip", "gate", "residual", "resize"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a box: some of its channels, and whether a skip brought them."""

    channels: int
    skip: bool


@dataclass(slots=True)
class Step:
    """Nodes that make one box together.

    Attributes:
        name: Of the part and what stands before a number in it: ``encoder.stages.0.convs.1``.
        level: Resolution: 0 is full, the bottleneck's is the depth.
        nodes: Indices in the graph, in order.
        kind: Of the arrow that leads to the box.
        what: The operators in words, for the legend.
        parts: What the box is made of, left to right.
        source: Node that the arrow comes from; -1 for the input.
        skip: Node that a skip connection comes from, where one joins.
        joint: What happens to the skip on its way: ``crop``, ``pad``, ``resize``, ``gate``.
        merged: It is an up-sampling whose map the next step takes in.
        aside: It is an output beside the main one.
        shortcut: Node that a residual connection comes from, where one ends here.
        extra: Further nodes that it reads (a head over several scales).
    """

    name: str
    level: int
    nodes: list[int]
    kind: Kind
    what: str
    parts: tuple[Part, ...] = ()
    source: int = -1
    skip: int | None = None
    joint: tuple[str, ...] = ()
    merged: bool = False
    aside: bool = False
    shortcut: int | None = None
    extra: tuple[int, ...] = field(default=())

    @property
    def last(self) -> int:
        """The node whose output the box shows."""
        return self.nodes[-1]


def steps(graph: Graph, sizes: Sequence[Size]) -> list[Step]:
    """Returns the steps of a network, in order of execution; the input is the first."""
    depth = 1 + max((_number(node.name, "encoder") for node in graph.nodes), default=-1)
    found: list[Step] = []
    names = _names(graph)
    for name, group in groupby(range(len(names)), key=names.__getitem__):
        if name.endswith(".shortcut"):  # drawn as a line to the end of its unit
            continue
        nodes = list(group)
        if found and found[-1].name.startswith(f"{name}."):  # the end of a unit or a stage
            found[-1].nodes += nodes
        else:
            found.append(_step(graph, name, nodes, depth))
    merge = _Fusions(graph, sizes)
    for index, step in enumerate(found):
        merge.see(step, found[index - 1] if index else None)
    for step in found:
        if not step.parts:
            step.parts = (Part(graph.nodes[step.last].channels, False),)
        step.shortcut = _shortcut(graph, step)
    return found


def _names(graph: Graph) -> list[str]:
    """Returns the step of every node; what follows a concatenation in a fusion is a step too."""
    names: list[str] = []
    joined = ""
    for node in graph.nodes:
        name = _step_name(node.name)
        if name == joined and (isinstance(node.primitive, p.Conv) or names[-1] != name):
            name = f"{name}.after"
        elif isinstance(node.primitive, p.Concat):
            joined = name
        names.append(name)
    return names


def _step_name(name: str) -> str:
    """Returns the step that a node belongs to.

    >>> _step_name("encoder.stages.0.units.1.convs.0.norm"), _step_name("decoder.ups.0.conv")
    ('encoder.stages.0.units.1.convs.0', 'decoder.ups.0')
    >>> _step_name("encoder.stages.0.units.1.add")
    'encoder.stages.0.units.1'
    """
    found = name.split(".")
    part = part_of(name)
    if part in ("head", "stem") or part.startswith("deep_heads"):
        return f"{part}.before" if "before" in found else part
    if "shortcut" in found:
        return ".".join(found[: found.index("shortcut") + 1])
    for word in ("convs", "units"):
        if word in found:
            return ".".join(found[: found.index(word) + 2])
    return part


def _number(name: str, word: str) -> int:
    parts = name.split(".")
    return int(parts[2]) if parts[0] == word and len(parts) > 2 else -1


def _level(name: str, depth: int) -> int:
    """Returns the resolution at which a step's result lies.

    >>> _level("encoder.downs.0", 2), _level("bottleneck.convs.0", 2), _level("head", 2)
    (1, 2, 0)
    """
    parts = name.split(".")
    if parts[0] == "bottleneck":
        return depth
    if parts[0] in ("encoder", "decoder"):
        return int(parts[2]) + (parts[1] == "downs")
    return int(parts[1]) if parts[0] == "deep_heads" else 0


def _step(graph: Graph, name: str, nodes: list[int], depth: int) -> Step:
    inside = set(nodes)
    outside = [i for n in nodes for i in graph.nodes[n].inputs if i not in inside]
    source = outside[0] if outside else -1
    primitives = [graph.nodes[n].primitive for n in nodes]
    kind, what = _kind(name, primitives), _in_words(primitives)
    step = Step(name, _level(name, depth), nodes, kind, what, source=source)
    step.aside = name.startswith("deep_heads")
    if name == "head":
        step.extra = tuple(dict.fromkeys(i for i in outside[1:] if i != source))
    return step


def _kind(name: str, primitives: Sequence[p.Primitive]) -> Kind:
    parts = name.split(".")
    if name == "input":
        return "input"
    if "downs" in parts or "ups" in parts:
        return "down" if "downs" in parts else "up"
    kernels = [q.kernel for q in primitives if isinstance(q, p.Conv)]
    pointwise = bool(kernels) and all(k == 1 for kernel in kernels for k in kernel)
    if not kernels:
        return "resize"
    return "conv1" if pointwise else "conv"


def _in_words(primitives: Sequence[p.Primitive]) -> str:
    """Returns the operators of a step in words, each once."""
    shown = [words(q) for q in primitives if not isinstance(q, p.Pad | p.Add)]
    return ", ".join(dict.fromkeys(shown))


# --- fusions ------------------------------------------------------------------------------


class _Fusions:
    """Says of each fusion what its box is made of, and where its skip comes from."""

    def __init__(self, graph: Graph, sizes: Sequence[Size]) -> None:
        self.graph, self.sizes = graph, sizes

    def see(self, step: Step, before: Step | None) -> None:
        """Completes a step that is a fusion, and the up-sampling before it."""
        if not step.name.startswith("decoder.fusions") or step.name.endswith(".after"):
            return
        nodes = self.graph.nodes
        inside = set(step.nodes)
        own = {"decoder", "deep_heads", "bottleneck"}
        outside = [i for n in step.nodes for i in nodes[n].inputs if i not in inside]
        main = before.last if before else -1
        skips = [i for i in outside if nodes[i].name.split(".")[0] not in own]
        step.skip = skips[0] if skips else None
        step.joint = self._joint(step)
        joins = [n for n in step.nodes if isinstance(nodes[n].primitive, p.Concat)]
        if joins:
            step.parts = tuple(
                Part(nodes[i].channels, self._origin(i, inside) == step.skip)
                for i in nodes[joins[-1]].inputs
            )
        step.kind, step.source = "skip", main
        if before is not None and before.name.startswith("decoder.ups"):
            before.merged = True

    def _origin(self, index: int, inside: set[int]) -> int:
        """Returns the node outside from which a map comes, along first inputs."""
        while index in inside:
            index = self.graph.nodes[index].inputs[0]
        return index

    def _joint(self, step: Step) -> tuple[str, ...]:
        """Returns what changes the skip or aligns the sizes, as far as it does something here."""
        said: dict[str, None] = {}
        primitives = [self.graph.nodes[index].primitive for index in step.nodes]
        for index, primitive in zip(step.nodes, primitives, strict=True):
            node = self.graph.nodes[index]
            before, after = self.sizes[node.inputs[0]], self.sizes[index]
            inside = "gating" in node.name or "coefficients" in node.name
            if isinstance(primitive, p.Gate):
                said["gate"] = None
            elif type(primitive) in _VERBS and before != after and not inside:
                verb = _VERBS[type(primitive)]
                said[f"{verb} {short_size(before)} → {short_size(after)}"] = None
        if isinstance(primitives[-1], p.Add):
            said["add"] = None
        return tuple(said)


def short_size(size: Size) -> str:
    """Writes a size as the paper does.

    >>> short_size((572, 572)), short_size((64, 64, 64)), short_size((300,)), short_size((64, 32))
    ('572²', '64³', '300', '64×32')
    """
    if len(size) > 1 and len(set(size)) == 1:
        return f"{size[0]}{'²' if len(size) == 2 else '³'}"
    return "×".join(map(str, size))


def _shortcut(graph: Graph, step: Step) -> int | None:
    """Returns the node at which a residual connection that ends in a step begins."""
    if ".units." not in step.name:
        return None
    for index in step.nodes:
        node = graph.nodes[index]
        if isinstance(node.primitive, p.Add):
            source = node.inputs[1]
            while "shortcut" in graph.nodes[source].name.split("."):
                source = graph.nodes[source].inputs[0]
            return source
    return None

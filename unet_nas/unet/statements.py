"""A graph as a person would write it down: chains of modules, and the lines that call them.

Modules that follow each other and are read by nothing else form a :class:`Chain`, which gets a
name; the lines of ``forward`` call the chains and join what they return. The line from input
to output is always called ``x``, what leaves it gets a name of its own (``skip_0``,
``shortcut``) and is deleted after its last use, so no map outlives the line that reads it last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph, Node
from unet_nas.unet.outline import part_of

#: parts of the network, and what they are called in an attribute
_ATTRIBUTES = {
    "encoder.stages": "encoder",
    "encoder.downs": "down",
    "decoder.ups": "up",
    "decoder.fusions": "fusion",
    "decoder.stages": "decoder",
    "deep_heads": "deep_head",
}

_ENCODER = ("input", "stem", "encoder")


@dataclass(frozen=True, slots=True)
class Statement:
    """One line of ``forward``, and what goes before and after it.

    Args:
        nodes: the node indices that it runs: a chain, or one node that reads several maps.
        attribute: the name of the chain; empty for a node that reads several maps.
        target: the variable that takes the result.
        arguments: the variables that it reads.
        saved: a variable that keeps the old value of the target; empty where it is not needed.
        deleted: variables that nothing reads any more.
    """

    nodes: range
    attribute: str
    target: str
    arguments: tuple[str, ...]
    saved: str = ""
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """All lines of ``forward`` in order, and the variables that it returns."""

    statements: tuple[Statement, ...]
    outputs: tuple[str, ...]


def program(graph: Graph) -> Program:
    """Returns the lines of ``forward`` for a graph."""
    return _Writer(graph).run()


def module_paths(graph: Graph) -> dict[str, str]:
    """Returns for every node with a module of its own the module's name in the lines.

    >>> from unet_nas.unet.architecture import Architecture
    >>> from unet_nas.unet.graph import lower
    >>> module_paths(lower(Architecture(depth=1)))["encoder.stages.0.convs.1.conv"]
    'encoder_0.3'
    """
    paths = {}
    for nodes, attribute in _named_chains(graph):
        for position, index in enumerate(nodes):
            inside = f".{position}" if len(nodes) > 1 else ""
            paths[graph.nodes[index].name] = attribute + inside
    return paths


# --- chains -------------------------------------------------------------------------------


def _ranges(graph: Graph) -> list[range]:
    """Cuts the nodes after the input into chains and nodes that read several maps."""
    readers = graph.readers()
    starts = [i for i in range(1, len(graph.nodes)) if not _continues(graph, readers, i)]
    return [range(a, b) for a, b in pairwise([*starts, len(graph.nodes)])]


def _continues(graph: Graph, readers: list[list[int]], index: int) -> bool:
    """Tells whether a node belongs to the chain of the node before it."""
    node, before = graph.nodes[index], graph.nodes[index - 1]
    return (
        node.inputs == (index - 1,)
        and len(before.inputs) == 1
        and readers[index - 1] == [index]
        and index - 1 not in graph.outputs
        and part_of(node.name) == part_of(before.name)
    )


def _named_chains(graph: Graph) -> list[tuple[range, str]]:
    """Returns every chain with its name."""
    chains = [nodes for nodes in _ranges(graph) if len(graph.nodes[nodes[0]].inputs) == 1]
    by_part: dict[str, list[range]] = {}
    for nodes in chains:
        by_part.setdefault(part_of(graph.nodes[nodes[0]].name), []).append(nodes)
    named = []
    for part, members in by_part.items():
        names = [[_local(graph.nodes[i], part) for i in nodes] for nodes in members]
        for i, nodes in enumerate(members):
            others = [name for j, chain in enumerate(names) if j != i for name in chain]
            local = _chain_name(names[i], others)
            named.append((nodes, "_".join([part_attribute(part), *_joined(local)])))
    return named


def _local(node: Node, part: str) -> tuple[str, ...]:
    """Returns the words of a node's name after that of its part."""
    return tuple(node.name.removeprefix(part).split(".")[1:])


def _chain_name(names: list[tuple[str, ...]], others: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the shortest scope that holds all of a chain and nothing of the others.

    Where there is none, the first scope of one of its nodes that holds nothing of the others,
    and else the name of its first node.
    """
    common = names[0][:-1]
    for name in names[1:]:
        same = [a == b for a, b in zip(common, name[:-1], strict=False)]
        common = common[: same.index(False) if False in same else len(same)]
    scopes = [common, *(name[:-1] for name in names)]
    for scope in scopes:
        for end in range(len(scope) + 1):
            if not any(other[:end] == scope[:end] for other in others):
                return scope[:end]
    return names[0]


def part_attribute(part: str) -> str:
    """Returns the attribute for a part as a whole.

    >>> part_attribute("encoder.stages.1"), part_attribute("bottleneck")
    ('encoder_1', 'bottleneck')
    """
    group, _, index = part.rpartition(".")
    return f"{_ATTRIBUTES[group]}_{index}" if group else part


def _joined(words: Sequence[str]) -> Iterable[str]:
    """Yields words for an attribute; a plural before a number becomes a singular."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        yield word.removesuffix("s") if following.isdecimal() else word


# --- lines --------------------------------------------------------------------------------


class _Writer:
    """Gives every map a variable, in order of execution."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.attributes = dict(_named_chains(graph))
        self.lines = _ranges(graph)
        self.inputs = [self._inputs(nodes[0]) for nodes in self.lines]
        self.reads: dict[int, list[int]] = {}
        for line, inputs in enumerate(self.inputs):
            for value in inputs:
                self.reads.setdefault(value, []).append(line)
        self.names = {0: "x"}

    def run(self) -> Program:
        """Returns all lines."""
        statements = tuple(self._statement(line) for line in range(len(self.lines)))
        return Program(statements, tuple(self.names[i] for i in self.graph.outputs))

    def _statement(self, line: int) -> Statement:
        nodes, inputs, names = self.lines[line], self.inputs[line], self.names
        value = nodes[-1]
        arguments = tuple(names[i] for i in inputs)
        dying = [i for i in dict.fromkeys(inputs) if not self._lives(i, line)]
        target = self._target(line, dying)
        saved = ""
        for other, name in list(names.items()):
            if name == target and other not in dying:
                saved = names[other] = self._fresh(self._saved_name(other, line))
        deleted = [name for name in (names.pop(i) for i in dying) if name != target]
        names[value] = target
        if not self._lives(value, line):
            deleted.append(names.pop(value))
        attribute = self.attributes.get(nodes, "")
        return Statement(nodes, attribute, target, arguments, saved, tuple(deleted))

    def _inputs(self, index: int) -> tuple[int, ...]:
        """Returns what a node reads.

        Of two maps that are aligned to each other, the second is aligned to the first *as it
        is then*, which has the same result and lets go of the first one's old value.
        """
        node, before = self.graph.nodes[index], self.graph.nodes[index - 1]
        mutual = isinstance(node.primitive, p.CropTo | p.PadTo)
        if mutual and before.primitive == node.primitive and before.inputs == node.inputs[::-1]:
            return (node.inputs[0], index - 1)
        return node.inputs

    def _lives(self, value: int, line: int) -> bool:
        """Tells whether a value is needed after a line."""
        return value in self.graph.outputs or any(r > line for r in self.reads.get(value, ()))

    @cached_property
    def _main(self) -> set[int]:
        """The nodes on the way from the input to the first output."""
        main, index = set(), self.graph.outputs[0]
        while index:
            main.add(index)
            index = self._main_input(index)
        return main

    def _main_input(self, index: int) -> int:
        """Returns the input on the main line: at a fusion the decoder's map, else the first."""
        node, part = self.graph.nodes[index], self._part(index)
        if part.startswith("decoder.fusions"):
            return max(node.inputs, key=lambda i: self._origin(i, part))
        return node.inputs[0]

    def _origin(self, index: int, part: str) -> int:
        while index and self._part(index) == part:
            index = self.graph.nodes[index].inputs[0]
        return index

    def _target(self, line: int, dying: list[int]) -> str:
        """Returns the variable for the result of a line."""
        nodes, first = self.lines[line], self.inputs[line][0]
        if nodes[-1] in self._main:
            return "x"
        role = self._role(nodes)
        if first in dying and self.names[first] != "x" and role != "coefficients":
            return self.names[first]
        return self._fresh(role)

    def _role(self, nodes: range) -> str:
        """Returns a name for what a line beside the main one gives: ``shortcut``, ``gating``."""
        part = self._part(nodes[0])
        if part.startswith("deep_heads"):
            return f"deep_{part.rpartition('.')[2]}"
        attribute = self.attributes.get(nodes)
        if attribute is None:
            return self.graph.nodes[nodes[-1]].name.rpartition(".")[2]
        local = attribute.removeprefix(part_attribute(part)).removeprefix("_")
        unit, _, inner = local.removeprefix("unit_").partition("_")
        return (inner if unit.isdecimal() else local) or f"from_{attribute}"

    def _part(self, index: int) -> str:
        return part_of(self.graph.nodes[index].name)

    def _saved_name(self, value: int, line: int) -> str:
        """Returns a name for a value of the main line that is read again later."""
        readers = [r for r in self.reads.get(value, ()) if r > line]
        if not readers:
            return "output"
        reader = self._part(self.lines[readers[0]][0])
        maker = self._part(value)
        group, _, index = maker.rpartition(".")
        if reader.startswith("decoder.fusions") and maker.startswith(_ENCODER):
            return f"skip_{reader.rpartition('.')[2]}"
        if reader.startswith(("decoder.fusions", "head", "deep_heads")):
            return f"map_{index}" if group.startswith("decoder") else "bottom"
        return "shortcut"

    def _fresh(self, name: str) -> str:
        """Returns a variable that is not in use: the name, or the name with a number."""
        used, number, found = set(self.names.values()), 1, name
        while found in used:
            number += 1
            found = f"{name}_{number}"
        return found

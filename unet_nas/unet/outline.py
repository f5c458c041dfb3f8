"""The outline of a network: its nodes in groups that a person can read, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph, Node
from unet_nas.unet.shapes import Size


@dataclass(frozen=True, slots=True)
class Row:
    """One part of a network.

    Args:
        name: as in ``encoder.stages.1``.
        what: its operators in words, in order, repeated ones counted.
        channels: of its output.
        size: spatial size of its output, or None without a patch size.
        parameters: trainable parameters.
    """

    name: str
    what: str
    channels: int
    size: Size | None
    parameters: int


def outline(graph: Graph, sizes: Sequence[Size] | None = None) -> list[Row]:
    """Returns one row per part, in order of execution."""
    rows = []
    numbered = enumerate(graph.nodes)
    for name, group in groupby(numbered, key=lambda pair: part_of(pair[1].name)):
        members = list(group)
        last, node = members[-1]
        size = None if sizes is None else sizes[last]
        parameters = sum(member.primitive.parameters() for _, member in members)
        what = _in_words([member for _, member in members])
        rows.append(Row(name, what, node.channels, size, parameters))
    return rows


def part_of(name: str) -> str:
    """Returns the part that a node belongs to.

    >>> part_of("encoder.stages.1.convs.0.conv"), part_of("head.conv"), part_of("input")
    ('encoder.stages.1', 'head', 'input')
    """
    words = name.split(".")
    return ".".join(words[: {"encoder": 3, "decoder": 3, "deep_heads": 2}.get(words[0], 1)])


def _in_words(nodes: Sequence[Node]) -> str:
    """Returns the operators in order; a unit that repeats is written once with its count."""
    units = [
        " · ".join(words(node.primitive) for node in group)
        for _, group in groupby(nodes, key=_unit)
    ]
    counted = [(text, len(list(group))) for text, group in groupby(units)]
    return ", ".join(text if n == 1 else f"{n} × ({text})" for text, n in counted)


def _unit(node: Node) -> str:
    """Returns what stands before a number in a name and the number: ``convs.0``."""
    found = node.name.split(".")
    for index, word in enumerate(found):
        if word in ("convs", "units") and index + 1 < len(found):
            return ".".join(found[: index + 2])
    return ""


def words(primitive: p.Primitive) -> str:
    """Returns a primitive in a few words, with the options that differ from the usual.

    >>> words(p.Conv(1, 8, (3, 3), (2, 2), (1, 1), (1, 1), 1, True))
    'conv 3x3 stride 2x2'
    """
    kind = _WORDS.get(type(primitive).__name__, type(primitive).__name__.lower())
    if isinstance(primitive, p.Activation):
        kind = primitive.kind.lower()
    parts = [kind]
    for field in ("kernel", "factor"):
        value = getattr(primitive, field, None)
        parts += [by(value)] if value else []
    for field in ("stride", "dilation"):
        value = getattr(primitive, field, None)
        same = value == getattr(primitive, "kernel", None)
        if value and any(n != 1 for n in value) and not same:
            parts.append(f"{field} {by(value)}")
    groups = getattr(primitive, "groups", 1)
    if groups != 1:
        parts.append(f"groups {groups}")
    if isinstance(primitive, p.Interpolate | p.ResizeTo | p.PadTo):
        parts.insert(1, primitive.mode)
    return " ".join(parts)


_WORDS = {
    "ConvTranspose": "transposed conv",
    "BatchNorm": "batch norm",
    "InstanceNorm": "instance norm",
    "GroupNorm": "group norm",
    "MaxPool": "max pool",
    "AvgPool": "avg pool",
    "GlobalAvgPool": "global mean",
    "PixelShuffle": "pixel shuffle",
    "PixelUnshuffle": "pixel unshuffle",
    "ResizeTo": "resize",
    "CropTo": "crop",
    "PadTo": "pad",
}


def by(values: Sequence[int]) -> str:
    """Returns numbers with ``x`` between: ``3x3``."""
    return "x".join(map(str, values))

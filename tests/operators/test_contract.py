"""The contract that every operator and primitive keeps, in one test.

Each operator of the schema is lowered inside a small network, with its defaults and with
options drawn from its own fields, and every node that comes of it is run alone, on the ``meta``
device. A new operator or primitive is covered as soon as it stands in its union.
"""

import inspect
from collections.abc import Iterator
from functools import cache
from math import prod
from random import Random

import pytest
import torch
from pydantic import BaseModel
from torch.utils.flop_counter import FlopCounterMode

from tests.support.draw import draw_options, repaired, verdict
from unet_nas.operators import primitives as p
from unet_nas.operators.block import Block, SqueezeExcitation
from unet_nas.operators.builder import Graph
from unet_nas.operators.downsample import Downsample
from unet_nas.operators.fusion import Alignment, Fusion
from unet_nas.operators.head import Head, Stem
from unet_nas.operators.unit import Activation, Dropout, Norm, members
from unet_nas.operators.upsample import Upsample
from unet_nas.unet.build import make_module
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import trace_axis

#: the field of an architecture that takes each union
FIELDS = {
    "block": Block,
    "down": Downsample,
    "up": Upsample,
    "fusion": Fusion,
    "align": Alignment,
    "head": Head,
    "norm": Norm,
    "activation": Activation,
    "dropout": Dropout,
    "stem": Stem,
    "squeeze_excitation": SqueezeExcitation,
}
OPERATORS = [(field, member) for field, union in FIELDS.items() for member in members(union)]
PRIMITIVES = [
    kind
    for _, kind in inspect.getmembers(p, inspect.isclass)
    if issubclass(kind, p.Primitive) and kind not in (p.Primitive, p.Input)
]
DRAWS = 10
SIZES = {1: [(16,), (21,)], 2: [(16, 12), (13, 16), (21, 9)], 3: [(8, 12, 8), (9, 8, 11)]}
BATCH = 2

#: channels and spatial size of each input of a node
Entries = tuple[tuple[int, tuple[int, ...]], ...]


def graphs_of(field: str, operator: type[BaseModel], dims: int) -> Iterator[Graph]:
    """Yields small networks with an operator: by default, and with drawn options."""
    rng = Random(f"{operator.__name__}-{dims}")
    for draw in range(DRAWS):
        written = {"type": operator.model_fields["type"].default} if has_type(operator) else {}
        options = draw_options(rng, operator, dims) if draw else written
        tree = {"spatial_dims": dims, "in_channels": 2, "depth": 2, "width": 4, field: options}
        if field == "norm":
            tree["width"] = 8  # the default number of groups divides it
        if options.get("type") == "none" and field == "head":
            tree["classes"] = tree["width"]
        architecture, _ = verdict(repaired(tree) if draw else tree)
        if architecture is not None:
            yield lower(architecture)


def has_type(operator: type[BaseModel]) -> bool:
    return "type" in operator.model_fields


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("field", "operator"), OPERATORS, ids=lambda v: getattr(v, "__name__", v))
def test_every_node_of_every_operator_is_what_its_module_is(field, operator, dims):
    graphs = list(graphs_of(field, operator, dims))
    assert len(graphs) >= DRAWS // 2
    for graph in graphs:
        for size in SIZES[dims]:
            contract_of_nodes(graph, size)


def contract_of_nodes(graph: Graph, size: tuple[int, ...]) -> None:
    """Asserts the contract of every node, each alone, so that none hides behind another."""
    traces = [trace_axis(graph, axis, n) for axis, n in enumerate(size)]
    refused = {index for trace in traces for index, _ in trace.misfits}
    sizes = list(zip(*(trace.sizes for trace in traces), strict=True))
    for index, node in enumerate(graph.nodes[1:], start=1):
        entries = tuple((graph.nodes[i].channels, sizes[i]) for i in node.inputs)
        if any(None in spatial for _, spatial in entries):
            continue
        if index in refused:
            refuses(node.primitive, entries)
        else:
            keeps_contract(node.primitive, entries, (node.channels, *sizes[index]))


@cache  # the same convolution stands in many networks
def keeps_contract(primitive: p.Primitive, entries: Entries, expected: tuple[int, ...]) -> None:
    with torch.device("meta"):
        module = make_module(primitive, len(expected) - 1)
        maps = [torch.empty(BATCH, channels, *spatial) for channels, spatial in entries]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = module(*maps)
    assert tuple(out.shape) == (BATCH, *expected)
    assert sum(w.numel() for w in module.parameters()) == primitive.parameters()
    assert sum(b.numel() for b in module.buffers()) == primitive.buffers()
    macs = primitive.macs(prod(entries[0][1]), prod(expected[1:]))
    assert counter.get_total_flops() == 2 * BATCH * macs


@cache
def refuses(primitive: p.Primitive, entries: Entries) -> None:
    """Here the CPU has the last word: ``meta`` does not make every check."""
    module = make_module(primitive, len(entries[0][1]))
    maps = [torch.zeros(BATCH, channels, *spatial) for channels, spatial in entries]
    with pytest.raises((RuntimeError, ValueError)):
        out = module(*maps)
        if out.numel() == 0:  # transposed convolution gives an empty map
            raise ValueError("an empty map")


def test_every_primitive_is_reached():
    reached = {
        type(node.primitive)
        for field, operator in OPERATORS
        for dims in (1, 2, 3)
        for graph in graphs_of(field, operator, dims)
        for node in graph.nodes
    }
    padded = {"spatial_dims": 1, "padding_mode": "reflect", "depth": 1, "width": 2}
    reached |= {type(node.primitive) for node in lower(verdict(padded)[0]).nodes}
    assert {kind.__name__ for kind in set(PRIMITIVES) - reached} == set()

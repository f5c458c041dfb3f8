"""The parts of a network that go down or up, each as a small graph of its own.

Norms, activations and dropout are left out: what is looked at is how positions are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from unet_nas.audit.diagnosis.subject import runs
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph, Node
from unet_nas.unet.build import UNet, build
from unet_nas.unet.outline import words

_SAMPLING = (
    p.Conv
    | p.ConvTranspose
    | p.MaxPool
    | p.AvgPool
    | p.Blur
    | p.Pad
    | p.PixelShuffle
    | p.PixelUnshuffle
    | p.Interpolate
)


@dataclass(frozen=True, slots=True)
class Sampler:
    """A way down or up.

    Args:
        name: as in ``encoder.downs.0``.
        graph: from the map that it reads to the map that it gives.
        factor: per axis by how much it goes down or up.
    """

    name: str
    graph: Graph
    factor: tuple[int, ...]

    def module(self, seed: int) -> UNet:
        """Returns its module, newly initialised."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(self.graph).eval()

    @property
    def axis(self) -> int:
        """The first axis along which it does something."""
        return next(axis for axis, factor in enumerate(self.factor) if factor > 1)


def downs(graph: Graph, depth: int) -> list[Sampler]:
    """Returns the down-samplings of the encoder, those that are alike only once.

    Where a stage's first convolution carries the stride, it is that convolution.
    """
    chains = [
        _chain(graph, f"encoder.downs.{stage}.") or _strided(graph, stage, depth)
        for stage in range(depth)
    ]
    return _samplers("encoder.downs", graph, chains)


def ups(graph: Graph, depth: int) -> list[Sampler]:
    """Returns the up-samplings of the decoder, those that are alike only once."""
    chains = [_chain(graph, f"decoder.ups.{stage}.") for stage in range(depth)]
    return _samplers("decoder.ups", graph, chains)


def _samplers(part: str, graph: Graph, chains: Sequence[Sequence[int]]) -> list[Sampler]:
    """Returns chains as samplers, one for all stages whose chains differ in channels at most."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for stage, chain in enumerate(chains):
        nodes = [graph.nodes[index] for index in chain]
        kind = tuple((words(node.primitive), node.init) for node in nodes)
        alike.setdefault(kind, []).append(stage)
    found = []
    for stages in alike.values():
        name = f"{part}.{' and '.join(runs(stages))}"
        sampler = _sampler(name, graph, chains[stages[0]])
        if any(n > 1 for n in sampler.factor):
            found.append(sampler)
    return found


def _chain(graph: Graph, prefix: str) -> list[int]:
    """Returns the nodes of a part that take positions, in order."""
    return [
        index
        for index, node in enumerate(graph.nodes)
        if node.name.startswith(prefix) and isinstance(node.primitive, _SAMPLING)
    ]


def _strided(graph: Graph, stage: int, depth: int) -> list[int]:
    """Returns the convolution of the next stage that carries the stride, with its padding."""
    part = "bottleneck." if stage + 1 == depth else f"encoder.stages.{stage + 1}."
    for index in _chain(graph, part):
        node = graph.nodes[index]
        strided = isinstance(node.primitive, p.Conv) and any(n > 1 for n in node.primitive.stride)
        if strided and ".shortcut." not in node.name:
            before = node.inputs[0]
            padded = graph.nodes[before].name == f"{node.name}_pad"
            return [before, index] if padded else [index]
    return []


def _sampler(name: str, graph: Graph, chain: Sequence[int]) -> Sampler:
    """Returns a chain of nodes as a graph of its own."""
    channels = graph.nodes[graph.nodes[chain[0]].inputs[0]].channels if chain else 1
    nodes = [Node("input", p.Input(channels), (), channels)]
    for place, index in enumerate(chain):
        node = graph.nodes[index]
        nodes.append(node._replace(name=f"steps.{place}", inputs=(place,)))
    whole = Graph(graph.dims, tuple(nodes), (len(nodes) - 1,))
    factor = [1] * graph.dims
    for axes in _factors(nodes):
        factor = [a * b for a, b in zip(factor, axes, strict=True)]
    return Sampler(name, whole, tuple(factor))


def _factors(nodes: Sequence[Node]) -> Iterator[tuple[int, ...]]:
    """Yields by how much each node that is not a plain convolution changes the resolution."""
    for node in nodes:
        match node.primitive:
            case p.Conv() | p.MaxPool() | p.AvgPool() | p.Blur() | p.ConvTranspose():
                yield node.primitive.stride
            case p.Interpolate() | p.PixelShuffle() | p.PixelUnshuffle():
                yield node.primitive.factor

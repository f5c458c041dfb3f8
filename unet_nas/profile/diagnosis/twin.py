"""The network that is experimented on: the same one, made cheap, and its skips taken out.

Experiments run on a *twin*: the architecture itself where it is small, else with its widths cut,
on a small patch. What is measured (fields, paths, sampling) hangs on the topology; what was
changed is reported with every result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from unet_nas.audit.cost import forward_macs
from unet_nas.audit.receptive_field import Field, receptive_fields
from unet_nas.operators.builder import Graph
from unet_nas.unet.architecture import PARTS, Architecture
from unet_nas.unet.build import UNet, build
from unet_nas.unet.graph import lower_with_faults
from unet_nas.unet.outline import by
from unet_nas.unet.shapes import AxisSizes, Size, shapes, trace_axis
from unet_nas.unet.skips import Edge

#: fewest features that stage 0 is narrowed to
_NARROWEST = 8
#: widths at which features are cut where that is not enough
_WIDTHS = (64, 32, 16, 8, 4)
#: positions of a patch from which on a batch has one sample
_LARGE = 16_384
#: patches that are tried until the output is large enough
_TRIES = 64


@dataclass(frozen=True)
class Twin:
    """A network for experiments, and the conditions of what is measured on it.

    Args:
        graph: of the twin.
        sizes: of all nodes.
        changes: what was changed to make it cheap, in words.
    """

    graph: Graph
    sizes: tuple[Size, ...]
    changes: tuple[str, ...]

    @property
    def batch_size(self) -> int:
        """Samples of a batch: two, or one where the patch is large."""
        return _batch_size(self.patch_size)

    @property
    def patch_size(self) -> Size:
        """Spatial size of the input."""
        return self.sizes[0]

    @cached_property
    def fields(self) -> tuple[tuple[Field | None, ...], ...]:
        """Receptive field of every node, per axis."""
        axes = range(self.graph.dims)
        return tuple(tuple(receptive_fields(self.graph, axis, self.sizes)) for axis in axes)

    def scales(self, index: int) -> tuple[float, ...]:
        """Returns per axis how many positions of the input one position of a node stands for."""
        found = [axis[index] for axis in self.fields]
        return tuple(1.0 if field is None else field.stride / field.phases for field in found)

    @property
    def conditions(self) -> str:
        """In words, for captions."""
        return ", ".join([f"on {by(self.patch_size)}", *self.changes])

    def module(self, seed: int) -> UNet:
        """Returns the module, newly initialised, in training mode without dropout."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = build(self.graph)
        module.train()
        for leaf in module.modules():
            if isinstance(leaf, nn.modules.dropout._DropoutNd):
                leaf.eval()
        return module


def _batch_size(patch_size: Sequence[int]) -> int:
    return 1 if prod(patch_size) > _LARGE else 2


def twin_on(architecture: Architecture, patch_size: Sequence[int], *, macs: int) -> Twin | None:
    """Returns the widest twin that stays below a number of MACs per sample, or the narrowest.

    Args:
        architecture: the network.
        patch_size: of the input.
        macs: multiply-accumulates of one forward pass of one sample.

    Returns:
        None where the network does not train on the patch.
    """
    found = None
    for changes, graph in _narrower(architecture):
        if not _trains(graph, patch_size):
            continue
        sizes = shapes(graph, patch_size)
        found = Twin(graph, sizes, changes)
        if forward_macs(graph, sizes) <= macs:
            break
    return found


def small_twin(architecture: Architecture, *, output: int, macs: int) -> Twin | None:
    """Returns a cheap twin on the smallest patch with an output of ``output`` positions per axis.

    Where convolutions without padding would need a patch of many times the output, they get
    padding; the twin says so.

    Returns:
        None where no such patch is found.
    """
    patch = _small_patch(architecture, output)
    if patch is not None and max(patch) <= 2 * output:
        return twin_on(architecture, patch, macs=macs)
    padded = _padded(architecture)
    small = _small_patch(padded, output)
    if small is not None and (patch is None or prod(small) < prod(patch)):
        twin = twin_on(padded, small, macs=macs)
        if twin is not None:
            return replace(twin, changes=(*twin.changes, "padding same"))
    return None if patch is None else twin_on(architecture, patch, macs=macs)


def _small_patch(architecture: Architecture, output: int) -> Size | None:
    """Returns the smallest patch whose output is large enough and on which norms can train."""
    graph, faults = lower_with_faults(architecture)
    for wanted in () if faults else (output, 2 * output, 4 * output, 8 * output):
        size = [_size(AxisSizes(graph, axis), graph, wanted) for axis in range(graph.dims)]
        known = tuple(n for n in size if n is not None)
        if len(known) == graph.dims and _trains(graph, known):
            return known
    return None


def _size(axis: AxisSizes, graph: Graph, output: int) -> int | None:
    """Returns the smallest fitting size from ``output`` on that gives so many positions."""
    n: int | None = output if axis.valid(output) else axis.nearest(output)[1]
    for _ in range(_TRIES):
        if n is None:
            return None
        if (trace_axis(graph, axis.axis, n).sizes[graph.outputs[0]] or 0) >= output:
            return n
        n = axis.nearest(n)[1]
    return n


def _padded(architecture: Architecture) -> Architecture:
    """Returns the network with same padding in all its stages."""
    sections: dict[str, Any] = {
        part: section.model_copy(update={"padding": "same"})
        for part in PARTS
        if "padding" in (section := getattr(architecture, part)).model_fields_set
    }
    return architecture.model_copy(update={"padding": "same", **sections})


def _narrower(architecture: Architecture) -> Iterator[tuple[tuple[str, ...], Graph]]:
    """Yields the network as it is, with its widths divided, and with its widths cut."""
    first, widest = architecture.features_per_stage()[0], max(architecture.features_per_stage())
    ways: list[tuple[tuple[str, ...], Callable[[int], int]]] = [((), _unchanged)]
    for divisor in (2, 4, 8, 16, 32, 64):
        if first // divisor >= _NARROWEST:
            ways.append(((f"widths divided by {divisor}",), partial(_divided, divisor)))
    for most in _WIDTHS:
        if most < widest:
            ways.append(((f"widths cut at {most}",), partial(min, most)))
    for changes, narrow in ways:
        graph = _with_widths(architecture, narrow)
        if graph is not None:
            yield changes, graph


def _unchanged(width: int) -> int:
    return width


def _divided(divisor: int, width: int) -> int:
    return max(1, width // divisor)


def _with_widths(architecture: Architecture, narrow: Callable[[int], int]) -> Graph | None:
    """Returns the graph with other features; None where they break a rule."""
    decoder = {"features": tuple(map(narrow, architecture.decoder_features()))}
    update: dict[str, Any] = {
        "features": tuple(map(narrow, architecture.features_per_stage())),
        "decoder": architecture.decoder.model_copy(update=decoder),
    }
    graph, faults = lower_with_faults(architecture.model_copy(update=update))
    return None if faults else graph


def _trains(graph: Graph, patch_size: Sequence[int]) -> bool:
    """Tells whether sizes fit and every norm has more than one value in training."""
    traces = [trace_axis(graph, axis, n) for axis, n in enumerate(patch_size)]
    if any(trace.misfits for trace in traces):
        return False
    sizes = zip(*(trace.sizes for trace in traces), strict=True)
    return not any(
        node.primitive.single_value(
            _batch_size(patch_size), node.channels, prod(n or 0 for n in size), True
        )
        for node, size in zip(graph.nodes, sizes, strict=True)
    )


# --- without skips ------------------------------------------------------------------------


def silenced(
    module: nn.Module, graph: Graph, edges: Iterable[Edge]
) -> AbstractContextManager[None]:
    """Puts zeros in the place of what some edges of the graph carry, inside the ``with``.

    The network keeps its weights and its sizes; nothing else reaches the reader over the edge.
    """
    return _replaced(module, graph, edges, torch.zeros_like)


def one_way(module: nn.Module, graph: Graph, edges: Iterable[Edge]) -> AbstractContextManager[None]:
    """Lets no gradient back over some edges of the graph; forward nothing changes."""
    return _replaced(module, graph, edges, torch.Tensor.detach)


@contextmanager
def _replaced(
    module: nn.Module, graph: Graph, edges: Iterable[Edge], by: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    handles = []
    for reader, source in edges:
        node = graph.nodes[reader]
        places = {i for i, read in enumerate(node.inputs) if read == source}
        leaf = module.get_submodule(node.name)
        handles.append(leaf.register_forward_pre_hook(_at(places, by)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _at(
    places: set[int], by: Callable[[Tensor], Tensor]
) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def hook(_module: nn.Module, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(by(x) if i in places else x for i, x in enumerate(maps))

    return hook


def outputs_of(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Returns all outputs of a network, the main one first."""
    made = module(x)
    return made if isinstance(made, list) else [made]

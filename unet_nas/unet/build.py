"""From a graph to an ``nn.Module`` with readable names that holds no map longer than needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.unet import layers
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower
from unet_nas.unet.stages import checkpoint_units, inplace_nodes


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a leaf module: ``slots[slot] = module(*slots[inputs])``, then free slots."""

    slot: int
    path: tuple[str, ...]
    inputs: tuple[int, ...]
    freed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps that are run together: recomputed in backward where ``recompute`` is set.

    ``entries`` are the slots that it reads from outside, ``exits`` those read after it;
    ``plain`` are the steps that free what enters, for where nothing is recomputed.
    """

    steps: tuple[Step, ...]
    recompute: bool
    entries: tuple[int, ...] = ()
    exits: tuple[int, ...] = ()
    freed: tuple[int, ...] = ()
    plain: tuple[Step, ...] = ()


class UNet(nn.Module):
    """A U-Net that runs its graph.

    The modules lie in a tree after the names of the nodes
    (``encoder.stages.1.convs.0.conv``); ``forward`` calls the leaves one after the other and
    lets go of each map right after its last reader.

    Args:
        graph: what is built.
        checkpoint: units whose maps are recomputed in backward, as returned by
            :func:`unet_nas.unet.stages.checkpoint_units`.
        inplace: activations overwrite their input where nothing else needs it.
    """

    def __init__(
        self, graph: Graph, *, checkpoint: Sequence[str] = (), inplace: bool = False
    ) -> None:
        super().__init__()
        self.graph = graph
        self.dims = graph.dims
        self.in_channels = graph.nodes[0].channels
        self.outputs = graph.outputs
        recomputed = checkpoint_units(graph, checkpoint)
        overwriting = inplace_nodes(graph, recomputed) if inplace else frozenset()
        for index, node in enumerate(graph.nodes[1:], start=1):
            module = make_module(node.primitive, graph.dims, inplace=index in overwriting)
            _put(self, node.name.split("."), module)
            _initialise(module, node.init)
        self.segments = _segments(graph, recomputed)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Returns the logits.

        Args:
            x: input of shape ``(batch, in_channels, *spatial)``.

        Returns:
            Logits of shape ``(batch, classes, *spatial)``; with deep supervision a list,
            full resolution first.

        Raises:
            ValueError: if two maps that are fused differ in size.
        """
        slots: dict[int, Tensor] = {0: x}
        del x
        for segment in self.segments:
            if segment.recompute and self.training and torch.is_grad_enabled():
                self._run_checkpointed(segment, slots)
            else:
                self._run(segment.plain or segment.steps, slots)
        outputs = [slots[index] for index in self.outputs]
        return outputs[0] if len(outputs) == 1 else outputs

    def _run(self, steps: tuple[Step, ...], slots: dict[int, Tensor]) -> None:
        for step in steps:
            module: nn.Module = self
            for name in step.path:
                module = module._modules[name]  # type: ignore[assignment]
            slots[step.slot] = module(*[slots[i] for i in step.inputs])
            for i in step.freed:
                del slots[i]

    def _run_checkpointed(self, segment: Segment, slots: dict[int, Tensor]) -> None:
        """Runs a segment and keeps only what enters it; backward runs it again."""
        first = True

        def run(*entries: Tensor) -> tuple[Tensor, ...]:
            nonlocal first
            inner = dict(zip(segment.entries, entries, strict=True))
            if first or torch.compiler.is_compiling():
                first = False
                self._run(segment.steps, inner)
            else:
                with _FrozenStatistics(self, segment.steps):
                    self._run(segment.steps, inner)
            return tuple(inner[i] for i in segment.exits)

        entries = [slots[i] for i in segment.entries]
        for i in segment.freed:
            del slots[i]
        exits = torch_checkpoint(run, *entries, use_reentrant=False)
        slots.update(zip(segment.exits, exits, strict=True))


class _FrozenStatistics:
    """Keeps batch norms' running statistics as they are while a segment is recomputed."""

    def __init__(self, root: nn.Module, steps: tuple[Step, ...]) -> None:
        modules = [root.get_submodule(".".join(step.path)) for step in steps]
        self._norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._momenta = [norm.momentum for norm in self._norms]

    def __enter__(self) -> None:
        for norm in self._norms:
            norm.momentum = 0.0

    def __exit__(self, *exc: object) -> None:
        for norm, momentum in zip(self._norms, self._momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1


def build(
    architecture: Architecture | Graph,
    *,
    checkpoint: Sequence[str] = (),
    inplace: bool = False,
) -> UNet:
    """Builds the module of an architecture (or of its graph).

    Args:
        architecture: what to build.
        checkpoint: units recomputed in backward: ``encoder.stages.0``, ``bottleneck``,
            ``decoder.stages.0``; a bare ``0`` names all units of that stage.
        inplace: activations overwrite their input where that is safe.

    Raises:
        InputError: if a unit of ``checkpoint`` does not exist.
    """
    graph = architecture if isinstance(architecture, Graph) else lower(architecture)
    return UNet(graph, checkpoint=checkpoint, inplace=inplace)


def make_module(primitive: p.Primitive, dims: int, *, inplace: bool = False) -> nn.Module:
    """Returns the module that a primitive stands for, with PyTorch's own initialisation."""
    call = primitive.call(dims)
    library, name = call.target.split(".")
    arguments = dict(call.arguments)
    if inplace:
        arguments["inplace"] = True
    made: nn.Module = getattr(nn if library == "nn" else layers, name)(**arguments)
    return made


def _put(root: nn.Module, path: list[str], module: nn.Module) -> None:
    """Adds ``module`` under ``path``, with plain modules as its ancestors."""
    parent = root
    for name in path[:-1]:
        if name not in parent._modules:
            parent.add_module(name, nn.Module())
        parent = parent.get_submodule(name)
    parent.add_module(path[-1], module)


def _initialise(module: nn.Module, init: str | None) -> None:
    """He initialisation for convolutions; ICNR where the node asks for it.

    Source: He et al., arXiv:1502.01852; Aitken et al., arXiv:1707.02937.
    """
    if not isinstance(module, nn.modules.conv._ConvNd):
        return
    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    if init is not None:
        copies = int(init.removeprefix("icnr:"))
        with torch.no_grad():
            module.weight.copy_(module.weight[::copies].repeat_interleave(copies, dim=0))


def _segments(graph: Graph, units: Sequence[range]) -> tuple[Segment, ...]:
    """Cuts the program into plain stretches and recomputed units."""
    readers = graph.readers()
    last = [max(seen, default=index) for index, seen in enumerate(readers)]
    for index in graph.outputs:
        last[index] = len(graph.nodes)
    steps = [
        Step(
            index,
            tuple(node.name.split(".")),
            node.inputs,
            tuple(i for i in dict.fromkeys(node.inputs) if last[i] == index),
        )
        for index, node in enumerate(graph.nodes)
    ]
    segments, start = [], 1
    for unit in units:
        if unit.start > start:
            segments.append(Segment(tuple(steps[start : unit.start]), recompute=False))
        segments.append(_recomputed(graph, unit, steps, last))
        start = unit.stop
    if start < len(steps):
        segments.append(Segment(tuple(steps[start:]), recompute=False))
    return tuple(segments)


def _recomputed(graph: Graph, unit: range, steps: list[Step], last: list[int]) -> Segment:
    inside = [steps[i] for i in unit]
    read = dict.fromkeys(i for step in inside for i in step.inputs if i not in unit)
    exits = tuple(i for i in unit if last[i] >= unit.stop)
    # what enters stays alive for the recomputation: it must not be freed inside
    kept = [Step(s.slot, s.path, s.inputs, tuple(i for i in s.freed if i in unit)) for s in inside]
    freed = tuple(i for i in read if last[i] < unit.stop)
    return Segment(tuple(kept), True, tuple(read), exits, freed, tuple(inside))

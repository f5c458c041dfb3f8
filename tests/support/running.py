"""Runs a module leaf by leaf and says what each leaf gave, and where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from unet_nas.operators.builder import Graph
from unet_nas.unet.shapes import Size, trace_axis


class _EmptyMapError(Exception):
    pass


@dataclass
class Run:
    """What happened: shapes by name of leaf, in order, and the leaf that failed (or None)."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    failed: str | None = None
    error: str = ""
    output: Tensor | list[Tensor] | None = None


def run(module: nn.Module, x: Tensor) -> Run:
    """Runs ``module`` on ``x``; a leaf that raises or gives an empty map has failed."""
    result, started, hooks = Run(), [], []

    def before(name: str):
        return lambda *_: started.append(name)

    def after(name: str):
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            if output.numel() == 0:
                raise _EmptyMapError(f"a map of {tuple(output.shape)}")
            result.shapes[name] = tuple(output.shape)

        return hook

    for name, leaf in module.named_modules():
        if not leaf._modules:
            hooks.append(leaf.register_forward_pre_hook(before(name)))
            hooks.append(leaf.register_forward_hook(after(name)))
    try:
        result.output = module(x)
    except (RuntimeError, ValueError, _EmptyMapError) as error:
        result.failed, result.error = started[-1], str(error)
    finally:
        for hook in hooks:
            hook.remove()
    return result


@dataclass
class Expected:
    """What the static side says: shapes by name up to the first failing node."""

    shapes: dict[str, tuple[int, ...]]
    failed: str | None


def expected(graph: Graph, size: Size, batch: int, training: bool) -> Expected:
    """Returns what the rules of the primitives say about a run."""
    traces = [trace_axis(graph, axis, n) for axis, n in enumerate(size)]
    misfits = [index for trace in traces for index, _ in trace.misfits]
    stop = min(misfits, default=len(graph.nodes))
    shapes: dict[str, tuple[int, ...]] = {}
    for index, node in enumerate(graph.nodes[1:stop], start=1):
        spatial = tuple(trace.sizes[index] for trace in traces)
        if node.primitive.single_value(batch, node.channels, prod(spatial), training):
            return Expected(shapes, node.name)
        shapes[node.name] = (batch, node.channels, *spatial)
    return Expected(shapes, graph.nodes[stop].name if misfits else None)


def random_input(graph: Graph, size: Sequence[int], batch: int) -> Tensor:
    """Returns a normally distributed input for a graph."""
    return torch.randn(batch, graph.nodes[0].channels, *size)

"""The graph, and the builder with which operators write it.

A :class:`Graph` is an ordered list of named primitives; node 0 is the input, and every node
reads only nodes before it. It holds channels and edges and no sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

from unet_nas.errors import Fault, Path
from unet_nas.operators.primitives import (
    Axes,
    Conv,
    Input,
    Pad,
    PadMode,
    Primitive,
)


class Node(NamedTuple):
    """One primitive in its place (a named tuple: a third of the time of a frozen dataclass).

    Args:
        name: where its module lives, as in ``encoder.stages.1.convs.0.conv``.
        primitive: what it does.
        inputs: indices of the nodes that it reads, in order.
        channels: channels of its output.
        init: an initialisation other than the default for its primitive, by name.
    """

    name: str
    primitive: Primitive
    inputs: tuple[int, ...]
    channels: int
    init: str | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A network without sizes: ordered nodes, and the nodes that are its outputs.

    Args:
        dims: number of spatial dimensions.
        nodes: the nodes in the order of execution; node 0 is the input.
        outputs: node indices of the outputs, full resolution first.
    """

    dims: int
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def parameters(self) -> int:
        """Returns the number of trainable parameters."""
        return sum(node.primitive.parameters() for node in self.nodes)

    def readers(self) -> list[list[int]]:
        """Returns for each node the nodes that read it, in order of execution."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for source in dict.fromkeys(node.inputs):
                readers[source].append(index)
        return readers

    def digest(self) -> str:
        """Returns a SHA-256 of what is computed: primitives, edges and outputs, not names."""
        content = [repr((node.primitive, node.inputs, node.init)) for node in self.nodes]
        content.append(repr((self.dims, self.outputs)))
        return hashlib.sha256("\n".join(content).encode()).hexdigest()


def _no_path(_field: str) -> Path:
    return ()


_make = tuple.__new__


class Builder:
    """Appends nodes to a graph, keeps the current name, and collects faults.

    Operators call it while they lower themselves. Values that do not fit the channels at
    hand (a number of groups that does not divide them, say) are collected as faults with
    the path of the field in the file, and building goes on, so that one run finds them all.
    """

    def __init__(self, dims: int, in_channels: int) -> None:
        self.dims = dims
        self.nodes: list[Node] = [Node("input", Input(in_channels), (), in_channels)]
        self.faults: list[Fault] = []
        self.prefix = ""
        self._outer: list[str] = []
        self.ones: Axes = (1,) * dims
        self.zeros: Axes = (0,) * dims
        self._same: dict[tuple[Axes, Axes], tuple[Axes, Axes]] = {}

    def scope(self, name: str) -> Self:
        """Puts ``name.`` before the names of all nodes added in the ``with`` that follows."""
        self._outer.append(self.prefix)
        self.prefix = f"{self.prefix}{name}."
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        self.prefix = self._outer.pop()

    def channels(self, x: int) -> int:
        """Returns the channels of node ``x``."""
        return self.nodes[x].channels

    def add(self, name: str, primitive: Primitive, *inputs: int, init: str | None = None) -> int:
        """Appends a node and returns its index."""
        nodes = self.nodes
        if primitive.keeps_size:
            channels = nodes[inputs[0]].channels
        else:
            channels = primitive.out_channels([nodes[i].channels for i in inputs])
        index = len(nodes)
        # `Node(...)` without the detour over its generated constructor: there are many nodes
        nodes.append(_make(Node, (self.prefix + name, primitive, inputs, channels, init)))
        return index

    def fault(self, path: Path, rule: str, got: object, fix: str | None = None) -> None:
        """Records that the field at ``path`` breaks a rule."""
        # it was met on the way through the whole network, so it reads all of the architecture
        self.faults.append(Fault(path, rule, str(got), fix, reads=((),)))

    def axes(self, value: int | tuple[int, ...], path: Path) -> Axes:
        """Returns one number per spatial axis from a scalar or a per-axis value."""
        if isinstance(value, int):
            return (value,) * self.dims
        if len(value) != self.dims:
            rule = f"must have one number for each of the {self.dims} spatial axes"
            self.fault(path, rule, f"{len(value)} ({'x'.join(map(str, value))})")
            return (value[0],) * self.dims
        return value

    def conv(
        self,
        name: str,
        x: int,
        features: int,
        *,
        kernel: Axes,
        stride: Axes | None = None,
        padding: str | Axes = "same",
        mode: PadMode = "zeros",
        dilation: Axes | None = None,
        groups: int = 1,
        bias: bool = True,
        groups_path: Callable[[str], Path] = _no_path,
        init: str | None = None,
    ) -> int:
        """Appends a convolution, with a pad node before it where the padding needs one.

        ``same`` makes the output ``ceil(n / stride)``: it adds ``d(k - 1)`` positions in
        all, one more at the end than at the start where that number is odd (an even kernel),
        as ``torch.nn.Conv2d(padding="same")`` does.
        """
        if dilation is None or dilation == self.ones:
            dilation = self.ones
        else:  # an axis with one kernel element has no dilation: equal networks, equal graphs
            dilation = tuple([d if k > 1 else 1 for d, k in zip(dilation, kernel, strict=True)])
        low, high = self._padding(kernel, dilation, padding)
        in_channels = self.nodes[x].channels
        if in_channels % groups or features % groups:
            self._refuse_groups(name, in_channels, features, groups, groups_path("groups"))
        if (mode != "zeros" or low != high) and any(high):
            x = self.add(f"{name}_pad", Pad(low, high, mode), x)
            low = self.zeros
        stride = stride or self.ones
        conv = Conv(in_channels, features, kernel, stride, low, dilation, groups, bias)
        return self.add(name, conv, x, init=init)

    def _padding(self, kernel: Axes, dilation: Axes, padding: str | Axes) -> tuple[Axes, Axes]:
        """Returns how many positions are added at the start and the end of each axis."""
        if padding == "valid":
            return self.zeros, self.zeros
        if padding != "same":
            assert isinstance(padding, tuple)
            return padding, padding
        found = self._same.get((kernel, dilation))
        if found is None:
            total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            found = tuple([t // 2 for t in total]), tuple([t - t // 2 for t in total])
            self._same[kernel, dilation] = found
        return found

    def _refuse_groups(self, name: str, inputs: int, outputs: int, groups: int, path: Path) -> None:
        nearest = next(d for d in range(groups, 0, -1) if inputs % d == outputs % d == 0)
        rule = (
            f"must divide the {inputs} input and {outputs} output channels of {self.prefix}{name}"
        )
        self.fault(path, rule, groups, f"use {nearest}")

    def finish(self, outputs: tuple[int, ...]) -> Graph:
        """Returns the finished graph."""
        return Graph(self.dims, tuple(self.nodes), outputs)

"""Static cost: what every node of a network costs for a patch size and a batch.

Conventions: MACs are multiply-accumulates of convolutions (transposed and fixed ones too)
and of matrix products; FLOPs = 2 x MACs; biases, norms, activations and everything else are
element-wise operations, a column of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod

from unet_nas.errors import InputError
from unet_nas.operators.builder import Graph
from unet_nas.unet.outline import part_of
from unet_nas.unet.shapes import Size, shapes


@dataclass(frozen=True, slots=True)
class Cost:
    """What a node, a part or a whole network costs.

    Args:
        name: of the node or part; ``total`` for the network.
        size: spatial size of its output.
        channels: channels of its output.
        parameters: trainable parameters.
        buffers: elements of its buffers.
        macs: multiply-accumulates for the whole batch.
        elementwise: other operations for the whole batch.
        activation_elements: elements of all outputs made, for the whole batch.
        traffic_elements: elements read and written at least once (inputs, outputs,
            parameters and buffers), the denominator of the arithmetic intensity.
    """

    name: str
    size: Size
    channels: int
    parameters: int
    buffers: int
    macs: int
    elementwise: int
    activation_elements: int
    traffic_elements: int

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each MAC."""
        return 2 * self.macs

    @property
    def intensity(self) -> float:
        """Operations (FLOPs and element-wise) per element read or written."""
        return (self.flops + self.elementwise) / max(1, self.traffic_elements)


def node_costs(graph: Graph, sizes: Sequence[Size], batch_size: int = 1) -> list[Cost]:
    """Returns the cost of every node, in order of execution (the input costs nothing).

    Args:
        graph: the network.
        sizes: of every node, from :func:`unet_nas.unet.shapes.shapes`.
        batch_size: samples per batch.
    """
    positions = [prod(size) for size in sizes]
    elements = [
        batch_size * node.channels * count
        for node, count in zip(graph.nodes, positions, strict=True)
    ]
    costs = []
    for index, node in enumerate(graph.nodes):
        primitive, output = node.primitive, elements[index]
        inputs = [elements[i] for i in node.inputs]
        parameters, buffers = primitive.parameters(), primitive.buffers()
        macs = 0
        if primitive.is_conv:
            macs = batch_size * primitive.macs(positions[node.inputs[0]], positions[index])
        made = output if index else 0
        costs.append(
            Cost(
                node.name,
                sizes[index],
                node.channels,
                parameters,
                buffers,
                macs,
                primitive.elementwise(graph.dims, inputs, output),
                made,
                sum(inputs) + made + parameters + buffers,
            )
        )
    return costs


def forward_macs(graph: Graph, sizes: Sequence[Size], batch_size: int = 1) -> int:
    """Returns only the multiply-accumulates of :func:`node_costs`, ten times as quickly."""
    return batch_size * sum(
        node.primitive.macs(prod(sizes[node.inputs[0]]), prod(sizes[index]))
        for index, node in enumerate(graph.nodes)
        if node.primitive.is_conv
    )


def part_costs(costs: Iterable[Cost]) -> list[Cost]:
    """Returns the cost of every part (``encoder.stages.1``), in order of execution."""
    groups = groupby(costs, key=lambda cost: part_of(cost.name))
    return [summed(name, list(group)) for name, group in groups]


def summed(name: str, costs: Sequence[Cost]) -> Cost:
    """Returns the sum of costs, with the size and channels of the last."""
    last = costs[-1]
    return Cost(
        name,
        last.size,
        last.channels,
        sum([cost.parameters for cost in costs]),
        sum([cost.buffers for cost in costs]),
        sum([cost.macs for cost in costs]),
        sum([cost.elementwise for cost in costs]),
        sum([cost.activation_elements for cost in costs]),
        sum([cost.traffic_elements for cost in costs]),
    )


def total_cost(graph: Graph, patch_size: Sequence[int], batch_size: int = 1) -> Cost:
    """Returns the cost of the whole network; size and channels are those of its main output.

    Raises:
        SizeError: if the network does not run on ``patch_size``.
        InputError: if ``batch_size`` is not a positive integer.

    >>> from unet_nas.unet.architecture import Architecture
    >>> from unet_nas.unet.graph import lower
    >>> net = Architecture(norm="none", padding="valid", align="crop")
    >>> cost = total_cost(lower(net), (572, 572))
    >>> cost.parameters, cost.macs, cost.size
    (31030658, 150428424448, (388, 388))
    """
    check_batch_size(batch_size)
    sizes = shapes(graph, patch_size)
    costs = node_costs(graph, sizes, batch_size)
    return with_output(graph, summed("total", costs), costs)


def with_output(graph: Graph, total: Cost, costs: Sequence[Cost]) -> Cost:
    """Returns a total with the size and channels of the network's main output."""
    main = costs[graph.outputs[0]]
    return Cost(
        total.name,
        main.size,
        main.channels,
        total.parameters,
        total.buffers,
        total.macs,
        total.elementwise,
        total.activation_elements,
        total.traffic_elements,
    )


def check_batch_size(batch_size: object) -> None:
    """Raises InputError unless a batch size is a positive integer."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"a batch must have at least 1 sample, got {batch_size!r}")

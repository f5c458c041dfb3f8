"""Static peak memory: one eager training step, or inference, played through before any tensor.

The graph is played on the simulated process of `operators.eager`, node by node in the order of
the module that `unet.build` makes, then the loss, backward and the optimizer. The figures count
*tensors*: what PyTorch's allocator hands out, without blocks that live inside one ATen operator
(library workspaces), allocator rounding, and the CUDA context. On a CPU they equal the allocator's
own count to the byte (``benchmarks/memory_exactness.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from unet_nas.operators import loss as losses
from unet_nas.operators import optimizer as optimizers
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.operators.eager import Eager, Kind, Storage, Tensor
from unet_nas.operators.loss import LossKind
from unet_nas.operators.optimizer import Implementation, OptimizerKind
from unet_nas.operators.tape import (
    TAPE,
    Mode,
    Site,
    Sizes,
    buffer_elements,
    weight_elements,
)

Precision = Literal["fp32", "bf16", "fp16", "pure-bf16", "pure-fp16"]
Phase = Literal["forward", "loss", "backward", "optimizer"]

_COUNTER_BYTES = 8
_INDEX_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a training step runs; the defaults are those of `unet_nas.train`.

    Attributes:
        precision: ``fp32``, autocast to ``bf16`` or ``fp16``, or ``pure-…``: weights and data too.
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        momentum: Whether SGD keeps a momentum buffer.
        nesterov: Whether SGD's momentum is Nesterov's.
        weight_decay: Whether it is not zero (SGD and Adam then copy gradients).
        implementation: The optimizer's: ``single`` tensor, ``foreach`` or ``fused``.
        loss: Which loss.
        set_to_none: Whether ``zero_grad`` frees the gradients.
    """

    precision: Precision = "fp32"
    optimizer: OptimizerKind = "adamw"
    momentum: bool = True
    nesterov: bool = False
    weight_decay: bool = True
    implementation: Implementation = "foreach"
    loss: LossKind = "cross_entropy"
    set_to_none: bool = True


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a step or an inference.

    Attributes:
        peak_bytes: Most bytes of tensors alive at once.
        node: Name of the node at work at the peak.
        phase: ``forward``, ``loss``, ``backward`` or ``optimizer``.
        breakdown: Bytes at the peak by what they are; they add up to ``peak_bytes``.
        live_bytes: Bytes alive after each allocation or release.
        visits: ``(position in live_bytes, node, phase)`` at each change of node.
    """

    peak_bytes: int
    node: str
    phase: str
    breakdown: dict[str, int]
    live_bytes: list[int] = field(repr=False)
    visits: list[tuple[int, str, str]] = field(repr=False)


def node_sizes(graph: Graph, patch_size: Sequence[int]) -> list[Sizes]:
    sizes: list[Sizes] = [tuple(patch_size)]
    for node in graph.nodes[1:]:
        inputs = [sizes[i] for i in node.inputs]
        size = node.primitive.size
        sizes.append(tuple([size(a, [s[a] for s in inputs]) for a in range(graph.dims)]))
    return sizes


def training_memory(
    graph: Graph, patch_size: Sequence[int], batch_size: int, training: Training | None = None
) -> Memory:
    """Returns the memory of one training step in the steady state (the second and later)."""
    options = training or Training()
    run = _Run(graph, patch_size, batch_size, options.precision, training=True)
    eager = run.eager
    for weight in run.weights:
        eager.leaf(weight, not options.set_to_none)
    if not options.set_to_none:
        for weight in run.weights:
            eager.new(weight.elements, weight.itemsize, "gradients")
    ordered = run.weights
    optimizers.make_state(eager, options.optimizer, ordered, momentum=options.momentum)
    size = run.sizes[graph.outputs[0]]
    target = eager.new(batch_size * prod(size), _INDEX_BYTES, "input")
    outputs = run.forward()
    loss = _loss(run, options.loss, outputs, target)
    for cast in run.mode.casts.values():
        eager.drop(cast)
    if loss.function is not None:
        eager.visit(graph.outputs[0], "backward")
        eager.backward(loss.function)
    eager.visit(graph.outputs[0], "optimizer")
    optimizers.step(
        eager,
        options.optimizer,
        options.implementation,
        ordered,
        weight_decay=options.weight_decay,
        nesterov=options.nesterov,
    )
    return _memory(run)


def inference_memory(
    graph: Graph, patch_size: Sequence[int], batch_size: int, precision: Precision = "fp32"
) -> Memory:
    """Returns the memory of one forward pass in evaluation mode without gradients."""
    run = _Run(graph, patch_size, batch_size, precision, training=False)
    run.forward()
    return _memory(run)


def _loss(run: _Run, kind: LossKind, outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    graph = run.graph
    run.eager.visit(graph.outputs[0], "loss")
    loss = losses.segmentation_loss(
        run.eager,
        kind,
        outputs,
        [run.sizes[i] for i in graph.outputs],
        target,
        batch=run.mode.batch,
        classes=graph.nodes[graph.outputs[0]].channels,
    )
    for output in outputs:
        run.eager.drop(output)
    return loss


class _Run:
    """A graph set up on a simulated process, ready to play."""

    def __init__(
        self,
        graph: Graph,
        patch_size: Sequence[int],
        batch: int,
        precision: Precision,
        *,
        training: bool,
    ) -> None:
        self.graph = graph
        self.eager = Eager(grad=training)
        autocast = 2 if precision in ("bf16", "fp16") else None
        self.width = 2 if precision.startswith("pure") else 4
        self.mode = Mode(batch, training, autocast, "cpu")
        self.sizes = node_sizes(graph, patch_size)
        self.weights: list[Tensor] = []
        self.sites = [self._site(i) for i in range(len(graph.nodes))]

    def _site(self, index: int) -> Site:
        node = self.graph.nodes[index]
        primitive = node.primitive
        self.eager.place = index
        weights = self._allocate(weight_elements(primitive), "parameters")
        self.weights.extend(weights)
        buffers = self._allocate(buffer_elements(primitive), "buffers")
        if isinstance(primitive, p.BatchNorm):
            self.eager.new(1, _COUNTER_BYTES, "buffers")
        size = self.sizes[index]
        first = self.graph.nodes[node.inputs[0]].channels if node.inputs else 0
        return Site(
            primitive,
            tuple([self.sizes[i] for i in node.inputs]),
            size,
            self.mode.batch * node.channels * prod(size),
            first,
            weights,
            buffers,
        )

    def _allocate(self, elements: Sequence[int], kind: Kind) -> tuple[Tensor, ...]:
        return tuple([self.eager.new(count, self.width, kind) for count in elements])

    def forward(self) -> list[Tensor]:
        """Plays all nodes, freeing each map after its last reader; returns the outputs."""
        graph, eager, mode = self.graph, self.eager, self.mode
        last = _last_readers(graph)
        slots: list[Tensor | None] = [None] * len(graph.nodes)
        site = self.sites[0]
        slots[0] = eager.new(site.elements, self.width, "input")
        for index in range(1, len(graph.nodes)):
            site = self.sites[index]
            inputs = [x for i in graph.nodes[index].inputs if (x := slots[i]) is not None]
            eager.visit(index, "forward")
            slots[index] = TAPE[type(site.primitive)](eager, mode, site, inputs)
            for i in last[index]:
                x = slots[i]
                if x is not None:
                    eager.drop(x)
                slots[i] = None
        return [x for i in graph.outputs if (x := slots[i]) is not None]


def _last_readers(graph: Graph) -> list[list[int]]:
    """Returns for each node the nodes whose output it is the last to read."""
    last: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        for i in node.inputs:
            last[i] = index
    freed: list[list[int]] = [[] for _ in graph.nodes]
    for source, reader in last.items():
        if source not in graph.outputs and source != 0:
            freed[reader].append(source)
    return freed


def _memory(run: _Run) -> Memory:
    eager = run.eager
    peak = max(eager.timeline)
    position = eager.timeline.index(peak)
    names = [node.name for node in run.graph.nodes]
    visits = [(start, names[place], phase) for start, place, phase in eager.visits]
    _, node, phase = max(v for v in visits if v[0] <= position)
    return Memory(peak, node, phase, _breakdown(eager.storages, position), eager.timeline, visits)


def _breakdown(storages: Sequence[Storage], position: int) -> dict[str, int]:
    """Sums what is alive at a position by kind; saved tensors are those kept for backward."""
    sums = dict.fromkeys(
        ("parameters", "buffers", "gradients", "optimizer", "input", "saved", "temporaries"), 0
    )
    for storage in storages:
        if storage.born <= position < storage.died:
            kind: str = storage.kind
            if kind == "temporaries" and storage.saved_from <= position < storage.saved_until:
                kind = "saved"
            sums[kind] += storage.size_bytes
    return sums

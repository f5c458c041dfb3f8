"""One audit: shapes, cost and memory of a network under stated conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from unet_nas.audit.cost import Cost, check_batch_size, node_costs, part_costs, summed, with_output
from unet_nas.audit.cuda import CudaMemory, cuda_memory
from unet_nas.audit.memory import (
    Device,
    Memory,
    Precision,
    Training,
    inference_memory,
    training_memory,
)
from unet_nas.audit.receptive_field import Field, receptive_fields
from unet_nas.operators.builder import Graph
from unet_nas.operators.loss import LossKind
from unet_nas.operators.optimizer import Implementation, OptimizerKind
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import Size, shapes


@dataclass(frozen=True)
class Audit:
    """What a network costs, with the conditions that the figures hold for.

    Args:
        graph: the network.
        sizes: of every node.
        batch_size: samples per batch, for MACs, element-wise operations and memory.
        training: how the training step runs.
        nodes: cost of every node.
        total: cost of the network; its size and channels are those of the main output.
        training_step: memory of one training step in the steady state.
        inference: memory of one forward pass without gradients.
        cuda: what CUDA's allocator would make of the training step; None on a CPU.
        cuda_inference: the same for the forward pass.
    """

    graph: Graph
    sizes: tuple[Size, ...]
    batch_size: int
    training: Training
    nodes: tuple[Cost, ...]
    total: Cost
    training_step: Memory
    inference: Memory
    cuda: CudaMemory | None
    cuda_inference: CudaMemory | None

    @property
    def patch_size(self) -> Size:
        """Spatial size of the input."""
        return self.sizes[0]

    @property
    def output_size(self) -> Size:
        """Spatial size of the main output."""
        return self.total.size

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return self.total.parameters

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass of the batch."""
        return self.total.macs

    @property
    def flops(self) -> int:
        """Two for each MAC."""
        return self.total.flops

    @property
    def macs_per_output_position(self) -> float:
        """MACs per position that is predicted: valid padding predicts fewer than it reads."""
        return self.macs / (self.batch_size * prod(self.output_size))

    @property
    def peak_training_bytes(self) -> int:
        """Most bytes of tensors alive at once in a training step."""
        return self.training_step.peak_bytes

    @property
    def peak_inference_bytes(self) -> int:
        """Most bytes of tensors alive at once in inference."""
        return self.inference.peak_bytes

    @property
    def budgeted_bytes(self) -> int:
        """What a memory budget is compared with: tensors on a CPU, reserved memory on CUDA."""
        return self.peak_training_bytes if self.cuda is None else self.cuda.reserved_bytes

    @property
    def peak_at(self) -> str:
        """Where the training step has its peak: the node and the phase."""
        return f"{self.training_step.node} ({self.training_step.phase})"

    @property
    def breakdown(self) -> dict[str, int]:
        """Bytes at the training peak by what they are; they add up to the peak."""
        return self.training_step.breakdown

    @cached_property
    def stages(self) -> tuple[Cost, ...]:
        """Cost of every part, in order of execution."""
        return tuple(part_costs(self.nodes))

    @cached_property
    def fields(self) -> tuple[tuple[Field | None, ...], ...]:
        """Receptive field of every node, per axis."""
        axes = range(self.graph.dims)
        return tuple(tuple(receptive_fields(self.graph, axis, self.sizes)) for axis in axes)

    def receptive_field(self, name: str) -> tuple[tuple[int, int] | None, ...]:
        """Returns per axis the smallest and largest receptive field of the last node of a part.

        Raises:
            KeyError: if nothing is called ``name``.
        """
        indices = [
            i
            for i, node in enumerate(self.graph.nodes)
            if node.name == name or node.name.startswith(f"{name}.")
        ]
        if name == "total":
            indices = [self.graph.outputs[0]]
        if not indices:
            raise KeyError(name)
        found = [fields[indices[-1]] for fields in self.fields]
        return tuple(None if field is None else field.sizes for field in found)


def audit(
    architecture: Architecture | Graph,
    *,
    patch_size: Sequence[int],
    batch_size: int = 1,
    training: Training | None = None,
    precision: Precision | None = None,
    optimizer: OptimizerKind | None = None,
    implementation: Implementation | None = None,
    loss: LossKind | None = None,
    checkpoint: Sequence[str] | None = None,
    in_place: bool | None = None,
    device: Device | None = None,
) -> Audit:
    """Audits a network: no torch, no tensor, a few milliseconds.

    Args:
        architecture: the network, or its graph.
        patch_size: spatial size of the input.
        batch_size: samples per batch.
        training: how the training step runs; defaults as in `Training`.
        precision: in place of that of ``training``, as are all that follow.
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        implementation: ``single``, ``foreach`` or ``fused``.
        loss: ``cross_entropy`` or ``dice_cross_entropy``.
        checkpoint: units recomputed in backward, as `unet_nas.build` takes them.
        in_place: activations overwrite their input where that is safe.
        device: ``cpu`` or ``cuda``.

    Raises:
        SizeError: if the network does not run on ``patch_size``.
        InputError: if the batch size or an option is wrong.

    >>> net = Architecture(depth=4)
    >>> result = audit(net, patch_size=(256, 256))
    >>> result.parameters, result.macs
    (31042434, 48096083968)
    """
    check_batch_size(batch_size)
    graph = architecture if isinstance(architecture, Graph) else lower(architecture)
    base = training or Training()
    options = replace(
        base,
        precision=precision or base.precision,
        optimizer=optimizer or base.optimizer,
        implementation=implementation or base.implementation,
        loss=loss or base.loss,
        checkpoint=base.checkpoint if checkpoint is None else tuple(checkpoint),
        in_place=base.in_place if in_place is None else in_place,
        device=device or base.device,
    )
    sizes = shapes(graph, patch_size)
    nodes = node_costs(graph, sizes, batch_size)
    step = training_memory(graph, patch_size, batch_size, options, sizes=sizes)
    inference = inference_memory(
        graph,
        patch_size,
        batch_size,
        options.precision,
        in_place=options.in_place,
        device=options.device,
        sizes=sizes,
    )
    on_cuda = options.device == "cuda"
    return Audit(
        graph=graph,
        sizes=sizes,
        batch_size=batch_size,
        training=options,
        nodes=tuple(nodes),
        total=with_output(graph, summed("total", nodes), nodes),
        training_step=step,
        inference=inference,
        cuda=cuda_memory(graph, step, options) if on_cuda else None,
        cuda_inference=cuda_memory(graph, inference, options, inference=True) if on_cuda else None,
    )

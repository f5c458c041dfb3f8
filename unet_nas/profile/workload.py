"""What is measured: a module with its input, its loss and its optimizer, ready to run.

The training step is the one that the static model plays (`unet_nas.audit.memory.Training`): the
same loss, the same optimizer implementation, the same order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unet_nas.audit.memory import Training
from unet_nas.errors import InputError
from unet_nas.profile.foreign import in_channels_of, load_foreign
from unet_nas.profile.job import Job
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build
from unet_nas.unet.losses import SegmentationLoss

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}
LEARNING_RATE = 1e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-2
IGNORE_INDEX = 255


@dataclass(frozen=True, slots=True)
class Workload:
    """A module on its device with all that a step needs.

    Args:
        module: what runs; ``torch.compile`` may have wrapped it.
        inputs: ``(batch, channels, *spatial)``.
        training: how the training step runs.
    """

    module: nn.Module
    inputs: Tensor
    training: Training

    def infer(self) -> None:
        """Runs a forward pass without gradients; the module must be in evaluation mode."""
        with torch.inference_mode(), self.autocast():
            self.module(self.inputs)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the context of a forward pass."""
        dtype = _DTYPES.get(self.training.precision)
        if dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.inputs.device.type, dtype=dtype)

    def output_shape(self) -> torch.Size:
        """Returns the shape of the module's first output, after a forward pass."""
        training = self.module.training
        self.module.eval()
        with torch.inference_mode(), self.autocast():
            first = _first(self.module(self.inputs))
        self.module.train(training)
        return first.shape

    def steps(self) -> Steps:
        """Returns the training step of this workload; a forward pass tells the target's size."""
        shape, device = self.output_shape(), self.inputs.device
        return Steps(
            self,
            make_target(shape, self.training).to(device),
            make_criterion(shape[1], self.training).to(device),
            make_optimizer(self.module, self.training),
        )


@dataclass(frozen=True, slots=True)
class Steps:
    """A training step that can be run again and again."""

    work: Workload
    target: Tensor
    criterion: SegmentationLoss
    optimizer: torch.optim.Optimizer

    def train(self) -> None:
        """Runs one step: forward, loss, backward, optimizer; the module must be training."""
        self.optimizer.zero_grad(set_to_none=self.work.training.set_to_none)
        with self.work.autocast():
            loss = self.criterion(self.work.module(self.work.inputs), self.target)
        loss.backward()
        self.optimizer.step()


def _first(outputs: Any) -> Tensor:
    """Returns the main output of a module.

    Raises:
        TypeError: if the loss cannot read what the module returns.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Sequence) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    raise TypeError(
        "a training step needs a module that returns a tensor or a sequence of tensors "
        f"(full resolution first), got {type(outputs).__name__}"
    )


def make_workload(job: Job) -> Workload:
    """Builds what a job names, on its device, with seeded weights and data.

    Raises:
        InputError: if a network of somebody else's cannot be had.
    """
    torch.manual_seed(job.seed)
    training = job.training
    if job.architecture is None:
        module = load_foreign(job.network)
        channels = job.in_channels or in_channels_of(job.network, module)
    else:
        architecture = Architecture.model_validate_json(job.architecture)
        module = build(architecture, checkpoint=training.checkpoint, inplace=training.in_place)
        channels = architecture.in_channels
    # made where it is used: a copy from the CPU would be one more tensor on the way
    inputs = torch.randn(job.batch_size, channels, *job.patch_size, device=job.device)
    module = module.to(job.device)
    if training.precision.startswith("pure-"):
        dtype = _DTYPES[training.precision.removeprefix("pure-")]
        module, inputs = module.to(dtype), inputs.to(dtype)
    if job.channels_last:
        module, inputs = _channels_last(module, inputs)
    return Workload(module, inputs, training)


def _channels_last(module: nn.Module, inputs: Tensor) -> tuple[nn.Module, Tensor]:
    layout = _FORMATS.get(inputs.dim() - 2)
    if layout is None:
        raise InputError("--channels-last needs a network of 2 or 3 spatial dimensions")
    return module.to(memory_format=layout), inputs.to(memory_format=layout)  # type: ignore[call-overload]


def make_target(shape: Sequence[int], training: Training) -> Tensor:
    """Returns a random target for logits ``(batch, classes, *spatial)``, as the loss takes it."""
    batch, classes, *size = shape
    if training.multi_label:
        return torch.randint(0, 2, (batch, classes, *size)).float()
    return torch.randint(0, classes, (batch, *size))


def make_criterion(classes: int, training: Training) -> SegmentationLoss:
    """Returns the loss of a training step; the values of its options cost no memory."""
    return SegmentationLoss(
        training.loss,
        ignore_index=IGNORE_INDEX if training.ignore_label else None,
        class_weights=[1.0] * classes if training.class_weights else None,
        multi_label=training.multi_label,
    )


def make_optimizer(module: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Returns the optimizer of a training step, with its implementation chosen explicitly.

    Raises:
        ValueError: if the module has no parameter that takes gradients.
    """
    parameters = [tensor for tensor in module.parameters() if tensor.requires_grad]
    if not parameters:
        raise ValueError("a training step needs a module with trainable parameters")
    decay = WEIGHT_DECAY if training.weight_decay else 0.0
    foreach, fused = training.implementation == "foreach", training.implementation == "fused"
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            LEARNING_RATE,
            momentum=MOMENTUM if training.momentum else 0.0,
            nesterov=training.nesterov,
            weight_decay=decay,
            foreach=foreach,
            fused=fused,
        )
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, LEARNING_RATE, weight_decay=decay, foreach=foreach, fused=fused)

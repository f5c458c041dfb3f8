"""One optimizer step: the one whose memory the audit plays (`unet_nas.audit.memory.Training`).

The same loss, the same optimizer implementation, the same order. Clipping comes between backward
and the optimizer, when no map is alive any more, and takes one number per parameter tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unet_nas.audit.memory import Training
from unet_nas.errors import InputError
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.cases import Case, Task
from unet_nas.train.data.checks import class_counts
from unet_nas.train.infer import autocast
from unet_nas.unet.losses import SegmentationLoss

__all__ = ["Step", "channels_last", "make_optimizer"]

_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


class Step:
    """Runs optimizer steps of one network.

    Args:
        module: The network, in training mode.
        config: The section ``train``.
        training: How the step runs on its device.
        criterion: The loss.
    """

    def __init__(
        self, module: nn.Module, config: TrainConfig, training: Training, criterion: nn.Module
    ) -> None:
        # validation runs the module itself: whole images differ in size, and each would be compiled
        self.forward: Callable[[Tensor], Any] = torch.compile(module) if config.compile else module
        self.criterion = criterion.to(training.device)
        self.training = training
        self.optimizer = make_optimizer(module, config, training)
        self.clip = config.clip
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        # gradients of half precision underflow unless the loss is scaled up
        self.scaler = torch.amp.GradScaler(training.device, enabled=training.precision == "fp16")

    def __call__(self, inputs: Tensor, target: Tensor, learning_rate: float) -> Tensor:
        """Runs one step and returns its loss, a scalar on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=self.training.set_to_none)
        with autocast(self.training.device, self.training.precision):
            loss: Tensor = self.criterion(self.forward(inputs), target)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.clip is not None:
            self.scaler.unscale_(self.optimizer)
            foreach = self.training.implementation == "foreach"
            nn.utils.clip_grad_norm_(self.parameters, self.clip, foreach=foreach)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


def make_optimizer(
    module: nn.Module, config: TrainConfig, training: Training
) -> torch.optim.Optimizer:
    """Returns the optimizer, with its implementation chosen explicitly.

    Raises:
        ValueError: if the module has no parameter that takes gradients.
    """
    parameters = [tensor for tensor in module.parameters() if tensor.requires_grad]
    if not parameters:
        raise ValueError("a training step needs a module with trainable parameters")
    foreach, rate = training.implementation == "foreach", config.learning_rate
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            rate,
            momentum=config.momentum,
            nesterov=training.nesterov,
            weight_decay=config.weight_decay,
            foreach=foreach,
            fused=False,
        )
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, rate, weight_decay=config.weight_decay, foreach=foreach, fused=False)


def make_loss(config: TrainConfig, task: Task, cases: Sequence[Case]) -> SegmentationLoss:
    """Returns the loss that a section ``train`` asks for, for these data.

    Raises:
        InputError: if the class weights are not one for each class.
    """
    weights = config.class_weights
    if weights == "balanced":
        weights = balanced_weights(class_counts(task, cases))
    elif weights is not None and len(weights) != task.classes:
        raise InputError(
            f"train.class_weights must be one for each of the {task.classes} classes "
            f"({', '.join(task.class_names)}), got {len(weights)}"
        )
    return SegmentationLoss(
        config.loss,
        ignore_index=task.ignore_label,
        class_weights=weights,
        multi_label=task.multi_label,
    )


def balanced_weights(counts: NDArray[np.int64]) -> tuple[float, ...]:
    """Returns weights inverse to how often each class occurs, with a mean of 1.

    Args:
        counts: Positions of each class, then of all, as `class_counts` returns them.

    >>> balanced_weights(np.array([90, 10, 100]))
    (0.2, 1.8)
    """
    inverse = 1 / np.maximum(counts[:-1], 1)
    return tuple(float(weight) for weight in (inverse / inverse.mean()).round(6))


def channels_last(config: TrainConfig, training: Training, dims: int) -> torch.memory_format | None:
    """Returns the memory format that is asked for, or that the device gains from.

    A GPU gains where its convolutions run in half precision on two axes.
    """
    wanted = config.channels_last
    if wanted is None:
        wanted = training.device == "cuda" and training.precision != "fp32" and dims == 2
    return _FORMATS.get(dims) if wanted else None

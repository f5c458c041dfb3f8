"""The losses that the trainer minimises and whose memory the audit knows.

Plain PyTorch, few tensors: MONAI's Dice + cross-entropy peaks at 1.7 times what these take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LossKind = Literal["cross_entropy", "dice_cross_entropy"]


class SegmentationLoss(nn.Module):
    """Cross-entropy, or Dice + cross-entropy, over one output or several (deep supervision).

    The outputs of deep supervision are weighted by halves (1, 1/2, 1/4, …, divided by their sum);
    the target is brought to the size of each by nearest-neighbour sampling. Source: Lee et al.,
    "Deeply-Supervised Nets", AISTATS 2015; Isensee et al., "nnU-Net", Nature Methods 18 (2021).

    Args:
        kind: Which loss.
        smooth: Added to numerator and denominator of the Dice coefficient.
    """

    def __init__(self, kind: LossKind = "cross_entropy", *, smooth: float = 1e-5) -> None:
        super().__init__()
        self.kind = kind
        self.smooth = smooth

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Returns the scalar loss.

        Args:
            outputs: Logits ``(batch, classes, *spatial)``, or several, full resolution first.
            target: Class indices ``(batch, *spatial)``, int64.
        """
        if isinstance(outputs, Tensor):
            return self._one(outputs, target)
        weights = deep_supervision_weights(len(outputs))
        total = weights[0] * self._one(outputs[0], target)
        for logits, weight in zip(outputs[1:], weights[1:], strict=True):
            total = total + weight * self._one(logits, nearest(target, logits.shape[2:]))
        return total

    def _one(self, logits: Tensor, target: Tensor) -> Tensor:
        log_probabilities = F.log_softmax(logits.float(), dim=1)
        cross_entropy = F.nll_loss(log_probabilities, target)
        if self.kind == "cross_entropy":
            return cross_entropy
        return cross_entropy + dice_loss(log_probabilities.exp(), target, self.smooth)


def dice_loss(probabilities: Tensor, target: Tensor, smooth: float) -> Tensor:
    """Returns one minus the mean soft Dice coefficient of the classes over the whole batch.

    Source: Milletari et al., "V-Net", 3DV 2016; Drozdzal et al., arXiv:1608.04117.
    """
    one_hot = torch.zeros_like(probabilities).scatter_(1, target.unsqueeze(1), 1.0)
    axes = [axis for axis in range(probabilities.dim()) if axis != 1]
    overlap = (probabilities * one_hot).sum(axes)
    size = probabilities.sum(axes) + one_hot.sum(axes)
    return 1.0 - ((2.0 * overlap + smooth) / (size + smooth)).mean()


def nearest(target: Tensor, size: Sequence[int]) -> Tensor:
    """Samples class indices ``(batch, *spatial)`` at a smaller size, as ``mode="nearest"`` does."""
    for axis, (old, new) in enumerate(zip(target.shape[1:], size, strict=True), start=1):
        if old != new:
            target = target.index_select(axis, _sources(old, new, target.device))
    return target


def _sources(old: int, new: int, device: torch.device) -> Tensor:
    """Returns the index ``floor(i * old / new)`` of the source of each position ``i``."""
    return torch.arange(new, device=device).mul_(old).div_(new, rounding_mode="floor")


def deep_supervision_weights(outputs: int) -> list[float]:
    """Returns the weights of the outputs, full resolution first; they add up to one.

    >>> deep_supervision_weights(2)
    [0.6666666666666666, 0.3333333333333333]
    """
    halves = [0.5**i for i in range(outputs)]
    return [half / sum(halves) for half in halves]

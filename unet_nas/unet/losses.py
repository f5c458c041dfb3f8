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

#: a divisor for the sum of nothing
_TINY = 1e-30


class SegmentationLoss(nn.Module):
    """Cross-entropy, or Dice + cross-entropy, over one output or several (deep supervision).

    Classes exclude each other (softmax), or with ``multi_label`` each label is a question of its
    own (sigmoid, binary cross-entropy). The outputs of deep supervision are weighted by halves
    (1, 1/2, 1/4, …, divided by their sum); the target is brought to the size of each by
    nearest-neighbour sampling. Everything is computed in float32.

    Positions with ``ignore_index`` count neither in the cross-entropy nor in Dice; where a batch
    has no others, the loss is 0 and so are its gradients. What is NaN elsewhere stays NaN.

    Source: Lee et al., "Deeply-Supervised Nets", AISTATS 2015; Isensee et al., "nnU-Net", Nature
    Methods 18 (2021).

    Args:
        kind: Which loss.
        smooth: Added to numerator and denominator of the Dice coefficient.
        ignore_index: Value of the target that is left out.
        class_weights: Of the cross-entropy, one per class or label, positive; it stays a weighted
            mean, so only their ratios matter. A buffer: the loss moves to the device of the model.
        multi_label: Whether labels may overlap.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        kind: LossKind = "cross_entropy",
        *,
        smooth: float = 1e-5,
        ignore_index: int | None = None,
        class_weights: Sequence[float] | None = None,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.smooth = smooth
        self.ignore_index = ignore_index
        self.multi_label = multi_label
        weights = None if class_weights is None else torch.tensor(class_weights).float()
        if weights is not None and multi_label:
            weights /= weights.mean()  # the mean over labels then is a weighted one
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        """Returns the scalar loss.

        Args:
            outputs: Logits ``(batch, classes, *spatial)``, or several, full resolution first.
            target: Class indices ``(batch, *spatial)``, int64; with ``multi_label`` 0 and 1 (or
                anything between) ``(batch, labels, *spatial)``, float32.
        """
        one = self._labels if self.multi_label else self._classes
        if isinstance(outputs, Tensor):
            return one(outputs, target)
        weights = deep_supervision_weights(len(outputs))
        total = weights[0] * one(outputs[0], target)
        for logits, weight in zip(outputs[1:], weights[1:], strict=True):
            total = total + weight * one(logits, nearest(target, logits.shape[2:]))
        return total

    def _ignored(self, target: Tensor) -> Tensor | None:
        """Returns where the target is left out, ``(batch, *spatial)`` or one mask per label."""
        return None if self.ignore_index is None else target == self.ignore_index

    def _classes(self, logits: Tensor, target: Tensor) -> Tensor:
        log_probabilities = F.log_softmax(logits.float(), dim=1)
        ignored = self._ignored(target)
        cross_entropy = self._cross_entropy(log_probabilities, target, ignored)
        if self.kind == "cross_entropy":
            return cross_entropy
        dice = dice_loss(log_probabilities.exp(), target, self.smooth, ignored)
        return cross_entropy + dice

    def _cross_entropy(
        self, log_probabilities: Tensor, target: Tensor, ignored: Tensor | None
    ) -> Tensor:
        if self.ignore_index is None or ignored is None:
            return F.nll_loss(log_probabilities, target, self.class_weights)
        mean = F.nll_loss(
            log_probabilities, target, self.class_weights, ignore_index=self.ignore_index
        )
        # the mean of nothing is NaN; any other NaN must be seen
        return mean.masked_fill(ignored.all(), 0.0)

    def _labels(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = logits.float()
        ignored = self._ignored(target)
        truth = target if ignored is None else target.masked_fill(ignored, 0.0)
        cross_entropy = self._binary_cross_entropy(logits, truth, ignored)
        if self.kind == "cross_entropy":
            return cross_entropy
        return cross_entropy + soft_dice_loss(logits.sigmoid(), truth, self.smooth, ignored)

    def _binary_cross_entropy(
        self, logits: Tensor, truth: Tensor, ignored: Tensor | None
    ) -> Tensor:
        weights = self.class_weights
        if weights is not None:
            weights = weights.view(-1, *[1] * (logits.dim() - 2))
        if ignored is None:
            return F.binary_cross_entropy_with_logits(logits, truth, weights)
        counts = ignored.logical_not().float()
        if weights is not None:
            counts = counts * weights
        total = F.binary_cross_entropy_with_logits(logits, truth, counts, reduction="sum")
        return total / counts.sum().clamp(min=_TINY)


def dice_loss(
    probabilities: Tensor, target: Tensor, smooth: float, ignored: Tensor | None = None
) -> Tensor:
    """Returns the soft Dice loss for class indices ``(batch, *spatial)``.

    Args:
        probabilities: ``(batch, classes, *spatial)``.
        target: Class indices; any value where they are ignored.
        smooth: Added to numerator and denominator.
        ignored: Where to look away, ``(batch, *spatial)``.
    """
    if ignored is None:
        one_hot = torch.zeros_like(probabilities).scatter_(1, target.unsqueeze(1), 1.0)
        return soft_dice_loss(probabilities, one_hot, smooth)
    ignored = ignored.unsqueeze(1)
    one_hot = torch.zeros_like(probabilities)
    one_hot.scatter_(1, target.unsqueeze(1).masked_fill(ignored, 0), 1.0).masked_fill_(ignored, 0.0)
    return soft_dice_loss(probabilities, one_hot, smooth, ignored)


def soft_dice_loss(
    probabilities: Tensor, truth: Tensor, smooth: float, ignored: Tensor | None = None
) -> Tensor:
    """Returns one minus the mean soft Dice coefficient of the classes over the whole batch.

    Source: Milletari et al., "V-Net", 3DV 2016; Drozdzal et al., arXiv:1608.04117.

    Args:
        probabilities: ``(batch, classes, *spatial)``.
        truth: 0 to 1, of the same shape, and 0 where it is ignored.
        smooth: Added to numerator and denominator.
        ignored: Where to look away, of a shape that broadcasts to theirs.
    """
    axes = [axis for axis in range(probabilities.dim()) if axis != 1]
    overlap = (probabilities * truth).sum(axes)
    size = _seen(probabilities, ignored).sum(axes) + truth.sum(axes)
    return 1.0 - ((2.0 * overlap + smooth) / (size + smooth)).mean()


def _seen(probabilities: Tensor, ignored: Tensor | None) -> Tensor:
    return probabilities if ignored is None else probabilities.masked_fill(ignored, 0.0)


def nearest(target: Tensor, size: Sequence[int]) -> Tensor:
    """Samples a target ``(…, *spatial)`` at a smaller size, as ``mode="nearest"`` does."""
    first = target.dim() - len(size)
    for axis, (old, new) in enumerate(zip(target.shape[first:], size, strict=True), start=first):
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

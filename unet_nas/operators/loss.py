"""The memory tape of the losses: the calls of `unet_nas.unet.losses`, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from unet_nas.operators import aten
from unet_nas.operators.eager import Eager, Tensor

LossKind = Literal["cross_entropy", "dice_cross_entropy"]

_FULL_BYTES = 4
_INDEX_BYTES = 8
_MASK_BYTES = 1


@dataclass(frozen=True, slots=True)
class Loss:
    """A `SegmentationLoss` on a simulated process.

    Attributes:
        eager: The process.
        kind: Which loss.
        classes: Channels of the logits.
        ignores: Whether a value of the target is left out.
        weights: The buffer ``class_weights``, if there is one.
        multi_label: Whether labels may overlap.
    """

    eager: Eager
    kind: LossKind
    classes: int
    ignores: bool = False
    weights: Tensor | None = None
    multi_label: bool = False

    def forward(
        self, outputs: Sequence[Tensor], sizes: Sequence[tuple[int, ...]], target: Tensor
    ) -> Tensor:
        """One output, or several with halving weights.

        Args:
            outputs: Logits, full resolution first.
            sizes: Their spatial sizes.
            target: Of the size of the first output.
        """
        eager, one = self.eager, self._labels if self.multi_label else self._classes
        first = one(outputs[0], target, sizes[0])
        if len(outputs) == 1:
            return first
        total = aten.times_number(eager, first)
        eager.drop(first)
        for logits, size in zip(outputs[1:], sizes[1:], strict=True):
            smaller = _nearest(eager, target, sizes[0], size)
            loss = one(logits, smaller, size)
            eager.drop(smaller)
            weighted = aten.times_number(eager, loss)
            eager.drop(loss)
            older, total = total, aten.add(eager, total, weighted)
            eager.drop(weighted)
            eager.drop(older)
        return total

    def _classes(self, logits: Tensor, target: Tensor, size: Sequence[int]) -> Tensor:
        eager = self.eager
        full = aten.cast(eager, logits, _FULL_BYTES)
        log_probabilities = aten.elementwise(eager, full, "output")
        eager.drop(full)
        ignored = eager.new(target.elements, _MASK_BYTES) if self.ignores else None
        cross_entropy = self._cross_entropy(log_probabilities, target, size)
        if self.kind == "cross_entropy":
            _release(eager, log_probabilities, ignored)
            return cross_entropy
        probabilities = aten.elementwise(eager, log_probabilities, "output")
        one_hot = eager.new(probabilities.elements, _FULL_BYTES)
        if ignored is not None:  # class indices with a class where they are ignored
            eager.drop(eager.new(target.elements, _INDEX_BYTES))
        dice = self._dice(probabilities, one_hot, ignored)
        _release(eager, one_hot, probabilities)
        loss = aten.add(eager, cross_entropy, dice)
        _release(eager, cross_entropy, dice, log_probabilities, ignored)
        return loss

    def _cross_entropy(
        self, log_probabilities: Tensor, target: Tensor, size: Sequence[int]
    ) -> Tensor:
        eager = self.eager
        flat = log_probabilities if len(size) == 2 else aten.view(eager, log_probabilities)
        mean = aten.nll_loss(eager, flat, target, self.weights)
        if flat is not log_probabilities:
            eager.drop(flat)
        if not self.ignores:
            return mean
        nothing = eager.new(1, _MASK_BYTES)
        loss = aten.masked_fill(eager, mean, nothing)
        _release(eager, nothing, mean)
        return loss

    def _labels(self, logits: Tensor, target: Tensor, size: Sequence[int]) -> Tensor:
        eager = self.eager
        full = aten.cast(eager, logits, _FULL_BYTES)
        ignored = eager.new(target.elements, _MASK_BYTES) if self.ignores else None
        truth = eager.new(target.elements, _FULL_BYTES) if self.ignores else eager.view(target)
        cross_entropy = self._binary_cross_entropy(full, truth)
        if self.kind == "cross_entropy":
            _release(eager, full, ignored, truth)
            return cross_entropy
        probabilities = aten.elementwise(eager, full, "output")
        dice = self._dice(probabilities, truth, ignored)
        eager.drop(probabilities)
        loss = aten.add(eager, cross_entropy, dice)
        _release(eager, cross_entropy, dice, full, ignored, truth)
        return loss

    def _binary_cross_entropy(self, logits: Tensor, truth: Tensor) -> Tensor:
        eager = self.eager
        if not self.ignores:
            return aten.binary_cross_entropy(eager, logits, truth, self.weights)
        known = eager.new(truth.elements, _MASK_BYTES)
        counts = eager.new(truth.elements, _FULL_BYTES)
        eager.drop(known)
        if self.weights is not None:
            counts, unweighted = eager.new(truth.elements, _FULL_BYTES), counts
            eager.drop(unweighted)
        total = aten.binary_cross_entropy(eager, logits, truth, counts)
        number = eager.new(1, _FULL_BYTES)
        clamped = eager.new(1, _FULL_BYTES)
        eager.drop(number)
        mean = aten.divide(eager, total, clamped)
        _release(eager, clamped, total, counts)
        return mean

    def _dice(self, probabilities: Tensor, truth: Tensor, ignored: Tensor | None) -> Tensor:
        eager, classes = self.eager, self.classes
        product = aten.multiply(eager, probabilities, truth)
        overlap = aten.total(eager, product, classes)
        eager.drop(product)
        if ignored is None:
            predicted = aten.total(eager, probabilities, classes)
        else:
            seen = aten.masked_fill(eager, probabilities, ignored)
            predicted = aten.total(eager, seen, classes)
            eager.drop(seen)
        true = aten.total(eager, truth, classes)
        size = aten.add(eager, predicted, true)
        _release(eager, predicted, true)
        doubled = aten.times_number(eager, overlap)
        numerator = aten.plus_number(eager, doubled)
        eager.drop(doubled)
        denominator = aten.plus_number(eager, size)
        ratio = aten.divide(eager, numerator, denominator)
        _release(eager, numerator, denominator)
        mean = aten.resample(eager, ratio, 1)
        eager.drop(ratio)
        loss = aten.resample(eager, mean, 1)
        _release(eager, mean, overlap, size)
        return loss


def _nearest(eager: Eager, target: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """`losses.nearest`: one selection per axis that differs."""
    size = list(old)
    planes = target.elements // prod(old)
    out = eager.view(target)
    for axis, wanted in enumerate(new):
        if size[axis] == wanted:
            continue
        size[axis] = wanted
        index = eager.new(wanted, _INDEX_BYTES)
        selected = eager.new(planes * prod(size), target.itemsize)
        eager.drop(index)
        eager.drop(out)
        out = selected
    return out


def _release(eager: Eager, *tensors: Tensor | None) -> None:
    for tensor in tensors:
        if tensor is not None:
            eager.drop(tensor)

"""The memory tape of the losses: the calls of `unet_nas.unet.losses`, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from unet_nas.operators import aten
from unet_nas.operators.eager import Eager, Tensor

LossKind = Literal["cross_entropy", "dice_cross_entropy"]

_FULL_BYTES = 4
_INDEX_BYTES = 8


def segmentation_loss(
    eager: Eager,
    kind: LossKind,
    outputs: Sequence[Tensor],
    sizes: Sequence[tuple[int, ...]],
    target: Tensor,
    *,
    batch: int,
    classes: int,
) -> Tensor:
    """`SegmentationLoss.forward`: one output, or several with halving weights.

    Args:
        eager: The process.
        kind: Which loss.
        outputs: Logits, full resolution first.
        sizes: Their spatial sizes.
        target: Class indices of the size of the first output.
        batch: Samples.
        classes: Channels of the logits.
    """
    first = _one(eager, kind, outputs[0], target, sizes[0], classes)
    if len(outputs) == 1:
        return first
    total = aten.times_number(eager, first)
    eager.drop(first)
    for logits, size in zip(outputs[1:], sizes[1:], strict=True):
        smaller = _nearest(eager, target, sizes[0], size, batch)
        loss = _one(eager, kind, logits, smaller, size, classes)
        eager.drop(smaller)
        weighted = aten.times_number(eager, loss)
        eager.drop(loss)
        older, total = total, aten.add(eager, total, weighted)
        eager.drop(weighted)
        eager.drop(older)
    return total


def _one(
    eager: Eager, kind: LossKind, logits: Tensor, target: Tensor, size: Sequence[int], classes: int
) -> Tensor:
    full = aten.cast(eager, logits, _FULL_BYTES)
    log_probabilities = aten.elementwise(eager, full, "output")
    eager.drop(full)
    flat = log_probabilities if len(size) == 2 else aten.view(eager, log_probabilities)
    cross_entropy = aten.nll_loss(eager, flat, target)
    if flat is not log_probabilities:
        eager.drop(flat)
    if kind == "cross_entropy":
        eager.drop(log_probabilities)
        return cross_entropy
    probabilities = aten.elementwise(eager, log_probabilities, "output")
    dice = _dice(eager, probabilities, classes)
    eager.drop(probabilities)
    loss = aten.add(eager, cross_entropy, dice)
    for tensor in (cross_entropy, dice, log_probabilities):
        eager.drop(tensor)
    return loss


def _dice(eager: Eager, probabilities: Tensor, classes: int) -> Tensor:
    one_hot = eager.new(probabilities.elements, _FULL_BYTES)
    product = aten.multiply(eager, probabilities, one_hot)
    overlap = aten.total(eager, product, classes)
    eager.drop(product)
    predicted = aten.total(eager, probabilities, classes)
    true = aten.total(eager, one_hot, classes)
    size = aten.add(eager, predicted, true)
    eager.drop(predicted)
    eager.drop(true)
    doubled = aten.times_number(eager, overlap)
    numerator = aten.plus_number(eager, doubled)
    eager.drop(doubled)
    denominator = aten.plus_number(eager, size)
    ratio = aten.divide(eager, numerator, denominator)
    eager.drop(numerator)
    eager.drop(denominator)
    mean = aten.resample(eager, ratio, 1)
    eager.drop(ratio)
    loss = aten.resample(eager, mean, 1)
    for tensor in (mean, overlap, size, one_hot):
        eager.drop(tensor)
    return loss


def _nearest(
    eager: Eager, target: Tensor, old: Sequence[int], new: Sequence[int], batch: int
) -> Tensor:
    """`losses.nearest`: one selection per axis that differs."""
    size = list(old)
    out = eager.view(target)
    for axis, wanted in enumerate(new):
        if size[axis] == wanted:
            continue
        size[axis] = wanted
        index = eager.new(wanted, _INDEX_BYTES)
        selected = eager.new(batch * prod(size), _INDEX_BYTES)
        eager.drop(index)
        eager.drop(out)
        out = selected
    return out

"""The losses against PyTorch's own and against their formulas."""

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate, one_hot

from unet_nas.unet.losses import (
    SegmentationLoss,
    deep_supervision_weights,
    dice_loss,
    nearest,
)


@pytest.fixture
def logits():
    return torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def target():
    return torch.randint(0, 3, (2, 6, 5), generator=torch.Generator().manual_seed(1))


def test_cross_entropy_is_pytorchs(logits, target):
    assert torch.equal(SegmentationLoss()(logits, target), cross_entropy(logits, target))


def test_dice_is_its_formula(logits, target):
    p = logits.softmax(1)
    coefficients = []
    for c in range(3):
        t = (target == c).float()
        coefficients.append((2 * (p[:, c] * t).sum() + 1e-5) / (p[:, c].sum() + t.sum() + 1e-5))
    expected = 1 - torch.stack(coefficients).mean()
    torch.testing.assert_close(dice_loss(p, target, 1e-5), expected)
    total = SegmentationLoss("dice_cross_entropy")(logits, target)
    torch.testing.assert_close(total, expected + cross_entropy(logits, target))


def test_a_perfect_prediction_costs_nothing(target):
    logits = 1e4 * one_hot(target, 3).movedim(-1, 1).float()
    assert SegmentationLoss("dice_cross_entropy")(logits, target).item() == pytest.approx(0)


@pytest.mark.parametrize("size", [(6, 5), (3, 5), (2, 2), (4, 3)])
def test_nearest_is_pytorchs(target, size):
    expected = interpolate(target[:, None].float(), size, mode="nearest")[:, 0].long()
    assert torch.equal(nearest(target, size), expected)


def test_deep_supervision_weighs_by_halves(logits, target):
    small = logits[:, :, ::2, ::2].contiguous()
    loss = SegmentationLoss()
    expected = (2 * loss(logits, target) + loss(small, nearest(target, small.shape[2:]))) / 3
    torch.testing.assert_close(loss([logits, small], target), expected)
    assert sum(deep_supervision_weights(4)) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["cross_entropy", "dice_cross_entropy"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_half_precision_is_computed_in_full(kind, dims):
    logits = torch.randn(2, 2, *(4,) * dims, dtype=torch.bfloat16, requires_grad=True)
    loss = SegmentationLoss(kind)(logits, torch.zeros(2, *(4,) * dims, dtype=torch.int64))
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad is not None
    assert logits.grad.isfinite().all()

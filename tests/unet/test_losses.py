"""The losses against PyTorch's own and against their formulas."""

import pytest
import torch
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    interpolate,
    one_hot,
)

from unet_nas.unet.losses import (
    SegmentationLoss,
    deep_supervision_weights,
    dice_loss,
    nearest,
)

KINDS = ("cross_entropy", "dice_cross_entropy")
#: all options together with both ways of reading a target
OPTIONS = [
    {"kind": kind, "ignore_index": ignore, "class_weights": weights, "multi_label": several}
    for kind in KINDS
    for ignore in (None, 255)
    for weights in (None, (1.0, 4.0, 0.5))
    for several in (False, True)
]
IGNORING = [options for options in OPTIONS if options["ignore_index"]]


def name(options: dict) -> str:
    return " ".join(str(value) for value in options.values())


@pytest.fixture
def logits():
    return torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def target():
    return torch.randint(0, 3, (2, 6, 5), generator=torch.Generator().manual_seed(1))


def targets_for(options: dict, size: tuple[int, ...]) -> torch.Tensor:
    """Returns a target whose first row is ignored where that is an option."""
    generator = torch.Generator().manual_seed(1)
    if options["multi_label"]:
        target = torch.randint(0, 2, (2, 3, *size), generator=generator).float()
    else:
        target = torch.randint(0, 3, (2, *size), generator=generator)
    if options["ignore_index"]:
        target[..., 0, :] = options["ignore_index"]
    return target


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


@pytest.mark.parametrize("options", IGNORING, ids=name)
def test_what_is_ignored_might_as_well_not_be_there(logits, options):
    loss, target = SegmentationLoss(**options), targets_for(options, (6, 5))
    logits.requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert not logits.grad[:, :, 0].any()
    assert logits.grad[:, :, 1:].all()
    torch.testing.assert_close(value, loss(logits[:, :, 1:], target[..., 1:, :]))


@pytest.mark.parametrize("options", IGNORING, ids=name)
def test_a_batch_of_which_all_is_ignored_costs_nothing(logits, options):
    target = torch.full_like(targets_for(options, (6, 5)), 255)
    logits.requires_grad_()
    value = SegmentationLoss(**options)([logits, logits[:, :, ::2]], target)
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_a_network_that_diverged_is_seen(logits, options):
    logits[0, 0, 3, 3] = float("nan")
    assert SegmentationLoss(**options)(logits, targets_for(options, (6, 5))).isnan()


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_options_work_under_deep_supervision_and_autocast(logits, options):
    loss, target = SegmentationLoss(**options), targets_for(options, (6, 5))
    small = logits[:, :, ::2, ::2].contiguous()
    expected = (2 * loss(logits, target) + loss(small, nearest(target, small.shape[2:]))) / 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss([logits, small], target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)


def test_class_weights_are_pytorchs(logits, target):
    weights = (1.0, 4.0, 0.5)
    expected = cross_entropy(logits, target, torch.tensor(weights))
    assert torch.equal(SegmentationLoss(class_weights=weights)(logits, target), expected)


def test_labels_that_overlap_are_a_question_each(logits):
    target = targets_for({"multi_label": True, "ignore_index": None}, (6, 5))
    binary = SegmentationLoss(multi_label=True)(logits, target)
    assert torch.equal(binary, binary_cross_entropy_with_logits(logits, target))
    p, dims = logits.sigmoid(), (0, 2, 3)
    dice = (2 * (p * target).sum(dims) + 1e-5) / (p.sum(dims) + target.sum(dims) + 1e-5)
    total = SegmentationLoss("dice_cross_entropy", multi_label=True)(logits, target)
    torch.testing.assert_close(total, binary + 1 - dice.mean())


@pytest.mark.parametrize("ignore", [None, 255])
def test_weights_of_labels_make_a_weighted_mean(logits, ignore):
    target = targets_for({"multi_label": True, "ignore_index": ignore}, (6, 5))
    known, weights = target != 255, torch.tensor((1.0, 4.0, 0.5)).view(3, 1, 1)
    each = binary_cross_entropy_with_logits(logits, target, reduction="none")
    expected = (each * weights * known).sum() / (weights * known).sum()
    loss = SegmentationLoss(ignore_index=ignore, class_weights=(1, 4, 0.5), multi_label=True)
    torch.testing.assert_close(loss(logits, target), expected)


def test_labels_are_ignored_one_by_one(logits):
    target = torch.zeros(2, 3, 6, 5)
    target[:, 1] = 255
    loss = SegmentationLoss("dice_cross_entropy", ignore_index=255, multi_label=True)
    logits.requires_grad_()
    loss(logits, target).backward()
    assert [bool(logits.grad[:, label].any()) for label in range(3)] == [True, False, True]

"""Patches: what is drawn, what lies beyond the border, and that a seed gives them again."""

import threading
import time

import numpy as np
import pytest
import torch

from unet_nas.train.data.augment import change_intensity
from unet_nas.train.data.cases import IGNORE, Case, Task
from unet_nas.train.data.options import (
    Affine,
    Augment,
    BiasField,
    Blur,
    Gamma,
    Intensity,
    Noise,
)
from unet_nas.train.data.patches import Patches, _turned, mirrored

FLAT = {"noise": None, "intensity": None, "gamma": None, "blur": None}
EVERYTHING = Augment(
    flip=True,
    turn=True,
    affine=Affine(probability=1),
    noise=Noise(probability=1),
    intensity=Intensity(probability=1),
    gamma=Gamma(probability=1),
    bias_field=BiasField(probability=1),
    blur=Blur(probability=1),
)


def numbered(*shape, classes=2, name="a", ignore=None):
    """A case whose image says where each position lies, and whose target repeats it."""
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    target = (image[0] % classes).astype(np.uint8)
    return Case(name, name, image, target, (1.0,) * len(shape))


def task_of(case, ignore=None, classes=2):
    return Task(case.target.ndim, 1, tuple("abcdefg"[:classes]), ignore_label=ignore)


def patches(cases, task=None, **options):
    options = {"patch_size": (4, 4), "batch_size": 3, "augment": None, "ahead": 0, **options}
    return Patches(cases, task or task_of(cases[0]), **options)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_patches_are_pieces_of_the_image_with_their_target(dims):
    case = numbered(*(9, 7, 8)[:dims])
    made = patches([case], patch_size=(4, 3, 5)[:dims])
    for _ in range(20):
        inputs, targets = next(made)
        assert inputs.dtype == torch.float32
        assert targets.dtype == torch.int64
        assert inputs.shape == (3, 1, *(4, 3, 5)[:dims])
        assert torch.equal(inputs[:, 0].long() % 2, targets)
        for one in inputs[:, 0].numpy():
            begin = np.unravel_index(int(one.flat[0]), case.target.shape)
            window = tuple(slice(b, b + n) for b, n in zip(begin, one.shape, strict=True))
            assert np.array_equal(case.image[0][window], one)


def test_every_place_is_drawn():
    case = numbered(6, 6)
    corners = {
        int(one.flat[0])
        for inputs, _ in (next(m) for m in [patches([case])] * 100)
        for one in inputs.numpy()
    }
    assert corners == {6 * row + column for row in range(3) for column in range(3)}


def test_each_pass_takes_every_case_once_in_another_order():
    cases = [numbered(4, 4) for _ in range(6)]
    for value, case in enumerate(cases):
        case.image[...] = value
    made = patches(cases)
    passes = [[int(v) for _ in range(2) for v in next(made)[0][:, 0, 0, 0]] for _ in range(10)]
    assert all(sorted(order) == list(range(6)) for order in passes)
    assert len({tuple(order) for order in passes}) > 5


def test_foreground_comes_as_often_as_asked_and_rare_classes_as_common_ones():
    target = np.zeros((64, 64), np.uint8)
    target[:, 60:] = 1
    target[5, 5] = 2
    case = Case("a", "a", np.zeros((1, 64, 64), np.float32), target, (1.0, 1.0))
    task = task_of(case, classes=3)

    def share_with(label, foreground):
        made = patches([case], task, foreground=foreground, batch_size=600)
        return float((next(made)[1] == label).flatten(1).any(dim=1).float().mean())

    assert 0.42 < share_with(2, 1.0) < 0.58
    assert share_with(2, 0.0) < 0.03
    assert 0.17 < share_with(2, 0.4) < 0.25


def test_small_images_are_mirrored_and_so_are_their_targets():
    case = numbered(3, 9)
    inputs, targets = next(patches([case], patch_size=(7, 4)))
    assert torch.equal(inputs[:, 0].long() % 2, targets)
    rows = inputs[0, 0, :, 0].numpy() // 9
    assert rows.tolist() == [2, 1, 0, 1, 2, 1, 0]


def test_beyond_the_border_nothing_counts_where_something_may_be_ignored():
    case = numbered(3, 9)
    inputs, targets = next(patches([case], task_of(case, ignore=IGNORE), patch_size=(7, 4)))
    assert inputs[0, 0, :, 0].numpy().astype(int).tolist() != [0] * 7
    assert (targets[:, [0, 1, 5, 6]] == IGNORE).all()
    assert torch.equal(targets[:, 2:5], inputs[:, 0, 2:5].long() % 2)


def test_a_smaller_target_lies_inside_the_image_and_the_input_reaches_beyond():
    case = numbered(8, 8)
    made = patches([case], patch_size=(8, 8), target_crop=(4, 4), foreground=0, batch_size=400)
    inputs, targets = next(made)
    assert targets.shape == (400, 4, 4)
    assert torch.equal(inputs[:, 0, 2:6, 2:6].long() % 2, targets)
    corners = {int(v) for v in inputs[:, 0, 2, 2]}
    assert corners == {8 * row + column for row in range(5) for column in range(5)}
    first = next(one[0].numpy() for one in inputs if int(one[0, 2, 2]) == 0)
    assert (first[:, 2] // 8).tolist() == [2, 1, 0, 1, 2, 3, 4, 5]


def test_labels_that_overlap():
    target = np.stack([np.eye(8, dtype=np.uint8), np.ones((8, 8), np.uint8)])
    case = Case("a", "a", np.eye(8, dtype=np.float32)[None], target, (1.0, 1.0))
    task = Task(2, 1, ("a", "b"), multi_label=True)
    _, targets = next(patches([case], task, augment=Augment(flip=True, affine=None)))
    assert targets.shape == (3, 2, 4, 4)
    assert targets.dtype == torch.float32
    assert targets[:, 1].min() == 1
    assert set(np.unique(targets[:, 0])) <= {0.0, 1.0}


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("augment", [None, Augment(), EVERYTHING])
def test_the_same_seed_gives_the_same_patches_ahead_or_not(dims, augment):
    cases = [numbered(*(12,) * dims) for _ in range(5)]
    options = {"patch_size": (8,) * dims, "augment": augment}
    plain = patches(cases, **options, seed=3)
    with patches(cases, **options, seed=3, ahead=2) as ahead:
        for _ in range(6):
            for one, other in zip(next(plain), next(ahead), strict=True):
                assert torch.equal(one, other)
    other_seed = patches(cases, **options, seed=4)
    assert not all(torch.equal(next(plain)[0], next(other_seed)[0]) for _ in range(3))


def test_resuming_goes_on_exactly():
    cases = [numbered(12, 12) for _ in range(5)]
    with patches(cases, augment=EVERYTHING, ahead=2) as one:
        for _ in range(7):
            next(one)
        state = one.state()
        expected = [next(one) for _ in range(4)]
        one.set_state(state)
        again = [next(one) for _ in range(4)]
    fresh = patches(cases, augment=EVERYTHING)
    fresh.set_state(state)
    for batch, repeated, resumed in zip(expected, again, fresh, strict=False):
        assert torch.equal(batch[0], repeated[0])
        assert torch.equal(batch[0], resumed[0])
        assert torch.equal(batch[1], resumed[1])


def test_closing_ends_the_thread():
    def threads():
        return [t for t in threading.enumerate() if t.name.startswith("patches")]

    before = len(threads())
    made = patches([numbered(12, 12)], ahead=2)
    next(made)
    assert len(threads()) == before + 1
    made.close()
    assert len(threads()) == before


def test_an_error_in_the_thread_reaches_the_loop():
    case = Case("a", "a", np.zeros((2, 8, 8), np.float32), np.zeros((8, 8), np.uint8), (1.0, 1.0))
    with patches([case], ahead=2) as made, pytest.raises(ValueError, match="broadcast"):
        next(made)


# --- augmentation ---------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_image_and_target_move_together(dims):
    coarse = np.random.default_rng(0).random((4,) * dims) > 0.5
    target = coarse.repeat(5, axis=0).astype(np.uint8)
    for axis in range(1, dims):
        target = target.repeat(5, axis=axis)
    case = Case("a", "a", target[None].astype(np.float32), target, (1.0,) * dims)
    for augment in (
        Augment(flip=True, turn=True, affine=None, **FLAT),
        Augment(affine=Affine(probability=1), **FLAT),
    ):
        inputs, targets = next(patches([case], patch_size=(12,) * dims, augment=augment))
        assert (torch.round(inputs[:, 0]) == targets).float().mean() > 0.95


def test_flips_and_turns_are_all_there_is_of_a_square():
    case = numbered(4, 4)
    augment = Augment(flip=True, turn=True, affine=None, **FLAT)
    made = patches([case], augment=augment, batch_size=200)
    found = {tuple(one[0].flatten().tolist()) for one in next(made)[0]}
    square = case.image[0]
    all_eight = {
        tuple(np.rot90(one, turns).ravel().tolist())
        for one in (square, square[:, ::-1])
        for turns in range(4)
    }
    assert found == all_eight


def test_signals_keep_their_direction_unless_told():
    case = numbered(4)
    augment = Augment(affine=None, **FLAT)
    made = patches([case], patch_size=(4,), augment=augment, batch_size=50)
    assert {tuple(one[0].tolist()) for one in next(made)[0]} == {(0, 1, 2, 3)}
    both = patches(
        [case], patch_size=(4,), augment=Augment(flip=True, affine=None, **FLAT), batch_size=50
    )
    assert len({tuple(one[0].tolist()) for one in next(both)[0]}) == 2


def test_turning_by_a_right_angle_is_exact():
    case = numbered(5, 5)
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    found = _turned(case.image, (2.0, 2.0), (5, 5), quarter, order=1)
    assert np.allclose(found[0], np.rot90(case.image[0], -1))


def image_of(shape, seed=0):
    return np.random.default_rng(seed).normal(2, 3, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 64), (2, 32, 24), (1, 12, 10, 8)])
@pytest.mark.parametrize(
    "changes",
    [
        {"noise": Noise(probability=1, strength=0.5)},
        {"intensity": Intensity(probability=1)},
        {"gamma": Gamma(probability=1)},
        {"bias_field": BiasField(probability=1)},
        {"blur": Blur(probability=1, sigma=1)},
    ],
)
def test_each_change_of_intensity_fits_each_dimension(shape, changes):
    image = image_of(shape)
    changed = image.copy()
    change_intensity(changed, Augment(**{**FLAT, **changes}), np.random.default_rng(1))
    assert changed.shape == image.shape
    assert np.isfinite(changed).all()
    assert not np.array_equal(changed, image)
    correlation = np.corrcoef(changed.ravel(), image.ravel())[0, 1]
    assert correlation > 0.3
    # relative to the deviation, the same change at every scale of intensities
    scaled = image * 100
    change_intensity(scaled, Augment(**{**FLAT, **changes}), np.random.default_rng(1))
    assert np.allclose(scaled, changed * 100, rtol=1e-2, atol=1.0)


def test_noise_blur_gamma_and_contrast_do_what_they_say():
    image = image_of((1, 64, 64))
    draws = [np.random.default_rng(seed) for seed in range(20)]

    def change(augment, random):
        changed = image.copy()
        change_intensity(changed, augment, random)
        return changed

    noise = [
        change(Augment(**{**FLAT, "noise": Noise(probability=1, strength=0.5)}), r) - image
        for r in draws
    ]
    assert 0 < max(float(n.std()) for n in noise) <= 0.51 * image.std()
    blurred = [change(Augment(**{**FLAT, "blur": Blur(probability=1, sigma=3)}), r) for r in draws]
    assert min(float(b.std()) for b in blurred) < 0.5 * image.std()
    assert max(abs(float(b.mean() - image.mean())) for b in blurred) < 0.1
    powered = [change(Augment(**{**FLAT, "gamma": Gamma(probability=1)}), r) for r in draws]
    for one in powered:
        assert abs(float(one.std() / image.std()) - 1) < 1e-3
        order = np.argsort(image.ravel())
        assert (np.diff(one.ravel()[order]) >= -1e-4).all()
    shifted = [change(Augment(**{**FLAT, "intensity": Intensity(probability=1)}), r) for r in draws]
    ratios = [float(s.std() / image.std()) for s in shifted]
    assert min(ratios) >= 1 / 1.26
    assert max(ratios) <= 1.26
    assert max(ratios) > 1.05
    assert min(ratios) < 0.95


def test_probabilities_are_kept_to():
    augment = Augment(**{**FLAT, "noise": Noise(probability=0.3)})
    random = np.random.default_rng(0)
    changed = 0
    for _ in range(1000):
        image = np.array([[0.0, 1.0]], np.float32)
        change_intensity(image, augment, random)
        changed += not np.array_equal(image, [[0.0, 1.0]])
    assert 250 < changed < 350


def test_augmentation_leaves_the_cases_as_they_are():
    case = numbered(16, 16)
    before = case.image.copy(), case.target.copy()
    made = patches([case], patch_size=(16, 16), augment=EVERYTHING)
    for _ in range(5):
        next(made)
    assert np.array_equal(case.image, before[0])
    assert np.array_equal(case.target, before[1])


def test_a_patch_costs_little():
    cases = [numbered(256, 256) for _ in range(4)]
    made = patches(cases, patch_size=(128, 128), batch_size=8, augment=Augment())
    next(made)
    times = []
    for _ in range(15):
        begin = time.perf_counter()
        next(made)
        times.append((time.perf_counter() - begin) / 8)
    assert min(times) < 4e-3, f"{min(times) * 1e3:.2f} ms for each patch of 128²"


def test_mirroring_of_one_position():
    assert mirrored(-3, 7, 1).tolist() == [0] * 7

import numpy as np
import pytest
import torch

from tests.train.blobs import case, dataset, task
from unet_nas import Architecture, build
from unet_nas.errors import InputError
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.cases import Task
from unet_nas.train.metric_names import ACCURACY, accuracy, check_metrics
from unet_nas.train.metrics import (
    Tolerances,
    labels_of,
    mean_scores,
    score,
    score_case,
)

THREE = Task(2, 1, ("background", "a", "b", "c"))
VOLUME = Task(3, 1, ("background", "a", "b"))
SIGNAL = Task(1, 1, ("background", "wave"))


def maps(size, classes, seed):
    draw = np.random.default_rng(seed)
    coarse = draw.integers(classes, size=[-(-n // 4) for n in size])
    for axis in range(len(size)):
        coarse = coarse.repeat(4, axis=axis)
    return coarse[tuple(slice(0, n) for n in size)].astype(np.uint8)


def one_hot(labels, classes):
    planes = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), classes)
    return planes.movedim(-1, 0)[None]


def test_dice_and_iou_are_the_textbook_numbers():
    truth = np.array([[1, 1, 0, 0], [1, 1, 0, 2]], np.uint8)
    prediction = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], np.uint8)
    found = score_case(truth, prediction, THREE, spacing=(1.0, 1.0))
    # a: 3 of 4 and 4 agree; b: in the truth alone; c: in neither, and left out
    assert found["dice[a]"] == 6 / 8
    assert found["iou[a]"] == 3 / 5
    assert found["dice[b]"] == 0
    assert "dice[c]" not in found
    assert found["dice"] == (6 / 8 + 0) / 2
    assert found["iou"] == (3 / 5 + 0) / 2


@pytest.mark.parametrize("seed", range(4))
def test_dice_and_iou_equal_those_of_monai(seed):
    from monai.metrics import compute_dice, compute_iou

    truth, prediction = (maps((33, 29), 4, 2 * seed + i) for i in range(2))
    found = score_case(truth, prediction, THREE, spacing=(1.0, 1.0))
    arguments = (one_hot(prediction, 4), one_hot(truth, 4))
    dice = compute_dice(*arguments, include_background=False)[0].tolist()
    iou = compute_iou(*arguments, include_background=False)[0].tolist()
    assert [found[f"dice[{name}]"] for name in "abc"] == pytest.approx(dice, rel=1e-6)
    assert [found[f"iou[{name}]"] for name in "abc"] == pytest.approx(iou, rel=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
def test_surfaces_are_measured_in_millimetres_as_monai_does():
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    truth, prediction = (maps((12, 16, 10), 3, 40 + i) for i in range(2))
    spacing = (2.0, 0.5, 1.0)
    wanted = ["hd95", "surface_dice"]
    found = score_case(
        truth,
        prediction,
        VOLUME,
        spacing=spacing,
        metrics=wanted,
        tolerances=Tolerances(surface=1.2),
    )
    arguments = (one_hot(prediction, 3), one_hot(truth, 3))
    distance = compute_hausdorff_distance(*arguments, percentile=95, spacing=list(spacing))
    share = compute_surface_dice(*arguments, [1.2, 1.2], spacing=list(spacing))
    assert [found["hd95[a]"], found["hd95[b]"]] == distance[0].tolist()
    assert [found["surface_dice[a]"], found["surface_dice[b]"]] == share[0].tolist()
    assert found["hd95"] == pytest.approx(distance.mean().item())
    # a shift by two planes of 2 mm
    plane = np.zeros((9, 5, 5), np.uint8)
    plane[2] = 1
    shifted = np.roll(plane, 2, axis=0)
    moved = score_case(
        plane,
        shifted,
        VOLUME,
        spacing=(2.0, 1.0, 1.0),
        metrics=wanted,
        tolerances=Tolerances(surface=3.9),
    )
    assert moved["hd95"] == 4
    assert moved["surface_dice"] == 0
    near = score_case(
        plane,
        shifted,
        VOLUME,
        spacing=(2.0, 1.0, 1.0),
        metrics=wanted,
        tolerances=Tolerances(surface=4),
    )
    assert near["surface_dice"] == 1


def test_a_class_that_only_one_side_has_is_as_wrong_as_can_be():
    truth, empty = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    truth[1, 1] = 1
    wanted = ["hd95", "surface_dice"]
    for pair in ((truth, empty), (empty, truth)):
        found = score_case(*pair, task(), spacing=(3.0, 4.0), metrics=wanted)
        assert found["dice"] == found["surface_dice"] == 0
        assert found["hd95"] == 20
    assert score_case(empty, empty, task(), spacing=(1.0, 1.0), metrics=wanted) == {}


def test_cases_that_have_nothing_are_left_out_of_the_mean():
    assert mean_scores([{}, {}]) == {}
    assert mean_scores([{"dice": 1.0}, {}, {"dice": 0.0}]) == {"dice": 0.5}


def test_ignored_positions_count_nowhere():
    ignoring = Task(2, 1, ("background", "a"), ignore_label=255)
    truth = np.array([[1, 1, 255, 255], [0, 0, 255, 255]], np.uint8)
    for unseen in (0, 1):
        prediction = np.array([[1, 0, unseen, unseen], [0, 0, unseen, unseen]], np.uint8)
        found = score_case(truth, prediction, ignoring, spacing=(1.0, 1.0), metrics=["border_dice"])
        assert found["dice[a]"] == 2 / 3
        assert found["border_dice"] == 2 / 3
    everything = np.full((2, 4), 255, np.uint8)
    assert score_case(everything, np.ones((2, 4), np.uint8), ignoring, spacing=(1.0, 1.0)) == {}


def test_labels_that_overlap_are_scored_one_by_one():
    overlapping = Task(2, 1, ("cell", "nucleus"), multi_label=True, ignore_label=255)
    truth = np.array([[[1, 1, 0, 255]], [[1, 0, 0, 0]]], np.uint8)
    prediction = np.array([[[1, 0, 0, 1]], [[1, 1, 0, 0]]], np.uint8)
    found = score_case(truth, prediction, overlapping, spacing=(1.0, 1.0))
    assert found["dice[cell]"] == 2 / 3
    assert found["dice[nucleus]"] == 2 / 3
    logits = torch.tensor([[[2.0, -1.0]], [[0.5, 3.0]]])
    assert labels_of(logits, overlapping).tolist() == [[[1, 0]], [[1, 1]]]
    assert labels_of(logits, task()).tolist() == [[0, 1]]


def runs(length, *intervals, ignored=()):
    signal = np.zeros(length, np.uint8)
    for start, stop in intervals:
        signal[start:stop] = 1
    for start, stop in ignored:
        signal[start:stop] = 255
    return signal


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        ([(10, 20)], [(12, 21)], 1.0),
        ([(10, 20)], [(10, 40)], 0.5),  # the onset is right, the offset is not
        ([(10, 20)], [(50, 60)], 0.0),
        ([(10, 20)], [], 0.0),
        ([(10, 20), (50, 60)], [(10, 20)], 2 * 2 / 6),
        ([(10, 20)], [(8, 9), (11, 20)], 2 * 2 / 6),  # a true point is matched once
        ([(0, 20)], [(0, 19)], 1.0),  # what begins with the record has no onset
    ],
)
def test_events_are_right_within_a_tolerance(truth, prediction, expected):
    tolerances = Tolerances(event=0.02)  # in seconds at 100 samples a second: two samples
    found = score_case(
        runs(100, *truth),
        runs(100, *prediction),
        SIGNAL,
        spacing=(0.01,),
        metrics=["event_f1"],
        tolerances=tolerances,
    )
    assert found["event_f1"] == pytest.approx(expected)


def test_events_at_the_border_of_what_is_annotated_are_none():
    ignoring = Task(1, 1, ("background", "wave"), ignore_label=255)
    truth = runs(100, (20, 40), ignored=[(0, 30), (80, 100)])
    prediction = runs(100, (5, 9), (25, 40), (85, 90))
    assert (
        score_case(truth, prediction, ignoring, spacing=(1.0,), metrics=["event_f1"])["event_f1"]
        == 1
    )


def test_dice_by_distance_to_the_border():
    truth, prediction = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    truth[:, :20] = 1
    prediction[8:32, 8:20] = 1  # nothing within 8 of the border
    found = score_case(truth, prediction, task(), spacing=(1.0, 1.0), metrics=["border_dice"])
    assert found["border_dice[0-7]"] == 0
    assert found["border_dice[8-15]"] == 1
    assert found["border_dice[16-31]"] == 1
    assert 0 < found["border_dice"] < 1
    assert "border_dice[64+]" not in found


def test_the_score_of_a_network_is_the_mean_over_its_cases():
    data = dataset()
    module = build(Architecture(depth=2, width=4)).train()
    found = score(module, data.train, data.task, patch_size=(32, 32))
    each = [score(module, [one], data.task, patch_size=(32, 32)) for one in data.train]
    assert found["dice"] == pytest.approx(np.mean([one["dice"] for one in each]))
    assert module.training
    assert set(found) == {"dice", "dice[blob]", "iou", "iou[blob]"}


def test_resampled_data_are_scored_at_the_geometry_of_their_file():
    from dataclasses import replace

    from unet_nas.train.data.geometry import Geometry

    plain = case(3, (32, 32))
    fine = plain.target.repeat(2, axis=0).repeat(2, axis=1)[:, ::-1]
    geometry = Geometry((64, 64), (0, 1), (False, True), (0.5, 0.5), 2)
    resampled = replace(plain, restore=geometry, truth=np.ascontiguousarray(fine))

    class Truth(torch.nn.Module):
        def forward(self, x):
            inside = torch.from_numpy(plain.target)[None, None].float()
            return torch.cat([-inside, inside], dim=1) * 20

    found = score(Truth(), [resampled], task(), patch_size=(32, 32), metrics=["hd95"])
    assert 0.9 < found["dice"] < 1  # edges are interpolated
    assert found["hd95"] == pytest.approx(0.5 * 2**0.5)  # one position of the file, diagonally
    assert score(Truth(), [plain], task(), patch_size=(32, 32))["dice"] == 1


def test_metrics_that_do_not_fit_the_data_are_refused():
    with pytest.raises(InputError, match=r"no accuracy metric 'dise'; there are dice, iou"):
        check_metrics(["dise"], task())
    with pytest.raises(InputError, match="event_f1 is for data of one dimension"):
        check_metrics(["event_f1"], task())
    with pytest.raises(InputError, match="hd95 needs data of two or three dimensions"):
        check_metrics(["hd95"], SIGNAL)
    with pytest.raises(InputError, match=r"'iou\[x\]' cannot .*: use iou or iou\[a\] or iou\[b\]"):
        check_metrics(["iou[a]", "iou[x]"], VOLUME)
    with pytest.raises(InputError, match=r"use dice or dice\[wave\]"):
        check_metrics(["dice[background]"], SIGNAL)
    check_metrics(["dice[blob]", "border_dice[0-7]"], task())


def test_the_table_of_metrics_says_all_that_the_search_needs():
    assert accuracy("dice[nucleus]").direction == "maximize"
    assert ACCURACY["hd95"].direction == "minimize"
    assert ACCURACY["hd95"].unit == "mm"


def test_tolerances_come_from_the_section_train():
    config = TrainConfig.model_validate({"surface_tolerance": 2, "event_tolerance": 75})
    assert Tolerances.of(config) == Tolerances(surface=2, event=75)
    assert Tolerances.of(TrainConfig()) == Tolerances()

"""Baselines: brought to the data and to a parameter count; and the choice of finalists."""

import pytest

from unet_nas.errors import InputError
from unet_nas.records.study import ObjectiveSpec, TrialRecord
from unet_nas.search.baselines import architecture_of, check_baselines, scaled
from unet_nas.search.config import Baseline
from unet_nas.search.front import front, selected
from unet_nas.train.data.cases import Task
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower
from unet_nas.unet.load import preset

IMAGES = Task(2, 3, ("background", "a", "b"))


def size(architecture):
    return lower(architecture).parameters()


@pytest.mark.parametrize(
    ("name", "count"),
    [("unet-2015", 60_000), ("attention-unet", 500_000), ("nnunet-plain-2d", 2_000_000)],
)
def test_the_width_is_the_largest_that_is_small_enough(name, count):
    found = scaled(preset(name), count)
    wider = found.model_copy(update={"width": found.width + 1})
    assert size(found) <= count < size(wider)


def test_lists_of_features_are_scaled_as_a_whole():
    found = scaled(Architecture(depth=2, features=(8, 24, 40)), 10_000)
    assert found.features == (3, 9, 15)
    assert size(found) <= 10_000 < size(Architecture(depth=2, features=(4, 12, 20)))


def test_widths_that_break_a_rule_are_left_out():
    net = Architecture(depth=1, width=16, norm={"type": "group", "groups": 8})
    found = scaled(net, 20_000)
    assert found.width % 8 == 0
    assert size(found) <= 20_000
    with pytest.raises(InputError, match="no width gives at most 100 parameters"):
        scaled(net, 100)


def test_a_baseline_takes_the_data(tmp_path):
    baseline = Baseline(network="preset:nnunet-plain", set=("depth=3", "deep_supervision=0"))
    found = architecture_of(baseline, IMAGES, base=tmp_path)
    assert (found.in_channels, found.classes, found.depth) == (3, 3, 3)
    volume = Task(3, 1, ("background", "a"))
    baseline = Baseline(network="preset:nnunet-plain")
    assert architecture_of(baseline, volume, base=tmp_path).spatial_dims == 3
    assert architecture_of(Baseline(network="python:a.b:c"), IMAGES, base=tmp_path) is None
    (tmp_path / "mine.yaml").write_text("architecture: {depth: 2}")
    assert architecture_of(Baseline(network="mine.yaml"), IMAGES, base=tmp_path).depth == 2


def test_a_baseline_that_cannot_be():
    with pytest.raises(InputError, match=r"baseline x: .*depht"):
        architecture_of(
            Baseline(network="preset:unet-2015", name="x", set=("depht=3",)), IMAGES, base=None
        )
    entry = (Baseline(network="preset:nnunet-plain"),)
    with pytest.raises(InputError, match=r"does not run on patches of 100: a norm ") as found:
        check_baselines(entry, IMAGES, {"patch_size": 100}, base=None)
    advised = str(found.value).partition("set: [")[2].partition("]")[0].split(", ")
    assert advised == ["depth=2", "deep_supervision=1"]
    check_baselines(
        (entry[0].model_copy(update={"set": tuple(advised)}),),
        IMAGES,
        {"patch_size": 100},
        base=None,
    )


BOTH = (ObjectiveSpec("dice", "maximize"), ObjectiveSpec("macs", "minimize"))


def record(name, dice, macs, excess=0.0):
    values = {"dice": dice, "macs": macs}
    return TrialRecord(
        "trial", name, "complete", objectives=values, constraints={"latency": excess}
    )


RECORDS = [
    record("a", 0.9, 9.0),
    record("b", 0.8, 4.0),
    record("c", 0.8, 5.0),
    record("d", 0.7, 1.0),
    record("over", 0.95, 1.0, excess=0.1),
    record("e", 0.75, 2.0),
    record("same", 0.75, 2.0),
    TrialRecord("trial", "failed", "failed"),
]


def test_the_front_is_what_nothing_feasible_dominates():
    assert [r.name for r in front(RECORDS, BOTH)] == ["a", "b", "e", "d"]


@pytest.mark.parametrize(
    ("count", "names"), [(0, ""), (1, "a"), (2, "ad"), (3, "aed"), (None, "abed"), (9, "abed")]
)
def test_finalists_are_spread_over_the_front(count, names):
    assert "".join(r.name for r in selected(RECORDS, BOTH, count)) == names


def test_the_knee_comes_after_the_best():
    """It is what a report recommends; costs count by their logarithm."""
    bulge = [*RECORDS, record("k", 0.89, 1.5)]
    assert [r.name for r in front(bulge, BOTH)] == ["a", "k", "d"]
    assert [r.name for r in selected(bulge, BOTH, 2)] == ["a", "k"]


def test_with_one_objective_they_are_the_best():
    assert [r.name for r in selected(RECORDS, BOTH[:1], 2)] == ["a", "b"]
    assert [r.name for r in selected(RECORDS, BOTH[1:], 2)] == ["d", "e"]

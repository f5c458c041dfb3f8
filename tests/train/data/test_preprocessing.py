"""Normalisation and clipping, per channel; what prediction does is what training did."""

import json

import numpy as np
import pytest

from unet_nas.errors import InputError
from unet_nas.train.data.preprocessing import Preprocessing, Statistics
from unet_nas.train.data.raw import RawCase

NAMES = ("background", "cell")


def raw(image, **options):
    return RawCase(np.asarray(image), None, (1.0,) * (np.ndim(image) - 1), **options)


@pytest.fixture
def case():
    draw = np.random.default_rng(0)
    channels = [draw.normal(10, 2, (30, 20)), draw.normal(-500, 90, (30, 20))]
    return raw(np.stack(channels).astype(np.float32))


def test_each_channel_of_each_image(case):
    made = Preprocessing(2, 2, NAMES).image(case)
    assert made.dtype == np.float32
    assert np.abs(made.mean(axis=(1, 2))).max() < 1e-5
    assert np.abs(made.std(axis=(1, 2)) - 1).max() < 1e-5


def test_each_channel_of_the_data_set(case):
    other = raw(case.image + 7)
    statistics = Statistics.of([case, other], None)
    made = Preprocessing(2, 2, NAMES, normalise="dataset").with_statistics(statistics)
    both = np.stack([made.image(case), made.image(other)])
    assert np.abs(both.mean(axis=(0, 2, 3))).max() < 1e-4
    assert np.abs(both.std(axis=(0, 2, 3)) - 1).max() < 1e-4
    assert np.allclose(both[1] - both[0], 7 / np.array(made.deviations).reshape(2, 1, 1), atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.int16, 32767), (np.float32, 1)]
)
def test_scale_is_by_type(dtype, top):
    image = np.array([[0, top]], dtype)
    assert Preprocessing(1, 1, NAMES, normalise="scale").image(raw(image)).tolist() == [[0, 1]]
    assert Preprocessing(1, 1, NAMES, normalise="none").image(raw(image)).tolist() == [[0, top]]


def test_clipping_cuts_at_percentiles_of_the_image():
    image = np.arange(101.0)[None]
    image[0, 100] = 1e9
    made = Preprocessing(1, 1, NAMES, normalise="none", clip=(10, 90)).image(raw(image))
    assert (made.min(), made.max()) == (10, 90)


def test_clipping_of_a_data_set_is_the_same_for_all():
    one, other = raw(np.arange(101.0)[None]), raw(np.arange(101.0, 202)[None])
    statistics = Statistics.of([one, other], (10.0, 90.0))
    assert statistics.limits == ((pytest.approx(20.1), pytest.approx(180.9)),)
    plan = Preprocessing(1, 1, NAMES, normalise="dataset", clip=(10.0, 90.0))
    plan = plan.with_statistics(statistics)
    low, high = plan.image(one).min(), plan.image(other).max()
    spread = plan.deviations[0]
    assert abs((high - low) * spread - (180.9 - 20.1)) < 1e-3


def test_a_constant_image_is_zero():
    made = Preprocessing(1, 1, NAMES).image(raw(np.full((1, 9), 7, np.uint8)))
    assert (made == 0).all()


@pytest.mark.parametrize("normalise", ["image", "dataset", "scale", "none"])
def test_positions_without_information_have_the_mean(normalise):
    image = np.array([[1.0, 3.0, -9999.0, 5.0]])
    case = raw(image, valid=np.array([True, True, False, True]))
    plan = Preprocessing(1, 1, NAMES, normalise=normalise)
    plan = plan.with_statistics(Statistics.of([case], None))
    made = plan.image(case)[0]
    assert abs(made[2] - made[[0, 1, 3]].mean()) < 1e-6
    assert plan.means == (3.0,)


def test_the_image_read_is_not_changed(case):
    before = case.image.copy()
    Preprocessing(2, 2, NAMES, clip=(5.0, 95.0)).image(case)
    assert np.array_equal(before, case.image)


def test_json_and_back():
    plan = Preprocessing(
        2,
        1,
        NAMES,
        normalise="dataset",
        clip=(0.5, 99.5),
        means=(1.5,),
        deviations=(2.0,),
        limits=((0.0, 9.0),),
        nodata="nan",
        spacing=(1.0, 0.5),
        mask_values=((0, 0, 0), (255, 0, 0)),
        channels=(2,),
    )
    assert Preprocessing.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    with pytest.raises(InputError, match="preprocessing is damaged: spatial_dims"):
        Preprocessing.from_json({})

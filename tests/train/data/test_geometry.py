"""Volumes of any orientation and spacing; what is predicted returns to the file exactly."""

import itertools
import json

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from unet_nas.train.data.cases import IGNORE
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.geometry import new_shape, resample_target
from unet_nas.train.data.load import load_data
from unet_nas.train.data.nifti import geometry_of

CODES = ["RAS", "LPS", "SAR", "PIL", "ASL"]


def reoriented(array, spacing, code):
    """Stores an array, given along right, anterior and superior, with axes in another order."""
    turns = nibabel.orientations.axcodes2ornt(tuple(code))
    from_ras = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt(tuple("RAS")), turns
    )
    image = nibabel.Nifti1Image(array, np.diag([*spacing, 1.0]))
    return image.as_reoriented(from_ras)


def one_hot(target, classes):
    return np.stack([(target == index) for index in range(classes)]).astype(np.float32)


def write(root, image, mask, spacings, codes):
    for sub in ("imagesTr", "labelsTr"):
        (root / sub).mkdir()
    names = [f"c{i}" for i in range(len(spacings))]
    for name, spacing, code in zip(names, spacings, codes, strict=True):
        saved = reoriented(image, spacing, code)
        nibabel.save(saved, root / "imagesTr" / f"{name}_0000.nii.gz")
        nibabel.save(reoriented(mask, spacing, code), root / "labelsTr" / f"{name}.nii.gz")
    labels = {"background": 0, "a": 1, "b": 2}
    about = {"channel_names": {"0": "T1"}, "labels": labels, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(about))


@pytest.fixture
def volume():
    draw = np.random.default_rng(0)
    smooth = gaussian_filter(draw.normal(size=(14, 12, 10)), 2)
    mask = np.digitize(smooth, np.quantile(smooth, [0.5, 0.8])).astype(np.uint8)
    return smooth.astype(np.float32), mask


def test_all_orientations_are_seen_alike_and_return_exactly(tmp_path, volume):
    image, mask = volume
    write(tmp_path, image, mask, [(1, 1, 1)] * len(CODES), CODES)
    config = DataConfig.model_validate({"source": ".", "normalise": "none"})
    data = load_data(config, base=tmp_path)
    for case in (*data.train, *data.validation, *data.test):
        assert np.array_equal(case.image[0], image)
        assert np.array_equal(case.target, mask)
        stored = nibabel.load(tmp_path / "labelsTr" / f"{case.name}.nii.gz")
        if case.restore is None:
            assert case.name == "c0"
            continue
        assert np.array_equal(case.truth, np.asanyarray(stored.dataobj))
        assert np.allclose(case.restore.affine, stored.affine)
        back = case.restore.restore(one_hot(case.target, 3)).argmax(axis=0)
        assert np.array_equal(back, stored.dataobj)


def test_volumes_are_resampled_to_the_median_of_training(tmp_path, volume):
    image, mask = volume
    spacings = [(1, 1, 2), (1, 1, 2), (1, 1, 2), (2, 1, 2), (1, 1, 1)]
    write(tmp_path, image, mask, spacings, CODES)
    data = load_data(DataConfig.model_validate({"source": "."}), base=tmp_path)
    assert data.preprocessing.spacing == (1.0, 1.0, 2.0)
    assert data.summary["spacing"] == [1.0, 1.0, 2.0]
    cases = {case.name: case for part in data.parts().values() for case in part}
    assert cases["c0"].target.shape == (14, 12, 10)
    assert cases["c3"].target.shape == (28, 12, 10)
    assert cases["c4"].target.shape == (14, 12, 5)
    for name in ("c3", "c4"):
        case = cases[name]
        assert case.spacing == (1.0, 1.0, 2.0)
        stored = nibabel.load(tmp_path / "labelsTr" / f"{name}.nii.gz")
        back = case.restore.restore(one_hot(case.target, 3)).argmax(axis=0)
        assert back.shape == stored.shape == case.truth.shape
        agreement = (back == case.truth).mean()
        assert agreement > (0.97 if name == "c3" else 0.85)


def test_spacing_is_kept_or_given_where_asked(tmp_path, volume):
    image, mask = volume
    write(tmp_path, image, mask, [(1, 1, 2)] * 5, ["RAS"] * 5)
    kept = load_data(DataConfig.model_validate({"source": ".", "spacing": None}), base=tmp_path)
    assert kept.train[0].restore is None
    assert kept.train[0].spacing == (1.0, 1.0, 2.0)
    config = DataConfig.model_validate({"source": ".", "spacing": [2, 2, 2]})
    given = load_data(config, base=tmp_path)
    assert given.train[0].image.shape == (1, 7, 6, 10)
    assert given.train[0].truth.shape == (14, 12, 10)


def test_a_flat_image_has_two_axes(tmp_path, volume):
    image, mask = (array[:, 5:6] for array in volume)
    write(tmp_path, image, mask, [(1, 9, 2)] * 5, CODES)
    data = load_data(DataConfig.model_validate({"source": "."}), base=tmp_path)
    assert data.task.spatial_dims == 2
    for case in data.train:
        assert np.array_equal(case.target, mask[:, 0])
        assert case.spacing == (1.0, 2.0)
        stored = nibabel.load(tmp_path / "labelsTr" / f"{case.name}.nii.gz")
        back = case.restore.restore(one_hot(case.target, 3)).argmax(axis=0)
        assert np.array_equal(back, stored.dataobj)


@pytest.mark.parametrize("code", ["".join(c) for c in itertools.product("RL", "AP", "SI")])
def test_scores_come_back_at_every_orientation(code):
    array = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    image = reoriented(array, (1, 2, 3), code)
    stored = np.asanyarray(image.dataobj)
    geometry = geometry_of(stored.shape, image.affine, image.header.get_zooms())
    assert geometry.kept_spacing == (1.0, 2.0, 3.0)
    assert np.array_equal(geometry.orient(stored), array)
    assert np.array_equal(geometry.restore(array[None])[0], stored)


def test_a_constant_survives_resampling_and_labels_stay_labels():
    target = np.zeros((9, 7), np.uint8)
    target[:, 4:], target[0] = 2, IGNORE
    for linear in (True, False):
        found = resample_target(target, (18, 11), linear=linear, multi_label=False)
        assert set(np.unique(found)) == {0, 2, IGNORE}
        assert found.shape == (18, 11)
        share = (found == 2).mean() / (target == 2).mean()
        assert abs(share - 1) < 0.15
    both = np.stack([target, target])
    assert resample_target(both, (18, 11), linear=True, multi_label=True).shape == (2, 18, 11)


def test_the_extent_stays_the_same():
    assert new_shape((10, 10), (1.0, 3.0), (2.0, 1.0)) == (5, 30)
    assert new_shape((1, 3), (1.0, 1.0), (9.0, 1.0)) == (1, 3)

"""Every source gives cases of one form; what formats can hold arrives unchanged."""

import json

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_nas.train.data.cases import IGNORE
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.load import load_data


def load(base, **config):
    return load_data(DataConfig.model_validate(config), base=base)


def everything(data):
    return {case.name: case for cases in data.parts().values() for case in cases}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_synthetic_needs_nothing_and_repeats_itself(tmp_path, dims):
    source = {"type": "synthetic", "dims": dims, "cases": 10, "size": 24, "channels": 2}
    data, again = (load(tmp_path, source=source) for _ in range(2))
    assert data.task.spatial_dims == dims
    assert [len(cases) for cases in data.parts().values()] == [6, 2, 2]
    case = data.train[0]
    assert case.image.shape == (2, *(24,) * dims)
    assert case.image.dtype == np.float32
    assert case.target.dtype == np.uint8
    assert np.array_equal(case.image, again.train[0].image)
    other = load(tmp_path, source={**source, "seed": 1})
    assert not np.array_equal(case.image, other.train[0].image)


def test_synthetic_shapes_are_brighter_than_their_background(tmp_path):
    source = {"type": "synthetic", "cases": 10, "noise": 0.1}
    data = load(tmp_path, source=source, normalise="none")
    for case in data.train:
        for label in (0, 1, 2):
            inside = case.image[0][case.target == label]
            assert abs(inside.mean() - label) < 0.05


def test_synthetic_labels_overlap_where_asked(tmp_path):
    data = load(tmp_path, source={"type": "synthetic", "cases": 10}, multi_label=True)
    assert data.task.class_names == ("shape 1", "shape 2")
    target = np.stack([case.target for case in data.train])
    assert target.shape == (6, 2, 64, 64)
    assert set(np.unique(target)) == {0, 1}
    assert (target.sum(axis=1) == 2).any()


def test_folder_of_png(make_folder):
    data = load(make_folder().parent, source=str(make_folder()))
    cases = everything(data)
    assert sorted(cases) == list("abcdefgh")
    assert data.task.class_names == ("background", "foreground")
    stored = np.asarray(Image.open(make_folder() / "images" / "c.png")).astype(np.float64)
    expected = (stored - stored.mean()) / stored.std()
    assert np.abs(cases["c"].image[0] - expected).max() < 1e-5
    assert cases["c"].target[2:4, 3:7].all()
    assert cases["c"].target.sum() == 8


@pytest.mark.parametrize("layout", ["labels", "one_folder", "suffix", "named", "flat"])
def test_layouts_of_folders(tmp_path, make_folder, layout):
    root, source = make_folder(), {"path": "."}
    if layout == "labels":
        (root / "masks").rename(root / "labels")
    elif layout == "suffix":
        for path in list((root / "masks").iterdir()):
            path.rename(path.with_name(f"{path.stem}_mask.png"))
    elif layout == "named":
        (root / "masks").rename(root / "truth")
        (root / "images").rename(root / "pictures")
        source = {"path": ".", "images": "pictures", "masks": "truth"}
    else:
        where = root if layout == "flat" else root / "images"
        for sub in ("masks", "images"):
            for path in list((root / sub).iterdir()):
                path.rename(where / (path.stem + ("_seg" if sub == "masks" else "") + ".png"))
        (root / "masks").rmdir()
        if layout == "flat":
            (root / "images").rmdir()
    cases = everything(load(tmp_path, source=source))
    assert sorted(cases) == list("abcdefgh")
    assert all(case.target.sum() == 8 for case in cases.values())


def test_sixteen_bits_arrive_whole(make_folder):
    root = make_folder()
    values = {}
    for path in (root / "images").iterdir():
        values[path.stem] = np.random.default_rng(1).integers(0, 65536, (12, 10)).astype(np.uint16)
        Image.fromarray(values[path.stem]).save(path)
    cases = everything(load(root, source=".", normalise="none"))
    assert np.array_equal(cases["a"].image[0], values["a"])
    scaled = everything(load(root, source=".", normalise="scale"))
    assert np.allclose(scaled["a"].image[0], values["a"] / 65535)


def test_colour_images_and_colour_masks(make_folder):
    root = make_folder(channels=3)
    for path in (root / "masks").iterdir():
        mask = np.zeros((12, 10, 3), np.uint8)
        mask[2:4, 3:7] = (255, 0, 0)
        mask[6:8] = (0, 255, 7)
        Image.fromarray(mask).save(path)
    data = load(
        root,
        source=".",
        classes=["ground", "road", "house"],
        mask_values=[[0, 0, 0], [255, 0, 0], [0, 255, 7]],
    )
    assert data.task.in_channels == 3
    assert np.bincount(data.train[0].target.ravel()).tolist() == [92, 8, 20]


def test_palette_of_a_mask_only_colours_its_classes(make_folder):
    root = make_folder()
    for path in (root / "masks").iterdir():
        mask = Image.open(path).copy()
        mask.putpalette([0, 0, 0, 200, 30, 30])
        mask.save(path)
    assert load(root, source=".").train[0].target.sum() == 8


def test_opaque_alpha_is_left_out_with_a_note(make_folder):
    root = make_folder()
    for path in (root / "images").iterdir():
        Image.open(path).convert("RGBA").save(path)
    data = load(root, source=".")
    assert data.task.in_channels == 3
    assert "the alpha channel is opaque everywhere and is left out (all images)" in data.notes


def test_zero_and_255_are_two_classes_with_a_note(make_folder):
    data = load(make_folder(values=(0, 255)), source=".")
    assert data.train[0].target.sum() == 8
    assert data.notes[0] == "masks hold 0 and 255: read as background and foreground"
    assert data.preprocessing.mask_values == (0, 255)


def test_a_folder_of_masks_for_each_label(make_folder):
    root = make_folder()
    (root / "border").mkdir()
    for path in (root / "masks").iterdir():
        border = np.asarray(Image.open(path)).copy() * 0
        border[3:5, 3:7] = 255
        Image.fromarray(border).save(root / "border" / path.name)
    data = load(root, source={"path": ".", "masks": {"cell": "masks", "border": "border"}})
    assert data.task.multi_label
    assert data.task.class_names == ("cell", "border")
    assert data.train[0].target.shape == (2, 12, 10)
    assert data.train[0].target.sum(axis=(1, 2)).tolist() == [8, 8]
    assert data.train[0].target.all(axis=0).sum() == 4


@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_labels_that_overlap_are_channels_of_one_mask(tmp_path, kind):
    labels = (np.random.default_rng(0).random((2, 8, 9)) > 0.5).astype(np.uint8)
    image = np.random.default_rng(1).integers(0, 99, (8, 9)).astype(np.uint8)
    for sub, array in (("images", image), ("masks", labels * 255)):
        (tmp_path / sub).mkdir()
        for name in "abcde":
            path = tmp_path / sub / f"{name}.{kind}"
            np.save(path, array) if kind == "npy" else tifffile.imwrite(
                path, array, photometric="minisblack"
            )
    data = load(tmp_path, source=".", multi_label=True, classes=["a", "b"])
    assert np.array_equal(data.train[0].target, labels)
    assert data.task.classes == 2


def test_one_label_in_a_folder_of_its_own(tmp_path):
    for sub in ("images", "cells"):
        (tmp_path / sub).mkdir()
        for name in "abcde":
            np.save(tmp_path / sub / f"{name}.npy", np.arange(30).reshape(5, 6) % 2)
    data = load(tmp_path, source={"path": ".", "masks": {"cell": "cells"}})
    assert data.task.class_names == ("cell",)
    assert data.train[0].target.shape == (1, 5, 6)


def test_the_same_image_in_two_parts_is_told(make_folder):
    root = make_folder()
    (root / "images" / "a.png").write_bytes((root / "images" / "h.png").read_bytes())
    data = load(root, source=".", split={"validation": ["a"], "test": 0})
    note = "the same image stands in two parts: a of validation is h of train"
    assert f"{note}; give such cases one group" in data.notes


@pytest.mark.parametrize("place", ["first", "last", "none"])
def test_npy_finds_the_axis_of_channels_by_the_mask(tmp_path, place):
    for sub in ("images", "masks"):
        (tmp_path / sub).mkdir()
    image = np.random.default_rng(0).normal(size=(3, 6, 5))
    mask = np.zeros((6, 5), np.int64)
    mask[2:] = 1
    stored = {"first": image, "last": np.moveaxis(image, 0, -1), "none": image[0]}[place]
    for name in "abcde":
        np.save(tmp_path / "images" / f"{name}.npy", stored)
        np.save(tmp_path / "masks" / f"{name}.npy", mask)
    case = load(tmp_path, source=".", normalise="none").train[0]
    assert np.allclose(case.image, image if place != "none" else image[:1])


def write_tiffs(root, image, mask, **options):
    for sub in ("images", "masks"):
        (root / sub).mkdir()
    for name in "abcde":
        tifffile.imwrite(root / "images" / f"{name}.tif", image, **options)
        tifffile.imwrite(root / "masks" / f"{name}.tif", mask)


def test_geotiff_bands_and_nodata(tmp_path):
    image = np.random.default_rng(0).normal(100, 5, (4, 8, 9)).astype(np.float32)
    image[:, 0, :3] = -9999
    mask = np.zeros((8, 9), np.uint8)
    mask[4:] = 1
    nodata = (42113, "s", 0, "-9999", True)
    bands = {"photometric": "minisblack", "planarconfig": "separate"}
    write_tiffs(tmp_path, image, mask, **bands, extratags=[nodata])
    data = load(tmp_path, source=".")
    case = data.train[0]
    assert data.task.in_channels == 4
    assert data.task.ignore_label == IGNORE
    assert (case.target[0, :3] == IGNORE).all()
    assert (case.target == IGNORE).sum() == 3
    known = image[1][image[1] > -9999].astype(np.float64)
    expected = (image[1] - known.mean()) / known.std()
    assert np.allclose(case.image[1][1:], expected[1:], atol=1e-4)
    assert np.abs(case.image[:, 0, :3]).max() < 1e-5


def test_pages_are_a_volume_or_slices_of_one_group(tmp_path):
    volume = np.random.default_rng(0).integers(0, 1000, (5, 8, 9)).astype(np.uint16)
    mask = np.zeros((5, 8, 9), np.uint8)
    mask[:, 4:] = 1
    write_tiffs(tmp_path, volume, mask)
    data = load(tmp_path, source={"path": ".", "pages": "volume"}, normalise="none")
    assert np.array_equal(data.train[0].image[0], volume)
    slices = load(tmp_path, source={"path": ".", "pages": "slices"}, normalise="none")
    assert sum(len(cases) for cases in slices.parts().values()) == 25
    assert np.array_equal(everything(slices)["b[3]"].image[0], volume[3])
    groups = [{case.group for case in cases} for cases in slices.parts().values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]


def test_a_file_that_says_its_axes_needs_no_option(tmp_path):
    stack = np.random.default_rng(0).integers(0, 9, (4, 2, 8, 9)).astype(np.uint16)
    mask = np.zeros((4, 8, 9), np.uint8)
    mask[:, 4:] = 1
    for sub in ("images", "masks"):
        (tmp_path / sub).mkdir()
    for name in "abcde":
        tifffile.imwrite(
            tmp_path / f"images/{name}.tif", stack, imagej=True, metadata={"axes": "ZCYX"}
        )
        tifffile.imwrite(
            tmp_path / f"masks/{name}.tif", mask, imagej=True, metadata={"axes": "ZYX"}
        )
    case = load(tmp_path, source=".", normalise="none").train[0]
    assert np.array_equal(case.image, np.moveaxis(stack, 1, 0))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_npz(tmp_path, dims):
    shape = (10, *(6,) * dims)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    y = (x > 0).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=x, truth=y, who=np.arange(10) // 2)
    source = {"path": "a.npz", "y": "truth", "groups": "who"}
    data = load(tmp_path, source=source, normalise="none")
    cases = everything(data)
    assert np.array_equal(cases["3"].image[0], x[3].astype(np.float32))
    assert np.array_equal(cases["3"].target, y[3])
    assert cases["3"].group == "1"
    assert data.task.unit == ("samples" if dims == 1 else "px")


def write_nnunet(root, *, labels, channels=1, affine=None, mask=None, extra=()):
    for sub in ("imagesTr", "labelsTr"):
        (root / sub).mkdir(parents=True)
    draw = np.random.default_rng(0)
    mask = (draw.random((6, 5, 4)) > 0.5).astype(np.uint8) if mask is None else mask
    affine = np.eye(4) if affine is None else affine
    for name in ("p1", "p2", "p3", "p4", "p5"):
        for channel in range(channels):
            image = draw.normal(size=mask.shape).astype(np.float32)
            path = root / "imagesTr" / f"{name}_{channel:04}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(image, affine), path)
        nibabel.save(nibabel.Nifti1Image(mask, affine), root / "labelsTr" / f"{name}.nii.gz")
    about = {"channel_names": {str(i): "T1" for i in range(channels)}, "labels": labels}
    about |= {"file_ending": ".nii.gz", "numTraining": 5}
    (root / "dataset.json").write_text(json.dumps(about | dict(extra)))
    return root, mask


def test_nnunet_with_two_channels_and_its_own_test_cases(tmp_path):
    root, mask = write_nnunet(tmp_path / "d", labels={"background": 0, "lesion": 1}, channels=2)
    for end in ("images", "labels"):
        (root / f"{end}Ts").mkdir()
        for path in (root / f"{end}Tr").glob("p1*"):
            path.rename(root / f"{end}Ts" / path.name)
    data = load(tmp_path, source="d")
    assert data.task.class_names == ("background", "lesion")
    assert data.task.in_channels == 2
    assert data.task.unit == "mm"
    assert [case.name for case in data.test] == ["p1"]
    assert len(data.train) + len(data.validation) == 4
    assert np.array_equal(data.train[0].target, mask)


def test_nnunet_ignores_what_it_says_and_knows_the_first_version(tmp_path):
    mask = np.random.default_rng(0).integers(0, 4, (6, 5, 4)).astype(np.uint8)
    labels = {"background": 0, "a": 1, "b": 2, "ignore": 3}
    write_nnunet(tmp_path / "d", labels=labels, mask=mask)
    data = load(tmp_path, source="d")
    assert data.task.class_names == ("background", "a", "b")
    assert np.array_equal(data.train[0].target == IGNORE, mask == 3)
    old = {"0": "background", "1": "a", "2": "b", "3": "c"}
    write_nnunet(tmp_path / "e", labels=old, mask=mask)
    assert load(tmp_path, source="e").task.class_names == ("background", "a", "b", "c")


def test_nnunet_regions_are_labels_that_overlap(tmp_path):
    mask = np.random.default_rng(0).integers(0, 4, (6, 5, 4)).astype(np.uint8)
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    write_nnunet(tmp_path / "d", labels=labels, mask=mask)
    data = load(tmp_path, source="d")
    assert data.task.multi_label
    assert data.task.class_names == ("whole", "core")
    target = data.train[0].target
    assert np.array_equal(target[0] == 1, np.isin(mask, (1, 2)))
    assert np.array_equal(target[1] == 1, mask == 2)
    assert (target[:, mask == 3] == IGNORE).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_brain_parts_are_slabs_of_one_volume_with_gaps(tmp_path, dims):
    pytest.importorskip("nilearn")
    data = load(tmp_path, source={"builtin": "mni152_tissue", "dims": dims, "step": 3})
    assert data.task.class_names == ("background", "grey matter", "white matter")
    assert data.train[0].image.shape[:3] == (1, 197, 233)
    assert "labels are derived from tissue maps, not drawn by hand" in data.notes
    assert any("demonstration only" in note for note in data.notes)
    if dims == 2:
        heights = {
            part: np.array([int(case.name.split()[1]) for case in cases])
            for part, cases in data.parts().items()
        }
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            assert np.abs(heights[one][:, None] - heights[other]).min() > 6
        slabs = {case.group for case in data.validation}
        assert len(slabs) == 1


def test_brain_noise_is_in_all_parts_and_repeats_itself(tmp_path):
    pytest.importorskip("nilearn")
    source = {"builtin": "mni152_tissue", "step": 10}
    plain = load(tmp_path, source=source)
    hard = {**source, "noise": 0.5, "bias_field": 0.5}
    noisy, again = load(tmp_path, source=hard), load(tmp_path, source=hard)
    for part, cases in plain.parts().items():
        other = noisy.parts()[part]
        assert np.array_equal(cases[0].target, other[0].target)
        assert np.abs(cases[0].image - other[0].image).mean() > 0.2
        assert np.array_equal(other[0].image, again.parts()[part][0].image)


def test_cases_of_a_python_function(tmp_path):
    (tmp_path / "my_cases.py").write_text(
        "import numpy as np\n"
        "def cases(number):\n"
        "    for i in range(number):\n"
        "        mask = np.arange(12).reshape(3, 4) % 2\n"
        "        yield {'image': mask + i, 'mask': mask, 'name': f'n{i}', 'group': i // 2,\n"
        "               'part': 'test' if i < 2 else None}\n"
    )
    source = {"type": "python", "function": "my_cases:cases", "arguments": {"number": 8}}
    data = load(tmp_path, source=source, normalise="none")
    assert [case.name for case in data.test] == ["n0", "n1"]
    assert np.array_equal(everything(data)["n4"].image[0], np.arange(12).reshape(3, 4) % 2 + 4)


@pytest.mark.parametrize(
    ("folder", "options", "dims", "classes", "cases"),
    [
        ("nuclei", {}, 2, 2, 120),
        ("ecg", {"ignore_label": 255}, 1, 4, 200),
        ("ecg/ecg_lead_ii.npz", {"ignore_label": 255}, 1, 4, 200),
        ("Dataset004_Hippocampus", {}, 3, 3, 60),
    ],
)
def test_real_data(shared_data, folder, options, dims, classes, cases):
    told = []
    config = DataConfig.model_validate({"source": folder, **options})
    data = load_data(config, base=shared_data, progress=lambda done, whole: told.append(done))
    assert (data.task.spatial_dims, data.task.classes) == (dims, classes)
    assert sum(len(part) for part in data.parts().values()) == cases
    assert told == list(range(1, cases + 1))
    for case in data.train:
        assert abs(float(case.image.mean())) < 1e-3
        assert abs(float(case.image.std()) - 1) < 1e-3
    assert json.loads(json.dumps(data.summary)) == data.summary

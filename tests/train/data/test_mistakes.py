"""Mistakes that people make with data get one sentence, before anything trains."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_nas.errors import DocumentError, InputError
from unet_nas.text import parse_document, validate
from unet_nas.train.data.cases import Task
from unet_nas.train.data.checks import check_task
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.load import load_data
from unet_nas.unet.architecture import Architecture

# two axes along one direction
SHEARED = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def load(base, **config):
    return load_data(DataConfig.model_validate(config), base=base)


def sentence(base, **config):
    with pytest.raises(InputError) as caught:
        load(base, **{"source": ".", **config})
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(base), "DIR")


def save_masks(root, mask, names="abcdefgh"):
    for name in names:
        Image.fromarray(np.asarray(mask)).save(root / "masks" / f"{name}.png")


# --- files ----------------------------------------------------------------------------------


def test_a_missing_folder_names_the_nearest(make_folder, tmp_path):
    make_folder(root=tmp_path / "nuclei")
    assert sentence(tmp_path, source="nucle") == (
        "data.source: there is no folder DIR/nucle; did you mean DIR/nuclei?"
    )
    text = sentence(tmp_path, source={"path": "nuclei", "masks": "mask"})
    assert text.endswith("there is no folder DIR/nuclei/mask; did you mean DIR/nuclei/masks?")


def test_a_name_that_no_file_can_have(tmp_path):
    text = sentence(tmp_path, source="x" * 5000)
    assert text.startswith("data.source: cannot read '")
    assert text.endswith("…: file name too long")
    assert len(text) < 200


def test_an_empty_folder(tmp_path):
    assert sentence(tmp_path).startswith("data.source: DIR holds no images (.nii.gz, .nii, .png")


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "a.txt").write_text("")
    assert "a.txt must be a folder, an .npz file, synthetic" in sentence(tmp_path, source="a.txt")


def test_images_without_masks(make_folder):
    root = make_folder()
    for name in "bcdef":
        (root / "masks" / f"{name}.png").unlink()
    assert sentence(root) == (
        "data.source: 5 of 8 images have no mask in DIR/masks: b.png, c.png, d.png and 2 more; a "
        "mask has the name of its image, or that with data.source.mask_suffix"
    )


def test_masks_without_images(make_folder):
    root = make_folder()
    (root / "images" / "c.png").unlink()
    assert sentence(root) == (
        "data.source: a mask in DIR/masks has no image in DIR/images: c.png; add the image or "
        "remove the mask"
    )


def test_no_masks_at_all(make_folder):
    root = make_folder()
    for path in (root / "masks").iterdir():
        path.unlink()
    assert "data.source.masks: DIR/masks holds no images" in sentence(root)
    (root / "masks").rmdir()
    assert "data.source.masks: there is no folder DIR/masks" in sentence(root)


def test_paths_are_not_doubled(make_folder, tmp_path, monkeypatch):
    make_folder(root=tmp_path / "cells")
    shutil.rmtree(tmp_path / "cells" / "masks")
    monkeypatch.chdir(tmp_path)
    assert "there is no folder cells/masks; cells holds images" in sentence(Path(), source="cells")


def test_the_folder_of_images_alone_names_its_parent(make_folder):
    root = make_folder()
    assert sentence(root, source="images").endswith("give the folder that holds both, DIR")


def test_folders_of_nnunet_without_its_description(tmp_path):
    for sub, name in (("imagesTr", "a_0000.nii.gz"), ("labelsTr", "a.nii.gz")):
        (tmp_path / sub).mkdir()
        (tmp_path / sub / name).write_bytes(b"")
    assert "imagesTr and labelsTr, and no dataset.json" in sentence(tmp_path)


def test_a_folder_called_like_an_image_is_none(make_folder):
    root = make_folder()
    (root / "images" / "sub.png").mkdir()
    data = load(root, source=".")
    assert len(data.train + data.validation + data.test) == 8


def test_two_images_of_one_name(make_folder):
    root = make_folder()
    Image.open(root / "images" / "a.png").save(root / "images" / "a.jpg")
    assert "a.jpg and a.png in DIR/images have the same name but for the ending" in sentence(root)


def test_a_corrupt_file(make_folder):
    root = make_folder()
    whole = (root / "images" / "d.png").read_bytes()
    (root / "images" / "d.png").write_bytes(whole[: len(whole) // 2])
    assert sentence(root).startswith("cannot read DIR/images/d.png: ")
    (root / "images" / "d.png").write_bytes(b"hello")
    assert sentence(root).startswith("cannot read DIR/images/d.png: ")


@pytest.mark.parametrize("kind", ["tif", "npy", "nii.gz"])
def test_corrupt_files_of_other_kinds(tmp_path, kind):
    for sub in ("images", "masks"):
        (tmp_path / sub).mkdir()
        for name in "abcde":
            (tmp_path / sub / f"{name}.{kind}").write_bytes(b"no such thing")
    text = sentence(tmp_path)
    assert text.startswith(f"cannot read DIR/masks/a.{kind}: it is damaged or not a ")


def test_an_npy_file_of_python_objects_is_not_loaded(tmp_path):
    for sub in ("images", "masks"):
        (tmp_path / sub).mkdir()
        for name in "abcde":
            objects = np.array([{"a": 1}, None], dtype=object)
            np.save(tmp_path / sub / f"{name}.npy", objects, allow_pickle=True)
    assert "Object arrays cannot be loaded" in sentence(tmp_path)


def test_npz_of_python_objects_or_with_other_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object), y=np.zeros(1))
    assert "a.npz: holds Python objects, which could run code" in sentence(tmp_path, source="a.npz")
    np.savez(tmp_path / "b.npz", images=np.zeros((4, 5)), y=np.zeros((4, 5)))
    assert sentence(tmp_path, source="b.npz") == (
        "DIR/b.npz: has no array 'x', it has images, y; set data.source.x"
    )
    np.savez(tmp_path / "c.npz", x=np.zeros((4, 5)), y=np.zeros((3, 5)))
    assert "hold equally many cases along their first axis, got 4×5 and 3×5" in sentence(
        tmp_path, source="c.npz"
    )
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 5)), y=np.zeros((4, 6)))
    assert "d.npz[0]: the image has the shape 5 and its mask 6" in sentence(
        tmp_path, source="d.npz"
    )
    (tmp_path / "e.npz").write_bytes(b"no")
    assert "e.npz: it is damaged or not an .npz file" in sentence(tmp_path, source="e.npz")
    np.savez(tmp_path / "f.npz", x=np.zeros((0, 5)), y=np.zeros((0, 5)))
    assert sentence(tmp_path, source="f.npz") == "data.source: DIR/f.npz holds no cases"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "dataset.json: is not JSON"),
        ("[]", "dataset.json: must hold a mapping"),
        ("{}", 'dataset.json: needs "channel_names"'),
        ('{"channel_names": {"0": "T1"}}', 'dataset.json: needs "labels"'),
        (
            '{"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 2}}',
            "labels must be numbered 0, 1, 2, …, got 0, 2",
        ),
        (
            '{"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": "x"}}',
            "the label 'a' must be an integer or a list, got 'x'",
        ),
        (
            '{"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 1}}',
            "there is no folder DIR/imagesTr",
        ),
        (
            '{"channel_names": {"0": "T1"}, "labels": {"background": 0}, "file_ending": ".xyz"}',
            "file_ending must be one of",
        ),
    ],
)
def test_a_broken_dataset_json(tmp_path, text, message):
    (tmp_path / "dataset.json").write_text(text)
    assert message in sentence(tmp_path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "cannot find mine:cases: module 'mine' has no attribute 'cases'"),
        ("cases = 3", "mine:cases must be a function, got int"),
        ("def cases(): 1 / 0", "mine:cases raised ZeroDivisionError: division by zero"),
        ("def cases(): return []", "mine:cases yielded no cases"),
        ("def cases(): return [3]", "mine:cases, case 0: must be a mapping with the keys image"),
        (
            "def cases(): return [{'image': 1, 'mask': 1, 'nam': 1}]",
            "mine:cases, case 0: unknown key 'nam'; known are image, mask, name",
        ),
    ],
)
def test_a_function_that_is_wrong(tmp_path, monkeypatch, code, message):
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(code)
    assert message in sentence(tmp_path, source="python:mine:cases")
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)


# --- images ---------------------------------------------------------------------------------


def test_sizes_that_differ(make_folder):
    root = make_folder()
    save_masks(root, np.zeros((12, 9), np.uint8), "c")
    assert sentence(root) == (
        "DIR/images/c.png: is 12×10 and its mask c.png 12×9; image and mask must have the same size"
    )


def test_alpha_that_means_something_is_refused(make_folder):
    root = make_folder(channels=4)
    assert sentence(root).startswith(
        "DIR/images/a.png: has an alpha channel that is not opaque everywhere; set data.channels: "
        "[0, 1, 2] to leave it out"
    )
    assert load(root, source=".", channels=[0, 1, 2]).task.in_channels == 3
    assert load(root, source=".", channels=[0, 1, 2, 3]).task.in_channels == 4


def test_colour_among_grey(make_folder):
    root = make_folder()
    Image.open(root / "images" / "e.png").convert("RGB").save(root / "images" / "e.png")
    assert "a.png has 1 channel and DIR/images/e.png 3 channels" in sentence(root)
    assert sentence(root).endswith("or set data.channels: [0]")
    assert load(root, source=".", channels=[0]).task.in_channels == 1


def test_a_channel_that_is_not_there(make_folder):
    assert "has the channels 0 to 0, got 3" in sentence(make_folder(), channels=[3])


@pytest.mark.parametrize("sub", ["imagesTr", "labelsTr"])
def test_the_file_that_holds_nan_is_named(tmp_path, sub):
    nibabel = pytest.importorskip("nibabel")
    about = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    for folder, end in (("imagesTr", "_0000"), ("labelsTr", "")):
        (tmp_path / folder).mkdir()
        for name in "abcde":
            array = np.arange(60, dtype=np.float32).reshape(3, 4, 5) % 2
            if (folder, name) == (sub, "c"):
                array[0, 0, 0] = np.nan
            volume = nibabel.Nifti1Image(array, np.eye(4))
            nibabel.save(volume, tmp_path / folder / f"{name}{end}.nii.gz")
    assert sentence(tmp_path).startswith(f"DIR/{sub}/c")


@pytest.mark.parametrize(
    ("file", "affine", "message"),
    [
        (
            "masks/c",
            np.diag([2, 2, 2, 1.0]),
            "DIR/masks/c.nii: its affine must be that of its image",
        ),
        (
            "images/c",
            SHEARED,
            "DIR/images/c.nii: its affine must give each voxel a",
        ),
    ],
)
def test_volumes_whose_place_is_unclear(tmp_path, file, affine, message):
    nibabel = pytest.importorskip("nibabel")
    for sub in ("images", "masks"):
        (tmp_path / sub).mkdir()
        for name in "abcde":
            array = np.arange(60, dtype=np.float32).reshape(3, 4, 5) % 2
            wrong = file == f"{sub}/{name}"
            volume = nibabel.Nifti1Image(array, affine if wrong else np.eye(4))
            nibabel.save(volume, tmp_path / sub / f"{name}.nii")
    assert sentence(tmp_path).startswith(message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, value):
    x = np.zeros((5, 8), np.float32)
    x[3, 2] = value
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40).reshape(5, 8) % 2)
    text = sentence(tmp_path, source="a.npz")
    assert "a.npz[3]: an image must hold finite numbers, got 1 " in text
    assert ("1 NaN; if" in text) == np.isnan(value)
    assert ("1 infinite; if they mark missing values, write NaN" in text) == np.isinf(value)
    if np.isnan(value):
        assert load(tmp_path, source="a.npz", nodata="nan").task.ignore_label == 255


def test_values_that_are_not_finite_are_told_with_their_channel(tmp_path):
    x = np.zeros((5, 3, 8), np.float32)
    x[3, 2, 2] = np.nan
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40).reshape(5, 8) % 2)
    assert "numbers, got 1 NaN in channel 2; if" in sentence(tmp_path, source="a.npz")


def test_constant_images_are_noted(make_folder):
    def notes():
        found = load(root, source=".").notes
        return [note.replace(str(root), "DIR") for note in found if "constant" in note]

    root = make_folder(channels=3)
    assert notes() == []
    colour = np.zeros((12, 10, 3), np.uint8)
    colour[..., 1] = 9
    Image.fromarray(colour).save(root / "images" / "c.png")
    assert notes() == ["1 of 8 images is constant everywhere, DIR/images/c.png"]
    Image.fromarray(colour).save(root / "images" / "b.png")
    assert notes() == ["2 of 8 images are constant everywhere, first DIR/images/b.png"]


def test_what_holds_no_information_does_not_vary_an_image(tmp_path):
    x = np.arange(40.0).reshape(5, 8)
    x[2, :6], x[2, 6:] = np.nan, 3
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40).reshape(5, 8) % 2)
    notes = load(tmp_path, source="a.npz", nodata="nan").notes
    assert f"1 of 5 images is constant everywhere, {tmp_path / 'a.npz'}[2]" in notes


def test_an_image_without_information(tmp_path):
    x = np.full((5, 8), np.nan, np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40).reshape(5, 8) % 2)
    assert "holds no information" in sentence(tmp_path, source="a.npz", nodata="nan")


def test_pages_that_nobody_explained(tmp_path):
    for sub in ("images", "masks"):
        (tmp_path / sub).mkdir()
        for name in "abcde":
            tifffile.imwrite(tmp_path / sub / f"{name}.tif", np.zeros((5, 8, 9), np.uint16))
    assert "has several pages and does not say what they are; set data.source: {path: …, " in (
        sentence(tmp_path)
    )


def test_spacing_of_files_that_have_none(make_folder):
    assert "have no spacing in mm; remove it" in sentence(make_folder(), spacing=[1.0, 1.0])


def test_arrays_that_are_no_images(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.full((5, 8), "text"), y=np.zeros((5, 8)))
    assert "a.npz[0]: an image must hold numbers, got the type <U4" in sentence(
        tmp_path, source="a.npz"
    )
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 8)), y=np.zeros(5))
    assert "a.npz[0]: an image must have 1 to 3 spatial axes, got 0" in sentence(
        tmp_path, source="a.npz"
    )


def test_a_picture_of_too_many_pixels(make_folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert "a.png: has too many pixels (Image size (120 pixels) exceeds" in sentence(make_folder())


def test_colour_of_sixteen_bits_is_told_to_lose_some(make_folder):
    root = make_folder(channels=3)
    for path in (root / "images").iterdir():
        path.write_bytes(png_of_sixteen_bits(np.arange(360).reshape(12, 10, 3) * 100))
    data = load(root, source=".", normalise="none")
    assert data.train[0].image.max() == 359 * 100 >> 8
    assert (
        "of 16 bits of colour in PNG files 8 are read; TIFF files keep all (all images)"
        in data.notes
    )


def png_of_sixteen_bits(image):
    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    rows = b"".join(b"\0" + row.tobytes() for row in image.astype(">u2"))
    height, width, _ = image.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_masks_without_an_axis_of_labels(tmp_path):
    pytest.importorskip("nilearn")
    text = sentence(tmp_path, source="builtin:mni152_tissue", multi_label=True)
    assert "where labels overlap a mask has a channel for each label, got the shape 197×233" in text


# --- masks ----------------------------------------------------------------------------------


def test_values_beyond_the_classes(make_folder):
    root = make_folder(values=(0, 1, 2))
    text = sentence(root, classes=["background", "cell"])
    assert text == (
        "mask of a (DIR/masks/a.png): the value 2 stands for no class (known are 0 and 1); "
        "give data.classes 3 names, one for each value that masks hold, or set data.ignore_label: "
        "2 if it marks what is not annotated"
    )
    save_masks(root, np.arange(120).reshape(12, 10).astype(np.uint8) % 3 * 50)
    assert sentence(root, classes=2).endswith("that masks hold, and data.mask_values: [0, 50, 100]")
    assert load(root, source=".", classes=3, mask_values=[0, 50, 100]).task.classes == 3


def test_the_case_with_the_strange_value_is_named(make_folder):
    root = make_folder(values=(0, 1, 2))
    save_masks(root, np.arange(120).reshape(12, 10).astype(np.uint8) % 3 * 127, "c")
    assert sentence(root).startswith(
        "mask of c (DIR/masks/c.png): the values 127 and 254 stand for no class (known are 0, 1 "
        "and 2); "
    )


def test_255_beside_classes_is_perhaps_not_annotated(make_folder):
    root = make_folder(values=(0, 1, 255))
    assert sentence(root, classes=2).endswith(
        "if it marks what is not annotated, set data.ignore_label: 255"
    )
    assert sentence(root).endswith("set data.ignore_label: 255")
    assert load(root, source=".", ignore_label=255).task.ignore_label == 255


def test_stored_values_of_classes(make_folder):
    root = make_folder(values=(0, 100, 200))
    assert sentence(root).endswith(
        "say how each class is stored, as data.mask_values: [0, 100, 200]"
    )
    data = load(root, source=".", mask_values=[0, 100, 200])
    assert np.bincount(data.train[0].target.ravel()).tolist() == [104, 8, 8]


def test_masks_of_lossy_compression(make_folder):
    root = make_folder()
    save_masks(root, np.random.default_rng(0).integers(0, 256, (12, 10)).astype(np.uint8))
    assert "look like grey levels or lossy compression" in sentence(root)


def test_colours_that_nobody_listed(make_folder):
    root = make_folder()
    mask = np.zeros((12, 10, 3), np.uint8)
    mask[4:, :, 0] = 255
    save_masks(root, mask)
    data = load(root, source=".")
    assert data.notes[0].startswith("masks hold [0, 0, 0] and [255, 0, 0]: read as background")
    assert data.train[0].target.sum() == 80
    mask[0, :, 1] = 9
    save_masks(root, mask)
    assert sentence(root) == (
        "mask of a (DIR/masks/a.png): the values [0, 9, 0] and [255, 0, 0] stand for no class "
        "(known are 0 and 1); say how each class is stored, as data.mask_values: "
        "[[0, 0, 0], [0, 9, 0], [255, 0, 0]]"
    )


def test_masks_of_fractions_and_of_nan(tmp_path):
    for value, words in ((0.37, "whole numbers, got 0.37"), (np.nan, "classes, got NaN")):
        y = np.zeros((5, 8))
        y[2, 3] = value
        np.savez(tmp_path / "a.npz", x=np.ones((5, 8)), y=y)
        assert f"a.npz[2]: a mask must hold {words}" in sentence(tmp_path, source="a.npz")
    whole = np.arange(40.0).reshape(5, 8) % 2
    np.savez(tmp_path / "a.npz", x=np.ones((5, 8)), y=whole)
    assert load(tmp_path, source="a.npz").task.classes == 2


def test_a_class_that_never_occurs(make_folder):
    root = make_folder(values=(0, 1, 3))
    assert sentence(root) == (
        "data.classes: the class 'class 2' never occurs in the masks; remove it (data.classes: "
        "[background, class 1, class 3], data.mask_values: [0, 1, 3]), or add cases"
    )
    data = load(root, source=".", classes=["background", "a", "b"], mask_values=[0, 1, 3])
    assert data.task.classes == 3


def test_a_class_that_only_validation_has(make_folder):
    root = make_folder()
    mask = np.zeros((12, 10), np.uint8)
    mask[0], mask[5] = 2, 1
    save_masks(root, mask, "h")
    split = {"validation": ["h"], "test": 0}
    text = sentence(root, split=split)
    assert text.startswith(
        "data.split: the class 'class 2' (stored as 2) never occurs in the training cases, only in "
        "h; if these are no classes, repair the masks, else choose"
    )
    text = load(root, source=".", split={"validation": ["a"], "test": 0}).notes[0]
    assert text == "no validation case has the class class 2, so its score leaves it out"


def test_a_stray_value_is_told_with_its_file(make_folder):
    root = make_folder(values=(0, 1, 2))
    mask = np.array(Image.open(root / "masks" / "c.png"))
    mask[0, 0] = 7
    save_masks(root, mask, "c")
    assert sentence(root) == (
        "mask of c (DIR/masks/c.png): the value 7 occurs nowhere else (1 position in all); repair "
        "the mask, or set data.ignore_label: 7; if it is a class, set data.mask_values: "
        "[0, 1, 2, 7]"
    )
    assert load(root, source=".", ignore_label=7).task.classes == 3
    split = {"validation": ["a"], "test": 0}  # the class must be in training
    assert load(root, source=".", mask_values=[0, 1, 2, 7], split=split).task.classes == 4


def test_stray_values_of_several_masks(make_folder):
    root = make_folder(values=(0, 1, 2))
    mask = np.array(Image.open(root / "masks" / "c.png"))
    mask[0, 0], mask[0, 1] = 5, 7
    save_masks(root, mask, "cd")
    assert sentence(root) == (
        "mask of c (DIR/masks/c.png): the values 5 and 7 occur hardly anywhere else (4 positions "
        "in all); repair the masks; if they are classes, set data.mask_values: [0, 1, 2, 5, 7]"
    )
    save_masks(root, mask.clip(0, 6), "c")
    assert "set data.ignore_label" not in sentence(root, ignore_label=7)


def negative(root, mask=None):
    """Replaces masks by arrays, the third of which marks a position with -1."""
    for path in (root / "masks").iterdir():
        array = np.array(Image.open(path)).astype(np.int16) if mask is None else np.array(mask)
        if path.stem == "c":
            array[0, 0] = -1
        np.save(path.with_suffix(".npy"), array)
        path.unlink()
    return root


def test_a_negative_value_is_not_annotated_and_no_class(make_folder):
    root = negative(make_folder(values=(0, 1, 2)))
    where = "mask of c (DIR/masks/c.npy): the value -1 stands for no class (known are 0, 1 and 2); "
    fix = "if -1 marks what is not annotated, set data.ignore_label: -1"
    assert sentence(root) == where + fix
    assert load(root, source=".", ignore_label=-1).task.classes == 3
    text = sentence(root, classes=2)
    assert "the values -1 and 2 stand for no class (known are 0 and 1)" in text
    assert text.endswith(
        fix + "; then give data.classes 3 names, one for each value that masks hold"
    )
    text = sentence(root, classes=3, ignore_label=255)
    assert text.endswith("write 255 there, the value of data.ignore_label")


def test_negative_values_beside_stored_ones(make_folder):
    root = negative(make_folder(values=(0, 255)))
    assert "known are 0 and 255); if -1 marks what is not" in sentence(root)
    assert load(root, source=".", ignore_label=-1).task.classes == 2


def test_a_background_that_is_negative(make_folder):
    root = negative(make_folder(), mask=[[1] * 10] * 12)
    assert sentence(root).endswith("as data.mask_values: [-1, 1]")
    mask = [[-2, -1, 0, 1, 1, 1, 1, 1, 1, 1]] * 12
    for path in (root / "masks").iterdir():
        np.save(path, np.array(mask))
    assert sentence(root).endswith(
        "if -2 and -1 mark what is not annotated, write -1 for all and set data.ignore_label: -1"
    )


def test_lossy_masks_have_no_known_classes_and_a_path(make_folder):
    root = make_folder()
    mask = np.arange(120).reshape(12, 10).astype(np.uint8) % 35
    mask[0, :3] = 40, 99, 255
    save_masks(root, mask, "d")
    assert sentence(root) == (
        "mask of d (DIR/masks/d.png): the values 40, 99 and 255 stand for no class; 38 different "
        "values look like grey levels or lossy compression: store masks as PNG with one value per "
        "class, or threshold them"
    )


def test_255_beside_many_classes_is_no_grey_level(make_folder):
    root = make_folder(values=(0, 1))
    mask = np.arange(120).reshape(12, 10).astype(np.uint8) % 21
    mask[0, 0] = 255
    save_masks(root, mask)
    assert sentence(root).endswith("not annotated, set data.ignore_label: 255")
    assert load(root, source=".", ignore_label=255).task.classes == 21


def test_masks_without_any_foreground(make_folder):
    root = make_folder()
    save_masks(root, np.zeros((12, 10), np.uint8))
    expected = (
        "data.source: all 8 masks are 0 everywhere, as that of a (DIR/masks/a.png); check that "
        "these are the masks"
    )
    assert sentence(root) == expected
    assert sentence(root, classes=3) == expected
    source = {"path": ".", "masks": {"left": "masks", "right": "masks"}}
    assert "masks are 0 everywhere" in sentence(root, source=source)
    assert "masks are 0 everywhere" in sentence(root, ignore_label=255)
    assert "masks are 0 everywhere" in sentence(root, ignore_label=0)
    mask = np.zeros((12, 10), np.uint8)
    mask[0] = 255
    save_masks(root, mask)
    text = sentence(root, ignore_label=255)
    assert "all 8 masks are 0 or 255, data.ignore_label, everywhere" in text


def test_a_foreground_where_no_image_holds_information(tmp_path):
    x, y = np.arange(40.0).reshape(5, 8), np.zeros((5, 8), np.uint8)
    x[:, 2], y[:, 2] = np.nan, 1
    np.savez(tmp_path / "a.npz", x=x, y=y)
    assert sentence(tmp_path, source="a.npz", nodata="nan") == (
        "data.classes: the class 'foreground' never occurs in the masks where images hold "
        "information; check the masks, or add cases"
    )


# --- parts ----------------------------------------------------------------------------------


def test_one_image_only(make_folder):
    assert sentence(make_folder("a")).startswith(
        "data.source: has one case, and training and validation need one each at least"
    )
    root = make_folder(["p1_a", "p1_b"], root=make_folder().parent / "groups")
    text = sentence(root, split={"groups": "^(p1)_"})
    assert "has 2 cases of one group" in text


def test_two_images_are_for_training_and_validation(make_folder):
    data = load(make_folder("ab"), source=".")
    assert [len(cases) for cases in data.parts().values()] == [1, 1, 0]
    assert data.notes[-1].startswith("there are no test cases")


def test_an_empty_part(make_folder):
    text = sentence(make_folder("abc"), split={"validation": ["a"], "test": ["b", "c"]})
    assert text.startswith("data.split: leaves no case for train of 3 cases")


# --- the section ----------------------------------------------------------------------------


def faults_of(text):
    with pytest.raises(DocumentError) as caught:
        validate(parse_document(text), DataConfig, ("data",))
    return [line.removeprefix("<text>:") for line in str(caught.value).splitlines()]


def test_all_faults_of_the_section_come_at_once_with_their_lines():
    found = faults_of(
        "data:\n"
        "  source: {type: folde, path: x}\n"
        "  normalise: images\n"
        "  clip: [99, 1]\n"
        "  split:\n"
        "    validation: 0\n"
        "    groups: '('\n"
        "    sed: 3\n"
        "  mask_values: [0, 1, 1]\n"
        "  classes: [a, b]\n"
    )
    places = [line.split(":")[0] for line in found]
    assert places == [
        "2, data.source.type",
        "3, data.normalise",
        "4, data.clip",
        "6, data.split.validation",
        "7, data.split.groups",
        "8, data.split.sed",
        "9, data.mask_values",
        "9, data.mask_values",
    ]
    assert "did you mean 'folder'?" in found[0]
    assert "did you mean 'image'?" in found[1]
    assert found[3].endswith("got 0; fix: write 0.2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: 2", "data.source: must be given; fix: name a folder"),
        ("source: builtin:mni", "must be 'mni152_tissue'"),
        ("source: 3", "must be one of folder, npz, nnunet, builtin, synthetic, python"),
        ("source: {path: x, mask: y}", "unknown key 'mask'; did you mean 'masks'?"),
        ("source: {size: 3}", "must have the key 'type'"),
        ("source: x\n  split: {validation: 0.5, test: 0.5}", "must leave something to train on"),
        ("source: x\n  split: {folds: 5, fold: 5}", "must be < folds, 5, got 5"),
        ("source: x\n  split: {groups: patient}", "with a bracket around the group"),
        ("source: x\n  classes: [cell]", "must be at least 2 with the background"),
        ("source: x\n  classes: [a, a]", "must be different names"),
        ("source: x\n  mask_values: [0, [1, 2, 3]]", "must be all numbers or all colours"),
        (
            "source: x\n  mask_values: [0, 300, 5]\n  ignore_label: 5",
            "must not be one of mask_values",
        ),
        (
            "source: x\n  mask_values: [0, 1]\n  multi_label: true",
            "must not be given where labels overlap",
        ),
        ("source: x\n  spacing: [0, 1]", "must be > 0"),
        ("source: x\n  spacing: mean", "must be 'median'"),
    ],
)
def test_faults_of_the_section(text, message):
    assert message in " ".join(faults_of(f"data:\n  {text}\n"))


def test_a_network_for_other_data_is_refused_with_the_fix():
    task = Task(3, 2, ("background", "a", "b"))
    with pytest.raises(InputError) as caught:
        check_task(task, Architecture())
    assert str(caught.value) == (
        "the data have 3 spatial dimensions and 2 channels and 3 classes and the architecture 2 "
        "spatial dimensions and 1 channel and 2 classes; fix: --set spatial_dims=3 --set "
        "in_channels=2 --set classes=3"
    )
    check_task(task, {"spatial_dims": 3, "in_channels": {"choice": [1, 2]}, "classes": 3})
    with pytest.raises(InputError, match=r"--set classes=3$"):
        check_task(task, {"spatial_dims": 3, "classes": 2})
    check_task(task, {"depth": 2})

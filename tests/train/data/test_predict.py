"""Images without masks in, predictions out: the same preparation, the same kind of file."""

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_nas.errors import InputError
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.load import load_data
from unet_nas.train.data.predict import list_images, read_images, write_prediction
from unet_nas.train.data.preprocessing import Preprocessing


def load(base, **config):
    return load_data(DataConfig.model_validate(config), base=base)


def probabilities_of(target, classes):
    return np.stack([(target == index) for index in range(classes)]).astype(np.float32)


def everything(data):
    return {case.name: case for cases in data.parts().values() for case in cases}


@pytest.mark.parametrize("normalise", ["image", "dataset", "scale", "none"])
def test_images_are_prepared_as_in_training(make_folder, normalise):
    root = make_folder(channels=3)
    data = load(root, source=".", normalise=normalise, clip=[1, 99], channels=[2, 0])
    plan = Preprocessing.from_json(data.preprocessing.to_json())
    images = {image.name: image for image in read_images(list_images(root / "images"), plan)}
    assert images.keys() == everything(data).keys()
    for name, case in everything(data).items():
        assert np.array_equal(images[name].image, case.image)


def test_masks_come_back_as_they_were_stored(make_folder, tmp_path):
    root = make_folder(values=(0, 100, 200))
    data = load(root, source=".", mask_values=[0, 100, 200])
    for image in read_images(list_images(root / "images"), data.preprocessing):
        target = everything(data)[image.name].target
        paths = write_prediction(
            image, probabilities_of(target, 3), tmp_path / "out", data.preprocessing
        )
        assert [path.name for path in paths] == [f"{image.name}.png"]
        assert np.array_equal(
            np.asarray(Image.open(paths[0])), Image.open(root / "masks" / paths[0].name)
        )


def test_colours_come_back(make_folder, tmp_path):
    root = make_folder()
    mask = np.zeros((12, 10, 3), np.uint8)
    mask[4:] = (255, 0, 9)
    for path in (root / "masks").iterdir():
        Image.fromarray(mask).save(path)
    data = load(root, source=".")
    image = next(read_images([root / "images" / "a.png"], data.preprocessing))
    target = everything(data)["a"].target
    (path,) = write_prediction(image, probabilities_of(target, 2), tmp_path, data.preprocessing)
    assert np.array_equal(np.asarray(Image.open(path)), mask)


def test_a_lossy_kind_becomes_png(make_folder, tmp_path):
    root = make_folder()
    data = load(root, source=".")
    Image.open(root / "images" / "a.png").save(tmp_path / "photo.jpg")
    image = next(read_images([tmp_path / "photo.jpg"], data.preprocessing))
    probabilities = probabilities_of(np.ones((12, 10)), 2)
    (path,) = write_prediction(image, probabilities, tmp_path / "out", data.preprocessing)
    assert path.name == "photo.png"
    assert np.asarray(Image.open(path)).min() == 1


def test_labels_that_overlap(make_folder, tmp_path):
    root = make_folder()
    source = {"path": ".", "masks": {"left half": "masks", "b": "masks"}}
    data = load(root, source=source)
    image = next(read_images([root / "images" / "a.png"], data.preprocessing))
    probabilities = np.full((2, 12, 10), 0.4, np.float32)
    probabilities[:, :5], probabilities[1, 9] = 0.6, 0.9
    paths = write_prediction(image, probabilities, tmp_path / "out", data.preprocessing)
    assert [path.name for path in paths] == ["a_left-half.png", "a_b.png"]
    for path, probability in zip(paths, probabilities, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), (probability > 0.5) * 255)


@pytest.mark.parametrize("code", ["RAS", "LPS", "SAL"])
def test_nifti_has_shape_and_affine_of_its_image(tmp_path, code):
    image = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)
    turns = nibabel.orientations.axcodes2ornt(tuple(code))
    affine = np.diag([1.0, 2.0, 0.5, 1.0])
    affine[:3, 3] = (-3, 4, 5)
    stored = nibabel.Nifti1Image(image, affine).as_reoriented(turns)
    nibabel.save(stored, tmp_path / "x.nii.gz")
    plan = Preprocessing(3, 1, ("background", "high"), unit="mm", spacing=(1.0, 1.0, 1.0))
    one = next(read_images([tmp_path / "x.nii.gz"], plan))
    spatial = np.argsort(turns[:, 0])
    expected = [round(stored.shape[a] * stored.header.get_zooms()[a]) for a in spatial]
    assert one.image.shape == (1, *expected)
    high = 1 / (1 + np.exp(-one.image[0]))
    (path,) = write_prediction(one, np.stack([1 - high, high]), tmp_path / "out", plan)
    found = nibabel.load(path)
    assert path.name == "x.nii.gz"
    assert found.shape == stored.shape
    assert np.array_equal(found.affine, stored.affine)
    assert np.allclose(found.header.get_zooms(), stored.header.get_zooms())
    again = path.read_bytes()
    write_prediction(one, np.stack([1 - high, high]), tmp_path / "out", plan)
    assert path.read_bytes() == again


def test_channels_of_nnunet_are_one_image(tmp_path):
    for channel in range(2):
        array = np.full((4, 5, 6), channel, np.float32)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"p_{channel:04}.nii.gz")
    plan = Preprocessing(3, 2, ("background", "a"), unit="mm", normalise="none", layout="nnunet")
    (image,) = read_images(list_images(tmp_path), plan)
    assert image.name == "p"
    assert image.image[:, 0, 0, 0].tolist() == [0, 1]


def test_geotiff_keeps_its_place_and_its_gaps(tmp_path):
    pixel = np.random.default_rng(0).normal(50, 9, (3, 8, 9)).astype(np.float32)
    pixel[:, 0, :4] = -1
    tags = [
        (42113, "s", 0, "-1", True),
        (33550, "d", 3, (2.0, 2.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 5e5, 4e6, 0.0), True),
    ]
    shape = {"photometric": "minisblack", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "map.tif", pixel, extratags=tags, **shape)
    plan = Preprocessing(2, 3, ("ground", "road"), mask_values=(0, 7))
    image = next(read_images([tmp_path / "map.tif"], plan))
    ones = probabilities_of(np.ones((8, 9)), 2)
    (path,) = write_prediction(image, ones, tmp_path / "out", plan)
    with tifffile.TiffFile(path) as file:
        assert file.pages.first.tags[33922].value[3] == 5e5
        assert file.pages.first.tags[33550].value == (2.0, 2.0, 0.0)
        labels = file.asarray()
    assert (labels[0, :4] == 0).all()
    assert (labels[1:] == 7).all()


def test_pages_of_a_volume_and_arrays(tmp_path):
    stack = np.random.default_rng(0).integers(0, 99, (5, 8, 9)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    np.save(tmp_path / "stack.npy", stack)
    target = (stack > 50).astype(np.uint8)
    plan = Preprocessing(3, 1, ("low", "high"), normalise="none", pages="volume")
    found = list(read_images(list_images(tmp_path), plan))
    assert sorted(image.name for image in found) == ["stack", "stack.tif"]
    for image in found:
        assert np.array_equal(image.image[0], stack)
        (path,) = write_prediction(image, probabilities_of(target, 2), tmp_path / "out", plan)
        read = np.load(path) if path.suffix == ".npy" else tifffile.imread(path)
        assert np.array_equal(read, target)


def test_arrays_of_an_npz_file(tmp_path):
    x = np.random.default_rng(0).normal(size=(12, 1, 40)).astype(np.float16)
    np.savez(tmp_path / "ecg.npz", signal=x)
    plan = Preprocessing(1, 1, ("background", "P"), array="signal", unit="samples")
    images = list(read_images([tmp_path / "ecg.npz"], plan))
    assert [image.name for image in images][:2] == ["ecg_00", "ecg_01"]
    target = (x[3, 0] > 0).astype(np.uint8)
    (path,) = write_prediction(images[3], probabilities_of(target, 2), tmp_path, plan)
    assert path.name == "ecg_03.npz"
    assert np.array_equal(np.load(path)["y"], target)


def test_images_that_do_not_fit_are_told(make_folder, tmp_path):
    root = make_folder(channels=3)
    grey = Preprocessing(2, 1, ("background", "cell"))
    with pytest.raises(InputError, match="has 3 channels, and the network was trained on 1"):
        next(read_images(list_images(root / "images"), grey))
    flat = Preprocessing(3, 3, ("background", "cell"))
    with pytest.raises(InputError, match="has 2 spatial axes, and the network was trained on 3"):
        next(read_images(list_images(root / "images"), flat))
    with pytest.raises(InputError, match="there is no file or folder"):
        list_images(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        list_images(tmp_path / "empty")


def test_the_truth_of_real_volumes_comes_back(shared_data, tmp_path):
    root = shared_data / "Dataset004_Hippocampus"
    data = load(shared_data, source=str(root))
    path = root / "imagesTr" / f"{data.test[0].name}_0000.nii.gz"
    image = next(read_images([path], data.preprocessing))
    assert np.array_equal(image.image, data.test[0].image)
    truth = nibabel.load(root / "labelsTr" / f"{data.test[0].name}.nii.gz")
    written = write_prediction(
        image, probabilities_of(data.test[0].target, 3), tmp_path, data.preprocessing
    )
    found = nibabel.load(written[0])
    assert written[0].name == f"{data.test[0].name}.nii.gz"
    assert np.array_equal(found.dataobj, truth.dataobj)
    assert np.array_equal(found.affine, truth.affine)


def test_alpha_is_told_without_options_that_predict_has_not(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(path)
    with pytest.raises(InputError, match=r"save the image without alpha$"):
        list(read_images([path], Preprocessing(2, 3, ("ground", "road"))))


def test_advice_is_without_options_that_predict_has_not(tmp_path):
    def sentence(path, **plan):
        with pytest.raises(InputError) as caught:
            list(read_images([path], Preprocessing(1, 1, ("ground", "road"), **plan)))
        return str(caught.value).removeprefix(f"{path}: ")

    x = np.zeros((5, 1, 8), np.float32)
    x[0, 0, 2] = np.nan
    np.savez(tmp_path / "a.npz", x=x)
    assert sentence(tmp_path / "a.npz", array="signals") == (
        "has no array 'signals', it has x; rename the array of images to 'signals'"
    )
    assert sentence(tmp_path / "a.npz", array="X").endswith("rename the array of images to 'X'")
    assert sentence(tmp_path / "a.npz") == (
        "an image must hold finite numbers, got 1 NaN; repair the file"
    )
    assert sentence(tmp_path / "a.npz", nodata=-9.0).endswith(
        "if they mark missing values, write -9.0 there, as in training, else repair the file"
    )
    pages = np.zeros((5, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", metadata=None)
    assert sentence(tmp_path / "a.tif").endswith(
        "save it as OME-TIFF with the axes C or Z, or each page as a file"
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", pages, metadata={"axes": "ZYX"})
    plan = Preprocessing(3, 1, ("ground", "road"))
    assert next(read_images([tmp_path / "a.ome.tif"], plan)).shape == (5, 8, 9)


def test_faults_are_gathered_where_asked(tmp_path):
    for name in ("a", "b", "c"):
        Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:40])
    faults = []
    plan = Preprocessing(2, 1, ("ground", "road"))
    found = [image.name for image in read_images(list_images(tmp_path), plan, faults=faults)]
    assert found == ["a", "c"]
    assert "b.png" in str(faults[0])

"""Images without masks in, and predictions out as files of the same kind."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unet_nas.errors import InputError
from unet_nas.files import write_files
from unet_nas.train.data.cases import Array
from unet_nas.train.data.files import Reading, channels_first, count_pages, read_image
from unet_nas.train.data.geometry import Geometry, resample_image
from unet_nas.train.data.names import ENDINGS, ending, stem
from unet_nas.train.data.preprocessing import Preprocessing
from unet_nas.train.data.raw import RawCase, checked
from unet_nas.train.data.sources.npz import array_of, load_arrays

__all__ = ["Image", "labels_of", "list_images", "read_images", "write_prediction"]

#: tags of a GeoTIFF that say where it lies, which a prediction keeps
_GEOGRAPHIC_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)


@dataclass(frozen=True, slots=True)
class Image:
    """An image to be segmented.

    Attributes:
        name: Of the prediction, without ending.
        path: Of the file.
        image: (channels, *spatial) float32, prepared as in training.
        spacing: At the geometry of training.
        shape: Spatial shape of the file, in training's order of axes.
        geometry: Of the file, where it has one.
        valid: (*shape), False where the file holds no information; None: everywhere True.
    """

    name: str
    path: Path
    image: NDArray[np.float32]
    spacing: tuple[float, ...]
    shape: tuple[int, ...]
    geometry: Geometry | None = None
    valid: Array | None = None


def list_images(path: Path) -> list[Path]:
    """Returns the images of a folder, or the one file given.

    Raises:
        InputError: if there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"there is no file or folder {path}")
    found = sorted(p for p in path.iterdir() if ending(p.name) and p.name[0] != ".")
    if not found:
        raise InputError(f"{path} holds no images ({', '.join(ENDINGS)})")
    return found


def read_images(
    paths: Sequence[Path], preprocessing: Preprocessing, *, faults: list[InputError] | None = None
) -> Iterator[Image]:
    """Yields images one by one, each read when it is asked for.

    Where training had a dataset of nnU-Net, NAME_0000, NAME_0001, … are channels of one image.

    Args:
        paths: Files of images.
        preprocessing: As training prepared its images.
        faults: Gathers what is wrong with images, which are then left out.

    Raises:
        InputError: if a file cannot be read or does not fit the network, without ``faults``.
    """
    for name, files in _grouped(paths, preprocessing).items():
        try:
            for title, raw in _raws(name, files, preprocessing):
                known = checked(raw, preprocessing.nodata, str(files[0]), choosable=False)
                chosen = _selected(known, files[0], preprocessing)
                yield _image(title, files[0], chosen, preprocessing)
        except InputError as error:
            if faults is None:
                raise
            faults.append(error)


def _grouped(paths: Sequence[Path], preprocessing: Preprocessing) -> Mapping[str, list[Path]]:
    """Returns the files of each image; two images of one name keep their endings apart."""
    grouped: dict[str, list[Path]] = {}
    for path in paths:
        name = stem(path.name)
        channel = re.fullmatch(r"(.+)_\d{4}", name) if preprocessing.layout == "nnunet" else None
        if channel is None and name in grouped:
            name = path.name
        grouped.setdefault(channel[1] if channel else name, []).append(path)
    return grouped


def _raws(
    name: str, files: Sequence[Path], preprocessing: Preprocessing
) -> Iterator[tuple[str, RawCase]]:
    reading = Reading(
        pages=preprocessing.pages,
        keep_alpha=preprocessing.channels is not None,
        choosable=False,
        nodata=preprocessing.nodata,
        channel_axis=preprocessing.channel_axis,
        dims=preprocessing.spatial_dims,
    )
    if ending(files[0].name) == ".npz":
        yield from _arrays(name, files[0], preprocessing)
    elif preprocessing.pages == "slices":
        number = count_pages(files[0])
        for page in range(number):
            title = f"{name}_{page:0{len(str(number - 1))}}"
            yield title, read_image(files[0], replace(reading, page=page))
    else:
        parts = [read_image(path, reading) for path in files]
        image = _joined([part.image for part in parts], files)
        yield name, replace(parts[0], image=image)


def _joined(images: Sequence[Array], files: Sequence[Path]) -> Array:
    for image, path in zip(images, files, strict=True):
        if image.shape[1:] != images[0].shape[1:]:
            raise InputError(f"{path}: must have the size of {files[0].name}, its first channel")
    return images[0] if len(images) == 1 else np.concatenate(images)


def _arrays(name: str, path: Path, preprocessing: Preprocessing) -> Iterator[tuple[str, RawCase]]:
    images = array_of(load_arrays(path), preprocessing.array, path, None)
    digits = len(str(max(len(images) - 1, 0)))
    for index, array in enumerate(images):
        image = channels_first(
            array, None, preprocessing.channel_axis, f"{path}[{index}]", preprocessing.spatial_dims
        )
        yield f"{name}_{index:0{digits}}", RawCase(image, None, (1.0,) * (image.ndim - 1))


def _selected(raw: RawCase, path: Path, preprocessing: Preprocessing) -> RawCase:
    """Returns the channels that the network takes.

    Raises:
        InputError: if the image has others, or another number of axes.
    """
    image, wanted = raw.image, preprocessing.channels
    if wanted is not None and max(wanted) < len(image):
        image = image[list(wanted)]
    if len(image) != preprocessing.in_channels:
        raise InputError(
            f"{path}: has {len(image)} channels, and the network was trained on "
            f"{preprocessing.in_channels}"
        )
    if image.ndim - 1 != preprocessing.spatial_dims:
        raise InputError(
            f"{path}: has {image.ndim - 1} spatial axes, and the network was trained on "
            f"{preprocessing.spatial_dims}"
        )
    return replace(raw, image=image)


def _image(name: str, path: Path, raw: RawCase, preprocessing: Preprocessing) -> Image:
    made = preprocessing.image(raw)
    shape = raw.image.shape[1:]
    resampled = made.shape[1:] != shape
    spacing = preprocessing.spacing if resampled and preprocessing.spacing else raw.spacing
    return Image(name, path, made, spacing, shape, raw.geometry, raw.valid)


# --- out ----------------------------------------------------------------------------------


def labels_of(image: Image, probabilities: NDArray[np.float32], *, multi_label: bool) -> Array:
    """Returns class indices (*shape), or 0 and 1 for each label (labels, *shape), of the file.

    Probabilities are interpolated, not classes; where the file holds no information, it is
    background.

    Args:
        image: That was segmented.
        probabilities: (classes, *spatial) at the geometry of training.
        multi_label: Labels may overlap: each is there where its probability exceeds one half.
    """
    full = resample_image(probabilities, image.shape)
    labels = (full > 0.5) if multi_label else full.argmax(axis=0)
    labels = labels.astype(np.uint8)
    if image.valid is not None:
        labels[..., ~image.valid] = 0
    return labels if image.geometry is None else image.geometry.unorient(labels)


def write_prediction(
    image: Image,
    probabilities: NDArray[np.float32],
    folder: Path,
    preprocessing: Preprocessing,
    *,
    force: bool = True,
) -> list[Path]:
    """Writes a prediction as a file of the kind of its image, with the mask values of training.

    A lossy kind becomes PNG. Where labels overlap, formats of one channel get one file per label.

    Returns:
        What was written.

    Raises:
        InputError: if the folder cannot be written to.
    """
    labels = labels_of(image, probabilities, multi_label=preprocessing.multi_label)
    stored = labels if preprocessing.multi_label else _stored(labels, preprocessing.mask_values)
    kind = ending(image.path.name)
    files = _files(kind, stored, image, preprocessing)
    return write_files(folder, files, force=force)


def _stored(labels: Array, values: Sequence[int | tuple[int, int, int]]) -> Array:
    """Returns class indices as the masks of training hold them.

    >>> _stored(np.array([0, 1], "u1"), (0, 255)).tolist()
    [0, 255]
    """
    if not values:
        return labels
    table = np.array(values)
    kinds = (np.uint8, np.uint16, np.int16, np.int32, np.int64)
    fits = (k for k in kinds if np.iinfo(k).min <= table.min() and table.max() <= np.iinfo(k).max)
    found: Array = table.astype(next(fits))[labels]
    return found


def _files(
    kind: str, labels: Array, image: Image, preprocessing: Preprocessing
) -> dict[str, bytes]:
    name, multi_label = image.name, preprocessing.multi_label
    if kind in (".nii", ".nii.gz") and image.geometry is not None:
        from unet_nas.train.data.nifti import write_nifti  # noqa: PLC0415 - loads nibabel

        return {f"{name}{kind}": write_nifti(Path(f"{name}{kind}"), labels, image.geometry)}
    if kind == ".npz":
        return {f"{name}.npz": _bytes(lambda file: np.savez_compressed(file, y=labels))}
    if kind == ".npy":
        return {f"{name}.npy": _bytes(lambda file: np.save(file, labels))}
    if kind in (".tif", ".tiff"):
        return {f"{name}{kind}": _tiff(labels, image.path)}
    if not multi_label:
        return {f"{name}.png": _png(labels)}
    safe = [re.sub(r"[^\w-]+", "-", label) for label in preprocessing.class_names]
    return {f"{name}_{s}.png": _png(label * 255) for s, label in zip(safe, labels, strict=True)}


def _bytes(write: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _png(labels: Array) -> bytes:
    from PIL import Image as Pillow  # noqa: PLC0415 - other formats do without it

    picture = Pillow.fromarray(labels)
    return _bytes(lambda file: picture.save(file, format="PNG"))


def _tiff(labels: Array, like: Path) -> bytes:
    """Returns a TIFF file that lies where the image lies, if that is a GeoTIFF."""
    import tifffile  # noqa: PLC0415

    with tifffile.TiffFile(like) as file:
        tags = [file.pages.first.tags.get(code) for code in _GEOGRAPHIC_TAGS]
        kept = [(tag.code, tag.dtype, tag.count, tag.value, True) for tag in tags if tag]
    photometric = "rgb" if labels.ndim == 3 and labels.shape[-1] == 3 else "minisblack"

    def write(file: io.BytesIO) -> None:
        tifffile.imwrite(file, labels, photometric=photometric, compression="zlib", extratags=kept)

    return _bytes(write)

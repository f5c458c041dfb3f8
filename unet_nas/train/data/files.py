"""Reading one image or mask from a file: Pillow, tifffile, numpy and nibabel, one shape out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from unet_nas.errors import InputError
from unet_nas.train.data.cases import Array
from unet_nas.train.data.geometry import same_place
from unet_nas.train.data.names import ENDINGS, by, ending
from unet_nas.train.data.raw import RawCase, mark_nodata

__all__ = ["Pages", "Reading", "count_pages", "read_image", "read_mask", "refuse_apart"]

Pages: TypeAlias = Literal["channels", "volume", "slices"]
T = TypeVar("T")

OPAQUE = "the alpha channel is opaque everywhere and is left out"
HALVED = "of 16 bits of colour in PNG files 8 are read; TIFF files keep all"
_GDAL_NODATA = 42113


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read.

    Attributes:
        pages: What the pages of a file are; None: as the file says.
        page: Which page alone, where pages are slices.
        keep_alpha: The person chose channels, so alpha is one of them.
        choosable: The person could choose channels: this is training, not prediction.
        nodata: Value without information; None: what a GeoTIFF says counts.
        like: Spatial shape of the mask, which shows where an array has its channels.
        channel_axis: Where an array has its channels, if the person said so.
        dims: Spatial axes, where there is no mask that shows them.
    """

    pages: Pages | None = None
    page: int | None = None
    keep_alpha: bool = False
    choosable: bool = True
    nodata: float | str | None = None
    like: tuple[int, ...] | None = None
    channel_axis: Literal["first", "last"] | None = None
    dims: int | None = None


def read_image(path: Path, reading: Reading) -> RawCase:
    """Returns an image, channels first.

    Raises:
        InputError: if the file cannot be read, or what it holds is no image.
    """
    return _read(path, reading, as_mask=False)


def read_mask(path: Path, reading: Reading, *, multi_label: bool = False) -> RawCase:
    """Returns a mask in the field ``mask``: (*spatial), (*spatial, 3) or (labels, *spatial).

    Raises:
        InputError: if the file cannot be read.
    """
    raw = _read(path, reading, as_mask=True)
    mask = raw.image
    if multi_label:
        return replace(raw, mask=mask)
    if len(mask) == 1 or (mask == mask[:1]).all():
        return replace(raw, mask=mask[0])
    if len(mask) == 3:
        return replace(raw, mask=np.moveaxis(mask, 0, -1))
    raise InputError(
        f"{path}: a mask must have one channel, or three for colours, got {len(mask)}; where "
        "labels overlap, set data.multi_label: true"
    )


def refuse_apart(image: RawCase, path: Path, mask: RawCase, mask_path: Path) -> None:
    """Refuses a mask that lies elsewhere than its image, or is turned against it.

    Raises:
        InputError: if the affines of the two files differ.
    """
    if not same_place(image.geometry, mask.geometry):
        raise InputError(
            f"{mask_path}: its affine must be that of its image {path}, and differs; resample the "
            "mask onto the image, or copy the affine if only the header is wrong"
        )


def count_pages(path: Path) -> int:
    """Returns how many slices a file holds."""
    return _guarded(path, lambda: _page_number(path))


def _page_number(path: Path) -> int:
    if ending(path.name) in (".tif", ".tiff"):
        import tifffile  # noqa: PLC0415 - static commands and other formats do without it

        with tifffile.TiffFile(path) as file:
            sizes = dict(zip(file.series[0].axes, file.series[0].shape, strict=True))
        return int(np.prod([n for axis, n in sizes.items() if axis not in "YXS"]))
    if ending(path.name) == ".npy":
        return int(np.load(path, mmap_mode="r", allow_pickle=False).shape[0])
    return 1


def _read(path: Path, reading: Reading, *, as_mask: bool) -> RawCase:
    kind = ending(path.name)
    if kind in (".tif", ".tiff"):
        return _guarded(path, lambda: _read_tiff(path, reading, as_mask=as_mask))
    if kind in (".nii", ".nii.gz"):
        from unet_nas.train.data.nifti import read_nifti  # noqa: PLC0415 - nibabel is slow to load

        return _guarded(path, lambda: read_nifti(path))
    if kind == ".npy":
        return _guarded(path, lambda: _read_npy(path, reading, as_mask=as_mask))
    if kind in ENDINGS:
        return _guarded(path, lambda: _read_picture(path, reading, as_mask=as_mask))
    raise InputError(f"{path}: cannot read files of this kind; known are {', '.join(ENDINGS)}")


def _guarded(path: Path, read: Callable[[], T]) -> T:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size and metadata, which nobody can act on
            return read()
    except (InputError, MemoryError):
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot read {path}: {reason}") from error
    except Exception as error:  # a decoder raises anything at all on a damaged file
        kind = ending(path.name).lstrip(".").upper()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot read {path}: it is damaged or not a {kind} file ({reason})"
        ) from error


# --- PNG, JPEG, BMP -----------------------------------------------------------------------


def _read_picture(path: Path, reading: Reading, *, as_mask: bool) -> RawCase:
    from PIL import Image  # noqa: PLC0415 - other formats do without it

    try:
        opened = Image.open(path)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: has too many pixels ({error}); cut it or use TIFF") from error
    with opened as file:
        mode, tiles = file.mode, file.tile  # reading empties the list of tiles
        # the palette of a mask only colours its indices, and the indices are the classes
        if mode == "P" and not as_mask:
            mode = "RGBA" if "transparency" in file.info else "RGB"
        elif mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "F") and mode[0] != "I":
            mode = "RGBA" if mode in ("PA", "La", "RGBa") else "RGB"
        array = np.asarray(file if mode == file.mode else file.convert(mode))
        halved = file.mode in ("RGB", "RGBA") and ";16" in str([tile.args for tile in tiles])
    image = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    notes = (HALVED,) if halved else ()
    if mode in ("LA", "RGBA") and not (reading.keep_alpha and not as_mask):
        image, notes = _without_alpha(path, image, reading), (*notes, OPAQUE)
    return RawCase(image, None, (1.0, 1.0), notes=notes)


def _without_alpha(path: Path, image: Array, reading: Reading) -> Array:
    alpha = image[-1]
    if alpha.min() == alpha.max() == np.iinfo(alpha.dtype).max:
        return image[:-1]
    wanted = list(range(len(image) - 1))
    if not reading.choosable:
        raise InputError(
            f"{path}: has an alpha channel that is not opaque everywhere, and the network was "
            "trained on images without one; save the image without alpha"
        )
    raise InputError(
        f"{path}: has an alpha channel that is not opaque everywhere; set data.channels: {wanted} "
        f"to leave it out, or {[*wanted, len(wanted)]} to use it as a channel"
    )


# --- TIFF ---------------------------------------------------------------------------------


def _read_tiff(path: Path, reading: Reading, *, as_mask: bool) -> RawCase:
    import tifffile  # noqa: PLC0415

    with tifffile.TiffFile(path) as file:
        series, first = file.series[0], file.pages.first
        array, axes = series.asarray(), series.axes
        tag = first.tags.get(_GDAL_NODATA)
        alpha = tuple(map(int, first.extrasamples or ())) and int(first.extrasamples[-1]) in (1, 2)
    image = _by_axes(path, array, axes, reading)
    notes: tuple[str, ...] = ()
    if alpha and "S" in axes and not (reading.keep_alpha and not as_mask):
        image, notes = _without_alpha(path, image, reading), (OPAQUE,)
    raw = RawCase(image, None, (1.0,) * (image.ndim - 1), notes=notes)
    if tag is None or as_mask or reading.nodata is not None:
        return raw
    return mark_nodata(raw, str(tag.value).strip("\x00 "))


def _by_axes(path: Path, array: Array, axes: str, reading: Reading) -> Array:
    """Returns (channels, [pages,] rows, columns) of an array whose axes have letters."""
    pages = [axis for axis in axes if axis not in "YXS"]
    pages = [axis for axis in pages if array.shape[axes.index(axis)] > 1]
    order = [*("CZ" if "C" in pages else ""), *pages]
    roles = {axis: _role(path, axis, reading) for axis in dict.fromkeys(order) if axis in pages}
    channel_axes = [a for a in axes if a == "S" or roles.get(a) == "channels"]
    deep_axes = [a for a in axes if roles.get(a) in ("volume", "slices")]
    if len(deep_axes) > 1:
        raise InputError(f"{path}: has the axes {axes}, and at most three may be spatial")
    kept = array.transpose(
        *(i for i, a in enumerate(axes) if a not in (*channel_axes, *deep_axes, *"YX")),
        *(axes.index(a) for a in (*channel_axes, *deep_axes, *"YX")),
    )
    space = kept.shape[kept.ndim - 2 - len(deep_axes) :]
    image = kept.reshape(-1, *space)
    return image[:, reading.page] if reading.page is not None and deep_axes else image


def _role(path: Path, axis: str, reading: Reading) -> Pages:
    """Returns what one axis of pages is: what the person says, or what the file says."""
    if reading.pages is not None:
        return reading.pages
    if axis in "CZ":
        return "channels" if axis == "C" else "volume"
    if not reading.choosable:
        raise InputError(
            f"{path}: has several pages and does not say what they are; save it as OME-TIFF with "
            "the axes C or Z, or each page as a file"
        )
    raise InputError(
        f"{path}: has several pages and does not say what they are; set data.source: "
        "{path: …, pages: channels}, or volume, or slices"
    )


# --- NPY ----------------------------------------------------------------------------------


def _read_npy(path: Path, reading: Reading, *, as_mask: bool) -> RawCase:
    array = np.load(path, allow_pickle=False)
    if reading.page is not None:
        array = array[reading.page]
    if as_mask:
        multi = reading.channel_axis == "first"
        image = array if multi else array[None]
    else:
        image = channels_first(array, reading.like, reading.channel_axis, str(path), reading.dims)
    return RawCase(image, None, (1.0,) * (image.ndim - 1))


def channels_first(
    array: Array,
    like: Sequence[int] | None,
    axis: Literal["first", "last"] | None,
    where: str,
    dims: int | None = None,
) -> Array:
    """Returns an array with one leading axis of channels.

    Args:
        array: (*spatial), (channels, *spatial) or (*spatial, channels).
        like: The spatial shape, if it is known.
        axis: Where channels are, if it is known; without both the shorter end is taken.
        where: What a message calls it.
        dims: How many spatial axes there are, if that is known.

    >>> channels_first(np.zeros((8, 9, 3)), (8, 9), None, "a.npy").shape
    (3, 8, 9)
    """
    if array.ndim == (len(like) if like is not None else dims):
        return array[None]
    if axis is None and like is not None:
        axis = _fitting_axis(array, tuple(like), where)
    if axis is None:
        axis = "first" if array.shape[0] <= array.shape[-1] else "last"
    return array if axis == "first" else np.moveaxis(array, -1, 0)


def _fitting_axis(array: Array, like: tuple[int, ...], where: str) -> Literal["first", "last"]:
    """Returns at which end of an array the shape of its mask leaves an axis over."""
    if array.shape[1:] == like:
        return "first"
    if array.shape[:-1] == like:
        return "last"
    raise InputError(
        f"{where}: the image has the shape {by(array.shape)} and its mask {by(like)}; they must "
        "be equal but for channels"
    )

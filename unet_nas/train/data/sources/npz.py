"""Arrays in ``.npz`` files: all cases of a file in one array."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from unet_nas.errors import InputError
from unet_nas.text.sentences import did_you_mean
from unet_nas.train.data.cases import Array, Unit
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.files import channels_first
from unet_nas.train.data.names import by
from unet_nas.train.data.paths import find_file, resolve
from unet_nas.train.data.raw import Item, Listing, RawCase
from unet_nas.train.data.sources.options import Npz

__all__ = ["array_of", "list_cases", "load_arrays"]


def list_cases(source: Npz, config: DataConfig, base: Path) -> Listing:
    """Reads the arrays of one file, or of all ``.npz`` files of a folder.

    Raises:
        InputError: if a file or an array is missing, or shapes do not go together.
    """
    folder = resolve(source.path, base)
    if folder.is_dir():
        paths = sorted(folder.glob("*.npz"))
        if not paths:
            raise InputError(f"data.source: {folder} holds no .npz files")
    else:
        paths = [find_file(source.path, base, "data.source")]
    items = [
        item for path in paths for item in _cases(path, source, config, several=len(paths) > 1)
    ]
    if not items:
        raise InputError(f"data.source: {folder} holds no cases")
    dims = len(items[0].read().spacing)
    unit: Unit = "samples" if dims == 1 else "px"
    return Listing("npz", items, unit=unit, multi_label=config.multi_label)


def load_arrays(path: Path) -> dict[str, Array]:
    """Returns all arrays of a file.

    Raises:
        InputError: if it is damaged or holds Python objects.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(f"cannot read {path}: it is damaged or not an .npz file")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file}
    except (OSError, zipfile.BadZipFile, EOFError, ValueError) as error:
        if "Object arrays" in str(error):
            raise InputError(
                f"{path}: holds Python objects, which could run code when loaded; save plain "
                "arrays of numbers, as numpy.savez(path, x=images, y=masks)"
            ) from error
        raise InputError(f"cannot read {path}: it is damaged or not an .npz file") from error


def array_of(arrays: Mapping[str, Array], name: str, path: Path, field: str | None) -> Array:
    """Returns the array of that name.

    Args:
        arrays: Of the file.
        name: Of the array.
        path: Of the file.
        field: Of ``data.source`` that names the array; None in prediction, which has no options.

    Raises:
        InputError: if there is none, with the names that there are.
    """
    if name in arrays:
        return arrays[name]
    hint = did_you_mean(name, list(arrays)) or f"set data.source.{field}"
    fix = hint if field is not None else f"rename the array of images to {name!r}"
    raise InputError(f"{path}: has no array {name!r}, it has {', '.join(arrays) or 'none'}; {fix}")


def _cases(path: Path, source: Npz, config: DataConfig, *, several: bool) -> list[Item]:
    arrays = load_arrays(path)
    x = array_of(arrays, source.x, path, "x")
    y = array_of(arrays, source.y, path, "y")
    if x.ndim < 2 or len(x) != len(y):
        raise InputError(
            f"{path}: the arrays {source.x} and {source.y} must hold equally many cases along "
            f"their first axis, got {by(x.shape)} and {by(y.shape)}"
        )
    names = _texts(arrays, source.names, path, "names", len(x))
    digits = len(str(len(x) - 1))
    names = names or [f"{index:0{digits}}" for index in range(len(x))]
    if several:
        names = [f"{path.stem}/{name}" for name in names]
    groups = _texts(arrays, source.groups, path, "groups", len(x)) or names
    return [
        Item(
            name,
            group,
            partial(_read, x[i], y[i], config.multi_label, source.channel_axis, f"{path}[{i}]"),
            where=f"{path}[{i}]",
        )
        for i, (name, group) in enumerate(zip(names, groups, strict=True))
    ]


def _texts(
    arrays: Mapping[str, Array], name: str | None, path: Path, field: str, number: int
) -> list[str]:
    if name is None:
        return []
    found = array_of(arrays, name, path, field)
    if found.shape != (number,):
        raise InputError(
            f"{path}: the array {name} must have one entry for each of the {number} cases, got "
            f"the shape {by(found.shape)}"
        )
    return [str(value) for value in found.tolist()]


def _read(
    x: Array, y: Array, multi_label: bool, axis: Literal["first", "last"] | None, where: str
) -> RawCase:
    spatial = y.shape[1:] if multi_label else y.shape
    image = channels_first(x, None if axis else spatial, axis, where, len(spatial))
    if image.shape[1:] != spatial:
        raise InputError(
            f"{where}: the image has the shape {by(x.shape)} and its mask {by(y.shape)}; they must "
            "be equal but for channels"
        )
    return RawCase(image, y, (1.0,) * len(spatial))

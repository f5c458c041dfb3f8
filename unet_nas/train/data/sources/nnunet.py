"""The raw dataset layout of nnU-Net (Isensee et al. 2021; both its versions)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet_nas.errors import InputError
from unet_nas.train.data.cases import IGNORE, Array, Part
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.files import Reading, read_image, read_mask, refuse_apart
from unet_nas.train.data.names import ENDINGS, by, listed
from unet_nas.train.data.paths import find_folder
from unet_nas.train.data.raw import Item, Listing, RawCase

__all__ = ["DESCRIPTION", "list_cases"]

DESCRIPTION = "dataset.json"


@dataclass(frozen=True, slots=True)
class _Description:
    """What ``dataset.json`` says.

    Attributes:
        names: Of the classes by their values in the masks; of regions in their order.
        regions: Mask values that form each region, where labels are regions.
        ignore: Mask value of what is not annotated.
        channels: How many files an image has.
        ending: Of all files.
    """

    names: tuple[str, ...]
    regions: tuple[tuple[int, ...], ...]
    ignore: int | None
    channels: int
    ending: str


def list_cases(path: str, config: DataConfig, base: Path) -> Listing:
    """Lists imagesTr with labelsTr and, where it has labels, imagesTs with labelsTs as test.

    Raises:
        InputError: if ``dataset.json`` or a file is missing or broken.
    """
    root = find_folder(path, base, "data.source")
    about = _description(root / DESCRIPTION)
    reading = Reading(nodata=config.nodata, keep_alpha=config.channels is not None)
    items = _items(root, "Tr", about, reading, None)
    if (root / "labelsTs").is_dir() and (root / "imagesTs").is_dir():
        items += _items(root, "Ts", about, reading, "test")
    return Listing(
        "nnunet",
        items,
        unit="mm" if about.ending.startswith(".nii") else "px",
        class_names=about.names,
        ignore_value=IGNORE if about.regions and about.ignore is not None else about.ignore,
        multi_label=bool(about.regions),
    )


def _items(
    root: Path, end: str, about: _Description, reading: Reading, part: Part | None
) -> list[Item]:
    folder, masks = root / f"images{end}", root / f"labels{end}"
    for needed in (folder, masks):
        if not needed.is_dir():
            find_folder(str(needed), Path(), "data.source")
    labels = {p.name.removesuffix(about.ending): p for p in _files(masks, about.ending)}
    images: dict[str, dict[int, Path]] = {}
    for image in _files(folder, about.ending):
        match = re.fullmatch(r"(.+)_(\d{4})", image.name.removesuffix(about.ending))
        if match is None:
            raise InputError(
                f"{image}: an image must be called NAME_0000{about.ending}, with the number of "
                "its channel"
            )
        images.setdefault(match[1], {})[int(match[2])] = image
    _refuse_lonely(images, labels, folder, masks)
    return [
        Item(
            name,
            name,
            partial(
                _read, _channels(name, images[name], about, folder), labels[name], about, reading
            ),
            part,
            where=str(images[name][0]),
            mask_where=str(labels[name]),
        )
        for name in sorted(images)
    ]


def _files(folder: Path, ending: str) -> list[Path]:
    found = sorted(
        p for p in folder.iterdir() if p.name.endswith(ending) and p.is_file() and p.name[0] != "."
    )
    if not found:
        raise InputError(f"data.source: {folder} holds no files *{ending}, as dataset.json says")
    return found


def _refuse_lonely(
    images: Mapping[str, Any], labels: Mapping[str, Any], folder: Path, masks: Path
) -> None:
    lonely = sorted(images.keys() - labels.keys())
    if lonely:
        raise InputError(
            f"data.source: {len(lonely)} of {len(images)} images have no mask in {masks}: "
            f"{listed(lonely)}"
        )
    spare = sorted(labels.keys() - images.keys())
    if spare:
        raise InputError(
            f"data.source: {len(spare)} masks in {masks} have no image in {folder}: {listed(spare)}"
        )


def _channels(
    name: str, files: Mapping[int, Path], about: _Description, folder: Path
) -> tuple[Path, ...]:
    missing = [index for index in range(about.channels) if index not in files]
    if missing:
        raise InputError(
            f"data.source: {folder} lacks {name}_{missing[0]:04}{about.ending}: dataset.json names "
            f"{about.channels} channels"
        )
    return tuple(files[index] for index in range(about.channels))


def _read(images: Sequence[Path], label: Path, about: _Description, reading: Reading) -> RawCase:
    parts = [read_image(path, reading) for path in images]
    mask = read_mask(label, Reading())
    for path, part in zip(images, parts, strict=True):
        if part.image.shape[1:] != mask.image.shape[1:]:
            raise InputError(
                f"{path}: has the shape {by(part.image.shape[1:])} and its mask {label.name} "
                f"{by(mask.image.shape[1:])}; image and mask must have the same size"
            )
        refuse_apart(part, path, mask, label)
    valid = [part.valid for part in parts if part.valid is not None]
    return replace(
        parts[0],
        image=np.concatenate([part.image for part in parts]),
        mask=_as_regions(mask.mask, about),
        valid=np.logical_and.reduce(valid) if valid else None,
    )


def _as_regions(mask: Array | None, about: _Description) -> Array | None:
    """Returns one channel per region, with `IGNORE` where nothing is annotated."""
    if mask is None or not about.regions:
        return mask
    channels = np.stack([np.isin(mask, values) for values in about.regions]).astype(np.uint8)
    if about.ignore is not None:
        channels[:, mask == about.ignore] = IGNORE
    return channels


# --- dataset.json -------------------------------------------------------------------------


def _description(path: Path) -> _Description:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or '').lower()}") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: must hold a mapping")
    channels = data.get("channel_names", data.get("modality"))
    if not isinstance(channels, dict) or not channels:
        raise InputError(f'{path}: needs "channel_names", as {{"0": "MRI"}}')
    ending = data.get("file_ending", ".nii.gz")
    if ending not in ENDINGS:
        raise InputError(f"{path}: file_ending must be one of {', '.join(ENDINGS)}, got {ending!r}")
    names, regions, ignore = _labels(path, data.get("labels"))
    return _Description(names, regions, ignore, len(channels), ending)


def _labels(
    path: Path, labels: Any
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...], int | None]:
    """Reads names → values of the second version, or values → names of the first."""
    if not isinstance(labels, dict) or not labels:
        raise InputError(f'{path}: needs "labels", as {{"background": 0, "tumour": 1}}')
    if all(key.isdecimal() and isinstance(value, str) for key, value in labels.items()):
        labels = {name: int(value) for value, name in labels.items()}
    values = {name: _label_values(path, name, value) for name, value in labels.items()}
    ignore = values.pop("ignore", (None,))[0]
    if any(len(found) > 1 for found in values.values()):
        regions = {name: found for name, found in values.items() if name != "background"}
        return tuple(regions), tuple(regions.values()), ignore
    ordered = sorted(values, key=lambda name: values[name])
    if [values[name][0] for name in ordered] != list(range(len(ordered))):
        found_values = ", ".join(str(values[name][0]) for name in ordered)
        raise InputError(f"{path}: labels must be numbered 0, 1, 2, …, got {found_values}")
    return tuple(ordered), (), ignore


def _label_values(path: Path, name: str, value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        raise InputError(f"{path}: the label {name!r} must be an integer or a list, got {value!r}")
    return tuple(values)

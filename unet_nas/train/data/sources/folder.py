"""A folder of images and a folder of masks, matched by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from unet_nas.errors import InputError
from unet_nas.train.data.cases import Array
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.files import Reading, count_pages, read_image, read_mask, refuse_apart
from unet_nas.train.data.names import ENDINGS, by, ending, listed, stem
from unet_nas.train.data.paths import find_folder
from unet_nas.train.data.raw import Item, Listing, RawCase
from unet_nas.train.data.sources.options import Folder

__all__ = ["files_in", "list_cases"]

#: where labels that overlap are stored: each in a file of its own, or as channels of one
Labels: TypeAlias = Literal["none", "files", "one file"]

_MASK_FOLDERS = ("masks", "labels", "annotations", "mask", "label", "labelsTr", "gt")
_IMAGE_FOLDERS = ("image", "imgs", "img", "imagesTr")
_MASK_SUFFIXES = ("_mask", "_masks", "_label", "_labels", "_seg", "_gt", "_segmentation", "-mask")


def list_cases(source: Folder, config: DataConfig, base: Path) -> Listing:
    """Matches images and masks, before any of them is read.

    Raises:
        InputError: if a folder is missing or empty, or files have no partner.
    """
    root = find_folder(source.path, base, "data.source")
    _refuse_nnunet_without_description(root)
    images, pairs = _pairs(source, root)
    labels = tuple(source.masks) if isinstance(source.masks, dict) else None
    overlap: Labels = "files" if labels else "one file" if config.multi_label else "none"
    reading = Reading(
        pages=source.pages, keep_alpha=config.channels is not None, nodata=config.nodata
    )
    items = [
        item
        for name, image in images.items()
        for item in _items(name, image, pairs[name], reading, overlap)
    ]
    nifti = any(ending(path.name).startswith(".nii") for path in images.values())
    return Listing(
        "folder",
        items,
        unit="mm" if nifti else "px",
        class_names=labels,
        multi_label=overlap != "none",
    )


def _refuse_nnunet_without_description(root: Path) -> None:
    """Refuses the folders of nnU-Net's layout whose images are numbered by channel."""
    numbered = (root / "imagesTr").is_dir() and (root / "labelsTr").is_dir()
    if numbered and any(
        re.search(r"_\d{4}\.", path.name) for path in (root / "imagesTr").iterdir()
    ):
        raise InputError(
            f"data.source: {root} holds imagesTr and labelsTr, and no dataset.json, which says "
            "what their channels and labels are; add it, as nnU-Net has it"
        )


def files_in(folder: Path, field: str) -> dict[str, Path]:
    """Returns the images of a folder by their names without endings, in order.

    Raises:
        InputError: if there is none, or two have one name.
    """
    paths = sorted(
        p for p in folder.iterdir() if ending(p.name) and p.name[0] != "." and not p.is_dir()
    )
    if not paths:
        kinds = ", ".join(ENDINGS[:-1])
        raise InputError(f"{field}: {folder} holds no images ({kinds})")
    found: dict[str, Path] = {}
    for path in paths:
        name = stem(path.name)
        if name in found:
            raise InputError(
                f"{field}: {found[name].name} and {path.name} in {folder} have the same name but "
                "for the ending, so their masks cannot be told apart; rename or remove one"
            )
        found[name] = path
    return found


def _pairs(source: Folder, root: Path) -> tuple[dict[str, Path], dict[str, tuple[Path, ...]]]:
    """Returns the images by name, and the masks of each: one, or one for each label."""
    folder = _image_folder(source, root)
    if isinstance(source.masks, dict):
        images = _named(files_in(folder, "data.source"), source.image_suffix)
        by_label = [
            _matched(images, root / sub, folder, source.mask_suffix)
            for sub in source.masks.values()
        ]
        return images, {name: tuple(found[name] for found in by_label) for name in images}
    masks = _mask_folder(source, root)
    if masks.resolve() == folder.resolve():
        return _pairs_in_one(source, folder)
    images = _named(files_in(folder, "data.source"), source.image_suffix)
    found = _matched(images, masks, folder, source.mask_suffix)
    return images, {name: (path,) for name, path in found.items()}


def _image_folder(source: Folder, root: Path) -> Path:
    if (root / source.images).is_dir():
        return root / source.images
    if source.images == "images":
        for name in _IMAGE_FOLDERS:
            if (root / name).is_dir():
                return root / name
        if source.masks is None and not any((root / name).is_dir() for name in _MASK_FOLDERS):
            return root
    return find_folder(str(root / source.images), Path(), "data.source.images")


def _mask_folder(source: Folder, root: Path) -> Path:
    if isinstance(source.masks, str):
        return find_folder(str(root / source.masks), Path(), "data.source.masks")
    for name in _MASK_FOLDERS:
        if (root / name).is_dir():
            return root / name
    if (root / source.images).is_dir() and source.mask_suffix is None:
        inside = files_in(root / source.images, "data.source")
        if not any(name.endswith(_MASK_SUFFIXES) for name in inside):
            return find_folder(str(root / "masks"), Path(), "data.source.masks")
    return _image_folder(source, root)


def _named(files: Mapping[str, Path], suffix: str) -> dict[str, Path]:
    """Takes the end off the names; files without it are no images."""
    named = {n[: len(n) - len(suffix)]: p for n, p in files.items() if n.endswith(suffix)}
    if not named:
        raise InputError(f"data.source.image_suffix: no image has a name that ends in {suffix!r}")
    return named


def _matched(
    images: Mapping[str, Path], masks: Path, folder: Path, suffix: str | None
) -> dict[str, Path]:
    """Returns the mask of each image.

    Raises:
        InputError: naming images without masks, or masks without images.
    """
    if not masks.is_dir():
        find_folder(str(masks), Path(), "data.source.masks")
    found = files_in(masks, "data.source.masks")
    ends = ("", *_MASK_SUFFIXES) if suffix is None else (suffix,)
    matched = {
        name: found[name + end] for name in images for end in reversed(ends) if name + end in found
    }
    lonely = [images[name].name for name in images if name not in matched]
    if lonely:
        number = (
            f"{len(lonely)} of {len(images)} images have" if len(images) > 1 else "an image has"
        )
        raise InputError(
            f"data.source: {number} no mask in {masks}: {listed(lonely)}; a mask has the name of "
            "its image, or that with data.source.mask_suffix"
        )
    used = set(matched.values())
    spare = [path.name for path in found.values() if path not in used]
    if spare:
        masks_have = (
            f"{len(spare)} masks in {masks} have" if len(spare) > 1 else f"a mask in {masks} has"
        )
        fix = (
            "add the images or remove the masks"
            if len(spare) > 1
            else "add the image or remove the mask"
        )
        raise InputError(f"data.source: {masks_have} no image in {folder}: {listed(spare)}; {fix}")
    return matched


def _pairs_in_one(
    source: Folder, folder: Path
) -> tuple[dict[str, Path], dict[str, tuple[Path, ...]]]:
    """Tells images and masks of one folder apart by the ends of their names."""
    files = files_in(folder, "data.source")
    ends = _MASK_SUFFIXES if source.mask_suffix is None else (source.mask_suffix,)
    masks = {n: p for n, p in files.items() if any(end and n.endswith(end) for end in ends)}
    images = _named({n: p for n, p in files.items() if n not in masks}, source.image_suffix)
    if not masks:
        above = folder.resolve().parent
        beside = [name for name in _MASK_FOLDERS if (above / name).is_dir()]
        if beside:
            raise InputError(
                f"data.source: {folder} holds images and no masks, which lie in {beside[0]} beside "
                f"it; give the folder that holds both, {folder.parent}"
            )
        raise InputError(
            f"data.source: {folder} holds {len(files)} images and no masks; put masks into "
            f"{folder / 'masks'}, or name them NAME_mask, or set data.source.mask_suffix"
        )
    pairs: dict[str, tuple[Path, ...]] = {
        name: (masks[name + end],) for name in images for end in ends if name + end in masks
    }
    lonely = [images[name].name for name in images if name not in pairs]
    used = {mask for found in pairs.values() for mask in found}
    spare = [path.name for path in masks.values() if path not in used]
    if lonely or spare:
        what = f"no mask beside {listed(lonely)}" if lonely else f"no image for {listed(spare)}"
        raise InputError(f"data.source: {folder} has {what}; pairs are NAME and NAME{ends[0]}")
    return images, pairs


def _items(
    name: str, image: Path, masks: tuple[Path, ...], reading: Reading, labels: Labels
) -> Iterator[Item]:
    """Yields the case of a file, or one for each of its slices, which are one group."""

    def item(title: str, one: Reading) -> Item:
        read: Callable[[], RawCase] = partial(_read, image, masks, one, labels)
        return Item(title, name, read, where=str(image), mask_where=listed([*map(str, masks)]))

    if reading.pages != "slices":
        yield item(name, reading)
        return
    number = count_pages(image)
    digits = len(str(number - 1))
    for page in range(number):
        yield item(f"{name}[{page:0{digits}}]", replace(reading, page=page))


def _read(image: Path, masks: tuple[Path, ...], reading: Reading, labels: Labels) -> RawCase:
    in_one_file = labels == "one file"
    as_mask = reading
    if in_one_file:  # its pages are the labels, whatever those of the image are
        as_mask = replace(reading, channel_axis="first", pages=reading.pages or "channels")
    found = [read_mask(path, as_mask, multi_label=in_one_file) for path in masks]
    arrays = [raw.mask for raw in found if raw.mask is not None]
    mask = _stacked(arrays, masks) if labels == "files" else arrays[0]
    like = found[0].image.shape[1:]
    raw = read_image(image, replace(reading, like=like))
    if raw.image.shape[1:] != like:
        raise InputError(
            f"{image}: is {by(raw.image.shape[1:])} and its mask {masks[0].name} {by(like)}; "
            "image and mask must have the same size"
        )
    for one, path in zip(found, masks, strict=True):
        refuse_apart(raw, image, one, path)
    return replace(raw, mask=mask)


def _stacked(arrays: list[Array], paths: tuple[Path, ...]) -> Array:
    for array, path in zip(arrays, paths, strict=True):
        if array.shape != arrays[0].shape:
            raise InputError(
                f"{path}: is {by(array.shape)} and {paths[0]} {by(arrays[0].shape)}; the masks "
                "of all labels must have the same size"
            )
    return np.stack(arrays)

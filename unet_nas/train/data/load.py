"""From the section ``data`` to cases in memory, with every mistake told before anything trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from unet_nas.errors import InputError
from unet_nas.text.document import shown
from unet_nas.train.data.cases import Array, Dataset, Part
from unet_nas.train.data.census import Census, colour_codes
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.labels import encode, label_rule
from unet_nas.train.data.names import by
from unet_nas.train.data.prepare import ReadCase, prepare
from unet_nas.train.data.raw import Item, Listing, RawCase, checked
from unet_nas.train.data.sources.find import list_source
from unet_nas.train.data.split import groups_of, split_cases

__all__ = ["load_data"]

Progress: TypeAlias = Callable[[int, int], None]


def load_data(
    config: DataConfig, *, base: Path, seed: int = 0, progress: Progress | None = None
) -> Dataset:
    """Reads, checks, splits and prepares all cases.

    Args:
        config: The section ``data``.
        base: Folder that relative paths are looked for in, before the working directory.
        seed: Of the split, where ``split.seed`` is null.
        progress: Called with the number of cases read and of all cases.

    Raises:
        InputError: with one sentence, if the data cannot be trained on.
    """
    listing = _list(config, base)
    _refuse_doubles(listing.items)
    groups = groups_of(listing.items, config.split.groups, base)
    split_seed = config.split.seed if config.split.seed is not None else seed
    parts = _parts(listing, groups, config, base, split_seed)
    multi_label = config.multi_label or listing.multi_label
    cases: list[ReadCase] = []
    for index, item in enumerate(listing.items):
        raw = checked(item.read(), config.nodata, item.where)
        raw = _with_channels(raw, config.channels, item)
        mask = _codes(raw, item, config, multi_label=multi_label)
        cases.append(ReadCase(item, groups[index], parts[index], raw, mask))
        if progress is not None:
            progress(index + 1, len(listing.items))
    _refuse_mixture(cases)
    census = Census()
    for case in cases:
        colours = _has_colours(case) and not multi_label
        census.add(case.codes, case.item.title, colours=colours)
    rule = label_rule(census, config, listing, len(cases[0].codes) if multi_label else 0)
    return prepare(cases, rule, listing, config)


def _list(config: DataConfig, base: Path) -> Listing:
    try:
        return list_source(config, base)
    except OSError as error:  # of folders that may not be looked into
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"data.source: cannot read {shown(str(error.filename))}: {reason}"
        ) from error


def _parts(
    listing: Listing, groups: Sequence[str], config: DataConfig, base: Path, seed: int
) -> list[Part]:
    if listing.fixed_parts:
        return [item.part or "train" for item in listing.items]
    return split_cases(listing.items, groups, config.split, base=base, seed=seed)


def _refuse_doubles(items: Sequence[Item]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise InputError(f"data.source: two cases are called {item.name!r}; rename one")
        seen.add(item.name)


def _with_channels(raw: RawCase, channels: tuple[int, ...] | None, item: Item) -> RawCase:
    if channels is None:
        return raw
    if max(channels) >= len(raw.image):
        raise InputError(
            f"data.channels: {item.where} has the channels 0 to {len(raw.image) - 1}, "
            f"got {max(channels)}"
        )
    return replace(raw, image=raw.image[list(channels)])


def _codes(raw: RawCase, item: Item, config: DataConfig, *, multi_label: bool) -> Array:
    """Returns the mask as integers of the image's size."""
    if raw.mask is None:
        raise InputError(f"{item.where}: has no mask")
    spatial = raw.image.shape[1:]
    codes = encode(raw.mask, item.mask_where or item.where)
    if not multi_label and codes.shape == (*spatial, 3):
        codes = colour_codes(codes)
    elif any(isinstance(value, tuple) for value in config.mask_values or ()):
        codes = colour_codes(np.stack([codes] * 3, axis=-1))  # a grey mask among colours
    if multi_label and codes.ndim == len(spatial):
        raise InputError(
            f"{item.where}: where labels overlap a mask has a channel for each label, got "
            f"the shape {by(codes.shape)}; store them so, or remove data.multi_label"
        )
    wanted = codes.shape[1:] if multi_label else codes.shape
    if wanted != spatial:
        raise InputError(
            f"{item.where}: the image is {by(spatial)} and its mask {by(codes.shape)}; image and "
            "mask must have the same size" + (", after the axis of labels" if multi_label else "")
        )
    return codes


def _has_colours(case: ReadCase) -> bool:
    return case.raw.mask is not None and case.raw.mask.ndim == case.raw.image.ndim


def _refuse_mixture(cases: Sequence[ReadCase]) -> None:
    """Refuses cases of different dimensions or numbers of channels."""
    first = cases[0]
    for case in cases:
        if case.raw.image.ndim != first.raw.image.ndim:
            raise InputError(
                f"data.source: {first.item.where} has {first.raw.image.ndim - 1} spatial axes and "
                f"{case.item.where} {case.raw.image.ndim - 1}; all cases must have equally many"
            )
        if len(case.raw.image) != len(first.raw.image):
            few = min(len(case.raw.image), len(first.raw.image))
            raise InputError(
                f"data.source: {first.item.where} has {_channels(first)} and {case.item.where} "
                f"{_channels(case)}; all must have equally many: convert them, or set "
                f"data.channels: {list(range(few))}"
            )
        if len(case.codes) != len(first.codes) and case.codes.ndim > case.raw.image.ndim - 1:
            raise InputError(
                f"data.source: the mask of {first.item.where} has {len(first.codes)} labels and "
                f"that of {case.item.where} {len(case.codes)}; all must have equally many"
            )


def _channels(case: ReadCase) -> str:
    number = len(case.raw.image)
    return "1 channel" if number == 1 else f"{number} channels"

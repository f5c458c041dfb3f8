"""From cases as read to cases as trained on: class indices, normalised, at one spacing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_nas.errors import InputError
from unet_nas.train.data.cases import IGNORE, Array, Case, Dataset, Part
from unet_nas.train.data.checks import class_notes, twin_notes
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.geometry import Geometry, resample_target
from unet_nas.train.data.labels import LabelRule, target_of
from unet_nas.train.data.names import listed
from unet_nas.train.data.preprocessing import Preprocessing, Statistics
from unet_nas.train.data.raw import Item, Listing, RawCase
from unet_nas.train.data.sources.options import Folder, Npz
from unet_nas.train.data.summary import summarise

__all__ = ["ReadCase", "prepare"]

_PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class ReadCase:
    """A case as read, its mask as integers, with its group and part."""

    item: Item
    group: str
    part: Part
    raw: RawCase
    codes: Array


def prepare(
    cases: Sequence[ReadCase], rule: LabelRule, listing: Listing, config: DataConfig
) -> Dataset:
    """Returns the data set.

    Raises:
        InputError: if a class never occurs in training, or spacing does not suit the files.
    """
    ignored = rule.ignore_value is not None or any(case.raw.valid is not None for case in cases)
    train = [case.raw for case in cases if case.part == "train"]
    source = config.source
    preparation = Preprocessing(
        spatial_dims=cases[0].raw.image.ndim - 1,
        in_channels=len(cases[0].raw.image),
        class_names=rule.names,
        multi_label=rule.multi_label,
        ignore_label=IGNORE if ignored else None,
        unit=listing.unit,
        channels=config.channels,
        normalise=config.normalise,
        clip=config.clip,
        nodata=config.nodata,
        spacing=_spacing(config, listing, train),
        mask_values=rule.values,
        pages=source.pages if isinstance(source, Folder) else None,
        channel_axis=source.channel_axis if isinstance(source, Npz) else None,
        array=source.x if isinstance(source, Npz) else "x",
        layout="nnunet" if listing.kind == "nnunet" else "files",
    )
    if config.normalise == "dataset":
        preparation = preparation.with_statistics(Statistics.of(train, config.clip))
    made = {part: _prepared(cases, part, rule, preparation, config) for part in _PARTS}
    notes = [*listing.notes, *rule.notes, *_reading_notes(cases), *_flat_notes(cases)]
    notes += class_notes(preparation.task, made, rule.values) + twin_notes(made)
    return Dataset(
        preparation.task,
        made["train"],
        made["validation"],
        made["test"],
        summarise(made, preparation, config, listing, notes),
        tuple(notes),
        preparation,
    )


def _spacing(
    config: DataConfig, listing: Listing, train: Sequence[RawCase]
) -> tuple[float, ...] | None:
    """Returns the spacing of training; None where nothing is resampled.

    The median is of the training cases alone: the others are not to be looked at.
    """
    if listing.unit != "mm" or config.spacing is None:
        if isinstance(config.spacing, tuple):
            raise InputError(
                f"data.spacing: the files of this source ({listing.kind}) have no spacing in mm; "
                "remove it"
            )
        return None
    dims = len(train[0].spacing)
    if config.spacing == "median":
        middle = np.median(np.array([case.spacing for case in train]), axis=0)
        return tuple(round(float(value), 6) for value in middle)
    if len(config.spacing) != dims:
        raise InputError(
            f"data.spacing: must have {dims} numbers, one per axis, got {len(config.spacing)}"
        )
    return config.spacing


def _prepared(
    cases: Sequence[ReadCase],
    part: Part,
    rule: LabelRule,
    preparation: Preprocessing,
    config: DataConfig,
) -> tuple[Case, ...]:
    return tuple(_case(c, rule, preparation, config) for c in cases if c.part == part)


def _case(read: ReadCase, rule: LabelRule, preparation: Preprocessing, config: DataConfig) -> Case:
    raw, geometry = read.raw, read.raw.geometry
    full = target_of(read.codes, rule)
    if raw.valid is not None:
        full[..., ~raw.valid] = IGNORE
    shape = preparation.shape(raw)
    linear = config.label_interpolation == "linear"
    target = resample_target(full, shape, linear=linear, multi_label=rule.multi_label)
    resampled = shape != raw.image.shape[1:]
    moved = resampled or (geometry is not None and geometry.moves)
    if moved and geometry is None:
        geometry = _plain_geometry(raw)
    return Case(
        name=read.item.name,
        group=read.group,
        image=preparation.image(raw),
        target=np.ascontiguousarray(target),
        spacing=preparation.spacing if resampled and preparation.spacing else raw.spacing,
        restore=geometry if moved else None,
        truth=geometry.unorient(full) if moved and geometry is not None else None,
    )


def _plain_geometry(raw: RawCase) -> Geometry:
    shape = raw.image.shape[1:]
    straight = tuple(range(len(shape)))
    return Geometry(shape, straight, (False,) * len(shape), raw.spacing, len(shape))


def _reading_notes(cases: Sequence[ReadCase]) -> list[str]:
    """Returns the notes of single cases, each once, with the number of cases that have it."""
    counts: dict[str, list[str]] = {}
    for case in cases:
        for note in case.raw.notes:
            counts.setdefault(note, []).append(case.item.name)
    whole = len(cases)
    return [
        f"{note} (all images)" if len(names) == whole else f"{note} ({listed(names)})"
        for note, names in counts.items()
    ]


def _flat_notes(cases: Sequence[ReadCase]) -> list[str]:
    """Returns which images hold one value everywhere: nothing can be seen in them."""
    flat = [case.item.where or case.item.name for case in cases if _is_flat(case.raw)]
    if not flat:
        return []
    which = f"of {len(cases)} images {'is' if len(flat) == 1 else 'are'} constant everywhere"
    return [f"{len(flat)} {which}, {'first ' if len(flat) > 1 else ''}{flat[0]}"]


def _is_flat(raw: RawCase) -> bool:
    """Tells whether each channel has one value wherever it holds information."""
    known = raw.image if raw.valid is None else raw.image[:, raw.valid]
    return all(bool((channel == channel.flat[:1]).all()) for channel in known)

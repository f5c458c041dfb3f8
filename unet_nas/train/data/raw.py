"""What sources hand over: cases that can be read, and cases as they were read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unet_nas.errors import InputError
from unet_nas.train.data.cases import Array, Part, Unit
from unet_nas.train.data.geometry import Geometry
from unet_nas.train.data.names import listed

__all__ = ["Item", "Listing", "RawCase", "checked", "mark_nodata"]


@dataclass(frozen=True, slots=True)
class RawCase:
    """One case as it was read: oriented, nothing else changed.

    Attributes:
        image: (channels, *spatial), of any type.
        mask: (*spatial) values as stored, (*spatial, 3) colours, or (labels, *spatial) where
            labels overlap; None for an image alone.
        spacing: Along the spatial axes.
        geometry: Of the file, where it has one to return to.
        valid: (*spatial), False where the image holds no information; None: everywhere True.
        notes: Sentences for people; equal ones of many cases are told once.
    """

    image: Array
    mask: Array | None
    spacing: tuple[float, ...]
    geometry: Geometry | None = None
    valid: Array | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """A case that can be read.

    Attributes:
        name: Unlike all others of the listing.
        group: What must stay in one part of a split.
        read: Reads it.
        part: Where the source itself says which part it belongs to.
        where: What a message calls it: the file of its image, mostly.
        mask_where: And its mask, if that is another file.
    """

    name: str
    group: str
    read: Callable[[], RawCase]
    part: Part | None = None
    where: str = ""
    mask_where: str | None = None

    @property
    def title(self) -> str:
        """What a message calls its mask: the name, and the file where one is known."""
        file = self.mask_where or self.where
        return f"{self.name} ({file})" if file else self.name


@dataclass(frozen=True, slots=True)
class Listing:
    """All cases of a source.

    Attributes:
        kind: ``folder``, ``npz``, …
        items: In the order of their names.
        unit: Of their spacing.
        class_names: Where the source knows them.
        ignore_value: Mask value without annotation, where the source knows it.
        multi_label: The masks hold one channel for each label.
        fixed_parts: The source has split the cases itself, and no option changes that.
        notes: Sentences for people.
    """

    kind: str
    items: Sequence[Item]
    unit: Unit = "px"
    class_names: tuple[str, ...] | None = None
    ignore_value: int | None = None
    multi_label: bool = False
    fixed_parts: bool = False
    notes: tuple[str, ...] = ()


def mark_nodata(raw: RawCase, nodata: float | str | None) -> RawCase:
    """Marks the positions whose value is ``nodata``, a number or ``nan``, in any channel.

    >>> case = RawCase(np.array([[1.0, -9.0, 3.0]]), None, (1.0,))
    >>> mark_nodata(case, -9).valid.tolist()
    [True, False, True]
    """
    if nodata is None:
        return raw
    try:
        value = float(nodata)
    except ValueError:  # what a file says need not be a number
        return raw
    missing = np.isnan(raw.image) if np.isnan(value) else np.equal(raw.image, value)
    known: Array = np.logical_not(missing.any(axis=0))
    if raw.valid is not None:
        known &= raw.valid
    return replace(raw, valid=None if known.all() else known)


def checked(
    raw: RawCase, nodata: float | str | None, where: str, *, choosable: bool = True
) -> RawCase:
    """Returns a case with its positions without information marked, the others being finite.

    Args:
        raw: The case.
        nodata: Value without information, or None.
        where: What a message calls the case.
        choosable: The person could choose ``nodata``: this is training, not prediction.

    Raises:
        InputError: if the image is none: of other things than finite numbers, or without axes.
    """
    if raw.image.dtype.kind not in "fiub":
        raise InputError(f"{where}: an image must hold numbers, got the type {raw.image.dtype}")
    if raw.image.ndim not in (2, 3, 4):
        raise InputError(
            f"{where}: an image must have 1 to 3 spatial axes, got {raw.image.ndim - 1} "
            "besides that of channels"
        )
    raw = mark_nodata(raw, nodata)
    known = raw.image if raw.valid is None else raw.image[:, raw.valid]
    if known.size == 0:
        raise InputError(f"{where}: holds no information: every position is empty or nodata")
    if known.dtype.kind != "f" or np.isfinite(known).all():
        return raw
    missing, infinite = int(np.isnan(known).sum()), int(np.isinf(known).sum())
    counts = [f"{missing:,} NaN"] * (missing > 0) + [f"{infinite:,} infinite"] * (infinite > 0)
    channels = np.flatnonzero(~np.isfinite(known).all(axis=tuple(range(1, known.ndim))))
    at = f" in channel {listed([*map(str, channels)])}" if len(known) > 1 else ""
    # one value may mark what is missing, and infinities have two signs
    fix = "write NaN there and set data.nodata: nan" if infinite else "set data.nodata: nan"
    if not choosable:
        fix = "" if nodata is None else f"write {nodata} there, as in training"
    unless = f"if they mark missing values, {fix}, else " if fix else ""
    raise InputError(
        f"{where}: an image must hold finite numbers, got {' and '.join(counts)}{at}; {unless}"
        "repair the file"
    )

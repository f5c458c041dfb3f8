"""From masks as people store them to class indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_nas.errors import InputError
from unet_nas.train.data.cases import IGNORE, Array
from unet_nas.train.data.census import Census, code_of, colour_of, refuse_uniform, written
from unet_nas.train.data.config import DataConfig, MaskValue
from unet_nas.train.data.raw import Listing

__all__ = ["LabelRule", "encode", "label_rule", "target_of"]

#: more different values than this are grey levels, not classes
_MOST_CLASSES = 64
_MOST_SHOWN = 8
#: a value at so few positions is hardly a class
_FEW_POSITIONS = 10


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How mask values become class indices, the same for all cases.

    Attributes:
        names: Of the classes.
        values: How each class is stored; empty where labels overlap.
        ignore_value: Mask value of what is not annotated.
        multi_label: Masks hold one channel for each label.
        notes: Sentences for people.
    """

    names: tuple[str, ...]
    values: tuple[MaskValue, ...]
    ignore_value: int | None = None
    multi_label: bool = False
    notes: tuple[str, ...] = ()


def encode(mask: Array, where: str) -> Array:
    """Returns a mask as integers: colours as one number each, floats if they are whole.

    Raises:
        InputError: if values are not whole or not finite.

    >>> encode(np.array([0.0, 1.0]), "a.npy").tolist()
    [0, 1]
    """
    if mask.dtype.kind == "b":
        return mask.astype(np.uint8)
    if mask.dtype.kind == "f":
        _refuse_fractions(mask, where)
        return mask.astype(np.int64)
    if mask.dtype.kind not in "iu":
        raise InputError(f"{where}: a mask must hold numbers, got the type {mask.dtype}")
    return mask


def _refuse_fractions(mask: Array, where: str) -> None:
    if not np.isfinite(mask).all():
        raise InputError(
            f"{where}: a mask must hold classes, got NaN or infinity; write the value of "
            "data.ignore_label there instead"
        )
    broken = mask[mask != np.round(mask)]
    if broken.size:
        raise InputError(
            f"{where}: a mask must hold whole numbers, got {float(broken.flat[0]):.4g}; if these "
            "are probabilities, store (mask > 0.5)"
        )


def label_rule(census: Census, config: DataConfig, listing: Listing, labels: int) -> LabelRule:
    """Decides how masks are read, from what they hold and what the person said.

    Args:
        census: Of the masks of all cases.
        config: The section ``data``.
        listing: The source.
        labels: Channels of the masks where labels overlap.

    Raises:
        InputError: if a value stands for no class.
    """
    given = config.classes if isinstance(config.classes, tuple) else listing.class_names
    ignore = config.ignore_label if config.ignore_label is not None else listing.ignore_value
    if config.multi_label or listing.multi_label:
        names = given or tuple(f"label {index + 1}" for index in range(labels))
        _check_labels(census, names, labels, ignore)
        refuse_uniform(census, ignore, multi_label=True)
        return LabelRule(names, (), ignore, multi_label=True)
    refuse_uniform(census, ignore)
    found = sorted(value for value in census.counts if value != ignore)
    number = len(given) if given else config.classes if isinstance(config.classes, int) else None
    if number is None and config.mask_values is None:
        _refuse_strays(census, found, ignore)
    likely = [value for value in found if value >= 0]  # classes are hardly ever negative
    values, notes = _values(likely, number, config, colours=census.colours)
    names = given or _default_names(len(values))
    if len(names) != len(values):
        raise InputError(
            f"data.mask_values has {len(values)} values and the data have {len(names)} classes "
            f"({', '.join(names)}): give one for each"
        )
    _check_values(census, found, values, number, ignore)
    return LabelRule(names, values, ignore, notes=notes)


def _default_names(number: int) -> tuple[str, ...]:
    if number == 2:
        return ("background", "foreground")
    return ("background", *(f"class {index}" for index in range(1, number)))


def _values(
    found: Sequence[int], number: int | None, config: DataConfig, *, colours: bool
) -> tuple[tuple[MaskValue, ...], tuple[str, ...]]:
    """Returns how the classes are stored, and what people should know about that."""
    if config.mask_values is not None:
        return config.mask_values, ()
    if number in (2, None) and len(found) == 2 and found[0] == 0 and found[1] > 1:
        stored = [colour_of(value) if colours else value for value in found]
        note = f"masks hold {written(stored)}: read as background and foreground"
        return tuple(stored), (note,)
    if number is not None:
        return tuple(range(number)), ()
    whole = found[-1] + 1 if found and _few(found) else _leading(found)
    return tuple(range(max(2, whole))), ()


def _few(found: Sequence[int]) -> bool:
    """Tells whether values may well be class indices."""
    return found[0] >= 0 and found[-1] < _MOST_CLASSES


def _leading(found: Sequence[int]) -> int:
    """Returns how many of the values are 0, 1, 2, … without a gap: what follows is strange.

    >>> _leading([0, 1, 2, 127, 254])
    3
    """
    return sum(index == value for index, value in enumerate(found))


def _check_labels(census: Census, names: Sequence[str], labels: int, ignore: int | None) -> None:
    if len(names) != labels:
        raise InputError(
            f"data.classes names {len(names)} labels and the masks have {labels} channels; where "
            "labels overlap each has one channel, and the background none"
        )
    strange = [v for v in sorted(census.counts) if v not in (0, 1, 255) and v != ignore]
    if strange:
        raise InputError(
            f"mask of {census.first[strange[0]]}: where labels overlap (data.multi_label) masks "
            f"hold 0 and 1, or 0 and 255, in each channel, got {written(strange)}"
        )


def _refuse_strays(census: Census, found: Sequence[int], ignore: int | None) -> None:
    """Refuses values beyond a gap that hardly any mask holds: classes that nobody drew."""
    leading = _leading(found)
    strays = found[leading:]
    if not strays or leading < 2 or not _few(found):
        return
    if not all(_is_rare(census, value) for value in strays):
        return
    first, positions = census.first[strays[0]], sum(census.positions[value] for value in strays)
    alone = all(census.counts[value] == 1 and census.first[value] == first for value in strays)
    many = len(strays) > 1
    leave = "" if many or ignore is not None else f", or set data.ignore_label: {strays[0]}"
    raise InputError(
        f"mask of {first}: the value{'s' if many else ''} {written(strays)} occur"
        f"{'' if many else 's'} {'nowhere' if alone else 'hardly anywhere'} else ({positions} "
        f"position{'s' if positions > 1 else ''} in all); repair the mask{'' if alone else 's'}"
        f"{leave}; if {'they are classes' if many else 'it is a class'}, set data.mask_values: "
        f"{list(found)}"
    )


def _is_rare(census: Census, value: int) -> bool:
    return census.counts[value] == 1 or census.positions[value] <= _FEW_POSITIONS


def _check_values(
    census: Census,
    found: Sequence[int],
    values: Sequence[MaskValue],
    number: int | None,
    ignore: int | None,
) -> None:
    known = {code_of(value) for value in values}
    strange = [value for value in found if value not in known]
    if not strange:
        return
    shown = [colour_of(v) if census.colours else v for v in strange[:_MOST_SHOWN]]
    more = ", …" if len(strange) > _MOST_SHOWN else ""
    words = "the value {} stands" if len(strange) == 1 else "the values {} stand"
    told = f" (known are {written(values)})"
    if _are_grey(found):
        way_out, told = _grey_fix(found), ""  # what is known there is guessed from grey levels
    else:
        way_out = _way_out(found, strange, number, ignore, colours=census.colours)
    raise InputError(
        f"mask of {census.first[strange[0]]}: {words.format(written(shown) + more)} for no "
        f"class{told}; {way_out}"
    )


def _are_grey(found: Sequence[int]) -> bool:
    """Tells whether values look like grey levels: many, and not 0, 1, 2, … with one beside them.

    >>> _are_grey([*range(21), 255]), _are_grey([*range(21), 40, 255])
    (False, True)
    """
    many = len(found) > _MOST_CLASSES or (len(found) > 10 and found[-1] == 255)
    return many and _leading(found) < len(found) - 1


def _grey_fix(found: Sequence[int]) -> str:
    return (
        f"{len(found)} different values look like grey levels or lossy compression: store "
        "masks as PNG with one value per class, or threshold them"
    )


def _way_out(
    found: Sequence[int],
    strange: Sequence[int],
    number: int | None,
    ignore: int | None,
    *,
    colours: bool,
) -> str:
    """Returns the nearest fix for values that stand for no class."""
    if strange[0] < 0:
        return _negative_fix(found, strange, number, ignore)
    if list(strange) in ([255], [254]) and ignore is None and not colours:
        return f"if it marks what is not annotated, set data.ignore_label: {strange[0]}"
    stored = [list(colour_of(value)) if colours else value for value in found]
    if number in (None, len(found)):
        repair = "repair the masks that hold more than classes, or " if _leading(found) > 1 else ""
        return f"{repair}say how each class is stored, as data.mask_values: {stored}"
    fix = f"give data.classes {len(found)} names, one for each value that masks hold"
    if list(found) != list(range(len(found))):
        fix += f", and data.mask_values: {stored}"
    if len(strange) == 1 and ignore is None and not colours:
        fix += f", or set data.ignore_label: {strange[0]} if it marks what is not annotated"
    return fix


def _negative_fix(
    found: Sequence[int], strange: Sequence[int], number: int | None, ignore: int | None
) -> str:
    """Returns the nearest fix where values are negative, which mark what is not annotated."""
    negative = [value for value in strange if value < 0]
    rest = [value for value in strange if value >= 0]
    marks = f"if {written(negative)} mark{'s' if len(negative) == 1 else ''} what is not annotated"
    if ignore is not None:
        fix = f"{marks}, write {ignore} there, the value of data.ignore_label"
    elif len(negative) == 1:
        fix = f"{marks}, set data.ignore_label: {negative[0]}"
    else:
        fix = f"{marks}, write {negative[-1]} for all and set data.ignore_label: {negative[-1]}"
    if 0 not in found:  # the background may be what is negative
        return f"{fix}, else say how each class is stored, as data.mask_values: {list(found)}"
    if not rest:
        return fix
    left = [value for value in found if value not in negative]
    return f"{fix}; then {_way_out(left, rest, number, negative[-1], colours=False)}"


def target_of(codes: Array, rule: LabelRule) -> NDArray[np.uint8]:
    """Returns class indices (or 0 and 1 for each label) with `IGNORE` where nothing is annotated.

    >>> rule = LabelRule(("background", "cell"), (0, 255), ignore_value=7)
    >>> target_of(np.array([0, 255, 7]), rule).tolist()
    [0, 1, 255]
    """
    target = np.zeros(codes.shape, np.uint8)
    if rule.multi_label:
        target[codes != 0] = 1
    for index, value in enumerate(rule.values):
        if index:
            target[codes == code_of(value)] = index
    if rule.ignore_value is not None:
        target[codes == rule.ignore_value] = IGNORE
    return target

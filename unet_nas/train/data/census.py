"""Which values the masks of all cases hold, and how a message writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unet_nas.errors import InputError
from unet_nas.train.data.cases import Array
from unet_nas.train.data.config import MaskValue
from unet_nas.train.data.names import listed

__all__ = ["Census", "code_of", "colour_codes", "colour_of", "refuse_uniform", "written"]

_MOST_SHOWN = 8


@dataclass(slots=True)
class Census:
    """Which values the masks hold, in how many cases, and where first.

    Attributes:
        counts: Cases that have a value.
        positions: That have it, over all cases.
        first: What a message calls the first of the cases.
        cases: How many there are.
        colours: Values are colours, as `colour_codes` numbers them.
    """

    counts: Counter[int] = field(default_factory=Counter)
    positions: Counter[int] = field(default_factory=Counter)
    first: dict[int, str] = field(default_factory=dict)
    cases: int = 0
    colours: bool = False

    def add(self, codes: Array, title: str, *, colours: bool = False) -> None:
        """Takes the mask of one case into account."""
        self.colours = self.colours or colours
        self.cases += 1
        values, numbers = np.unique(codes, return_counts=True)
        for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
            self.counts[value] += 1
            self.positions[value] += number
            self.first.setdefault(value, title)


def refuse_uniform(census: Census, ignore: int | None, *, multi_label: bool = False) -> None:
    """Refuses masks that hold one value in all cases, from which nothing can be learnt.

    Args:
        census: Of the masks of all cases.
        ignore: Mask value of what is not annotated.
        multi_label: Labels have no background, so 1 everywhere is no mistake.

    Raises:
        InputError: naming the first of the masks.
    """
    found = [value for value in census.counts if value != ignore]
    if len(found) > 1 or (multi_label and found not in ([], [0])):
        return
    value = next(iter(found or census.counts))
    text = written([colour_of(value) if census.colours else value])
    besides = f" or {ignore}, data.ignore_label," if found and ignore in census.counts else ""
    raise InputError(
        f"data.source: all {census.cases} masks are {text}{besides} everywhere, as that of "
        f"{census.first[value]}; check that these are the masks"
    )


def colour_codes(mask: Array) -> NDArray[np.int64]:
    """Returns (*spatial, 3) colours as one number each.

    >>> colour_codes(np.array([[0, 0, 255]])).tolist()
    [255]
    """
    wide = mask.astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def colour_of(code: int) -> tuple[int, int, int]:
    """Returns the colour of a number.

    >>> colour_of(255)
    (0, 0, 255)
    """
    return code >> 16, code >> 8 & 255, code & 255


def code_of(value: MaskValue) -> int:
    """Returns the number that stands for a value of the section ``data``."""
    if isinstance(value, int):
        return value
    return int(colour_codes(np.array(value)))


def written(values: Sequence[MaskValue]) -> str:
    """Writes a few values or colours.

    >>> written([(0, 0, 0), (255, 0, 0)])
    '[0, 0, 0] and [255, 0, 0]'
    """
    texts = [str(list(value)) if isinstance(value, tuple) else str(value) for value in values]
    return listed(texts, most=_MOST_SHOWN)

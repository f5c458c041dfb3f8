"""What a figure shows, as data: each analysis returns it, one renderer draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["line", "bars", "stems"]


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one group of bars.

    Args:
        label: its name in the legend; empty: none.
        x: positions; for bars their places.
        y: values.
        dashed: drawn with a dashed line (what is expected, as opposed to found).
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes.

    Args:
        title: what it shows.
        x_label: with unit.
        y_label: with unit.
        series: drawn in this order.
        kind: how they are drawn.
        log_y: the y axis is logarithmic.
        ticks: words for the places 0, 1, … of the x axis; empty: numbers.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...] = ()
    kind: Kind = "line"
    log_y: bool = False
    ticks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """Panels side by side.

    Args:
        name: of the file, without its ending.
        caption: what is seen, with the conditions.
        panels: from left to right.
    """

    name: str
    caption: str
    panels: tuple[Panel, ...]

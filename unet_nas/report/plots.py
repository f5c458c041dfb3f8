"""Plots as data: what is drawn, in words that a page's and a paper's renderer both understand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["SERIES_ROLES", "Axis", "Line", "Plot", "Role", "Series", "Value", "escape"]

Kind = Literal["points", "line", "step", "bars", "area", "band"]
#: colours by meaning; a renderer knows which colour each one has
Role = Literal[
    "front", "trial", "muted", "baseline", "final",
    "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7",
]  # fmt: skip
SERIES_ROLES: tuple[Role, ...] = ("c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7")
"""Colours of series that have no meaning of their own, in order."""

Value = float | str


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis.

    Attributes:
        title: With the unit; may have several lines.
        log: It is logarithmic.
        words: What stands on it instead of numbers, in order.
        limits: Where it begins and ends.
        whole: It counts: only whole numbers are marked.
    """

    title: str
    log: bool = False
    words: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Some values that are drawn alike.

    Attributes:
        name: For the legend; empty for none.
        kind: How they are drawn; ``bars`` lie on their side where ``y`` has words, ``area`` is
            stacked on the areas before it, ``band`` reaches from ``low`` to ``high``.
        x: Numbers or words.
        y: The same.
        role: Which colour.
        low: Lower ends of error bars or of a band.
        high: Upper ends.
        labels: Text of each value, shown where a pointer rests on it.
        keys: The card that each value opens.
    """

    name: str
    kind: Kind
    x: Sequence[Value]
    y: Sequence[Value]
    role: Role = "c0"
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    labels: Sequence[str] = ()
    keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line across the plot at a value of one axis, with a word beside it."""

    axis: Literal["x", "y"]
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot.

    Attributes:
        name: Of its file, and its id on the page.
        title: What a reader who cannot see it is told.
        x: The horizontal axis.
        y: The vertical axis.
        series: In the order of drawing.
        lines: Limits and peaks.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    lines: tuple[Line, ...] = ()

    @property
    def sideways(self) -> bool:
        """Bars lie on their side: the words are on the vertical axis."""
        return bool(self.y.words)


def escape(text: str) -> str:
    """Escapes text for plotly, which reads a few HTML tags in everything that it writes.

    >>> escape("a < b & c")
    'a &lt; b &amp; c'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

"""The shapes of a drawing, in its own units; the y axis points down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from unet_nas.report.drawing_steps import Kind
from unet_nas.unet.shapes import Size

__all__ = ["FONT", "Arrow", "Box", "Drawing", "Label", "Mark"]

FONT = 8.0
"""Height of all text."""


@dataclass(frozen=True, slots=True)
class Box:
    """A feature map, or the part of one that a skip brought.

    Attributes:
        x: Left edge.
        y: Upper edge.
        width: In proportion to the channels.
        height: In proportion to the size (the geometric mean over the axes).
        channels: Of the map.
        size: Of the map.
        name: Of the step that makes it.
        copied: A skip connection brought it.
    """

    x: float
    y: float
    width: float
    height: float
    channels: int
    size: Size
    name: str
    copied: bool = False

    @property
    def right(self) -> float:
        """Right edge."""
        return self.x + self.width

    @property
    def middle(self) -> float:
        """Half-way down."""
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Arrow:
    """A line through points, with a head at its end."""

    points: tuple[tuple[float, float], ...]
    kind: Kind
    name: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """A text; ``anchor`` says which point of it lies at ``x``; ``upright`` reads upwards."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "middle"
    upright: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A small circle with a sign: a gate or a sum."""

    x: float
    y: float
    text: str
    kind: Kind


@dataclass
class Drawing:
    """All shapes of a drawing, in units of 1/96 inch or so.

    Attributes:
        width: Of all.
        height: Of all, with the legend.
        boxes: Feature maps, in order of execution, parts of one side by side.
        arrows: Operators and connections, then those of the legend.
        labels: Channels above, sizes below, words of the legend.
        marks: Gates and sums.
    """

    width: float = 0.0
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

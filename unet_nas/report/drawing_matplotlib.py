"""Draws a network's shapes with matplotlib: the same drawing as PDF, PNG, or SVG with outlines."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from matplotlib.path import Path

from unet_nas.report.drawing_shapes import FONT, Drawing
from unet_nas.report.drawing_svg import FILE_COLORS
from unet_nas.report.matplotlib_figures import FORMATS, PAGE_IN, rendered, style

__all__ = ["drawing_file", "drawing_files"]

_POINTS_PER_INCH = 72


def drawing_files(drawing: Drawing, name: str) -> dict[str, bytes]:
    """Returns a drawing as files by name: pdf, svg and png, as wide as a page of a paper."""
    return {f"{name}.{kind}": drawing_file(drawing, kind) for kind in FORMATS}


def drawing_file(drawing: Drawing, kind: str, width_in: float = PAGE_IN) -> bytes:
    """Returns a drawing as the bytes of one file."""
    with style():
        figure = Figure(figsize=(width_in, width_in * drawing.height / drawing.width))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, drawing.width), ylim=(drawing.height, 0))
        axes.set_axis_off()
        _draw(drawing, axes, width_in * _POINTS_PER_INCH / drawing.width)
        return rendered(figure, kind)


def _draw(drawing: Drawing, axes: Axes, unit: float) -> None:
    """Draws all shapes; ``unit`` is the length of one of the drawing's units, in points."""
    for arrow in drawing.arrows:
        axes.add_patch(
            FancyArrowPatch(
                path=Path(list(arrow.points)),
                arrowstyle=f"-|>,head_width={2 * unit},head_length={4 * unit}",
                mutation_scale=1,
                shrinkA=0,
                shrinkB=0,
                edgecolor=FILE_COLORS[arrow.kind],
                facecolor=FILE_COLORS[arrow.kind],
                linewidth=1.4 * unit,
                linestyle="--" if arrow.kind in ("gate", "residual") else "-",
            )
        )
    for box in drawing.boxes:
        fill = FILE_COLORS["copied" if box.copied else "map"]
        edge = FILE_COLORS["edge"]
        corner = (box.x, box.y)
        axes.add_patch(Rectangle(corner, box.width, box.height, fc=fill, ec=edge, lw=0.8 * unit))
    size = FONT * unit
    for mark in drawing.marks:
        color = FILE_COLORS[mark.kind]
        place = (mark.x, mark.y)
        axes.add_patch(Circle(place, 5, fc="white", ec=color, lw=1.2 * unit, zorder=3))
        axes.text(*place, mark.text, ha="center", va="center", color=color, fontsize=size)
    for label in drawing.labels:
        axes.text(
            label.x,
            label.y,
            label.text.replace("$", r"\$"),
            ha={"start": "left", "middle": "center", "end": "right"}[label.anchor],
            va="baseline",
            rotation=90 if label.upright else 0,
            rotation_mode="anchor",
            fontsize=size,
            color=FILE_COLORS["quiet" if label.quiet else "ink"],
        )

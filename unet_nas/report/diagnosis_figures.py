"""The thin renderer of a diagnosis' figures: data in, an SVG or PNG out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from unet_nas.audit.diagnosis.plots import Figure, Panel
from unet_nas.files import write_files

#: Okabe and Ito, "Color Universal Design", 2008: told apart by all kinds of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "x")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",  # glyphs go along: every browser shows the same
    "svg.hashsalt": "unet_nas",  # equal figures are equal files
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.dpi": 100,
}
#: series up to which the legend finds room inside the axes, and words that stand upright
_INSIDE, _UPRIGHT = 5, 4
#: points up to which each is marked
_MARKED = 40


def render(figure: Figure, style: str = "svg") -> bytes:
    """Returns a figure as the content of a file.

    Args:
        figure: what is drawn.
        style: ``svg``, ``png`` or ``pdf``.
    """
    with mpl.rc_context(_STYLE):
        columns = min(3, len(figure.panels))
        rows = -(-len(figure.panels) // columns)
        crowded = any(len(panel.series) > _INSIDE for panel in figure.panels)
        size = ((5.2 if crowded else 3.7) * columns + 0.4, 3.0 * rows)
        canvas = Canvas(figsize=size, layout="constrained")
        FigureCanvasAgg(canvas)
        canvas.suptitle("\n".join(wrap(figure.caption, round(18 * size[0]))), fontsize=7)
        axes = canvas.subplots(rows, columns, squeeze=False).flat
        for panel, ax in zip(figure.panels, axes, strict=False):
            _draw(panel, ax)
        for ax in list(canvas.axes)[len(figure.panels) :]:
            ax.set_axis_off()
        content = io.BytesIO()
        canvas.savefig(content, format=style, metadata={"Date": None} if style == "svg" else None)
    return content.getvalue()


def save(
    figures: Sequence[Figure], folder: Path, *, style: str = "svg", force: bool = False
) -> list[Path]:
    """Writes figures into a folder, which is made if need be, and returns their paths.

    Raises:
        InputError: if one of them is there and ``force`` is not set.
    """
    files = {f"{figure.name}.{style}": render(figure, style) for figure in figures}
    return write_files(folder, files, force=force)


def _draw(panel: Panel, ax: Axes) -> None:
    """Draws one panel."""
    ax.set_title(panel.title, fontsize=9)
    ax.set_xlabel(panel.x_label)
    ax.set_ylabel(panel.y_label)
    {"bars": _bars, "stems": _stems}.get(panel.kind, _lines)(panel, ax)
    if panel.log_y:
        ax.set_yscale("log")
    if _whole(panel):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if panel.kind == "bars" and len(panel.series) > 1:
        ax.margins(y=0.3)  # room for the legend
    if panel.ticks:
        if len(panel.ticks) <= _UPRIGHT:
            ax.set_xticks(range(len(panel.ticks)), panel.ticks)
        else:
            ax.set_xticks(range(len(panel.ticks)), panel.ticks, rotation=60, ha="right", fontsize=6)
    if len(panel.series) > _INSIDE:
        ax.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
    elif any(series.label for series in panel.series):
        ax.legend(fontsize=6)


def _whole(panel: Panel) -> bool:
    """Tells whether the x axis counts something."""
    return all(x == round(x) for series in panel.series for x in series.x)


def _lines(panel: Panel, ax: Axes) -> None:
    """Lines that differ in colour, dashes and, where there are few points, in markers."""
    for i, series in enumerate(panel.series):
        marked = len(series.x) <= _MARKED and not series.dashed
        ax.plot(
            series.x,
            series.y,
            color="#777777" if series.dashed else COLOURS[i % len(COLOURS)],
            linestyle="--" if series.dashed else _DASHES[i % len(_DASHES)],
            marker=_MARKERS[i % len(_MARKERS)] if marked else None,
            markersize=3,
            linewidth=1.2,
            label=series.label or None,
        )


def _stems(panel: Panel, ax: Axes) -> None:
    for i, series in enumerate(panel.series):
        colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[i % len(_MARKERS)]
        ax.vlines(series.x, 0, series.y, color=colour, linewidth=1.2)
        ax.plot(series.x, series.y, marker, color=colour, markersize=4, label=series.label or None)
    ax.axhline(0, color="#777777", linewidth=0.6)


def _bars(panel: Panel, ax: Axes) -> None:
    """Groups of bars, one colour and one hatch per series."""
    width = 0.8 / len(panel.series)
    hatches = ("", "//", "..", "xx", "\\\\", "--", "oo")
    for i, series in enumerate(panel.series):
        offset = (i - (len(panel.series) - 1) / 2) * width
        places = [x + offset for x in series.x]
        ax.bar(
            places,
            series.y,
            width,
            color=COLOURS[i % len(COLOURS)],
            hatch=hatches[i % len(hatches)],
            edgecolor="white",
            linewidth=0.4,
            label=series.label or None,
        )

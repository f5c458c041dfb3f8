"""Draws plots for a paper with matplotlib: vector files, fonts embedded, as wide as a column."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, floor, log10
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from unet_nas.report.plots import Axis, Plot, Series

__all__ = ["COLUMN_IN", "FORMATS", "PAGE_IN", "plot_files", "rendered", "style"]

COLUMN_IN = 3.4
"""Width of one column of a two-column paper, in inches."""
PAGE_IN = 7.0
"""Width of both columns."""
FORMATS = ("pdf", "svg", "png")

#: Okabe and Ito (2008): told apart with any colour vision
COLORS = {
    "front": "#0072B2",
    "trial": "#56B4E9",
    "muted": "#B0B0B0",
    "baseline": "#D55E00",
    "final": "#009E73",
    "c0": "#0072B2",
    "c1": "#E69F00",
    "c2": "#009E73",
    "c3": "#CC79A7",
    "c4": "#56B4E9",
    "c5": "#D55E00",
    "c6": "#F0E442",
    "c7": "#999999",
}
_MARKERS = {"baseline": "D", "final": "s"}
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # TrueType: text stays text, and journals accept it
    "svg.fonttype": "path",  # an SVG that looks the same where the font is missing
    "svg.hashsalt": "unet_nas",  # equal figures are equal files
}


@contextmanager
def style() -> Iterator[None]:
    """Sets the look of all figures for the time of a ``with``."""
    with mpl.rc_context(_STYLE):
        yield


def plot_files(plot: Plot, width_in: float = COLUMN_IN) -> dict[str, bytes]:
    """Returns a plot as files by name: pdf, svg and png."""
    with style():
        figure = Figure(figsize=(width_in, _height(plot, width_in)), layout="constrained")
        axes = figure.add_subplot()
        _draw(plot, axes)
        return {f"{plot.name}.{kind}": rendered(figure, kind) for kind in FORMATS}


def rendered(figure: Figure, kind: str) -> bytes:
    """Returns a figure as the bytes of a file, the same for the same figure."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    dates: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    figure.savefig(buffer, format=kind, dpi=300, metadata=dates.get(kind))
    return buffer.getvalue()


def _height(plot: Plot, width_in: float) -> float:
    if plot.sideways:
        return 0.7 + 0.2 * len(plot.y.words)
    return width_in * (0.72 if width_in <= COLUMN_IN else 0.45)


def _draw(plot: Plot, axes: Axes) -> None:
    axes.set(xlabel=_plain(plot.x.title), ylabel=_plain(plot.y.title))
    if plot.x.log:
        axes.set_xscale("log")
        _count_ticks(axes.xaxis)
    if plot.y.log:
        axes.set_yscale("log")
        _count_ticks(axes.yaxis)
    bars = [series for series in plot.series if series.kind == "bars"]
    areas = [series for series in plot.series if series.kind == "area"]
    if areas:
        axes.stackplot(
            list(areas[0].x),
            *[list(series.y) for series in areas],
            labels=[series.name for series in areas],
            colors=[COLORS[series.role] for series in areas],
            linewidth=0,
        )
    if bars:
        _bars(plot, bars, axes)
    _limit(plot, axes)
    for series in plot.series:
        if series.kind not in ("bars", "area"):
            _series(series, axes, sideways=plot.sideways)
    if plot.sideways and not bars:
        axes.invert_yaxis()
    for line in plot.lines:
        draw = axes.axvline if line.axis == "x" else axes.axhline
        draw(line.at, color="#777777", linewidth=0.8, linestyle="--")
        _word(axes, line.axis, line.at, line.text)
    if sum(bool(series.name) for series in plot.series) > 1:
        figure = axes.get_figure()
        assert figure is not None, "the axes were made on one"
        columns = 2 if len(plot.series) < 6 else 3
        figure.legend(loc="outside upper left", ncols=columns, handlelength=1.2)
    _ticks(plot.x, axes.xaxis)
    _ticks(plot.y, axes.yaxis)


def _limit(plot: Plot, axes: Axes) -> None:
    if plot.x.limits:
        axes.set_xlim(plot.x.limits)
    if plot.y.limits:
        axes.set_ylim(plot.y.limits)


def _count_ticks(axis: XAxis | YAxis) -> None:
    axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_minor_formatter(NullFormatter())


def _ticks(axis: Axis, drawn: XAxis | YAxis) -> None:
    """Marks whole numbers where an axis counts, and enough of a short logarithmic one."""
    if axis.whole and not axis.words:
        drawn.set_major_locator(MaxNLocator("auto", integer=True))
    if axis.log:
        low, high = sorted(drawn.get_view_interval())
        steps = _steps(low, high)
        if steps:
            drawn.set_major_locator(LogLocator(subs=steps))


def _steps(low: float, high: float) -> tuple[float, ...]:
    """Returns what of a decade is marked; nothing where powers of ten do.

    >>> _steps(4e6, 3e7), _steps(2.2e6, 4.5e6)
    ((1.0, 2.0, 5.0), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0))
    """
    if low <= 0 or high / low >= 100:
        return ()
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    marked = [n for d in decades for n in (1, 2, 5) if low <= n * 10.0**d <= high]
    return (1.0, 2.0, 5.0) if len(marked) > 1 else tuple(map(float, range(1, 10)))


def _bars(plot: Plot, bars: list[Series], axes: Axes) -> None:
    words = list(plot.y.words if plot.sideways else plot.x.words)
    width = 0.8 / len(bars)
    for number, series in enumerate(bars):
        names = [str(n) for n in (series.y if plot.sideways else series.x)]
        values = [float(v) for v in (series.x if plot.sideways else series.y)]
        places = [words.index(name) + (number - (len(bars) - 1) / 2) * width for name in names]
        options: dict[str, Any] = {
            "color": COLORS[series.role],
            "label": _plain(series.name) or None,
        }
        draw = axes.barh if plot.sideways else axes.bar
        draw(places, values, width, **options)
    ticks = range(len(words))
    if plot.sideways:
        axes.set_yticks(ticks, [_plain(word) for word in words])
        axes.invert_yaxis()
        axes.grid(False, axis="y")
    else:
        axes.set_xticks(ticks, [_plain(word) for word in words])
        axes.grid(False, axis="x")


def _series(series: Series, axes: Axes, *, sideways: bool) -> None:
    color, label = COLORS[series.role], _plain(series.name) or None
    x: Any = list(series.x)
    y: Any = list(series.y)
    match series.kind:
        case "points" if series.low:
            values = x if sideways else y
            below = [v - low for v, low in zip(values, series.low, strict=True)]
            above = [high - v for v, high in zip(values, series.high, strict=True)]
            error: Any = {"xerr" if sideways else "yerr": [below, above]}
            marker = _MARKERS.get(series.role, "o")
            axes.errorbar(x, y, **error, fmt=marker, ms=4, capsize=2, color=color, label=label)
        case "points":
            faint = series.role in ("trial", "muted")
            marker = _MARKERS.get(series.role, "o")
            size, alpha = (8, 0.6) if faint else (22, 1.0)
            axes.scatter(
                x, y, s=size, c=color, marker=marker, alpha=alpha, linewidths=0, label=label
            )
        case "line" | "step":
            drawing = "steps-post" if series.kind == "step" else "default"
            axes.plot(x, y, "-", color=color, label=label, drawstyle=drawing)
        case "band":
            low, high = list(series.low), list(series.high)
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0, step="post")


def _word(axes: Axes, axis: str, at: float, text: str) -> None:
    options: dict[str, Any] = {"fontsize": 6.5, "color": "#555555", "annotation_clip": False}
    options |= {"textcoords": "offset points"}
    if axis == "x":
        where = axes.get_xaxis_transform()
        axes.annotate(
            text, (at, 1), (-2, -2), xycoords=where, ha="right", va="top", rotation=90, **options
        )
    else:
        where = axes.get_yaxis_transform()
        axes.annotate(text, (1, at), (0, 2), xycoords=where, ha="right", va="bottom", **options)


def _plain(text: str) -> str:
    """Keeps matplotlib from reading a dollar as the begin of a formula."""
    return text.replace("$", r"\$")

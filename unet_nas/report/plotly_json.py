"""Draws a plot as plotly's JSON, for the page; colours come from the page's style.

A colour is written as ``var(--…)``, and the page's script puts in what its style says, so that
one plot serves the light page, the dark one, and paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor, log10
from typing import Any

from unet_nas.report.plots import Axis, Plot, Series, Value, escape
from unet_nas.units import format_count

_SYMBOLS = {"baseline": "diamond", "final": "square", "front": "circle"}
#: height of a word beside a bar, in pixels
_ROW = 24
#: an axis of so many whole numbers has a tick for each
_FEW_WHOLE = 10
_SIZES = {"muted": 5, "trial": 6}


def to_plotly(plot: Plot) -> dict[str, Any]:
    """Returns the ``data`` and ``layout`` of a plot."""
    layout: dict[str, Any] = {
        "xaxis": _axis(plot.x, [value for series in plot.series for value in series.x]),
        "yaxis": _axis(plot.y, [value for series in plot.series for value in series.y]),
        "shapes": [_line(line.axis, line.at) for line in plot.lines],
        "annotations": [_word(plot, n) for n in range(len(plot.lines))],
        "showlegend": sum(bool(series.name) for series in plot.series) > 1,
    }
    if plot.sideways:
        layout["yaxis"]["autorange"] = "reversed"
        layout["height"] = 120 + _ROW * len(plot.y.words)
    data = [trace for series in plot.series for trace in _traces(series, plot.sideways)]
    return {"data": data, "layout": layout}


def _axis(axis: Axis, values: Sequence[Value]) -> dict[str, Any]:
    made: dict[str, Any] = {"title": {"text": escape(axis.title).replace("\n", "<br>")}}
    if axis.log:
        ticks = log_ticks([float(value) for value in values])
        made |= {"type": "log", "tickmode": "array", "tickvals": ticks}
        made |= {"ticktext": [format_count(tick) for tick in ticks]}
    elif axis.words:
        made |= {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": [*map(escape, axis.words)],
        }
    else:
        made |= {"type": "linear"}
        numbers = [float(value) for value in values] if axis.whole else []
        if numbers and max(numbers) - min(numbers) <= _FEW_WHOLE:
            made["dtick"] = 1  # else plotly would mark halves
    if axis.limits:
        made["range"] = list(axis.limits)
    return made


def log_ticks(values: Sequence[float]) -> list[float]:
    """Returns round numbers around some values: 1, 2 and 5 of each decade, fewer of many decades.

    >>> log_ticks([30, 90]), log_ticks([1, 4e5])
    ([20.0, 50.0, 100.0], [1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0])
    """
    known = [value for value in values if value > 0]
    if not known:
        return []
    low, high = min(known) / 1.6, max(known) * 1.6
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 5 else (1,)
    return [float(n * 10.0**d) for d in decades for n in steps if low <= n * 10.0**d <= high]


def _traces(series: Series, sideways: bool) -> Iterator[dict[str, Any]]:
    color = f"var(--{series.role})"
    trace: dict[str, Any] = {
        "x": _values(series.x),
        "y": _values(series.y),
        "name": escape(series.name),
        "showlegend": bool(series.name),
    }
    if series.labels:
        trace |= {"text": list(series.labels), "hovertemplate": "%{text}<extra></extra>"}
    elif not series.name:  # a line that only guides the eye hides no point from the pointer
        trace["hoverinfo"] = "skip"
    if series.keys:
        trace["customdata"] = list(series.keys)
    match series.kind:
        case "points":
            marker: dict[str, Any] = {"color": color, "size": _SIZES.get(series.role, 9)}
            marker |= {"symbol": _SYMBOLS.get(series.role, "circle")}
            if series.role in ("trial", "muted"):
                marker["opacity"] = 0.6
            trace |= {"type": "scatter", "mode": "markers", "marker": marker}
            trace |= _errors(series, "x" if sideways else "y")
        case "line" | "step":
            line: dict[str, Any] = {"color": color, "width": 2}
            line |= {"shape": "hv"} if series.kind == "step" else {}
            trace |= {"type": "scatter", "mode": "lines", "line": line}
        case "area":
            trace |= {"type": "scatter", "mode": "lines", "stackgroup": "one"}
            trace |= {"line": {"width": 0, "color": color}, "fillcolor": color}
        case "bars":
            trace |= {"type": "bar", "orientation": "h" if sideways else "v"}
            trace["textposition"] = "none"
            trace |= {"marker": {"color": color}}
        case "band":
            yield from _band(series, color)
            return
    yield trace


def _values(values: Sequence[Value]) -> list[Value]:
    return [escape(value) if isinstance(value, str) else value for value in values]


def _errors(series: Series, axis: str) -> dict[str, Any]:
    """Returns error bars, as distances from the values."""
    if not series.low:
        return {}
    values = series.y if axis == "y" else series.x
    numbers = [float(value) for value in values]
    return {
        f"error_{axis}": {
            "type": "data",
            "symmetric": False,
            "array": [high - n for high, n in zip(series.high, numbers, strict=True)],
            "arrayminus": [n - low for low, n in zip(series.low, numbers, strict=True)],
            "thickness": 1.5,
            "color": f"var(--{series.role})",
        }
    }


def _band(series: Series, color: str) -> Iterator[dict[str, Any]]:
    common = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    line = {"width": 0, "color": color, "shape": "hv"}
    yield {**common, "x": list(series.x), "y": list(series.low), "line": line}
    upper = {"fill": "tonexty", "fillcolor": color, "opacity": 0.2}
    yield {**common, "x": list(series.x), "y": list(series.high), "line": line, **upper}


def _line(axis: str, at: float) -> dict[str, Any]:
    other = "y" if axis == "x" else "x"
    return {
        "type": "line",
        f"{axis}0": at,
        f"{axis}1": at,
        f"{other}0": 0,
        f"{other}1": 1,
        f"{other}ref": "paper",
        "line": {"color": "var(--muted-ink)", "width": 1, "dash": "dash"},
    }


def _word(plot: Plot, index: int) -> dict[str, Any]:
    """Returns the text of a line, at its end."""
    line = plot.lines[index]
    axis = plot.x if line.axis == "x" else plot.y
    at = log10(line.at) if axis.log else line.at
    place = {"x": at, "y": 1, "yref": "paper", "xanchor": "right", "yanchor": "top"}
    if line.axis == "y":
        place = {"x": 1, "xref": "paper", "y": at, "xanchor": "right", "yanchor": "bottom"}
    return {
        **place,
        "text": escape(line.text),
        "showarrow": False,
        "font": {"color": "var(--muted-ink)"},
    }

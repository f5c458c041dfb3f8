"""Plots of the hypervolume: over trials and over seconds, one curve per sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unet_nas.records import Run
from unet_nas.records.pareto import hypervolume_trace
from unet_nas.report.findings import Entry, Findings, seconds_between
from unet_nas.report.plots import SERIES_ROLES, Axis, Plot, Role, Series

__all__ = ["hypervolume_plots"]

_MOST = 600
_GRID = 240

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Where a curve steps, and its value from there on."""


def hypervolume_plots(findings: Findings) -> list[Plot]:
    """Returns the hypervolume over trials and over seconds.

    Runs with the same sampler (several seeds of a study) become one curve: their mean, with the
    95 % interval of Student's t, clipped to what a share can be, as far as all of them reach.
    """
    if not findings.feasible or findings.box <= 0:
        return []
    y = Axis("hypervolume (share of the box)")
    trials = _series(findings, _over_trials)
    plots = [
        Plot("hypervolume-trials", "Hypervolume over trials", Axis("trials", whole=True), y, trials)
    ]
    seconds = _series(findings, _over_seconds)
    if seconds:
        axis, title = Axis("time since the start (s)"), "Hypervolume over seconds"
        plots.append(Plot("hypervolume-seconds", title, axis, y, seconds))
    return plots


def sampler_name(run: Run) -> str:
    """Returns the sampler of a run in a word."""
    sampler = run.header.sampler
    return str(sampler.get("type") or sampler.get("name") or "sampler not recorded")


def _series(
    findings: Findings, curve_of: Callable[[Findings, Run], Curve | None]
) -> tuple[Series, ...]:
    groups: dict[str, list[Curve]] = {}
    for run in findings.runs:
        curve = curve_of(findings, run)
        if curve is not None:
            groups.setdefault(sampler_name(run), []).append(curve)
    return tuple(
        series
        for number, (name, curves) in enumerate(groups.items())
        for series in _group(name, curves, SERIES_ROLES[number % len(SERIES_ROLES)])
    )


def _over_trials(findings: Findings, run: Run) -> Curve | None:
    entries = [entry for entry in findings.trials if entry.run is run]
    if not entries:
        return None
    return np.arange(1.0, len(entries) + 1), _trace(findings, entries)


def _over_seconds(findings: Findings, run: Run) -> Curve | None:
    """Returns the curve over the time at which records were written."""
    entries = [entry for entry in findings.trials if entry.run is run and entry.record.timing]
    started = [entry.record.timing.started for entry in entries if entry.record.timing]
    start = run.header.started or min(started, default="")
    ends = [
        (seconds_between(start, entry.record.timing.finished), entry)
        for entry in entries
        if entry.record.timing
    ]
    known = [(second, entry) for second, entry in ends if second is not None]
    if not known:
        return None
    known.sort(key=lambda pair: pair[0])
    return np.array([second for second, _ in known]), _trace(findings, [e for _, e in known])


def _trace(findings: Findings, entries: Sequence[Entry]) -> NDArray[np.float64]:
    """Returns the hypervolume after each entry, as a share of the box."""
    losses = findings.losses(entries)
    losses[[not entry.record.feasible for entry in entries]] = math.nan
    return hypervolume_trace(losses, findings.reference) / findings.box


def _group(name: str, curves: Sequence[Curve], role: Role) -> list[Series]:
    """Returns one curve as it is, or the mean of several with its interval."""
    if len(curves) == 1:
        at, values = curves[0]
        kept = _changes(values)
        return [Series(name, "step", at[kept].round(3).tolist(), values[kept].tolist(), role)]
    end = min(at[-1] for at, _ in curves)
    grid = np.linspace(min(at[0] for at, _ in curves), end, _GRID)
    stack = np.stack([_sampled(curve, grid) for curve in curves])
    mean = stack.mean(axis=0)
    half = _t_quantile(len(curves) - 1) * stack.std(axis=0, ddof=1) / math.sqrt(len(curves))
    x, y = grid.round(3).tolist(), mean.tolist()
    low, high = (np.clip(end, 0, 1).tolist() for end in (mean - half, mean + half))
    label = f"{name}, mean of {len(curves)} runs with 95 % interval"
    return [Series("", "band", x, y, role, low, high), Series(label, "step", x, y, role)]


def _sampled(curve: Curve, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the values of a step curve at given places; nothing was reached before its begin."""
    at, values = curve
    places = np.searchsorted(at, grid, side="right")
    return np.concatenate([[0.0], values])[places]


def _changes(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the first place, the last, and those where a curve steps; evenly, of too many."""
    changes = np.flatnonzero(np.diff(values, prepend=-1.0))
    if len(changes) > _MOST:
        changes = changes[np.linspace(0, len(changes) - 1, _MOST).astype(int)]
    return np.unique(np.append(changes, len(values) - 1))


def _t_quantile(freedom: int) -> float:
    """Returns the 97.5 % quantile of Student's t."""
    from scipy.special import stdtrit  # noqa: PLC0415 - only reports of several runs need it

    return float(stdtrit(freedom, 0.975))

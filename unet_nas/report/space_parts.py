"""The section about the space: what was possible, what was rejected, and what was tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_nas.records import Run, TrialRecord
from unet_nas.report.plots import Axis, Plot, Series
from unet_nas.report.quantities import COSTS, Quantity
from unet_nas.space.domains import DEFAULT_DEPTH

__all__ = ["Reason", "SpaceParts", "depth_plot", "space_parts"]

_BINS = 12


@dataclass(frozen=True, slots=True)
class Reason:
    """Why candidates were rejected before any training."""

    kind: str
    text: str
    rejected: int
    alone: int
    fix: str


@dataclass(frozen=True, slots=True)
class SpaceParts:
    """What the page says of the space of one run.

    Attributes:
        run: Whose space.
        sentences: Counts, in words.
        reasons: Of the survey, the most frequent first.
        rejected: How often the sampler's draws were rejected, by reason.
        plots: What was tried beside what was possible.
    """

    run: Run
    sentences: tuple[str, ...]
    reasons: tuple[Reason, ...]
    rejected: tuple[tuple[str, int], ...]
    plots: tuple[Plot, ...]


def space_parts(run: Run, key: str) -> SpaceParts:
    """Returns the section of one run; ``key`` begins the names of its plots."""
    survey = run.header.space
    rejected: Counter[str] = Counter()
    for record in run.trials:
        rejected.update(record.rejected)
    plots = [depth_plot(run, key), *_cost_plots(run, key)]
    return SpaceParts(
        run,
        tuple(_sentences(survey, run.trials)),
        tuple(_reasons(survey)),
        tuple((reason, count) for reason, count in rejected.most_common() if count),
        tuple(plot for plot in plots if plot is not None),
    )


def _sentences(survey: dict[str, Any], trials: Sequence[TrialRecord]) -> Iterator[str]:
    if not survey:
        yield "No survey of the space was recorded."
        return
    total, judged = survey.get("candidates"), survey.get("judged", 0)
    known = "without end (it has a range of real numbers)" if total is None else f"{total:,}"
    how = (
        "all of them were judged"
        if survey.get("exhaustive")
        else f"{judged:,} were drawn and judged"
    )
    yield f"Candidates: {known}; {how} by arithmetic, before any training."
    for name, words in (
        ("valid", "break no rule between fields"),
        ("aligned", "run on the patch size"),
        ("feasible", "lie within the budget"),
    ):
        yield _share(survey.get(name), words)
    tried = sum(sum(record.rejected.values()) for record in trials)
    lost = sum(record.fallback for record in trials)
    if tried:
        yield f"{tried:,} draws of the sampler were rejected by arithmetic and cost no trial."
    if lost:
        yield f"For {lost:,} trials uniform sampling had to find a candidate."


def _share(share: dict[str, Any] | None, words: str) -> str:
    if not share or not share.get("of"):
        return f"How many {words} was not recorded."
    low, high = share.get("interval", (0, 0))
    count, of = share["count"], share["of"]
    sure = "" if low == high else f" (95 % interval {low:.1%} to {high:.1%})"
    return f"{count:,} of {of:,} ({count / of:.1%}){sure} {words}."


def _reasons(survey: dict[str, Any]) -> Iterator[Reason]:
    for entry in survey.get("reasons", []):
        yield Reason(
            entry["kind"],
            entry["reason"].replace("_", " ") if entry["kind"] == "budget" else entry["reason"],
            entry["rejected"],
            entry["alone"],
            entry.get("fix") or "",
        )


def depth_of(record: TrialRecord) -> int | None:
    """Returns the depth of a recorded architecture."""
    if record.architecture is None:
        return None
    return int(record.architecture.get("depth", DEFAULT_DEPTH))


def depth_plot(run: Run, key: str) -> Plot | None:
    """Returns the depths tried beside those possible: a collapse to shallow nets shows."""
    possible = Counter(run.header.space.get("costs", {}).get("depth", []))
    tried = Counter(d for r in run.trials if (d := depth_of(r)) is not None)
    if not tried and not possible:
        return None
    depths = sorted({*possible, *tried})
    words = tuple(str(depth) for depth in depths)
    series = []
    for name, counts, role in (
        ("feasible candidates", possible, "muted"),
        ("trials", tried, "front"),
    ):
        total = sum(counts.values())
        if total:
            shares = [100 * counts[depth] / total for depth in depths]
            labels = [f"depth {d}: {counts[d]:,} of {total:,} {name}" for d in depths]
            series.append(Series(name, "bars", words, shares, role, labels=labels))  # type: ignore[arg-type]
    y = Axis("share (%)")
    return Plot(f"{key}-depth", "Depths tried against depths possible",
                Axis("depth", words=words), y, tuple(series))  # fmt: skip


def _cost_plots(run: Run, key: str) -> Iterator[Plot]:
    for quantity in COSTS.values():
        possible = run.header.space.get("costs", {}).get(quantity.name, [])
        tried = [r.costs[quantity.name] for r in run.trials if quantity.name in r.costs]
        if possible and tried:
            yield _cost_plot(quantity, possible, tried, key)


def _cost_plot(
    quantity: Quantity, possible: Sequence[float], tried: Sequence[float], key: str
) -> Plot:
    """Returns two histograms over bins of equal width in the logarithm."""
    both = np.log10(np.maximum([*possible, *tried], 1e-9) / quantity.scale)
    edges = np.linspace(both.min(), both.max() + 1e-9, _BINS + 1)
    middles = (10 ** ((edges[:-1] + edges[1:]) / 2)).tolist()
    series = []
    for name, values, role in (
        ("feasible candidates", possible, "muted"),
        ("trials", tried, "front"),
    ):
        logs = np.log10(np.maximum(values, 1e-9) / quantity.scale)
        counts, _ = np.histogram(logs, edges)
        shares = (100 * counts / max(1, len(values))).tolist()
        series.append(Series(name, "line", middles, shares, role))  # type: ignore[arg-type]
    return Plot(
        f"{key}-{quantity.name}",
        f"{quantity.title[:1].upper()}{quantity.title[1:]} tried against possible",
        Axis(quantity.axis, log=True),
        Axis("share (%)"),
        tuple(series),
    )

"""Plots of a search: pure functions from findings to what is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from unet_nas.records import Run
from unet_nas.report.effects import Effect, parameter_name
from unet_nas.report.findings import Entry, Findings
from unet_nas.report.plots import SERIES_ROLES, Axis, Line, Plot, Role, Series, escape
from unet_nas.report.quantities import Quantity, quantity_of

__all__ = [
    "effects_plot",
    "importance_plot",
    "importance_plots",
    "pareto_plots",
    "slice_plots",
    "thinned",
]

#: dominated points beyond these are left out of the page's plot, evenly over the cost
MOST_POINTS = 1_500
_SLICES = 6
_MOST_EFFECTS = 32
#: so many different numbers get a place each instead of a scale
_FEW = 8


# --- the Pareto front ---------------------------------------------------------------------


def pareto_plots(findings: Findings) -> list[Plot]:
    """Returns the accuracy against every cost, then the other pairs of objectives."""
    plane = findings.plane
    score = findings.score
    pairs: list[tuple[Quantity, Quantity]] = []
    if score is not None:
        pairs += [(cost, score) for cost in findings.costs]
    for first, second in combinations(plane, 2):
        if (first, second) not in pairs and (second, first) not in pairs:
            x, y = (first, second) if first.cost or not second.cost else (second, first)
            pairs.append((x, y))
    return [pareto_plot(findings, x, y) for x, y in pairs]


def pareto_plot(findings: Findings, x: Quantity, y: Quantity) -> Plot:
    """Returns one pair of quantities for all networks.

    Front means the front of all objectives: a network on it need not be on the edge here.
    """
    front = set(findings.front)
    done = [e for e in findings.trials if e.record.state == "complete" and e not in front]
    groups: tuple[tuple[str, Role, Sequence[Entry]], ...] = (
        ("over budget", "muted", [e for e in done if not e.record.feasible]),
        ("dominated", "trial", [e for e in done if e.record.feasible]),
        ("front", "front", findings.front),
        ("baseline", "baseline", findings.baselines),
    )
    series = [_points(findings, name, role, entries, (x, y)) for name, role, entries in groups]
    others = [_front_line(findings, x, y), _finals(findings, x, y)]
    lines = (*_limits(findings, "x", x), *_limits(findings, "y", y))
    return Plot(
        f"pareto-{y.name}-{x.name}",
        f"{y.title[:1].upper()}{y.title[1:]} against {x.title}",
        Axis(x.axis, log=x.cost),
        Axis(y.axis, log=y.cost),
        tuple(one for one in (*series, *others) if one is not None and len(one.x)),
        lines,
    )


def _limits(findings: Findings, axis: Literal["x", "y"], quantity: Quantity) -> Iterator[Line]:
    limit = findings.limit(quantity)
    if limit is not None:
        yield Line(axis, limit / quantity.scale, "budget")


def _points(
    findings: Findings,
    name: str,
    role: Role,
    entries: Sequence[Entry],
    plane: tuple[Quantity, Quantity],
) -> Series:
    x, y = plane
    known = [e for e in entries if e.value(x) is not None and e.value(y) is not None]
    drawn = thinned(known, MOST_POINTS)
    return Series(
        name if len(drawn) == len(known) else f"{name}, {len(drawn):,} of {len(known):,}",
        "points",
        [_at(e, x) for e in drawn],
        [_at(e, y) for e in drawn],
        role,
        labels=[hover(e, *findings.shown) for e in drawn],
        keys=[e.key for e in drawn],
    )


def thinned(entries: Sequence[Entry], most: int) -> list[Entry]:
    """Returns at most so many entries, evenly chosen in their order.

    >>> len(thinned([], 10))
    0
    """
    if len(entries) <= most:
        return list(entries)
    return [entries[int(i)] for i in np.linspace(0, len(entries) - 1, most)]


def _at(entry: Entry, quantity: Quantity) -> float:
    value = entry.value(quantity)
    assert value is not None, "unknown ones were left out"
    return value / quantity.scale


def _front_line(findings: Findings, x: Quantity, y: Quantity) -> Series | None:
    """Returns the edge of what is reached, where two objectives span the plot."""
    if len(findings.plane) != 2 or {x, y} != set(findings.plane) or len(findings.front) < 2:
        return None
    if not x.cost:
        return None
    entries = sorted(findings.front, key=lambda e: _at(e, x))
    return Series("", "step", [_at(e, x) for e in entries], [_at(e, y) for e in entries], "front")


def _finals(findings: Findings, x: Quantity, y: Quantity) -> Series | None:
    """Returns the longer trainings: mean and standard deviation over seeds, on the test cases."""
    if y != findings.score:
        return None
    known = [
        (entry, finals)
        for entry in (*findings.trials, *findings.baselines)
        if (finals := findings.finals(entry)) and entry.value(x) is not None
    ]
    means = [finals.mean for _, finals in known]
    spreads = [finals.deviation or 0.0 for _, finals in known]
    parts = " and ".join(sorted({finals.part for _, finals in known}))
    return Series(
        f"finalists on the {parts} cases, mean ± SD",
        "points",
        [_at(entry, x) for entry, _ in known],
        means,
        "final",
        # a score that is nowhere below 0 has no error bar that reaches there
        [max(mean - spread, min(mean, 0.0)) for mean, spread in zip(means, spreads, strict=True)],
        [mean + spread for mean, spread in zip(means, spreads, strict=True)],
        [
            f"{escape(entry.label)}: {finals.mean:.4f}, {len(finals.scores)} seeds"
            for entry, finals in known
        ],
        [entry.key for entry, _ in known],
    )


def hover(entry: Entry, *quantities: Quantity) -> str:
    """Returns what a pointer on a network says: its values and what was chosen for it."""
    lines = [f"<b>{escape(entry.label)}</b>"]
    lines += [f"{escape(q.title)} {escape(q.text(entry.value(q)))}" for q in quantities]
    chosen = list(entry.record.parameters.items())
    lines += [f"{escape(parameter_name(n))}: {escape(str(v))}" for n, v in chosen[:10]]
    if len(chosen) > 10:
        lines.append(f"… and {len(chosen) - 10} more")
    return "<br>".join(lines)


# --- what mattered ------------------------------------------------------------------------


def importance_plots(findings: Findings) -> list[Plot]:
    """Returns the importances of each run that has any, with its name where there are several."""
    several = len(findings.runs) > 1
    made = (
        importance_plot(run, f"importances-{n}", findings.run_label(run) if several else "")
        for n, run in enumerate(findings.runs)
    )
    return [plot for plot in made if plot is not None]


def importance_plot(run: Run, name: str, label: str = "") -> Plot | None:
    """Returns the share of each parameter in what decides each objective.

    Args:
        run: That was searched.
        name: Of the plot.
        label: Of the run, where a reader must be told which one it is.
    """
    found = run.header.importances
    totals: dict[str, float] = {}
    for shares in found.values():
        for parameter, share in shares.items():
            totals[parameter] = totals.get(parameter, 0.0) + share
    if not totals:
        return None
    names = sorted(totals, key=lambda parameter: -totals[parameter])[:12]
    words = tuple(parameter_name(parameter) for parameter in names)
    specs = {spec.name: quantity_of(spec).title for spec in run.header.objectives}
    series = [
        Series(
            specs.get(objective, objective),
            "bars",
            [shares.get(parameter, 0.0) for parameter in names],
            words,
            SERIES_ROLES[number % len(SERIES_ROLES)],
        )
        for number, (objective, shares) in enumerate(found.items())
    ]
    x = Axis("importance (PED-ANOVA, shares of one)" + (f"\n{label}" if label else ""))
    title = "Parameter importances (PED-ANOVA, Watanabe et al., 2023)"
    title += f" of {label}" if label else ""
    return Plot(name, title, x, Axis("", words=words), tuple(series))


def slice_plots(findings: Findings) -> list[Plot]:
    """Returns the score over each of the parameters that matter most."""
    score = findings.score
    if score is None:
        return []
    known = [e for e in findings.trials if e.value(score) is not None]
    entries = [e for e in known if e.record.state != "failed"]  # its score is a stand-in
    return [
        plot
        for name in _parameters(findings, entries)[:_SLICES]
        if (plot := _slice(findings, name, entries, score)) is not None
    ]


def _parameters(findings: Findings, entries: Sequence[Entry]) -> list[str]:
    """Returns the parameters, those with the largest importance for the score first."""
    weights: dict[str, float] = {}
    for entry in entries:
        weights.update({name: 0.0 for name in entry.record.parameters if name not in weights})
    score = findings.score
    for run in findings.runs:
        for name, share in run.header.importances.get(score.name if score else "", {}).items():
            if name in weights:
                weights[name] += share
    return sorted(weights, key=lambda name: -weights[name])


def _slice(findings: Findings, name: str, entries: Sequence[Entry], score: Quantity) -> Plot | None:
    known = thinned([e for e in entries if name in e.record.parameters], 400)
    values = [e.record.parameters[name] for e in known]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    different = sorted(set(values)) if numbers else sorted({str(value) for value in values})
    if len(different) < 2:
        return None
    if len(different) <= _FEW:  # a scale of numbers in between would only mislead
        numbers = False
    words = () if numbers else tuple(str(value) for value in different)
    series = Series(
        "",
        "points",
        values if numbers else [str(value) for value in values],
        [_at(entry, score) for entry in known],
        "trial",
        labels=[hover(entry, *findings.shown) for entry in known],
        keys=[entry.key for entry in known],
    )
    title = parameter_name(name)
    safe = "".join(c if c.isalnum() else "-" for c in title).strip("-")
    x = Axis(title, words=words, whole=numbers and all(isinstance(v, int) for v in values))
    return Plot(f"slice-{safe}", f"{score.title} over {title}", x, Axis(score.axis), (series,))


def effects_plot(found: Sequence[Effect], score: Quantity) -> Plot | None:
    """Returns the mean score of each choice at matched cost, with standard errors.

    Choices of a single network have no error and are left to the table.
    """
    found = [effect for effect in found if effect.error is not None][:_MOST_EFFECTS]
    if not found:
        return None
    words = tuple(f"{parameter_name(e.parameter)} = {e.value}" for e in found)
    errors = [e.error or 0.0 for e in found]
    values = [e.adjusted for e in found]
    low = [v - error for v, error in zip(values, errors, strict=True)]
    high = [v + error for v, error in zip(values, errors, strict=True)]
    span = max(high) - min(low) or 1.0
    labels = [
        f"{escape(w)}: {e.adjusted:.4f} ± {e.error or 0:.4f}, {e.trials} trials"
        for w, e in zip(words, found, strict=True)
    ]
    series = Series("", "points", values, words, "front", low, high, labels)
    x = Axis(
        f"{score.axis} at matched cost", limits=(min(low) - 0.1 * span, max(high) + 0.1 * span)
    )
    return Plot("effects", "Choices at matched cost", x, Axis("", words=words), (series,))

"""What mattered: the mean score of each choice at matched cost.

A choice that makes networks dearer also makes them better, whatever it is. So the score is first
regressed on the decimal logarithm of the cost (ordinary least squares over all complete trials);
what a network has beyond that line is its residual, and a choice is judged by the mean residual
of the networks that made it, with its standard error. This compares networks of one cost; it does
not account for other choices that go along with this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_nas.report.findings import Entry, Findings
from unet_nas.report.quantities import Quantity
from unet_nas.space.domains import Scalar

__all__ = ["Effect", "effects", "parameter_name"]

#: fewer trials than this say nothing about a line
_LEAST = 8
_MOST_VALUES = 8


@dataclass(frozen=True, slots=True)
class Effect:
    """One value of one parameter.

    Attributes:
        parameter: By its name in the search.
        value: As a word.
        trials: Networks that have it.
        mean: Their mean score.
        adjusted: Their mean score at matched cost: the mean of all, plus their mean residual.
        error: Its standard error; None with a single network.
    """

    parameter: str
    value: str
    trials: int
    mean: float
    adjusted: float
    error: float | None


def effects(findings: Findings, cost: Quantity) -> list[Effect]:
    """Returns the effect of every value of every categorical parameter.

    Empty where there are too few trials. Numbers are left out: slices show them.
    """
    score = findings.score
    if score is None:
        return []
    entries = [e for e in findings.trials if e.record.state == "complete"]
    pairs = [(e, e.value(score), e.value(cost)) for e in entries]
    known = [(e, s, c) for e, s, c in pairs if s is not None and c is not None and c > 0]
    if len(known) < _LEAST:
        return []
    scores = np.array([s for _, s, _ in known])
    logs = np.log10([c for _, _, c in known])
    residuals = _residuals(scores, logs)
    found: list[Effect] = []
    for name in categorical([e for e, _, _ in known]):
        found += _of_parameter(name, [e for e, _, _ in known], scores, residuals)
    return found


def _residuals(scores: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Returns what scores have beyond the least-squares line over the logarithm of the cost."""
    centred = logs - logs.mean()
    spread = float(centred @ centred)
    slope = float(centred @ scores) / spread if spread > 0 else 0.0
    residuals: np.ndarray = scores - scores.mean() - slope * centred
    return residuals


def _of_parameter(
    name: str, entries: Sequence[Entry], scores: np.ndarray, residuals: np.ndarray
) -> list[Effect]:
    groups: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        if name in entry.record.parameters:
            groups.setdefault(_word(entry.record.parameters[name]), []).append(index)
    if not 1 < len(groups) <= _MOST_VALUES:
        return []
    mean = float(scores.mean())
    return [
        Effect(
            name,
            value,
            len(members),
            float(scores[members].mean()),
            mean + float(residuals[members].mean()),
            _standard_error(residuals[members]),
        )
        for value, members in sorted(groups.items())
    ]


def _standard_error(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def categorical(entries: Sequence[Entry]) -> list[str]:
    """Returns the parameters whose values are words, in the order met."""
    names: dict[str, bool] = {}
    for entry in entries:
        for name, value in entry.record.parameters.items():
            word = value is None or isinstance(value, str | bool)
            names[name] = names.get(name, True) and word
    return [name for name, words in names.items() if words]


def _word(value: Scalar) -> str:
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def parameter_name(name: str) -> str:
    """Returns a parameter's name without what all of them begin with.

    >>> parameter_name("architecture.down[strided_conv].kernel_size")
    'down[strided_conv].kernel_size'
    """
    return name.removeprefix("architecture.")

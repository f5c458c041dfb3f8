"""The Pareto front among records, for selection and for the display while a search runs.

Figures and their hypervolume are drawn from the records by the report; selection needs only
who dominates whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unet_nas.records.study import ObjectiveSpec, TrialRecord

__all__ = ["dominates", "front", "selected"]

Values = Sequence[float]


def dominates(a: Values, b: Values, objectives: Sequence[ObjectiveSpec]) -> bool:
    """Tells whether one is nowhere worse and somewhere better.

    >>> both = (ObjectiveSpec("dice", "maximize"), ObjectiveSpec("macs", "minimize"))
    >>> dominates((0.9, 5), (0.8, 5), both), dominates((0.9, 5), (0.8, 4), both)
    (True, False)
    """
    gains = [
        x - y if spec.direction == "maximize" else y - x
        for x, y, spec in zip(a, b, objectives, strict=True)
    ]
    return min(gains) >= 0 and max(gains) > 0


def front(records: Iterable[TrialRecord], objectives: Sequence[ObjectiveSpec]) -> list[TrialRecord]:
    """Returns the feasible records that no other dominates, the best of the first objective first.

    Of records with equal values the first one is kept.
    """
    kept: list[tuple[tuple[float, ...], TrialRecord]] = []
    for record in records:
        if not record.feasible or len(record.objectives) < len(objectives):
            continue
        mine = tuple(record.objectives[spec.name] for spec in objectives)
        if any(other == mine or dominates(other, mine, objectives) for other, _ in kept):
            continue
        kept = [pair for pair in kept if not dominates(mine, pair[0], objectives)]
        kept.append((mine, record))
    sign = -1 if objectives[0].direction == "maximize" else 1
    return [record for _, record in sorted(kept, key=lambda pair: sign * pair[0][0])]


def selected(
    records: Sequence[TrialRecord], objectives: Sequence[ObjectiveSpec], count: int | None
) -> list[TrialRecord]:
    """Returns the finalists: the best with one objective, else members spread over the front.

    Args:
        records: of trials.
        objectives: of the study.
        count: how many; None for the whole front.
    """
    if len(objectives) == 1:
        sign = -1 if objectives[0].direction == "maximize" else 1
        feasible = [record for record in records if record.feasible and record.objectives]
        feasible.sort(key=lambda record: sign * record.objectives[objectives[0].name])
        return feasible[: 1 if count is None else count]
    members = front(records, objectives)
    if count is None or count >= len(members):
        return members
    if count <= 1:
        return members[:count]
    # evenly over the ranks, both ends included
    return [members[round(i * (len(members) - 1) / (count - 1))] for i in range(count)]

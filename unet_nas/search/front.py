"""The Pareto front of a study: for selection, and for the display while a search runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unet_nas.records import pareto
from unet_nas.records.study import ObjectiveSpec, TrialRecord
from unet_nas.search.config import COSTS

__all__ = ["front", "nondominated", "selected"]

Values = Sequence[float]


def nondominated(values: Sequence[Values], objectives: Sequence[ObjectiveSpec]) -> list[int]:
    """Returns where nothing dominates, the best of the first objective first.

    Of equal values the first ones are kept.

    >>> both = (ObjectiveSpec("dice", "maximize"), ObjectiveSpec("macs", "minimize"))
    >>> nondominated([(0.8, 5), (0.9, 5), (0.7, 4), (0.9, 5)], both)
    [1, 2]
    """
    maximized = [spec.direction == "maximize" for spec in objectives]
    losses = pareto.as_losses(values, maximized)
    kept = {
        tuple(losses[index]): index
        for index in reversed(pareto.front(losses).nonzero()[0].tolist())
    }
    return sorted(kept.values(), key=lambda index: (losses[index, 0], index))


def front(records: Iterable[TrialRecord], objectives: Sequence[ObjectiveSpec]) -> list[TrialRecord]:
    """Returns the feasible records that no other dominates, the best of the first objective first.

    Of records with equal values the first one is kept.
    """
    known = [
        record
        for record in records
        if record.feasible and len(record.objectives) == len(objectives)
    ]
    values = [[record.objectives[spec.name] for spec in objectives] for record in known]
    return [known[index] for index in nondominated(values, objectives)]


def selected(
    records: Sequence[TrialRecord], objectives: Sequence[ObjectiveSpec], count: int | None
) -> list[TrialRecord]:
    """Returns the finalists: the best with one objective, else members of the front.

    Of several objectives these are, in this order: the best of the first objective, the knee
    point, both of which a report recommends, and others spread evenly over the front.

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
    last = len(members) - 1
    spread = [round(i * last / (count - 1)) for i in range(count)] if count > 1 else []
    wanted = dict.fromkeys([0, _knee(members, objectives), *reversed(spread)])
    return [members[index] for index in sorted([*wanted][:count])]


def _knee(members: Sequence[TrialRecord], objectives: Sequence[ObjectiveSpec]) -> int:
    """Returns the knee point of a front; costs count by their logarithm, as in the report."""
    names = [spec.name for spec in objectives]
    values = [
        [pareto.on_scale(record.objectives[name], cost=name in COSTS) for name in names]
        for record in members
    ]
    return pareto.knee(pareto.as_losses(values, [s.direction == "maximize" for s in objectives]))

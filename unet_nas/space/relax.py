"""When nothing is feasible: which limit to relax and by how much, or which patch size to take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from unet_nas.audit.memory import Training
from unet_nas.operators.builder import Graph
from unet_nas.space.budget import Conditions, Limit
from unet_nas.space.candidate import exceeded, judge, runs
from unet_nas.space.domains import Domain, Scalar
from unet_nas.space.sample import sample
from unet_nas.unet.shapes import AxisSizes

__all__ = ["Aligned", "Relaxation", "SizeAdvice", "relaxations", "size_advice"]

#: so many of the nearest candidates are costed completely where several limits must give way
_NEAREST = 100
#: so many candidates are asked for the patch sizes that they run on
_ASKED = 200
_MOST_SIZES = 3


@dataclass(frozen=True, slots=True)
class Aligned:
    """A candidate that runs: what was picked for it, and its costs as far as computed."""

    values: dict[str, Scalar]
    costs: dict[Limit, int]


@dataclass(frozen=True, slots=True)
class Relaxation:
    """Limits with which at least one candidate of those judged is feasible.

    Attributes:
        limits: The smallest values that do, for the limits to be relaxed only.
        factor: The largest of the ratios of new to old limit.
    """

    limits: dict[Limit, int]
    factor: float


@dataclass(frozen=True, slots=True)
class SizeAdvice:
    """A patch size, and how many of the candidates asked run on it."""

    patch_size: tuple[int, ...]
    runs: int
    asked: int


def relaxations(
    tree: Any,
    aligned: Sequence[Aligned],
    limits: Mapping[Limit, int],
    training: Training,
) -> list[Relaxation]:
    """Returns each single limit that may give way, or else the limits that must together."""
    singles: dict[Limit, int] = {}
    for candidate in aligned:
        over = exceeded(candidate.costs, limits)
        if len(over) == 1:
            cost = candidate.costs[over[0]]
            singles[over[0]] = min(cost, singles.get(over[0], cost))
    if not singles:
        return [_together(tree, aligned, limits, training)]
    found = [Relaxation({name: cost}, cost / limits[name]) for name, cost in singles.items()]
    return sorted(found, key=lambda relaxation: relaxation.factor)


def _together(
    tree: Any, aligned: Sequence[Aligned], limits: Mapping[Limit, int], training: Training
) -> Relaxation:
    """Returns the limits to relax at once, such that the largest ratio is small."""
    nearest = sorted(aligned, key=lambda candidate: _factor(candidate.costs, limits))[:_NEAREST]
    best: Relaxation | None = None
    for candidate in nearest:
        filled = _fill(tree, candidate.values)
        costs = judge(filled, limits, training=training, thorough=True).costs
        needed = {name: costs[name] for name in exceeded(costs, limits)}
        factor = _factor(costs, limits)
        if best is None or factor < best.factor:
            best = Relaxation(needed, factor)
    assert best is not None, "there is at least one aligned candidate"
    return best


def _factor(costs: Mapping[Limit, int], limits: Mapping[Limit, int]) -> float:
    return max(costs.get(name, 0) / limit for name, limit in limits.items())


def _fill(tree: Any, values: Mapping[str, Scalar]) -> Any:
    def recorded(name: str, domain: Domain) -> Scalar:
        return values[name]

    return sample(tree, recorded)


# --- patch sizes --------------------------------------------------------------------------


def size_advice(tree: Any, misaligned: Sequence[Mapping[str, Scalar]]) -> list[SizeAdvice]:
    """Returns the patch sizes near the given one that most candidates run on.

    Args:
        tree: the space.
        misaligned: values of candidates that break no rule and do not run.
    """
    step = max(1, len(misaligned) // _ASKED)
    asked: list[tuple[Graph, Conditions]] = []
    for values in misaligned[::step][:_ASKED]:
        candidate = judge(_fill(tree, values), {})
        if candidate.graph is not None and candidate.conditions is not None:
            asked.append((candidate.graph, candidate.conditions))
    offers = dict.fromkeys(offer for pair in asked for offer in _offers(*pair))
    counted = Counter(
        {
            offer: sum(runs(graph, offer, conditions.batch_size) for graph, conditions in asked)
            for offer in offers
        }
    )
    best = [(offer, number) for offer, number in counted.most_common(_MOST_SIZES) if number]
    return [SizeAdvice(offer, number, len(asked)) for offer, number in best]


def _offers(graph: Graph, conditions: Conditions) -> Iterator[tuple[int, ...]]:
    """Yields the valid sizes next to the given one, and next to its double.

    A norm that is left with one value needs a larger map, whatever the size is a multiple of.
    """
    size = conditions.size(graph.dims)
    if size is None or len(size) != graph.dims:
        return
    for factor in (1, 2):
        axes = [_near(AxisSizes(graph, axis), factor * n) for axis, n in enumerate(size)]
        yield from product(*axes)


def _near(sizes: AxisSizes, size: int) -> list[int]:
    if sizes.valid(size):
        return [size]
    return [other for other in sizes.nearest(size) if other is not None]

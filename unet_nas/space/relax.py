"""When nothing is feasible: which limit to relax and by how much, or which size to take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import log
from typing import Any

from unet_nas.audit.memory import Device
from unet_nas.operators.builder import Graph
from unet_nas.space.budget import Conditions, Limit
from unet_nas.space.candidate import exceeded, judge, runs
from unet_nas.space.domains import Domain, Scalar
from unet_nas.space.sample import sample
from unet_nas.unet.shapes import AxisSizes

__all__ = ["Aligned", "Relaxation", "Remedy", "relaxations", "remedies"]

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
class Remedy:
    """A setting with which candidates run that do not run now.

    Attributes:
        path: The field, as ``train.patch_size``.
        value: Its value, as it stands in a file.
        runs: How many of the candidates asked run with it.
        asked: How many were asked.
    """

    path: str
    value: str
    runs: int
    asked: int


def relaxations(
    tree: Any,
    aligned: Sequence[Aligned],
    limits: Mapping[Limit, int],
    device: Device,
) -> list[Relaxation]:
    """Returns each single limit that may give way, or else the limits that must together."""
    singles: dict[Limit, int] = {}
    for candidate in aligned:
        over = exceeded(candidate.costs, limits)
        if len(over) == 1:
            cost = candidate.costs[over[0]]
            singles[over[0]] = min(cost, singles.get(over[0], cost))
    if not singles:
        return [_together(tree, aligned, limits, device)]
    found = [Relaxation({name: cost}, cost / limits[name]) for name, cost in singles.items()]
    return sorted(found, key=lambda relaxation: relaxation.factor)


def _together(
    tree: Any, aligned: Sequence[Aligned], limits: Mapping[Limit, int], device: Device
) -> Relaxation:
    """Returns the limits to relax at once, such that the largest ratio is small."""
    nearest = sorted(aligned, key=lambda candidate: _factor(candidate.costs, limits))[:_NEAREST]
    best: Relaxation | None = None
    for candidate in nearest:
        filled = _fill(tree, candidate.values)
        costs = judge(filled, limits, device=device, thorough=True).costs
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


# --- sizes that do not fit ----------------------------------------------------------------


def remedies(tree: Any, misaligned: Sequence[Mapping[str, Scalar]]) -> list[Remedy]:
    """Returns patch sizes near the given one, and ways to align, with which candidates run.

    Args:
        tree: the space.
        misaligned: values of candidates that break no rule and do not run.
    """
    step = max(1, len(misaligned) // _ASKED)
    trees = [_fill(tree, values) for values in misaligned[::step][:_ASKED]]
    return [*_patch_sizes(trees), *_alignments(trees)]


def _patch_sizes(trees: Sequence[Any]) -> list[Remedy]:
    asked: list[tuple[Graph, Conditions]] = []
    for filled in trees:
        candidate = judge(filled, {})
        if candidate.graph is not None and candidate.conditions is not None:
            asked.append((candidate.graph, candidate.conditions))
    offers: dict[tuple[int, ...], float] = {}
    for graph, conditions in asked:
        size = conditions.size(graph.dims)
        if size is not None and len(size) == graph.dims:
            for offer in _offers(graph, size):
                offers.setdefault(offer, _distance(offer, size))
    numbers = {
        offer: sum(runs(graph, offer, conditions.batch_size) for graph, conditions in asked)
        for offer in offers
    }
    helpful = [offer for offer in offers if numbers[offer]]
    best = sorted(helpful, key=lambda offer: (-numbers[offer], offers[offer], offer))
    return [
        Remedy("train.patch_size", "x".join(map(str, offer)), numbers[offer], len(trees))
        for offer in best[:_MOST_SIZES]
    ]


def _offers(graph: Graph, size: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yields the valid sizes next to the given one, and next to its double.

    A norm that is left with one value needs a larger map, whatever the size is a multiple of.
    """
    for factor in (1, 2):
        axes = [_near(AxisSizes(graph, axis), factor * n) for axis, n in enumerate(size)]
        yield from product(*axes)


def _near(sizes: AxisSizes, size: int) -> list[int]:
    if sizes.valid(size):
        return [size]
    return [other for other in sizes.nearest(size) if other is not None]


def _distance(offer: tuple[int, ...], size: tuple[int, ...]) -> float:
    return sum(abs(log(o / n)) for o, n in zip(offer, size, strict=True))


def _alignments(trees: Sequence[Any]) -> list[Remedy]:
    """Returns the alignment that most candidates run with, if any does."""
    found = []
    for policy in ("crop", "pad", "resize"):
        changed = ({**t, "architecture": {**t["architecture"], "align": policy}} for t in trees)
        number = sum(judge(other, {}).aligned for other in changed)
        found.append(Remedy("architecture.align", policy, number, len(trees)))
    best = max(found, key=lambda remedy: remedy.runs)
    return [best] if best.runs else []

"""Known networks to begin with: the nearest candidate of the space is queued for each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from unet_nas.errors import InputError
from unet_nas.search.baselines import architecture_of
from unet_nas.search.config import Baseline
from unet_nas.search.workplace import Workplace
from unet_nas.space.domains import Branch, Choice, Domain, Scalar
from unet_nas.space.sample import Assignment, assign
from unet_nas.text.overrides import parse_path
from unet_nas.unet.architecture import Architecture

__all__ = ["enqueue", "nearest"]

_DONE = "enqueued"
#: the branches in the name of a parameter, which are no part of its path
_BRANCH = re.compile(r"\[[^\]\d][^\]]*\]")


def enqueue(place: Workplace) -> Iterator[str]:
    """Queues the candidates nearest to ``search.enqueue``, once for a study.

    Yields:
        Sentences on those that cannot be trained.
    """
    if place.optuna.user_attrs.get(_DONE):
        return
    for network in place.study.search.enqueue:
        architecture = architecture_of(
            Baseline(network=network), place.evaluator.task, base=place.study.base
        )
        if architecture is None:
            raise InputError(f"search.enqueue: {network} is no architecture")
        found = nearest(place.candidates.tree, architecture)
        verdict = place.candidates.examine(found.tree)
        if verdict.feasible:
            place.optuna.enqueue_trial(dict(found.values), user_attrs={"like": network})
        else:
            yield f"the candidate nearest to {network} is not feasible: {verdict.reason}"
    place.optuna.set_user_attr(_DONE, True)


def nearest(tree: dict[str, Any], architecture: Architecture) -> Assignment:
    """Returns the candidate whose every parameter is as near as can be to a network's.

    >>> from unet_nas.space.domains import compile_tree
    >>> holes = {"depth": {"int": [2, 3]}, "width": {"int": [8, 32, 8]}}
    >>> tree, _ = compile_tree({"architecture": holes})
    >>> nearest(tree, Architecture(depth=4, width=20)).values
    {'architecture.depth': 3, 'architecture.width': 16}
    """
    wanted = architecture.model_dump(mode="python")

    def pick(name: str, domain: Domain) -> Scalar:
        section, *path = parse_path(_BRANCH.sub("", name))
        value = _lookup(wanted, path) if section == "architecture" else None
        if isinstance(domain, Choice):
            return _branch(domain, value).label
        return _number(domain, value)

    return assign(tree, pick)


def _lookup(value: Any, path: list[str | int]) -> Any:
    """Returns what stands at a path; one value for all stages stands at each of them."""
    for part in path:
        if isinstance(part, int):
            if isinstance(value, list | tuple):
                value = value[min(part, len(value) - 1)]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            return None
    return value


def _branch(domain: Choice, value: Any) -> Branch:
    """Returns the branch that a value is, else the nearest number, else the first branch."""
    kind = value.get("type") if isinstance(value, dict) else value
    for branch in domain.branches:
        if branch.label == kind or (isinstance(branch.value, dict) and branch.value == value):
            return branch
    numbers = [branch for branch in domain.branches if _is_number(branch.label)]
    if _is_number(value) and numbers:
        return min(numbers, key=lambda branch: abs(branch.label - value))
    return domain.branches[0]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(domain: Any, value: Any) -> Scalar:
    """Returns the nearest number of a range; its middle where there is nothing to be near to."""
    if not _is_number(value):
        value = (domain.low + domain.high) / 2
    within = min(max(value, domain.low), domain.high)
    step = getattr(domain, "step", None)
    if step is None:
        return float(within)
    return int(domain.low + int((within - domain.low) / step) * step)

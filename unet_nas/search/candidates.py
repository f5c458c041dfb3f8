"""Candidates of a search: what a filled tree is, what arithmetic says of it, and its digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial
from pydantic import ValidationError

from unet_nas.audit.memory import Device
from unet_nas.space.candidate import Candidate, Reason, all_costs, judge
from unet_nas.space.domains import Choice, Domain, FloatRange, IntRange, Scalar, count
from unet_nas.space.load import Space
from unet_nas.train.config import TrainConfig

__all__ = [
    "OUTDONE",
    "SEEN",
    "Candidates",
    "Verdict",
    "distribution_of",
    "reason_text",
    "suggest",
]

SEEN = "seen before"
"""Why a candidate is rejected that another trial has."""
OUTDONE = "fewer MACs than another draw"
"""Why a feasible candidate is not trained where draws compete for a trial."""
_ORDER = ("rule", "size", "budget")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What arithmetic says of one candidate.

    Attributes:
        digest: Of the network and the values of ``train``; empty where a rule is broken.
        reason: The first reason that rejects it; empty where it is feasible.
        candidate: What else arithmetic knows; None where a rule of ``train`` is broken.
    """

    digest: str
    reason: str = ""
    candidate: Candidate | None = None

    @property
    def feasible(self) -> bool:
        """Nothing rejects it."""
        return not self.reason


class Candidates:
    """The candidates of a space, judged by `unet_nas.space.candidate.judge`.

    Args:
        space: the space, bound to the data.
        device: whose training step the memory is that of.
    """

    def __init__(self, space: Space, device: Device) -> None:
        self.tree = space.part("architecture", "train", "data")
        self.limits = space.budget.static_limits()
        self.device = device
        infinite = space.infinite("architecture", "train")
        self.number: int | None = None if infinite else count(self.tree)
        """How many there are; None where a range of floats makes them infinite."""

    def examine(self, tree: dict[str, Any]) -> Verdict:
        """Judges a filled tree, and says what is the same network under the same training."""
        candidate = judge(tree, self.limits, device=self.device)
        if candidate.graph is None:
            return Verdict("", _first(candidate.reasons))
        try:
            train = TrainConfig.model_validate(tree.get("train") or {})
        except ValidationError as error:
            return Verdict("", f"train: {error.errors()[0]['msg']}")
        text = f"{candidate.graph.digest()}\n{train.model_dump_json()}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        return Verdict(digest, _first(candidate.reasons), candidate)

    def costs(self, tree: dict[str, Any], verdict: Verdict | None = None) -> dict[str, float]:
        """Returns all static costs of a filled tree, as an audit gives them.

        Args:
            tree: the filled tree; it must run on its patch size.
            verdict: on it, where it is known: what it computed is not computed again.
        """
        known = verdict.candidate if verdict else None
        candidate = known or judge(tree, {}, device=self.device)
        costs = all_costs(candidate, tree, device=self.device)
        return {name: float(value) for name, value in costs.items()}


def _first(reasons: frozenset[Reason]) -> str:
    """Returns one reason, so that a rejected draw is counted once: the most basic one."""
    if not reasons:
        return ""
    return reason_text(min(reasons, key=lambda r: (_ORDER.index(r.kind), r.text)))


def reason_text(reason: Reason) -> str:
    """Writes a reason as the records have it.

    >>> reason_text(Reason("budget", "macs"))
    'more macs than the budget'
    """
    return f"more {reason.text} than the budget" if reason.kind == "budget" else reason.text


def distribution_of(domain: Domain) -> BaseDistribution:
    """Returns Optuna's distribution of a domain.

    >>> distribution_of(IntRange(8, 32, 8, False, ()))
    IntDistribution(high=32, log=False, low=8, step=8)
    """
    match domain:
        case Choice():
            return CategoricalDistribution(domain.labels)
        case IntRange():
            return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
        case FloatRange():
            return FloatDistribution(domain.low, domain.high, log=domain.log)


def suggest(trial: Trial, name: str, domain: Domain) -> Scalar:
    """Asks a trial of Optuna for the value of a parameter."""
    match domain:
        case Choice():
            return trial.suggest_categorical(name, domain.labels)
        case IntRange():
            step, log = domain.step, domain.log
            return trial.suggest_int(name, domain.low, domain.high, step=step, log=log)
        case FloatRange():
            return trial.suggest_float(name, domain.low, domain.high, log=domain.log)

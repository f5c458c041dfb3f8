"""The survey of a space: how many candidates there are, align and fit, and what rejects the rest.

Small spaces are judged one by one. From a larger one candidates are drawn, every way to fill the
discrete holes being equally likely, and shares come with Wilson's 95 % interval (Wilson, J. Am.
Stat. Assoc. 22, 1927).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from random import Random
from typing import Any

from unet_nas.audit.memory import Device, Training
from unet_nas.errors import InputError
from unet_nas.space.budget import Conditions, Limit
from unet_nas.space.candidate import Candidate, Reason, judge, rule_of
from unet_nas.space.domains import DEFAULT_DEPTH, Scalar, count
from unet_nas.space.load import Space, training_of
from unet_nas.space.relax import Aligned, Relaxation, Remedy, relaxations, remedies
from unet_nas.space.sample import Assignment, draw, enumerate_assignments
from unet_nas.text.document import format_path

__all__ = ["EXHAUSTIVE_LIMIT", "Scope", "Share", "Survey", "survey"]

EXHAUSTIVE_LIMIT = 20_000
"""Spaces of up to this many candidates are judged one by one."""
DEFAULT_SAMPLES = 5_000
MEMORY_SAMPLES = 300
"""Memory is computed for up to this many feasible candidates where no limit asks for it."""
_NO_LIMIT = 1 << 62
_Z = 1.959963984540054  # 95 %, two-sided


@dataclass(frozen=True, slots=True)
class Share:
    """A number of candidates among those judged.

    Attributes:
        count: How many.
        of: Of how many judged.
        exact: All candidates were judged.
    """

    count: int
    of: int
    exact: bool

    @property
    def interval(self) -> tuple[float, float]:
        """The share's 95 % interval; the share itself where it is exact.

        >>> low, high = Share(0, 100, exact=False).interval
        >>> low, round(high, 3)
        (0.0, 0.037)
        """
        if self.exact or not self.of:
            share = self.count / self.of if self.of else 0.0
            return share, share
        n, p, z2 = self.of, self.count / self.of, _Z * _Z
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        low = 0.0 if self.count == 0 else max(0.0, middle - half)
        high = 1.0 if self.count == n else min(1.0, middle + half)
        return low, high


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many candidates a reason rejects.

    Attributes:
        reason: The reason.
        any: Candidates that it rejects, alone or with others.
        alone: Candidates that nothing else rejects: what this one constraint costs.
        fix: The nearest fix for one of them, for rules between fields.
    """

    reason: Reason
    any: int
    alone: int
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Extreme:
    """The cheapest and the dearest feasible candidate by one cost.

    Attributes:
        low: The smallest cost, and the parameters that give it.
        high: The largest.
    """

    low: tuple[int, dict[str, Scalar]]
    high: tuple[int, dict[str, Scalar]]


@dataclass(frozen=True, slots=True)
class Scope:
    """What was looked at.

    Attributes:
        architectures: Ways to fill the holes of ``architecture``; a range of floats counts once.
        candidates: Ways to fill those and the holes of patch and batch size.
        infinite: The ranges of floats in ``architecture``: there is no end of them.
        judged: Candidates judged.
        exhaustive: These are all.
        seed: Of the draws.
        limits: The static limits.
        latency: The limit of the latency in seconds, which is not checked here.
        device: Where the training step runs that memory is computed for.
    """

    architectures: int
    candidates: int
    infinite: tuple[str, ...]
    judged: int
    exhaustive: bool
    seed: int
    limits: dict[Limit, int]
    latency: float | None
    device: Device


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of a space without training.

    Attributes:
        scope: What was looked at.
        valid: Candidates that break no rule between fields.
        aligned: Of these, those that run on the patch size.
        feasible: Of these, those within all limits.
        networks: Distinct networks among the valid candidates.
        feasible_networks: Distinct networks among the feasible ones.
        reasons: Why candidates are rejected, the most frequent first.
        costs: Of the feasible candidates, by name, and their ``depth``; ``training_memory`` of
            up to `MEMORY_SAMPLES` of them where it is not limited.
        extremes: Cheapest and dearest feasible candidates, by cost.
        conditions: The patch sizes (as written) and batch sizes met.
        trainings: The training steps that memory is computed for.
        relaxations: Where nothing is feasible: limits to relax, the smallest step first.
        remedies: Where nothing aligns: settings with which candidates run.
    """

    scope: Scope
    valid: Share
    aligned: Share
    feasible: Share
    networks: int
    feasible_networks: int
    reasons: tuple[ReasonCount, ...]
    costs: dict[str, list[int]]
    extremes: dict[Limit, Extreme]
    conditions: tuple[Conditions, ...]
    trainings: tuple[Training, ...]
    relaxations: tuple[Relaxation, ...] = ()
    remedies: tuple[Remedy, ...] = ()

    @property
    def dearest_constraint(self) -> ReasonCount | None:
        """The single constraint that costs most candidates; None where none does alone."""
        best = max(self.reasons, key=lambda entry: entry.alone, default=None)
        return best if best is not None and best.alone else None


Progress = Callable[[int, int], None]


def survey(
    space: Space,
    *,
    patch_size: tuple[int, ...] | None = None,
    batch_size: int | None = None,
    samples: int | None = None,
    seed: int = 0,
    device: Device = "cpu",
    progress: Progress | None = None,
) -> Survey:
    """Judges the candidates of a space, or a sample of them.

    Args:
        space: the space.
        patch_size: in place of ``train.patch_size``.
        batch_size: in place of ``train.batch_size``.
        samples: draw so many, unless the space has no more; by default all are judged up to
            `EXHAUSTIVE_LIMIT`, and 5,000 drawn beyond it.
        seed: of the draws.
        device: where the training step runs.
        progress: told after each candidate how many of how many are done.

    Raises:
        InputError: if a limit needs a patch size and there is none, or ``samples`` is below 1.
    """
    if samples is not None and samples < 1:
        raise InputError(f"a survey needs at least 1 sample, got {samples}")
    tree = costing_tree(space, patch_size, batch_size)
    total, infinite = count(tree), space.infinite("architecture")
    exhaustive = not infinite and total <= (samples or EXHAUSTIVE_LIMIT)
    scope = Scope(
        space.count("architecture"),
        total,
        tuple(format_path(path) for path in infinite),
        total if exhaustive else samples or DEFAULT_SAMPLES,
        exhaustive,
        seed,
        space.budget.static_limits(),
        space.budget.latency,
        device,
    )
    tally = _Tally(tree, scope)
    drawn = enumerate_assignments(tree) if exhaustive else _draws(tree, scope.judged, seed)
    report = progress or _silent
    for done, assignment in enumerate(drawn, start=1):
        tally.add(assignment)
        report(done, scope.judged)
    if "training_memory" not in scope.limits:
        tally.add_memory(report)
    return tally.survey()


def _silent(done: int, number: int) -> None:
    """Reports no progress."""


def costing_tree(
    space: Space, patch_size: tuple[int, ...] | None = None, batch_size: int | None = None
) -> dict[str, Any]:
    """Returns the part of a space that decides what arithmetic can: no learning rates.

    Raises:
        InputError: if a given size would have to reach into a choice of the whole ``train``.
    """
    given: dict[str, Any] = {}
    if patch_size is not None:
        given["patch_size"] = list(patch_size) if len(patch_size) > 1 else patch_size[0]
    if batch_size is not None:
        given["batch_size"] = batch_size
    train = space.tree.get("train") or {}
    if isinstance(train, dict):
        train = {k: v for k, v in train.items() if k in Conditions.model_fields} | given
    elif given:
        raise InputError("train is a choice here: give its sizes in the file, not as options")
    return {**space.part("architecture", "data"), "train": train}


def _draws(tree: Any, number: int, seed: int) -> Iterator[Assignment]:
    rng = Random(seed)
    for _ in range(number):
        yield draw(tree, rng)


def _depth(assignment: Assignment) -> int:
    return int(assignment.tree["architecture"].get("depth", DEFAULT_DEPTH))


class _Tally:
    """Judges candidates one after another, and keeps what the survey says of them."""

    def __init__(self, tree: Any, scope: Scope) -> None:
        self.tree, self.scope = tree, scope
        self.any: Counter[Reason] = Counter()
        self.alone: Counter[Reason] = Counter()
        self.fixes: dict[Reason, str] = {}
        self.valid = 0
        self.aligned: list[Aligned] = []
        self.feasible: list[Assignment] = []
        self.misaligned: list[dict[str, Scalar]] = []
        self.networks: set[str] = set()
        self.feasible_networks: set[str] = set()
        self.conditions: dict[Conditions, None] = {}
        self.trainings: dict[Training, None] = {}
        self.costs: dict[str, list[int]] = {"depth": []}
        self.extremes: dict[Limit, Extreme] = {}

    def add(self, assignment: Assignment) -> None:
        """Judges one candidate and counts it."""
        candidate = judge(assignment.tree, self.scope.limits, device=self.scope.device)
        self._count_reasons(candidate)
        if candidate.graph is None or candidate.conditions is None:
            return
        self._check_conditions(candidate.conditions)
        self.trainings[training_of(assignment.tree, self.scope.device)] = None
        self.valid += 1
        digest = candidate.graph.digest()
        self.networks.add(digest)
        if not candidate.aligned:
            self.misaligned.append(assignment.values)
            return
        self.aligned.append(Aligned(assignment.values, candidate.costs))
        if candidate.feasible:
            self.feasible.append(assignment)
            self.feasible_networks.add(digest)
            self.costs["depth"].append(_depth(assignment))
            for name, value in candidate.costs.items():
                self._keep(name, value, assignment)

    def _count_reasons(self, candidate: Candidate) -> None:
        self.any.update(candidate.reasons)
        if len(candidate.reasons) == 1:
            self.alone.update(candidate.reasons)
        for fault in candidate.faults:
            if fault.fix:
                self.fixes.setdefault(rule_of(fault), fault.fix)

    def _check_conditions(self, conditions: Conditions) -> None:
        self.conditions[conditions] = None
        wanting = [name for name in self.scope.limits if name != "parameters"]
        if conditions.patch_size is None and wanting:
            raise InputError(
                f"budget.{wanting[0]} needs a patch size; "
                "fix: give train.patch_size in the file, or --patch-size"
            )

    def _keep(self, name: Limit, value: int, assignment: Assignment) -> None:
        self.costs.setdefault(name, []).append(value)
        here = (value, assignment.values)
        old = self.extremes.get(name, Extreme(here, here))
        low = here if value < old.low[0] else old.low
        high = here if value > old.high[0] else old.high
        self.extremes[name] = Extreme(low, high)

    def add_memory(self, progress: Progress) -> None:
        """Computes the memory of a training step for some feasible candidates, evenly chosen."""
        if all(conditions.patch_size is None for conditions in self.conditions):
            return
        number = min(len(self.feasible), MEMORY_SAMPLES)
        for i in range(number):
            assignment = self.feasible[i * len(self.feasible) // number]
            limits: dict[Limit, int] = {"training_memory": _NO_LIMIT}
            costs = judge(assignment.tree, limits, device=self.scope.device).costs
            self._keep("training_memory", costs["training_memory"], assignment)
            progress(i + 1, number)

    def survey(self) -> Survey:
        """Returns the survey of all candidates added."""
        relaxed: list[Relaxation] = []
        sizes: list[Remedy] = []
        if self.aligned and not self.feasible:
            relaxed = relaxations(self.tree, self.aligned, self.scope.limits, self.scope.device)
        if self.misaligned and not self.aligned:
            sizes = remedies(self.tree, self.misaligned)
        return Survey(
            self.scope,
            self._share(self.valid),
            self._share(len(self.aligned)),
            self._share(len(self.feasible)),
            len(self.networks),
            len(self.feasible_networks),
            tuple(self._reasons()),
            self.costs,
            self.extremes,
            tuple(self.conditions),
            tuple(self.trainings),
            tuple(relaxed),
            tuple(sizes),
        )

    def _share(self, number: int) -> Share:
        return Share(number, self.scope.judged, self.scope.exhaustive)

    def _reasons(self) -> Iterator[ReasonCount]:
        # every limit is listed, also one that rejects nobody
        for name in self.scope.limits:
            self.any.setdefault(Reason("budget", name), 0)
        for reason, number in sorted(self.any.items(), key=lambda item: (-item[1], item[0])):
            yield ReasonCount(reason, number, self.alone[reason], self.fixes.get(reason))

"""What a search found: the networks of one or several runs, their front, what is recommended."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np

from unet_nas.errors import InputError
from unet_nas.records import ObjectiveSpec, Run, TrialRecord
from unet_nas.records.pareto import Losses, as_losses, front, hypervolume, knee, on_scale
from unet_nas.report.quantities import COSTS, Quantity, quantity_of

__all__ = ["Entry", "Finals", "Findings", "Recommendation"]

MOST_CARDS = 12
#: a network this much below the best score still counts as good
WITHIN = 0.01


@dataclass(frozen=True, eq=False)
class Entry:
    """One network of a run.

    Attributes:
        key: Unique among all entries, fit for an HTML id.
        label: For people; names the study where there are several.
        run: Where it comes from.
        record: What is known of it.
    """

    key: str
    label: str
    run: Run
    record: TrialRecord

    def value(self, quantity: Quantity) -> float | None:
        """Returns an objective, a cost or a metric; None where it is not known."""
        record = self.record
        for source in (record.objectives, record.costs, record.metrics):
            found = source.get(quantity.name)
            if found is not None and math.isfinite(found):
                return found
        return None

    @property
    def reference(self) -> str:
        """What the command line calls it: ``FOLDER#12``."""
        return f"{self.run.folder}#{self.record.name.removeprefix('#')}"

    @property
    def export_command(self) -> str:
        """The command that writes it as plain PyTorch with its weights."""
        return self._export("")

    @property
    def longer_export_command(self) -> str:
        """The same with the weights of the longer training's first seed; empty without any."""
        seeds = [
            r.seed
            for r in self.run.finalists
            if r.name == self.record.name and r.state == "complete" and r.weights is not None
        ]
        return self._export(f"/seed-{min(seeds)}") if seeds else ""

    def _export(self, which: str) -> str:
        name = f"{self.run.header.name}-{self.record.name.removeprefix('#')}{which}"
        folder = f"exported/{re.sub(r'[^A-Za-z0-9.-]+', '-', name).strip('-')}"
        return shlex.join(["unet-nas", "export", f"{self.reference}{which}", "--to", folder])


@dataclass(frozen=True, slots=True)
class Finals:
    """The longer trainings of one network, one per seed.

    Attributes:
        scores: One per seed that came to an end.
        failed: Seeds that did not.
        part: Of the data that they were scored on: ``test``, or ``validation`` where the data
            have no test cases.
    """

    scores: tuple[float, ...]
    failed: int = 0
    part: str = "test"

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds (n - 1); None of a single one."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A network that the report puts first, and what for."""

    titles: tuple[str, ...]
    entry: Entry


@dataclass(frozen=True)
class Findings:
    """The networks of all runs together.

    Attributes:
        runs: In the order given; they share their objectives and their kind of input.
    """

    runs: tuple[Run, ...]

    @staticmethod
    def of(runs: Sequence[Run]) -> Findings:
        """Puts runs together.

        Raises:
            InputError: if there is none, if one is there twice, or if their objectives or their
                kinds of input differ.
        """
        if not runs:
            raise InputError("a report needs at least one run")
        for number, run in enumerate(runs):
            _check_comparable(runs[0], run)
            if run.folder.resolve() in [other.folder.resolve() for other in runs[:number]]:
                raise InputError(f"{run.folder} is given twice: name each run of a report once")
        return Findings(tuple(runs))

    # --- networks -------------------------------------------------------------------------

    @cached_property
    def trials(self) -> tuple[Entry, ...]:
        """All trials, run after run."""
        return tuple(self._entries("t"))

    @cached_property
    def baselines(self) -> tuple[Entry, ...]:
        """All baselines; those of the first run where several runs have the same one."""
        found: dict[tuple[str, str], Entry] = {}
        for entry in self._entries("b"):
            found.setdefault((entry.record.name, entry.record.digest), entry)
        return tuple(found.values())

    def _entries(self, kind: str) -> Iterator[Entry]:
        for number, run in enumerate(self.runs):
            for index, record in enumerate(run.trials if kind == "t" else run.baselines):
                own = record.number if kind == "t" and record.number is not None else index
                label = record.name
                if len(self.runs) > 1 and kind == "t":
                    label = f"{self.run_label(run)} {record.name}"
                yield Entry(f"{kind}{number}-{own}", label, run, record)

    def run_label(self, run: Run) -> str:
        """Returns the name of a run, with its folder where the names of several are equal."""
        same = [other for other in self.runs if other.header.name == run.header.name]
        return run.header.name if len(same) == 1 else f"{run.header.name} ({run.folder.name})"

    @cached_property
    def feasible(self) -> tuple[Entry, ...]:
        """Trials that are complete, within all limits, and known in every quantity compared."""
        return tuple(e for e in self.trials if e.record.feasible and self.known(e))

    def known(self, entry: Entry) -> bool:
        """Tells whether all quantities that are compared are known of a network."""
        values = [entry.value(quantity) for quantity in self.plane]
        return bool(values) and None not in values

    def finals(self, entry: Entry) -> Finals | None:
        """Returns the longer trainings of a network, where there are any."""
        records = [r for r in entry.run.finalists if r.name == entry.record.name]
        score = self.score
        if not records or score is None:
            return None
        part = "test" if any(record.test for record in records) else "validation"
        found = [(r.test if part == "test" else r.metrics).get(score.name) for r in records]
        scores = tuple(value for value in found if value is not None and math.isfinite(value))
        return Finals(scores, len(records) - len(scores), part) if scores else None

    # --- objectives -----------------------------------------------------------------------

    @property
    def objectives(self) -> tuple[ObjectiveSpec, ...]:
        """What was searched for."""
        return self.runs[0].header.objectives

    @cached_property
    def score(self) -> Quantity | None:
        """The accuracy: the first objective that is no cost; None where all are costs."""
        quantities = [quantity_of(objective) for objective in self.objectives]
        return next((q for q in quantities if not q.cost), None)

    @cached_property
    def plane(self) -> tuple[Quantity, ...]:
        """What networks are compared in: the objectives; a single one is set against MACs."""
        quantities = tuple(quantity_of(objective) for objective in self.objectives)
        if len(quantities) == 1 and not quantities[0].cost:
            return (*quantities, COSTS["macs"])
        return quantities

    @cached_property
    def costs(self) -> tuple[Quantity, ...]:
        """Costs that are known of any network, those that were searched for first."""
        entries = (*self.trials, *self.baselines)
        known = [q for q in COSTS.values() if any(e.value(q) is not None for e in entries)]
        return tuple(sorted(known, key=lambda q: q not in self.plane))

    @cached_property
    def shown(self) -> tuple[Quantity, ...]:
        """What is shown of every network: its scores, then its costs."""
        return (*(q for q in self.plane if not q.cost), *self.costs)

    def losses(self, entries: Sequence[Entry]) -> Losses:
        """Returns the plane's values, smaller is better; costs in their decimal logarithm."""
        rows = [[self._coordinate(e, q) for q in self.plane] for e in entries]
        return as_losses(rows, [q.maximized for q in self.plane])

    @staticmethod
    def _coordinate(entry: Entry, quantity: Quantity) -> float:
        value = entry.value(quantity)
        return math.nan if value is None else on_scale(value, cost=quantity.cost)

    # --- the front ------------------------------------------------------------------------

    @cached_property
    def front(self) -> tuple[Entry, ...]:
        """The feasible trials that none of them dominates, cheapest first."""
        if not self.feasible:
            return ()
        on_front = front(self.losses(self.feasible))
        found = [e for e, kept in zip(self.feasible, on_front, strict=True) if kept]
        return tuple(sorted(found, key=self._by_cost))

    def _by_cost(self, entry: Entry) -> tuple[float, float]:
        cost = self.main_cost
        score = self.score
        better = 0.0 if score is None else (entry.value(score) or 0.0)
        own = 0.0 if cost is None else (entry.value(cost) or 0.0)
        return own, -better if score is None or score.maximized else better

    @property
    def main_cost(self) -> Quantity | None:
        """The cost that decides what is cheapest."""
        return next((q for q in (*self.plane, *self.costs) if q.cost), None)

    @cached_property
    def recommendations(self) -> tuple[Recommendation, ...]:
        """The best network, the knee, and the cheapest within 1 % of the best."""
        named: dict[str, list[str]] = {}
        for title, entry in self._recommended():
            named.setdefault(entry.key, []).append(title)
        entries = {entry.key: entry for entry in self.front}
        return tuple(Recommendation(tuple(titles), entries[k]) for k, titles in named.items())

    def _recommended(self) -> Iterator[tuple[str, Entry]]:
        if not self.front:
            return
        score, cost = self.score, self.main_cost
        if score is not None:
            best = min(self.front, key=lambda e: (self._loss(e, score), self._by_cost(e)))
            yield f"best {score.title}", best
        if len(self.plane) > 1:
            yield "knee point", self.front[knee(self.losses(self.front))]
        if score is not None and cost is not None:
            limit = self._loss(best, score)
            limit += WITHIN * abs(limit)
            near = [entry for entry in self.front if self._loss(entry, score) <= limit]
            yield "cheapest within 1 %", min(near, key=self._by_cost)
        elif cost is not None:
            yield f"fewest {cost.title}", self.front[0]

    @staticmethod
    def _loss(entry: Entry, quantity: Quantity) -> float:
        value = entry.value(quantity)
        assert value is not None, "the entries of a front are known"
        return -value if quantity.maximized else value

    @cached_property
    def carded(self) -> tuple[Entry, ...]:
        """The networks that get a card: the recommended ones, then others spread over the front."""
        first = [recommendation.entry for recommendation in self.recommendations]
        rest = [entry for entry in self.front if entry not in first]
        room = max(0, MOST_CARDS - len(first))
        if len(rest) > room:
            rest = [rest[int(i)] for i in np.linspace(0, len(rest) - 1, room)]
        return tuple(sorted([*first, *rest], key=self._by_cost))

    # --- hypervolume ----------------------------------------------------------------------

    @cached_property
    def reference(self) -> tuple[float, ...]:
        """The reference point, as losses: the limit of the budget, else the worst seen."""
        losses = self.losses(self.feasible)
        worst = losses.max(axis=0)
        limits = [self.limit(quantity) for quantity in self.plane]
        return tuple(
            float(w) if limit is None else max(math.log10(limit), float(w))
            for limit, w in zip(limits, worst, strict=True)
        )

    def limit(self, quantity: Quantity) -> float | None:
        """Returns the budget's limit of a cost; the largest, where runs differ."""
        limits = [run.header.budget.get(quantity.name) for run in self.runs]
        return max((limit for limit in limits if limit), default=None)

    @cached_property
    def box(self) -> float:
        """The volume between the reference point and the best value of each objective."""
        ideal = self.losses(self.feasible).min(axis=0)
        return float(np.prod(np.asarray(self.reference) - ideal))

    @cached_property
    def hypervolume(self) -> float | None:
        """What the front dominates, as a share of the box; None where the box is flat."""
        if not self.feasible or self.box <= 0:
            return None
        return hypervolume(self.losses(self.front), self.reference) / self.box


def _check_comparable(first: Run, run: Run) -> None:
    """Refuses a run whose networks cannot compete with those of the first for one front."""
    for (what, ours), (_, theirs) in zip(_kind(first), _kind(run), strict=True):
        if ours != theirs:
            shown, other = (_shown(value) for value in (ours, theirs))
            if shown == other:
                shown, other = repr(ours), repr(theirs)
            raise InputError(
                f"runs of one report must have the same {what}: {first.folder} has {shown}, "
                f"{run.folder} has {other}; write a report for each, or put single networks into "
                "one table with unet-nas compare"
            )


def _kind(run: Run) -> Iterator[tuple[str, object]]:
    """Yields what runs must share, and its name."""
    header = run.header
    yield "objectives", header.objectives
    yield "spatial_dims", header.spatial_dims
    yield "in_channels", header.in_channels
    yield "class names", header.class_names
    yield "patch size", header.patch_size


def _shown(value: object) -> str:
    """Returns a value of a header in words."""
    if not isinstance(value, tuple):
        return str(value)
    words = [one.name if isinstance(one, ObjectiveSpec) else str(one) for one in value]
    numbers = all(isinstance(one, int) for one in value)
    return ("×" if numbers else ", ").join(words) or "none"


def seconds_between(start: str, end: str) -> float | None:
    """Returns the seconds between two ISO dates; None where one is missing.

    >>> seconds_between("2026-01-01T00:00:00+00:00", "2026-01-01T00:01:30+00:00")
    90.0
    """
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (TypeError, ValueError):
        return None

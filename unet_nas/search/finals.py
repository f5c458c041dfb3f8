"""Test scores of the longer trainings: what finalists and baselines are compared by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from unet_nas.records.study import ObjectiveSpec, TrialRecord
from unet_nas.search.config import is_accuracy, objective_of

__all__ = ["Final", "finals", "first_accuracy"]


@dataclass(frozen=True, slots=True)
class Final:
    """The longer trainings of one network.

    Attributes:
        name: Of the network.
        scores: On the test cases, one for each seed that came to an end.
        failed: Seeds that did not.
        costs: Of the network, by name.
    """

    name: str
    scores: tuple[float, ...]
    failed: int
    costs: dict[str, float]

    @property
    def text(self) -> str:
        """Mean ± standard deviation (n - 1) over the seeds.

        >>> Final("#1", (0.8, 0.82), 0, {}).text, Final("#1", (0.8,), 2, {}).text
        ('0.8100 ± 0.0141', '0.8000 (2 seeds failed)')
        """
        if not self.scores:
            return "failed"
        spread = f" ± {stdev(self.scores):.4f}" if len(self.scores) > 1 else ""
        seeds = "seed" if self.failed == 1 else "seeds"
        failed = f" ({self.failed} {seeds} failed)" if self.failed else ""
        return f"{fmean(self.scores):.4f}{spread}{failed}"


def first_accuracy(objectives: Sequence[ObjectiveSpec]) -> ObjectiveSpec:
    """Returns the first accuracy among the objectives, or Dice where all are costs."""
    accuracies = (spec for spec in objectives if is_accuracy(spec.name))
    return next(accuracies, objective_of("dice"))


def finals(records: Sequence[TrialRecord], accuracy: ObjectiveSpec) -> list[Final]:
    """Returns the networks that were trained longer, the best on the test cases first.

    Args:
        records: longer trainings, one for each network and seed.
        accuracy: what they are scored by.
    """
    found = []
    for name in dict.fromkeys(record.name for record in records):
        mine = [record for record in records if record.name == name]
        scores = tuple(r.test[accuracy.name] for r in mine if accuracy.name in r.test)
        found.append(Final(name, scores, len(mine) - len(scores), mine[0].costs))
    sign = -1 if accuracy.direction == "maximize" else 1
    return sorted(found, key=lambda f: (not f.scores, sign * fmean(f.scores or (0.0,))))

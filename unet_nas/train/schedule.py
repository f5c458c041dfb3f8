"""How far a training is, when it validates, and its learning rate (plain numbers)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from unet_nas.train.config import TrainConfig

if TYPE_CHECKING:
    from unet_nas.train.data.cases import Case

__all__ = ["TrainingSchedule", "steps_per_epoch"]

#: no step is wasted on a rate of nothing
_LEAST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """The budget of a training, as shares of it that are done: 0 at its start, 1 at its end.

    Attributes:
        steps: That end it; None where seconds do.
        seconds: Of training, without validation, that end it; None where steps do.
        epoch_steps: Steps of one pass over the training cases.
        validations: Scorings, evenly over the budget.
        warmup: Share of the budget in which the learning rate rises.
        learning_rate: The highest.
        decays: Whether it falls along half a cosine after the warm-up.
    """

    steps: int | None
    seconds: float | None
    epoch_steps: float
    validations: int
    warmup: float
    learning_rate: float
    decays: bool

    @classmethod
    def of(cls, config: TrainConfig, epoch_steps: float) -> TrainingSchedule:
        """Returns the schedule that a section ``train`` describes."""
        kind, amount = config.budget
        steps: int | None = None
        if kind == "steps":
            steps = int(amount)
        elif kind == "epochs":
            steps = max(1, round(amount * epoch_steps))
        return cls(
            steps=steps,
            seconds=amount if kind == "seconds" else None,
            epoch_steps=epoch_steps,
            validations=config.validations,
            warmup=config.warmup,
            learning_rate=config.learning_rate,
            decays=config.schedule == "cosine",
        )

    def done(self, steps: float, seconds: float) -> float:
        """Returns the share of the budget that is spent."""
        if self.steps is not None:
            return min(steps / self.steps, 1.0)
        assert self.seconds is not None, "steps or seconds end a training"
        return min(seconds / self.seconds, 1.0)

    def rate(self, steps: int, seconds: float) -> float:
        """Returns the learning rate of the step after ``steps``: that of its middle.

        Source of the cosine: Loshchilov and Hutter, "SGDR", arXiv:1608.03983.

        >>> of = TrainingSchedule(100, None, 10, 5, warmup=0.1, learning_rate=1.0, decays=True)
        >>> [round(of.rate(n, 0.0), 4) for n in (0, 4, 9, 54, 99)]
        [0.05, 0.45, 0.95, 0.5087, 0.0001]
        """
        done = self.done(steps + 0.5, seconds)
        if done < self.warmup:
            return self.learning_rate * max(done / self.warmup, _LEAST_SHARE)
        if not self.decays or self.warmup == 1:
            return self.learning_rate
        angle = math.pi * (done - self.warmup) / (1 - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(angle))

    def due(self, done: float) -> int:
        """Returns how many validations there should have been when a share is done.

        >>> schedule = TrainingSchedule(7, None, 10, 3, warmup=0, learning_rate=1.0, decays=True)
        >>> [schedule.due(schedule.done(n, 0.0)) for n in range(8)]
        [0, 0, 0, 1, 1, 2, 2, 3]
        """
        return math.floor(done * self.validations + 1e-9)


def steps_per_epoch(cases: Sequence[Case], patch_size: Sequence[int], batch_size: int) -> float:
    """Returns in how many steps so many patches are seen as the cases hold, one at least each.

    A case of 256 x 256 positions holds 4 patches of 128 x 128, one of 100 x 100 holds one.
    """
    held = (
        prod(max(n / patch, 1.0) for n, patch in zip(case.image.shape[1:], patch_size, strict=True))
        for case in cases
    )
    return sum(held) / batch_size

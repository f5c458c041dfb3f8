"""What a training says while it runs, and what came of it, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from unet_nas.records.study import Point, TrialFailure

__all__ = ["Fit", "Progress"]


@dataclass(frozen=True, slots=True)
class Fit:
    """What came of a training.

    Attributes:
        history: One point for every validation.
        best_step: Step whose weights are kept; None where none was validated.
        metrics: Scores of these weights on the validation cases.
        state: These weights, on the CPU.
        failure: Why there is no result to trust, if so.
        stopped: Whether it ended before its budget, without a failure.
        interrupted: Whether Ctrl-C (SIGINT) stopped it.
        steps: Optimizer steps done.
        training_s: Of steps with their data.
        validation_s: Of scoring.
    """

    history: tuple[Point, ...]
    best_step: int | None
    metrics: dict[str, float]
    state: dict[str, Tensor] = field(repr=False)
    failure: TrialFailure | None = None
    stopped: bool = False
    interrupted: bool = False
    steps: int = 0
    training_s: float = 0.0
    validation_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is.

    Attributes:
        step: Optimizer steps done.
        done: Share of the budget.
        loss: Mean over the last few steps; None before the first look.
        seconds: Of training and validation.
    """

    step: int
    done: float
    loss: float | None
    seconds: float

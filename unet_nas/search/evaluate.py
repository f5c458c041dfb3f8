"""One candidate: from what is to be trained, by whoever trains it, to its record on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from unet_nas.records import Profile
from unet_nas.records.study import (
    ObjectiveSpec,
    Point,
    Timing,
    TrialFailure,
    TrialKind,
    TrialRecord,
    TrialState,
)
from unet_nas.train.data.cases import Task

__all__ = ["Evaluator", "Job", "Outcome", "now", "record_of"]

OnPoint = Callable[[Point], bool]
"""Told every point of a training curve; True ends the training as pruned."""


@dataclass(frozen=True, slots=True)
class Job:
    """A network that is to be trained.

    Attributes:
        kind: ``trial``, ``baseline`` or ``finalist``; a finalist is scored on the test cases.
        name: ``#12``, ``preset:unet-2015``, …
        folder: Where its files go.
        seed: Of weights, patches and augmentation.
        train: The section ``train`` without holes, with all defaults.
        architecture: The section without holes; None for networks of others.
        network: ``architecture``, or ``python:package.module:factory``.
        number: Of Optuna's trial.
        parameters: Optuna's parameters by name.
        digest: Of architecture and train values.
        costs: Static costs by name.
        rejected: Draws before it, by reason.
        fallback: Whether uniform sampling had to find it.
    """

    kind: TrialKind
    name: str
    folder: Path
    seed: int
    train: dict[str, Any]
    architecture: dict[str, Any] | None = None
    network: str = "architecture"
    number: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    costs: dict[str, float] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a training.

    Attributes:
        state: ``complete``, ``pruned`` or ``failed``.
        metrics: Scores of the best weights on the validation cases.
        test: The same on the test cases, of finalists.
        failure: Why there is no result, if so.
        history: The training curve.
        best_step: Step whose weights were kept.
        costs: Costs that were measured, as ``latency`` in ms, or counted, of foreign networks.
        profile: What was measured, with its conditions.
        files: Weights and examples by file name.
        training_s: Of optimizer steps with their data.
        validation_s: Of scoring.
        profiling_s: Of measuring.
        interrupted: A person stopped it: there is no result.
    """

    state: TrialState
    metrics: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    failure: TrialFailure | None = None
    history: tuple[Point, ...] = ()
    best_step: int | None = None
    costs: dict[str, float] = field(default_factory=dict)
    profile: Profile | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    training_s: float = 0.0
    validation_s: float = 0.0
    profiling_s: float = 0.0
    interrupted: bool = False


class Evaluator(Protocol):
    """Whoever trains: the real one holds the data; tests have one that computes a score."""

    @property
    def task(self) -> Task:
        """What the data ask of a network."""

    @property
    def summary(self) -> dict[str, Any]:
        """What the data are, for the header."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people."""

    @property
    def device_name(self) -> str:
        """``cpu`` or ``cuda``, with its name."""

    @property
    def has_test_cases(self) -> bool:
        """Whether finalists can be scored."""

    def evaluate(self, job: Job, on_point: OnPoint) -> Outcome:
        """Trains a network and scores it."""


def record_of(
    job: Job,
    outcome: Outcome,
    *,
    objectives: tuple[ObjectiveSpec, ...],
    limits_ms: Mapping[str, float],
    timing: Timing,
    device: str,
) -> TrialRecord:
    """Returns the record of a training.

    A network whose objectives are not all known has no result: it failed.

    Args:
        job: what was trained.
        outcome: what came of it.
        objectives: of the study.
        limits_ms: the measured limits: ``latency``.
        timing: where the time went.
        device: ``cpu`` or ``cuda``, with its name.
    """
    costs = {**job.costs, **outcome.costs}
    known = {**costs, **outcome.metrics}
    values = {spec.name: known[spec.name] for spec in objectives if spec.name in known}
    constraints = {name: _excess(costs.get(name), limit) for name, limit in limits_ms.items()}
    record = TrialRecord(
        kind=job.kind,
        name=job.name,
        state=outcome.state,
        number=job.number,
        failure=outcome.failure,
        network=job.network,
        architecture=job.architecture,
        train=job.train,
        parameters=job.parameters,
        digest=job.digest,
        seed=job.seed,
        costs=costs,
        profile=outcome.profile,
        metrics=outcome.metrics,
        test=outcome.test,
        objectives=values,
        constraints=constraints,
        history=outcome.history,
        best_step=outcome.best_step,
        rejected=job.rejected,
        fallback=job.fallback,
        timing=timing,
        device=device,
        weights=next((name for name in outcome.files if name.endswith(".safetensors")), None),
        examples=next((name for name in outcome.files if name.endswith(".npz")), None),
    )
    missing = [spec.name for spec in objectives if spec.name not in values]
    # networks of others have no static memory, and are shown without it
    if record.state == "complete" and missing and job.network == "architecture":
        failure = TrialFailure("failed", f"{' and '.join(missing)} could not be measured")
        return replace(record, state="failed", failure=failure)
    return record


def _excess(measured: float | None, limit: float) -> float:
    """Returns by how much a limit is exceeded; what was not measured counts as twice the limit."""
    return (2 * limit if measured is None else measured) - limit


def now() -> str:
    """Returns the time as the records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")

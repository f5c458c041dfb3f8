"""The records of a search: one header for the run, one record for each network that was trained.

A run is a folder::

    FOLDER/
      run.json                   RunHeader; written anew whenever it changes
      space.yaml                 the file that was searched, with --set applied
      study.db                   Optuna's study, unless it lies in another storage
      trials/0012/               one folder per trial, by Optuna's number
        record.json              TrialRecord, written last: a folder without it is not whole
        architecture.yaml
        weights.safetensors      best weights of the trial
        examples.npz             a few validation samples with the prediction
      baselines/NAME/            the same for each baseline
      finalists/NAME/seed-0/     the same for each seed of each finalist

``examples.npz`` holds for sample ``i`` the arrays ``image_i`` (channels, *spatial) float32,
``truth_i`` and ``prediction_i`` (*spatial) uint8, or (classes, *spatial) where labels overlap;
volumes are cut across their coarsest axis where most foreground is, so spatial has one or two
axes. ``spacing_i`` (axes,) is the distance of neighbouring positions; older files lack it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from unet_nas.errors import InputError
from unet_nas.records.profile import Profile

Direction = Literal["maximize", "minimize"]
TrialKind = Literal["trial", "baseline", "finalist"]
TrialState = Literal["complete", "pruned", "failed"]
TrialFailureKind = Literal[
    "nan_loss", "diverged", "out_of_memory", "over_budget", "killed", "interrupted", "failed"
]

T = TypeVar("T")

HEADER = "run.json"
RECORD = "record.json"
ARCHITECTURE = "architecture.yaml"
"""The network of a training, in the same folder."""
FORMAT = 1
"""Version of the records; a reader refuses a newer one."""


@dataclass(frozen=True, slots=True)
class ObjectiveSpec:
    """What is maximised or minimised.

    Attributes:
        name: As in the file: ``dice``, ``parameters``, ``training_memory``, …
        direction: ``maximize`` or ``minimize``.
        unit: ``""`` for shares, ``bytes``, ``ms``, ``mm``, ``MACs``, …
    """

    name: str
    direction: Direction
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One line of a training curve.

    Attributes:
        step: Optimizer steps done.
        epoch: Passes over the training cases, as a fraction.
        loss: Mean training loss since the point before; None before the first step.
        score: The first accuracy metric on the validation cases; None where none was taken.
        learning_rate: At this step.
        seconds: Of training and validation since the start.
    """

    step: int
    epoch: float
    loss: float | None
    score: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TrialFailure:
    """Why a network has no result.

    Attributes:
        kind: What happened; ``over_budget`` is a measured limit that was exceeded.
        reason: In one sentence.
    """

    kind: TrialFailureKind
    reason: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of a trial went, in seconds; dates are ISO 8601 in UTC.

    Attributes:
        started: When the sampler was asked.
        finished: When the record was written.
        sampling_s: The sampler's own time.
        checking_s: Arithmetic on candidates, accepted and rejected.
        training_s: Optimizer steps with their data.
        validation_s: Scoring.
        profiling_s: Measuring latency and memory.
        overhead_s: All else of ours: storage, records, building, weights to disk.
    """

    started: str
    finished: str
    sampling_s: float = 0.0
    checking_s: float = 0.0
    training_s: float = 0.0
    validation_s: float = 0.0
    profiling_s: float = 0.0
    overhead_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One network that was trained, or was meant to be.

    Attributes:
        kind: ``trial``, ``baseline`` or ``finalist`` (a longer training with one seed).
        name: ``#12``, ``preset:unet-2015``, …; a finalist has the name of what is retrained.
        state: ``complete``, ``pruned`` or ``failed``.
        number: Of Optuna's trial; None for baselines and finalists of baselines.
        failure: Why it has no result, where it has none.
        network: ``architecture``, or ``python:package.module:factory`` for networks of others.
        architecture: The section ``architecture`` without holes; None for networks of others.
        train: The section ``train`` without holes, with all defaults.
        parameters: Optuna's parameters by name.
        digest: Of architecture and train values; equal candidates have equal digests.
        seed: Of weights, patches and augmentation.
        costs: ``parameters``, ``macs`` (one patch), ``training_memory`` (bytes, at the batch of
            train), ``inference_memory`` (bytes, one patch): static, as the audit says;
            ``latency`` (ms, one patch, median) where it was measured.
        profile: What was measured, with its conditions.
        metrics: Scores on the validation cases: ``dice``, ``dice[nucleus]``, ``iou``, …
        test: The same on the test cases, which no selection sees; of finalists only.
        objectives: Values of the objectives by name.
        constraints: By name: measured minus limit; at most 0 is feasible.
        history: The training curve.
        best_step: Step whose weights were kept.
        rejected: Draws that arithmetic rejected before this one was accepted, by reason.
        fallback: Whether uniform sampling had to find it, the sampler's draws being spent.
        timing: Where the time went.
        device: ``cpu`` or ``cuda``, with its name.
        weights: File name of the weights beside the record, if they were kept.
        examples: File name of the examples beside the record, if there are any.
    """

    kind: TrialKind
    name: str
    state: TrialState
    number: int | None = None
    failure: TrialFailure | None = None
    network: str = "architecture"
    architecture: dict[str, Any] | None = None
    train: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    seed: int = 0
    costs: dict[str, float] = field(default_factory=dict)
    profile: Profile | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    objectives: dict[str, float] = field(default_factory=dict)
    constraints: dict[str, float] = field(default_factory=dict)
    history: tuple[Point, ...] = ()
    best_step: int | None = None
    rejected: dict[str, int] = field(default_factory=dict)
    fallback: bool = False
    timing: Timing | None = None
    device: str = ""
    weights: str | None = None
    examples: str | None = None

    @property
    def feasible(self) -> bool:
        """It is complete, and no measured limit is exceeded."""
        return self.state == "complete" and all(v <= 0 for v in self.constraints.values())

    def to_json(self) -> str:
        """Returns the record as JSON."""
        return _TRIAL.dump_json(self, indent=1).decode()

    @staticmethod
    def from_json(text: str | bytes) -> TrialRecord:
        """Returns the record that `to_json` wrote.

        >>> record = TrialRecord("trial", "#0", "failed", failure=TrialFailure("nan_loss", "…"))
        >>> TrialRecord.from_json(record.to_json()) == record
        True
        """
        return _TRIAL.validate_json(text)


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What holds for a whole run.

    Attributes:
        name: Of the study.
        file: The YAML text that was searched, with ``--set`` applied.
        command: That repeats the run, as typed in a shell.
        objectives: In the order of the file.
        budget: Limits by name, in parameters, MACs, bytes and milliseconds.
        patch_size: Spatial size of a training input.
        spatial_dims: 1, 2 or 3.
        in_channels: Of the data.
        class_names: Of all classes, background first (of all labels where they overlap).
        data: What the data are: source, counts of cases per part, seed of the split, notes (such
            as that labels are derived), spacing.
        sampler: Name and every argument.
        pruner: Name and every argument; empty where there is none.
        seed: Base seed; worker ``i`` samples with ``seed + i``.
        workers: Processes.
        device: ``cpu`` or ``cuda``, with its name.
        versions: Of Python, torch, optuna, unet_nas, …
        conventions: What the numbers mean: MACs, memory, latency, Dice.
        space: The survey as `unet-nas space --json` prints it; empty before it was made.
        importances: By objective, by parameter; shares that add up to one.
        started: ISO 8601, UTC.
        finished: The same, once the run is over.
        state: ``running``, ``complete`` or ``interrupted``.
        trials_wanted: How many were asked for.
        notes: Sentences for people: warnings of the data, what fell back, …
        format: Of the records.
    """

    name: str
    file: str = ""
    command: str = ""
    objectives: tuple[ObjectiveSpec, ...] = ()
    budget: dict[str, float] = field(default_factory=dict)
    patch_size: tuple[int, ...] = ()
    spatial_dims: int = 2
    in_channels: int = 1
    class_names: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    sampler: dict[str, Any] = field(default_factory=dict)
    pruner: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    workers: int = 1
    device: str = "cpu"
    versions: dict[str, str] = field(default_factory=dict)
    conventions: dict[str, str] = field(default_factory=dict)
    space: dict[str, Any] = field(default_factory=dict)
    importances: dict[str, dict[str, float]] = field(default_factory=dict)
    started: str = ""
    finished: str = ""
    state: Literal["running", "complete", "interrupted"] = "running"
    trials_wanted: int = 0
    notes: tuple[str, ...] = ()
    format: int = FORMAT

    def to_json(self) -> str:
        """Returns the header as JSON."""
        return _RUN.dump_json(self, indent=1).decode()

    @staticmethod
    def from_json(text: str | bytes) -> RunHeader:
        """Returns the header that `to_json` wrote.

        >>> header = RunHeader("demo", patch_size=(64, 64))
        >>> RunHeader.from_json(header.to_json()) == header
        True
        """
        return _RUN.validate_json(text)


# built once: making one takes as long as reading a hundred records
_TRIAL = TypeAdapter(TrialRecord)
_RUN = TypeAdapter(RunHeader)


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it lies in a folder.

    Attributes:
        folder: Where it lies.
        header: What holds for all of it.
        trials: In the order of their numbers.
        baselines: In the order of their names.
        finalists: One record for each seed, grouped by name.
        folders: Where the files of a record lie, by kind, name and seed.
    """

    folder: Path
    header: RunHeader
    trials: tuple[TrialRecord, ...] = ()
    baselines: tuple[TrialRecord, ...] = ()
    finalists: tuple[TrialRecord, ...] = ()
    folders: dict[tuple[TrialKind, str, int], Path] = field(default_factory=dict)

    def files_of(self, record: TrialRecord) -> Path:
        """Returns the folder of a record's weights and examples."""
        return self.folders[record.kind, record.name, record.seed]


def read_run(folder: Path) -> Run:
    """Reads a run; folders of trials that are not whole are left out.

    Raises:
        InputError: if there is no run, or its files are not ours or of a newer version.
    """
    header = _parse(folder / HEADER, _RUN)
    if header.format > FORMAT:
        raise InputError(f"{folder / HEADER} was written by a newer unet_nas; update this one")
    found: dict[TrialKind, list[TrialRecord]] = {"trial": [], "baseline": [], "finalist": []}
    folders = {}
    for path in _records(folder):
        record = _parse(path, _TRIAL)
        found[record.kind].append(record)
        folders[record.kind, record.name, record.seed] = path.parent
    trials = sorted(found["trial"], key=lambda r: -1 if r.number is None else r.number)
    return Run(
        folder, header, tuple(trials), tuple(found["baseline"]), tuple(found["finalist"]), folders
    )


def _records(folder: Path) -> Iterator[Path]:
    for pattern in ("trials/*", "baselines/*", "finalists/*/*"):
        yield from sorted(folder.glob(f"{pattern}/{RECORD}"))


def _parse(path: Path, adapter: TypeAdapter[T]) -> T:
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"{path.parent} is not the folder of a run: it has no {path.name}"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path} is damaged: {error.errors()[0]['msg']}") from error

"""From a file, data and a budget to one training at length, and to the folder it leaves."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from unet_nas.audit.memory import Device
from unet_nas.errors import InputError, UnetNasError
from unet_nas.operators.builder import Graph
from unet_nas.records.study import Point
from unet_nas.text import set_values
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.cases import Case, Dataset
from unet_nas.train.data.checks import check_task, patch_notes
from unet_nas.train.data.load import load_data
from unet_nas.train.loop import Fit, Progress, fit
from unet_nas.train.metric_names import CONVENTION
from unet_nas.train.metrics import Tolerances, score
from unet_nas.train.product import CHECKPOINT, TRAINING, Trained, write_trained
from unet_nas.train.sections import architecture_file, data_config, train_config
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build
from unet_nas.unet.graph import lower
from unet_nas.unet.load import PREFIX, open_document, to_architecture
from unet_nas.unet.shapes import AxisSizes

__all__ = ["Project", "Request", "load_project", "run"]

#: largest patch that is chosen for a person who names none, by number of axes
_LARGEST_PATCH = {1: 2048, 2: 256, 3: 64}
_BATCH = {1: 8, 2: 8, 3: 2}
_PACKAGES = ("unet-nas", "torch", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks for on the command line.

    Attributes:
        file: An architecture file, ``RUN#TRIAL``, the folder of a trial or of a training, or
            ``preset:NAME``.
        data: A YAML file with a section ``data``, or a source; None: the section of ``file``.
        assignments: ``path=value`` each, put over the file.
        budget: ``steps``, ``epochs`` or ``seconds`` in place of the file's; at most one.
        metrics: Others than Dice, of the best weights.
        seed: Of weights, patches and augmentation.
        device: ``cpu`` or ``cuda``.
    """

    file: str
    data: str | None = None
    assignments: tuple[str, ...] = ()
    budget: dict[str, float] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    seed: int = 0
    device: Device = "cpu"


@dataclass(frozen=True, slots=True)
class Project:
    """One training, ready to run.

    Attributes:
        request: As it was asked for.
        name: Of the network.
        architecture: Without holes.
        config: The section ``train``, with a patch size.
        data: In memory.
        notes: What was chosen for the person, and what the data say.
    """

    request: Request
    name: str
    architecture: Architecture
    config: TrainConfig
    data: Dataset
    notes: tuple[str, ...]


def load_project(
    request: Request, *, progress: Callable[[int, int], None] | None = None
) -> Project:
    """Reads and checks everything before anything trains.

    Raises:
        DocumentError: with the faults of a file.
        InputError: if data and network do not fit each other, or a file cannot be read.
    """
    file = architecture_file(request.file)
    document = open_document(file)
    document = set_values(document, request.assignments) if request.assignments else document
    architecture = to_architecture(document)
    name = str(document.tree.get("name") or Path(request.file.removeprefix(PREFIX)).stem)
    config = train_config(document, file, request.data, request.assignments)
    source, base = data_config(document, file, request.data, request.assignments)
    data = load_data(source, base=base, seed=request.seed, progress=progress)
    check_task(data.task, architecture)
    config, chosen = _completed(config, request, lower(architecture), data.train)
    chosen += patch_notes(data.parts(), config.size(data.task.spatial_dims))
    return Project(request, name, architecture, config, data, (*data.notes, *chosen))


def _completed(
    config: TrainConfig, request: Request, graph: Graph, cases: Sequence[Case]
) -> tuple[TrainConfig, list[str]]:
    """Fills in what the person left open, and says what was chosen."""
    values = config.model_dump(exclude_unset=True)
    notes = []
    if request.budget:
        values = {k: v for k, v in values.items() if k not in {"steps", "epochs", "seconds"}}
        values |= request.budget
    if config.patch_size is None:
        size = default_patch_size(graph, cases)
        values["patch_size"] = size
        notes.append(f"patch size {'x'.join(map(str, size))}, since train.patch_size is not given")
    if "batch_size" not in config.model_fields_set:
        values["batch_size"] = _BATCH[graph.dims]
        notes.append(f"batch size {_BATCH[graph.dims]}, since train.batch_size is not given")
    return TrainConfig.model_validate(values), notes


def default_patch_size(graph: Graph, cases: Sequence[Case]) -> tuple[int, ...]:
    """Returns the valid patch size next to the median size of the cases, up to a limit.

    Raises:
        InputError: if the network takes no such size.
    """
    limit = _LARGEST_PATCH[graph.dims]
    found = []
    for axis in range(graph.dims):
        wanted = min(int(median(case.image.shape[1 + axis] for case in cases)), limit)
        sizes = AxisSizes(graph, axis)
        smaller, larger = sizes.nearest(wanted)
        size = wanted if sizes.valid(wanted) else smaller or larger
        if size is None:
            raise InputError("train.patch_size must be given: no valid size is near the cases'")
        found.append(size)
    return tuple(found)


# --- running ------------------------------------------------------------------------------


def run(
    project: Project,
    folder: Path,
    *,
    resume: bool = True,
    on_point: Callable[[Point], bool] | None = None,
    on_step: Callable[[Progress], object] | None = None,
) -> tuple[Fit, Trained | None]:
    """Trains, scores the best weights on the test cases, and writes the folder.

    Args:
        project: What to train.
        folder: Where to; its checkpoint is continued.
        resume: False: begin anew.
        on_point: Called after every validation.
        on_step: Called after every step.

    Returns:
        The training, and what was written; nothing is written of one that was interrupted.

    Raises:
        InputError: if the folder holds another training.
        UnetNasError: if the training fails.
    """
    checkpoint = folder / CHECKPOINT
    if not resume:
        checkpoint.unlink(missing_ok=True)
    elif (folder / TRAINING).exists() and not checkpoint.exists():
        raise InputError(
            f"{folder} holds a training without its checkpoint; --no-resume replaces it"
        )
    request, config = project.request, project.config
    torch.manual_seed(request.seed)
    module = build(project.architecture, checkpoint=config.checkpoint, inplace=config.in_place)
    result = fit(
        module,
        project.data,
        config,
        seed=request.seed,
        device=request.device,
        metrics=request.metrics,
        on_point=on_point,
        on_step=on_step,
        checkpoint=checkpoint,
    )
    if result.failure is not None:
        raise UnetNasError(
            f"the training failed after {result.steps} steps: {result.failure.reason}"
        )
    if result.interrupted:
        return result, None
    trained = _trained(project, result)
    if project.data.test:
        scores = score(
            module,
            project.data.test,
            project.data.task,
            patch_size=trained.patch_size,
            metrics=request.metrics,
            tolerances=Tolerances.of(config),
            device=request.device,
            precision=config.training(request.device).precision,
        )
        trained.test.update(scores)
    write_trained(folder, project.architecture, result.state, trained)
    return result, trained


def _trained(project: Project, result: Fit) -> Trained:
    request, data = project.request, project.data
    size = project.config.size(data.task.spatial_dims)
    assert size is not None, "it was filled in"
    preparation: dict[str, Any] | None = None
    if data.preprocessing is not None:
        preparation = data.preprocessing.to_json()
    return Trained(
        name=project.name,
        patch_size=size,
        precision=project.config.training(request.device).precision,
        train=project.config.model_dump(mode="json"),
        seed=request.seed,
        device=device_name(request.device),
        preprocessing=preparation,
        data={**data.summary, "notes": list(data.notes)},
        steps=result.steps,
        best_step=result.best_step,
        history=result.history,
        validation=result.metrics,
        conventions=dict(CONVENTION),
        versions={"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        training_s=result.training_s,
        validation_s=result.validation_s,
    )


def device_name(device: Device) -> str:
    """Returns the kind of a device and what it is."""
    if device == "cuda":
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({platform.processor() or platform.machine()})"

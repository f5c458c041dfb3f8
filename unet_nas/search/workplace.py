"""What one process of a search works with: the study, its storage, and whoever trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from optuna.pruners import NopPruner
from optuna.study import Study as OptunaStudy

from unet_nas.audit.memory import Device
from unet_nas.errors import InputError, UnetNasError
from unet_nas.search.candidates import Candidates
from unet_nas.search.claims import Claims, claims_of
from unet_nas.search.config import is_accuracy
from unet_nas.search.evaluate import Evaluator
from unet_nas.search.folder import Folder
from unet_nas.search.load import Study, load_study
from unet_nas.search.makers import (
    Made,
    make_pruner,
    make_sampler,
    pruner_spec,
    sampler_spec,
)
from unet_nas.search.sampler import FeasibleSampler
from unet_nas.search.storage import Place, open_study
from unet_nas.train.config import TrainConfig, patch_size_of

__all__ = ["MakeEvaluator", "Order", "Workplace", "make_trainer", "open_workplace"]

DEFAULT_VALIDATIONS: int = TrainConfig.model_fields["validations"].default

MakeEvaluator: TypeAlias = Callable[[Study, Device, int], Evaluator]
"""Makes whoever trains, from the study, the device and the seed of the data's split."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is told to do; plain data, so that another process can be told it.

    Attributes:
        text: The file, with ``--set`` applied.
        name: Of the study.
        base: The folder that paths in the file are relative to.
        out: The folder of the run.
        storage: URL, or None for SQLite in the folder.
        seed: Base seed.
        device: Where it trains.
        workers: Processes in all.
        wanted: Trials in all.
        deadline: Time (`time.time`) after which no trial begins; None: never.
        index: Of this process; it samples with ``seed + index``.
        make: Makes whoever trains.
    """

    text: str
    name: str
    base: Path
    out: Path
    storage: str | None
    seed: int
    device: Device
    workers: int
    wanted: int
    deadline: float | None
    make: MakeEvaluator
    index: int = 0

    def study(self) -> Study:
        """Reads the file."""
        return replace(load_study(self.text), name=self.name, base=self.base)


@dataclass(frozen=True, slots=True)
class Workplace:
    """What one process works with.

    Attributes:
        order: What it was told.
        study: The file, bound to the data.
        evaluator: Whoever trains.
        folder: Where records go.
        place: Where the study lies.
        optuna: Optuna's study.
        sampler: Finds candidates.
        claims: Who has which candidate.
        sampler_made: The inner sampler with its arguments.
        pruner_made: The pruner with its arguments.
    """

    order: Order
    study: Study
    evaluator: Evaluator
    folder: Folder
    place: Place
    optuna: OptunaStudy
    sampler: FeasibleSampler
    claims: Claims
    sampler_made: Made
    pruner_made: Made

    @property
    def candidates(self) -> Candidates:
        """The candidates of the space."""
        return self.sampler.candidates

    @property
    def prunes(self) -> bool:
        """Trials may end before their time."""
        return not isinstance(self.optuna.pruner, NopPruner)

    @property
    def limits_ms(self) -> dict[str, float]:
        """The limits that are measured, in milliseconds."""
        latency = self.study.space.budget.latency
        return {} if latency is None else {"latency": 1000 * latency}


def open_workplace(order: Order, *, evaluator: Evaluator | None = None) -> Workplace:
    """Reads the file, loads the data and opens the storage.

    Args:
        order: what to do.
        evaluator: whoever trains, where it is there already.

    Raises:
        InputError: if something of it is wrong.
        UnetNasError: if the storage fails.
    """
    study = order.study()
    evaluator = evaluator or order.make(study, order.device, order.seed)
    study = study.bound_to(evaluator.task)
    place = Place.of(order.out, order.storage, order.name)
    place.check_workers(order.workers)
    sampler = sampler_spec(study.search, seed=order.seed + order.index, workers=order.workers)
    pruner = pruner_spec(study.search, validations=_validations(study))
    inner = None if sampler.type == "grid" else make_sampler(sampler)
    candidates = Candidates(study.space, order.device)
    if inner is None and candidates.number is None:
        raise InputError(
            "search.sampler: grid needs a finite space, and a range of floats has no end"
        )
    directions = [spec.direction for spec in study.objectives]
    optuna_study = open_study(place, directions)
    _check_directions(optuna_study, directions, place)
    claims = claims_of(optuna_study)
    feasible = FeasibleSampler(
        inner,
        candidates,
        claims,
        seed=order.seed + order.index,
        tournament=study.sections.tournament,
        redraws=study.search.redraws,
        uniform_draws=study.search.uniform_draws,
    )
    optuna_study.sampler, optuna_study.pruner = feasible, make_pruner(pruner)
    return Workplace(
        order=order,
        study=study,
        evaluator=evaluator,
        folder=Folder(order.out),
        place=place,
        optuna=optuna_study,
        sampler=feasible,
        claims=claims,
        sampler_made=sampler,
        pruner_made=pruner,
    )


def _validations(study: Study) -> int:
    train = study.space.document.tree.get("train") or {}
    value = train.get("validations", DEFAULT_VALIDATIONS)
    return value if isinstance(value, int) else DEFAULT_VALIDATIONS


def _check_directions(study: OptunaStudy, directions: Sequence[str], place: Place) -> None:
    found = [direction.name.lower() for direction in study.directions]
    if found != list(directions):
        raise UnetNasError(
            f"the study {place.name!r} at {place.url} has other objectives; give another name in "
            "the file, or another --storage"
        )


def make_trainer(study: Study, device: Device, seed: int) -> Evaluator:
    """Loads the data, and returns the evaluator that trains on them.

    Raises:
        InputError: if the data cannot be trained on, or there is no such device.
    """
    import torch  # noqa: PLC0415 - workers of tests do without

    from unet_nas.search.trainer import Trainer  # noqa: PLC0415
    from unet_nas.train.data.checks import patch_notes  # noqa: PLC0415
    from unet_nas.train.data.load import load_data  # noqa: PLC0415

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device cuda needs a GPU; this torch ({torch.__version__}) finds none")
    names = study.sections.objectives
    latency = study.space.budget.latency is not None or "latency" in names
    data = load_data(study.data, base=study.base, seed=seed)
    size = patch_size_of(study.space.document.tree.get("train"), data.task.spatial_dims)
    return Trainer(
        data.with_notes(patch_notes(data.parts(), size)),
        device=device,
        score_name=study.sections.accuracy,
        metrics=[name for name in names if is_accuracy(name) and name != study.sections.accuracy],
        latency=latency or study.search.measure,
    )

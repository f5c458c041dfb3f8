"""What holds for a whole run: its header, and at the end which parameters mattered."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from unet_nas.errors import InputError
from unet_nas.records.study import ObjectiveSpec, RunHeader
from unet_nas.search.evaluate import now
from unet_nas.search.workplace import Workplace
from unet_nas.train.config import TrainConfig
from unet_nas.train.metric_names import CONVENTION

__all__ = ["CONVENTIONS", "check_data", "importances", "new_header"]

CONVENTIONS: dict[str, str] = {
    "parameters": "trainable parameters",
    "macs": "multiply-accumulates of convolutions and matrix products in a forward pass of one "
    "patch; FLOPs are twice as many",
    "training_memory": "peak of the tensors alive in a training step at the batch of train (on "
    "CUDA: reserved by the allocator); by arithmetic",
    "inference_memory": "peak of the tensors alive in a forward pass of one patch; by arithmetic",
    "latency": "median time of a forward pass of one patch after warm-up, in the process that "
    "trained the network",
    **CONVENTION,
}
"""What the numbers of a run mean."""

_PACKAGES = ("unet-nas", "torch", "optuna", "numpy", "pydantic", "monai", "nibabel")
#: fewer complete trials say nothing of importances
_LEAST_TRIALS = 4


def check_data(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Refuses to go on with other data: scores on other cases would stand on one front.

    Args:
        old: what the header says of the data of the run.
        new: what is known of the data now.
        folder: of the run.

    Raises:
        InputError: if cases came, went or changed since the run began.
    """
    for part, before in old.get("parts", {}).items():
        now = new["parts"][part]
        if before.get("contents", now["contents"]) == now["contents"]:
            continue
        other = sorted(set(before["names"]) ^ set(now["names"]))
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        what = f"{', '.join(other[:3])}{more} came or went" if other else "the same names, changed"
        raise InputError(
            f"the {part} cases are not those that {folder} began with ({what}), so trials "
            "could not be compared: put the data back, or give another --out"
        )


def new_header(
    place: Workplace, *, train: dict[str, Any], command: str, space: dict[str, Any]
) -> RunHeader:
    """Returns the header of a run that begins, or goes on.

    Args:
        place: what it works with.
        train: a section ``train`` without holes, for the patch size.
        command: that repeats the run.
        space: the survey as plain data.
    """
    task, budget = place.evaluator.task, place.study.space.budget
    size = TrainConfig.model_validate(train).size(task.spatial_dims)
    limits = {str(name): float(limit) for name, limit in budget.static_limits().items()}
    return RunHeader(
        name=place.study.name,
        file=place.study.text,
        command=command,
        objectives=place.study.objectives,
        budget=limits | place.limits_ms,
        patch_size=size or (),
        spatial_dims=task.spatial_dims,
        in_channels=task.in_channels,
        class_names=task.class_names,
        data=place.evaluator.summary,
        sampler={
            **place.sampler_made.record,
            "tournament": place.study.sections.tournament,
            "redraws": place.study.search.redraws,
            "uniform_draws": place.study.search.uniform_draws,
        },
        pruner=place.pruner_made.record if place.prunes else {},
        seed=place.order.seed,
        workers=place.order.workers,
        device=place.evaluator.device_name,
        versions={"python": platform.python_version(), **_versions()},
        conventions=CONVENTIONS,
        space=space,
        started=now(),
        trials_wanted=place.order.wanted,
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def importances(
    study: OptunaStudy, objectives: Sequence[ObjectiveSpec]
) -> dict[str, dict[str, float]]:
    """Returns by objective how much each parameter mattered, by PED-ANOVA; shares of one.

    Source: Watanabe et al., arXiv:2304.10255. Too few trials, or values that are all equal, give
    none; that never fails a run.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < _LEAST_TRIALS:
        return {}
    found = {}
    for index, spec in enumerate(objectives):
        # PED-ANOVA asks what sets the lowest targets apart
        sign = -1.0 if spec.direction == "maximize" else 1.0

        def target(trial: FrozenTrial, index: int = index, sign: float = sign) -> float:
            return sign * float(trial.values[index])

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shares = optuna.importance.get_param_importances(study, target=target)
        except (ValueError, RuntimeError, ArithmeticError):
            continue
        found[spec.name] = {name: float(share) for name, share in shares.items()}
    return found

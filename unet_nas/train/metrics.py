"""Accuracy of predicted labels against the truth, case by case.

A case is scored on label maps: class indices ``(*spatial)``, or ``(labels, *spatial)`` of 0 and 1
where labels overlap. Both are looked at one class at a time (`unet_nas.train.pairs`). The rules
are in `unet_nas.train.metric_names.CONVENTION`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from unet_nas.audit.memory import Device, Precision
from unet_nas.train.config import TrainConfig
from unet_nas.train.infer import Predictor, evaluating
from unet_nas.train.metric_names import base_name, check_metrics
from unet_nas.train.pairs import Pair, border_dice, event_f1, hd95, overlap, surface_dice

if TYPE_CHECKING:
    from unet_nas.train.data.cases import Case, Task

__all__ = ["Labels", "Tolerances", "labels_of", "mean_scores", "score", "score_case"]

Labels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far apart two things may be that count as equal, in the unit of the spacing.

    Attributes:
        surface: For ``surface_dice``; None: one position of the coarsest axis.
        event: For ``event_f1``; None: ten positions.
    """

    surface: float | None = None
    event: float | None = None

    @classmethod
    def of(cls, config: TrainConfig) -> Tolerances:
        """Returns those of a section ``train``."""
        return cls(config.surface_tolerance, config.event_tolerance)


def score(
    module: nn.Module,
    cases: Sequence[Case],
    task: Task,
    *,
    patch_size: Sequence[int],
    metrics: Sequence[str] = (),
    tolerances: Tolerances | None = None,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> dict[str, float]:
    """Returns the mean scores of a network on cases, at their original geometry.

    ``dice``, ``iou`` and those of each class are always there, where any case defines them.

    Args:
        module: The network, on its device.
        cases: What is segmented.
        task: What the classes are.
        patch_size: Size of a tile where an image does not go through whole.
        metrics: Others of `metric_names.ACCURACY`.
        tolerances: Of ``surface_dice`` and ``event_f1``.
        device: ``cpu`` or ``cuda``.
        precision: Of the forward pass.

    Raises:
        InputError: if there is no such metric, or it does not fit the data.
    """
    check_metrics(metrics, task)
    found = []
    with evaluating(module):
        predictor = Predictor(module, patch_size=patch_size, device=device, precision=precision)
        for case in cases:
            logits = predictor(torch.from_numpy(case.image))
            truth, prediction, spacing = compared(case, logits, task)
            found.append(
                score_case(
                    truth,
                    prediction,
                    task,
                    spacing=spacing,
                    metrics=metrics,
                    tolerances=tolerances,
                )
            )
    return mean_scores(found)


def compared(case: Case, logits: Tensor, task: Task) -> tuple[Labels, Labels, tuple[float, ...]]:
    """Returns truth, predicted labels and spacing of a case at its original geometry."""
    if case.restore is None or case.truth is None:
        return case.target, labels_of(logits, task), case.spacing
    restored = torch.from_numpy(case.restore.restore(probabilities(logits, task).cpu().numpy()))
    found, truth, spacing = _labels(restored, task, 0.5), case.truth, case.restore.spacing
    # axes of length one, which a flat image of a volume's format has, are no surface or border
    flat = [a for a, n in enumerate(restored.shape[1:]) if n == 1 and task.spatial_dims < 3]
    lead = truth.ndim - len(spacing)
    thin = tuple(lead + axis for axis in flat)
    kept = tuple(step for axis, step in enumerate(spacing) if axis not in flat)
    return truth.squeeze(thin), found.squeeze(thin), kept


def probabilities(logits: Tensor, task: Task) -> Tensor:
    """Returns the probabilities ``(classes, *spatial)`` that logits stand for."""
    return logits.sigmoid() if task.multi_label else logits.softmax(dim=0)


def labels_of(logits: Tensor, task: Task) -> Labels:
    """Returns class indices ``(*spatial)``, or labels ``(labels, *spatial)`` where they overlap."""
    return _labels(logits, task, 0.0)


def _labels(scores: Tensor, task: Task, threshold: float) -> Labels:
    chosen = scores > threshold if task.multi_label else scores.argmax(dim=0)
    found: Labels = chosen.to(torch.uint8).cpu().numpy()
    return found


def mean_scores(cases: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the mean of each score over the cases that define it.

    >>> mean_scores([{"dice": 0.5}, {}, {"dice": 1.0, "dice[a]": 1.0}])
    {'dice': 0.75, 'dice[a]': 1.0}
    """
    names = dict.fromkeys(name for case in cases for name in case)
    return {name: fmean(case[name] for case in cases if name in case) for name in names}


def score_case(
    truth: Labels,
    prediction: Labels,
    task: Task,
    *,
    spacing: Sequence[float],
    metrics: Sequence[str] = (),
    tolerances: Tolerances | None = None,
) -> dict[str, float]:
    """Returns the scores of one case: the mean of its classes and each class, where defined."""
    wanted = {base_name(name) for name in metrics}
    tolerances = tolerances or Tolerances()
    found: dict[str, dict[str, float]] = {"dice": {}, "iou": {}}
    for pair in pairs(truth, prediction, task):
        if pair.absent:
            continue
        both, either = overlap(pair)
        found["dice"][pair.name] = 2 * both / (both + either)
        found["iou"][pair.name] = both / either
        for name, value in _others(pair, wanted, spacing, tolerances):
            found.setdefault(name, {})[pair.name] = value
    scores = {name: fmean(values.values()) for name, values in found.items() if values}
    for name in ("dice", "iou", "hd95", "surface_dice", "event_f1"):
        scores |= {f"{name}[{label}]": value for label, value in found.get(name, {}).items()}
    return scores


def pairs(truth: Labels, prediction: Labels, task: Task) -> Iterator[Pair]:
    """Yields every foreground class of a case."""
    ignored = task.ignore_label
    for index, name in enumerate(task.class_names):
        if task.multi_label:
            known, wanted, chosen = truth[index], truth[index] == 1, prediction[index] == 1
        elif index == 0:
            continue
        else:
            known, wanted, chosen = truth, truth == index, prediction == index
        if ignored is None:
            yield Pair(name, wanted, chosen, np.ones(known.shape, bool))
        else:
            counted = known != ignored
            yield Pair(name, wanted & counted, chosen & counted, counted)


def _others(
    pair: Pair, wanted: set[str], spacing: Sequence[float], tolerances: Tolerances
) -> Iterator[tuple[str, float]]:
    """Yields the scores of a class that were asked for besides Dice and IoU."""
    if "hd95" in wanted:
        yield "hd95", hd95(pair, spacing)
    if "surface_dice" in wanted:
        largest = max(spacing)
        tolerance = largest if tolerances.surface is None else tolerances.surface
        yield "surface_dice", surface_dice(pair, spacing, tolerance)
    if "event_f1" in wanted:
        reach = 10.0 if tolerances.event is None else tolerances.event / spacing[0]
        value = event_f1(pair, reach)
        if value is not None:
            yield "event_f1", value
    if "border_dice" in wanted:
        yield from border_dice(pair)

"""Accuracy of predicted labels against the truth, case by case.

A case is scored on label maps: class indices ``(*spatial)``, or ``(labels, *spatial)`` of 0 and 1
where labels overlap. Both are looked at one class at a time, as a pair of masks, with the ignored
positions taken out. The rules are in `unet_nas.train.metric_names.CONVENTION`.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from unet_nas.audit.memory import Device, Precision
from unet_nas.errors import InputError
from unet_nas.train.infer import Predictor, evaluating
from unet_nas.train.metric_names import BANDS, accuracy, base_name

if TYPE_CHECKING:
    from unet_nas.train.data.cases import Case, Task

__all__ = ["Labels", "Pair", "Tolerances", "labels_of", "mean_scores", "score", "score_case"]

Array: TypeAlias = np.ndarray[Any, Any]
Labels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

#: positions less than so many away from the border of the image count for ``border_dice``
_BORDER = 16


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far apart two things may be that count as equal, in the unit of the spacing.

    Attributes:
        surface: For ``surface_dice``; None: one position of the coarsest axis.
        event: For ``event_f1``; None: ten positions.
    """

    surface: float | None = None
    event: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """One class of one case as masks ``(*spatial)``, with ignored positions False in both."""

    name: str
    truth: Array
    prediction: Array
    counted: Array

    @property
    def absent(self) -> bool:
        """Neither the truth nor the prediction has it."""
        return not (self.truth.any() or self.prediction.any())


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


def check_metrics(names: Sequence[str], task: Task) -> None:
    """Raises InputError for a metric that does not exist or does not fit the data."""
    for name in names:
        accuracy(name)
        if base_name(name) == "event_f1" and task.spatial_dims != 1:
            raise InputError(
                f"event_f1 is for data of one dimension, and these have {task.spatial_dims}; "
                "use surface_dice or hd95"
            )
        if base_name(name) in {"hd95", "surface_dice"} and task.spatial_dims == 1:
            raise InputError(f"{name} needs data of two or three dimensions; use event_f1")


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
        both, either = _overlap(pair)
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


def _overlap(pair: Pair) -> tuple[int, int]:
    """Returns how many positions both masks have, and how many either has."""
    both = int(np.count_nonzero(pair.truth & pair.prediction))
    return both, int(np.count_nonzero(pair.truth | pair.prediction))


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


# --- surfaces (MONAI is imported only here: it takes three seconds) -------------------------


def hd95(pair: Pair, spacing: Sequence[float]) -> float:
    """Returns the 95th percentile of the distances between the surfaces of two masks.

    Where one of them is empty, it is the diagonal of the image.
    """
    if not (pair.truth.any() and pair.prediction.any()):
        extents = (n * step for n, step in zip(pair.truth.shape, spacing, strict=True))
        return math.hypot(*extents)
    with _monai_warns_of_itself():
        from monai.metrics.hausdorff_distance import compute_hausdorff_distance  # noqa: PLC0415

        prediction, truth = _for_monai(pair)
        distance = compute_hausdorff_distance(
            prediction, truth, include_background=True, percentile=95, spacing=list(spacing)
        )
    return float(distance.item())


def surface_dice(pair: Pair, spacing: Sequence[float], tolerance: float) -> float:
    """Returns the share of both surfaces that lies within ``tolerance`` of the other.

    Source: Nikolov et al., arXiv:1809.04430.
    """
    if not (pair.truth.any() and pair.prediction.any()):
        return 0.0
    with _monai_warns_of_itself():
        from monai.metrics.surface_dice import compute_surface_dice  # noqa: PLC0415

        prediction, truth = _for_monai(pair)
        share = compute_surface_dice(
            prediction, truth, [tolerance], include_background=True, spacing=list(spacing)
        )
    return float(share.item())


@contextlib.contextmanager
def _monai_warns_of_itself() -> Iterator[None]:
    """Hides that MONAI calls functions that it has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def _for_monai(pair: Pair) -> tuple[Tensor, Tensor]:
    """Returns both masks as ``(1, 1, *spatial)``."""
    return torch.from_numpy(pair.prediction)[None, None], torch.from_numpy(pair.truth)[None, None]


# --- events -------------------------------------------------------------------------------


def event_f1(pair: Pair, reach: float) -> float | None:
    """Returns the F1 of onsets and offsets that agree within ``reach`` positions.

    None where neither truth nor prediction has an onset or offset within the record.
    """
    right = wanted = given = 0
    for kind in (1, -1):
        truth, prediction = _changes(pair.truth, pair, kind), _changes(pair.prediction, pair, kind)
        right += matches(truth, prediction, reach)
        wanted += len(truth)
        given += len(prediction)
    return 2 * right / (wanted + given) if wanted + given else None


def _changes(mask: Array, pair: Pair, kind: int) -> list[int]:
    """Returns where a mask begins (1) or has ended (-1), between two positions that count."""
    steps = np.diff(mask.astype(np.int8))
    inside = pair.counted[1:] & pair.counted[:-1]
    return [int(i) for i in np.flatnonzero((steps == kind) & inside)]


def matches(truth: Sequence[int], prediction: Sequence[int], reach: float) -> int:
    """Returns how many points of two ascending lists pair up within ``reach``, each used once.

    >>> matches([10, 20], [11, 12, 40], 2)
    1
    """
    found = i = j = 0
    while i < len(truth) and j < len(prediction):
        if abs(truth[i] - prediction[j]) <= reach:
            found, i, j = found + 1, i + 1, j + 1
        elif truth[i] < prediction[j]:
            i += 1
        else:
            j += 1
    return found


# --- the border of the image --------------------------------------------------------------


def border_dice(pair: Pair) -> Iterator[tuple[str, float]]:
    """Yields Dice near the border, and in each band of distance, where the class occurs."""
    distance = border_distance(pair.truth.shape)
    near = [("border_dice", distance < _BORDER)]
    near += [(_band_name(*band), _band(distance, *band)) for band in BANDS]
    for name, inside in near:
        size = int(np.count_nonzero(pair.truth & inside))
        size += int(np.count_nonzero(pair.prediction & inside))
        if size:
            both = int(np.count_nonzero(pair.truth & pair.prediction & inside))
            yield name, 2 * both / size


def border_distance(shape: Sequence[int]) -> Array:
    """Returns how many positions lie between each position and the border of the image.

    >>> border_distance((3, 4)).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    axes = [np.minimum(np.arange(n), np.arange(n)[::-1]) for n in shape]
    distance: Array = np.minimum.reduce(np.broadcast_arrays(*np.ix_(*axes)))
    return distance


def _band(distance: Array, low: int, high: int | None) -> Array:
    inside: Array = distance >= low
    return inside if high is None else inside & (distance < high)


def _band_name(low: int, high: int | None) -> str:
    return f"border_dice[{low}+]" if high is None else f"border_dice[{low}-{high - 1}]"

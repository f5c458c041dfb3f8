"""A few cases with their prediction, for people to look at (``examples.npz`` of a record)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from unet_nas.audit.memory import Device, Precision
from unet_nas.train.infer import Predictor, evaluating
from unet_nas.train.metrics import labels_of

if TYPE_CHECKING:
    from unet_nas.train.data.cases import Case, Task

__all__ = ["examples"]

Array = np.ndarray[Any, Any]


def examples(
    module: nn.Module,
    cases: Sequence[Case],
    task: Task,
    *,
    patch_size: Sequence[int],
    count: int = 4,
    device: Device = "cpu",
    precision: Precision = "fp32",
) -> dict[str, Array]:
    """Returns the arrays of ``examples.npz`` as `unet_nas.records.study` documents them.

    The cases are taken evenly over the list, so that equal data give the same ones. Volumes are
    cut in the plane that is sampled most finely, where the truth has most foreground.

    Args:
        module: The network, on its device.
        cases: To choose from.
        task: What the classes are.
        patch_size: Size of a tile where an image does not go through whole.
        count: At most so many.
        device: ``cpu`` or ``cuda``.
        precision: Of the forward pass.

    Returns:
        ``image_i`` (channels, *spatial) float32, ``truth_i`` and ``prediction_i`` uint8, and
        ``spacing_i`` (axes,) float32, for ``i`` from 0.
    """
    number = min(count, len(cases))
    chosen = [cases[i * len(cases) // number] for i in range(number)]
    found: dict[str, Array] = {}
    with evaluating(module):
        predictor = Predictor(module, patch_size=patch_size, device=device, precision=precision)
        for index, case in enumerate(chosen):
            prediction = labels_of(predictor(torch.from_numpy(case.image)), task)
            image, truth, spacing = case.image, case.target, case.spacing
            if task.spatial_dims == 3:
                across = coarsest(spacing, depth_last=task.unit == "mm")
                at = fullest(truth, across)
                image, truth, prediction = (
                    np.moveaxis(array, across - 3, 0)[at] for array in (image, truth, prediction)
                )
                spacing = spacing[:across] + spacing[across + 1 :]
            found[f"image_{index}"] = image.astype(np.float32)
            found[f"truth_{index}"] = truth
            found[f"prediction_{index}"] = prediction
            found[f"spacing_{index}"] = np.asarray(spacing, np.float32)
    return found


def coarsest(spacing: Sequence[float], *, depth_last: bool) -> int:
    """Returns the axis with the largest spacing; of equal ones that of depth.

    Depth is the first axis of a stack of images, and the last one of scans in mm (NIfTI's z).

    >>> coarsest((0.7, 0.7, 3.0), depth_last=False), coarsest((1.0, 1.0, 1.0), depth_last=True)
    (2, 2)
    >>> coarsest((1.0, 1.0, 1.0), depth_last=False)
    0
    """
    order = range(len(spacing))
    return max(reversed(order) if depth_last else order, key=lambda axis: spacing[axis])


def fullest(truth: Array, across: int) -> int:
    """Returns where along an axis of the volume the foreground is largest.

    >>> fullest(np.array([[[0, 0]], [[1, 255]], [[1, 2]]], np.uint8), 0)
    2
    """
    foreground = (truth > 0) & (truth < 255)
    kept = truth.ndim - 3 + across
    axes = tuple(axis for axis in range(truth.ndim) if axis != kept)
    return int(foreground.sum(axis=axes).argmax())

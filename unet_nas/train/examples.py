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
    cut to the slice with most foreground in the truth.

    Args:
        module: The network, on its device.
        cases: To choose from.
        task: What the classes are.
        patch_size: Size of a tile where an image does not go through whole.
        count: At most so many.
        device: ``cpu`` or ``cuda``.
        precision: Of the forward pass.

    Returns:
        ``image_i`` (channels, *spatial) float32, ``truth_i`` and ``prediction_i`` uint8 for
        ``i`` from 0.
    """
    number = min(count, len(cases))
    chosen = [cases[i * len(cases) // number] for i in range(number)]
    found: dict[str, Array] = {}
    with evaluating(module):
        predictor = Predictor(module, patch_size=patch_size, device=device, precision=precision)
        for index, case in enumerate(chosen):
            prediction = labels_of(predictor(torch.from_numpy(case.image)), task)
            image, truth = case.image, case.target
            if task.spatial_dims == 3:
                plane = fullest(truth)
                image, truth = image[:, plane], truth[..., plane, :, :]
                prediction = prediction[..., plane, :, :]
            found[f"image_{index}"] = image.astype(np.float32)
            found[f"truth_{index}"] = truth
            found[f"prediction_{index}"] = prediction
    return found


def fullest(truth: Array) -> int:
    """Returns the slice along the third axis from the end that has most foreground.

    >>> fullest(np.array([[[0, 0]], [[1, 255]], [[1, 2]]], np.uint8))
    2
    """
    foreground = (truth > 0) & (truth < 255)
    axes = tuple(axis for axis in range(truth.ndim) if axis != truth.ndim - 3)
    return int(foreground.sum(axis=axes).argmax())

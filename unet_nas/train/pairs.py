"""One class of one case as a pair of masks, and every measure of how well they agree."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from unet_nas.train.metric_names import BANDS, band_name

__all__ = ["Pair", "border_dice", "event_f1", "hd95", "overlap", "surface_dice"]

Array: TypeAlias = np.ndarray[Any, Any]

#: positions less than so many away from the border of the image count for ``border_dice``
_BORDER = 16


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


def overlap(pair: Pair) -> tuple[int, int]:
    """Returns how many positions both masks have, and how many either has."""
    both = int(np.count_nonzero(pair.truth & pair.prediction))
    return both, int(np.count_nonzero(pair.truth | pair.prediction))


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
    near += [(band_name(*band), _band(distance, *band)) for band in BANDS]
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

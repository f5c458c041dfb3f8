"""The accuracy metrics by name, and the rules by which they count (imports no torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from unet_nas.errors import InputError
from unet_nas.records.study import Direction

if TYPE_CHECKING:
    from unet_nas.train.data.cases import Task

__all__ = [
    "ACCURACY",
    "BANDS",
    "CONVENTION",
    "Accuracy",
    "accuracy",
    "band_name",
    "base_name",
    "check_metrics",
]


class Accuracy(NamedTuple):
    """What a metric is.

    Attributes:
        direction: Whether more or less of it is better.
        unit: ``""`` for shares.
        meaning: In one line.
    """

    direction: Direction
    unit: str
    meaning: str


ACCURACY: Mapping[str, Accuracy] = {
    "dice": Accuracy("maximize", "", "mean foreground Dice per case"),
    "iou": Accuracy("maximize", "", "mean foreground intersection over union per case"),
    "hd95": Accuracy(
        "minimize", "mm", "95th percentile of the distances between surfaces (Hausdorff)"
    ),
    "surface_dice": Accuracy(
        "maximize", "", "share of the surfaces that lie within a tolerance of each other"
    ),
    "event_f1": Accuracy(
        "maximize", "", "F1 of onsets and offsets within a tolerance (one dimension)"
    ),
    "border_dice": Accuracy(
        "maximize", "", "Dice of the positions less than 16 away from the border of the image"
    ),
}
"""The metrics of whole cases; ``dice[NAME]`` is that of one class, and so on."""

BANDS: tuple[tuple[int, int | None], ...] = ((0, 8), (8, 16), (16, 32), (32, 64), (64, None))
"""Distances to the border of the image, from (included) and to (excluded), in positions."""

CONVENTION: Mapping[str, str] = {
    "dice": (
        "Mean over the cases of the mean over the foreground classes of 2|A∩B| / (|A| + |B|). A "
        "class absent from both truth and prediction of a case is left out of that case, and a "
        "case without any class is left out; a class that only one of them has scores 0. "
        "Ignored positions count nowhere. Data that were resampled are scored at their original "
        "geometry."
    ),
    "hd95": (
        "In the unit of the spacing. Classes are left out as for Dice; where only truth or only "
        "prediction has the class, the distance is the diagonal of the image."
    ),
    "surface_dice": "Classes are left out as for Dice; only one of them having it scores 0.",
    "event_f1": (
        "Onsets and offsets of runs of one class; a predicted point is right if a true one of "
        "its class and kind, matched once, lies within the tolerance. Boundaries to ignored "
        "positions and to the ends of the record are no events."
    ),
}
"""What the numbers mean, for records and reports."""


def base_name(name: str) -> str:
    """Returns the metric that a name is of.

    >>> base_name("dice[nucleus]")
    'dice'
    """
    return name.partition("[")[0]


def accuracy(name: str) -> Accuracy:
    """Returns what a metric is, also that of one class or band.

    Raises:
        InputError: if there is no such metric.

    >>> accuracy("hd95[nucleus]").direction
    'minimize'
    """
    base = base_name(name)
    if base not in ACCURACY:
        raise InputError(f"there is no accuracy metric {name!r}; there are {', '.join(ACCURACY)}")
    return ACCURACY[base]


def band_name(low: int, high: int | None) -> str:
    """Returns the metric of a band of distances to the border.

    >>> band_name(0, 8), band_name(64, None)
    ('border_dice[0-7]', 'border_dice[64+]')
    """
    return f"border_dice[{low}+]" if high is None else f"border_dice[{low}-{high - 1}]"


def check_metrics(names: Sequence[str], task: Task) -> None:
    """Refuses metrics that do not exist, do not fit the data, or name no class of theirs.

    Args:
        names: of metrics, as ``dice`` and ``dice[nucleus]``.
        task: what the classes are.

    Raises:
        InputError: if one of them is such.
    """
    for name in names:
        accuracy(name)
        if base_name(name) == "event_f1" and task.spatial_dims != 1:
            raise InputError(
                f"event_f1 is for data of one dimension, and these have {task.spatial_dims}; "
                "use surface_dice or hd95"
            )
        if base_name(name) in {"hd95", "surface_dice"} and task.spatial_dims == 1:
            raise InputError(f"{name} needs data of two or three dimensions; use event_f1")
        known = _known(base_name(name), task)
        if name not in known:
            raise InputError(f"{name!r} cannot be scored on these data: use {' or '.join(known)}")


def _known(base: str, task: Task) -> list[str]:
    """Returns the metric as a mean and of its parts: the foreground classes, or the bands."""
    classes = task.class_names if task.multi_label else task.class_names[1:]
    bands = tuple(band_name(*band) for band in BANDS)
    return [base, *(bands if base == "border_dice" else (f"{base}[{name}]" for name in classes))]

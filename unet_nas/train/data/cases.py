"""What is trained on: the task that data pose, and their cases, as numpy arrays in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from unet_nas.train.data.geometry import Geometry
    from unet_nas.train.data.preprocessing import Preprocessing

__all__ = ["IGNORE", "Array", "Case", "Dataset", "Part", "Task", "Unit", "contents"]

Array: TypeAlias = NDArray[Any]
Unit: TypeAlias = Literal["px", "mm", "samples"]
Part: TypeAlias = Literal["train", "validation", "test"]

IGNORE = 255
"""Marks positions without annotation in every target, whatever marks them in the files."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the data ask of a network.

    Attributes:
        spatial_dims: 1 for signals, 2 for images, 3 for volumes.
        in_channels: Channels of the images.
        class_names: Background first; where labels overlap, all labels and no background.
        multi_label: Labels may overlap: each has a channel and a sigmoid of its own.
        ignore_label: `IGNORE` where targets have positions that are not annotated, else None.
        unit: Of the spacing: ``px``, ``mm`` or ``samples``.

    >>> Task(2, 1, ("background", "nucleus")).classes
    2
    """

    spatial_dims: int
    in_channels: int
    class_names: tuple[str, ...]
    multi_label: bool = False
    ignore_label: int | None = None
    unit: Unit = "px"

    @property
    def classes(self) -> int:
        """Output channels of the network."""
        return len(self.class_names)


@dataclass(frozen=True, slots=True)
class Case:
    """One image with its truth.

    Attributes:
        name: As the file is called, without its ending.
        group: What must stay in one part of a split: a volume, a subject.
        image: (channels, *spatial) float32, normalised, at the geometry of training.
        target: (*spatial) uint8 class indices, or (labels, *spatial) of 0 and 1 where labels
            overlap; `IGNORE` where nothing is annotated.
        spacing: Distance of neighbouring positions per axis, in `Task.unit`.
        restore: Brings scores and predictions back to the geometry of the file; None where
            training has that geometry.
        truth: The target at the geometry of the file; None where training has that geometry.
    """

    name: str
    group: str
    image: NDArray[np.float32]
    target: NDArray[np.uint8]
    spacing: tuple[float, ...]
    restore: Geometry | None = None
    truth: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """All cases of a run, in memory.

    Attributes:
        task: What they ask of a network.
        train: Cases to learn from.
        validation: Cases that selection sees.
        test: Cases that no selection sees; may be empty.
        summary: Plain data for the header of a run: source, counts, seed, spacing, shares.
        notes: Sentences for people.
        preprocessing: What prediction has to do to other images; None for data made in Python.
    """

    task: Task
    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    def parts(self) -> dict[Part, tuple[Case, ...]]:
        """Returns the cases by part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def with_notes(self, notes: Sequence[str]) -> Dataset:
        """Returns the data set with more sentences for people, also in its summary."""
        told = (*self.notes, *notes)
        return replace(self, notes=told, summary={**self.summary, "notes": list(told)})


def contents(cases: Sequence[Case]) -> str:
    """Returns what tells other contents of the same cases: of targets all, of images the level.

    Images are numbers of a resampling and a normalisation, whose last digits differ between
    machines; so of these a few digits must do.
    """
    known = blake2b(digest_size=8)
    for case in cases:
        known.update(repr((case.name, case.image.shape, case.target.shape)).encode())
        known.update(case.target.tobytes())
    level = np.mean([np.abs(case.image).mean(dtype=np.float64) for case in cases] or [0.0])
    return f"{known.hexdigest()} {level:.3g}"

"""What is done to every image before a network sees it, in training and in prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from unet_nas.errors import InputError
from unet_nas.train.data.cases import Array, Task, Unit
from unet_nas.train.data.geometry import new_shape, resample_image, same_spacing
from unet_nas.train.data.raw import RawCase

__all__ = ["Normalise", "Preprocessing", "Statistics"]

Normalise: TypeAlias = Literal["image", "dataset", "scale", "none"]

#: a constant channel is centred and not blown up
_LEAST_DEVIATION = 1e-6
#: values of each image that enter the statistics of a data set
_MOST_VALUES = 50_000


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """All that prediction needs to treat other images as the training cases were treated.

    Attributes:
        spatial_dims: 1, 2 or 3.
        in_channels: That the network sees.
        class_names: As in `Task`.
        multi_label: As in `Task`.
        ignore_label: As in `Task`.
        unit: Of the spacing.
        channels: Of the file that are used; None: all.
        normalise: As in the section ``data``.
        clip: Percentiles, or None.
        means: Of each channel over the training cases, for ``dataset``.
        deviations: The same.
        limits: Lowest and highest value of each channel that clipping leaves, for ``dataset``.
        nodata: Image value without information: a number or ``nan``.
        spacing: That volumes are resampled to; None: not at all.
        mask_values: How each class is stored in files.
        pages: What the pages of a file are.
        channel_axis: Where arrays have channels; None: at their shorter end.
        array: Name of the array of images in ``.npz`` files.
        layout: ``nnunet``: files NAME_0000, NAME_0001, … are the channels of one image.
    """

    spatial_dims: int
    in_channels: int
    class_names: tuple[str, ...]
    multi_label: bool = False
    ignore_label: int | None = None
    unit: Unit = "px"
    channels: tuple[int, ...] | None = None
    normalise: Normalise = "image"
    clip: tuple[float, float] | None = None
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    limits: tuple[tuple[float, float], ...] = ()
    nodata: float | str | None = None
    spacing: tuple[float, ...] | None = None
    mask_values: tuple[int | tuple[int, int, int], ...] = ()
    pages: Literal["channels", "volume", "slices"] | None = None
    channel_axis: Literal["first", "last"] | None = None
    array: str = "x"
    layout: Literal["files", "nnunet"] = "files"

    @property
    def task(self) -> Task:
        """What a network that was trained so does."""
        return Task(
            self.spatial_dims,
            self.in_channels,
            self.class_names,
            self.multi_label,
            self.ignore_label,
            self.unit,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns plain data.

        >>> made = Preprocessing(2, 1, ("background", "cell"), clip=(1.0, 99.0))
        >>> Preprocessing.from_json(made.to_json()) == made
        True
        """
        found: dict[str, Any] = TypeAdapter(Preprocessing).dump_python(self, mode="json")
        return found

    @staticmethod
    def from_json(data: dict[str, Any]) -> Preprocessing:
        """Returns what `to_json` wrote.

        Raises:
            InputError: if it is not that.
        """
        try:
            return TypeAdapter(Preprocessing).validate_python(data)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"]))
            raise InputError(f"preprocessing is damaged: {field}: {problem['msg']}") from error

    def image(self, raw: RawCase) -> NDArray[np.float32]:
        """Returns (channels, *spatial) as the network wants it: normalised, then resampled."""
        normalised = self._normalised(raw)
        if self.spacing is None or same_spacing(raw.spacing, self.spacing):
            return np.ascontiguousarray(normalised)
        return resample_image(normalised, self.shape(raw))

    def shape(self, raw: RawCase) -> tuple[int, ...]:
        """Returns the spatial shape of a case in training."""
        shape = raw.image.shape[1:]
        if self.spacing is None or same_spacing(raw.spacing, self.spacing):
            return shape
        return new_shape(shape, raw.spacing, self.spacing)

    def _normalised(self, raw: RawCase) -> NDArray[np.float32]:
        image = raw.image.astype(np.float32)
        for index, channel in enumerate(image):
            known = channel if raw.valid is None else channel[raw.valid]
            if known.size == 0:
                channel[...] = 0
                continue
            self._normalise(index, channel, known, raw.image.dtype)
            if raw.valid is not None:
                channel[~raw.valid] = channel[raw.valid].mean()
        return image

    def _normalise(self, index: int, channel: Array, known: Array, kind: np.dtype[Any]) -> None:
        """Changes one channel in place; statistics are those of ``known``, or of all cases."""
        if self.clip is not None:
            low, high = self.limits[index] if self.limits else np.percentile(known, self.clip)
            np.clip(channel, low, high, out=channel)
            known = np.clip(known, low, high)
        if self.normalise == "image":
            channel -= known.mean(dtype=np.float64)
            channel /= max(float(known.std(dtype=np.float64)), _LEAST_DEVIATION)
        elif self.normalise == "dataset":
            channel -= self.means[index]
            channel /= max(self.deviations[index], _LEAST_DEVIATION)
        elif self.normalise == "scale" and kind.kind in "iu":
            channel /= np.iinfo(kind).max

    def with_statistics(self, statistics: Statistics) -> Preprocessing:
        """Returns the same with the means, deviations and limits of the training cases."""
        return replace(
            self,
            means=statistics.means,
            deviations=statistics.deviations,
            limits=statistics.limits if self.clip else (),
        )


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and deviation of each channel over the training cases, after clipping."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]
    limits: tuple[tuple[float, float], ...]

    @staticmethod
    def of(cases: Sequence[RawCase], clip: tuple[float, float] | None) -> Statistics:
        """Takes evenly spaced values of each image; all of them where there are few.

        >>> case = RawCase(np.array([[0.0, 2.0]]), None, (1.0,))
        >>> Statistics.of([case], None).means
        (1.0,)
        """
        found = [_of_channel(cases, index, clip) for index in range(len(cases[0].image))]
        means, deviations, limits = zip(*found, strict=True)
        return Statistics(means, deviations, limits)


def _of_channel(
    cases: Sequence[RawCase], index: int, clip: tuple[float, float] | None
) -> tuple[float, float, tuple[float, float]]:
    values = np.concatenate([_some_values(case, index) for case in cases]).astype(np.float64)
    low, high = np.percentile(values, clip or (0, 100))
    values = np.clip(values, low, high)
    return float(values.mean()), float(values.std()), (float(low), float(high))


def _some_values(case: RawCase, index: int) -> Array:
    channel = case.image[index]
    known: Array = channel.ravel() if case.valid is None else channel[case.valid]
    return known[:: max(1, known.size // _MOST_VALUES)]

"""Where the positions of an image lie: orientation, spacing, and the way back to the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_nas.train.data.cases import Array

__all__ = [
    "Geometry",
    "new_shape",
    "resample_image",
    "resample_target",
    "same_place",
    "same_spacing",
]

_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Geometry:
    """The geometry of a file, and how training's differs from it.

    Training sees the axes in the order ``axes``, reversed where ``flips`` says so, without the
    axes of length one that a flat image has, and resampled.

    Attributes:
        shape: Of the file.
        axes: The axis of the file that each oriented axis comes from.
        flips: Whether an oriented axis runs against that of the file.
        spacing: Of the file, axis by axis.
        dims: How many of the oriented axes training sees; the others, of length one, are last.
        affine: From voxel to world coordinates, row by row; empty where the file has none.

    >>> geometry = Geometry((4, 6), (1, 0), (True, False), (1.0, 1.0), 2)
    >>> image = np.arange(24).reshape(4, 6)
    >>> geometry.orient(image).shape
    (6, 4)
    >>> bool((geometry.restore(geometry.orient(image)[None])[0] == image).all())
    True
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    spacing: tuple[float, ...]
    dims: int
    affine: tuple[tuple[float, ...], ...] = ()

    @property
    def oriented_shape(self) -> tuple[int, ...]:
        """The shape with axes in training's order, those of length one among them."""
        return tuple(self.shape[axis] for axis in self.axes)

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """The oriented shape without the axes that training does not see."""
        return self.oriented_shape[: self.dims]

    @property
    def kept_spacing(self) -> tuple[float, ...]:
        """The spacing of those axes."""
        return tuple(self.spacing[axis] for axis in self.axes[: self.dims])

    @property
    def moves(self) -> bool:
        """Whether orienting changes anything."""
        straight = tuple(range(len(self.shape)))
        return self.axes != straight or any(self.flips) or self.kept_shape != self.shape

    def orient(self, array: Array) -> Array:
        """Returns an array of the file's shape with training's axes; shape (..., *spatial)."""
        lead = array.ndim - len(self.shape)
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        turned = np.flip(turned, self._flipped(lead))
        return turned.reshape(*array.shape[:lead], *self.kept_shape)

    def restore(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns scores at the geometry of the file.

        Args:
            scores: (classes, *spatial) at the geometry of training; interpolated linearly.

        Returns:
            (classes, *shape) of the file.
        """
        return self.unorient(resample_image(scores, self.kept_shape))

    def unorient(self, array: Array) -> Array:
        """Undoes `orient`: from (..., *kept_shape) to (..., *shape)."""
        lead = array.ndim - self.dims
        turned = array.reshape(*array.shape[:lead], *self.oriented_shape)
        turned = np.flip(turned, self._flipped(lead))
        back = np.argsort(self.axes)
        order = (*range(lead), *(lead + int(axis) for axis in back))
        return np.ascontiguousarray(turned.transpose(order))

    def _flipped(self, lead: int) -> tuple[int, ...]:
        return tuple(lead + axis for axis, flip in enumerate(self.flips) if flip)


def same_place(one: Geometry | None, other: Geometry | None) -> bool:
    """Tells whether two files lie at the same place of the world, as far as both say where."""
    if one is None or other is None or not one.affine or not other.affine:
        return True
    return bool(np.allclose(one.affine, other.affine, atol=_TOLERANCE))


def same_spacing(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tells whether two spacings are equal for all that an image can show."""
    return all(abs(a / b - 1) < _TOLERANCE for a, b in zip(one, other, strict=True))


def new_shape(
    shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]
) -> tuple[int, ...]:
    """Returns the shape that covers the same extent at another spacing.

    >>> new_shape((100, 40), (0.5, 3.0), (1.0, 1.5))
    (50, 80)
    """
    sides = zip(shape, spacing, wanted, strict=True)
    return tuple(max(1, round(n * old / new)) for n, old, new in sides)


def resample_image(image: Array, shape: Sequence[int]) -> NDArray[np.float32]:
    """Returns (channels, *spatial) at another shape over the same extent, linearly."""
    if image.shape[1:] == tuple(shape):
        return image
    return np.stack([_zoom(channel, shape, order=1) for channel in image])


def resample_target(
    target: NDArray[np.uint8], shape: Sequence[int], *, linear: bool, multi_label: bool
) -> NDArray[np.uint8]:
    """Returns a target at another shape.

    Args:
        target: (*spatial) class indices, or (labels, *spatial) of 0 and 1; may have `IGNORE`.
        shape: Wanted.
        linear: Interpolate each class by itself and take the largest, which gives smoother
            borders than the nearest neighbour (as nnU-Net, Isensee et al. 2021, does).
        multi_label: Labels may overlap.
    """
    if multi_label:
        labels = [
            resample_target(label, shape, linear=linear, multi_label=False) for label in target
        ]
        return np.stack(labels)
    if target.shape == tuple(shape):
        return target
    if not linear:
        return _zoom(target, shape, order=0)
    values = np.unique(target)
    shares = np.stack(
        [_zoom((target == value).astype(np.float32), shape, order=1) for value in values]
    )
    nearest: NDArray[np.uint8] = values[shares.argmax(axis=0)]
    return nearest


def _zoom(array: Array, shape: Sequence[int], *, order: int) -> Array:
    from scipy.ndimage import zoom  # noqa: PLC0415 - only where something is resampled

    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    found: NDArray[Any] = zoom(array, factors, order=order, mode="nearest", grid_mode=True)
    return found

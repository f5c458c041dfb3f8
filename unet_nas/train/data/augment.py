"""Random changes of patches, on numpy arrays, one thread, each drawn from the generator given.

Probabilities and ranges follow nnU-Net (Isensee et al., Nature Methods 18, 203, 2021), milder,
since brief trainings gain less from strong augmentation. Intensities are changed relative to the
patch's own deviation, so they mean the same under every normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray

from unet_nas.train.data.cases import Array
from unet_nas.train.data.options import Augment, BiasField, Blur, Gamma, Intensity, Noise

__all__ = ["Layout", "change_intensity", "draw_layout", "draw_matrix", "lay_out"]

Floats = NDArray[np.float32]

_LEAST = 1e-6
#: knots per axis of a smooth field
_KNOTS = 4


def draw_matrix(
    augment: Augment, dims: int, random: np.random.Generator
) -> NDArray[np.float64] | None:
    """Draws how positions of a patch are turned and scaled about its centre.

    Returns:
        (dims, dims), or None where the patch stays as it is.
    """
    affine = augment.affine
    if affine is None or random.random() >= affine.probability:
        return None
    matrix: NDArray[np.float64] = np.eye(dims) * (1 + affine.scale) ** random.uniform(-1, 1)
    for one, other in combinations(range(dims), 2):
        angle = radians(random.uniform(-affine.rotation, affine.rotation))
        turn = np.eye(dims)
        turn[one, one] = turn[other, other] = cos(angle)
        turn[one, other], turn[other, one] = -sin(angle), sin(angle)
        matrix = turn @ matrix
    return matrix


@dataclass(frozen=True, slots=True)
class Layout:
    """Mirrored axes and quarter turns, which move positions and change no value.

    Attributes:
        flips: Spatial axes that are mirrored.
        plane: Two spatial axes that are turned.
        turns: By so many quarters.
    """

    flips: tuple[int, ...] = ()
    plane: tuple[int, int] = (0, 1)
    turns: int = 0


def draw_layout(
    augment: Augment, sizes: Sequence[Sequence[int]], random: np.random.Generator
) -> Layout:
    """Draws mirroring and turning for arrays of the spatial sizes given, alike for all."""
    dims = len(sizes[0])
    flip = augment.flip if augment.flip is not None else dims > 1
    flips = tuple(axis for axis in range(dims) if random.random() < 0.5) if flip else ()
    planes = [
        (one, other)
        for one, other in combinations(range(dims), 2)
        if all(size[one] == size[other] for size in sizes)
    ]
    if not augment.turn or not planes:
        return Layout(flips)
    plane = planes[int(random.integers(len(planes)))]
    return Layout(flips, plane, int(random.integers(4)))


def lay_out(array: Array, layout: Layout, *, dims: int) -> Array:
    """Returns a view of (..., *spatial) that is mirrored and turned."""
    lead = array.ndim - dims
    if layout.flips:
        array = np.flip(array, tuple(lead + axis for axis in layout.flips))
    if layout.turns:
        one, other = layout.plane
        array = np.rot90(array, layout.turns, axes=(lead + one, lead + other))
    return array


def change_intensity(image: Floats, augment: Augment, random: np.random.Generator) -> None:
    """Changes the values of a patch, (channels, *spatial), in place."""
    if augment.blur is not None and random.random() < augment.blur.probability:
        _blur(image, augment.blur, random)
    if augment.bias_field is not None and random.random() < augment.bias_field.probability:
        _multiply_field(image, augment.bias_field, random)
    if augment.intensity is not None and random.random() < augment.intensity.probability:
        _shift(image, augment.intensity, random)
    if augment.gamma is not None and random.random() < augment.gamma.probability:
        _raise_power(image, augment.gamma, random)
    if augment.noise is not None and random.random() < augment.noise.probability:
        _add_noise(image, augment.noise, random)


def _blur(image: Floats, blur: Blur, random: np.random.Generator) -> None:
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415 - slow to load

    sigma = random.uniform(0, blur.sigma)
    for channel in image:
        gaussian_filter(channel, sigma, mode="mirror", truncate=3.0, output=channel)


def _multiply_field(image: Floats, field: BiasField, random: np.random.Generator) -> None:
    """Multiplies by exp of a field that is interpolated linearly between a few knots per axis.

    Values are counted from the patch's minimum, since a lamp cannot darken below black.
    """
    knots = random.standard_normal((_KNOTS,) * (image.ndim - 1), dtype=np.float32)
    smooth = _interpolated(knots, image.shape[1:])
    smooth *= random.uniform(0, field.strength) / max(float(smooth.std()), _LEAST)
    least = image.min(axis=_space(image), keepdims=True)
    image -= least
    image *= np.exp(smooth - smooth.mean())
    image += least


def _interpolated(knots: Floats, shape: Sequence[int]) -> Floats:
    """Returns knots interpolated along each axis in turn, with smooth weights."""
    field = knots
    for axis, size in enumerate(shape):
        place = np.linspace(0, _KNOTS - 1, size, dtype=np.float32)
        left = np.minimum(place.astype(np.intp), _KNOTS - 2)
        weight = place - left
        weight = weight * weight * (3 - 2 * weight)  # no kinks at the knots
        weights = weight.reshape(-1, *(1,) * (field.ndim - 1 - axis))
        low, high = np.take(field, left, axis), np.take(field, left + 1, axis)
        field = low + weights * (high - low)
    return field


def _shift(image: Floats, intensity: Intensity, random: np.random.Generator) -> None:
    each = (len(image), *(1,) * (image.ndim - 1))
    mean, deviation = _moments(image)
    contrast = (1 + intensity.contrast) ** random.uniform(-1, 1, each)
    brightness = deviation * random.uniform(-1, 1, each) * intensity.brightness
    image *= contrast.astype(np.float32)
    image += (mean * (1 - contrast) + brightness).astype(np.float32)


def _raise_power(image: Floats, gamma: Gamma, random: np.random.Generator) -> None:
    exponent = (1 + gamma.strength) ** random.uniform(-1, 1)
    mean, deviation = _moments(image)
    image -= image.min(axis=_space(image), keepdims=True)
    image /= np.maximum(image.max(axis=_space(image), keepdims=True), _LEAST)
    np.power(image, np.float32(exponent), out=image)
    new_mean, new_deviation = _moments(image)
    image -= new_mean
    image *= deviation / np.maximum(new_deviation, _LEAST)
    image += mean


def _add_noise(image: Floats, noise: Noise, random: np.random.Generator) -> None:
    deviation = random.uniform(0, noise.strength) * float(image.std())
    image += deviation * random.standard_normal(image.shape, dtype=np.float32)


def _moments(image: Floats) -> tuple[Floats, Floats]:
    """Returns mean and deviation of each channel, (channels, 1, …)."""
    space = _space(image)
    return image.mean(axis=space, keepdims=True), image.std(axis=space, keepdims=True)


def _space(image: Floats) -> tuple[int, ...]:
    return tuple(range(1, image.ndim))

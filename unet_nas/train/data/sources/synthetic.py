"""Shapes before a noisy background, for tests and first steps: needs no files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from unet_nas.train.data.cases import Array
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.raw import Item, Listing, RawCase
from unet_nas.train.data.sources.options import Synthetic

__all__ = ["list_cases"]

_SIZES = {1: 512, 2: 64, 3: 32}
_SHAPES = 4


def list_cases(source: Synthetic, config: DataConfig, base: Path) -> Listing:
    """Lists the cases; each is drawn from the seed and its own number."""
    digits = len(str(source.cases - 1))
    size = source.size or _SIZES[source.dims]
    items = [
        Item(
            f"{index:0{digits}}",
            f"{index:0{digits}}",
            partial(_draw, source, size, index, config.multi_label),
            where=f"synthetic case {index}",
        )
        for index in range(source.cases)
    ]
    return Listing(
        "synthetic",
        items,
        unit="samples" if source.dims == 1 else "px",
        class_names=_names(source.classes, config.multi_label),
        multi_label=config.multi_label,
        notes=("images are generated",),
    )


def _names(classes: int, multi_label: bool) -> tuple[str, ...]:
    shapes = tuple(f"shape {index}" for index in range(1, classes))
    return shapes if multi_label else ("background", *shapes)


def _draw(source: Synthetic, size: int, index: int, multi_label: bool) -> RawCase:
    """Returns ellipsoids of each class, whose intensity is the class, under noise and blur."""
    draw = np.random.default_rng([source.seed, index])
    shape = (size,) * source.dims
    labels = np.zeros((source.classes - 1, *shape), np.uint8)
    for _ in range(_SHAPES):
        for label in range(source.classes - 1):
            labels[label] |= _ellipsoid(draw, shape)
    values = np.arange(1, source.classes).reshape(-1, *(1,) * source.dims)
    mask = (labels * values).max(axis=0).astype(np.uint8)
    clean = labels.sum(axis=0) if multi_label else mask
    noise = draw.standard_normal((source.channels, *shape), dtype=np.float32)
    image = (clean + source.noise * noise).astype(np.float32)
    return RawCase(image, labels if multi_label else mask, (1.0,) * source.dims)


def _ellipsoid(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    size = shape[0]
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    centre = draw.uniform(0, size, len(shape))
    # so that shapes cover much the same share in each dimension
    scale = {1: 0.2, 2: 1.0, 3: 1.4}[len(shape)]
    radii = scale * draw.uniform(size / 16, size / 6, len(shape)) + 0.5
    distance = sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radii, strict=True))
    inside: Array = np.asarray(distance <= 1)
    return inside

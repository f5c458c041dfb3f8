"""Example predictions of a record as small pictures: image, truth, prediction."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unet_nas.records import Run, TrialRecord
from unet_nas.report.html import data_uri

__all__ = ["CLASS_COLORS", "Example", "examples_of", "signal_picture"]

_MOST = 3
_EDGE = 168
_OPACITY = 0.55
#: height of a label's strip below a signal, in pixels
_STRIP = 14

#: background is left clear; the others are Okabe and Ito's (2008)
CLASS_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")

Picture = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Example:
    """One validation sample, as the addresses of three pictures; those of signals are wide."""

    image: str
    truth: str
    prediction: str
    wide: bool = False


def examples_of(record: TrialRecord, run: Run) -> list[Example]:
    """Returns up to three examples of a record; none where its file is missing or damaged."""
    if record.examples is None:
        return []
    path = run.files_of(record) / record.examples
    try:
        return list(_read(path))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # a report does without
        return []


def _read(path: Path) -> Iterator[Example]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        for number in range(_MOST):
            if f"image_{number}" not in arrays:
                return
            image = np.asarray(arrays[f"image_{number}"], np.float64)
            masks = [np.asarray(arrays[f"{name}_{number}"]) for name in ("truth", "prediction")]
            layers = [_layers(mask, image.ndim - 1) for mask in masks]
            if image.ndim == 2:
                truth, prediction = (signal_picture(image, one) for one in layers)
                yield Example(signal_picture(image, []), truth, prediction, wide=True)
            else:
                base = _rgb(image)
                known = f"spacing_{number}" in arrays
                spacing = arrays[f"spacing_{number}"].tolist() if known else (1.0, 1.0)
                truth, prediction = (_jpeg(_painted(base, one), spacing) for one in layers)
                yield Example(_jpeg(base, spacing), truth, prediction)


def _layers(mask: NDArray[np.generic], dims: int) -> list[NDArray[np.bool_]]:
    """Returns one mask per class but the background, or per label where they overlap."""
    if mask.ndim > dims:
        return [layer > 0 for layer in mask]
    return [mask == label for label in range(1, int(mask.max(initial=0)) + 1)]


def _rgb(image: Picture) -> Picture:
    """Returns three channels between 0 and 1; the middle 98 % of the values span the range."""
    shown = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    low, high = np.percentile(shown, (1, 99))
    scaled = np.clip((shown - low) / max(high - low, 1e-9), 0, 1)
    return np.moveaxis(scaled, 0, -1)


def _painted(base: Picture, layers: Sequence[NDArray[np.bool_]]) -> Picture:
    picture = 0.85 * base
    for number, layer in enumerate(layers):
        color = np.array(_channels(class_color(number)))
        picture[layer] = (1 - _OPACITY) * picture[layer] + _OPACITY * color
    return picture


def class_color(number: int) -> str:
    """Returns the colour of a class; the first after the background is 0."""
    return CLASS_COLORS[number % len(CLASS_COLORS)]


def _channels(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _jpeg(picture: Picture, spacing: Sequence[float]) -> str:
    image = Image.fromarray((255 * picture).round().astype(np.uint8))
    size = fitted(picture.shape[:2], spacing)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=86, subsampling=0)
    return data_uri(buffer.getvalue(), "image/jpeg")


def fitted(shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, int]:
    """Returns width and height in pixels that show rows and columns as long as they are.

    Small pictures of square pixels stay as they are; the page enlarges them.

    >>> fitted((40, 60), (1, 1)), fitted((512, 256), (1, 1)), fitted((20, 100), (5, 1))
    ((60, 40), (84, 168), (100, 100))
    """
    finest = min(spacing)
    height, width = (n * step / finest for n, step in zip(shape, spacing, strict=True))
    scale = min(1.0, _EDGE / max(height, width))
    return max(1, round(scale * width)), max(1, round(scale * height))


def signal_picture(signal: Picture, layers: Sequence[NDArray[np.bool_]]) -> str:
    """Returns a signal (channels, length) as lines over one strip for each label, as SVG.

    The first channel is drawn in full, the others faintly behind it.
    """
    width, top = 1000, 120
    height = top + _STRIP * max(1, len(layers))
    values = signal[0]
    lines = "".join(_line(channel, width, top, "#c4c8cc") for channel in signal[:0:-1])
    lines += _line(values, width, top, "#222")
    strips = "".join(
        f'<rect x="{width * start / len(values):.1f}" y="{top + _STRIP * number}" '
        f'fill="{class_color(number)}" '
        f'width="{width * (end - start) / len(values):.1f}" height="{_STRIP - 2}"/>'
        for number, layer in enumerate(layers)
        for start, end in _runs(layer)
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{strips}'
        f"{lines}</svg>"
    )
    return data_uri(svg.encode(), "image/svg+xml")


def _line(values: NDArray[np.float64], width: int, height: int, color: str) -> str:
    """Returns one channel as a line that fills the height."""
    at = np.linspace(0, len(values) - 1, min(len(values), 2 * width)).astype(int)
    low, high = float(values.min()), float(values.max())
    x = width * at / max(len(values) - 1, 1)
    y = height - 6 - (height - 12) * (values[at] - low) / max(high - low, 1e-9)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{color}"/>'


def _runs(layer: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Returns begin and end of each stretch that is true.

    >>> _runs(np.array([True, False, True, True]))
    [(0, 1), (2, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], layer.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]

"""The brain template that the package nilearn ships: one volume, for demonstration only.

MNI ICBM152 2009a symmetric (Fonov et al., NeuroImage 54, 313, 2011; doi 10.1016/j.neuroimage.
2010.07.033): T1 with maps of grey and white matter. The labels are derived from these maps, not
drawn by hand. As all cases come from one volume, its parts are contiguous slabs of axial slices
with a gap between them, so that no slice of one part is the neighbour of one of another. The
template is the same left and right, so a split along that axis would leak.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from unet_nas.errors import InputError
from unet_nas.train.data.cases import Array, Part
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.raw import Item, Listing, RawCase
from unet_nas.train.data.sources.options import Builtin

__all__ = ["GAP", "list_cases"]

GAP = 6
"""Slices (of 1 mm) that are left out between two parts."""

_CLASSES = ("background", "grey matter", "white matter")
#: parts from the lowest slice to the highest, with their shares of the slices that are used
_SLABS: tuple[tuple[Part, float], ...] = (
    ("train", 0.3),
    ("validation", 0.17),
    ("train", 0.2),
    ("test", 0.17),
    ("train", 0.16),
)
_NOTES = (
    "labels are derived from tissue maps, not drawn by hand",
    "all cases come from one volume, a template: contiguous slabs of slices with a gap of "
    f"{GAP} mm are training, validation and test; this is a demonstration only",
)
#: share of a slice that is grey or white matter in the slices that are used
_LEAST_TISSUE = 0.05


def list_cases(source: Builtin, config: DataConfig, base: Path) -> Listing:
    """Cuts the template into slices, or slabs.

    Raises:
        InputError: if nilearn is not installed.
    """
    image, mask = _template()
    tissue = (mask > 0).mean(axis=(0, 1)) > _LEAST_TISSUE
    used = np.flatnonzero(tissue)
    items: list[Item] = []
    for index, (part, low, high) in enumerate(_slabs(int(used[0]), int(used[-1]) + 1)):
        slab = f"slab {index}"
        cuts: dict[str, slice | int] = {f"slice {z:03}": z for z in range(low, high, source.step)}
        if source.dims == 3:
            cuts = {slab: slice(low, high)}
        for name, cut in cuts.items():
            read = partial(
                _read, image[..., cut], mask[..., cut], source, [source.seed, low, len(items)]
            )
            items.append(Item(name, slab, read, part, where=f"mni152_tissue, {name}"))
    return Listing(
        "builtin", items, unit="mm", class_names=_CLASSES, fixed_parts=True, notes=_notes(source)
    )


def _notes(source: Builtin) -> tuple[str, ...]:
    changed = [
        f"{word} of strength {strength:g}"
        for word, strength in (("noise", source.noise), ("a bias field", source.bias_field))
        if strength
    ]
    return (*_NOTES, f"{' and '.join(changed)} made every image harder") if changed else _NOTES


def _slabs(low: int, high: int) -> list[tuple[Part, int, int]]:
    """Returns parts with their first slice and the one after their last."""
    free = high - low - GAP * (len(_SLABS) - 1)
    whole = sum(share for _, share in _SLABS)
    found: list[tuple[Part, int, int]] = []
    begin, done = float(low), 0.0
    for index, (part, share) in enumerate(_SLABS):
        end = begin + free * share / whole
        done += share
        last = high if index == len(_SLABS) - 1 else round(end)
        found.append((part, round(begin), last))
        begin = end + GAP
    return found


def _template() -> tuple[Array, Array]:
    """Returns the T1 image and the classes, (right, anterior, superior) at 1 mm."""
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise InputError(
            "data.source: builtin:mni152_tissue needs nilearn; pip install 'unet-nas[datasets]'"
        )
    # nilearn itself costs a second to import, and only its files are needed
    folder = Path(spec.origin).parent / "datasets" / "data"
    image, grey, white = (_map(folder, kind) for kind in ("t1", "gm", "wm"))
    # the maps go from 0 to 255: the larger tissue where tissue is more likely than not
    likely = grey.astype(np.uint16) + white >= 128
    mask = np.where(likely, np.where(white > grey, 2, 1), 0).astype(np.uint8)
    return image, mask


def _map(folder: Path, kind: str) -> Array:
    path = folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    try:
        file: Any = nibabel.load(path)
    except FileNotFoundError as error:
        raise InputError(
            f"data.source: this version of nilearn has no {path.name}; pip install 'nilearn>=0.10'"
        ) from error
    return np.asanyarray(file.dataobj)


def _read(image: Array, mask: Array, source: Builtin, seed: list[int]) -> RawCase:
    made = image[None].astype(np.float32)
    draw = np.random.default_rng(seed)
    if source.bias_field:
        made *= np.exp(source.bias_field * _smooth(draw, made.shape[1:]))
    if source.noise:
        made += source.noise * made.std() * draw.standard_normal(made.shape, dtype=np.float32)
    return RawCase(made, mask, (1.0,) * mask.ndim)


def _smooth(draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Returns a field of deviation 1 that varies over a third of the image."""
    from scipy.ndimage import zoom  # noqa: PLC0415

    coarse = draw.standard_normal((4,) * len(shape)).astype(np.float32)
    field: NDArray[np.float32] = zoom(coarse, [n / 4 for n in shape], order=3, mode="nearest")
    field -= field.mean()
    return field / max(float(field.std()), 1e-6)

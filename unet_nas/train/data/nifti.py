"""NIfTI files: read in the orientation nearest to right-anterior-superior, and written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from unet_nas.errors import InputError
from unet_nas.train.data.cases import Array
from unet_nas.train.data.geometry import Geometry
from unet_nas.train.data.raw import RawCase

__all__ = ["read_nifti", "write_nifti"]


def read_nifti(path: Path) -> RawCase:
    """Returns a volume, or a flat image, with its geometry; a fourth axis is one of channels."""
    file: Any = nibabel.load(path)
    array = np.asanyarray(file.dataobj)
    if array.ndim > 4 or array.ndim < 2:
        raise InputError(f"{path}: must have 2 to 4 axes, got {array.ndim}")
    channels = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    _refuse_flattened(path, channels.shape[1:], file.affine)
    geometry = geometry_of(channels.shape[1:], file.affine, file.header.get_zooms())
    return RawCase(geometry.orient(channels), None, geometry.kept_spacing, geometry)


def _refuse_flattened(path: Path, shape: tuple[int, ...], affine: Array) -> None:
    """Refuses an affine that lays different voxels onto one point, which has no orientation."""
    axes = [axis for axis, length in enumerate(shape) if length > 1]
    if len(shape) < 3 or not axes:
        return
    columns = affine[:3, axes]
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(columns) < len(axes):
        raise InputError(
            f"{path}: its affine must give each voxel a place of its own, got a singular matrix; "
            "write the affine anew (as that of the file it was made from)"
        )


def geometry_of(shape: tuple[int, ...], affine: Array, zooms: tuple[float, ...]) -> Geometry:
    """Returns the geometry of a file, its axes along right, anterior and superior."""
    spacing = tuple(round(float(zoom), 6) or 1.0 for zoom in zooms[: len(shape)])
    rows = tuple(tuple(map(float, row)) for row in affine)
    if len(shape) == 2:
        return Geometry(shape, (0, 1), (False, False), spacing, 2, rows)
    turns = nibabel.orientations.io_orientation(affine)
    order = [int(axis) for axis in np.argsort(turns[:, 0])]
    # a flat image has one axis of length one, which no network should see
    order.sort(key=lambda axis: shape[axis] == 1)
    flips = tuple(bool(turns[axis, 1] < 0) for axis in order)
    dims = max(2, sum(n > 1 for n in shape))
    return Geometry(shape, tuple(order), flips, spacing, dims, rows)


def write_nifti(path: Path, labels: Array, geometry: Geometry) -> bytes:
    """Returns the bytes of a file with the affine and the spacing of the geometry.

    Args:
        path: Says by its ending whether to compress.
        labels: (*shape) of the file, or (labels, *shape), whose first axis is written last.
        geometry: Of the image that was segmented.
    """
    array = labels if labels.ndim == len(geometry.shape) else np.moveaxis(labels, 0, -1)
    affine = np.array(geometry.affine)
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_zooms((*geometry.spacing, 1.0)[: array.ndim])
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    content: bytes = image.to_bytes()
    if path.name.endswith(".gz"):
        import gzip  # noqa: PLC0415

        # without the time of writing, equal predictions are equal files
        return gzip.compress(content, mtime=0)
    return content

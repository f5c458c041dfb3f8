"""What the header of a run says about its data: plain values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_nas.train.data.cases import Case, Part, contents
from unet_nas.train.data.checks import class_shares
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.preprocessing import Preprocessing
from unet_nas.train.data.raw import Listing

__all__ = ["summarise"]


def summarise(
    parts: Mapping[Part, Sequence[Case]],
    preparation: Preprocessing,
    config: DataConfig,
    listing: Listing,
    notes: Sequence[str],
) -> dict[str, Any]:
    """Returns source, counts, sizes, spacing, class shares, names of the cases, and notes."""
    task = preparation.task
    return {
        "source": config.source.model_dump(mode="json", exclude_none=True),
        "kind": listing.kind,
        "spatial_dims": task.spatial_dims,
        "in_channels": task.in_channels,
        "class_names": list(task.class_names),
        "multi_label": task.multi_label,
        "ignore_label": task.ignore_label,
        "unit": task.unit,
        "spacing": list(preparation.spacing or _common_spacing(parts["train"])),
        "normalise": preparation.normalise,
        "split": config.split.model_dump(mode="json", exclude_none=True),
        "parts": {
            part: {
                "cases": len(cases),
                "groups": len({case.group for case in cases}),
                "smallest": _extreme(cases, min),
                "largest": _extreme(cases, max),
                "bytes": sum(case.image.nbytes + case.target.nbytes for case in cases),
                "class_shares": class_shares(task, cases) if cases else {},
                "names": [case.name for case in cases],
                "contents": contents(cases),
            }
            for part, cases in parts.items()
        },
        "notes": list(notes),
        "preprocessing": preparation.to_json(),
    }


def _common_spacing(cases: Sequence[Case]) -> list[float]:
    return [float(value) for value in np.median([case.spacing for case in cases], axis=0)]


def _extreme(cases: Sequence[Case], which: Any) -> list[int]:
    """Returns the smallest or largest extent along each axis."""
    axes = zip(*(case.image.shape[1:] for case in cases), strict=True)
    return [which(axis) for axis in axes]

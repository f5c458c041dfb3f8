"""Cases that a person's own function yields."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet_nas.errors import InputError
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.files import channels_first
from unet_nas.train.data.raw import Item, Listing, RawCase
from unet_nas.train.data.sources.options import Python

__all__ = ["list_cases"]

_KEYS = ("image", "mask", "name", "group", "part", "spacing")
_PARTS = ("train", "validation", "test")


def list_cases(source: Python, config: DataConfig, base: Path) -> Listing:
    """Calls ``function(**arguments)``, which returns an iterable of mappings.

    Each has ``image`` (channels, *spatial) or (*spatial) and ``mask`` (*spatial), or (labels,
    *spatial) where labels overlap; and, if wanted, ``name``, ``group``, ``part`` (train,
    validation or test) and ``spacing`` (one number per axis).

    Raises:
        InputError: if there is no such function, or what it yields is not that.
    """
    function = _find(source.function, base)
    try:
        found = list(function(**source.arguments))
    except Exception as error:  # whatever a person's code raises is theirs to read
        raise InputError(
            f"data.source: {source.function} raised {type(error).__name__}: {error}"
        ) from error
    where = source.function
    items = [_item(case, index, where, config) for index, case in enumerate(found)]
    if not items:
        raise InputError(f"data.source: {where} yielded no cases")
    dims = np.asarray(found[0]["mask"]).ndim - config.multi_label
    return Listing(
        "python", items, unit="samples" if dims == 1 else "px", multi_label=config.multi_label
    )


def _find(name: str, base: Path) -> Any:
    module_name, _, path = name.partition(":")
    # modules beside the file are found as those beside a script are
    folders = [str(base), str(Path.cwd())]
    sys.path[:0] = folders
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"data.source: cannot find {name}: {error}; modules beside the YAML file and in the "
            "working directory are found"
        ) from error
    finally:
        for folder in folders:
            sys.path.remove(folder)
    if not callable(found):
        raise InputError(f"data.source: {name} must be a function, got {type(found).__name__}")
    return found


def _item(case: Any, index: int, function: str, config: DataConfig) -> Item:
    where = f"{function}, case {index}"
    if not isinstance(case, Mapping) or not {"image", "mask"} <= case.keys():
        raise InputError(f"{where}: must be a mapping with the keys image and mask")
    unknown = [key for key in case if key not in _KEYS]
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    part = case.get("part")
    if part is not None and part not in _PARTS:
        raise InputError(f"{where}: part must be one of {', '.join(_PARTS)}, got {part!r}")
    name = str(case.get("name", f"{index:05}"))
    group = str(case.get("group", name))
    return Item(name, group, partial(_read, case, config.multi_label, where), part, where=where)


def _read(case: Mapping[str, Any], multi_label: bool, where: str) -> RawCase:
    image, mask = np.asarray(case["image"]), np.asarray(case["mask"])
    spatial = mask.shape[1:] if multi_label else mask.shape
    spacing = tuple(float(value) for value in _numbers(case.get("spacing"), len(spatial)))
    if len(spacing) != len(spatial):
        raise InputError(f"{where}: spacing must have {len(spatial)} numbers, got {len(spacing)}")
    return RawCase(channels_first(image, spatial, None, where), mask, spacing)


def _numbers(given: Any, number: int) -> Iterable[float]:
    return (1.0,) * number if given is None else given

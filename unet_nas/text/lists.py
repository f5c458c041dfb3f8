"""What was meant by a list where one value must stand, or by one value where a list must."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from unet_nas.errors import Path
from unet_nas.text.document import shown
from unet_nas.text.schema_walk import walk

__all__ = ["brackets_meant", "several_meant"]

_RANGES: Mapping[str, Any] = {"int": int, "float": (int, float)}
_MOST_VALUES = 6
_PLAIN = re.compile(r"[\w./](?:[\w./+=:-]*[\w./])?")


def several_meant(kind: str, path: Path, values: Any, tree: Any, model: type[BaseModel]) -> str:
    """Return the domain that a list stands for where each of its values fits, or nothing.

    Args:
        kind: pydantic's name of the error, which tells what the field takes.
        path: Where the list stands in the tree.
        values: The list.
        tree: What was validated.
        model: The model that it was validated with.
    """
    if not _are_scalars(values) or len({*map(repr, values)}) < len(values):
        return ""
    if not all(_accepts(value, path, tree, model) for value in values):
        return ""
    text = shown(values)
    domains = [f"{{choice: {text}}}"]
    for word, numbers in _RANGES.items():
        rising = len(values) == 2 and all(isinstance(v, numbers) for v in values)
        if kind.startswith(word) and rising and values[0] < values[1]:
            domains.append(f"{{{word}: {text}}}")
    return f"for several values write {' or '.join(domains)}"


def brackets_meant(path: Path, value: Any, tree: Any, model: type[BaseModel]) -> str:
    """Return the list that a value, or values with commas between, stand for, or nothing."""
    values = re.split(r"\s*,\s*", value.strip()) if isinstance(value, str) else [value]
    if not _are_scalars(values) or not _accepts(values, path, tree, model):
        return ""
    return f"write [{', '.join(map(_plain, values))}]"


def _are_scalars(values: Any) -> bool:
    return (
        isinstance(values, list)
        and 1 <= len(values) <= _MOST_VALUES
        and all(isinstance(value, str | int | float) for value in values)
        and sum(len(shown(value)) + 2 for value in values) <= 60
    )


def _accepts(value: Any, path: Path, tree: Any, model: type[BaseModel]) -> bool:
    """Tell whether the value is right at the path, whatever is wrong elsewhere."""
    changed = _replaced(tree, path, value)
    try:
        model.model_validate(changed)
    except ValidationError as error:
        spots = (walk(e["loc"], changed, model) for e in error.errors(include_url=False))
        return all(spot.path[: len(path)] != path for spot in spots)
    return True


def _replaced(tree: Any, path: Path, value: Any) -> Any:
    """Copy the containers on the way only: the tree may be large."""
    if not path:
        return value
    copied = tree.copy()
    copied[path[0]] = _replaced(tree[path[0]], path[1:], value)
    return copied


def _plain(value: Any) -> str:
    """Write an entry without quotes where YAML needs none."""
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else shown(value)

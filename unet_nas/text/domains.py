"""Search domains in a tree: mappings such as ``{choice: [3, 5]}`` where a value may stand."""

from __future__ import annotations

from typing import Any

from unet_nas.errors import Path

__all__ = ["DOMAIN_KEYS", "HOLE_SECTIONS", "find_domains"]

DOMAIN_KEYS: frozenset[str] = frozenset({"choice", "int", "float"})
"""The keys that make a mapping a domain; no field has one of these names."""

HOLE_SECTIONS = ("architecture", "train")
"""The sections whose values may be domains."""


def find_domains(tree: Any) -> list[Path]:
    """Return the paths of all domains, outermost only, in the order of the file.

    A tree that has one is a search space, not one architecture.

    >>> find_domains({"depth": {"int": [3, 5]}, "down": ["max_pool", {"choice": ["none"]}]})
    [('depth',), ('down', 1)]
    """
    found: list[Path] = []
    _collect(tree, (), found)
    return found


def _collect(value: Any, path: Path, found: list[Path]) -> None:
    # Recursion is safe: a parsed document is at most 64 levels deep.
    if isinstance(value, dict):
        if DOMAIN_KEYS & value.keys():
            found.append(path)
            return
        for key, child in value.items():
            _collect(child, (*path, key), found)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            _collect(child, (*path, index), found)

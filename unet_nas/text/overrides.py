"""``--set path=value``: values from the command line in place of those of the file."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unet_nas.errors import DocumentError, Fault, InputError, Path
from unet_nas.text.document import (
    SECTIONS,
    Document,
    PlacedFault,
    document_error,
    format_path,
    shown,
)
from unet_nas.text.reader import MAX_DEPTH, build

__all__ = ["parse_path", "set_values"]

_PATH = re.compile(r"[^\W\d][\w-]*(?:\.[\w-]+|\[[0-9]{1,6}\])*")
_PART = re.compile(r"[\w-]+")


def set_values(document: Document, assignments: Sequence[str]) -> Document:
    """Return the document with values replaced or added, in the order given.

    Args:
        document: The document as read.
        assignments: Texts ``path=value``. A path such as ``depth``, ``down[1].kernel_size`` or
            ``architecture.down.1.kernel_size`` is taken inside ``architecture`` unless it begins
            with the name of a section; the value is YAML, such as ``3``, ``[3, 3]`` or
            ``{type: max_pool}``.

    Raises:
        DocumentError: An assignment is not of this form, or leads inside a plain value or past the
            end of a list; all such faults at once.

    >>> from unet_nas.text import parse_document
    >>> set_values(parse_document("architecture: {depth: 4}"), ["depth=5", "data.fold=0"]).tree
    {'architecture': {'depth': 5}, 'data': {'fold': 0}}
    """
    found: list[PlacedFault] = []
    for assignment in assignments:
        try:
            document = _set(document, assignment)
        except DocumentError as error:
            found += [PlacedFault(fault, line=0, source=assignment) for fault in error.faults]
    if found:
        raise document_error(found, document.name)
    return document


def parse_path(text: str) -> Path:
    """Read a path as `format_path` writes it; list indices may follow a dot as well.

    Raises:
        InputError: The text is not a path.

    >>> parse_path("down[1].kernel_size"), parse_path("down.1")
    (('down', 1, 'kernel_size'), ('down', 1))
    """
    if not _PATH.fullmatch(text):
        raise InputError(f"must be a path such as depth or down[1].kernel_size, got {shown(text)}")
    parts = _PART.findall(text)
    if len(parts) > MAX_DEPTH:
        raise InputError(f"must be a path of at most {MAX_DEPTH} parts, got {len(parts)}")
    return tuple(int(part) if re.fullmatch("[0-9]{1,6}", part) else part for part in parts)


def _set(document: Document, assignment: str) -> Document:
    target, equals, text = assignment.partition("=")
    if not equals:
        raise _refusal((), "must be path=value, such as depth=4", shown(assignment))
    try:
        path = parse_path(target.strip())
        built = build(text, "--set")
    except DocumentError as error:
        # Lines of a text of one line say nothing.
        faults = [replace(fault, path=()) for fault in error.faults]
        raise DocumentError(str(error), faults) from None
    except InputError as error:
        raise _refusal((), str(error)) from None
    if path[0] not in SECTIONS:
        path = ("architecture", *path)
    if built.faults:
        raise DocumentError("", [placed.fault for placed in built.faults])
    tree = copy.deepcopy(document.tree)
    _assign(tree, path, built.tree)
    return _with_source(document, tree, path, assignment)


def _assign(tree: dict[str, Any], path: Path, value: Any) -> None:
    """Put the value at the path, making the mappings on the way that are missing."""
    node: Any = tree
    for index, part in enumerate(path):
        _check_step(node, path[:index], part)
        if index == len(path) - 1:
            node[part] = value
        elif isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = node[part]


def _check_step(node: Any, path: Path, part: str | int) -> None:
    """Refuse a step that the value at ``path`` cannot take."""
    step = f"entry [{part}]" if isinstance(part, int) else f"key {part!r}"
    if isinstance(node, dict):
        if isinstance(part, int) and not node:
            fix = f"give all entries, as --set '{path[-1]}=[…]'" if path else None
            raise _refusal(path, f"has no {step}: the file has no list here", fix=fix)
        if isinstance(part, int):
            raise _refusal(path, f"has no {step}: it is a mapping", shown(node))
    elif not isinstance(node, list):
        rule = f"has no {step}: it is one plain value"
        raise _refusal(path, rule, shown(node), f"set {format_path(path)} as a whole")
    elif not isinstance(part, int):
        fix = f"name an entry, such as {format_path((*path, 0))}"
        raise _refusal(path, f"has no {step}: it is a list", fix=fix)
    elif part >= len(node):
        entries = f"its last entry is [{len(node) - 1}]" if node else "it is empty"
        raise _refusal(path, f"has no {step}: {entries}")


def _refusal(path: Path, rule: str, got: str = "", fix: str | None = None) -> DocumentError:
    return DocumentError(rule, [Fault(path, rule, got, fix)])


def _with_source(document: Document, tree: dict[str, Any], path: Path, source: str) -> Document:
    """Forget the lines of what was replaced, and remember who gave the new value."""

    def is_replaced(other: Path) -> bool:
        return other[: len(path)] == path

    marks = {other: line for other, line in document.marks.items() if not is_replaced(other)}
    overrides = {
        other: text for other, text in document.overrides.items() if not is_replaced(other)
    }
    # The mappings that were made on the way come from the assignment too.
    for end in range(1, len(path)):
        if path[:end] not in marks and path[:end] not in overrides:
            overrides[path[:end]] = source
    overrides[path] = source
    # A fault in the file stays one, but the value is known now.
    faults = tuple(
        replace(placed, hides_value=placed.hides_value and not is_replaced(placed.fault.path))
        for placed in document.faults
    )
    return replace(document, tree=tree, marks=marks, overrides=overrides, faults=faults)

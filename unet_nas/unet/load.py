"""From a file, a text or the name of a preset to an architecture."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from unet_nas.errors import DocumentError, Fault, InputError
from unet_nas.text import (
    Document,
    find_domains,
    format_path,
    parse_document,
    read_document,
    render,
    set_values,
    validate,
)
from unet_nas.unet.architecture import Architecture

PREFIX = "preset:"
SECTION = "architecture"


@dataclass(frozen=True, slots=True)
class Preset:
    """A published network that comes with the package.

    Args:
        name: as in ``preset:unet-2015``.
        about: one line.
        reference: the paper, and the implementation that the numbers follow.
        architecture: the network.
    """

    name: str
    about: str
    reference: str
    architecture: Architecture


def load_architecture(
    source: str | os.PathLike[str], assignments: str | Sequence[str] = ()
) -> Architecture:
    r"""Returns the architecture that a file, a text or ``preset:NAME`` describes.

    Args:
        source: a path, ``preset:NAME``, or YAML text (anything with a line break in it).
        assignments: ``path=value`` each, put over the file's values.

    Raises:
        DocumentError: with every fault of the file, each with its line and field.
        InputError: if there is no such file or preset.

    >>> load_architecture("architecture:\n  depth: 3").depth
    3
    """
    if isinstance(assignments, str):
        assignments = [assignments]
    return to_architecture(open_document(source), assignments)


def open_document(source: str | os.PathLike[str]) -> Document:
    """Reads a file, a text or a preset, without judging its sections."""
    if isinstance(source, str):
        if source.startswith(PREFIX):
            return parse_document(_preset_text(source.removeprefix(PREFIX)), source)
        if "\n" in source:
            return parse_document(source, keep_faults=True)
        if source.startswith("python:"):
            raise InputError(
                f"{source} names a network of Python code, which only `unet-nas profile` takes"
            )
        if source in preset_names() and not Path(source).exists():
            raise InputError(f"there is no file {source!r}; did you mean {PREFIX}{source}?")
    return read_document(source, keep_faults=True)


def to_architecture(document: Document, assignments: Sequence[str] = ()) -> Architecture:
    """Validates the section ``architecture`` of a document, with assignments put over it."""
    if assignments:
        document = set_values(document, assignments)
    _refuse_domains(document)
    return validate(document, Architecture, (SECTION,))


def _refuse_domains(document: Document) -> None:
    holes = find_domains(document.tree.get(SECTION))
    if holes:
        rule = "must be one value here: a domain makes the file a search space"
        faults = [
            Fault(
                path,
                rule,
                "a domain",
                f"choose with --set {format_path(path[1:])}=…",
            )
            for path in ((SECTION, *hole) for hole in holes)
        ]
        raise DocumentError(render(faults, document), faults)


# --- presets ------------------------------------------------------------------------------


def preset_names() -> list[str]:
    """Returns the names of all presets, in alphabetical order."""
    folder = resources.files("unet_nas.unet").joinpath("presets")
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".yaml"))


def preset(name: str) -> Architecture:
    """Returns the architecture of a preset, as ``preset("unet-2015")``.

    Raises:
        InputError: if there is no preset of that name.
    """
    return load_architecture(PREFIX + name)


def describe_preset(name: str) -> Preset:
    """Returns a preset with what is known about it."""
    document = open_document(PREFIX + name)
    about, reference = document.tree.get("about", ""), document.tree.get("reference", "")
    return Preset(name, str(about), str(reference), to_architecture(document))


def _nearest(name: str, names: Sequence[str]) -> list[str]:
    """Returns the name with the fewest slips, if one is similar; of several the most similar."""
    similar = difflib.get_close_matches(name, names, n=len(names))
    return [min(similar, key=lambda other: _slips(name, other))] if similar else []


def _slips(one: str, other: str) -> int:
    """Counts the characters to insert, delete or replace (Levenshtein's distance).

    >>> _slips("unet-2016", "unet-2015"), _slips("unet-2016", "unet3d-2016")
    (1, 2)
    """
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def _preset_text(name: str) -> str:
    names = preset_names()
    if name not in names:
        near = [other for other in names if name and name in other]
        near = near or _nearest(name, names)
        meant = " or ".join(PREFIX + other for other in near)
        hint = f"did you mean {meant}?" if near else f"there are {', '.join(names)}"
        raise InputError(f"no preset is called {name!r}; {hint}")
    folder = resources.files("unet_nas.unet").joinpath("presets")
    return folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8")

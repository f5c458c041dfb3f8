"""From a file to a space: its holes, and a probe of every value in a domain.

A value that its field refuses is an error of the file, reported at its line. A value that breaks
a rule between fields may go well with other values: it is no error, and such candidates are
rejected and counted later.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError

from unet_nas.audit.memory import Device, Training
from unet_nas.errors import Fault, InputError, Path
from unet_nas.space.budget import Budget, Conditions
from unet_nas.space.domains import (
    Choice,
    Domain,
    FloatRange,
    IntRange,
    Scalar,
    compile_tree,
    count,
    float_sources,
)
from unet_nas.space.sample import Assignment, assign
from unet_nas.text import Document, find_domains, set_values
from unet_nas.text.document import document_error, place
from unet_nas.text.domains import HOLE_SECTIONS
from unet_nas.text.sentences import Trouble, troubles_of
from unet_nas.text.validation import unknown_sections
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.load import open_document

__all__ = ["SECTION_MODELS", "Space", "load_space"]

SECTION = "architecture"
SECTION_MODELS: Mapping[str, type[BaseModel]] = {
    SECTION: Architecture,
    "budget": Budget,
    "train": Conditions,
}
"""The schema of each section that a space is made of."""

#: ranges of up to this many integers are probed one by one, wider ones at both ends and beside
_PROBED_ONE_BY_ONE = 16


@dataclass(frozen=True, slots=True)
class Space:
    """A search space: a document whose values may be domains.

    Attributes:
        document: As read, with ``--set`` applied.
        tree: All sections, with domains as objects.
    """

    document: Document
    tree: dict[str, Any]

    def count(self, *sections: str) -> int:
        """Returns how many ways there are to fill the holes of sections (default: of all)."""
        return count(self.part(*(sections or self.tree)))

    def part(self, *sections: str) -> dict[str, Any]:
        """Returns the trees of some sections, those that the document has."""
        return {name: self.tree[name] for name in sections if name in self.tree}

    def infinite(self, *sections: str) -> list[Path]:
        """Returns the ranges of floats, which have no count, in the order of the file."""
        found = float_sources(self.part(*(sections or self.tree)))
        return sorted(found, key=lambda path: (self.document.line(path), str(path)))

    @property
    def budget(self) -> Budget:
        """The limits of the section ``budget``; none where there is no such section."""
        return Budget.model_validate(self.tree.get("budget") or {})


def load_space(
    source: str | os.PathLike[str],
    assignments: Sequence[str] = (),
    *,
    models: Mapping[str, type[BaseModel]] = SECTION_MODELS,
) -> Space:
    r"""Returns the space that a file, a text or ``preset:NAME`` describes.

    Args:
        source: a path, ``preset:NAME``, or YAML text (anything with a line break in it).
        assignments: ``path=value`` each, put over the file's values; a value may be a domain.
        models: the schema of each section that is probed.

    Raises:
        DocumentError: with every fault of the file, each with its line and field.
        InputError: if there is no such file or preset.

    >>> load_space("architecture:\n  depth: {int: [3, 5]}\n  width: {choice: [8, 16]}").count()
    6
    """
    document = open_document(source)
    if assignments:
        document = set_values(document, assignments)
    compiled, faults = compile_tree(document.tree)
    faults += unknown_sections(document, models[SECTION], (SECTION,))[0]
    faults += _holes_elsewhere(document.tree)
    if SECTION not in document.tree:
        faults.append(Fault((SECTION,), "this section must be given"))
    if not faults and not document.faults:
        faults = probe(compiled, models)
    if faults or document.faults:
        placed = [place(fault, document) for fault in faults]
        raise document_error([*document.faults, *placed], document.name)
    return Space(document, compiled)


def _holes_elsewhere(tree: Mapping[str, Any]) -> Iterator[Fault]:
    for section, value in tree.items():
        if section not in HOLE_SECTIONS:
            for path in find_domains(value):
                rule = "must be one value: only architecture and train may have domains"
                yield Fault((section, *path), rule, "a domain")


# --- probing ------------------------------------------------------------------------------


def probe(tree: Mapping[str, Any], models: Mapping[str, type[BaseModel]]) -> list[Fault]:
    """Returns the faults of single fields, at the values of the document that cause them."""
    found: dict[tuple[Path, str], Fault] = {}
    for candidate in probes({name: tree[name] for name in models if name in tree}):
        for section, model in models.items():
            if section in candidate.tree:
                for fault in field_faults(candidate, section, model):
                    found.setdefault((fault.path, fault.rule), fault)
    return list(found.values())


def probes(tree: Mapping[str, Any]) -> Iterator[Assignment]:
    """Yields one candidate for every value of every domain, with the others at their first.

    The domains of stages share one source, and are probed once.
    """
    waiting: list[dict[str, Scalar]] = [{}]
    seen: set[Path] = set()
    while waiting:
        forced = waiting.pop()
        candidate = assign(tree, partial(_forced, forced))
        for name, domain in candidate.domains.items():
            if domain.source not in seen:
                seen.add(domain.source)
                waiting += [{**forced, name: value} for value in reversed(_others(domain))]
        yield candidate


def _forced(forced: Mapping[str, Scalar], name: str, domain: Domain) -> Scalar:
    if name in forced:
        return forced[name]
    return domain.labels[0] if isinstance(domain, Choice) else domain.low


def _others(domain: Domain) -> list[Scalar]:
    """Returns the values to be probed besides the first."""
    match domain:
        case Choice():
            return list(domain.labels[1:])
        case IntRange() if len(domain.values) <= _PROBED_ONE_BY_ONE:
            return list(domain.values[1:])
        case IntRange():
            return [domain.low + domain.step, domain.high]
        case FloatRange():
            middle = domain.low + (domain.high - domain.low) / 2
            return list(dict.fromkeys([middle, domain.high]))


def field_faults(candidate: Assignment, section: str, model: type[BaseModel]) -> Iterator[Fault]:
    """Yields what fields by themselves refuse; rules between fields are left out."""
    tree = candidate.tree[section]
    try:
        model.model_validate(tree)
    except ValidationError as error:
        errors = [e for e in error.errors(include_url=False) if e["type"] != "faults"]
        for trouble in troubles_of(errors, tree, model, holes=section in HOLE_SECTIONS):
            yield _fault_in_document(trouble, section, candidate)


def _fault_in_document(trouble: Trouble, section: str, candidate: Assignment) -> Fault:
    """Returns a fault where its cause stands: a value, a whole domain, or the key above it."""
    fault = trouble.fault
    path = in_document((section, *fault.path), candidate.origins)
    if trouble.of_key:
        above = in_document((section, *fault.path[:-1]), candidate.origins)
        return Fault((*above, *fault.path[-1:]), fault.rule, fault.got, fault.fix)
    for domain in candidate.domains.values():
        within = path[: len(domain.source) + 1] == (*domain.source, "float")
        if trouble.is_type and within and isinstance(domain, FloatRange):
            fix = _integers_meant(domain) if fault.rule == "must be an integer" else None
            return Fault(domain.source, fault.rule, "a range of numbers", fix)
    return Fault(path, fault.rule, fault.got, fault.fix)


def _integers_meant(domain: FloatRange) -> str | None:
    """Returns the range of integers within one of floats, if there are any."""
    low, high = math.ceil(domain.low), math.floor(domain.high)
    return f"write int: [{low}, {high}] in place of float" if low <= high else None


def in_document(path: Path, origins: Mapping[Path, Path]) -> Path:
    """Returns where in the document a value of a filled tree stands.

    >>> in_document(("a", "down", "k"), {("a", "down"): ("a", "down", "choice", 1)})
    ('a', 'down', 'choice', 1, 'k')
    """
    for end in range(len(path), 0, -1):
        if path[:end] in origins:
            return (*origins[path[:end]], *path[end:])
    return path


def conditions_of(tree: Mapping[str, Any]) -> Conditions:
    """Returns the conditions that the section ``train`` of a filled tree sets.

    Raises:
        InputError: if values drawn together do not go together.
    """
    try:
        return Conditions.model_validate(tree.get("train") or {})
    except ValidationError as error:
        raise InputError(str(error.errors()[0]["msg"])) from error


def training_of(tree: Mapping[str, Any], device: Device) -> Training:
    """Returns the training step that a filled tree asks for.

    The section ``train`` sets most of it; the loss also depends on whether the ``data`` have
    positions to ignore and labels that overlap.
    """
    conditions, data = conditions_of(tree), tree.get("data") or {}
    return replace(
        conditions.training(device),
        ignore_label=data.get("ignore_label") is not None,
        class_weights=conditions.class_weights is not None,
        multi_label=data.get("multi_label") is True,
    )

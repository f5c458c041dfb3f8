"""From a file to a study: all sections checked at once, then bound to what the data ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from unet_nas.errors import DocumentError, Fault
from unet_nas.records.study import ObjectiveSpec
from unet_nas.search.config import SearchConfig, Sections, objective_of
from unet_nas.space.load import SECTION_MODELS, Space, load_space
from unet_nas.text import Document, find_domains, parse_document, set_values, validate
from unet_nas.text.document import document_error, place
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.cases import Task
from unet_nas.train.data.checks import fields_of
from unet_nas.train.data.config import DataConfig
from unet_nas.unet.load import open_document

__all__ = ["IDENTITY", "Study", "load_study"]

IDENTITY = ("architecture", "data", "budget", "objectives", "train")
"""The sections that a run is about: a run goes on only while these stay as they are."""

MODELS: Mapping[str, type[BaseModel]] = {**SECTION_MODELS, "train": TrainConfig}


@dataclass(frozen=True, slots=True)
class Study:
    """What a file asks for.

    Attributes:
        name: Of the study.
        source: The file as given.
        assignments: What ``--set`` put over it.
        base: The folder that paths in the file are relative to.
        space: The search space.
        sections: Objectives, search and baselines.
        data: Where the cases come from.
    """

    name: str
    source: str
    assignments: tuple[str, ...]
    base: Path
    space: Space
    sections: Sections
    data: DataConfig

    @property
    def search(self) -> SearchConfig:
        """How it is searched."""
        return self.sections.search

    @property
    def objectives(self) -> tuple[ObjectiveSpec, ...]:
        """What is maximised and minimised, in the order of the file."""
        return tuple(map(objective_of, self.sections.objectives))

    @property
    def text(self) -> str:
        """The file with ``--set`` applied, as YAML without comments."""
        text: str = yaml.safe_dump(
            self.space.document.tree, sort_keys=False, allow_unicode=True, width=100
        )
        return text

    @property
    def identity(self) -> dict[str, Any]:
        """The part of the file that must stay as it is while a run goes on."""
        return identity_of(self.space.document.tree)

    def bound_to(self, task: Task) -> Study:
        """Returns the study whose networks take the data's channels and give their classes.

        Raises:
            DocumentError: if the file says otherwise.
        """
        wanted = fields_of(task)
        document = self.space.document
        given = document.tree["architecture"]
        faults = [
            Fault(("architecture", name), _as_data(name, value, task), repr(given[name]))
            for name, value in wanted.items()
            if name in given and given[name] != value
        ]
        faults += self._axes_faults(task)
        if faults:
            raise document_error([place(fault, document) for fault in faults], document.name)
        missing = [f"{name}={value}" for name, value in wanted.items() if name not in given]
        space = load_space(self.source, [*self.assignments, *missing], models=MODELS)
        # what the data turn out to need decides, as far as the file did not say it
        known = {"multi_label": task.multi_label, "ignore_label": task.ignore_label}
        tree = {**space.tree, "data": {**(space.tree.get("data") or {}), **known}}
        return replace(self, space=replace(space, document=document, tree=tree))

    def _axes_faults(self, task: Task) -> Iterator[Fault]:
        train = self.space.document.tree.get("train") or {}
        if find_domains(train):
            return
        size = TrainConfig.model_validate(train).patch_size
        if isinstance(size, tuple) and len(size) != task.spatial_dims:
            rule = f"must have one number, or one for each of the data's {task.spatial_dims} axes"
            yield Fault(("train", "patch_size"), rule, "x".join(map(str, size)))


def _as_data(name: str, value: int, task: Task) -> str:
    """Returns the rule for a field that the data decide."""
    names = f", with {', '.join(task.class_names)}" if name == "classes" else ""
    return f"must be {value}, as the data are{names}"


def identity_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sections of a document that a run is about."""
    return {name: tree.get(name) for name in IDENTITY}


def load_study(source: str | os.PathLike[str], assignments: Sequence[str] = ()) -> Study:
    """Reads a file with the sections of a search.

    Args:
        source: a path, or YAML text (anything with a line break in it).
        assignments: ``path=value`` each, put over the file's values.

    Raises:
        DocumentError: with every fault of the file, each with its line and field.
        InputError: if there is no such file.
    """
    document = open_document(source)
    if assignments:
        document = set_values(document, assignments)
    faults: list[Fault] = []
    space = sections = data = None
    try:
        space = load_space(source, assignments, models=MODELS)
    except DocumentError as error:
        faults += error.faults
    plain = _without_holes(document)
    try:
        sections = validate(plain, Sections, ())
    except DocumentError as error:
        faults += error.faults
    try:
        data = validate(plain, DataConfig, ("data",))
    except DocumentError as error:
        faults += error.faults
    faults += _train_faults(document)
    if faults or space is None or sections is None or data is None:
        raise _all_at_once(document, faults)
    text = isinstance(source, str) and "\n" in source
    return Study(
        name=str(document.tree.get("name") or ("study" if text else Path(source).stem)),
        source=os.fspath(source),
        assignments=tuple(assignments),
        base=Path.cwd() if text else Path(source).resolve().parent,
        space=space,
        sections=sections,
        data=data,
    )


def _without_holes(document: Document) -> Document:
    """Returns the document without the sections that have domains where none may be."""
    tree = {
        name: value
        for name, value in document.tree.items()
        if name in ("architecture", "train") or not find_domains(value)
    }
    return replace(document, tree=tree)


def _train_faults(document: Document) -> Iterator[Fault]:
    """Yields rules between the fields of ``train``, and what a search needs of it."""
    train = document.tree.get("train")
    if train is not None and find_domains(train):
        return
    if not isinstance(train, dict) or train.get("patch_size") is None:
        yield Fault(("train", "patch_size"), "must be given for a search", fix="write 128x128, say")
        return
    try:
        validate(document, TrainConfig, ("train",))
    except DocumentError as error:
        yield from error.faults


def _all_at_once(document: Document, faults: Sequence[Fault]) -> DocumentError:
    kept = {placed.fault for placed in document.faults}
    fresh = [place(fault, document) for fault in dict.fromkeys(faults) if fault not in kept]
    return document_error([*document.faults, *fresh], document.name)


def parse_identity(text: str) -> dict[str, Any]:
    """Returns the identity of a run from the text in its header."""
    return identity_of(parse_document(text, "space.yaml").tree)

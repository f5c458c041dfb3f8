"""Where the sections of one training are read from.

``architecture`` stands in the file that is named. ``train`` is that of the same file, else of the
record of the trial that the file belongs to, else of the YAML file that ``--data`` names. ``data``
is that of ``--data``, else of the file, else of the run that the trial belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from unet_nas.errors import InputError
from unet_nas.records import lookup
from unet_nas.records.lookup import names_trial, run_above
from unet_nas.records.study import HEADER, RECORD, RunHeader, TrialRecord
from unet_nas.text import (
    Document,
    find_domains,
    format_path,
    parse_document,
    set_values,
    validate,
)
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.config import DataConfig
from unet_nas.train.product import ARCHITECTURE
from unet_nas.unet.load import PREFIX, open_document

__all__ = ["architecture_file", "data_config", "train_config"]


def architecture_file(source: str) -> str:
    """Returns the architecture file of ``RUN#TRIAL`` or of a folder; anything else as it is.

    Raises:
        InputError: if there is no such trial, or no architecture in the folder.
    """
    if names_trial(source) and not source.startswith(PREFIX):
        return str(lookup.architecture_file(source))
    folder = Path(source)
    if not source.startswith(PREFIX) and folder.is_dir():
        path = folder / ARCHITECTURE
        if not path.exists():
            raise InputError(f"{source} is a folder without {ARCHITECTURE}")
        return str(path)
    return source


def train_config(
    document: Document, file: str, data: str | None, assignments: Sequence[str]
) -> TrainConfig:
    """Returns the section ``train``; its defaults where nothing has one.

    Args:
        document: of the architecture, with ``assignments`` over it.
        file: of the architecture.
        data: as given; a YAML file may have the section.
        assignments: ``path=value`` each, for a section that stands elsewhere.

    Raises:
        InputError: if a value of it is a domain.
        DocumentError: with its faults.
    """
    given = [a for a in assignments if a.startswith("train.")]
    elsewhere = None if _written(document, given) else _elsewhere(file, data)
    if elsewhere is not None:
        document = set_values(elsewhere, given) if given else elsewhere
    if document.tree.get("train") is None:
        return TrainConfig()
    holes = find_domains(document.tree["train"])
    if holes:
        path = format_path(("train", *holes[0]))
        raise InputError(
            f"{document.name}: {path} must be one value here: a domain makes the file a search "
            f"space; choose with --set {path}=…"
        )
    return validate(document, TrainConfig, ("train",))


def _written(document: Document, given: Sequence[str]) -> bool:
    """Tells whether the file itself has the section, besides what ``--set`` gives."""
    keys = set(document.tree.get("train") or {})
    return bool(keys - {a.removeprefix("train.").partition("=")[0] for a in given})


def _elsewhere(file: str, data: str | None) -> Document | None:
    """Returns another document with the section, if there is one."""
    record = _record_beside(file)
    if record is not None and record.train:
        return parse_document(json.dumps({"train": record.train}), f"the record beside {file}")
    if data is not None and _is_yaml(data):
        other = open_document(data)
        return other if other.tree.get("train") else None
    return None


def _record_beside(file: str) -> TrialRecord | None:
    path = Path(file).parent / RECORD
    if file.startswith(PREFIX) or not path.is_file():
        return None
    return TrialRecord.from_json(path.read_bytes())


def data_config(
    document: Document, file: str, data: str | None, assignments: Sequence[str]
) -> tuple[DataConfig, Path]:
    """Returns the section ``data``, and the folder that its paths begin in.

    Raises:
        InputError: if there is none.
        DocumentError: with its faults.
    """
    given = [a for a in assignments if a.startswith("data.")]
    if data is not None and not _is_yaml(data):
        document = set_values(document, [f"data.source={json.dumps(data)}"])
        return validate(document, DataConfig, ("data",)), Path()
    if data is not None:
        other, base = open_document(data), Path(data).parent
    elif document.tree.get("data") is not None:
        base = Path() if file.startswith(PREFIX) else Path(file).parent
        return validate(document, DataConfig, ("data",)), base
    else:
        other, base = _of_run(document, file), Path()
    other = set_values(other, given) if given else other
    return validate(other, DataConfig, ("data",)), base


def _of_run(document: Document, file: str) -> Document:
    """Returns the file of the run that a trial's architecture lies in."""
    run = None if _record_beside(file) is None else run_above(Path(file).parent)
    if run is None:
        raise InputError(
            f"{document.name} has no section data; give --data FOLDER, or a YAML file with one"
        )
    header = RunHeader.from_json((run / HEADER).read_bytes())
    return parse_document(header.file, f"the file of the run {run.name}")


def _is_yaml(source: str) -> bool:
    return source.lower().endswith((".yaml", ".yml"))

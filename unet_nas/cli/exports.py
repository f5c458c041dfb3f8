"""The command export: a network, or one that a search trained, in a folder of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_nas.cli.common import PatchSize, Set, as_path, size_of
from unet_nas.errors import InputError

if TYPE_CHECKING:
    from unet_nas.records import Run, TrialRecord
    from unet_nas.unet.architecture import Architecture


def export(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="An architecture file, preset:NAME, or STUDY#TRIAL: the folder or name of a run "
            "and a number, best, a baseline, or NAME/seed-0 of a finalist.",
        ),
    ],
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder for the files.")],
    patch_size: PatchSize = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Weights of the network, as .safetensors, to go with it."
        ),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write model.onnx too, compared with PyTorch.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    assignments: Set = None,
) -> None:
    """Write a network as one readable file of plain PyTorch that does not need this package.

    Beside model.py go architecture.yaml, the weights under the names of model.py, and of a
    trial of a search a README.md on how to use it. model.py states MACs for --patch-size and
    runs it as an example.
    """
    from unet_nas.records.lookup import names_trial
    from unet_nas.unet.export import export as export_architecture

    size = size_of(patch_size)
    if names_trial(file):
        network = _trial(file, size, weights, assignments, onnx=onnx)
    else:
        network = _file(file, size, weights, assignments)
    notes = [_add_onnx(network)] if onnx else []
    written = export_architecture(
        network.architecture,
        to,
        name=network.name,
        patch_size=network.patch_size,
        weights=network.weights,
        beside=network.beside,
        force=force,
    )
    for path in written:
        print(path)
    for note in [*notes, *network.notes]:
        print(note)


@dataclass(slots=True)
class _Network:
    """What is exported."""

    architecture: Architecture
    name: str
    patch_size: tuple[int, ...] | None
    weights: Path | None
    beside: dict[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _file(
    file: str, size: tuple[int, ...] | None, weights: str | None, assignments: list[str] | None
) -> _Network:
    """Loads an architecture file or preset."""
    from unet_nas.unet.load import PREFIX, open_document, to_architecture

    document = open_document(as_path(file))
    name = document.tree.get("name") or Path(file.removeprefix(PREFIX)).stem
    return _Network(
        to_architecture(document, assignments or ()),
        str(name),
        size,
        None if weights is None else Path(weights),
    )


def _trial(
    text: str,
    size: tuple[int, ...] | None,
    weights: str | None,
    assignments: list[str] | None,
    *,
    onnx: bool,
) -> _Network:
    """Loads what a search trained."""
    from unet_nas.records.lookup import find_trial
    from unet_nas.records.study import ARCHITECTURE
    from unet_nas.unet.handover import handover, longer_trainings
    from unet_nas.unet.load import load_architecture

    if weights is not None or assignments:
        option = "--set" if assignments else "--weights"
        raise InputError(f"{text} has its architecture and weights; {option} is for files")
    run, record = find_trial(text)
    path = _weights_of(run, record)
    architecture = load_architecture(path.parent / ARCHITECTURE)
    study = text.partition("#")[0]
    notes = tuple(
        f"{record.name} was trained for longer too: export '{study}#{longer}'"
        for longer in longer_trainings(run, record)[:1]
    )
    return _Network(
        architecture,
        f"{run.header.name} {record.name}",
        size or run.header.patch_size or None,
        path,
        handover(run, record, architecture, onnx=onnx),
        notes,
    )


def _weights_of(run: Run, record: TrialRecord) -> Path:
    """Returns the file of a record's weights."""
    if record.architecture is None:
        raise InputError(
            f"{record.name} is a network of Python code ({record.network}): export is for "
            "architectures of unet_nas"
        )
    if record.weights is None:
        reason = f"it {record.state}" if record.failure is None else record.failure.reason
        raise InputError(f"{record.name} has no weights: {reason}")
    return run.files_of(record) / record.weights


def _add_onnx(network: _Network) -> str:
    """Adds the ONNX file and returns how it compares with PyTorch."""
    from unet_nas.unet.export import ONNX, export_onnx

    if network.weights is None:
        raise InputError("--onnx needs weights: give --weights FILE, or export STUDY#TRIAL")
    print("unet-nas: comparing the ONNX model with PyTorch", file=sys.stderr)
    network.beside[ONNX], (one, two) = export_onnx(
        network.architecture,
        network.weights,
        name=network.name,
        patch_size=network.patch_size,
    )
    from unet_nas.unet.onnx_check import TOLERANCE

    return (
        f"{ONNX} differs from PyTorch by {one} and {two}, as a share of the largest output "
        f"(tolerance {TOLERANCE:g})"
    )

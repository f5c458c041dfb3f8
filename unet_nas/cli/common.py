"""What the commands share: their options, how files are loaded, and how results are printed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from unet_nas.errors import InputError

if TYPE_CHECKING:
    from unet_nas.report.tables import Table as DataTable
    from unet_nas.unet.architecture import Architecture

T = TypeVar("T")

# typer reads these when it builds a command; they are those of `unet_nas.audit.memory`,
# which would cost every other command its import
Precision = Literal["fp32", "bf16", "fp16", "pure-bf16", "pure-fp16"]
OptimizerKind = Literal["sgd", "adam", "adamw"]
Implementation = Literal["single", "foreach", "fused"]
Device = Literal["cpu", "cuda"]
Mode = Literal["train", "eval"]
LossKind = Literal["cross_entropy", "dice_cross_entropy"]

#: a table that does not go to a terminal takes up to this many columns
_FILE_WIDTH = 160

#: the samplers of Optuna take 32 bits, and each process of a search adds its number to the seed
LARGEST_SEED = 2**32 - 1 - 1024

File = Annotated[
    str, typer.Argument(metavar="FILE", help="An architecture file, preset:NAME, or STUDY#TRIAL.")
]
PatchSize = Annotated[
    str | None,
    typer.Option("--patch-size", metavar="SIZE", help="Spatial size of the input, as 572x572."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a field, as --set depth=5."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]


def load(file: str, assignments: list[str] | None) -> Architecture:
    """Returns the architecture that a file or preset describes, with ``--set`` over it."""
    from unet_nas.unet.load import load_architecture

    return load_architecture(_architecture_file(as_path(file)), assignments or ())


def _architecture_file(file: str) -> str:
    """Returns FILE, of STUDY#TRIAL the file of its architecture."""
    if "#" not in file:  # most files, without the records' start-up
        return file
    from unet_nas.records.lookup import architecture_file, names_trial

    return str(architecture_file(file)) if names_trial(file) else file


def share_cores() -> None:
    """Lets the threads of PyTorch sleep while they wait, for commands that train.

    It must be called before torch is imported. The threads of OpenMP otherwise spin: on two cores
    with other work on them a training step then took 20 times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def default_implementation(device: Device) -> Implementation:
    """Returns how PyTorch runs an optimizer where it is not told."""
    return "foreach" if device == "cuda" else "single"


def as_path(file: str) -> str:
    """Returns FILE, refused where it is YAML text: that is for Python, not for a shell."""
    if "\n" in file:
        raise InputError("FILE must be the name of a file or preset:NAME, got several lines")
    return file


def read_option(option: str, text: str, parse: Callable[[str], T]) -> T:
    """Returns the quantity that an option gives; a fault of it names the option."""
    try:
        return parse(text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None


def size_of(text: str | None) -> tuple[int, ...] | None:
    """Returns the patch size that ``--patch-size`` gives, if it was given."""
    from unet_nas.units import parse_size

    return None if text is None else read_option("--patch-size", text, parse_size)


def print_json(data: dict[str, Any]) -> None:
    """Prints plain data as JSON."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(table: DataTable, style: str) -> None:
    """Prints a table for the terminal or, with a style, as text of that format."""
    from unet_nas.report.tables import render, to_rich

    if style:
        print(render(table, style))  # type: ignore[arg-type]
        return
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=_FILE_WIDTH)
    made = to_rich(table)
    # a number that is cut is a wrong number: a narrow terminal wraps whole lines instead
    needed = Measurement.get(console, console.options.update(max_width=10_000), made).minimum
    console.width = max(console.width, needed)
    console.print(made)
    if table.caption:
        print(table.caption)


def print_lines(lines: list[str]) -> None:
    """Prints lines, wrapped under their own indent where a terminal is narrower."""
    if not sys.stdout.isatty():
        print("\n".join(lines))
        return
    import shutil
    import textwrap

    width = max(40, shutil.get_terminal_size().columns)
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        print(textwrap.fill(line, width, subsequent_indent=indent, break_on_hyphens=False))


class Progress:
    """Tells on stderr how far a command is, once it takes longer than two seconds."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.shown = False
        self.next = time.monotonic() + 2

    def __call__(self, done: int, number: int) -> None:
        """Called after each step."""
        if self.shown and done == number:
            print(file=sys.stderr)
            self.shown = False
        elif time.monotonic() >= self.next:
            terminal = sys.stderr.isatty()
            self.next = time.monotonic() + (0.2 if terminal else 10)
            line = f"{done:,} of {number:,} {self.word}"
            print(f"\r{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr)
            self.shown = terminal

"""The command line: parse, call one public function, print, set the exit code."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unet_nas.errors import DocumentError, InputError, SizeError, UnetNasError

if TYPE_CHECKING:
    from rich.table import Table

    from unet_nas.audit.audit import Audit
    from unet_nas.audit.memory import Training
    from unet_nas.records import Profile
    from unet_nas.report.tables import Table as DataTable
    from unet_nas.unet.architecture import Architecture

# typer reads these when it builds a command; they are those of `unet_nas.audit.memory`,
# which would cost every other command its import
Precision = Literal["fp32", "bf16", "fp16", "pure-bf16", "pure-fp16"]
OptimizerKind = Literal["sgd", "adam", "adamw"]
Implementation = Literal["single", "foreach", "fused"]
Mode = Literal["train", "eval"]
LossKind = Literal["cross_entropy", "dice_cross_entropy"]

#: a table that does not go to a terminal takes up to this many columns
_FILE_WIDTH = 160

app = typer.Typer(
    help="Describe U-Nets in YAML, check them before a tensor exists, and build them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

File = Annotated[str, typer.Argument(metavar="FILE", help="An architecture file, or preset:NAME.")]
PatchSize = Annotated[
    str | None,
    typer.Option("--patch-size", metavar="SIZE", help="Spatial size of the input, as 572x572."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a field, as --set depth=5."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]


@app.command()
def check(
    file: File,
    patch_size: PatchSize = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples per batch.")] = 1,
    mode: Annotated[Mode, typer.Option(help="Norms behave differently.")] = "train",
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Tell whether a network runs on a patch size, and if not, why, and what would help.

    Exit code 0 if it does, 2 if it does not.
    """
    from unet_nas.report import verdict
    from unet_nas.unet.check import check as check_architecture

    size = _size(patch_size)
    architecture = _load(file, assignments)
    result = check_architecture(architecture, size, batch_size=batch, mode=mode)
    if as_json:
        _print_json(verdict.as_json(result))
    else:
        _print_lines(verdict.as_lines(file, result))
    if not result.valid:
        raise typer.Exit(2)


@app.command()
def show(
    file: File, patch_size: PatchSize = None, assignments: Set = None, as_json: Json = False
) -> None:
    """Show the stages of a network as a table, with sizes where a patch size is given."""
    from unet_nas.unet.graph import lower
    from unet_nas.unet.outline import by, outline
    from unet_nas.unet.shapes import shapes

    architecture = _load(file, assignments)
    graph, size = lower(architecture), _size(patch_size)
    try:
        rows = outline(graph, shapes(graph, size) if size else None)
    except SizeError as error:
        hint = f"see unet-nas check {file} --patch-size {patch_size}"
        raise SizeError(f"{error}; {hint}") from None
    if as_json:
        keys = ("name", "what", "channels", "size", "parameters")
        stages = [{key: getattr(row, key) for key in keys} for row in rows]
        head = {"parameters": graph.parameters(), "digest": graph.digest(), "input_size": size}
        _print_json({**head, "stages": stages})
        return
    table = _table("Part", "Operators", ">Channels", *([">Size"] if size else []), ">Parameters")
    for row in rows:
        sizes = [by(row.size)] if row.size else []
        table.add_row(row.name, row.what, str(row.channels), *sizes, f"{row.parameters:,}")
    table.add_section()
    table.add_row("total", "", "", *([""] if size else []), f"{graph.parameters():,}")
    _print(table)


@app.command()
def presets(as_json: Json = False) -> None:
    """List the published networks that come with the package."""
    from unet_nas.unet.graph import lower
    from unet_nas.unet.load import describe_preset, preset_names

    found = [describe_preset(name) for name in preset_names()]
    counts = [lower(preset.architecture).parameters() for preset in found]
    if as_json:
        keys = ("name", "about", "reference")
        entries = [
            {**{key: getattr(preset, key) for key in keys}, "parameters": count}
            for preset, count in zip(found, counts, strict=True)
        ]
        _print_json({"presets": entries})
        return
    from unet_nas.report.listings import preset_lines

    _print_lines(preset_lines(zip(found, counts, strict=True)))


@app.command()
def operators(as_json: Json = False) -> None:
    """List all operators that a file can name, with their options and defaults."""
    from unet_nas.operators.catalogue import operators as all_operators

    found = all_operators()
    if as_json:
        _print_json({"operators": [_operator_json(operator) for operator in found]})
        return
    from unet_nas.report.listings import operator_lines

    _print_lines(operator_lines(found))


@app.command()
def audit(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="Architecture files or preset:NAME; several compare."),
    ],
    patch_size: Annotated[
        str, typer.Option("--patch-size", metavar="SIZE", help="Spatial size, as 256x256.")
    ],
    batch: Annotated[int, typer.Option(help="Samples per batch.")] = 1,
    precision: Annotated[
        Precision, typer.Option(help="Of the training step; bf16 and fp16 are autocast.")
    ] = "fp32",
    optimizer: Annotated[OptimizerKind, typer.Option(help="Of the training step.")] = "adamw",
    implementation: Annotated[
        Implementation, typer.Option(help="How PyTorch runs the optimizer.")
    ] = "foreach",
    loss: Annotated[LossKind, typer.Option(help="Of the training step.")] = "dice_cross_entropy",
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UNIT", help="Recompute in backward: 0, encoder.stages.0, bottleneck."
        ),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="In-place activations.")] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Memory of a training step, as 8GiB.")
    ] = None,
    fit_batch: Annotated[
        bool, typer.Option("--fit-batch", help="Largest batch within --budget.")
    ] = False,
    fit_patch: Annotated[
        bool, typer.Option("--fit-patch", help="Largest patch of this shape within --budget.")
    ] = False,
    fit_width: Annotated[
        bool, typer.Option("--fit-width", help="Widest `width` within --budget.")
    ] = False,
    advice: Annotated[
        bool, typer.Option("--advice", help="What standard changes would do to it.")
    ] = False,
    by: Annotated[Literal["stage", "node"] | None, typer.Option(help="Cost per part.")] = None,
    assignments: Set = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="… as Markdown.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="… as LaTeX (booktabs).")] = False,
) -> None:
    """Tell what networks cost: parameters, MACs and memory, before any tensor exists.

    Exit code 2 if a --budget is given and the training step does not fit.
    """
    from unet_nas.audit.memory import Training
    from unet_nas.units import parse_bytes, parse_size

    training = Training(
        precision=precision,
        optimizer=optimizer,
        implementation=implementation,
        loss=loss,
        checkpoint=tuple(checkpoint or ()),
        in_place=in_place,
    )
    flags = {"csv": as_csv, "markdown": as_markdown, "latex": as_latex, "json": as_json}
    chosen = [name for name, given in flags.items() if given]
    if len(chosen) > 1:
        raise InputError(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    request = _AuditRequest(
        files,
        assignments or [],
        parse_size(patch_size),
        batch,
        training,
        None if budget is None else parse_bytes(budget),
        chosen[0] if chosen else "",
    )
    fits = {"batch": fit_batch, "patch": fit_patch, "width": fit_width}
    fitting = [name for name, wanted in fits.items() if wanted]
    if fitting:
        _print_fits(request, fitting)
    elif advice:
        _print_advice(request)
    else:
        _print_audits(request, by)


@app.command()
def profile(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="An architecture file, preset:NAME, or python:module:factory."
        ),
    ],
    patch_size: Annotated[
        str, typer.Option("--patch-size", metavar="SIZE", help="Spatial size, as 256x256.")
    ],
    batch: Annotated[int, typer.Option(help="Samples per batch.")] = 1,
    precision: Annotated[
        Precision, typer.Option(help="bf16 and fp16 are autocast, pure-… is all of it.")
    ] = "fp32",
    optimizer: Annotated[OptimizerKind, typer.Option(help="Of the training step.")] = "adamw",
    implementation: Annotated[
        Implementation, typer.Option(help="How PyTorch runs the optimizer.")
    ] = "foreach",
    loss: Annotated[LossKind, typer.Option(help="Of the training step.")] = "dice_cross_entropy",
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where it runs.")] = "cpu",
    in_channels: Annotated[
        int | None, typer.Option("--in-channels", min=1, help="Of a network of Python code.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Time it under torch.compile too.")
    ] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Use the channels-last memory format.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Samples of a latency.")] = 20,
    time_limit: Annotated[
        str, typer.Option("--time-limit", metavar="TIME", help="Of each process, as 10min.")
    ] = "10min",
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Measure a network in processes of its own, and print predicted beside measured.

    Running out of memory or time is a result. Exit code 1 if the network itself fails.
    """
    from unet_nas.audit.memory import Training
    from unet_nas.profile.profile import profile as measure
    from unet_nas.units import parse_duration, parse_size

    training = Training(
        precision=precision, optimizer=optimizer, implementation=implementation, loss=loss
    )
    size = parse_size(patch_size)
    foreign = file.startswith("python:")
    if foreign and assignments:
        raise InputError("--set is for architectures; a network of Python code has no fields")
    request = _AuditRequest([file], assignments or [], size, batch, training, None, "")
    predicted = None if foreign else _audits(request)[file]
    result = measure(
        file if foreign else request.architecture(),
        patch_size=size,
        batch_size=batch,
        training=training,
        name=file,
        in_channels=in_channels,
        device=device,
        compiled=compiled,
        channels_last=channels_last,
        repeats=repeats,
        time_limit_s=parse_duration(time_limit),
        on_progress=lambda message: print(f"unet-nas: {message}", file=sys.stderr),
    )
    _print_profile(result, predicted, as_json)


@app.command()
def export(
    file: File,
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder for the files.")],
    patch_size: PatchSize = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Weights of the network, as .safetensors, to go with it."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    assignments: Set = None,
) -> None:
    """Write a network as one readable file of plain PyTorch that does not need this package.

    Beside model.py goes architecture.yaml, and with --weights a weights.safetensors under the
    names of model.py, which states MACs for --patch-size and runs it as an example.
    """
    from unet_nas.unet.export import export as export_architecture
    from unet_nas.unet.load import PREFIX, open_document, to_architecture

    document = open_document(_as_path(file))
    name = document.tree.get("name") or Path(file.removeprefix(PREFIX)).stem
    written = export_architecture(
        to_architecture(document, assignments or ()),
        to,
        name=str(name),
        patch_size=_size(patch_size),
        weights=weights,
        force=force,
    )
    for path in written:
        print(path)


@app.command()
def space(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A search space: holes in a file.")],
    patch_size: Annotated[
        str | None,
        typer.Option("--patch-size", metavar="SIZE", help="In place of train.patch_size."),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="In place of train.batch_size.")] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Draw so many; default: all up to 20,000, else 5,000."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Tell how large a search space is, what of it aligns and fits, and what rejects the rest."""
    from unet_nas.report import space_page
    from unet_nas.space.load import load_space
    from unet_nas.space.survey import survey

    found = survey(
        load_space(_as_path(file), assignments or ()),
        patch_size=_size(patch_size),
        batch_size=batch,
        samples=samples,
        seed=seed,
        progress=_Progress("judged"),
    )
    if as_json:
        _print_json(space_page.as_json(file, found))
        return
    lines = space_page.counts(found)
    width = max(len(label) for label, _ in lines)
    _print_lines([file, *(f"  {label:{width}}  {text}" for label, text in lines)])
    if found.reasons:
        _print_table(space_page.reasons_table(found), "")
    _print_lines(["", *space_page.verdict(found)])
    for histogram in space_page.histograms(found):
        print(f"\n{histogram}")
    if found.extremes:
        _print_table(space_page.extremes_table(found), "")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; prints one message and no traceback for what a person did."""
    # plug-ins that other packages bring for pydantic are none of ours, and cost time to look for
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows ?
    try:
        try:
            app(args=arguments, prog_name="unet-nas")
        finally:
            sys.stdout.flush()
    except UnetNasError as error:
        # a fault of a document begins with file and line, which editors and terminals can open
        begin = "" if isinstance(error, DocumentError) else "unet-nas: "
        print(f"{begin}{error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of a pipe went away: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


# --- helpers ------------------------------------------------------------------------------


def _load(file: str, assignments: list[str] | None) -> Architecture:
    from unet_nas.unet.load import load_architecture

    return load_architecture(_as_path(file), assignments or ())


def _as_path(file: str) -> str:
    if "\n" in file:
        raise InputError("FILE must be the name of a file or preset:NAME, got several lines")
    return file


def _size(text: str | None) -> tuple[int, ...] | None:
    from unet_nas.units import parse_size

    try:
        return None if text is None else parse_size(text)
    except InputError as error:
        raise InputError(f"--patch-size: {error}") from None


def _print_json(data: dict[str, Any]) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _print(*items: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=_FILE_WIDTH)
    for item in items:
        console.print(item)


def _table(*headers: str) -> Table:
    """Returns an empty table; a header that begins with ``>`` is aligned to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        right = header.startswith(">")
        table.add_column(
            header.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    return table


def _print_lines(lines: list[str]) -> None:
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


class _Progress:
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


def _operator_json(operator: Any) -> dict[str, Any]:
    keys = ("name", "default", "choices", "meaning")
    options = [{key: getattr(option, key) for key in keys} for option in operator.options]
    return {
        "field": operator.field,
        "name": operator.name,
        "meaning": operator.meaning,
        "options": options,
    }


# --- audit --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _AuditRequest:
    """What a person asked an audit for."""

    files: list[str]
    assignments: list[str]
    patch_size: tuple[int, ...]
    batch: int
    training: Training
    budget_bytes: int | None
    style: str

    def architecture(self) -> Architecture:
        """Loads the one file of a question about one network."""
        if len(self.files) != 1:
            raise InputError(f"this asks about one network, got {len(self.files)} files")
        return _load(self.files[0], self.assignments)

    def budget(self) -> int:
        """Returns the budget that fitting needs."""
        if self.budget_bytes is None:
            raise InputError("fitting needs a --budget, such as --budget 8GiB")
        return self.budget_bytes


def _audits(request: _AuditRequest) -> dict[str, Audit]:
    from unet_nas.audit.audit import audit as audit_architecture

    audits = {}
    for file in request.files:
        architecture = _load(file, request.assignments)
        try:
            audits[file] = audit_architecture(
                architecture,
                patch_size=request.patch_size,
                batch_size=request.batch,
                training=request.training,
            )
        except SizeError as error:
            size = "x".join(map(str, request.patch_size))
            hint = f"; see unet-nas check {file} --patch-size {size}"
            raise SizeError(f"{file}: {error}{hint}") from error
    return audits


def _print_audits(request: _AuditRequest, by: str | None) -> None:
    from unet_nas.report import audit_tables

    audits = _audits(request)
    (name, first), *others = audits.items()
    if request.style == "json":
        found = [audit_tables.as_json(file, result) for file, result in audits.items()]
        _print_json({"audits": found} if others else found[0])
    elif others:
        _print_table(audit_tables.comparison_table(audits), request.style)
    else:
        if not request.style:
            lines = audit_tables.summary(first, request.budget_bytes)
            width = max(len(label) for label, _ in lines)
            print(name)
            print("\n".join(f"  {label:{width}}  {text}" for label, text in lines))
        if by or request.style:
            _print_table(audit_tables.parts_table(first, by or "stage"), request.style)
        elif not request.style:
            print(f"\n{audit_tables.conventions(first)}")
    budget = request.budget_bytes
    if budget is not None and any(a.peak_training_bytes > budget for a in audits.values()):
        raise typer.Exit(2)


def _print_fits(request: _AuditRequest, wanted: list[str]) -> None:
    from unet_nas.audit import fit
    from unet_nas.audit.cost import check_batch_size
    from unet_nas.units import format_bytes

    check_batch_size(request.batch)
    architecture, budget = request.architecture(), request.budget()
    size, batch, training = request.patch_size, request.batch, request.training
    found: dict[str, Any] = {}
    if "batch" in wanted:
        found["batch"] = fit.fit_batch(architecture, budget, size, training)
    if "patch" in wanted:
        found["patch"] = fit.fit_patch(architecture, budget, size, batch, training)
    if "width" in wanted:
        found["width"] = fit.fit_width(architecture, budget, size, batch, training)
    if request.style == "json":
        _print_json({"budget_bytes": budget, **found})
    else:
        for what, value in found.items():
            shown = "x".join(map(str, value)) if isinstance(value, tuple) else value
            limit = f"fits a training step into {format_bytes(budget)}"
            print(f"no {what} {limit}" if value is None else f"largest {what}: {shown} {limit}")
    if None in found.values():
        raise typer.Exit(2)


def _print_advice(request: _AuditRequest) -> None:
    from dataclasses import asdict

    from unet_nas.audit.advice import advise
    from unet_nas.report import audit_tables

    architecture = request.architecture()
    (result,) = _audits(request).values()
    rows = advise(
        architecture,
        patch_size=request.patch_size,
        batch_size=request.batch,
        training=request.training,
    )
    if request.style == "json":
        _print_json({"advice": [asdict(row) for row in rows]})
    else:
        _print_table(audit_tables.advice_table(rows, result), request.style)


def _print_profile(result: Profile, predicted: Audit | None, as_json: bool) -> None:
    from unet_nas.report import profile_tables

    if as_json:
        _print_json(profile_tables.as_json(result, predicted))
    else:
        _print_table(profile_tables.profile_table(result, predicted), "")
    if any(failure.kind == "failed" for failure in result.failures.values()):
        raise typer.Exit(1)


def _print_table(table: DataTable, style: str) -> None:
    from unet_nas.report.tables import render, to_rich

    if style:
        print(render(table, style))  # type: ignore[arg-type]
        return
    _print(to_rich(table))
    print(table.caption)


if __name__ == "__main__":
    main()

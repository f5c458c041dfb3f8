"""The command line: parse, call one public function, print, set the exit code."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unet_nas.errors import InputError, SizeError, UnetNasError

if TYPE_CHECKING:
    from rich.table import Table

    from unet_nas.audit.audit import Audit
    from unet_nas.audit.memory import Training
    from unet_nas.report.tables import Table as DataTable
    from unet_nas.unet.architecture import Architecture
    from unet_nas.unet.check import Check

# typer reads these when it builds a command; they are those of `unet_nas.audit.memory`,
# which would cost every other command its import
Precision = Literal["fp32", "bf16", "fp16", "pure-bf16", "pure-fp16"]
OptimizerKind = Literal["sgd", "adam", "adamw"]
Implementation = Literal["single", "foreach", "fused"]
LossKind = Literal["cross_entropy", "dice_cross_entropy"]

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
    mode: Annotated[str, typer.Option(help="train or eval.")] = "train",
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Tell whether a network runs on a patch size, and if not, why, and what would help.

    Exit code 0 if it does, 2 if it does not.
    """
    from unet_nas.unet.check import check as check_architecture

    if mode not in ("train", "eval"):
        raise InputError(f"--mode must be train or eval, got {mode!r}")
    architecture = _load(file, assignments)
    result = check_architecture(
        architecture,
        _size(patch_size),
        batch_size=batch,
        mode=mode,  # type: ignore[arg-type]
    )
    if as_json:
        _print_json(_check_json(result))
    else:
        _print_check(file, result)
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
    rows = outline(graph, shapes(graph, size) if size else None)
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
    table = _table("Preset", "About", ">Parameters", "Reference")
    for preset, count in zip(found, counts, strict=True):
        table.add_row(f"preset:{preset.name}", preset.about, f"{count:,}", preset.reference)
    _print(table)


@app.command()
def operators(as_json: Json = False) -> None:
    """List all operators that a file can name, with their options and defaults."""
    from unet_nas.operators.catalogue import operators as all_operators

    found = all_operators()
    if as_json:
        _print_json({"operators": [_operator_json(operator) for operator in found]})
        return
    table = _table("Field", "Operator or option", "Default", "Meaning")
    field = ""
    for operator in found:
        if operator.field != field:
            table.add_section()
        shown = "" if operator.field == field else operator.field
        field = operator.field
        table.add_row(shown, f"[bold]{operator.name}[/bold]", "", operator.meaning)
        for option in operator.options:
            words = f" ({' | '.join(option.choices)})" if option.choices else ""
            table.add_row("", f"  {option.name}", option.default, option.meaning + words)
    _print(table)


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


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; prints one message and no traceback for what a person did."""
    try:
        app(args=arguments, prog_name="unet-nas")
    except UnetNasError as error:
        print(f"unet-nas: {error}" if "\n" not in str(error) else error, file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of a pipe went away: nothing is wrong
        sys.stderr.close()
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

    return None if text is None else parse_size(text)


def _print_json(data: dict[str, Any]) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _print(*items: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    console.print(*items)


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


def _check_json(result: Check) -> dict[str, Any]:
    rules = [
        None
        if rule is None
        else {"minimum": rule.minimum, "step": rule.step, "residues": list(rule.residues)}
        for rule in result.valid_sizes
    ]
    keys = ("name", "where", "axis", "reason", "sizes", "message", "why", "fixes")
    return {
        "valid": result.valid,
        "problems": [{key: getattr(p, key) for key in keys} for p in result.problems],
        "input_size": result.input_size,
        "output_size": result.output_size,
        "nearest_valid_sizes": result.nearest_valid_sizes,
        "valid_sizes": rules,
        "parameters": result.parameters,
        "batch_size": result.batch_size,
        "mode": result.mode,
    }


def _print_check(file: str, result: Check) -> None:
    from rich.markup import escape

    from unet_nas.unet.outline import by

    lines = []
    conditions = f"batch {result.batch_size}, {result.mode} mode"
    if result.input_size is not None:
        asked = f"{by(result.input_size)} ({conditions})"
        if result.output_size is not None:
            lines.append(f"[green]valid[/green]: {escape(file)} runs on {asked}")
            lines.append(f"  output size   {by(result.output_size)}")
        else:
            lines.append(f"[red]not valid[/red]: {escape(file)} does not run on {asked}")
            lines += [line for problem in result.problems for line in _problem_lines(problem)]
            fixes = dict.fromkeys(fix for problem in result.problems for fix in problem.fixes)
            lines += ["  any of these would help:" if len(fixes) > 1 else "  this would help:"]
            lines += [f"    - {escape(fix)}" for fix in fixes]
    else:
        verdict = "[green]valid[/green]" if result.valid else "[red]not valid[/red]"
        lines.append(f"{verdict}: {escape(file)}")
    lines.append(f"  parameters    {result.parameters:,}")
    for axis, rule in enumerate(result.valid_sizes):
        described = "follow no short rule" if rule is None else rule.describe()
        lines.append(f"  sizes, axis {axis} {described}")
    _print("\n".join(lines))


def _problem_lines(problem: Any) -> list[str]:
    from rich.markup import escape

    return [f"  - {escape(problem.message)}", f"      because {escape(problem.why)}"]


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


def _print_table(table: DataTable, style: str) -> None:
    from unet_nas.report.tables import render, to_rich

    if style:
        print(render(table, style))  # type: ignore[arg-type]
        return
    _print(to_rich(table))
    print(table.caption)


if __name__ == "__main__":
    main()

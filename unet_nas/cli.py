"""The command line: parse, call one public function, print, set the exit code."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_nas.errors import InputError, UnetNasError

if TYPE_CHECKING:
    from rich.table import Table

    from unet_nas.unet.architecture import Architecture
    from unet_nas.unet.check import Check

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


if __name__ == "__main__":
    main()

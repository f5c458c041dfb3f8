"""Commands on one network or on none: check, show, presets, operators."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from unet_nas.cli.common import (
    File,
    Json,
    Mode,
    PatchSize,
    Set,
    load,
    print_json,
    print_lines,
    print_table,
    size_of,
)
from unet_nas.errors import SizeError


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

    size = size_of(patch_size)
    architecture = load(file, assignments)
    result = check_architecture(architecture, size, batch_size=batch, mode=mode)
    if as_json:
        print_json(verdict.as_json(result))
    else:
        print_lines(verdict.as_lines(file, result))
    if not result.valid:
        raise typer.Exit(2)


def show(
    file: File, patch_size: PatchSize = None, assignments: Set = None, as_json: Json = False
) -> None:
    """Show the stages of a network as a table, with sizes where a patch size is given."""
    from unet_nas.report.tables import Column, Table
    from unet_nas.unet.graph import lower
    from unet_nas.unet.outline import by, outline
    from unet_nas.unet.shapes import shapes

    architecture = load(file, assignments)
    graph, size = lower(architecture), size_of(patch_size)
    try:
        rows = outline(graph, shapes(graph, size) if size else None)
    except SizeError as error:
        hint = f"see unet-nas check {file} --patch-size {patch_size}"
        raise SizeError(f"{error}; {hint}") from None
    if as_json:
        keys = ("name", "what", "channels", "size", "parameters")
        stages = [{key: getattr(row, key) for key in keys} for row in rows]
        head = {"parameters": graph.parameters(), "digest": graph.digest(), "input_size": size}
        print_json({**head, "stages": stages})
        return
    sized = [Column("Size", right=True)] if size else []
    columns = (
        Column("Part"),
        Column("Operators", wrap=True),
        Column("Channels", right=True),
        *sized,
        Column("Parameters", right=True),
    )
    cells: list[tuple[str, ...]] = [
        (
            row.name,
            row.what,
            str(row.channels),
            *([by(row.size)] if row.size else []),
            f"{row.parameters:,}",
        )
        for row in rows
    ]
    cells.append(("total", "", "", *([""] if size else []), f"{graph.parameters():,}"))
    print_table(Table(columns, tuple(cells), total=True), "")


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
        print_json({"presets": entries})
        return
    from unet_nas.report.listings import preset_lines

    print_lines(preset_lines(zip(found, counts, strict=True)))


def operators(as_json: Json = False) -> None:
    """List all operators that a file can name, with their options and defaults."""
    from unet_nas.operators.catalogue import operators as all_operators

    found = all_operators()
    if as_json:
        print_json({"operators": [_operator_json(operator) for operator in found]})
        return
    from unet_nas.report.listings import operator_lines

    print_lines(operator_lines(found))


def _operator_json(operator: Any) -> dict[str, Any]:
    keys = ("name", "default", "choices", "meaning")
    options = [{key: getattr(option, key) for key in keys} for option in operator.options]
    return {
        "field": operator.field,
        "name": operator.name,
        "meaning": operator.meaning,
        "options": options,
    }

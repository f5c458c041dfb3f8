"""Commands that show results: report, compare, draw."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from unet_nas.cli.common import (
    File,
    Json,
    PatchSize,
    Set,
    load,
    print_json,
    print_table,
    size_of,
)
from unet_nas.errors import InputError


def report(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="STUDY…",
            help="Folders of runs with equal objectives, dimensions, channels, classes and patch.",
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder for page, tables and figures.")
    ],
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Write no tables and no figures.")
    ] = False,
) -> None:
    """Write what a search found: one page that opens offline, tables and figures for a paper."""
    from unet_nas.records.lookup import named_folder
    from unet_nas.report.page import write_report

    folders = [named_folder(study) or Path(study) for study in studies]
    print(write_report(folders, Path(out), paper=not page_only, progress=_tell))


def _tell(message: str) -> None:
    """Says on stderr what comes next."""
    print(message, file=sys.stderr)


def compare(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK…",
            help="Architecture files, preset:NAME, STUDY#TRIAL, python:package.module:factory.",
        ),
    ],
    patch_size: PatchSize = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Of the training step; default: that of the study, else 1."),
    ] = None,
    assignments: Set = None,
    csv: Annotated[bool, typer.Option("--csv", help="Exact numbers, for programs.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A table for a README.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="A table for a paper (booktabs).")] = False,
    as_json: Json = False,
) -> None:
    """Compare any networks in one table: presets, files, results of a search, code of others.

    Exit code 2 if one of them does not run on the patch size.
    """
    from unet_nas.report.compare import compare as compare_networks
    from unet_nas.report.compare import comparison_json, comparison_table

    styles = {"csv": csv, "markdown": markdown, "latex": latex, "json": as_json}
    wanted = [name for name, given in styles.items() if given]
    if len(wanted) > 1:
        raise InputError(f"--{wanted[0]} and --{wanted[1]} exclude each other: ask one at a time")
    rows, conditions = compare_networks(
        networks,
        patch_size=size_of(patch_size),
        batch_size=batch,
        assignments=assignments or (),
        on_progress=_tell,
    )
    if as_json:
        print_json(comparison_json(rows, conditions))
    else:
        style = wanted[0] if wanted else ""
        print_table(comparison_table(rows, conditions, raw=style == "csv"), style)
    faults = [row for row in rows if row.fault]
    for row in faults:
        print(f"unet-nas: {row.name}: {row.fault}", file=sys.stderr)
    if faults:
        raise typer.Exit(2)


def draw(
    file: File,
    out: Annotated[
        str, typer.Option("-o", "--out", metavar="FILE", help="To write: .svg, .pdf or .png.")
    ],
    patch_size: PatchSize = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    assignments: Set = None,
) -> None:
    """Draw a network in the manner of the 2015 paper: its maps to scale, its operators as arrows.

    Without --patch-size sizes are those of an input near 256x256 (1024, 96x96x96) that fits.
    """
    from unet_nas.report.draw_file import default_size, write_drawing
    from unet_nas.unet.graph import lower

    graph = lower(load(file, assignments))
    size = size_of(patch_size) or default_size(graph)
    print(write_drawing(graph, Path(out), size, force=force))

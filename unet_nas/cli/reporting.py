"""Commands that show results: report, compare, draw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unet_nas.cli.common import File, PatchSize, Set, load, size_of


def report(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY…", help="Folders of runs with equal objectives.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder for page, tables and figures.")
    ],
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Write no tables and no figures.")
    ] = False,
) -> None:
    """Write what a search found: one page that opens offline, tables and figures for a paper."""
    from unet_nas.report.page import write_report

    folders = [Path(study) for study in studies]
    print(write_report(folders, Path(out)))


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

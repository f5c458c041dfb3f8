"""Commands on search spaces."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from unet_nas.cli.common import (
    Device,
    Json,
    Progress,
    Set,
    as_path,
    print_json,
    print_lines,
    print_table,
    size_of,
)


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
    device: Annotated[
        Device, typer.Option(help="Whose training step; cuda counts reserved memory.")
    ] = "cpu",
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Tell how large a search space is, what of it aligns and fits, and what rejects the rest."""
    from unet_nas.report import space_page
    from unet_nas.space.load import load_space
    from unet_nas.space.survey import survey

    loaded = load_space(as_path(file), assignments or ())
    _tell_defaults(loaded.document.tree)
    found = survey(
        loaded,
        patch_size=size_of(patch_size),
        batch_size=batch,
        samples=samples,
        seed=seed,
        device=device,
        progress=Progress("judged"),
    )
    if as_json:
        print_json(space_page.as_json(file, found))
        return
    lines = space_page.counts(found)
    width = max(len(label) for label, _ in lines)
    print_lines([file, *(f"  {label:{width}}  {text}" for label, text in lines)])
    if found.reasons:
        print_table(space_page.reasons_table(found), "")
    print_lines(["", *space_page.verdict(found)])
    for histogram in space_page.histograms(found):
        print(f"\n{histogram}")
    if found.extremes:
        print_table(space_page.extremes_table(found), "")


def _tell_defaults(tree: Mapping[str, Any]) -> None:
    """Tells which defaults stand in for what only the data know, which are not loaded here."""
    from unet_nas.unet.architecture import Architecture

    written = tree["architecture"] or {}
    left = [f for f in ("spatial_dims", "in_channels", "classes") if f not in written]
    if left and "data" in tree:
        used = ", ".join(f"{field} {Architecture.model_fields[field].default}" for field in left)
        print(
            f"note: the file leaves out {', '.join(left)}, so the defaults are used here ({used}); "
            "search takes those of the data, which unet-nas data tells",
            file=sys.stderr,
        )

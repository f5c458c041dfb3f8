"""Commands on search spaces."""

from __future__ import annotations

from typing import Annotated

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

    found = survey(
        load_space(as_path(file), assignments or ()),
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

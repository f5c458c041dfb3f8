"""The command on data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unet_nas.cli.common import Json, Progress, Set, as_path, print_json, print_lines, print_table


def data(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file with a section data.")],
    seed: Annotated[int, typer.Option(help="Of the split, where data.split.seed is null.")] = 0,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Load and check the data of a file: cases per part, sizes, class shares, and what is wrong."""
    from unet_nas.report import data_page
    from unet_nas.text import set_values, validate
    from unet_nas.train.config import patch_size_of
    from unet_nas.train.data.checks import check_task, fields_of, patch_notes
    from unet_nas.train.data.config import DataConfig
    from unet_nas.train.data.load import load_data
    from unet_nas.unet.load import open_document

    document = set_values(open_document(as_path(file)), assignments or ())
    config = validate(document, DataConfig, ("data",))
    found = load_data(config, base=Path(file).parent, seed=seed, progress=Progress("cases read"))
    size = patch_size_of(document.tree.get("train"), found.task.spatial_dims)
    found = found.with_notes(patch_notes(found.parts(), size))
    if as_json:
        print_json(found.summary)
    else:
        lines = data_page.facts(found.summary)
        width = max(len(label) for label, _ in lines)
        print_lines([file, *(f"  {label:{width}}  {text}" for label, text in lines)])
        print_table(data_page.parts_table(found.summary), "")
        print_table(data_page.classes_table(found.summary), "")
        print_lines([f"note: {note}" for note in found.notes])
    if "architecture" not in document.tree:
        return
    written = document.tree["architecture"] or {}
    numbers = fields_of(found.task)
    if not as_json and not numbers.keys() <= written.keys():
        asked = ", ".join(f"{field} {number}" for field, number in numbers.items())
        print_lines(
            [
                f"the networks take: {asked} (search fills in what the file leaves out; space, "
                "audit and train need them written)"
            ]
        )
    check_task(found.task, written)

"""The command that searches."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unet_nas.cli.common import (
    LARGEST_SEED,
    Device,
    Json,
    Set,
    as_path,
    print_json,
    print_table,
    read_option,
    share_cores,
)
from unet_nas.errors import UnetNasError

if TYPE_CHECKING:
    from unet_nas.search.driver import Result


def search(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A search space with its data.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the run; default: reports/NAME."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="In place of search.trials.")] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="In place of search.timeout, as 2h."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; at most 4 on SQLite.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="A database; default: SQLite in DIR."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of everything that is drawn.")
    ] = 0,
    device: Annotated[Device, typer.Option(help="Where it trains.")] = "cpu",
    join: Annotated[
        bool, typer.Option("--join", help="Work on a study together with another search.")
    ] = False,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Search a space of U-Nets on your data; the same command goes on after a stop."""
    from unet_nas.report import space_page
    from unet_nas.search.driver import Options
    from unet_nas.search.driver import search as run
    from unet_nas.search.failures import HopelessError
    from unet_nas.search.load import load_study
    from unet_nas.units import parse_duration

    share_cores()
    study = load_study(as_path(file), assignments or ())
    options = Options(
        out=out or Path("reports") / _folder_name(study.name),
        trials=trials,
        timeout_s=None if timeout is None else read_option("--timeout", timeout, parse_duration),
        workers=workers,
        storage=storage,
        seed=seed,
        device=device,
        join=join,
        command=shlex.join(["unet-nas", *sys.argv[1:]]),
    )
    try:
        result = run(study, options, describe=lambda found: space_page.as_json(file, found))
    except KeyboardInterrupt:
        raise UnetNasError(
            "stopped; all that was whole is kept, and the same command goes on"
        ) from None
    except HopelessError:
        _report(options.out)
        raise
    _print(result, as_json, _report(result.folder))
    if result.fruitless is not None:
        raise UnetNasError(result.fruitless)


def _folder_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "study"


def _report(folder: Path) -> Path | None:
    """Renders the report of a run; a report that fails does not fail the search."""
    from unet_nas.report.page import write_report

    try:
        return write_report(
            folder, folder / "report", progress=lambda step: print(step, file=sys.stderr)
        )
    except UnetNasError as error:
        print(f"unet-nas: the report could not be written: {error}", file=sys.stderr)
        return None


def _print(result: Result, as_json: bool, report: Path | None) -> None:
    if as_json:
        print_json(_as_json(result, report))
        return
    for note in result.header.notes:
        print(f"note: {note}", file=sys.stderr)
    print_table(_table(result), "")
    if result.finalists:
        print()
        print_table(_finals_table(result), "")
    print(f"run: {os.path.relpath(result.folder)}")
    if report is not None:
        print(f"report: {os.path.relpath(report)}")


def _as_json(result: Result, report: Path | None) -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "report": None if report is None else str(report),
        "state": result.header.state,
        "trials": result.trials,
        "notes": list(result.header.notes),
        "finalists": [
            {"name": r.name, "seed": r.seed, "state": r.state, "test": r.test, "costs": r.costs}
            for r in result.finalists
        ],
        "front": [
            {
                "name": record.name,
                "objectives": record.objectives,
                "costs": record.costs,
                "metrics": record.metrics,
                "parameters": record.parameters,
            }
            for record in result.front
        ],
    }


def _table(result: Result) -> Any:
    """Returns the front as a table: the objectives first, then what it costs besides."""
    from unet_nas.report.tables import Column, Table
    from unet_nas.search.progress import value_text

    names = [spec.name for spec in result.header.objectives]
    names += [name for name in ("parameters", "macs", "training_memory") if name not in names]
    rows = [
        (
            record.name,
            *(value_text(name, {**record.costs, **record.objectives}[name]) for name in names),
        )
        for record in result.front
    ]
    columns = (Column("trial"), *(Column(name, right=True) for name in names))
    caption = (
        f"{len(rows)} of {result.trials} trials {'is' if len(rows) == 1 else 'are'} on the front; "
        "accuracies on the validation cases, costs by arithmetic; MACs of one patch"
    )
    return Table(columns, tuple(rows), caption)


def _finals_table(result: Result) -> Any:
    """Returns the test scores of what was trained longer, with two costs."""
    from unet_nas.report.tables import Column, Table
    from unet_nas.search.finals import finals, first_accuracy
    from unet_nas.search.progress import value_text

    accuracy = first_accuracy(result.header.objectives)
    costs = ("parameters", "macs")
    rows = [
        (
            final.name,
            final.text,
            *(
                value_text(name, final.costs[name]) if name in final.costs else "–"
                for name in costs
            ),
        )
        for final in finals(result.finalists, accuracy)
    ]
    columns = (
        Column("longer training"),
        *(Column(name, right=True) for name in (f"test {accuracy.name}", *costs)),
    )
    caption = (
        "finalists and baselines on the test cases, which no selection has seen; mean ± standard "
        "deviation over the seeds of the longer training; finalists were chosen on validation cases"
    )
    return Table(columns, tuple(rows), caption)

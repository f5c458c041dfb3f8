"""The command on why: what the principles of U-Nets say about the network at hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_nas.cli.common import (
    LARGEST_SEED,
    Json,
    PatchSize,
    Set,
    load,
    print_json,
    print_lines,
    print_table,
    size_of,
)
from unet_nas.errors import InputError

if TYPE_CHECKING:
    from unet_nas.audit.diagnosis.diagnose import Diagnosis
    from unet_nas.audit.diagnosis.plots import Figure
    from unet_nas.profile.diagnosis.measure import Measured
    from unet_nas.unet.architecture import Architecture


def diagnose(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="An architecture file, or preset:NAME.")
    ] = None,
    patch_size: PatchSize = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Also build it and run small experiments (seconds)."),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Only this analysis or experiment; repeat."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of the experiments.")] = 0,
    tables: Annotated[
        bool, typer.Option("--tables", help="Also print the numbers per part, stage and fusion.")
    ] = False,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw every analysis as an SVG in DIR.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace figures that exist.")] = False,
    example: Annotated[
        bool, typer.Option("--example", help="Print the one-dimensional worked example instead.")
    ] = False,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Tell what a network sees, loses and costs, and why: findings with numbers and the fix.

    Exit code 2 if the network does not run on the patch.
    """
    if example:
        _print_example(figures, force)
        return
    if file is None:
        raise InputError("diagnose needs FILE (or preset:NAME), or --example; got neither")
    from unet_nas.audit.diagnosis.diagnose import diagnose as run

    if only and tables:
        raise InputError("--tables shows all analyses: it does not go with --only")
    analyses, experiments = _chosen(only, measure)
    architecture, size = load(file, assignments), size_of(patch_size)
    found = run(architecture, size, only=analyses)
    drawn = found.figures()
    measured = _measure(architecture, size, experiments, seed) if experiments else None
    if measured is not None:
        drawn += measured.figures
    if as_json:
        print_json({**found.plain(), "measured": None if measured is None else measured.plain()})
    else:
        _print(file, found, tables)
        if measured is not None:
            _print_measured(measured)
    if figures is not None:
        _save(drawn, figures, force)
    if any(finding.severity == "error" for finding in found.findings):
        raise typer.Exit(2)


def _chosen(only: list[str] | None, measure: bool) -> tuple[list[str], list[str]]:
    """Returns the analyses and the experiments that were asked for."""
    from unet_nas.audit.diagnosis.diagnose import SOURCES
    from unet_nas.profile.diagnosis.experiments import EXPERIMENTS

    for name in only or ():
        if name in EXPERIMENTS and not measure:
            raise InputError(f"--only {name} is an experiment: it needs --measure")
        if name not in {**SOURCES, **EXPERIMENTS}:
            names = ", ".join([*SOURCES, *EXPERIMENTS])
            raise InputError(f"--only takes one of {names}, got {name!r}")
    wanted = {*(only or (*SOURCES, *EXPERIMENTS))}
    analyses = [name for name in SOURCES if name in wanted]
    return analyses, [name for name in EXPERIMENTS if measure and name in wanted]


def _measure(
    architecture: Architecture, size: tuple[int, ...] | None, only: list[str], seed: int
) -> Measured:
    from unet_nas.profile.diagnosis.measure import measure

    def tell(message: str) -> None:
        print(f"unet-nas: {message}", file=sys.stderr)

    return measure(architecture, size, only=only, seed=seed, on_progress=tell)


def _print_measured(measured: Measured) -> None:
    from unet_nas.profile.diagnosis.experiments import EXPERIMENTS
    from unet_nas.report.diagnosis_tables import finding_lines

    print("\nMeasured:")
    print_lines(finding_lines(measured.findings, EXPERIMENTS))


def _print(file: str, found: Diagnosis, tables: bool) -> None:
    from unet_nas.audit.diagnosis.diagnose import SOURCES
    from unet_nas.report import diagnosis_tables as shown

    print_lines([shown.headline(file, found), *shown.finding_lines(found.findings, SOURCES)])
    if tables:
        for table in (
            shown.parts_table(found),
            shown.stages_table(found),
            shown.fusions_table(found),
        ):
            if table is not None:
                print()
                print_table(table, "")


def _print_example(figures: Path | None, force: bool) -> None:
    from unet_nas.audit.diagnosis import example

    print("\n".join(example.lines()))
    if figures is not None:
        _save(example.figures(), figures, force)


def _save(drawn: list[Figure], folder: Path, force: bool) -> None:
    from unet_nas.report.diagnosis_figures import save

    paths = save(drawn, folder, force=force)
    print(f"unet-nas: {len(paths)} figures in {folder}", file=sys.stderr)

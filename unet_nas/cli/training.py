"""Commands that train a chosen network, and predict with it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_nas.cli.common import (
    LARGEST_SEED,
    Device,
    Json,
    Progress,
    Set,
    as_path,
    print_json,
    print_table,
    read_option,
    share_cores,
)
from unet_nas.errors import InputError

if TYPE_CHECKING:
    from unet_nas.records.study import Point
    from unet_nas.train.loop import Progress as TrainingProgress
    from unet_nas.train.product import Trained

#: seconds between two lines where there is no terminal
_LINE_EVERY_S = 10.0


def train(
    file: Annotated[
        str,
        typer.Argument(
            metavar="ARCHITECTURE",
            help="An architecture file, preset:NAME, RUN#TRIAL, or a trial's folder.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for weights and scores.")
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE", help="A folder of images and masks, or a YAML file with data:."
        ),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training cases.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    seconds: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time of training, as 10min.")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Also score: hd95, surface_dice, …"),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of weights, patches and augmentation.")
    ] = 0,
    device: Annotated[Device, typer.Option(help="Where it runs.")] = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from DIR's checkpoint, or not.")
    ] = True,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Train one network at length; the same command goes on after a kill.

    The section train is that of the file, of the trial, or of the file that --data names; a trial
    is trained on the data of its run where --data is not given.
    """
    budget = _budget(epochs, steps, seconds)
    share_cores()
    from unet_nas.train.infer import check_device
    from unet_nas.train.project import Request, load_project, run

    check_device(device)
    request = Request(
        file=as_path(file),
        data=data,
        assignments=tuple(assignments or ()),
        budget=budget,
        metrics=tuple(metrics or ()),
        seed=seed,
        device=device,
    )
    project = load_project(request, progress=Progress("cases read"))
    for note in project.notes:
        print(f"unet-nas: {note}", file=sys.stderr)
    with _Watch() as watch:
        result, trained = run(project, out, resume=resume, on_point=watch.point, on_step=watch.step)
    if trained is None:
        print(
            f"unet-nas: stopped after step {result.steps}; the same command goes on",
            file=sys.stderr,
        )
        raise typer.Exit(130)
    if as_json:
        print_json({"validation": trained.validation, "test": trained.test, "folder": str(out)})
    else:
        _print_scores(trained)
        print(out)


def predict(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="A folder of train or search, RUN#TRIAL, or an architecture with --weights.",
        ),
    ],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A file, or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for predictions.")],
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Weights of an architecture, .safetensors.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where it runs.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Segment images with a trained network, to files of the same kind and geometry."""
    share_cores()
    from unet_nas.train.infer import check_device
    from unet_nas.train.segment import load_segmenter, segment

    check_device(device)
    segmenter = load_segmenter(as_path(network), weights=weights)
    for note in segmenter.notes:
        print(f"unet-nas: {note}", file=sys.stderr)
    written = segment(
        segmenter, images, out, device=device, force=force, progress=Progress("images")
    )
    print(f"{len(written)} {'file' if len(written) == 1 else 'files'} in {out}")


def _budget(epochs: float | None, steps: int | None, seconds: str | None) -> dict[str, float]:
    """Returns the one budget that was given, if one was."""
    from unet_nas.units import parse_duration

    given: dict[str, float] = {}
    if epochs is not None:
        given["epochs"] = epochs
    if steps is not None:
        given["steps"] = steps
    if seconds is not None:
        given["seconds"] = read_option("--seconds", seconds, parse_duration)
    if len(given) > 1:
        names = " and ".join(f"--{name}" for name in given)
        raise InputError(f"{names} exclude each other: one ends the training")
    for name, value in given.items():
        if value <= 0:
            raise InputError(f"--{name} must be more than 0, got {value:g}")
    return given


class _Watch:
    """Shows how far a training is: a bar on a terminal, else a line at least every 10 s."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, highlight=False)
        self.live = console.is_terminal
        columns = ("[progress.percentage]{task.percentage:>3.0f}%", TimeRemainingColumn())
        self.bar = Progress(
            BarColumn(),
            *columns,
            TextColumn("{task.description}"),
            console=console,
            disable=not self.live,
        )
        self.task = self.bar.add_task("", total=1.0)
        self.next = time.monotonic() + (0.1 if self.live else _LINE_EVERY_S)
        self.best: float | None = None

    def __enter__(self) -> _Watch:
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def step(self, now: TrainingProgress) -> None:
        """Called after every step."""
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + (0.1 if self.live else _LINE_EVERY_S)
        loss = "" if now.loss is None else f", loss {now.loss:.4f}"
        best = "" if self.best is None else f", Dice {self.best:.4f}"
        text = f"step {now.step:,}{loss}{best}"
        if self.live:
            self.bar.update(self.task, completed=now.done, description=text)
        else:
            print(f"{now.done:.0%} done: {text}", file=sys.stderr, flush=True)

    def point(self, point: Point) -> bool:
        """Called after every validation; never stops the training."""
        if point.score is not None:
            self.best = max(point.score, self.best or 0.0)
        loss = "" if point.loss is None else f"loss {point.loss:.4f}, "
        shown = "not defined" if point.score is None else f"{point.score:.4f}"
        line = f"step {point.step:,}: {loss}validation Dice {shown}, {point.seconds:.0f} s"
        self.bar.console.print(line) if self.live else print(line, file=sys.stderr, flush=True)
        return False


def _print_scores(trained: Trained) -> None:
    from unet_nas.report.tables import Column, Table

    rows = [
        (name, f"{value:.4f}", f"{trained.test[name]:.4f}" if name in trained.test else "–")
        for name, value in trained.validation.items()
    ]
    columns = (Column("Metric"), Column("Validation", right=True), Column("Test", right=True))
    caption = (
        f"{trained.name}, weights of step {trained.best_step:,}; Dice: mean over cases and "
        "classes, what both truth and prediction lack is left out (docs/training.md)"
    )
    print_table(Table(columns, tuple(rows), caption=caption), "")

"""Searches without training: an evaluator that computes a score, and processes to be killed."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import Any

from unet_nas.records.study import Point, TrialFailure
from unet_nas.search.driver import Options, search
from unet_nas.search.evaluate import Job, OnPoint, Outcome
from unet_nas.search.load import Study, load_study
from unet_nas.search.progress import Display
from unet_nas.train.data.cases import Task

TEXT = """\
name: fake
architecture:
  depth: {choice: [1, 2]}
  width: {int: [2, 16, 2]}
  down: {choice: [max_pool, avg_pool, {type: strided_conv, kernel_size: {choice: [2, 3]}}]}
  fusion: {choice: [concat, add]}
data: {source: synthetic}
budget: {parameters: 20k}
objectives: [dice, macs]
train: {patch_size: 16x16, batch_size: 2, steps: 10}
search: {trials: 12, finalists: 0}
"""


TASK = Task(2, 1, ("background", "nucleus"))


@dataclass
class Fake:
    """Scores by a formula; wide networks score better, and some fail."""

    pause_s: float = 0.0
    task: Task = TASK
    summary: dict[str, Any] = field(default_factory=lambda: {"kind": "fake"})
    notes: tuple[str, ...] = ("nothing is trained",)
    device_name: str = "cpu (fake)"
    has_test_cases: bool = True
    seen: list[Job] = field(default_factory=list)

    def evaluate(self, job: Job, on_point: OnPoint) -> Outcome:
        self.seen.append(job)
        score = score_of(job)
        history = []
        for step in (1, 2, 3):
            time.sleep(self.pause_s / 3)
            history.append(Point(step, step / 3, 1 / step, score * step / 3, 1e-3, 0.0))
            if on_point(history[-1]):
                return Outcome("pruned", history=tuple(history))
        if job.architecture and job.architecture.get("width") == 6:
            return Outcome("failed", failure=TrialFailure("nan_loss", "the loss is nan at step 2"))
        scores = {"dice": score, "iou": score / 2}
        return Outcome(
            "complete",
            metrics=scores,
            test=scores if job.kind == "finalist" else {},
            history=tuple(history),
            best_step=3,
            files={"weights.safetensors": b"weights of " + job.name.encode()},
            training_s=self.pause_s,
        )


def score_of(job: Job) -> float:
    """The score of a network: better with its width and depth, and with more steps."""
    architecture = job.architecture or {"width": 4, "depth": 1}
    size = architecture.get("width", 8) * architecture.get("depth", 4)
    return 1 - exp(-size / 10) + 1e-3 * (job.train["steps"] or 0) + 1e-4 * job.seed


def make_fake(study: Study, device: str, seed: int) -> Fake:
    return Fake()


class Broken(Fake):
    """Every training raises."""

    def evaluate(self, job, on_point):
        raise RuntimeError("the disk of the data is gone")


def make_broken(study: Study, device: str, seed: int) -> Fake:
    return Broken()


def make_slow(study: Study, device: str, seed: int) -> Fake:
    return Fake(pause_s=0.1)


def killed_until_done(
    file: Path, out: Path, moments: Iterator[float], *, workers: int = 1
) -> tuple[int, set[str]]:
    """Runs a search that is killed (SIGKILL) after so many seconds each, and then left alone.

    The processes are forked: they have loaded all they need, and the moments are those of the
    search. Returns how often it was killed while it ran, and the trials that had a whole record
    before any of the kills.
    """
    context = multiprocessing.get_context("fork")
    kills, whole = 0, set()
    for moment in moments:
        process = context.Process(target=main, args=(file, out, workers))
        process.start()
        process.join(moment)
        kills += process.is_alive()
        process.kill()
        process.join()
        whole |= {path.parent.name for path in out.glob("trials/*/record.json")}
    process = context.Process(target=main, args=(file, out, workers))
    process.start()
    process.join()
    assert process.exitcode == 0
    return kills, whole


def main(file: Path, out: Path, workers: int = 1, *, join: bool = False) -> None:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        search(
            load_study(file),
            Options(out, workers=workers, join=join),
            make=make_slow,
            display=Display(nowhere),
        )

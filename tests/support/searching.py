"""Searches without training: an evaluator that computes a score, and a process to be killed.

``python -m tests.support.searching FILE OUT [WORKERS]`` runs a search with it.
"""

from __future__ import annotations

import subprocess
import sys
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


def make_slow(study: Study, device: str, seed: int) -> Fake:
    return Fake(pause_s=0.1)


def killed_until_done(
    file: Path, out: Path, moments: Iterator[float], *, workers: int = 1
) -> tuple[int, set[str]]:
    """Runs a search that is killed (SIGKILL) after so many seconds each, and then left alone.

    Moments are counted from when the run takes up its trials. Returns how often it was killed
    while it ran, and the trials that had a whole record before any of the kills.
    """
    command = [sys.executable, "-m", __name__, str(file), str(out), str(workers)]
    kills, whole = 0, set()
    for moment in moments:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        process.stdout.readline()  # it has loaded what it needs
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        whole |= {path.parent.name for path in out.glob("trials/*/record.json")}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return kills, whole


def main(file: str, out: str, workers: str = "1") -> None:
    study = load_study(file)
    print("ready", flush=True)
    search(study, Options(Path(out), workers=int(workers)), make=make_slow)


if __name__ == "__main__":
    main(*sys.argv[1:])

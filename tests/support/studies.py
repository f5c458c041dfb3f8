"""Run folders as a search leaves them, with real costs and made-up scores.

Architectures are drawn from a small space and judged by the audit, so that every cost on a page is
one that the package computes; scores, curves and predictions are made up, and better for networks
that are larger, deeper and have a norm.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from unet_nas.records import (
    ObjectiveSpec,
    Point,
    RunHeader,
    Timing,
    TrialFailure,
    TrialRecord,
)
from unet_nas.report import space_page
from unet_nas.space.candidate import judge
from unet_nas.space.load import Space, conditions_of, load_space
from unet_nas.space.sample import Assignment, draw
from unet_nas.space.survey import survey
from unet_nas.unet.dump import to_tree
from unet_nas.unet.load import load_architecture

NASTY = "<script>alert('x')</script> & Müller_50%"

SPACE = """\
name: demo
architecture:
  depth: {int: [2, 4]}
  width: {int: [4, 16, 4]}
  classes: 3
  convs: {choice: [1, 2]}
  down: {choice: [max_pool, strided_conv, avg_pool]}
  up: {choice: [transposed_conv, interpolation]}
  fusion: {choice: [concat, add, attention_gate]}
  norm: {choice: [batch, instance]}
budget: {parameters: 800k, training_memory: 256MiB}
train: {patch_size: 64x64, batch_size: 4, learning_rate: {float: [1e-4, 1e-2], log: true}}
"""
LIMITS = {"parameters": 800_000, "macs": 1 << 50, "training_memory": 256 << 20}
LIMITS["inference_memory"] = 1 << 40
BUDGET = {"parameters": 800_000.0, "training_memory": float(256 << 20)}
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

DICE = ObjectiveSpec("dice", "maximize")
MACS = ObjectiveSpec("macs", "minimize", "MACs")
MEMORY = ObjectiveSpec("training_memory", "minimize", "bytes")


@dataclass
class Writer:
    """Writes the records of one run.

    Args:
        folder: of the run.
        seed: of draws and made-up numbers.
        objectives: of the header.
        class_names: of the data, background first.
    """

    folder: Path
    seed: int = 0
    objectives: tuple[ObjectiveSpec, ...] = (DICE, MACS)
    class_names: tuple[str, ...] = ("background", "nucleus", "cell")
    rng: Random = field(init=False)
    space: Space = field(init=False)
    clock: float = 0.0

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.space = load_space(SPACE)

    def draw(self) -> tuple[Assignment, dict[str, int]]:
        """Returns a feasible candidate with its costs."""
        while True:
            drawn = draw(self.space.part("architecture", "train"), self.rng)
            found = judge(drawn.tree, LIMITS, thorough=True)
            if found.feasible:
                return drawn, dict(found.costs)

    def record(self, number: int) -> TrialRecord:
        """Returns a trial that came to its end."""
        drawn, costs = self.draw()
        quality = self._quality(costs["macs"], drawn.values)
        return self._scored(
            TrialRecord(
                "trial",
                f"#{number}",
                "complete",
                number=number,
                architecture=drawn.tree["architecture"],
                train=full_train(drawn.tree["train"]),
                parameters=dict(drawn.values),
                digest=f"{number:08x}",
                seed=self.seed,
                costs={name: float(value) for name, value in costs.items()}
                | {"latency": 0.5 + costs["macs"] / 2e7},
                rejected={"budget: parameters": self.rng.randrange(3)},
            ),
            quality,
        )

    def _quality(self, macs: float, values: dict[str, Any]) -> float:
        base = 0.55 + 0.08 * math.log10(macs / 1e5)
        base += 0.02 * (values.get("architecture.fusion") == "attention_gate")
        base -= 0.03 * (values.get("architecture.down") == "avg_pool")
        return min(0.97, base + self.rng.gauss(0, 0.02))

    def _scored(self, record: TrialRecord, quality: float) -> TrialRecord:
        steps = [20 * (i + 1) for i in range(8)]
        scores = [quality * (1 - math.exp(-(i + 1) / 2.5)) for i in range(8)]
        history = tuple(
            Point(step, step / 40, 1.2 - score, score, 1e-3, step / 10)
            for step, score in zip(steps, scores, strict=True)
        )
        best = max(scores)
        metrics = {"dice": best, "iou": best / (2 - best)}
        metrics |= {f"dice[{name}]": best - 0.01 * i for i, name in enumerate(self.class_names[1:])}
        values = {**metrics, **record.costs}
        return replace(
            record,
            metrics=metrics,
            objectives={spec.name: values[spec.name] for spec in self.objectives},
            history=history,
            best_step=steps[scores.index(best)],
            timing=self._timing(),
            device="cpu (a processor)",
            constraints={"parameters": record.costs["parameters"] - BUDGET["parameters"]},
        )

    def _timing(self) -> Timing:
        start = START + timedelta(seconds=self.clock)
        self.clock += 10 + self.rng.random()
        end = START + timedelta(seconds=self.clock)
        return Timing(start.isoformat(), end.isoformat(), 0.01, 0.02, 9.0, 0.8, 0.1, 0.07)

    def failed(self, number: int, kind: Any = "out_of_memory", reason: str = "") -> TrialRecord:
        """Returns a trial that has no result."""
        record = self.record(number)
        reason = reason or "the training step needed 9 GiB; the device has 8 GiB"
        return replace(
            record,
            state="failed",
            failure=TrialFailure(kind, reason),
            metrics={},
            objectives={},
            history=(),
            best_step=None,
        )

    def baseline(self, name: str, *settings: str) -> TrialRecord:
        """Returns a preset that was trained like the trials."""
        network = load_architecture(name, ["classes=3", *settings])
        tree = {
            "architecture": to_tree(network),
            "train": {"patch_size": [64, 64], "batch_size": 4},
        }
        costs = {k: float(v) for k, v in judge(tree, LIMITS, thorough=True).costs.items()}
        record = TrialRecord(
            "baseline",
            name,
            "complete",
            architecture=tree["architecture"],
            train=full_train(tree["train"]),
            digest=name,
            costs={**costs, "latency": 9.5},
        )
        return replace(self._scored(record, 0.83), constraints={})

    def finals(self, record: TrialRecord, seeds: int = 3) -> list[TrialRecord]:
        """Returns the longer trainings of a network."""
        score = record.objectives["dice"]
        made = [
            replace(record, kind="finalist", seed=seed, name=record.name) for seed in range(seeds)
        ]
        done = [self._scored(r, min(0.98, 1.06 * score + self.rng.gauss(0, 0.004))) for r in made]
        return [replace(r, test={k: v - 0.01 for k, v in r.metrics.items()}) for r in done]

    # --- files ----------------------------------------------------------------------------

    def header(self, **changes: Any) -> RunHeader:
        """Returns the header of the run."""
        names = ("depth", "width", "fusion", "down", "norm", "up")
        shares = {f"architecture.{n}": s for n, s in zip(names, (4, 3, 2, 1, 1, 1), strict=True)}
        shares = {name: share / 12 for name, share in shares.items()}
        header = RunHeader(
            "demo",
            file=SPACE,
            command="unet-nas search demo.yaml --out runs/demo --seed 0",
            objectives=self.objectives,
            budget=BUDGET,
            patch_size=(64, 64),
            in_channels=1,
            class_names=self.class_names,
            data={
                "source": "made up",
                "train": 24,
                "validation": 8,
                "test": 8,
                "notes": ["Labels are derived, not hand-drawn."],
            },
            sampler={"type": "tpe", "n_startup_trials": 10, "multivariate": True},
            seed=self.seed,
            device="cpu (a processor)",
            versions={"python": "3.11.2", "torch": "2.13.0", "optuna": "5.0.0"},
            conventions={
                "MACs": "multiply-accumulates of convolutions in a forward pass of one patch",
                "memory": "bytes of tensors alive at once",
                "Dice": "mean over the classes but the background",
            },
            space=space_json(),
            importances={spec.name: shares for spec in self.objectives},
            started=START.isoformat(),
            finished=(START + timedelta(seconds=self.clock)).isoformat(),
            state="complete",
            trials_wanted=100,
            notes=("Labels are derived, not hand-drawn.", "Two threads are there, not eight."),
        )
        return replace(header, **changes)

    def write(
        self,
        records: Sequence[TrialRecord],
        header: RunHeader | None = None,
        *,
        examples: Sequence[str] = (),
    ) -> Path:
        """Writes header and records; those whose names are in ``examples`` get predictions."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "run.json").write_text((header or self.header()).to_json(), "utf-8")
        for record in records:
            folder = self.folder / _place(record)
            folder.mkdir(parents=True, exist_ok=True)
            file = "examples.npz" if record.name in examples else None
            if file:
                np.savez_compressed(folder / file, **self.examples())
            text = replace(record, examples=file).to_json()
            (folder / "record.json").write_text(text, "utf-8")
        return self.folder

    def examples(self, number: int = 3, edge: int = 96) -> dict[str, np.ndarray]:
        """Returns discs on noise with a nearly right prediction."""
        made: dict[str, np.ndarray] = {}
        grid = np.mgrid[:edge, :edge]
        noise = np.random.default_rng(self.seed)
        for i in range(number):
            truth = np.zeros((edge, edge), np.uint8)
            prediction = truth.copy()
            for label in (1, 2, 1):
                row, column, radius = noise.integers(10, edge - 10, 3) * (1, 1, 0.2)
                for target, shift in ((truth, 0), (prediction, 2)):
                    near = (grid[0] - row - shift) ** 2 + (grid[1] - column) ** 2 < radius**2
                    target[near] = label
            image = truth * 0.5 + noise.normal(0, 0.3, truth.shape)
            made[f"image_{i}"] = image[None].astype(np.float32)
            made[f"truth_{i}"], made[f"prediction_{i}"] = truth, prediction
        return made


def full_train(train: dict[str, Any]) -> dict[str, Any]:
    """Returns the section with its defaults, as a record has it."""
    known = conditions_of({"train": train}).model_dump(mode="json")
    return known | {"steps": 160, "learning_rate": train.get("learning_rate", 1e-3)}


@cache
def space_json() -> dict[str, Any]:
    """Returns what ``unet-nas space --json`` prints."""
    found = survey(load_space(SPACE), samples=150)
    return json.loads(json.dumps(space_page.as_json("demo.yaml", found)))


def _place(record: TrialRecord) -> str:
    safe = "".join(c if c.isalnum() else "-" for c in record.name)
    if record.kind == "trial":
        return f"trials/{record.number:04}"
    return (
        f"baselines/{safe}" if record.kind == "baseline" else f"finalists/{safe}/seed-{record.seed}"
    )


def write_study(folder: Path, trials: int = 40, seed: int = 0, **options: Any) -> Path:
    """Writes a whole study: trials, failed ones, baselines, finalists, examples."""
    writer = Writer(folder, seed, **options)
    records = [writer.record(number) for number in range(trials)]
    for number, kind in ((3, "out_of_memory"), (7, "nan_loss")):
        if number < trials:
            reason = "the loss was not a number at step 12" if kind == "nan_loss" else ""
            records[number] = writer.failed(number, kind, reason)
    if trials > 9:
        records[9] = replace(records[9], state="pruned", objectives={})
    best = sorted((r for r in records if r.objectives), key=lambda r: -r.objectives["dice"])[:3]
    finals = [final for record in best for final in writer.finals(record)]
    baselines = [writer.baseline("preset:unet-2015", "width=16", "padding=same", "align=strict")]
    names = [record.name for record in (*records, *baselines)]
    return writer.write([*records, *baselines, *finals], examples=names if trials <= 60 else ())


def write_many(folder: Path, trials: int) -> Path:
    """Writes a study of many trials: few networks, drawn once, under many numbers and scores."""
    writer = Writer(folder)
    known = [writer.record(number) for number in range(40)]
    records = []
    for number in range(trials):
        record = known[number % len(known)]
        score = min(0.99, record.metrics["dice"] * writer.rng.uniform(0.9, 1.05))
        metrics = {**record.metrics, "dice": score}
        objectives = {**record.objectives, "dice": score}
        records.append(
            replace(
                record, name=f"#{number}", number=number, metrics=metrics, objectives=objectives
            )
        )
    return writer.write(records)

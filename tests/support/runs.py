"""The folder of a small run: real weights by seed, no training.

Two complete trials (``#1`` is the better), one that failed, a baseline, a baseline of Python code,
and a finalist of ``#1``.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from unet_nas.records import ObjectiveSpec, RunHeader, TrialFailure, TrialRecord
from unet_nas.records.study import HEADER, RECORD
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build
from unet_nas.unet.dump import to_tree, to_yaml
from unet_nas.unet.graph import lower

NETWORKS = {
    "#0": Architecture(depth=1, width=2, classes=3),
    "#1": Architecture(depth=2, width=4, classes=3, norm="instance", fusion="attention_gate"),
    "preset:small": Architecture(depth=2, width=2, classes=3, deep_supervision=1),
}
PREPROCESSING = {"normalise": "image", "clip": [1.0, 99.0], "spacing": [0.5, 0.5], "unit": "mm"}


def make_run(folder: Path) -> Path:
    """Writes the run and returns its folder."""
    header = RunHeader(
        "cells",
        objectives=(ObjectiveSpec("dice", "maximize"), ObjectiveSpec("macs", "minimize", "MACs")),
        patch_size=(32, 48),
        class_names=("background", "nucleus", "membrane"),
        data={"source": "cells/"},
    )
    folder.mkdir(parents=True)
    (folder / HEADER).write_text(header.to_json())
    _write(folder / "trials/0000", _record("#0", 0.5), seed=0)
    _write(folder / "trials/0001", _record("#1", 0.75), seed=1)
    failure = TrialFailure("nan_loss", "the loss was NaN at step 7")
    _write(
        folder / "trials/0002", TrialRecord("trial", "#2", "failed", 2, failure, architecture={})
    )
    _write(folder / "baselines/preset-small", _record("preset:small", 0.6), seed=2)
    foreign = TrialRecord("baseline", "mine", "complete", network="python:mine:net")
    _write(folder / "baselines/mine", foreign)
    _write(folder / "finalists/0001/seed-3", _record("#1", 0.8, kind="finalist", seed=3), seed=3)
    return folder


def _record(name: str, dice: float, *, kind: str = "", seed: int = 0) -> TrialRecord:
    number = int(name[1:]) if name.startswith("#") else None
    architecture = NETWORKS[name]
    return TrialRecord(
        kind or ("baseline" if number is None else "trial"),
        name,
        "complete",
        number,
        architecture=to_tree(architecture),
        digest=lower(architecture).digest(),
        seed=seed,
        metrics={"dice": dice},
        test={"dice": round(dice - 0.1, 6)} if kind == "finalist" else {},
        objectives={"dice": dice, "macs": 1e6},
        weights="weights.safetensors",
    )


def _write(folder: Path, record: TrialRecord, *, seed: int | None = None) -> None:
    folder.mkdir(parents=True)
    if seed is not None:
        torch.manual_seed(seed)
        architecture = NETWORKS[record.name]
        save_file(build(architecture).state_dict(), folder / "weights.safetensors")
        (folder / "architecture.yaml").write_text(to_yaml(architecture, record.name))
        (folder / "preprocessing.json").write_text(json.dumps(PREPROCESSING))
    (folder / RECORD).write_text(record.to_json())

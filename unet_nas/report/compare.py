"""Comparing any networks: architecture files, presets, networks of a study, and those of others.

Costs of ours are those of the audit, under one set of conditions for all. A network of somebody
else's is measured in a process of its own, and its row says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from unet_nas.audit.audit import audit
from unet_nas.audit.memory import Training
from unet_nas.errors import InputError, SizeError
from unet_nas.profile.names import is_foreign
from unet_nas.profile.profile import profile
from unet_nas.records import Part, Profile, Run, TrialRecord
from unet_nas.records.lookup import find_trial, names_trial
from unet_nas.report.findings import Entry, Findings
from unet_nas.report.html import exact
from unet_nas.report.quantities import COSTS, Quantity, score_title
from unet_nas.report.scales import Measure, best_rows, measure
from unet_nas.report.tables import Column, Table
from unet_nas.space.load import conditions_of
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.load import load_architecture
from unet_nas.unet.outline import by

__all__ = ["Compared", "Conditions", "compare", "comparison_json", "comparison_table"]

_COSTS = ("parameters", "macs", "training_memory", "inference_memory")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all networks of a comparison are compared under."""

    patch_size: tuple[int, ...]
    batch_size: int
    training: Training


@dataclass(frozen=True, slots=True)
class Compared:
    """One network of a comparison.

    Attributes:
        name: As it was given.
        costs: By name, as in a record.
        output_size: Of the main output; empty where it is not known.
        scores: From a study, by title.
        measured: The costs are measured, since the network is somebody else's.
        fault: Why it has no costs.
    """

    name: str
    costs: dict[str, float] = field(default_factory=dict)
    output_size: tuple[int, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)
    measured: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    """Something to compare, found but not yet looked at."""

    name: str
    architecture: Architecture | None = None
    run: Run | None = None
    record: TrialRecord | None = None


def compare(
    names: Sequence[str],
    *,
    patch_size: tuple[int, ...] | None = None,
    batch_size: int | None = None,
    training: Training | None = None,
    assignments: Sequence[str] = (),
    on_progress: Callable[[str], None] | None = None,
) -> tuple[list[Compared], Conditions]:
    """Returns costs and scores of networks, in the order given.

    Args:
        names: architecture files, ``preset:NAME``, ``STUDY#TRIAL``, ``python:package.module:name``.
        patch_size: of all; default: that of the first study named.
        batch_size: of the training step; default: that of the first study named, else 1.
        training: how the step runs; default: as in the first study named, else as in `Training`.
        assignments: ``path=value`` each, put over the files and presets.
        on_progress: is told what is being measured.

    Raises:
        InputError: if a network does not exist, or no patch size is known.
    """
    sources = [_source(name, assignments) for name in names]
    conditions = _conditions(sources, patch_size, batch_size, training)
    return [_compared(source, conditions, on_progress) for source in sources], conditions


def _source(name: str, assignments: Sequence[str]) -> _Source:
    if is_foreign(name):
        return _Source(name)
    if not names_trial(name):
        return _Source(name, load_architecture(name, assignments))
    run, record = find_trial(name)
    if record.architecture is None:
        return _Source(name, None, run, record)
    return _Source(name, Architecture.model_validate(record.architecture), run, record)


def _conditions(
    sources: Sequence[_Source],
    patch_size: tuple[int, ...] | None,
    batch_size: int | None,
    training: Training | None,
) -> Conditions:
    studied = next((s for s in sources if s.run is not None and s.record is not None), None)
    if studied is None or studied.run is None or studied.record is None:
        if patch_size is None:
            raise InputError("a comparison needs --patch-size, as 256x256, or a network of a study")
        return Conditions(patch_size, batch_size or 1, training or Training())
    found = conditions_of({"train": studied.record.train})
    size = (
        patch_size or found.size(studied.run.header.spatial_dims) or studied.run.header.patch_size
    )
    device: Any = "cuda" if studied.record.device.startswith("cuda") else "cpu"
    return Conditions(size, batch_size or found.batch_size, training or found.training(device))


def _compared(
    source: _Source, conditions: Conditions, on_progress: Callable[[str], None] | None
) -> Compared:
    scores = _scores(source)
    if source.architecture is None:
        return _measured(source, conditions, scores, on_progress)
    try:
        found = audit(
            source.architecture,
            patch_size=conditions.patch_size,
            batch_size=conditions.batch_size,
            training=conditions.training,
        )
        one = audit(
            source.architecture, patch_size=conditions.patch_size, training=conditions.training
        )
    except SizeError as error:
        return Compared(source.name, scores=scores, fault=str(error))
    costs: dict[str, float] = {
        "parameters": found.parameters,
        "macs": one.macs,
        "training_memory": found.budgeted_bytes,
        "inference_memory": one.peak_inference_bytes,
    }
    if source.record is not None and "latency" in source.record.costs:
        costs["latency"] = source.record.costs["latency"]
    return Compared(source.name, costs, found.output_size, scores)


def _scores(source: _Source) -> dict[str, float]:
    """Returns what a study knows of a network's accuracy."""
    if source.run is None or source.record is None:
        return {}
    findings = Findings.of([source.run])
    score = findings.score
    if score is None:
        return {}
    found: dict[str, float] = {}
    entry = Entry("", source.name, source.run, source.record)
    value = entry.value(score)
    if value is not None:
        found[f"{score_title(score.name)} (validation)"] = value
    finals = findings.finals(entry)
    if finals is not None:
        found[f"{score_title(score.name)} ({finals.part}, longer training)"] = finals.mean
    return found


def _measured(
    source: _Source,
    conditions: Conditions,
    scores: dict[str, float],
    on_progress: Callable[[str], None] | None,
) -> Compared:
    """Counts and measures a network of somebody else's in processes of its own."""
    network = source.record.network if source.record is not None else source.name

    def measured(batch_size: int, *parts: Part) -> Profile:
        return profile(
            network,
            patch_size=conditions.patch_size,
            batch_size=batch_size,
            training=conditions.training,
            device=conditions.training.device,
            parts=parts,
            on_progress=on_progress,
        )

    one = measured(1, "counts", "inference_memory")
    step = measured(conditions.batch_size, "training_memory")
    costs: dict[str, float] = {}
    if one.counts is not None:
        costs["parameters"] = one.counts.trainable_parameters
        if one.counts.macs is not None:
            costs["macs"] = one.counts.macs
    peaks = {"training_memory": step.training_memory, "inference_memory": one.inference_memory}
    for name, peak in peaks.items():
        if peak is not None:  # as the costs of the others: on CUDA a step counts what is reserved
            reserved = peak.reserved_bytes if name == "training_memory" else None
            costs[name] = reserved or peak.tensor_bytes
    failures = {**one.failures, **step.failures}
    fault = "; ".join(f"{part}: {failure.reason}" for part, failure in failures.items())
    return Compared(source.name, costs, scores=scores, measured=True, fault=fault)


# --- what is shown ------------------------------------------------------------------------


def comparison_table(
    rows: Sequence[Compared], conditions: Conditions, *, raw: bool = False
) -> Table:
    """Returns the networks side by side, best in bold; ``raw`` writes numbers for programs."""
    quantities = [COSTS[n] for n in (*_COSTS, "latency") if any(n in row.costs for row in rows)]
    titles = list(dict.fromkeys(title for row in rows for title in row.scores))
    columns = [Column("Network")]
    cells: list[list[str]] = [[row.name + (" †" if row.measured else "")] for row in rows]
    best: set[tuple[int, int]] = set()
    for title in titles:
        values = [row.scores.get(title) for row in rows]
        _add(columns, cells, best, Measure(title, 1.0, 4), values, raw=raw, maximized=True)
    for quantity in quantities:
        values = [row.costs.get(quantity.name) for row in rows]
        unit = _raw(quantity) if raw else measure(quantity, values)
        _add(columns, cells, best, unit, values, raw=raw, maximized=False)
    columns.append(Column("Output size", right=True))
    for row, made in zip(rows, cells, strict=True):
        made.append(
            by(row.output_size) if row.output_size else "does not run" if row.fault else "–"
        )
    caption = _caption(rows, conditions)
    return Table(tuple(columns), tuple(map(tuple, cells)), caption, best=frozenset(best),
                 label="tab:comparison")  # fmt: skip


def _add(
    columns: list[Column],
    cells: list[list[str]],
    best: set[tuple[int, int]],
    unit: Measure,
    values: Sequence[float | None],
    *,
    raw: bool,
    maximized: bool,
) -> None:
    """Adds one column of numbers to a table in the making."""
    best |= {(row, len(columns)) for row in best_rows(values, maximized=maximized)}
    columns.append(unit.column)
    for made, value in zip(cells, values, strict=True):
        made.append(unit.cell(value) if not raw else "" if value is None else exact(value))


def _raw(quantity: Quantity) -> Measure:
    unit = "bytes" if quantity.unit == "MiB" else quantity.unit
    return Measure(f"{quantity.title} ({unit})" if unit else quantity.title, 1.0, 0)


def _caption(rows: Sequence[Compared], conditions: Conditions) -> str:
    t = conditions.training
    said = [
        f"Patches of {by(conditions.patch_size)}. MACs: multiply-accumulates of convolutions in a "
        "forward pass of one patch; FLOPs = 2 × MACs. Training memory: of a step with batch "
        f"{conditions.batch_size}, {t.precision}, {t.optimizer} ({t.implementation}), "
        f"{t.loss_text.replace('_', '-')}, {t.device}; inference memory: of a forward pass of one "
        "patch; peaks of tensors alive at once, without library workspaces. Best in bold."
    ]
    if any(row.measured for row in rows):
        said.append("†: measured in a process of its own.")
    if any("latency" in row.costs for row in rows):
        said.append("Latency: as the study measured it.")
    return " ".join(said)


def comparison_json(rows: Sequence[Compared], conditions: Conditions) -> dict[str, Any]:
    """Returns a comparison as plain data."""
    t = conditions.training
    return {
        "patch_size": conditions.patch_size,
        "batch_size": conditions.batch_size,
        "precision": t.precision,
        "optimizer": t.optimizer,
        "loss": t.loss,
        "device": t.device,
        "networks": [
            {
                "name": row.name,
                **{name: row.costs.get(name) for name in (*_COSTS, "latency")},
                "output_size": row.output_size or None,
                "scores": row.scores,
                "measured": row.measured,
                "fault": row.fault or None,
            }
            for row in rows
        ],
    }

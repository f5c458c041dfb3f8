"""What an audit shows: tables of parts, nodes, comparisons and advice, and its JSON.

Pure functions of audits; every table states its conventions and conditions in its caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unet_nas.audit.advice import Advice
from unet_nas.audit.audit import Audit
from unet_nas.audit.cost import Cost
from unet_nas.audit.memory import Training
from unet_nas.errors import SizeError
from unet_nas.report.tables import Column, Table
from unet_nas.unet.outline import by
from unet_nas.units import format_bytes, format_count


def conventions(audit: Audit) -> str:
    """Returns what the numbers of an audit hold for, and how they are counted."""
    return (
        f"For a batch of {audit.batch_size} x {by(audit.patch_size)}, {_step(audit.training)}. "
        "MACs: multiply-accumulates of convolutions in one forward "
        "pass of the batch; FLOPs = 2 x MACs. Memory: bytes of tensors alive at once in a "
        "training step from the second on, without library workspaces and allocator rounding."
    )


def _step(t: Training) -> str:
    """Returns how a training step runs, in words."""
    options = [t.precision, f"{t.optimizer} ({t.implementation})", t.loss_text.replace("_", "-")]
    if t.checkpoint:
        options.append(f"checkpoint {', '.join(t.checkpoint)}")
    if t.in_place:
        options.append("in-place activations")
    if not t.set_to_none:
        options.append("gradients kept")
    return ", ".join([*options, t.device])


def parts_table(audit: Audit, parts: str) -> Table:
    """Returns the cost per part (``stage``) or per node."""
    costs = audit.stages if parts == "stage" else audit.nodes
    columns = (
        Column("Part" if parts == "stage" else "Node"),
        Column("Output", right=True),
        Column("Parameters", right=True),
        Column("MACs", right=True),
        Column("% of MACs", right=True),
        Column("Element-wise", right=True),
        Column("Activations", right=True),
        Column("Ops/element", right=True),
        Column("Receptive field", right=True),
    )
    rows = [_cost_row(audit, cost) for cost in (*costs[1:], audit.total)]
    return Table(columns, tuple(rows), conventions(audit), total=True)


def _cost_row(audit: Audit, cost: Cost) -> tuple[str, ...]:
    return (
        cost.name,
        f"{cost.channels} x {by(cost.size)}",
        f"{cost.parameters:,}",
        f"{cost.macs:,}",
        f"{100 * cost.macs / max(1, audit.macs):.1f}",
        f"{cost.elementwise:,}",
        f"{cost.activation_elements:,}",
        f"{cost.intensity:.1f}",
        _fields(audit.receptive_field(cost.name)),
    )


def _fields(fields: Sequence[tuple[int, int] | None]) -> str:
    """Returns receptive fields per axis, a range where the phases differ: ``188-204``."""
    shown = [
        "?"
        if field is None
        else str(field[0])
        if field[0] == field[1]
        else f"{field[0]}-{field[1]}"
        for field in fields
    ]
    return shown[0] if len(set(shown)) == 1 else "x".join(shown)


def summary(audit: Audit, budget_bytes: int | None = None) -> list[tuple[str, str]]:
    """Returns the figures of an audit, one label and one text each."""
    lines = [
        ("output size", by(audit.output_size)),
        ("parameters", f"{audit.parameters:,} trainable, {audit.total.buffers:,} in buffers"),
        ("MACs", f"{audit.macs:,} for the batch ({format_count(audit.flops)} FLOPs)"),
        ("MACs per output position", f"{audit.macs_per_output_position:,.0f}"),
        ("receptive field", _fields(audit.receptive_field("total"))),
        ("peak in training", f"{_bytes(audit.peak_training_bytes)}, at {audit.peak_at}"),
    ]
    lines += [(f"  {kind}", _bytes(n)) for kind, n in audit.breakdown.items() if n]
    lines.append(("peak in inference", _bytes(audit.peak_inference_bytes)))
    lines += _cuda_lines(audit)
    if budget_bytes is not None:
        fits = audit.budgeted_bytes <= budget_bytes
        verdict = "fits" if fits else "does not fit"
        counted = "tensors" if audit.cuda is None else "reserved"
        text = f"{_bytes(budget_bytes)}: the training step {verdict} ({counted})"
        lines.append(("budget", text))
    return lines


def _cuda_lines(audit: Audit) -> list[tuple[str, str]]:
    """Returns what CUDA's caching allocator makes of the step, labelled as what it is."""
    cuda = audit.cuda
    if cuda is None:
        return []
    return [
        ("on CUDA", "without workspaces of cuDNN and cuBLAS, and the CUDA context"),
        ("  allocated", f"{_bytes(cuda.allocated_bytes)}, in blocks of 512 bytes"),
        ("  reserved", f"{_bytes(cuda.reserved_bytes)}, in segments"),
    ]


def comparison_table(audits: Mapping[str, Audit | SizeError]) -> Table:
    """Returns several networks side by side, one row each; one that does not run says so."""
    columns = (
        Column("Network"),
        Column("Output size", right=True),
        Column("Parameters", right=True),
        Column("MACs", right=True),
        Column("MACs/position", right=True),
        Column("Receptive field", right=True),
        Column("Training (MiB)", right=True),
        Column("Inference (MiB)", right=True),
    )
    rows = [
        (name, "does not run", *[""] * (len(columns) - 2))
        if isinstance(audit, SizeError)
        else (
            name,
            by(audit.output_size),
            f"{audit.parameters:,}",
            f"{audit.macs:,}",
            f"{audit.macs_per_output_position:,.0f}",
            _fields(audit.receptive_field("total")),
            f"{audit.peak_training_bytes / 2**20:,.1f}",
            f"{audit.peak_inference_bytes / 2**20:,.1f}",
        )
        for name, audit in audits.items()
    ]
    ran = next(audit for audit in audits.values() if not isinstance(audit, SizeError))
    return Table(columns, tuple(rows), conventions(ran))


def advice_table(rows: Sequence[Advice], audit: Audit) -> Table:
    """Returns what changes would do, each with its difference to the network as it is."""
    columns = (
        Column("Change"),
        Column("Peak in training", right=True),
        Column("", right=True),
        Column("MACs", right=True),
        Column("", right=True),
        Column("Parameters", right=True),
        Column("", right=True),
    )
    now = rows[0]
    made = [
        (
            row.change,
            format_bytes(row.peak_training_bytes),
            _change(row.peak_training_bytes, now.peak_training_bytes),
            f"{row.macs:,}",
            _change(row.macs, now.macs),
            f"{row.parameters:,}",
            _change(row.parameters, now.parameters),
        )
        for row in rows
    ]
    return Table(columns, tuple(made), conventions(audit))


def _change(value: int, base: int) -> str:
    """Returns a relative change: ``-8.9 %``, empty where there is none."""
    return "" if value == base else f"{100 * (value - base) / base:+.1f} %"


def as_json(name: str, audit: Audit, budget_bytes: int | None = None) -> dict[str, Any]:
    """Returns an audit as plain data with stable keys; whatever counts bytes says so."""
    cuda = audit.cuda
    return {
        "name": name,
        **conditions_json(audit.patch_size, audit.batch_size, audit.training),
        "memory_counts": "tensors",
        "parameters": audit.parameters,
        "buffers": audit.total.buffers,
        "macs": audit.macs,
        "flops": audit.flops,
        "macs_per_output_position": audit.macs_per_output_position,
        "elementwise": audit.total.elementwise,
        "activation_elements": audit.total.activation_elements,
        "output_size": audit.output_size,
        "receptive_field": audit.receptive_field("total"),
        "peak_training_bytes": audit.peak_training_bytes,
        "peak_inference_bytes": audit.peak_inference_bytes,
        "budget_bytes": budget_bytes,
        "fits": None if budget_bytes is None else audit.budgeted_bytes <= budget_bytes,
        "peak_at": audit.peak_at,
        "cuda_allocated_bytes": None if cuda is None else cuda.allocated_bytes,
        "cuda_reserved_bytes": None if cuda is None else cuda.reserved_bytes,
        "breakdown": audit.breakdown,
        "stages": [_cost_json(audit, cost) for cost in audit.stages],
    }


def _cost_json(audit: Audit, cost: Cost) -> dict[str, Any]:
    return {
        "name": cost.name,
        "channels": cost.channels,
        "size": cost.size,
        "parameters": cost.parameters,
        "buffers": cost.buffers,
        "macs": cost.macs,
        "flops": cost.flops,
        "elementwise": cost.elementwise,
        "activation_elements": cost.activation_elements,
        "intensity": cost.intensity,
        "receptive_field": audit.receptive_field(cost.name),
    }


def _bytes(n: int) -> str:
    return f"{format_bytes(n)} ({n:,} bytes)"


def conditions_json(patch_size: Sequence[int], batch_size: int, t: Training) -> dict[str, Any]:
    """Returns the conditions of an audit as plain data."""
    return {
        "patch_size": patch_size,
        "batch_size": batch_size,
        "precision": t.precision,
        "optimizer": t.optimizer,
        "implementation": t.implementation,
        "loss": t.loss,
        "ignore_label": t.ignore_label,
        "class_weights": t.class_weights,
        "multi_label": t.multi_label,
        "checkpoint": t.checkpoint,
        "in_place": t.in_place,
        "set_to_none": t.set_to_none,
        "device": t.device,
    }


def kept(what: str, patch_size: Sequence[int], batch_size: int) -> str:
    """Returns what stays as it is while one thing is made larger."""
    if what == "batch":
        return f"at patch {by(patch_size)}"
    if what == "patch":
        return f"at batch {batch_size}, each axis a valid size, shaped like {by(patch_size)}"
    return f"at batch {batch_size} of {by(patch_size)}"


def fit_conventions(training: Training) -> str:
    """Returns what a fit holds for: how the step runs and what is counted."""
    counted = (
        "bytes of tensors alive at once, without library workspaces and allocator rounding"
        if training.device == "cpu"
        else "memory that CUDA's allocator reserves, without cuDNN and "
        "cuBLAS workspaces and the CUDA context"
    )
    return f"Each found alone, for {_step(training)}. Memory: {counted}."

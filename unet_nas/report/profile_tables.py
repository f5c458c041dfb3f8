"""What a profile shows: predicted beside measured, and its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from unet_nas.audit.audit import Audit
from unet_nas.audit.cuda import CudaMemory
from unet_nas.records import Latency, PeakMemory, Profile
from unet_nas.report.tables import Column, Table
from unet_nas.units import format_bytes

Row = tuple[str, str, str, str, str]
MISSING = "-"


def profile_table(profile: Profile, audit: Audit | None) -> Table:
    """Returns predicted beside measured, one figure a row, with what each figure counts.

    Args:
        profile: what was measured.
        audit: the static figures; None for a network of somebody else's.
    """
    columns = (
        Column("Figure"),
        Column("Predicted", right=True),
        Column("Measured", right=True),
        Column("Difference", right=True),
        Column("Counts"),
    )
    rows = [*_count_rows(profile, audit), *_memory_rows(profile, audit)]
    rows += [_latency_row(latency) for latency in profile.latencies]
    rows += [
        (part.replace("_", " "), MISSING, failure.kind.replace("_", " "), "", failure.reason)
        for part, failure in profile.failures.items()
    ]
    return Table(columns, tuple(rows), _caption(profile))


def _count_rows(profile: Profile, audit: Audit | None) -> Iterator[Row]:
    counts = profile.counts
    if counts is None:
        return
    expected = None if audit is None else audit.parameters
    yield _exact("parameters", expected, counts.trainable_parameters, "trainable elements")
    if audit is None and counts.parameters != counts.trainable_parameters:
        yield _exact("all parameters", None, counts.parameters, "elements, frozen ones too")
    expected = None if audit is None else audit.total.buffers
    yield _exact("buffers", expected, counts.buffers, "elements")
    expected = None if audit is None else audit.macs
    convention = "multiply-accumulates of convolutions and matrix products, for the batch"
    yield _exact("MACs", expected, counts.macs, f"{convention}, by fvcore")
    yield _exact("MACs", expected, counts.flop_counter_macs, "the same, by FlopCounterMode / 2")
    for operator, times in counts.unsupported.items():
        yield ("not counted", MISSING, f"{times} times", "", f"{operator}: no rule in fvcore")
    for note in counts.notes:
        yield ("not counted", MISSING, MISSING, "", note)


def _memory_rows(profile: Profile, audit: Audit | None) -> Iterator[Row]:
    for peak in (profile.training_memory, profile.inference_memory):
        if peak is not None:
            yield from _peak_rows(peak, audit)


def _predictions(audit: Audit | None, what: str) -> tuple[int | None, CudaMemory | None]:
    """Returns the predicted tensors of training or inference, and CUDA's share of it."""
    if audit is None:
        return None, None
    if what == "training":
        return audit.peak_training_bytes, audit.cuda
    return audit.peak_inference_bytes, audit.cuda_inference


def _peak_rows(peak: PeakMemory, audit: Audit | None) -> Iterator[Row]:
    name = f"peak in {peak.what}"
    predicted, cuda = _predictions(audit, peak.what)
    what = "tensors alive at once, without workspaces of operators"
    yield _bytes(name, predicted, peak.tensor_bytes, what)
    if peak.reserved_bytes is None:
        yield _bytes(name, None, peak.allocated_bytes, "all that the allocator handed out at once")
        return
    what = "allocated: blocks of the caching allocator"
    allocated = None if cuda is None else cuda.allocated_bytes
    yield _bytes(name, allocated, peak.allocated_bytes, what)
    reserved = None if cuda is None else cuda.reserved_bytes
    yield _bytes(name, reserved, peak.reserved_bytes, "reserved: segments taken from the device")
    what = "device: used by all processes, contexts included"
    if peak.device_before_bytes is not None:
        what += f" ({format_bytes(peak.device_before_bytes)} of it before)"
    yield _bytes(name, None, peak.device_bytes, what)


def _latency_row(latency: Latency) -> Row:
    how = "torch.compile" if latency.compiled else "eager"
    what = "one training step" if latency.what == "training" else "one forward pass"
    block = f" of {latency.runs_per_sample} runs" if latency.runs_per_sample > 1 else ""
    spread = f"5 % to 95 %: {latency.p05_ms:.4g} to {latency.p95_ms:.4g} ms"
    return (
        f"latency, {latency.what} ({how})",
        MISSING,
        f"{latency.median_ms:.4g} ms",
        "",
        f"{what}, median of {latency.samples} samples{block} after {latency.warmup}; {spread}",
    )


def _exact(name: str, predicted: int | None, measured: int | None, what: str) -> Row:
    return (name, _number(predicted), _number(measured), _difference(predicted, measured), what)


def _bytes(name: str, predicted: int | None, measured: int | None, what: str) -> Row:
    shown = [MISSING if n is None else format_bytes(n) for n in (predicted, measured)]
    return (name, *shown, _difference(predicted, measured), what)  # type: ignore[return-value]


def _number(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"


def _difference(predicted: int | None, measured: int | None) -> str:
    """Returns by how much the prediction is off, of what was measured."""
    if predicted is None or measured is None:
        return ""
    if predicted == measured:
        return "exact"
    return f"{100 * (predicted - measured) / max(1, measured):+.3g} %"


def _caption(profile: Profile) -> str:
    c = profile.conditions
    if c is None:
        return "No measuring process lived long enough to tell its conditions."
    size = "x".join(map(str, (c.batch_size, c.in_channels, *c.patch_size)))
    words = [f"input {size}", c.precision, c.optimizer, c.loss.replace("_", "-")]
    words += [f"checkpoint {', '.join(c.checkpoint)}"] if c.checkpoint else []
    words += ["in-place activations"] if c.in_place else []
    words += ["channels last"] if c.channels_last else []
    words += [f"{c.device_name} ({c.device})", f"torch {c.torch_version}"]
    if c.device == "cuda":
        words.append(f"cuDNN {c.cudnn_version}, TF32 {_on(c.tf32)}")
        words.append(f"cudnn.benchmark {_on(c.cudnn_benchmark)}")
    else:
        words.append(f"{c.threads} threads")
    unpredicted = " Workspaces of cuDNN are measured and not predicted."
    return f"For {', '.join(words)}." + (unpredicted if c.device == "cuda" else "")


def _on(flag: bool) -> str:
    return "on" if flag else "off"


def as_json(profile: Profile, audit: Audit | None) -> dict[str, Any]:
    """Returns measured and predicted figures as plain data with stable keys."""
    predicted = None
    if audit is not None:
        predicted = {
            "parameters": audit.parameters,
            "buffers": audit.total.buffers,
            "macs": audit.macs,
            "output_size": audit.output_size,
            "peak_training_bytes": audit.peak_training_bytes,
            "peak_inference_bytes": audit.peak_inference_bytes,
            "memory_counts": "tensors",
        }
    return {"name": profile.network, "predicted": predicted, "measured": asdict(profile)}

"""What a diagnosis shows: its findings as lines, and the numbers behind them as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from unet_nas.audit.diagnosis.diagnose import Diagnosis
from unet_nas.audit.diagnosis.fusion import FusionCosts
from unet_nas.audit.diagnosis.paths import GradientPaths
from unet_nas.audit.diagnosis.receptive import PartField, ReceptiveFields
from unet_nas.audit.diagnosis.subject import Finding
from unet_nas.report.tables import Column, Table
from unet_nas.unet.outline import by, outline

_HEADINGS = {"error": "It does not run:", "warning": "Warnings:", "note": "Notes:"}


def headline(file: str, diagnosis: Diagnosis) -> str:
    """Returns what was looked at."""
    patch = diagnosis.patch_size
    chosen = "" if diagnosis.subject.given else " (a usual patch; --patch-size takes yours)"
    return f"{file} on {by(patch) if patch else 'no patch'}{chosen}"


def finding_lines(findings: Sequence[Finding], sources: Mapping[str, str]) -> list[str]:
    """Returns findings as lines under a heading per severity, each with its source."""
    lines: list[str] = []
    for severity, group in groupby(findings, key=lambda finding: finding.severity):
        lines += ["", _HEADINGS[severity]]
        for number, finding in enumerate(group, start=1):
            lines.append(f"  {number}. {finding.text}")
            lines += [f"     → {finding.fix}"] if finding.fix else []
            lines.append(f"     [{sources[finding.analysis]}]")
    return lines


def parts_table(diagnosis: Diagnosis) -> Table:
    """Returns one row per part: size, receptive field, path from the loss, parameters."""
    columns = (
        Column("Part"),
        Column("Output", right=True),
        Column("Receptive field", right=True),
        Column("Stride", right=True),
        Column("Start", right=True),
        Column("Path with skips", right=True),
        Column("without", right=True),
        Column("Parameters", right=True),
    )
    subject, results = diagnosis.subject, diagnosis.results
    fields: ReceptiveFields = results["receptive_field"]
    paths: GradientPaths = results["gradient_paths"]
    by_part = {path.part: path for path in paths.parts}
    rows = []
    for row in outline(subject.graph, subject.sizes)[1:]:
        own = [field for field in fields.parts if field.part == row.name]
        path = by_part.get(row.name)
        rows.append(
            (
                row.name,
                f"{row.channels} x {by(row.size)}" if row.size else str(row.channels),
                _per_axis([_sizes(field) for field in own]),
                _per_axis(["?" if f.stride is None else f"{f.stride:g}" for f in own]),
                _per_axis(["?" if f.start is None else str(f.start) for f in own]),
                _range(path.with_skips) if path else "",
                _range(path.without_skips) if path else "",
                f"{row.parameters:,}",
            )
        )
    caption = (
        "Receptive field, stride and start in positions of the input, at the part's last map; "
        "a range where neighbouring positions differ. Path: convolutions between the loss and "
        "those of the part, themselves included."
    )
    return Table(columns, tuple(rows), caption)


def _sizes(field: PartField) -> str:
    return "?" if field.sizes is None else _range(field.sizes)


def _range(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}-{pair[1]}"


def _per_axis(values: Sequence[str]) -> str:
    """Returns one text for all axes where they agree."""
    return values[0] if len(set(values)) == 1 else " x ".join(values)


def stages_table(diagnosis: Diagnosis) -> Table | None:
    """Returns the shares of parameters, MACs and activations per stage."""
    costs = diagnosis.results["stage_costs"]
    if not costs.stages:
        return None
    names = ("parameters", "macs", "activation_elements")
    shares = [costs.shares(name) for name in names]
    rows = [
        (
            str(stage.stage),
            *(
                f"{getattr(stage, name):,} ({100 * share[i]:.1f} %)"
                for name, share in zip(names, shares, strict=True)
            ),
        )
        for i, stage in enumerate(costs.stages)
    ]
    columns = (
        Column("Stage", right=True),
        Column("Parameters", right=True),
        Column("MACs", right=True),
        Column("Activation elements", right=True),
    )
    caption = "Encoder and decoder of a stage together, for one sample; 0 is full resolution."
    return Table(columns, tuple(rows), caption)


def fusions_table(diagnosis: Diagnosis) -> Table | None:
    """Returns parameters and MACs of the fusions, as they are and under each alternative."""
    costs: FusionCosts = diagnosis.results["fusion_cost"]
    if not costs.fusions:
        return None
    names = list(dict.fromkeys(row.fusion for row in costs.fusions))
    stages = list(dict.fromkeys(row.stage for row in costs.fusions))
    found = {(row.fusion, row.stage): row for row in costs.fusions}
    rows = [
        (
            network.fusion,
            *(f"{found[network.fusion, stage].parameters:,}" for stage in stages),
            f"{network.parameters:,}",
            f"{network.macs:,}",
        )
        for network in costs.networks
        if network.fusion in names
    ]
    columns = (
        Column("Fusion"),
        *(Column(f"Stage {stage}", right=True) for stage in stages),
        Column("Network", right=True),
        Column("MACs of the network", right=True),
    )
    caption = (
        "Parameters of each fusion with the convolutions that read it, and of the whole network."
    )
    return Table(columns, tuple(rows), caption)

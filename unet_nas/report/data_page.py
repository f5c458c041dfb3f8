"""What `unet-nas data` prints: the cases of each part, their classes, and what to know of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unet_nas.report.tables import Column, Table
from unet_nas.units import format_bytes

__all__ = ["classes_table", "facts", "parts_table"]


def facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what holds for all cases, as labels and texts.

    Args:
        summary: Of a `Dataset`.
    """
    source = summary["source"]
    name = source.get("path") or source.get("function") or source.get("builtin") or "generated"
    unit = {"px": "pixel", "mm": "mm", "samples": "sample"}[summary["unit"]]
    channels = summary["in_channels"]
    lines = [
        ("source", f"{name} ({summary['kind']})"),
        ("images", f"{summary['spatial_dims']}D, {channels} channel{'s' * (channels > 1)}"),
        ("spacing", f"{' × '.join(f'{value:g}' for value in summary['spacing'])} {unit}"),
        ("normalised", str(summary["normalise"])),
        ("labels overlap", "yes" if summary["multi_label"] else "no"),
    ]
    if summary["ignore_label"] is not None:
        lines.append(("not annotated", "some positions; they are left out"))
    return lines


def parts_table(summary: Mapping[str, Any]) -> Table:
    """Returns one row for each part: cases, groups, extents and memory."""
    columns = (
        Column("Part"),
        *(Column(header, right=True) for header in ("Cases", "Groups", "Size", "Memory")),
    )
    rows = tuple(
        (
            name,
            f"{part['cases']:,}",
            f"{part['groups']:,}",
            _extent(part["smallest"], part["largest"]),
            format_bytes(part["bytes"]),
        )
        for name, part in summary["parts"].items()
    )
    return Table(columns, rows)


def _extent(smallest: list[int], largest: list[int]) -> str:
    """Writes extents as 31–43 × 40–59.

    >>> _extent([31, 40], [43, 40])
    '31–43 × 40'
    """
    axes = zip(smallest, largest, strict=True)
    return " × ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in axes)


def classes_table(summary: Mapping[str, Any]) -> Table:
    """Returns the share of each class in each part."""
    parts = {name: part for name, part in summary["parts"].items() if part["cases"]}
    columns = (Column("Class"), *(Column(name, right=True) for name in parts))
    rows = tuple(
        (label, *(f"{100 * part['class_shares'][label]:.2f} %" for part in parts.values()))
        for label in summary["class_names"]
    )
    return Table(columns, rows, "Shares of the annotated positions.")

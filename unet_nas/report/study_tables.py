"""Tables of a search for a paper: the recommended networks beside the baselines, and the front."""

from __future__ import annotations

from collections.abc import Sequence

from unet_nas.report.findings import Entry, Finals, Findings
from unet_nas.report.quantities import MIB, Quantity
from unet_nas.report.scales import Measure, best_rows, measure
from unet_nas.report.tables import Column, Table, render

__all__ = ["front_table", "networks_table", "table_files"]


def networks_table(findings: Findings, *, exact: bool = False) -> Table:
    """Returns what a paper shows: the recommended networks and the baselines.

    Args:
        findings: of the search.
        exact: numbers as in the records, in bytes and units: for programs.
    """
    titles = {one.entry.key: "; ".join(one.titles) for one in findings.recommendations}
    entries = [*(one.entry for one in findings.recommendations), *findings.baselines]
    names = [titles.get(entry.key, "baseline") for entry in entries]
    return _table(findings, entries, names, "tab:networks", exact=exact)


def front_table(findings: Findings, *, exact: bool = False) -> Table:
    """Returns all networks of the front, cheapest first."""
    return _table(findings, findings.front, None, "tab:front", exact=exact)


def table_files(findings: Findings) -> dict[str, bytes]:
    """Returns both tables as LaTeX, Markdown and CSV, by file name."""
    files: dict[str, bytes] = {}
    for name, made in (("networks", networks_table), ("front", front_table)):
        for kind, style in (("tex", "latex"), ("md", "markdown"), ("csv", "csv")):
            table = made(findings, exact=kind == "csv")
            files[f"{name}.{kind}"] = f"{render(table, style)}\n".encode()  # type: ignore[arg-type]
    return files


def _table(
    findings: Findings,
    entries: Sequence[Entry],
    names: Sequence[str] | None,
    label: str,
    *,
    exact: bool,
) -> Table:
    quantities = findings.shown
    values = [[entry.value(q) for entry in entries] for q in quantities]
    measures = [
        _exact(q) if exact else measure(q, column)
        for q, column in zip(quantities, values, strict=True)
    ]
    finals = [findings.finals(entry) for entry in entries]
    with_finals = any(finals)
    columns = [Column("Network"), *([Column("Chosen as", wrap=True)] if names else [])]
    first = len(columns)
    columns += [m.column for m in measures]
    if with_finals:
        columns += [Column(head, right=True) for head in _FINALS_HEADS[exact]]
    rows = []
    for index, entry in enumerate(entries):
        cells = [entry.label, *([names[index]] if names else [])]
        cells += [
            _cell(m, column[index], exact) for m, column in zip(measures, values, strict=True)
        ]
        if with_finals:
            cells += _finals_cells(finals[index], exact)
        rows.append(tuple(cells))
    best = {
        (row, first + number)
        for number, (q, column) in enumerate(zip(quantities, values, strict=True))
        for row in best_rows(column, maximized=q.maximized)
    }
    return Table(
        tuple(columns),
        tuple(rows),
        caption(findings, with_finals),
        best=frozenset(best),
        label=label,
    )


#: heads of the longer trainings' columns, for people and for programs
_FINALS_HEADS = {
    False: ("Longer training",),
    True: ("Longer training, mean", "Longer training, SD", "Longer training, seeds"),
}


def _finals_cells(final: Finals | None, exact: bool) -> list[str]:
    """Returns a network's longer trainings, in one cell for people and in three for programs."""
    if final is None:
        return ["", "", ""] if exact else ["–"]
    spread = final.deviation
    if exact:
        return [repr(final.mean), "" if spread is None else repr(spread), str(len(final.scores))]
    return [f"{final.mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}")]


def _cell(column: Measure, value: float | None, exact: bool) -> str:
    if not exact:
        return column.cell(value)
    return "" if value is None else repr(int(value) if float(value).is_integer() else value)


def _exact(quantity: Quantity) -> Measure:
    unit = "bytes" if quantity.unit == "MiB" and quantity.scale == MIB else quantity.unit
    return Measure(f"{quantity.title} ({unit})" if unit else quantity.title, 1.0, 0)


def caption(findings: Findings, with_finals: bool = False) -> str:
    """Returns what the numbers of a table hold for, and how they are counted."""
    header = findings.runs[0].header
    size = "×".join(map(str, header.patch_size))
    said = [f"Search {header.name}" + (f", patches of {size}" if size else "") + "."]
    if findings.score is not None:
        said.append(f"{findings.score.title} on the validation cases after the short training.")
    if with_finals:
        parts = sorted({f.part for e in (*findings.trials, *findings.baselines)
                        if (f := findings.finals(e))})  # fmt: skip
        seeds = max(
            len(f.scores)
            for e in (*findings.trials, *findings.baselines)
            if (f := findings.finals(e))
        )
        said.append(
            f"Longer training: {' and '.join(parts)} cases, mean ± standard deviation over "
            f"{seeds} seeds."
        )
    said.append(
        "MACs: multiply-accumulates of convolutions in a forward pass of one patch; FLOPs = 2 × "
        "MACs. Training memory: peak of tensors in a training step with the batch of the search, "
        "inference memory: of a forward pass of one patch, both without library workspaces."
    )
    if any(q.name == "latency" for q in findings.costs):
        said.append(f"Latency: median of a forward pass of one patch, {header.device}.")
    said.append("Best in bold.")
    return " ".join(said)

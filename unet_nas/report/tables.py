"""Tables as data, and their renderings: terminal, CSV, Markdown, LaTeX.

A table holds text, with the numbers formatted once; every rendering shows the same text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import rich.table

Format = Literal["csv", "markdown", "latex"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its header (with the unit), its alignment, and whether its text may wrap."""

    header: str
    right: bool = False
    wrap: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Args:
        columns: headers and alignment.
        rows: cells, one per column.
        caption: states the conventions and conditions of the numbers.
        total: the last row is a sum and is set apart.
        best: row and column of the cells that are set in bold.
        label: what LaTeX refers to the table by.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    total: bool = False
    best: frozenset[tuple[int, int]] = frozenset()
    label: str = ""


def render(table: Table, style: Format) -> str:
    """Returns a table as text in one of the formats for files.

    >>> table = Table((Column("Part"), Column("MACs", right=True)), (("a_b", "12"),), "50 %")
    >>> print(render(table, "markdown"))
    | Part | MACs |
    | :--- | ---: |
    | a_b | 12 |
    <BLANKLINE>
    50 %
    """
    return {"csv": _csv, "markdown": _markdown, "latex": _latex}[style](table)


def _csv(table: Table) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.header for column in table.columns])
    writer.writerows([[_plain_number(cell) for cell in row] for row in table.rows])
    return buffer.getvalue().rstrip("\n")


def _plain_number(cell: str) -> str:
    """Takes the thousands separators out of a number: programs read CSV."""
    digits = cell.replace(",", "")
    return digits if digits.isdecimal() else cell


def _markdown(table: Table) -> str:
    lines = [
        _markdown_row([column.header for column in table.columns]),
        _markdown_row(["---:" if column.right else ":---" for column in table.columns]),
        *[_markdown_row(row, _bold(table, index)) for index, row in enumerate(table.rows)],
    ]
    return "\n".join([*lines, "", table.caption] if table.caption else lines)


def _markdown_row(cells: Sequence[str], bold: Container[int] = ()) -> str:
    escaped = [_markdown_text(cell) for cell in cells]
    shown = [f"**{cell}**" if n in bold else cell for n, cell in enumerate(escaped)]
    return "| " + " | ".join(shown) + " |"


def _markdown_text(text: str) -> str:
    """Escapes text so that it appears as written, in GitHub's Markdown too."""
    for character, written in _MARKDOWN:
        text = text.replace(character, written)
    return text


_MARKDOWN = (
    ("\\", "\\\\"),
    ("|", "\\|"),
    ("&", "&amp;"),
    ("<", "&lt;"),
    ("*", "\\*"),
    ("`", "\\`"),
)


def _bold(table: Table, row: int) -> set[int]:
    """Returns the columns that are bold in a row."""
    return {column for index, column in table.best if index == row}


def _latex(table: Table) -> str:
    wide = len(table.columns) > _MOST_IN_A_COLUMN
    floating = "table*" if len(table.columns) > _MOST_IN_A_COLUMN + 1 else "table"
    alignment = "".join(_latex_column(column, wide) for column in table.columns)
    rows = [_latex_row(row, _bold(table, index)) for index, row in enumerate(table.rows)]
    if table.total and len(rows) > 1:
        rows.insert(-1, r"\midrule")
    caption = [rf"\caption{{{latex_text(table.caption)}}}"] if table.caption else []
    caption += [rf"\label{{{table.label}}}"] if table.label else []
    return "\n".join(
        [
            rf"\begin{{{floating}}}",
            r"\centering",
            *(_latex_size(table) if wide else []),
            *caption,
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            _latex_head(table) if wide else _latex_row([c.header for c in table.columns]),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\end{{{floating}}}",
        ]
    )


#: tables of more columns are set smaller, with their heads on several lines; those of still one
#: more stand across both columns of a page
_MOST_IN_A_COLUMN = 5


def _latex_size(table: Table) -> list[str]:
    """Returns what makes a wide table fit between the margins of a page."""
    if len(table.columns) <= _MOST_IN_A_COLUMN + 2:
        return [r"\footnotesize", r"\setlength{\tabcolsep}{4pt}"]
    return [r"\scriptsize", r"\setlength{\tabcolsep}{2.5pt}"]


def _latex_column(column: Column, wide: bool) -> str:
    if column.wrap and wide:
        return r"p{1.9cm}"
    return "r" if column.right else "l"


def _latex_head(table: Table) -> str:
    """Returns the headers, one word a line."""
    heads = []
    for column in table.columns:
        lines = column.header.split(" ")
        shown = r" \\ ".join(map(latex_text, lines))
        side = "r" if column.right else "l"
        heads.append(rf"\shortstack[{side}]{{{shown}}}" if len(lines) > 1 else latex_text(lines[0]))
    return " & ".join(heads) + r" \\"


def _latex_row(cells: Sequence[str], bold: Container[int] = ()) -> str:
    escaped = [latex_text(cell) for cell in cells]
    shown = [rf"\textbf{{{cell}}}" if n in bold else cell for n, cell in enumerate(escaped)]
    return " & ".join(shown) + r" \\"


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "×": r"$\times$",
    "−": r"$-$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "–": "--",
    "†": r"\textdagger{}",
    "±": r"$\pm$",
    "→": r"$\to$",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
}


def latex_text(text: str) -> str:
    r"""Escapes text for LaTeX.

    >>> latex_text("a_b & 50 %")
    'a\\_b \\& 50 \\%'
    """
    return "".join(_LATEX.get(character, character) for character in text)


#: a column that may wrap keeps at least this many characters
_LEAST_WRAPPED = 24


def to_rich(table: Table) -> rich.table.Table:
    """Returns a table for the terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    cells = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    for column, below in zip(table.columns, cells, strict=True):
        longest = max(len(cell) for cell in (column.header, *below))
        made.add_column(
            column.header,
            justify="right" if column.right else "left",
            no_wrap=not column.wrap,
            min_width=min(longest, _LEAST_WRAPPED) if column.wrap else longest,
        )
    for index, row in enumerate(table.rows):
        if table.total and index == len(table.rows) - 1:
            made.add_section()
        made.add_row(*map(escape, row))
    return made

"""Renderings of tables: the same text everywhere, escaped as each format asks."""

import csv
import io
import shutil
import subprocess

import pytest

from unet_nas.report.tables import Column, Table, latex_text, render

NASTY = "a_b & <script>alert(1)</script> | 50 % \\ #1 {x} ~ ^ $5 µm Ωé"
TABLE = Table(
    (Column("Name"), Column("MACs", right=True)),
    ((NASTY, "1,234"), ("total", "1,234")),
    "MACs: multiply-accumulates; 100 % of them.",
    total=True,
)


def test_csv_is_read_back_as_written():
    rows = list(csv.reader(io.StringIO(render(TABLE, "csv"))))
    assert rows == [["Name", "MACs"], [NASTY, "1234"], ["total", "1234"]]


def test_markdown_escapes_what_would_be_read_as_markup():
    lines = render(TABLE, "markdown").splitlines()
    assert lines[1] == "| :--- | ---: |"
    assert r"&lt;/script> \| 50" in lines[2]
    assert lines[-1] == TABLE.caption


def test_markdown_without_a_caption_is_only_the_table():
    bare = Table(TABLE.columns, TABLE.rows)
    assert len(render(bare, "markdown").splitlines()) == 4


def test_latex_has_booktabs_rules_and_sets_the_total_apart():
    lines = render(TABLE, "latex").splitlines()
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in lines
    assert lines[lines.index(r"total & 1,234 \\") - 1] == r"\midrule"


def test_latex_escapes_every_special_character():
    assert latex_text("&%$#_{}") == r"\&\%\$\#\_\{\}"
    assert latex_text("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"


@pytest.mark.parametrize(("columns", "floating"), [(6, "table"), (7, "table*")])
def test_wide_tables_stand_across_both_columns_of_a_page(columns, floating):
    heads = tuple(Column(f"c{n}") for n in range(columns))
    lines = render(Table(heads, (("1",) * columns,)), "latex").splitlines()
    assert (lines[0], lines[-1]) == (rf"\begin{{{floating}}}", rf"\end{{{floating}}}")


@pytest.mark.skipif(shutil.which("lualatex") is None, reason="no LaTeX here")
def test_latex_compiles(tmp_path):
    document = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        + render(TABLE, "latex")
        + "\n\\end{document}\n"
    )
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    subprocess.run(
        ["lualatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )

"""Comparisons: costs are the audit's, scores the study's, LaTeX compiles, and so on the shell."""

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.studies import NASTY, Writer
from unet_nas.audit.audit import audit
from unet_nas.cli import main
from unet_nas.records import read_run
from unet_nas.report.compare import compare, comparison_json, comparison_table
from unet_nas.report.findings import Findings
from unet_nas.report.study_tables import front_table, networks_table, table_files
from unet_nas.report.tables import render
from unet_nas.unet.load import load_architecture, preset

FOREIGN = """\
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
"""


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Runs the command line in this process; returns exit code and what was printed."""
    code = 0
    try:
        main(list(arguments))
    except SystemExit as end:
        code = int(end.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def cells(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_costs_are_those_of_the_audit():
    names = ["preset:unet-2015", "preset:milesial-bilinear"]
    rows, conditions = compare(names, patch_size=(572, 572), batch_size=2)
    for name, row in zip(names, rows, strict=True):
        network = preset(name.removeprefix("preset:"))
        step = audit(network, patch_size=(572, 572), batch_size=2)
        one = audit(network, patch_size=(572, 572))
        assert row.costs == {
            "parameters": step.parameters,
            "macs": one.macs,
            "training_memory": step.peak_training_bytes,
            "inference_memory": one.peak_inference_bytes,
        }
    assert rows[0].output_size == (388, 388)
    assert comparison_json(rows, conditions)["networks"][0]["macs"] == 150_428_424_448


def test_best_of_each_column_is_bold():
    rows, conditions = compare(
        ["preset:unet-2015", "preset:milesial-bilinear"], patch_size=(572, 572)
    )
    table = comparison_table(rows, conditions)
    bold = {table.columns[column].header: row for row, column in table.best}
    assert bold["Parameters (M)"] == 1
    assert bold["MACs per patch (G)"] == 0
    assert r"\textbf{17.26}" in render(table, "latex")
    assert "**17.26**" in render(table, "markdown")


def test_a_result_of_a_study_brings_its_scores_and_its_conditions(study):
    record = next(t for t in read_run(study).trials if t.name == "#4")
    (row,), conditions = compare([f"{study}#4"])
    assert conditions.patch_size == (64, 64)
    assert conditions.batch_size == 4
    assert row.scores["Dice (validation)"] == record.objectives["dice"]
    for name in ("parameters", "macs", "training_memory", "inference_memory", "latency"):
        assert row.costs[name] == record.costs[name]


def test_csv_holds_exact_numbers(study, capsys):
    code, out, _ = run(capsys, "compare", f"{study}#4", "preset:unet-2015", "--csv",
                       "--set", "padding=same")  # fmt: skip
    record = next(t for t in read_run(study).trials if t.name == "#4")
    first, second = cells(out)
    assert code == 0
    assert float(first["Dice (validation)"]) == record.objectives["dice"]
    assert int(first["training memory (bytes)"]) == record.costs["training_memory"]
    network = load_architecture("preset:unet-2015", ["padding=same"])
    assert int(second["MACs per patch"]) == audit(network, patch_size=(64, 64)).macs
    assert second["Dice (validation)"] == ""


def test_a_network_of_others_is_measured(tmp_path, monkeypatch, capsys):
    (tmp_path / "theirs.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "compare", "python:theirs:small", "preset:unet-2015",
                         "--patch-size", "572x572", "--json")  # fmt: skip
    theirs, ours = json.loads(out)["networks"]
    assert code == 0
    assert (theirs["parameters"], theirs["macs"]) == (4 * 10 + 2 * 5, (36 + 8) * 572 * 572)
    assert theirs["measured"]
    assert not ours["measured"]
    assert theirs["training_memory"] > theirs["inference_memory"] > 4 * 572 * 572
    assert "measuring counts" in err


def test_without_any_patch_size_the_fix_is_named(capsys):
    code, _, err = run(capsys, "compare", "preset:unet-2015")
    assert code == 2
    assert err == (
        "unet-nas: a comparison needs --patch-size, as 256x256, or a network of a study\n"
    )


def test_one_that_does_not_run_keeps_its_row_and_its_reason(capsys):
    code, out, err = run(capsys, "compare", "preset:unet-2015", "preset:unet3d-2016",
                         "--patch-size", "572x572", "--markdown")  # fmt: skip
    assert code == 2
    assert "does not run" in out
    assert "a patch size for a 3D network must have 3 numbers, got 2" in err


def test_two_styles_exclude_each_other(capsys):
    code, _, err = run(capsys, "compare", "preset:unet-2015", "--csv", "--latex")
    assert (code, err) == (2, "unet-nas: --csv and --latex exclude each other: ask one at a time\n")


def test_a_trial_that_is_not_there_is_told(study, capsys):
    code, _, err = run(capsys, "compare", f"{study}#999")
    assert code == 2
    assert "there is no trial '999'" in err


# --- tables of a study --------------------------------------------------------------------


def test_networks_table_has_the_recommended_and_the_baselines(findings):
    table = networks_table(findings)
    chosen = [row[1] for row in table.rows]
    assert "baseline" in chosen
    assert any("knee point" in text for text in chosen)
    assert len(table.rows) == len(findings.recommendations) + len(findings.baselines)
    assert "MACs: multiply-accumulates" in table.caption
    assert "mean ± standard deviation over 3 seeds" in table.caption


def test_exact_tables_are_the_records(findings):
    rows = cells(render(front_table(findings, exact=True), "csv"))
    assert [row["Network"] for row in rows] == [entry.label for entry in findings.front]
    for row, entry in zip(rows, findings.front, strict=True):
        assert float(row["Dice"]) == entry.record.objectives["dice"]
        assert int(row["inference memory (bytes)"]) == entry.record.costs["inference_memory"]


def test_longer_trainings_are_numbers_in_csv(findings):
    rows = cells(render(networks_table(findings, exact=True), "csv"))
    entries = {entry.label: entry for entry in (*findings.front, *findings.baselines)}
    trained = 0
    for row in rows:
        final = findings.finals(entries[row["Network"]])
        shown = [row[f"Longer training, {what}"] for what in ("mean", "SD", "seeds")]
        if final is None:
            assert shown == ["", "", ""]
        else:
            trained += 1
            assert list(map(float, shown)) == [final.mean, final.deviation, len(final.scores)]
    assert trained
    assert "Longer training" in [column.header for column in networks_table(findings).columns]


def test_tables_of_an_empty_study_have_only_a_head(tmp_path):
    found = Findings.of([read_run(Writer(tmp_path).write([]))])
    assert networks_table(found).rows == ()
    assert len(table_files(found)) == 6


@pytest.fixture(scope="module")
def nasty_tex(tmp_path_factory) -> dict[str, bytes]:
    writer = Writer(tmp_path_factory.mktemp("nasty"))
    records = [writer.record(n) for n in range(4)]
    baseline = replace(writer.baseline("preset:unet-2015", "width=8", "padding=same"), name=NASTY)
    return table_files(Findings.of([read_run(writer.write([*records, baseline]))]))


def test_names_appear_as_written_in_tables(nasty_tex):
    latex = nasty_tex["networks.tex"].decode()
    assert r"\textless{}script\textgreater{}alert('x')\textless{}/script\textgreater{}" in latex
    assert r"\& Müller\_50\%" in latex
    rows = cells(nasty_tex["networks.csv"].decode())
    assert NASTY in [row["Network"] for row in rows]
    assert "&lt;script>alert('x')&lt;/script> &amp; Müller_50%" in nasty_tex["networks.md"].decode()


@pytest.mark.parametrize("engine", ["pdflatex", "lualatex"])
def test_tables_and_figures_compile_in_a_paper(engine, nasty_tex, findings, tmp_path):
    if shutil.which(engine) is None:
        pytest.skip(f"no {engine} here")
    rows, conditions = compare(
        ["preset:unet-2015", "preset:nnunet-plain-2d"], patch_size=(572, 572)
    )
    tables = [
        nasty_tex["networks.tex"],
        nasty_tex["front.tex"],
        table_files(findings)["networks.tex"],
    ]
    parts = [table.decode() for table in tables]
    parts.append(render(comparison_table(rows, conditions), "latex"))
    text = "\n".join(
        [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}", *parts,
         r"\end{document}"]
    )  # fmt: skip
    (tmp_path / "paper.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [engine, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    log = (tmp_path / "paper.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, log[-2000:]
    # how much a font of LuaLaTeX has depends on what is installed
    assert engine == "lualatex" or "Missing character" not in log
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


# --- commands -----------------------------------------------------------------------------


def test_draw_and_report_on_the_shell(study, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "draw", "preset:unet-2015", "--patch-size", "572x572", "-o", "u.svg")
    assert (code, out) == (0, "u.svg\n")
    code, _, err = run(capsys, "draw", "preset:unet-2015", "-o", "u.svg")
    assert code == 2
    assert err == "unet-nas: u.svg exists already; --force replaces it\n"
    code, out, _ = run(capsys, "report", str(study), "--out", "out", "--page-only")
    assert (code, out) == (0, "out/index.html\n")
    assert [path.name for path in Path("out").iterdir()] == ["index.html"]
    code, _, err = run(capsys, "report", "nowhere", "--out", "out")
    assert code == 2
    assert err.endswith("nowhere is not the folder of a run: it has no run.json\n")


def test_reports_import_neither_torch_nor_optuna(study, tmp_path):
    code = (
        "import sys; from pathlib import Path; from unet_nas.report.page import write_report\n"
        f"write_report(Path({str(study)!r}), Path({str(tmp_path)!r}), paper=False)\n"
        "print([name for name in ('torch', 'optuna', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

"""Plots hold what the records say, and both renderers take all of them."""

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.support.studies import Writer, write_study
from unet_nas.audit.audit import audit
from unet_nas.records import read_run
from unet_nas.report import figures
from unet_nas.report.effects import effects
from unet_nas.report.figure_files import figure_files
from unet_nas.report.findings import Findings
from unet_nas.report.hypervolume_figures import hypervolume_plots
from unet_nas.report.matplotlib_figures import COLUMN_IN, PAGE_IN, _draw, plot_files
from unet_nas.report.network_figures import (
    network_of,
    stage_plot,
    timeline_plot,
    training_plot,
)
from unet_nas.report.plotly_json import to_plotly
from unet_nas.report.plots import Axis, Line, Plot, Series
from unet_nas.report.quantities import COSTS, MIB
from unet_nas.report.space_parts import space_parts
from unet_nas.unet.architecture import Architecture


@pytest.fixture(scope="module")
def plots(findings) -> list[Plot]:
    run, best = findings.runs[0], findings.front[-1]
    network = network_of(best.record, run)
    found = [*figures.pareto_plots(findings), *hypervolume_plots(findings)]
    found += [figures.importance_plot(run, "importances"), *figures.slice_plots(findings)]
    found += [figures.effects_plot(effects(findings, COSTS["macs"]), findings.score)]
    found += [stage_plot("n", network), timeline_plot("n", network)]
    found += [training_plot("n", [best.record], "dice"), *space_parts(run, "s").plots]
    return [plot for plot in found if plot is not None]


def series(plot: Plot, name: str) -> Series:
    return next(one for one in plot.series if one.name == name)


def test_every_plot_is_valid_for_plotly(plots):
    import plotly.graph_objects as go

    for plot in plots:
        drawn = to_plotly(plot)
        # colours are put in by the page's script
        data = json.loads(re.sub(r"var\(--[a-z0-9-]+\)", "#123456", json.dumps(drawn)))
        assert len(go.Figure(data).data) == sum(1 + (s.kind == "band") for s in plot.series)


def test_every_plot_can_be_printed(plots):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for plot in (plots[0], *plots[-6:-3]):
            files = plot_files(plot)
            assert {name.rsplit(".", 1)[1] for name in files} == {"pdf", "svg", "png"}


def test_files_suit_a_column_and_hold_their_fonts():
    plot = Plot("p", "t", Axis("x (s)"), Axis("$y_1$ & Müller"),
                (Series("a_b", "line", [0, 1], [2, 3]),), (Line("y", 2.5, "limit"),))  # fmt: skip
    files = plot_files(plot)
    assert b"/FontFile2" in files["p.pdf"]
    assert b"/Type3" not in files["p.pdf"]
    width = float(re.search(rb'width="([\d.]+)pt"', files["p.svg"])[1]) / 72
    assert width == pytest.approx(COLUMN_IN)
    assert b"<text" not in files["p.svg"]  # outlines: no font is needed to show it
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", plot_files(plot, PAGE_IN)["p.pdf"])
    assert float(box[1]) / 72 == pytest.approx(PAGE_IN)
    assert plot_files(plot) == files  # equal figures are equal files


def test_pareto_points_are_the_records(findings):
    plot = next(p for p in figures.pareto_plots(findings) if p.name == "pareto-dice-macs")
    front = series(plot, "front")
    by_key = {entry.key: entry.record for entry in findings.trials}
    for key, x, y in zip(front.keys, front.x, front.y, strict=True):
        assert (x, y) == (by_key[key].costs["macs"], by_key[key].objectives["dice"])
    complete = [t for t in findings.trials if t.record.state == "complete"]
    assert len(front.x) + len(series(plot, "dominated").x) == len(complete)
    memory = next(p for p in figures.pareto_plots(findings) if p.x.title.endswith("(MiB)"))
    key, x = series(memory, "front").keys[0], series(memory, "front").x[0]
    assert x == by_key[key].costs["training_memory"] / MIB


def test_finalists_have_error_bars_of_one_standard_deviation(findings):
    plot = figures.pareto_plots(findings)[0]
    finals = next(one for one in plot.series if one.role == "final")
    assert finals.name == "finalists on the test cases, mean ± SD"
    scores = [r.test["dice"] for r in findings.runs[0].finalists]
    by_name = np.array(scores).reshape(3, 3)
    assert sorted(finals.y) == pytest.approx(sorted(by_name.mean(axis=1)))
    half = np.array(finals.high) - np.array(finals.y)
    assert sorted(half) == pytest.approx(sorted(by_name.std(axis=1, ddof=1)))


def test_timeline_is_the_memory_model_and_its_peak_the_record(findings):
    entry = findings.front[-1]
    network = network_of(entry.record, entry.run)
    assert network.memory.peak_bytes == entry.record.costs["training_memory"]
    plot = timeline_plot("n", network)
    total = np.sum([one.y for one in plot.series], axis=0)
    assert total.max() == pytest.approx(network.memory.peak_bytes / MIB, abs=1e-3)
    peak = int(np.argmax(total))
    assert plot.series[0].x[peak] == network.memory.live_bytes.index(network.memory.peak_bytes)
    assert len(total) <= 302
    words = {
        "saved": "kept for backward",
        "parameters": "parameters",
        "optimizer": "optimizer state",
    }
    for kind, name in words.items():
        expected = network.memory.breakdown[kind] / MIB
        assert series(plot, name).y[peak] == pytest.approx(expected, abs=1e-3)


def test_stage_costs_are_those_of_the_audit(findings):
    entry = findings.front[0]
    network = network_of(entry.record, entry.run)
    found = audit(Architecture.model_validate(entry.record.architecture), patch_size=(64, 64))
    plot = stage_plot("n", network)
    shares = series(plot, "MACs")
    assert sum(shares.x) == pytest.approx(100)
    by_part = {cost.name: cost.macs for cost in found.stages}
    assert shares.x[shares.y.index("bottleneck")] == pytest.approx(
        100 * by_part["bottleneck"] / found.macs
    )
    assert found.macs == entry.record.costs["macs"]


def test_hypervolume_of_several_runs_has_a_band(tmp_path):
    runs = [read_run(write_study(tmp_path / str(n), 6, seed=n)) for n in range(3)]
    trials, seconds = hypervolume_plots(Findings.of(runs))
    for plot in (trials, seconds):
        kinds = [(one.kind, one.name) for one in plot.series]
        assert kinds == [("band", ""), ("step", "tpe, mean of 3 runs with 95 % interval")]
        band, mean = plot.series
        assert min(band.low) >= 0
        assert max(band.high) <= 1
        assert all(a <= y <= b for a, y, b in zip(band.low, mean.y, band.high, strict=True))
    alone = [hypervolume_plots(Findings.of([run]))[0].series[0] for run in runs]
    assert [one.kind for one in alone] == ["step"] * 3


def test_importances_of_several_runs_name_their_run(findings, tmp_path):
    (alone,) = figures.importance_plots(findings)
    assert alone.x.title == "importance (PED-ANOVA, shares of one)"
    runs = [read_run(write_study(tmp_path / name, 6, seed=n)) for n, name in enumerate("ab")]
    plots = figures.importance_plots(Findings.of(runs))
    assert [plot.title.rpartition(" of ")[2] for plot in plots] == ["demo (a)", "demo (b)"]
    assert to_plotly(plots[1])["layout"]["xaxis"]["title"]["text"].endswith("<br>demo (b)")


def labels_of(plot: Plot) -> list[str]:
    """Returns the labels that stand on the horizontal axis on paper."""
    axes = Figure(figsize=(3.4, 2.4)).add_subplot()
    _draw(plot, axes)
    axes.figure.draw_without_rendering()
    low, high = axes.get_xlim()
    ticks = axes.xaxis.get_major_ticks()
    return [tick.label1.get_text() for tick in ticks if low <= tick.get_loc() <= high]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([4e6, 3e7], ["5M", "10M", "20M"]),
        ([2.2e6, 4.5e6], ["3M", "4M"]),
        ([1e6, 2e9], ["1M", "10M", "100M", "1G"]),
    ],
)
def test_short_logarithmic_axes_have_labels(values, labels):
    points = Series("", "points", values, [0.1, 0.2])
    assert labels_of(Plot("p", "t", Axis("MACs", log=True), Axis("Dice"), (points,))) == labels


def test_axes_that_count_have_whole_ticks():
    step = Series("", "step", [1, 2, 3], [0.1, 0.2, 0.3])
    plot = Plot("p", "t", Axis("trials", whole=True), Axis("share"), (step,))
    assert labels_of(plot) == ["1", "2", "3"]
    assert to_plotly(plot)["layout"]["xaxis"]["dtick"] == 1


def test_hypervolume_ends_at_that_of_the_whole_search(findings):
    for plot in hypervolume_plots(findings):
        (curve,) = plot.series
        assert curve.y[-1] == pytest.approx(findings.hypervolume)
        assert list(curve.y) == sorted(curve.y)


def test_depth_histogram_shows_a_collapse(tmp_path):
    writer = Writer(tmp_path)
    records = []
    while len(records) < 4:
        record = writer.record(len(records))
        if record.architecture["depth"] == 2:
            records.append(record)
    plot = space_parts(read_run(writer.write(records)), "s").plots[0]
    assert series(plot, "trials").y == [100.0, 0.0, 0.0]
    assert series(plot, "feasible candidates").y[1] > 0


def test_figures_of_an_empty_study_are_none(tmp_path):
    run = read_run(Writer(tmp_path).write([]))
    assert [name for name in figure_files(Findings.of([run])) if "importances" not in name] == []


def test_failed_trials_have_no_point_in_slices(tmp_path):
    writer = Writer(tmp_path)
    failed = [replace(writer.record(n), state="failed", objectives={"dice": 0.0}) for n in range(9)]
    assert figures.slice_plots(Findings.of([read_run(writer.write(failed, examples=()))])) == []

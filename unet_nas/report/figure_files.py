"""Figures of a search for a paper: pdf, svg and png of what the page shows too."""

from __future__ import annotations

import re
from collections.abc import Iterator

from unet_nas.report import figures
from unet_nas.report.drawing import layout
from unet_nas.report.drawing_matplotlib import drawing_files
from unet_nas.report.findings import Entry, Findings
from unet_nas.report.hypervolume_figures import hypervolume_plots
from unet_nas.report.matplotlib_figures import PAGE_IN, plot_files
from unet_nas.report.network_figures import (
    network_of,
    stage_plot,
    timeline_plot,
    training_plot,
)
from unet_nas.report.plots import Plot

__all__ = ["figure_files"]


def figure_files(findings: Findings) -> dict[str, bytes]:
    """Returns the figures by file name: of the search, then of each recommended network."""
    files: dict[str, bytes] = {}
    for plot in _plots(findings):
        files |= plot_files(plot)
    for one in findings.recommendations:
        files |= _network_files(findings, one.entry)
    return files


def _plots(findings: Findings) -> Iterator[Plot]:
    """Yields the front in the plane that was searched, the hypervolume, and what mattered."""
    axes = {quantity.axis for quantity in findings.plane}
    if findings.feasible:
        for plot in figures.pareto_plots(findings):
            if {plot.x.title, plot.y.title} <= axes:
                yield plot
    yield from hypervolume_plots(findings)
    yield from figures.importance_plots(findings)


def _network_files(findings: Findings, entry: Entry) -> dict[str, bytes]:
    network = network_of(entry.record, entry.run)
    name = f"network-{re.sub(r'[^A-Za-z0-9]+', '-', entry.label).strip('-') or entry.key}"
    score = findings.score
    files: dict[str, bytes] = {}
    if network is not None:
        files |= plot_files(stage_plot(name, network))
        files |= plot_files(timeline_plot(name, network), PAGE_IN)
        files |= drawing_files(layout(network.graph, network.sizes[0]), f"{name}-u")
    finals = [r for r in entry.run.finalists if r.name == entry.record.name]
    curves = training_plot(name, [entry.record, *finals], "score" if score is None else score.name)
    return files if curves is None else files | plot_files(curves)

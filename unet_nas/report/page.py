"""The report: one page that opens anywhere, offline, from records alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from unet_nas.files import write_files
from unet_nas.records import read_run
from unet_nas.report import figures
from unet_nas.report.effects import effects, parameter_name
from unet_nas.report.findings import Findings
from unet_nas.report.html import environment, json_for_script, number
from unet_nas.report.hypervolume_figures import hypervolume_plots
from unet_nas.report.page_parts import (
    answers,
    beside_baselines,
    budget_facts,
    cards,
    class_legend,
    finals_title,
    rows,
)
from unet_nas.report.plotly_json import to_plotly
from unet_nas.report.plots import Plot
from unet_nas.report.provenance import provenance
from unet_nas.report.quantities import COSTS
from unet_nas.report.space_parts import space_parts
from unet_nas.report.study_tables import table_files

__all__ = ["page_html", "write_report"]

PAGE = "index.html"


def write_report(
    folder: Path | Sequence[Path],
    out: Path,
    *,
    paper: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Writes the report of one or several runs, and returns where its page lies.

    Args:
        folder: of a run, or of several with the same objectives and the same kind of input.
        out: the folder to write ``index.html``, ``tables/`` and ``figures/`` into; files that
            are there are replaced.
        paper: write tables and figures too.
        progress: is told what comes next.

    Raises:
        InputError: if a folder holds no run or is given twice, or if runs cannot share a page.
    """
    folders = [folder] if isinstance(folder, Path) else list(folder)
    tell = progress or _silent
    tell("reading the records")
    findings = Findings.of([read_run(path) for path in folders])
    count = len(findings.trials)
    tell(f"writing the page of {count:,} trial{'' if count == 1 else 's'}")
    written = write_files(out, {PAGE: page_html(findings).encode()}, force=True)
    if paper:
        from unet_nas.report.figure_files import figure_files  # noqa: PLC0415 - takes a second

        write_files(out / "tables", table_files(findings), force=True)
        tell("drawing the figures")
        files = figure_files(findings)
        if files:
            write_files(out / "figures", files, force=True)
    return written[0]


def _silent(message: str) -> None:
    """Reports no progress."""


def page_html(findings: Findings) -> str:
    """Returns the page: text, plots, drawings, pictures, and the script that draws the plots."""
    page = _Page(findings)
    template = environment().get_template("page.html")
    return template.render(**page.context(), plots=Markup(page.plots_json()))


def plotly_script() -> str:
    """Returns plotly's own script, as it comes with the package."""
    script = resources.files("plotly").joinpath("package_data", "plotly.min.js")
    return script.read_text(encoding="utf-8").replace("</script", "<\\/script")


class _Page:
    """Collects the plots while the parts of the page are put together."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.plots: dict[str, Plot] = {}

    def context(self) -> dict[str, Any]:
        """Returns what the template shows."""
        findings, run = self.findings, self.findings.runs[0]
        made, beside = cards(findings), beside_baselines(findings)
        return {
            "findings": findings,
            "run": run,
            "title": ", ".join(dict.fromkeys(r.header.name for r in findings.runs)),
            "answers": answers(findings),
            "budget": budget_facts(run),
            "columns": findings.shown,
            "beside": beside if findings.baselines else [],
            "finals_title": finals_title(findings, beside),
            "front": rows(findings, findings.front),
            "trials": rows(findings, findings.trials),
            "pareto": self._kept(figures.pareto_plots(findings)),
            "pairs": len(findings.plane) * (len(findings.plane) - 1) // 2,
            "hypervolume": self._kept(hypervolume_plots(findings)),
            "reference": _reference_text(findings),
            **self._mattered(),
            "cards": made,
            "card_plots": {card.entry.key: self._kept(card.plots) for card in made},
            "classes": class_legend(run),
            "spaces": [self._space(number) for number in range(len(findings.runs))],
            "provenance": [provenance(one) for one in findings.runs],
            "number": number,
            "asset": asset,
            "plotly": Markup(plotly_script()),
        }

    def _mattered(self) -> dict[str, Any]:
        findings = self.findings
        cost = COSTS["macs"]
        found = effects(findings, cost)
        drawn = None if findings.score is None else figures.effects_plot(found, findings.score)
        return {
            "importances": self._kept(figures.importance_plots(findings)),
            "slices": self._kept(figures.slice_plots(findings)),
            "effects": found,
            "effects_plot": self._kept([drawn] if drawn else []),
            "parameter_name": parameter_name,
        }

    def _space(self, index: int) -> Any:
        parts = space_parts(self.findings.runs[index], f"space-{index}")
        self._kept(parts.plots)
        return parts

    def _kept(self, plots: Sequence[Plot]) -> list[Plot]:
        self.plots.update({plot.name: plot for plot in plots})
        return list(plots)

    def plots_json(self) -> str:
        """Returns all plots; what a pointer on a network says is written once for all of them."""
        said: dict[str, str] = {}
        for plot in self.plots.values():
            for series in plot.series:
                if series.keys and series.labels and series.role != "final":
                    said.update(zip(series.keys, series.labels, strict=True))
        drawn = {name: to_plotly(plot) for name, plot in self.plots.items()}
        for trace in (trace for plot in drawn.values() for trace in plot["data"]):
            if trace.get("text") == [said.get(key) for key in trace.get("customdata", [])]:
                del trace["text"]
        content = {"plots": drawn, "said": said}
        return json_for_script(json.dumps(content, ensure_ascii=False, separators=(",", ":")))


def asset(name: str) -> Markup:
    """Returns a style sheet or script of the package, as it is."""
    home = resources.files("unet_nas.report").joinpath("templates", name)
    return Markup(home.read_text(encoding="utf-8"))


def _reference_text(findings: Findings) -> str:
    """Returns the reference point of the hypervolume in words."""
    if not findings.feasible:
        return ""
    return ", ".join(_coordinates(findings))


def _coordinates(findings: Findings) -> Iterator[str]:
    for quantity, loss in zip(findings.plane, findings.reference, strict=True):
        value = 10**loss if quantity.cost else -loss if quantity.maximized else loss
        limit = findings.limit(quantity)
        why = "the worst seen" if limit is None or limit < value * (1 - 1e-9) else "the budget"
        yield f"{quantity.title} {quantity.text(value)} ({why})"

"""The diagnosis: what the principles of U-Nets say about one network on one patch.

One list of analyses; each is a module with ``analyse``, ``findings`` and ``figure``. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from unet_nas.audit.diagnosis import (
    aliasing,
    alignment,
    checkerboard,
    costs,
    fusion,
    padding,
    paths,
    receptive,
)
from unet_nas.audit.diagnosis.plots import Figure
from unet_nas.audit.diagnosis.subject import Finding, Subject
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.shapes import Size

_SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Analysis:
    """One question about a network.

    Args:
        name: as in the JSON.
        title: in words.
        source: the paper or textbook that the rule comes from.
        analyse: from the subject to plain data.
        findings: from that data to sentences, none that does not apply.
        figure: from that data to what is plotted; None where there is nothing to plot.
    """

    name: str
    title: str
    source: str
    analyse: Callable[[Subject], Any]
    findings: Callable[[Any, Subject], Iterator[Finding]]
    figure: Callable[[Any], Figure | None]


def _analysis(name: str, title: str, source: str, module: Any) -> Analysis:
    return Analysis(name, title, source, module.analyse, module.findings, module.figure)


ANALYSES: tuple[Analysis, ...] = (
    _analysis(
        "receptive_field",
        "What an output position sees",
        "Araujo, Norris and Sim, Distill 2019, doi:10.23915/distill.00021",
        receptive,
    ),
    _analysis(
        "alignment",
        "Sizes that meet at the skips",
        "Ronneberger, Fischer and Brox, MICCAI 2015, arXiv:1505.04597",
        alignment,
    ),
    _analysis(
        "gradient_paths",
        "How far convolutions are from the loss",
        "Drozdzal et al., DLMIA 2016, arXiv:1608.04117",
        paths,
    ),
    _analysis(
        "aliasing",
        "What folds back on the way down",
        "Zhang, ICML 2019, arXiv:1904.11486",
        aliasing,
    ),
    _analysis(
        "checkerboard",
        "What the way up covers unevenly",
        "Odena, Dumoulin and Olah, Distill 2016, doi:10.23915/distill.00003",
        checkerboard,
    ),
    _analysis(
        "fusion_cost",
        "What the fusions cost",
        "Szegedy et al., CVPR 2015, arXiv:1409.4842; He et al., CVPR 2016, arXiv:1512.03385",
        fusion,
    ),
    _analysis(
        "same_padding",
        "Padding that keeps the size",
        "Dumoulin and Visin, arXiv:1603.07285",
        padding,
    ),
    _analysis(
        "stage_costs",
        "Where memory and compute sit",
        "Chen et al., arXiv:1604.06174",
        costs,
    ),
)


#: what each analysis rests on
SOURCES = {analysis.name: analysis.source for analysis in ANALYSES}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Args:
        subject: the network and its patch.
        results: of every analysis, by name.
        findings: the most important first.
    """

    subject: Subject
    results: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def patch_size(self) -> Size | None:
        """The patch that was looked at."""
        return self.subject.patch_size

    @property
    def analyses(self) -> list[Analysis]:
        """The analyses that were made, in order."""
        return [analysis for analysis in ANALYSES if analysis.name in self.results]

    def figures(self) -> list[Figure]:
        """Returns what can be plotted, one figure per analysis that applies."""
        made = [analysis.figure(self.results[analysis.name]) for analysis in self.analyses]
        return [figure for figure in made if figure is not None]

    def plain(self) -> dict[str, Any]:
        """Returns the diagnosis as plain data, as ``--json`` prints it."""
        return {
            "patch_size": self.patch_size,
            "patch_given": self.subject.given,
            "findings": [plain_finding(finding, SOURCES) for finding in self.findings],
            "analyses": {
                analysis.name: {
                    "title": analysis.title,
                    "source": analysis.source,
                    "result": plain(self.results[analysis.name]),
                }
                for analysis in self.analyses
            },
        }


def diagnose(
    architecture: Architecture,
    patch_size: Sequence[int] | None = None,
    *,
    only: Collection[str] = tuple(SOURCES),
) -> Diagnosis:
    """Diagnoses a network: no torch, a few milliseconds.

    Args:
        architecture: the network.
        patch_size: spatial size of the input; None looks at a usual one that fits, and says
            nothing against it.
        only: names of the analyses that are made.

    Raises:
        SizeError: if ``patch_size`` is not one positive integer per axis.

    >>> net = Architecture(norm="none", padding="valid", align="crop")
    >>> diagnose(net, (572, 572)).findings[0].text[:75]
    'the output is 388x388 for an input of 572x572: 92 rows and columns are lost'
    """
    subject = Subject.of(architecture, patch_size)
    chosen = [analysis for analysis in ANALYSES if analysis.name in only]
    results = {analysis.name: analysis.analyse(subject) for analysis in chosen}
    found = [
        finding
        for analysis in chosen
        for finding in analysis.findings(results[analysis.name], subject)
    ]
    return Diagnosis(subject, results, ordered(found))


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Returns findings by severity, then by how much is concerned."""
    rank = {severity: i for i, severity in enumerate(_SEVERITIES)}
    return tuple(sorted(findings, key=lambda f: (rank[f.severity], -f.weight)))


def plain_finding(finding: Finding, sources: Mapping[str, str]) -> dict[str, Any]:
    """Returns a finding as plain data, with its source."""
    return {**asdict(finding), "source": sources[finding.analysis]}


def plain(value: Any) -> Any:
    """Returns dataclasses and tuples as dictionaries and lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return [plain(one) for one in value] if isinstance(value, tuple | list) else value

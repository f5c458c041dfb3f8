"""All experiments on one network, in seconds on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unet_nas.audit.cost import forward_macs
from unet_nas.audit.diagnosis.diagnose import ordered, plain, plain_finding
from unet_nas.audit.diagnosis.plots import Figure
from unet_nas.audit.diagnosis.subject import Finding, Subject
from unet_nas.operators.builder import Graph
from unet_nas.profile.diagnosis import effective, folding, gradients, phases, spectra
from unet_nas.profile.diagnosis.experiments import EXPERIMENTS
from unet_nas.profile.diagnosis.twin import Twin, small_twin, twin_on
from unet_nas.unet.architecture import Architecture

#: per number of axes, positions of the output that the training experiments ask for
_OUTPUT = {1: 128, 2: 32, 3: 16}
#: multiply-accumulates of a forward pass of one sample, for each experiment
_TRAINING_MACS, _GRADIENT_MACS, _FIELD_MACS = 15_000_000, 300_000_000, 1_000_000_000
#: fewest steps of a training that cannot be made cheaper
_FEWEST_STEPS = 25

#: what an experiment gives: plain data, findings, and what is plotted
Outcome = tuple[Any, list[Finding], list[Figure]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the experiments gave.

    Args:
        results: by the names of `EXPERIMENTS`; those that do not apply are left out.
        findings: the most important first.
        figures: what can be plotted.
    """

    results: dict[str, Any]
    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...]

    def plain(self) -> dict[str, Any]:
        """Returns the findings and results as plain data, each with its source."""
        return {
            "findings": [plain_finding(finding, EXPERIMENTS) for finding in self.findings],
            "experiments": {
                name: {"source": EXPERIMENTS[name], "result": plain(result)}
                for name, result in self.results.items()
            },
        }


def measure(
    architecture: Architecture,
    patch_size: Sequence[int] | None = None,
    *,
    only: Collection[str] = tuple(EXPERIMENTS),
    seed: int = 0,
    steps: int = 100,
    on_progress: Callable[[str], None] | None = None,
) -> Measured:
    """Runs experiments on a network.

    Args:
        architecture: the network.
        patch_size: for the effective receptive field; the others choose a small one. None: a
            usual size.
        only: names of the experiments that are run.
        seed: of weights and inputs.
        steps: of the training experiments; fewer where a step is dear.
        on_progress: is told what is being done.

    Raises:
        SizeError: if ``patch_size`` is not one positive integer per axis.
    """
    asked = _Request(Subject.of(architecture, patch_size), seed, steps)
    runs = {
        "effective_field": asked.effective_field,
        "gradients": asked.gradients,
        "spectra": asked.spectra,
        "folding": asked.folding,
        "phases": asked.phases,
    }
    results: dict[str, Any] = {}
    found: list[Finding] = []
    drawn: list[Figure] = []
    for name in [name for name in runs if name in only]:
        if on_progress is not None:
            on_progress(f"measuring {name.replace('_', ' ')}")
        for result, findings, figures in _on_one_thread(runs[name]):
            results[name] = result
            found += findings
            drawn += figures
    return Measured(results, ordered(found), tuple(drawn))


def _on_one_thread(run: Callable[[], Outcome | None]) -> Iterator[Outcome]:
    """Yields what an experiment gives, if it applies; small maps are slower on more threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        outcome = run()
    finally:
        torch.set_num_threads(threads)
    if outcome is not None:
        yield outcome


@dataclass(frozen=True, slots=True)
class _Request:
    """What a person asked to have measured; each method is one experiment."""

    subject: Subject
    seed: int
    steps: int

    def effective_field(self) -> Outcome | None:
        """What the centre of the output listens to; None where no patch fits."""
        patch = self.subject.patch_size
        twin = patch and twin_on(self.subject.architecture, patch, macs=_FIELD_MACS)
        if not twin:
            return None
        result = effective.measure(twin, seed=self.seed)
        found = list(effective.findings(result, self.subject.graph.dims))
        return result, found, [effective.figure(result)]

    def gradients(self) -> Outcome | None:
        """How large gradients are, over the skips and without."""
        twin = self._small(_GRADIENT_MACS)
        if twin is None:
            return None
        result = gradients.measure(twin, seed=self.seed)
        return result, list(gradients.findings(result)), [gradients.figure(result)]

    def spectra(self) -> Outcome | None:
        """What comes back of each frequency, and through which skip."""
        twin = self._small(_TRAINING_MACS)
        if twin is None:
            return None
        cost = max(1, forward_macs(twin.graph, twin.sizes))
        affordable = max(_FEWEST_STEPS, self.steps * _TRAINING_MACS // cost)
        result = spectra.measure(twin, steps=min(self.steps, affordable), seed=self.seed)
        return result, list(spectra.findings(result)), spectra.figures(result)

    def folding(self) -> Outcome | None:
        """What each way down folds back."""
        result = folding.measure(*self._operators(), seed=self.seed)
        return result, list(folding.findings(result)), [folding.figure(result)]

    def phases(self) -> Outcome | None:
        """How evenly each way up treats its phases."""
        result = phases.measure(*self._operators(), seed=self.seed)
        return result, list(phases.findings(result)), [phases.figure(result)]

    def _small(self, macs: int) -> Twin | None:
        output = _OUTPUT[self.subject.graph.dims]
        return small_twin(self.subject.architecture, output=output, macs=macs)

    def _operators(self) -> tuple[Graph, int]:
        """Returns a graph with few channels whose operators are looked at, and its depth."""
        twin = self._small(_TRAINING_MACS)
        graph = self.subject.graph if twin is None else twin.graph
        return graph, self.subject.architecture.depth

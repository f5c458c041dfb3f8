"""All experiments on one network, in seconds on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unet_nas.audit.cost import forward_macs
from unet_nas.audit.diagnosis.diagnose import ordered, plain, plain_finding
from unet_nas.audit.diagnosis.plots import Figure
from unet_nas.audit.diagnosis.subject import Finding, Subject
from unet_nas.profile.diagnosis import effective, folding, gradients, phases, spectra
from unet_nas.profile.diagnosis.reproduction import BATCH_SIZE
from unet_nas.profile.diagnosis.twin import small_twin, twin_on
from unet_nas.unet.architecture import Architecture

#: per number of axes, positions of the output that the training experiments ask for
_OUTPUT = {1: 128, 2: 32, 3: 16}
#: multiply-accumulates of a forward pass of one sample, for each experiment
_TRAINING_MACS, _GRADIENT_MACS, _FIELD_MACS = 10_000_000, 300_000_000, 1_000_000_000
#: fewest steps of a training that cannot be made cheaper
_FEWEST_STEPS = 30

#: what each experiment rests on
SOURCES = {
    "effective_field": "Luo et al., NeurIPS 2016, arXiv:1701.04128",
    "gradients": "Drozdzal et al., DLMIA 2016, arXiv:1608.04117",
    "spectra": "Oppenheim and Schafer, Discrete-Time Signal Processing, section 4.6",
    "folding": "Zhang, ICML 2019, arXiv:1904.11486",
    "phases": "Odena, Dumoulin and Olah, Distill 2016; Aitken et al., arXiv:1707.02937",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What the experiments gave.

    Args:
        results: by the names of `SOURCES`; None where an experiment does not apply.
        findings: the most important first.
        figures: what can be plotted.
    """

    results: dict[str, Any]
    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...]

    def plain(self) -> dict[str, Any]:
        """Returns the findings and results as plain data, each with its source."""
        return {
            "findings": [plain_finding(finding, SOURCES) for finding in self.findings],
            "experiments": {
                name: {"source": SOURCES[name], "result": plain(result)}
                for name, result in self.results.items()
            },
        }


def measure(
    architecture: Architecture,
    patch_size: Sequence[int] | None = None,
    *,
    seed: int = 0,
    steps: int = 100,
    on_progress: Callable[[str], None] | None = None,
) -> Measured:
    """Runs every experiment on a network.

    Args:
        architecture: the network.
        patch_size: for the effective receptive field; the others choose a small one. None: a
            usual size.
        seed: of weights and inputs.
        steps: of the training experiments; fewer where a step is dear.
        on_progress: is told what is being done.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # maps this small are slower on more
    try:
        return _measure(architecture, patch_size, seed, steps, on_progress or _silent)
    finally:
        torch.set_num_threads(threads)


def _silent(_message: str) -> None:
    pass


def _measure(
    architecture: Architecture,
    patch_size: Sequence[int] | None,
    seed: int,
    steps: int,
    tell: Callable[[str], None],
) -> Measured:
    subject = Subject.of(architecture, patch_size)
    results: dict[str, Any] = dict.fromkeys(SOURCES)
    found: list[Finding] = []
    drawn: list[Figure] = []
    tell("effective receptive field")
    wide = None
    if subject.patch_size is not None:
        wide = twin_on(architecture, subject.patch_size, macs=_FIELD_MACS)
    if wide is not None:
        field = results["effective_field"] = effective.measure(wide, seed=seed)
        found += effective.findings(field, subject.graph.dims)
        drawn.append(effective.figure(field))
    output = _OUTPUT[subject.graph.dims]
    tell("gradients with and without skips")
    twin = small_twin(architecture, output=output, macs=_GRADIENT_MACS, batch_size=BATCH_SIZE)
    if twin is not None:
        taken = results["gradients"] = gradients.measure(twin, seed=seed)
        found += gradients.findings(taken)
        drawn.append(gradients.figure(taken))
    tell("spectra: training for a moment, with and without skips")
    twin = small_twin(architecture, output=output, macs=_TRAINING_MACS, batch_size=BATCH_SIZE)
    if twin is not None:
        affordable = steps * _TRAINING_MACS // max(1, forward_macs(twin.graph, twin.sizes))
        steps = min(steps, max(_FEWEST_STEPS, affordable))
        spectrum = results["spectra"] = spectra.measure(twin, steps=steps, seed=seed)
        found += spectra.findings(spectrum)
        drawn += spectra.figures(spectrum)
    tell("aliasing and checkerboard: the operators by themselves")
    graph = subject.graph if twin is None else twin.graph
    folded = results["folding"] = folding.measure(graph, architecture.depth, seed=seed)
    uneven = results["phases"] = phases.measure(graph, architecture.depth, seed=seed)
    found += [*folding.findings(folded), *phases.findings(uneven)]
    drawn += [folding.figure(folded), phases.figure(uneven)]
    return Measured(results, ordered(found), tuple(drawn))

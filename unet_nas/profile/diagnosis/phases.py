"""Row 7, measured: how evenly each way up treats the phases of its output.

With all-ones kernels the map of a constant shows the overlap itself. With random kernels one
draw proves nothing, as its phases differ by chance: the mean energy of every phase over many
draws shows what the operator does, and the contrast between the phases of a single draw what a
network starts with. Sources: Odena, Dumoulin and Olah, Distill 2016; Aitken et al.,
arXiv:1707.02937 (ICNR makes the phases of a pixel shuffle equal).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, listed, percent
from unet_nas.operators.builder import Graph
from unet_nas.profile.diagnosis.sampling import Sampler, ups
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower

#: positions per axis of the constant map that is brought up
_SIZE = 8
DRAWS = 128
#: energies that differ by more than this are not equal by chance
_UNEVEN = 0.25


@dataclass(frozen=True, slots=True)
class Phases:
    """What an up-sampling makes of a constant, by the phase of the output position.

    Args:
        name: of the operator, or of the network's own at a stage.
        ones: value per phase with all weights one, over their mean.
        energy: mean square per phase over many random initialisations, over their mean.
        contrast: mean over the initialisations of the variance between the phases of one of
            them, over its energy: 0 where a single network starts without a checkerboard.
    """

    name: str
    ones: tuple[float, ...]
    energy: tuple[float, ...]
    contrast: float

    @property
    def ones_spread(self) -> float:
        """Largest minus smallest value with all-ones kernels, over the mean."""
        return max(self.ones) - min(self.ones)

    @property
    def energy_spread(self) -> float:
        """Largest minus smallest mean energy, over the mean."""
        return max(self.energy) - min(self.energy)


def measure(graph: Graph, depth: int, *, seed: int, draws: int = DRAWS) -> tuple[Phases, ...]:
    """Returns the network's own up-samplings, and standard ones by 2."""
    own = [phases_of(sampler.name, sampler, seed, draws) for sampler in ups(graph, depth)]
    return (*own, *references(seed, draws))


def references(seed: int, draws: int = DRAWS) -> tuple[Phases, ...]:
    """Returns standard up-samplings by 2 in two dimensions."""
    operators = {
        "transposed conv 2": {"type": "transposed_conv"},
        "transposed conv 3": {"type": "transposed_conv", "kernel_size": 3},
        "transposed conv 4": {"type": "transposed_conv", "kernel_size": 4},
        "nearest + conv 3": {"type": "interpolation"},
        "bilinear + conv 3": {"type": "interpolation", "mode": "linear"},
        "pixel shuffle": {"type": "pixel_shuffle", "icnr": False},
        "pixel shuffle, ICNR": {"type": "pixel_shuffle"},
    }
    found = []
    for name, up in operators.items():
        architecture = Architecture(depth=1, features=(8, 8), up=up, align="crop")
        found.append(phases_of(name, ups(lower(architecture), 1)[0], seed, draws))
    return tuple(found)


@torch.no_grad()
def phases_of(name: str, sampler: Sampler, seed: int, draws: int) -> Phases:
    """Returns what one up-sampling makes of a constant."""
    channels = sampler.graph.nodes[0].channels
    x = torch.ones(1, channels, *(_SIZE,) * len(sampler.factor))
    module = sampler.module(seed)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 1.0 if parameter.dim() > 1 else 0.0)
    ones = _by_phase(module(x), sampler.factor)[0].mean(0)
    values = []
    for draw in range(draws if sampler.graph.parameters() else 1):
        values.append(_by_phase(sampler.module(seed + draw)(x), sampler.factor)[0])
    drawn = torch.stack(values)  # (draws, channels, phases)
    energy = drawn.square().mean((0, 1))
    spread = drawn.var(-1, unbiased=False).mean() / drawn.square().mean().clamp(min=1e-12)
    return Phases(
        name,
        tuple((ones / ones.mean().clamp(min=1e-12)).tolist()),
        tuple((energy / energy.mean().clamp(min=1e-12)).tolist()),
        float(spread),
    )


def _by_phase(made: Tensor, factor: Sequence[int]) -> Tensor:
    """Returns the mean of every phase away from the border, ``(batch, channels, phases)``."""
    cells = tuple(range(2, made.dim()))
    for axis, f in enumerate(factor, start=2):
        keep = 2 * f * ((made.shape[axis] // f - 4) // 2)  # whole cells, two off at each end
        made = made.narrow(axis, 2 * f, max(f, keep))
    found = []
    for phase in product(*(range(f) for f in factor)):
        steps = tuple(slice(i, None, f) for i, f in zip(phase, factor, strict=True))
        found.append(made[(slice(None), slice(None), *steps)].mean(cells))
    return torch.stack(found, dim=-1)


def findings(result: Sequence[Phases]) -> Iterator[Finding]:
    """Yields the network's own up-samplings that treat phases unevenly."""
    own = [one for one in result if one.name.startswith("decoder.ups")]
    uneven = [one for one in own if one.ones_spread > 1e-3 and one.energy_spread > _UNEVEN]
    if uneven:
        worst = max(uneven, key=lambda one: one.energy_spread)
        text = (
            f"{listed([one.name for one in uneven])}: with all-ones kernels a constant comes out "
            f"{max(worst.ones) / max(1e-12, min(worst.ones)):.3g} times as large on some phases as "
            f"on others, and over {DRAWS} random initialisations their energy differs by "
            f"{percent(worst.energy_spread)} of its mean"
        )
        yield Finding("phases", "warning", min(1.0, worst.energy_spread) / 2, text)
    noisy = [one for one in own if one.contrast > 1e-3 and one not in uneven]
    if noisy:
        worst = max(noisy, key=lambda one: one.contrast)
        text = (
            f"{listed([one.name for one in noisy])}: even in the mean, but any one initialisation "
            f"starts with {percent(worst.contrast)} of its energy as differences between phases"
        )
        yield Finding("phases", "note", worst.contrast / 4, text)


def figure(result: Sequence[Phases]) -> Figure:
    """Returns values with all-ones kernels, mean energies, and contrasts."""
    places = tuple(map(float, range(len(result))))
    names = tuple(one.name for one in result)
    spreads = Panel(
        "Unevenness between phases",
        "up-sampling",
        "(largest − smallest) / mean",
        (
            Series("all-ones kernels", places, tuple(one.ones_spread for one in result)),
            Series("mean energy, random", places, tuple(one.energy_spread for one in result)),
        ),
        kind="bars",
        ticks=names,
    )
    contrast = Panel(
        "Contrast of one initialisation",
        "up-sampling",
        "variance / energy",
        (Series("", places, tuple(one.contrast for one in result)),),
        kind="bars",
        ticks=names,
    )
    return Figure("phases", f"Mean over {DRAWS} initialisations.", (spreads, contrast))

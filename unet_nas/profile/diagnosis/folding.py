"""Row 6, measured: what down-sampling makes of waves that it cannot carry, and of a shift.

A wave faster than 1 cycle in 2 s positions has no place on the new grid: whatever comes out of
it was folded back to a slow wave. A network that folds nothing gives the same map, moved, when
its input moves by one position. Sources: Zhang, ICML 2019, arXiv:1904.11486 (shift consistency);
Oppenheim and Schafer, *Discrete-Time Signal Processing*, section 4.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - F is what every PyTorch user calls it

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, percent
from unet_nas.operators.builder import Graph
from unet_nas.profile.diagnosis.sampling import Sampler, downs
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower

#: positions of a period of the test signals, times the stride
_PERIOD = 32
#: newly initialised kernels, and phases of each wave, over which a response is averaged
_DRAWS, _PHASES = 8, 4
#: taps of the kernel fitted to a low-pass
_TAPS = 7

Operator = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Folding:
    """What a down-sampling does along one axis.

    Args:
        name: of the operator, or of the network's own at a stage.
        stride: every so many positions are kept.
        frequencies: of the waves, in cycles per position of its input.
        response: per frequency the power that comes out, over that of the waves it can carry.
        folded: mean response of the waves that it cannot carry; 1: as strong as the others.
        consistency: how alike the maps of an input and of the same moved by one position are,
            once both are brought back: 1 alike, 0 not at all.
    """

    name: str
    stride: int
    frequencies: tuple[float, ...]
    response: tuple[float, ...]
    folded: float
    consistency: float


def measure(graph: Graph, depth: int, *, seed: int) -> tuple[Folding, ...]:
    """Returns the network's own down-samplings, and standard ones with the same stride 2."""
    own = [_measured(sampler.name, sampler, seed) for sampler in downs(graph, depth)]
    return (*own, *references(seed))


def references(seed: int) -> tuple[Folding, ...]:
    """Returns standard down-samplings by 2 in one dimension."""
    operators = {
        "max pool 2": {"type": "max_pool"},
        "average pool 2": {"type": "avg_pool"},
        "strided conv 3, random": {"type": "strided_conv"},
        "max pool 2, blurred by 3 taps": {"type": "anti_aliased_max_pool"},
    }
    found = []
    for name, down in operators.items():
        architecture = Architecture(spatial_dims=1, depth=1, features=(8, 8), down=down)
        found.append(_measured(name, downs(lower(architecture), 1)[0], seed))
    return (*found, _folding("strided conv 7, fitted", 2, 1, _fitted))


def _fitted(x: Tensor) -> Tensor:
    """A strided convolution whose kernel is the best low-pass of so many taps (least squares)."""
    places = torch.arange(_TAPS, dtype=x.dtype) - _TAPS // 2
    kernel = torch.sinc(places / 2) / 2  # the ideal response, cut: least squares by Parseval
    weight = kernel.expand(x.shape[1], 1, -1)
    return F.conv1d(x, weight, stride=2, padding=_TAPS // 2, groups=x.shape[1])


def _measured(name: str, sampler: Sampler, seed: int) -> Folding:
    """Returns the mean over several newly initialised kernels."""
    stride = sampler.factor[sampler.axis]
    learned = sampler.graph.parameters() > 0
    draws = [
        _folding(name, stride, sampler.graph.nodes[0].channels, _along_one_axis(sampler, seed + i))
        for i in range(_DRAWS if learned else 1)
    ]
    first = draws[0]
    responses = zip(*(draw.response for draw in draws), strict=True)
    mean = tuple(sum(values) / len(draws) for values in responses)
    return Folding(
        name,
        stride,
        first.frequencies,
        mean,
        sum(draw.folded for draw in draws) / len(draws),
        sum(draw.consistency for draw in draws) / len(draws),
    )


def _along_one_axis(sampler: Sampler, seed: int) -> Operator:
    """Returns the sampler as an operator on lines ``(batch, channels, positions)``.

    A line is laid along the sampler's axis and repeated along the others.
    """
    module, dims, axis = sampler.module(seed), len(sampler.factor), sampler.axis

    def run(x: Tensor) -> Tensor:
        across = 8 * max(sampler.factor)
        shape = [x.shape[-1] if other == axis else across for other in range(dims)]
        view = [x.shape[-1] if other == axis else 1 for other in range(dims)]
        made = module(x.reshape(*x.shape[:2], *view).expand(*x.shape[:2], *shape))
        middle = [
            slice(None) if other == axis else made.shape[2 + other] // 2 for other in range(dims)
        ]
        line: Tensor = made[(slice(None), slice(None), *middle)]
        return line

    return run


@torch.no_grad()
def _folding(name: str, stride: int, channels: int, operator: Operator) -> Folding:
    """Returns what an operator on lines does."""
    length = _PERIOD * stride
    # a wave that folds back to frequency zero is a constant, which no variance shows
    cycles = [n for n in range(1, length // 2) if n * stride % length]
    powers = [_response(operator, cycle / length, length, stride, channels) for cycle in cycles]
    carried = [p for cycle, p in zip(cycles, powers, strict=True) if 2 * cycle * stride <= length]
    lost = [p for cycle, p in zip(cycles, powers, strict=True) if 2 * cycle * stride > length]
    scale = max(1e-12, sum(carried) / len(carried))
    return Folding(
        name,
        stride,
        tuple(cycle / length for cycle in cycles),
        tuple(power / scale for power in powers),
        sum(lost) / len(lost) / scale,
        _consistency(operator, length, stride, channels),
    )


def _response(
    operator: Operator, frequency: float, length: int, stride: int, channels: int
) -> float:
    """Returns the mean power that comes out for waves of unit power, constants taken off.

    A maximum makes a constant of fast waves, which is its purpose; what moves is folded back.
    """
    places = torch.arange(length, dtype=torch.float32)
    phases = pi * (torch.arange(_PHASES) + 0.5) / _PHASES
    waves = 2**0.5 * torch.cos(2 * pi * frequency * places + phases[:, None])
    x = waves[:, None, :].expand(-1, channels, -1)
    made = _periodic(operator, x, stride)
    return float(made.var(-1, unbiased=False).mean())


def _periodic(operator: Operator, x: Tensor, stride: int) -> Tensor:
    """Returns the map of a periodic signal: the middle one of three periods."""
    period = x.shape[-1] // stride
    made = operator(x.repeat(1, 1, 3))
    start = (made.shape[-1] - period) // 2
    return made[..., start : start + period]


def _consistency(operator: Operator, length: int, stride: int, channels: int) -> float:
    """Returns how alike the maps of noise and of moved noise are, moved back on a fine grid."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 1, length, generator=generator).expand(-1, channels, -1)
    still = _refined(_periodic(operator, x, stride), stride)
    alike = []
    for shift in range(1, stride):
        moved = _refined(_periodic(operator, x.roll(shift, -1), stride), stride).roll(-shift, -1)
        both = still.square().mean() + moved.square().mean()
        alike.append(1 - float((still - moved).square().mean() / both.clamp(min=1e-12)))
    return sum(alike) / len(alike)


def _refined(x: Tensor, factor: int) -> Tensor:
    """Returns a periodic map on a finer grid, by its Fourier series, without its mean."""
    spectrum = torch.fft.rfft(x - x.mean(-1, keepdim=True))
    spectrum[..., -1] = 0  # the wave at the limit itself has no phase to move
    fine: Tensor = torch.fft.irfft(spectrum, n=x.shape[-1] * factor)
    return fine * factor


def findings(result: Sequence[Folding]) -> Iterator[Finding]:
    """Yields how much the network's own down-samplings fold back, beside a blurred one."""
    own = [one for one in result if one.name.startswith("encoder.downs")]
    blurred = next((one for one in result if "blurred" in one.name), None)
    if not own or blurred is None:
        return
    worst = max(own, key=lambda one: one.folded)
    if worst.folded <= blurred.folded:
        return
    text = (
        f"{worst.name} gives back waves that it cannot carry with {percent(min(1, worst.folded))} "
        f"of the power of those it can, and two maps of an input moved by one position agree to "
        f"{percent(max(0.0, worst.consistency))}; for max pooling behind a blur of 3 taps it is "
        f"{percent(blurred.folded)} and {percent(blurred.consistency)}"
    )
    yield Finding("folding", "note", min(1.0, worst.folded) / 2, text)


def figure(result: Sequence[Folding]) -> Figure:
    """Returns the responses and the consistency of every down-sampling."""
    responses = Panel(
        "What comes out of a wave",
        "frequency (cycles per position)",
        "relative power",
        (
            *(Series(one.name, one.frequencies, one.response) for one in result),
            Series("limit at stride 2", (0.25, 0.25), (0.0, 1.5), dashed=True),
        ),
    )
    places = tuple(map(float, range(len(result))))
    consistency = Panel(
        "Shift consistency",
        "down-sampling",
        "agreement (1 = equal)",
        (Series("", places, tuple(one.consistency for one in result)),),
        kind="bars",
        ticks=tuple(one.name for one in result),
    )
    return Figure("folding", "Waves through each down-sampling.", (responses, consistency))

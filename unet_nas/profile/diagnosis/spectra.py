"""Row 4, measured: what share of each frequency comes back, and through which skip.

A network is trained for a moment to reproduce its input, once with its skips and once without;
then each skip of the first is silenced in turn. Row 5 on the network itself: how sharply both
put an impulse back. Sources: Oppenheim and Schafer, *Discrete-Time Signal Processing*, section
4.6; Ronneberger et al., arXiv:1505.04597, on what the contracting path loses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, percent
from unet_nas.profile.diagnosis.reproduction import noise, radii, target_of, train
from unet_nas.profile.diagnosis.twin import Twin, outputs_of, silenced
from unet_nas.unet.skips import Edge, skip_edges, skips

#: bins of the radial spectrum between 0 and half a cycle per position
BINS = 16
#: cycles per position from which on the first down-sampling by 2 cannot carry a wave
HIGH = 0.25
LEARNING_RATE = 1e-2
#: batches over which errors are averaged
_BATCHES = 4


@dataclass(frozen=True, slots=True)
class Spectrum:
    """What does not come back, by frequency.

    Args:
        name: ``with skips``, ``without skips`` or ``skip I dropped``.
        error: per bin the power of the error over that of the target; 1: nothing came back.
        high: the same over all frequencies from `HIGH` on.
        low: the same below.
    """

    name: str
    error: tuple[float, ...]
    high: float
    low: float


@dataclass(frozen=True, slots=True)
class Impulse:
    """How a network puts back an impulse in the middle of its patch.

    Args:
        name: as in `Spectrum`.
        offset: per axis how far from its place the largest response lies.
        within_one: share of the response's energy within one position of its place.
        line: the response along the last axis, through the impulse's place.
    """

    name: str
    offset: tuple[int, ...]
    within_one: float
    line: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Spectra:
    """Error spectra and impulse responses under stated conditions."""

    conditions: str
    frequencies: tuple[float, ...]
    spectra: tuple[Spectrum, ...]
    impulses: tuple[Impulse, ...]


@dataclass(frozen=True, slots=True)
class _Run:
    """A trained network with some edges silenced."""

    name: str
    module: nn.Module
    without: frozenset[Edge]


def radial_power(signal: Tensor, bins: int = BINS) -> Tensor:
    """Returns the mean power of a signal in rings of equal width around frequency zero.

    Args:
        signal: ``(batch, channels, *spatial)`` with 1, 2 or 3 spatial axes.
        bins: rings between 0 and half a cycle per position; what lies in the corners beyond
            counts to the last ring.

    Returns:
        ``(bins,)``, 0 for a ring without a frequency.

    >>> wave = torch.cos(torch.pi * torch.arange(32.0)).reshape(1, 1, 32)
    >>> [round(power, 3) for power in radial_power(wave, 4).tolist()]
    [0.0, 0.0, 0.0, 3.556]
    """
    axes = tuple(range(2, signal.dim()))
    count = signal[0, 0].numel()
    power = torch.fft.fftn(signal, dim=axes).abs().square().mean((0, 1)) / count
    ring = (radii(signal.shape[2:]) * 2 * bins).long().clamp(max=bins - 1)
    sums = torch.zeros(bins).index_add_(0, ring.flatten(), power.flatten())
    numbers = torch.bincount(ring.flatten(), minlength=bins)
    return sums / numbers.clamp(min=1)


def measure(twin: Twin, *, steps: int, seed: int) -> Spectra:
    """Trains a network with its skips and one without, and returns what comes back.

    Args:
        twin: what is trained.
        steps: of training.
        seed: of weights and inputs; both networks start from the same.
    """
    whole = _trained(twin, steps, seed, frozenset())
    runs = [_Run("with skips", whole, frozenset())]
    every = skip_edges(twin.graph)
    if every:
        runs.append(_Run("without skips", _trained(twin, steps, seed, every), every))
        for skip in skips(twin.graph):
            runs.append(_Run(f"skip {skip.stage} dropped", whole, frozenset(skip.edges)))
    rings = _rings(twin, seed)
    return Spectra(
        f"{twin.conditions}, {steps} steps of Adam",
        tuple((i + 0.5) / (2 * BINS) for i in rings),
        tuple(_spectrum(twin, run, rings, seed) for run in runs),
        tuple(_impulse(twin, run) for run in runs[:2]),
    )


def _trained(twin: Twin, steps: int, seed: int, without: frozenset[Edge]) -> nn.Module:
    module = twin.module(seed)
    train(twin, module, steps=steps, rate=LEARNING_RATE, seed=seed, without=without)
    return module.eval()


@torch.no_grad()
def _spectrum(twin: Twin, run: _Run, rings: list[int], seed: int) -> Spectrum:
    generator = torch.Generator().manual_seed(seed + 1)
    scales = twin.scales(twin.graph.outputs[0])
    errors, wanted = torch.zeros(BINS), torch.zeros(BINS)
    with silenced(run.module, twin.graph, run.without):
        for _ in range(_BATCHES):
            x = noise(twin, generator)
            made = outputs_of(run.module, x)[0]
            target = target_of(x, made.shape[2:], scales)
            errors += radial_power(made - target)
            wanted += radial_power(target)
    high = [i for i in rings if (i + 0.5) / (2 * BINS) > HIGH]
    low = [i for i in rings if i not in high]
    return Spectrum(
        run.name,
        tuple(float(errors[i] / wanted[i]) for i in rings),
        _share(errors[high], wanted[high]),
        _share(errors[low], wanted[low]),
    )


def _share(errors: Tensor, wanted: Tensor) -> float:
    return float(errors.sum() / wanted.sum().clamp(min=1e-12))


def _rings(twin: Twin, seed: int) -> list[int]:
    """Returns the rings in which the target has any power (its mean is zero, so not the first)."""
    size = twin.sizes[twin.graph.outputs[0]]
    x = noise(twin, torch.Generator().manual_seed(seed))
    power = radial_power(target_of(x, size, twin.scales(twin.graph.outputs[0])))
    return [i for i, one in enumerate(power.tolist()) if one > 1e-6 * float(power.max())]


@torch.no_grad()
def _impulse(twin: Twin, run: _Run) -> Impulse:
    """Returns the change of the output when one position of a silent input is raised."""
    silence = torch.zeros(1, twin.graph.nodes[0].channels, *twin.patch_size)
    struck = silence.clone()
    struck.movedim(1, -1)[(0, *(n // 2 for n in twin.patch_size))] = 3.0  # well above the noise
    with silenced(run.module, twin.graph, run.without):
        made = outputs_of(run.module, struck)[0] - outputs_of(run.module, silence)[0]
    scales = twin.scales(twin.graph.outputs[0])
    wanted = target_of(struck, made.shape[2:], scales)[0, 0]
    response = made[0].mean(0)
    place = torch.unravel_index(wanted.argmax(), wanted.shape)
    peak = torch.unravel_index(response.abs().argmax(), response.shape)
    middle = tuple(slice(max(0, int(i) - 1), int(i) + 2) for i in place)
    energy = response.square()
    return Impulse(
        run.name,
        tuple(int(i - j) for i, j in zip(peak, place, strict=True)),
        float(energy[middle].sum() / energy.sum().clamp(min=1e-12)),
        tuple(response[tuple(place[:-1])].tolist()),
    )


def findings(result: Spectra) -> Iterator[Finding]:
    """Yields what the skips bring back, and which brings most."""
    by_name = {spectrum.name: spectrum for spectrum in result.spectra}
    whole, bare = by_name["with skips"], by_name.get("without skips")
    if bare is None:
        text = (
            f"trained for a moment, it loses {percent(whole.high)} of what oscillates faster than "
            f"{HIGH:g} cycles per position: it has no skip to carry it"
        )
        yield Finding("spectra", "warning", min(1.0, whole.high), text, "set fusion=concat")
        return
    dropped = [spectrum for spectrum in result.spectra if spectrum.name.endswith("dropped")]
    worst = max(dropped, key=lambda spectrum: spectrum.high)
    text = (
        f"of what oscillates faster than {HIGH:g} cycles per position, {_lost(whole.high)} is "
        f"lost with the skips and {_lost(bare.high)} when trained without; it comes back mostly "
        f"through skip {worst.name.split()[1]}, without which {_lost(worst.high)} is lost"
    )
    yield Finding("spectra", "note", max(0.0, min(1.0, bare.high - whole.high)), text)
    if len(result.impulses) > 1:
        sharp, blurred = result.impulses[:2]
        text = (
            f"of the response to an impulse, {percent(sharp.within_one)} lies within one position "
            f"of its place with the skips and {percent(blurred.within_one)} without"
        )
        yield Finding("spectra", "note", max(0.0, sharp.within_one - blurred.within_one), text)


def _lost(share: float) -> str:
    return percent(min(1.0, share))


def figures(result: Spectra) -> list[Figure]:
    """Returns the error spectra, and the responses to an impulse."""
    spectra = Panel(
        "What does not come back",
        "radial frequency (cycles per position)",
        "error power / signal power",
        tuple(Series(one.name, result.frequencies, one.error) for one in result.spectra),
        log_y=True,
    )
    lines = [
        Panel(
            f"Response to an impulse, {one.name}",
            "position along the last axis",
            "response",
            (Series("", tuple(map(float, range(len(one.line)))), one.line),),
        )
        for one in result.impulses
    ]
    return [
        Figure("spectra", result.conditions, (spectra,)),
        Figure("impulse_response", result.conditions, tuple(lines)),
    ]

"""Row 1, measured: which inputs an output position really listens to.

The gradient of the centre of the output with respect to the input, squared and averaged over
random networks and inputs: it is largest in the middle and fades long before the theoretical
field ends. Source: Luo et al., "Understanding the Effective Receptive Field in Deep
Convolutional Neural Networks", NeurIPS 2016, arXiv:1701.04128.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, axis_words, percent
from unet_nas.profile.diagnosis.twin import Twin, outputs_of
from unet_nas.unet.skips import Edge

#: share of the gradient's energy that the effective field holds
HELD = 0.95


@dataclass(frozen=True, slots=True)
class AxisReach:
    """What the centre of the output listens to along one axis.

    Args:
        axis: spatial axis.
        energy: share of the gradient's energy at every position of the input.
        effective: the shortest stretch around its middle that holds 95 % of it.
        footprint: the first and last input position with a gradient.
        theoretical: first and last position of the theoretical field; None: not known.
    """

    axis: int
    energy: tuple[float, ...]
    effective: int
    footprint: tuple[int, int]
    theoretical: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class EffectiveField:
    """The effective receptive field, under stated conditions."""

    conditions: str
    axes: tuple[AxisReach, ...]


def measure(twin: Twin, *, seed: int, draws: int = 4) -> EffectiveField:
    """Returns the mean over ``draws`` newly initialised networks and inputs."""
    total = torch.zeros(twin.patch_size)
    for draw in range(draws):
        total += centre_gradient(twin, seed + draw).square().sum(0)
    return EffectiveField(
        f"{twin.conditions}, mean of {draws} random networks",
        tuple(_along(twin, total, axis) for axis in range(total.dim())),
    )


def centre_gradient(twin: Twin, seed: int, without: tuple[Edge, ...] = ()) -> Tensor:
    """Returns the gradient of the middle of the output, ``(in_channels, *spatial)``."""
    module = twin.module(seed).eval()
    generator = torch.Generator().manual_seed(seed)
    channels = twin.graph.nodes[0].channels
    x = torch.randn(1, channels, *twin.patch_size, generator=generator, requires_grad=True)
    made = outputs_of(module, x)[0][0]
    weights = torch.randn(made.shape[0], generator=generator)
    logits = made.movedim(0, -1)[tuple(n // 2 for n in made.shape[1:])]
    (gradient,) = torch.autograd.grad((logits * weights).sum(), x)
    return gradient[0]


def _along(twin: Twin, total: Tensor, axis: int) -> AxisReach:
    others = [other for other in range(total.dim()) if other != axis]
    line = total.sum(others) if others else total
    touched = line.nonzero().flatten()
    ends = (int(touched[0]), int(touched[-1])) if len(touched) else (0, 0)
    output = twin.graph.outputs[0]
    field, middle = twin.fields[axis][output], twin.sizes[output][axis] // 2
    known = None if field is None else (field.start(middle), field.stop(middle))
    shares = line / line.sum().clamp(min=1e-30)
    return AxisReach(axis, tuple(shares.tolist()), holding(shares, HELD), ends, known)


def holding(shares: Tensor, held: float) -> int:
    """Returns the length of the shortest stretch around the median that holds a share.

    >>> holding(torch.tensor([0.0, 0.02, 0.03, 0.9, 0.03, 0.02, 0.0]), 0.95)
    3
    """
    sums = shares.cumsum(0)
    middle = int((sums < 0.5).sum())
    for half in range(len(shares)):
        low, high = max(0, middle - half), min(len(shares) - 1, middle + half)
        if float(sums[high] - (sums[low - 1] if low else 0.0)) >= held - 1e-6:
            return high - low + 1
    return len(shares)


def findings(result: EffectiveField, dims: int) -> Iterator[Finding]:
    """Yields how much of the theoretical field the network listens to at the start."""
    reach = max(result.axes, key=lambda one: one.effective)
    if reach.theoretical is None:
        return
    field = reach.theoretical[1] - reach.theoretical[0] + 1
    words = axis_words(dims, [reach.axis])
    text = (
        f"a network newly initialised listens to {reach.effective} {words} "
        f"({percent(HELD)} of the gradient's energy), {percent(reach.effective / field)} of its "
        f"theoretical field of {field}"
    )
    yield Finding("effective_field", "note", 1 - min(1.0, reach.effective / field), text)


def figure(result: EffectiveField) -> Figure:
    """Returns the energy along every axis, with the ends of the theoretical field."""
    panels = []
    for reach in result.axes:
        top = max(reach.energy)
        seen = [i for i, energy in enumerate(reach.energy) if energy > 1e-9 * top]
        ends = () if reach.theoretical is None else reach.theoretical
        limits = tuple(
            Series(
                "theoretical field" if i == 0 else "", (float(end),) * 2, (top * 1e-9, top), True
            )
            for i, end in enumerate(ends)
            if 0 <= end < len(reach.energy)
        )
        panels.append(
            Panel(
                f"What the centre listens to, axis {reach.axis}",
                "position of the input",
                "share of the gradient energy",
                (
                    Series("", tuple(map(float, seen)), tuple(reach.energy[i] for i in seen)),
                    *limits,
                ),
                log_y=True,
            )
        )
    return Figure("effective_field", result.conditions, tuple(panels))

"""The task of the experiments: reproduce the input, which has something at every frequency.

Inputs are noise whose power falls with frequency so that every octave holds as much as every
other: a network that loses fine detail still has something to learn. Sources: Oppenheim and
Schafer, *Discrete-Time Signal Processing*, chapter 10 (periodograms); Field, "Relations between
the statistics of natural images and the response properties of cortical cells", JOSA A 1987.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - F is what every PyTorch user calls it

from unet_nas.profile.diagnosis.twin import Twin, outputs_of, silenced
from unet_nas.unet.skips import Edge


def noise(twin: Twin, generator: torch.Generator) -> Tensor:
    """Returns noise ``(batch, in_channels, *spatial)`` of unit power, as much in every octave."""
    channels = twin.graph.nodes[0].channels
    white = torch.randn(twin.batch_size, channels, *twin.patch_size, generator=generator)
    axes = tuple(range(2, white.dim()))
    falling = (radii(twin.patch_size) + 1 / 64) ** (-len(axes) / 2)
    coloured = torch.fft.ifftn(torch.fft.fftn(white, dim=axes) * falling, dim=axes).real
    coloured = coloured - coloured.mean(axes, keepdim=True)
    power: Tensor = coloured.square().mean()
    scaled: Tensor = coloured / power.sqrt().clamp(min=1e-6)
    return scaled


def radii(size: Sequence[int]) -> Tensor:
    """Returns the distance of every frequency of an FFT from zero, in cycles per position."""
    axes = torch.meshgrid(*(torch.fft.fftfreq(n) for n in size), indexing="ij")
    return torch.stack(axes).square().sum(0).sqrt()


def target_of(x: Tensor, size: Sequence[int], scales: Sequence[float]) -> Tensor:
    """Returns what an output has to show: the first channel of the input, where the output is.

    Args:
        x: the input ``(batch, in_channels, *spatial)``.
        size: spatial size of the output.
        scales: per axis how many positions of the input one of the output stands for.

    Returns:
        ``(batch, 1, *size)``: the centre, where valid padding loses a border; means over cells
        for an output of lower resolution.
    """
    x = x[:, :1]
    for axis, (m, scale) in enumerate(zip(size, scales, strict=True), start=2):
        kept = min(x.shape[axis], max(1, round(m * scale)))
        x = x.narrow(axis, (x.shape[axis] - kept) // 2, kept)
    return x if x.shape[2:] == tuple(size) else F.interpolate(x, size=tuple(size), mode="area")


def loss_of(twin: Twin, outputs: Sequence[Tensor], x: Tensor) -> Tensor:
    """Returns the mean squared error of all outputs, every class asked for the same."""
    errors = []
    for made, index in zip(outputs, twin.graph.outputs, strict=True):
        wanted = target_of(x, made.shape[2:], twin.scales(index))
        errors.append((made - wanted).square().mean())
    return torch.stack(errors).mean()


def train(
    twin: Twin,
    module: nn.Module,
    *,
    steps: int,
    rate: float,
    seed: int,
    without: Iterable[Edge] = (),
) -> None:
    """Trains a module for a moment to reproduce its input.

    Args:
        twin: what the module was built from.
        module: trained in place.
        steps: of Adam.
        rate: its learning rate at first; it falls to zero.
        seed: of the inputs.
        without: edges that carry zeros while it is trained.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    with silenced(module, twin.graph, without):
        for _ in range(steps):
            x = noise(twin, generator)
            loss = loss_of(twin, outputs_of(module, x), x)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()

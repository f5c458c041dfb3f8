"""The few modules that PyTorch lacks, each small enough to be copied into an exported file.

Every fusion raises on maps of unequal spatial size: PyTorch would broadcast some of them.
Alignment modules pass a map through where there is nothing to do (``F.pad`` by nothing and
``interpolate`` to the same size would copy it); while being compiled or exported they have
no branch on sizes.
"""

from __future__ import annotations

from math import comb, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MODES = {"zeros": "constant"}


def _require_equal(operation: str, maps: tuple[Tensor, ...]) -> None:
    first = maps[0].shape[2:]
    for other in maps[1:]:
        if other.shape[2:] != first:
            met = " and ".join(str(tuple(m.shape[2:])) for m in maps)
            raise ValueError(f"{operation} needs maps of equal spatial size, got {met}")


def _smaller(a: int, b: int) -> int:
    """Returns the smaller size without a branch; ``torch.jit`` traces sizes as tensors."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return min(a, b)
    return torch.sym_min(a, b)  # type: ignore[no-any-return, no-untyped-call]


class Concat(nn.Module):
    """Concatenates maps ``(batch, channels_i, *spatial)`` along the channels."""

    def forward(self, *maps: Tensor) -> Tensor:
        _require_equal("concat", maps)
        return torch.cat(maps, dim=1)


class Add(nn.Module):
    """Adds maps ``(batch, channels, *spatial)`` of equal shape."""

    def forward(self, *maps: Tensor) -> Tensor:
        _require_equal("add", maps)
        total = maps[0]
        for other in maps[1:]:
            total = total + other
        return total


class Gate(nn.Module):
    """Multiplies a map by coefficients ``(batch, 1, *spatial)`` of its own size."""

    def forward(self, x: Tensor, coefficients: Tensor) -> Tensor:
        _require_equal("gate", (x, coefficients))
        return x * coefficients


class Scale(nn.Module):
    """Multiplies each channel of a map by one number ``(batch, channels, 1, …)``."""

    def forward(self, x: Tensor, factors: Tensor) -> Tensor:
        return x * factors


class Pad(nn.Module):
    """Pads each axis by ``low`` positions before and ``high`` after."""

    def __init__(self, low: tuple[int, ...], high: tuple[int, ...], mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.amounts = [n for pair in zip(low[::-1], high[::-1], strict=True) for n in pair]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts, mode=_MODES.get(self.mode, self.mode))

    def extra_repr(self) -> str:
        return f"{self.amounts}, mode={self.mode!r}"


def _exporting() -> bool:
    """Tells whether ``torch.export`` is at work; PyTorch 2.6 cannot tell it from compiling."""
    asked = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(asked())


class CropTo(nn.Module):
    """Centre-crops a map to another's size on each axis where it is the larger."""

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and x.shape[2:] == reference.shape[2:]:
            return x
        for axis in range(2, x.dim()):
            size = _smaller(x.shape[axis], reference.shape[axis])
            # a slice of everything is free here, but costs a full-size copy in backward
            start = (x.shape[axis] - size) // 2
            if _exporting():
                # a copy: of a view it would be asked whether this size leaves it contiguous
                x = x.index_select(axis, torch.arange(start, start + size, device=x.device))
            elif torch.compiler.is_compiling() or size != x.shape[axis]:
                x = x.narrow(axis, start, size)
        return x


class PadTo(nn.Module):
    """Pads a map to another's size on each axis where it is the smaller.

    ``side`` both puts the odd position at the end; ``mode`` is zeros or replicate.
    """

    def __init__(self, side: str, mode: str) -> None:
        super().__init__()
        self.side, self.mode = side, mode

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        amounts = []
        for axis in reversed(range(2, x.dim())):
            missing = reference.shape[axis] - _smaller(x.shape[axis], reference.shape[axis])
            low = missing // 2 if self.side == "both" else 0
            amounts += [low, missing - low]
        if not torch.compiler.is_compiling() and not any(amounts):
            return x
        return F.pad(x, amounts, mode=_MODES.get(self.mode, self.mode))

    def extra_repr(self) -> str:
        return f"side={self.side!r}, mode={self.mode!r}"


class ResizeTo(nn.Module):
    """Interpolates a map to another's size."""

    def __init__(self, mode: str, align_corners: bool | None = None) -> None:
        super().__init__()
        self.mode, self.align_corners = mode, align_corners

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and x.shape[2:] == reference.shape[2:]:
            return x
        return F.interpolate(
            x, size=reference.shape[2:], mode=self.mode, align_corners=self.align_corners
        )

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}, align_corners={self.align_corners}"


class Blur(nn.Module):
    """Fixed binomial low-pass filter with a stride, the same for every channel."""

    filter: Tensor

    def __init__(
        self, channels: int, kernel_size: tuple[int, ...], stride: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        weight = torch.ones(())
        for taps in kernel_size:
            row = torch.tensor([float(comb(taps - 1, i)) for i in range(taps)])
            weight = weight.unsqueeze(-1) * (row / row.sum())
        self.register_buffer("filter", weight.expand(channels, 1, *kernel_size).clone())
        self.convolve = (F.conv1d, F.conv2d, F.conv3d)[len(kernel_size) - 1]

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.filter, None, self.stride, 0, 1, self.channels)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={tuple(self.filter.shape[2:])}, stride={self.stride}"


class PixelShuffle(nn.Module):
    """Rearranges ``(batch, channels * prod(f), *spatial)`` to ``f`` times the spatial size.

    In two dimensions with equal factors it is ``torch.nn.PixelShuffle``.
    """

    def __init__(self, factor: tuple[int, ...]) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        dims, size = len(self.factor), x.shape[2:]
        x = x.reshape(x.shape[0], x.shape[1] // prod(self.factor), *self.factor, *size)
        order = [n for axis in range(dims) for n in (2 + dims + axis, 2 + axis)]
        grown = [n * f for n, f in zip(size, self.factor, strict=True)]
        return x.permute(0, 1, *order).reshape(x.shape[0], x.shape[1], *grown)

    def extra_repr(self) -> str:
        return f"{self.factor}"


class PixelUnshuffle(nn.Module):
    """Rearranges ``f``-wide cells of ``(batch, channels, *spatial)`` into channels.

    In two dimensions with equal factors it is ``torch.nn.PixelUnshuffle``.
    """

    def __init__(self, factor: tuple[int, ...]) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        dims, channels = len(self.factor), x.shape[1]
        for n, f in zip(x.shape[2:], self.factor, strict=True):
            if n % f:
                raise ValueError(f"pixel unshuffle needs sizes divisible by {f}, got {n}")
        cells = [m for n, f in zip(x.shape[2:], self.factor, strict=True) for m in (n // f, f)]
        x = x.reshape(x.shape[0], channels, *cells)
        order = [3 + 2 * axis for axis in range(dims)] + [2 + 2 * axis for axis in range(dims)]
        shrunk = cells[::2]
        return x.permute(0, 1, *order).reshape(x.shape[0], channels * prod(self.factor), *shrunk)

    def extra_repr(self) -> str:
        return f"{self.factor}"

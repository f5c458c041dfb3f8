"""Down-sampling operators: from one stage to the next lower resolution.

To add one, write a class like those below and put it into the union at the foot: the loader,
the validator, the command line's list, the audit and the tests know it at once
(``docs/extending.md``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from unet_nas.errors import Path
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Builder
from unet_nas.operators.fields import (
    Border,
    Count,
    Extent,
    Flag,
    Options,
    Padding,
    Shorthand,
    Width,
    width_of,
)
from unet_nas.operators.primitives import Axes
from unet_nas.operators.unit import (
    ActivationOrInherit,
    DropoutOrInherit,
    NoActivation,
    NoDropout,
    NoNorm,
    NormOrInherit,
    Order,
    Style,
    lower_own,
)


class _Down(Options):
    """What all down-sampling operators share."""

    def strides(self, b: Builder, path: Path) -> Axes:
        """Returns by how much each axis shrinks."""
        raise NotImplementedError

    def block_stride(self, b: Builder, path: Path) -> Axes:
        """Returns the stride that the next stage's first convolution has to carry."""
        return b.ones

    def lower(self, b: Builder, x: int, style: Style, path: Path) -> int:
        """Adds the operator on ``x`` and returns its last node."""
        raise NotImplementedError


def _check_pool_padding(b: Builder, kernel: Axes, padding: Axes, path: Path) -> None:
    if any(padding) and any(2 * pad > k for pad, k in zip(padding, kernel, strict=True)):
        rule = f"must be at most half the kernel {'x'.join(map(str, kernel))}"
        nearest = "x".join(str(k // 2) for k in kernel)
        b.fault((*path, "padding"), rule, "x".join(map(str, padding)), f"use {nearest}")


class _Pool(_Down):
    kernel_size: Extent = Field(2, description="size of the window")
    stride: Extent | None = Field(None, description="step of the window; null: the kernel")
    padding: Border = Field(0, description="positions added at both ends")
    ceil_mode: Flag = Field(False, description="round sizes up instead of down")

    def strides(self, b: Builder, path: Path) -> Axes:
        if self.stride is None:
            return b.axes(self.kernel_size, (*path, "kernel_size"))
        return b.axes(self.stride, (*path, "stride"))

    def _window(self, b: Builder, path: Path) -> tuple[Axes, Axes, Axes]:
        kernel = b.axes(self.kernel_size, (*path, "kernel_size"))
        padding = b.axes(self.padding, (*path, "padding"))
        _check_pool_padding(b, kernel, padding, path)
        return kernel, self.strides(b, path), padding


class MaxPool(_Pool):
    """The largest value of each window: (n + 2p - k) // s + 1 (torch.nn.MaxPool2d)."""

    type: Literal["max_pool"] = "max_pool"

    def lower(self, b: Builder, x: int, style: Style, path: Path) -> int:
        return b.add("pool", p.MaxPool(*self._window(b, path), self.ceil_mode), x)


class AvgPool(_Pool):
    """The mean of each window: (n + 2p - k) // s + 1 (torch.nn.AvgPool2d)."""

    type: Literal["avg_pool"] = "avg_pool"
    count_include_pad: Flag = Field(True, description="count padded zeros in the mean")

    def lower(self, b: Builder, x: int, style: Style, path: Path) -> int:
        window = self._window(b, path)
        return b.add("pool", p.AvgPool(*window, self.ceil_mode, self.count_include_pad), x)


class _Strided(_Down):
    kernel_size: Extent = Field(3, description="size of the kernel")
    stride: Extent = Field(2, description="step of the kernel")
    padding: Padding = Field("same", description="same, valid, or positions at both ends")
    features: Width | None = Field(
        None, description="channels, or a ratio of the incoming ones; null: keep them"
    )
    bias: Flag = Field(True, description="the convolution has a bias")
    norm: NormOrInherit = Field(NoNorm.model_construct(), description="norm of the convolution")
    activation: ActivationOrInherit = Field(
        NoActivation.model_construct(), description="its activation"
    )
    dropout: DropoutOrInherit = Field(NoDropout.model_construct(), description="its dropout")
    order: Order = Field("conv-norm-act", description="order of the convolution and these")

    def strides(self, b: Builder, path: Path) -> Axes:
        return b.axes(self.stride, (*path, "stride"))

    def _conv(self, b: Builder, x: int, style: Style, path: Path, stride: Axes) -> int:
        padding, channels = self.padding, b.channels(x)

        def conv(y: int) -> int:
            return b.conv(
                "conv",
                y,
                width_of(self.features, channels, channels),
                kernel=b.axes(self.kernel_size, (*path, "kernel_size")),
                stride=stride,
                padding=padding
                if isinstance(padding, str)
                else b.axes(padding, (*path, "padding")),
                mode=style.padding_mode,
                bias=self.bias,
            )

        return lower_own(b, x, style, self, conv, path)


class StridedConv(_Strided):
    """A convolution with a stride, of its own between two stages (Springenberg et al. 2015)."""

    type: Literal["strided_conv"] = "strided_conv"

    def lower(self, b: Builder, x: int, style: Style, path: Path) -> int:
        return self._conv(b, x, style, path, self.strides(b, path))


class StridedBlock(_Down):
    """No operator of its own: the next stage's first convolution carries the stride (nnU-Net)."""

    type: Literal["strided_block"] = "strided_block"
    stride: Extent = Field(2, description="stride of that convolution")

    def strides(self, b: Builder, path: Path) -> Axes:
        return b.axes(self.stride, (*path, "stride"))

    def block_stride(self, b: Builder, path: Path) -> Axes:
        return self.strides(b, path)

    def lower(self, b: Builder, x: int, style: Style, path: Path) -> int:
        return x


def _blur(b: Builder, x: int, taps: int, stride: Axes, mode: p.PadMode) -> int:
    """Adds padding and a binomial filter of ``taps`` per axis with a stride.

    The padding is that of Zhang's reference code: ``(taps - 1) // 2`` before, the rest after.
    """
    low, high = (taps - 1) // 2, (taps - 1) - (taps - 1) // 2
    if high:
        x = b.add("blur_pad", p.Pad((low,) * b.dims, (high,) * b.dims, mode), x)
    return b.add("blur", p.Blur(b.channels(x), (taps,) * b.dims, stride), x)


class AntiAliasedMaxPool(_Down):
    """Max pooling with stride 1, then a blur filter with the stride (Zhang 2019)."""

    type: Literal["anti_aliased_max_pool"] = "anti_aliased_max_pool"
    kernel_size: Extent = Field(2, description="size of the pooling window")
    stride: Extent = Field(2, description="step of the blur filter")
    taps: Count = Field(3, description="length of the binomial blur filter")
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = Field(
        "reflect", description="padding before the blur filter"
    )

    def strides(self, b: Builder, path: Path) -> Axes:
        return b.axes(self.stride, (*path, "stride"))

    def lower(self, b: Builder, x: int, style: Style, path: Path) -> int:
        kernel, ones = b.axes(self.kernel_size, (*path, "kernel_size")), b.ones
        x = b.add("pool", p.MaxPool(kernel, ones, b.zeros, False), x)
        return _blur(b, x, self.taps, self.strides(b, path), self.padding_mode)


class AntiAliasedStridedConv(_Strided):
    """A convolution with stride 1, then a blur filter with the stride (Zhang 2019)."""

    type: Literal["anti_aliased_strided_conv"] = "anti_aliased_strided_conv"
    taps: Count = Field(3, description="length of the binomial blur filter")
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = Field(
        "reflect", description="padding before the blur filter"
    )

    def lower(self, b: Builder, x: int, style: Style, path: Path) -> int:
        x = self._conv(b, x, style, path, b.ones)
        return _blur(b, x, self.taps, self.strides(b, path), self.padding_mode)


class PixelUnshuffle(_Down):
    """Each cell of positions becomes channels; then a 1x1 convolution if `features` is given."""

    type: Literal["pixel_unshuffle"] = "pixel_unshuffle"
    factor: Extent = Field(2, description="width of a cell")
    features: Width | None = Field(
        None, description="channels after a 1x1 convolution, or a ratio; null: no convolution"
    )
    bias: Flag = Field(True, description="the 1x1 convolution has a bias")

    def strides(self, b: Builder, path: Path) -> Axes:
        return b.axes(self.factor, (*path, "factor"))

    def lower(self, b: Builder, x: int, style: Style, path: Path) -> int:
        x = b.add("unshuffle", p.PixelUnshuffle(self.strides(b, path)), x)
        if self.features is None:
            return x
        features = width_of(self.features, b.channels(x), 1)
        return b.conv("conv", x, features, kernel=b.ones, bias=self.bias)


AnyDownsample = (
    MaxPool
    | AvgPool
    | StridedConv
    | StridedBlock
    | AntiAliasedMaxPool
    | AntiAliasedStridedConv
    | PixelUnshuffle
)
Downsample = TypeAliasType(
    "Downsample", Annotated[AnyDownsample, Field(discriminator="type"), Shorthand]
)

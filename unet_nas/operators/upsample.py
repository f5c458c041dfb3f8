"""Up-sampling operators: from one stage to the next higher resolution.

The factor is that of the down-sampling at the same place unless an operator is told
otherwise. The default width is that of the decoder stage that the operator leads to.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from unet_nas.errors import Path
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Builder
from unet_nas.operators.fields import (
    Border,
    Channels,
    Extent,
    Flag,
    Options,
    Padding,
    PadModeName,
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


class _Up(Options):
    """What all up-sampling operators share."""

    def lower(
        self, b: Builder, x: int, style: Style, factor: Axes, features: int, path: Path
    ) -> int:
        """Adds the operator on ``x`` and returns its last node.

        Args:
            b: the builder.
            x: the decoder map from below.
            style: of the decoder stage that it leads to.
            factor: by how much the down-sampling at this place shrinks each axis.
            features: channels of the decoder stage that it leads to.
            path: of this operator in the file.
        """
        raise NotImplementedError


class _ConvUp(_Up):
    features: Width | None = Field(
        None, description="channels, or a ratio of the incoming ones; null: the decoder stage's"
    )
    bias: Flag = Field(True, description="the convolution has a bias")
    norm: NormOrInherit = Field(NoNorm.model_construct(), description="norm of the convolution")
    activation: ActivationOrInherit = Field(
        NoActivation.model_construct(), description="its activation"
    )
    dropout: DropoutOrInherit = Field(NoDropout.model_construct(), description="its dropout")
    order: Order = Field("conv-norm-act", description="order of the convolution and these")

    def _features(self, b: Builder, x: int, default: int) -> int:
        return width_of(self.features, b.channels(x), default)


class TransposedConv(_ConvUp):
    """Transposed convolution: (n - 1)s - 2p + k + output_padding (torch.nn.ConvTranspose2d)."""

    type: Literal["transposed_conv"] = "transposed_conv"
    kernel_size: Extent | None = Field(None, description="size of the kernel; null: the stride")
    stride: Extent | None = Field(None, description="null: the factor of the down-sampling")
    padding: Border = Field(0, description="positions taken off both ends of the output")
    output_padding: Border = Field(0, description="positions added at the end of the output")
    groups: Channels = Field(1, description="groups of channels; must divide both widths")

    def lower(
        self, b: Builder, x: int, style: Style, factor: Axes, features: int, path: Path
    ) -> int:
        stride = factor if self.stride is None else b.axes(self.stride, (*path, "stride"))
        kernel = stride
        if self.kernel_size is not None:
            kernel = b.axes(self.kernel_size, (*path, "kernel_size"))
        extra = b.axes(self.output_padding, (*path, "output_padding"))
        if any(extra) and any(e >= s for e, s in zip(extra, stride, strict=True) if e):
            rule = f"must be smaller than the stride {'x'.join(map(str, stride))}"
            b.fault((*path, "output_padding"), rule, "x".join(map(str, extra)))
        channels, out = b.channels(x), self._features(b, x, features)
        if channels % self.groups or out % self.groups:
            rule = f"must divide the {channels} input and {out} output channels"
            b.fault((*path, "groups"), rule, self.groups, "use 1")
        padding = b.axes(self.padding, (*path, "padding"))
        up = p.ConvTranspose(channels, out, kernel, stride, padding, extra, self.groups, self.bias)
        return lower_own(b, x, style, self, lambda y: b.add("conv", up, y), path)


class Interpolation(_ConvUp):
    """Nearest or (bi-, tri-)linear interpolation, and a convolution after or before it."""

    type: Literal["interpolation"] = "interpolation"
    mode: Literal["nearest", "linear"] = Field("nearest", description="kind of interpolation")
    align_corners: Flag = Field(False, description="linear only: corners keep their values")
    factor: Extent | None = Field(None, description="null: the factor of the down-sampling")
    kernel_size: Extent | None = Field(
        3, description="kernel of the convolution; null: none, and the channels stay"
    )
    padding: Padding = Field("same", description="padding of the convolution")
    conv_first: Flag = Field(False, description="the convolution stands before the interpolation")

    def lower(
        self, b: Builder, x: int, style: Style, factor: Axes, features: int, path: Path
    ) -> int:
        if self.align_corners and self.mode == "nearest":
            rule = "must be false with mode nearest, which has no corners to align"
            b.fault((*path, "align_corners"), rule, "true", "set mode: linear")
        if self.kernel_size is None and self.features is not None:
            rule = "must be left out without a convolution (kernel_size null)"
            b.fault((*path, "features"), rule, self.features)
        if self.conv_first:
            x = self._conv(b, x, style, features, path)
        if self.factor is not None:
            factor = b.axes(self.factor, (*path, "factor"))
        x = b.add("interpolate", p.Interpolate(self.mode, factor, self.align_corners), x)
        return x if self.conv_first else self._conv(b, x, style, features, path)

    def _conv(self, b: Builder, x: int, style: Style, features: int, path: Path) -> int:
        kernel_size, padding = self.kernel_size, self.padding

        def conv(y: int) -> int:
            if kernel_size is None:
                return y
            return b.conv(
                "conv",
                y,
                self._features(b, y, features),
                kernel=b.axes(kernel_size, (*path, "kernel_size")),
                padding=padding
                if isinstance(padding, str)
                else b.axes(padding, (*path, "padding")),
                mode=style.padding_mode,
                bias=self.bias,
            )

        return lower_own(b, x, style, self, conv, path)


class PixelShuffle(_ConvUp):
    """A convolution to factor^dims times the channels, rearranged into space (Shi et al. 2016).

    Initialised so that it starts as nearest interpolation (ICNR; Aitken et al. 2017).
    """

    type: Literal["pixel_shuffle"] = "pixel_shuffle"
    factor: Extent | None = Field(None, description="null: the factor of the down-sampling")
    kernel_size: Extent = Field(3, description="kernel of the convolution")
    padding: Padding = Field("same", description="padding of the convolution")
    icnr: Flag = Field(True, description="initialise without checkerboard")
    average: PadModeName | None = Field(
        None,
        description="then the mean over `factor` positions with stride 1, the map being padded "
        "at the start with this (Sugawara et al. 2019); null: none",
    )

    def lower(
        self, b: Builder, x: int, style: Style, factor: Axes, features: int, path: Path
    ) -> int:
        if self.factor is not None:
            factor = b.axes(self.factor, (*path, "factor"))
        kernel = b.axes(self.kernel_size, (*path, "kernel_size"))
        padding, copies = self.padding, prod(factor)

        def conv(y: int) -> int:
            y = b.conv(
                "conv",
                y,
                self._features(b, y, features) * copies,
                kernel=kernel,
                padding=padding
                if isinstance(padding, str)
                else b.axes(padding, (*path, "padding")),
                mode=style.padding_mode,
                bias=self.bias,
                init=f"icnr:{copies}" if self.icnr else None,
            )
            y = b.add("shuffle", p.PixelShuffle(factor), y)
            if self.average is None:
                return y
            before = tuple(f - 1 for f in factor)
            y = b.add("average_pad", p.Pad(before, b.zeros, self.average), y)
            return b.add("average", p.AvgPool(factor, b.ones, b.zeros, False, True), y)

        return lower_own(b, x, style, self, conv, path)


class NoUpsampling(_Up):
    """The map as it is: for a stage whose down-sampling has factor 1."""

    type: Literal["none"] = "none"

    def lower(
        self, b: Builder, x: int, style: Style, factor: Axes, features: int, path: Path
    ) -> int:
        return x


AnyUpsample = TransposedConv | Interpolation | PixelShuffle | NoUpsampling
Upsample = TypeAliasType("Upsample", Annotated[AnyUpsample, Field(discriminator="type"), Shorthand])

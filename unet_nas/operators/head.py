"""Stem and segmentation heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from unet_nas.errors import Path
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Builder
from unet_nas.operators.fields import (
    Count,
    Extent,
    Flag,
    Options,
    Padding,
    Shorthand,
    Width,
)
from unet_nas.operators.unit import ConvUnit, Inherit, Style, lower_after


class Stem(ConvUnit):
    """One convolution before the first stage (nnU-Net's residual encoder, SegResNet)."""

    features: Width | None = Field(
        None, description="channels, or a ratio of the first stage's; null: the first stage's"
    )


class ConvHead(Options):
    """A convolution (1x1 by default) from the last decoder stage to the classes."""

    type: Literal["conv"] = "conv"
    kernel_size: Extent = Field(1, description="size of the kernel")
    padding: Padding = Field("same", description="padding of the convolution")
    bias: Flag = Field(True, description="the convolution has a bias")
    preactivation: Flag = Field(False, description="the stage's norm and activation before it")
    before: ConvUnit | None = Field(None, description="another convolution before all of this")

    def lower(self, b: Builder, x: int, style: Style, classes: int, path: Path) -> int:
        """Adds the head on ``x`` and returns the logits."""
        if self.before is not None:
            with b.scope("before"):
                x = self.before.lower(b, x, style, b.channels(x), (*path, "before"))
        if self.preactivation:
            x = lower_after(b, x, style, Inherit(), Inherit(), path)
        padding = self.padding
        return b.conv(
            "conv",
            x,
            classes,
            kernel=b.axes(self.kernel_size, (*path, "kernel_size")),
            padding=padding if isinstance(padding, str) else b.axes(padding, (*path, "padding")),
            mode=style.padding_mode,
            bias=self.bias,
        )

    def combine(
        self, b: Builder, maps: Sequence[int], styles: Sequence[Style], classes: int, path: Path
    ) -> int:
        """Returns the logits from the decoder maps, full resolution first."""
        return self.lower(b, maps[0], styles[0], classes, path)


class MultiScaleHead(Options):
    """1x1 convolutions at every decoder stage, resized to full size and combined.

    Source: Kayalibay et al., arXiv:1701.03056 (sum); Oktay et al., arXiv:1804.03999 (concat,
    then a 1x1 convolution).
    """

    type: Literal["multi_scale"] = "multi_scale"
    combine_by: Literal["sum", "concat"] = Field("concat", description="how scales are combined")
    mode: Literal["nearest", "linear"] = Field("linear", description="kind of interpolation")
    bias: Flag = Field(True, description="the convolutions have a bias")
    scales: Count | None = Field(
        None, description="number of decoder stages from full resolution on; null: all"
    )

    def combine(
        self, b: Builder, maps: Sequence[int], styles: Sequence[Style], classes: int, path: Path
    ) -> int:
        """Returns the logits from the decoder maps, full resolution first."""
        ones = b.ones
        if self.scales is not None and self.scales > len(maps):
            rule = f"must be at most the {len(maps)} decoder stages"
            b.fault((*path, "scales"), rule, self.scales, f"use {len(maps)}")
        scales: list[int] = []
        for i, x in enumerate(maps[: self.scales]):
            with b.scope(f"scales.{i}"):
                logits = b.conv("conv", x, classes, kernel=ones, bias=self.bias)
                if i:
                    logits = b.add("resize", p.ResizeTo(self.mode, False), logits, scales[0])
                scales.append(logits)
        if len(scales) == 1:
            return scales[0]
        if self.combine_by == "sum":
            return b.add("add", p.Add(), *scales)
        x = b.add("concat", p.Concat(), *scales)
        return b.conv("conv", x, classes, kernel=ones, bias=self.bias)


class NoHead(Options):
    """The last decoder stage already gives the classes (MONAI's UNet)."""

    type: Literal["none"] = "none"

    def combine(
        self, b: Builder, maps: Sequence[int], styles: Sequence[Style], classes: int, path: Path
    ) -> int:
        """Returns the decoder map itself."""
        if b.channels(maps[0]) != classes:
            rule = f"needs a last decoder stage of {classes} channels, one per class"
            b.fault(path, rule, b.channels(maps[0]), f"--set 'decoder.features[0]={classes}'")
        return maps[0]


AnyHead = ConvHead | MultiScaleHead | NoHead
Head = TypeAliasType("Head", Annotated[AnyHead, Field(discriminator="type"), Shorthand])

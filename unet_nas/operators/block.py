"""Blocks: what the convolutions of one stage are arranged into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Builder
from unet_nas.operators.fields import (
    Channels,
    Count,
    CountOrZero,
    Extent,
    Flag,
    Options,
    Positive,
    Shorthand,
    width_of,
)
from unet_nas.operators.primitives import Axes
from unet_nas.operators.unit import Style, lower_dropout, lower_unit


class SqueezeExcitation(Options):
    """Channel attention: global mean, two 1x1 convolutions, sigmoid, scale (Hu et al. 2018)."""

    reduction: Channels = Field(16, description="channels divided by this inside (at least 1)")
    bias: Flag = Field(True, description="the two convolutions have a bias")

    def lower(self, b: Builder, x: int, style: Style) -> int:
        """Adds the gate on ``x``: ``2 C (C // reduction)`` weights and both biases."""
        channels, ones = b.channels(x), b.ones
        with b.scope("squeeze"):
            s = b.add("pool", p.GlobalAvgPool(), x)
            inside = max(1, channels // self.reduction)
            s = b.conv("reduce", s, inside, kernel=ones, bias=self.bias)
            s = b.add("act", p.Activation("ReLU"), s)
            s = b.conv("expand", s, channels, kernel=ones, bias=self.bias)
            s = b.add("gate", p.Activation("Sigmoid"), s)
            return b.add("scale", p.Scale(), x, s)


@dataclass(slots=True)
class Stage:
    """The options of one stage, resolved: what a block needs to lower itself.

    ``widths`` and ``kernels`` hold the output channels and the kernel of each convolution in
    turn; ``lead`` is False where the stage's first convolution has nothing before it although
    the order is a pre-activation. Where a skip leaves or joins in the middle, a stage comes in
    two parts: ``start`` is the number of convolutions before this part, and ``more`` tells
    that others follow.
    """

    style: Style
    widths: tuple[int, ...]
    kernels: tuple[Axes, ...]
    padding: str | Axes
    dilation: Axes
    groups: int
    lead: bool
    squeeze: SqueezeExcitation | None
    start: int = 0
    more: bool = False

    def parts(self, at: int) -> tuple[Stage, Stage]:
        """Returns the first ``at`` convolutions, and the others."""
        widths, kernels, start = self.widths, self.kernels, self.start
        first = replace(self, widths=widths[:at], kernels=kernels[:at], more=True)
        rest = replace(self, widths=widths[at:], kernels=kernels[at:], start=start + at, lead=True)
        return first, rest

    def unit(self, b: Builder, x: int, i: int, stride: Axes, lead: bool) -> int:
        """Adds the unit of convolution ``i``; ``lead`` as in :func:`lower_unit`."""
        style = self.style
        x = lower_unit(b, x, style, lambda y: self.conv(b, y, i, stride), lead=lead)
        return x if style.dropout.type == "none" else self.between(b, x, i)

    def between(self, b: Builder, x: int, i: int) -> int:
        """Adds the dropout that stands between units, unless unit ``i`` is the last."""
        last = i == len(self.widths) - 1 and not self.more
        return x if last else lower_dropout(b, x, self.style.dropout, "between")

    def conv(self, b: Builder, x: int, i: int, stride: Axes) -> int:
        """Adds convolution ``i`` with the stage's dilation, groups and padding."""
        style = self.style
        return b.conv(
            "conv",
            x,
            self.widths[i],
            kernel=self.kernels[i],
            stride=stride,
            padding=self.padding,
            mode=style.padding_mode,
            dilation=self.dilation,
            groups=self.groups,
            bias=style.bias,
            groups_path=style.path,
        )

    def depthwise(self, b: Builder, x: int, i: int, stride: Axes) -> int:
        """Adds a depthwise convolution with the kernel of convolution ``i``."""
        style = self.style
        return b.conv(
            "depthwise",
            x,
            b.channels(x),
            kernel=self.kernels[i],
            stride=stride,
            padding=self.padding,
            mode=style.padding_mode,
            dilation=self.dilation,
            groups=b.channels(x),
            bias=style.bias,
        )

    def borders(self, b: Builder, of: range) -> set[int]:
        """Returns the positions that convolutions take from an axis (or add, if < 0)."""
        padding = self.padding
        if padding == "same":
            return {0}
        pads = b.zeros if isinstance(padding, str) else padding
        return {
            d * (k - 1) - 2 * pad
            for i in of
            for d, k, pad in zip(self.dilation, self.kernels[i], pads, strict=True)
        }

    def add_shortcut(self, b: Builder, x: int, shortcut: int, of: range) -> int:
        """Adds a shortcut past convolutions; the one that the padding makes larger is cropped."""
        borders = self.borders(b, of)
        body = x
        if min(borders) < 0:
            body = b.add("crop", p.CropTo(), x, shortcut)
        if max(borders) > 0:
            shortcut = b.add("shortcut_crop", p.CropTo(), shortcut, x)
        return b.add("add", p.Add(), body, shortcut)

    def squeezed(self, b: Builder, x: int) -> int:
        """Adds the squeeze-excitation if there is one."""
        return x if self.squeeze is None else self.squeeze.lower(b, x, self.style)

    def refuse_groups(self, b: Builder, what: str) -> None:
        """Records a fault where ``groups`` is set for a block that has its own."""
        if self.groups != 1:
            path = self.style.path("groups")
            b.fault(path, f"must be 1 with block {what}, which sets its own", self.groups, "use 1")


class Plain(Options):
    """Convolutions one after the other (Ronneberger et al. 2015)."""

    type: Literal["plain"] = "plain"

    def lower(self, b: Builder, x: int, stage: Stage, stride: Axes) -> int:
        """Adds one unit per width; the first carries the stride."""
        for i in range(len(stage.widths)):
            with b.scope(f"convs.{stage.start + i}"):
                x = stage.unit(b, x, i, stride, lead=stage.lead or i > 0)
            stride = b.ones
        return x if stage.more else stage.squeezed(b, x)


class Residual(Options):
    """Units whose input is added to their output (He et al. 2016; Zhang et al. 2018).

    The shortcut is the identity, or a 1x1 projection where channels or size change.
    """

    type: Literal["residual"] = "residual"
    unit: Count = Field(2, description="convolutions per residual unit; must divide `convs`")
    stride_on: CountOrZero = Field(
        0, description="which of the unit's convolutions carries a stride (ResNet-D bottleneck: 1)"
    )
    last_activation: Literal["auto", "after_add", "before_add", "both", "none"] = Field(
        "auto",
        description="where the unit's last activation stands; `none` also leaves out the last "
        "norm; `auto` is after_add, and before_add for pre-activation orders",
    )
    projection: Literal["auto", "always", "repeat"] = Field(
        "auto",
        description="auto: only where channels or size change; repeat: where only channels "
        "change they are repeated instead (V-Net)",
    )
    projection_kernel: Extent = Field(1, description="kernel of the projection")
    projection_norm: Flag = Field(False, description="the projection is followed by the norm")
    projection_activation: Flag = Field(False, description="and by the activation")
    projection_bias: Flag | None = Field(None, description="bias of the projection; null: `bias`")
    project_first: Flag = Field(False, description="the unit's convolutions read the projection")
    strided_shortcut: Literal["conv", "average_pool"] = Field(
        "conv", description="what carries a stride on the shortcut (average_pool: ResNet-D)"
    )

    def lower(self, b: Builder, x: int, stage: Stage, stride: Axes) -> int:
        """Adds ``convs / unit`` residual units; the first carries the stride."""
        count = len(stage.widths)
        if count % self.unit:
            rule = f"must be a multiple of the {self.unit} convolutions of a residual unit"
            up = count + self.unit - count % self.unit
            b.fault(stage.style.path("convs"), rule, count, f"use {up}")
            return x
        if self.stride_on >= self.unit:
            rule = f"must be below the {self.unit} convolutions of a residual unit"
            path = (*stage.style.path("block"), "stride_on")
            b.fault(path, rule, self.stride_on, f"use {self.unit - 1}")
        for i in range(0, count, self.unit):
            with b.scope(f"units.{(stage.start + i) // self.unit}"):
                of = range(i, i + self.unit)
                x = self._unit(b, x, stage, of, stride, lead=stage.lead or i > 0)
            stride = b.ones
        return x

    def _unit(
        self, b: Builder, x: int, stage: Stage, of: range, stride: Axes, *, lead: bool
    ) -> int:
        style = stage.style
        where = self.last_activation
        if where == "auto":
            where = "before_add" if style.preactivated else "after_add"
        shortcut = self._shortcut(b, x, stage, stage.widths[of[-1]], stride)
        if self.project_first:
            x, stride = shortcut, b.ones
        for i in of:
            last = i == of[-1]
            with b.scope(f"convs.{i - of.start}"):
                x = lower_unit(
                    b,
                    x,
                    style,
                    _conv(stage, b, i, stride if i - of.start == self.stride_on else b.ones),
                    norm=not last or where != "none",
                    act=not last or where in ("before_add", "both"),
                    lead=lead or i > of.start,
                )
                x = x if last else lower_dropout(b, x, style.dropout, "between")
        x = stage.add_shortcut(b, stage.squeezed(b, x), shortcut, of)
        return style.activation.lower(b, x, "act") if where in ("after_add", "both") else x

    def _shortcut(self, b: Builder, x: int, stage: Stage, features: int, stride: Axes) -> int:
        style, ones = stage.style, b.ones
        with b.scope("shortcut"):
            if self.strided_shortcut == "average_pool" and stride != ones:
                x = b.add("pool", p.AvgPool(stride, stride, b.zeros, False, True), x)
                stride = ones
            channels = b.channels(x)
            if stride == ones and self.projection != "always":
                if channels == features:
                    return x
                if self.projection == "repeat":
                    return self._repeat(b, x, features, style)
            kernel = b.axes(self.projection_kernel, (*style.path("block"), "projection_kernel"))
            bias = style.bias if self.projection_bias is None else self.projection_bias
            x = b.conv("conv", x, features, kernel=kernel, stride=stride, bias=bias)
            if self.projection_norm:
                x = style.norm.lower(b, x, "norm", style.path)
            return style.activation.lower(b, x, "act") if self.projection_activation else x

    def _repeat(self, b: Builder, x: int, features: int, style: Style) -> int:
        channels = b.channels(x)
        if features % channels:
            rule = f"must not be repeat where {channels} channels do not divide {features}"
            b.fault((*style.path("block"), "projection"), rule, "repeat", "use auto")
            return b.conv("conv", x, features, kernel=b.ones)
        return b.add("repeat", p.Concat(), *(x,) * (features // channels))


def _conv(stage: Stage, b: Builder, i: int, stride: Axes) -> Callable[[int], int]:
    return lambda y: stage.conv(b, y, i, stride)


class DepthwiseSeparable(Options):
    """Each convolution is a depthwise one followed by a 1x1 one (Chollet 2017)."""

    type: Literal["depthwise_separable"] = "depthwise_separable"
    between: Flag = Field(
        False, description="norm and activation also between the two (Howard et al. 2017)"
    )

    def lower(self, b: Builder, x: int, stage: Stage, stride: Axes) -> int:
        """Adds one depthwise and one pointwise convolution per width."""
        stage.refuse_groups(b, self.type)
        for i in range(len(stage.widths)):
            with b.scope(f"convs.{stage.start + i}"):
                x = self._unit(b, x, stage, i, stride, lead=stage.lead or i > 0)
            stride = b.ones
        return x if stage.more else stage.squeezed(b, x)

    def _unit(self, b: Builder, x: int, stage: Stage, i: int, stride: Axes, *, lead: bool) -> int:
        style = stage.style

        def separable(y: int) -> int:
            y = stage.depthwise(b, y, i, stride)
            if self.between:
                y = style.norm.lower(b, y, "depthwise_norm", style.path)
                y = style.activation.lower(b, y, "depthwise_act")
            return b.conv("pointwise", y, stage.widths[i], kernel=b.ones, bias=style.bias)

        return stage.between(b, lower_unit(b, x, style, separable, lead=lead), i)


class InvertedBottleneck(Options):
    """Expand by a 1x1, filter depthwise, project by a 1x1, add (Sandler et al. 2018).

    The input is added where channels and size agree. The projection has no activation.
    """

    type: Literal["inverted_bottleneck"] = "inverted_bottleneck"
    expansion: Positive = Field(
        4.0, description="channels inside as a ratio of the input's, rounded half up; 1 expands not"
    )

    def lower(self, b: Builder, x: int, stage: Stage, stride: Axes) -> int:
        """Adds one unit per width; the first carries the stride."""
        stage.refuse_groups(b, self.type)
        for i in range(len(stage.widths)):
            with b.scope(f"units.{stage.start + i}"):
                x = self._unit(b, x, stage, i, stride, lead=stage.lead or i > 0)
            stride = b.ones
        return x

    def _unit(self, b: Builder, x: int, stage: Stage, i: int, stride: Axes, *, lead: bool) -> int:
        style, shortcut, ones = stage.style, x, b.ones
        features, hidden = stage.widths[i], width_of(self.expansion, b.channels(x), 1)
        if hidden != b.channels(x):
            with b.scope("expand"):
                x = lower_unit(
                    b,
                    x,
                    style,
                    lambda y: b.conv("conv", y, hidden, kernel=ones, bias=style.bias),
                    lead=lead,
                )
            lead = True
        with b.scope("filter"):
            x = lower_unit(b, x, style, lambda y: stage.depthwise(b, y, i, stride), lead=lead)
        x = stage.squeezed(b, x)
        with b.scope("project"):
            x = lower_unit(
                b,
                x,
                style,
                lambda y: b.conv("conv", y, features, kernel=ones, bias=style.bias),
                act=style.preactivated,
            )
        if b.channels(shortcut) == features and stride == ones:
            x = stage.add_shortcut(b, x, shortcut, range(i, i + 1))
        return stage.between(b, x, i)


AnyBlock = Plain | Residual | DepthwiseSeparable | InvertedBottleneck
Block = TypeAliasType("Block", Annotated[AnyBlock, Field(discriminator="type"), Shorthand])

"""Blocks: what the convolutions of one stage are arranged into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Builder
from unet_nas.operators.fields import (
    Channels,
    Count,
    Extent,
    Flag,
    Options,
    Positive,
    Shorthand,
    width_of,
)
from unet_nas.operators.primitives import Axes
from unet_nas.operators.unit import Style, lower_unit


class SqueezeExcitation(Options):
    """Channel attention: global mean, two 1x1 convolutions, sigmoid, scale (Hu et al. 2018)."""

    reduction: Channels = Field(16, description="channels divided by this inside (at least 1)")

    def lower(self, b: Builder, x: int, style: Style) -> int:
        """Adds the gate on ``x``: ``2 C (C // reduction)`` weights and both biases."""
        channels, ones = b.channels(x), b.ones
        with b.scope("squeeze"):
            s = b.add("pool", p.GlobalAvgPool(), x)
            s = b.conv("reduce", s, max(1, channels // self.reduction), kernel=ones)
            s = b.add("act", p.Activation("ReLU"), s)
            s = b.conv("expand", s, channels, kernel=ones)
            s = b.add("gate", p.Activation("Sigmoid"), s)
            return b.add("scale", p.Scale(), x, s)


@dataclass(frozen=True, slots=True)
class Stage:
    """The options of one stage, resolved: what a block needs to lower itself.

    ``widths`` holds the output channels of each convolution of ``kernel`` in turn; ``lead``
    is False where the stage's first convolution has nothing before it although the order
    is a pre-activation.
    """

    style: Style
    widths: tuple[int, ...]
    kernel: Axes
    padding: str | Axes
    dilation: Axes
    groups: int
    lead: bool
    squeeze: SqueezeExcitation | None

    def conv(self, b: Builder, x: int, features: int, stride: Axes, name: str = "conv") -> int:
        """Adds a convolution with the stage's kernel, dilation, groups and padding."""
        style = self.style
        return b.conv(
            name,
            x,
            features,
            kernel=self.kernel,
            stride=stride,
            padding=self.padding,
            mode=style.padding_mode,
            dilation=self.dilation,
            groups=self.groups,
            bias=style.bias,
            groups_path=style.path,
        )

    def depthwise(self, b: Builder, x: int, stride: Axes) -> int:
        """Adds a depthwise convolution with the stage's kernel, dilation and padding."""
        style = self.style
        return b.conv(
            "depthwise",
            x,
            b.channels(x),
            kernel=self.kernel,
            stride=stride,
            padding=self.padding,
            mode=style.padding_mode,
            dilation=self.dilation,
            groups=b.channels(x),
            bias=style.bias,
        )

    def border(self, b: Builder) -> Axes:
        """Returns the positions that one convolution takes from each axis (or adds, if < 0)."""
        padding = self.padding
        if padding == "same":
            return b.zeros
        taken = tuple(d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True))
        if isinstance(padding, str):
            return taken
        return tuple(t - 2 * pad for t, pad in zip(taken, padding, strict=True))

    def add_shortcut(self, b: Builder, x: int, shortcut: int) -> int:
        """Adds a shortcut to ``x``, each centre-cropped where the padding makes it larger."""
        border = self.border(b)
        body = x
        if any(taken < 0 for taken in border):
            body = b.add("crop", p.CropTo(), x, shortcut)
        if any(taken > 0 for taken in border):
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
        for i, features in enumerate(stage.widths):
            with b.scope(f"convs.{i}"):
                x = _plain_unit(b, x, stage, features, stride, lead=stage.lead or i > 0)
            stride = b.ones
        return stage.squeezed(b, x)


def _plain_unit(
    b: Builder, x: int, stage: Stage, features: int, stride: Axes, *, lead: bool
) -> int:
    return lower_unit(b, x, stage.style, lambda y: stage.conv(b, y, features, stride), lead=lead)


class Residual(Options):
    """Units whose input is added to their output (He et al. 2016; Zhang et al. 2018).

    The shortcut is the identity, or a 1x1 projection where channels or size change.
    """

    type: Literal["residual"] = "residual"
    unit: Count = Field(2, description="convolutions per residual unit; must divide `convs`")
    last_activation: Literal["auto", "after_add", "before_add", "none"] = Field(
        "auto",
        description="where the unit's last activation stands; `none` also leaves out the last "
        "norm; `auto` is after_add, and before_add for pre-activation orders",
    )
    projection_kernel: Extent = Field(1, description="kernel of the projection")
    projection_norm: Flag = Field(False, description="the projection is followed by the norm")
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
        for i in range(0, count, self.unit):
            with b.scope(f"units.{i // self.unit}"):
                widths = stage.widths[i : i + self.unit]
                x = self._unit(b, x, stage, widths, stride, lead=stage.lead or i > 0)
            stride = b.ones
        return x

    def _unit(
        self, b: Builder, x: int, stage: Stage, widths: tuple[int, ...], stride: Axes, *, lead: bool
    ) -> int:
        style = stage.style
        where = self.last_activation
        if where == "auto":
            where = "before_add" if style.preactivated else "after_add"
        shortcut = self._shortcut(b, x, stage, widths[-1], stride)
        if self.project_first:
            x, stride = shortcut, b.ones
        for i, features in enumerate(widths):
            last = i == len(widths) - 1
            with b.scope(f"convs.{i}"):
                x = self._conv(
                    b,
                    x,
                    stage,
                    features,
                    stride,
                    lead=lead or i > 0,
                    norm=not (last and where == "none"),
                    act=not (last and where != "before_add"),
                )
            stride = b.ones
        x = stage.add_shortcut(b, stage.squeezed(b, x), shortcut)
        return style.activation.lower(b, x, "act") if where == "after_add" else x

    def _conv(
        self,
        b: Builder,
        x: int,
        stage: Stage,
        features: int,
        stride: Axes,
        *,
        lead: bool,
        norm: bool,
        act: bool,
    ) -> int:
        return lower_unit(
            b,
            x,
            stage.style,
            lambda y: stage.conv(b, y, features, stride),
            norm=norm,
            act=act,
            lead=lead,
        )

    def _shortcut(self, b: Builder, x: int, stage: Stage, features: int, stride: Axes) -> int:
        style = stage.style
        with b.scope("shortcut"):
            if self.strided_shortcut == "average_pool" and any(s != 1 for s in stride):
                zeros = b.zeros
                x = b.add("pool", p.AvgPool(stride, stride, zeros, False, True), x)
                stride = b.ones
            if b.channels(x) == features and all(s == 1 for s in stride):
                return x
            kernel = b.axes(self.projection_kernel, (*style.path("block"), "projection_kernel"))
            bias = style.bias if self.projection_bias is None else self.projection_bias
            x = b.conv("conv", x, features, kernel=kernel, stride=stride, bias=bias)
            return style.norm.lower(b, x, "norm", style.path) if self.projection_norm else x


class DepthwiseSeparable(Options):
    """Each convolution is a depthwise one followed by a 1x1 one (Chollet 2017)."""

    type: Literal["depthwise_separable"] = "depthwise_separable"
    between: Flag = Field(
        False, description="norm and activation also between the two (Howard et al. 2017)"
    )

    def lower(self, b: Builder, x: int, stage: Stage, stride: Axes) -> int:
        """Adds one depthwise and one pointwise convolution per width."""
        stage.refuse_groups(b, self.type)
        for i, features in enumerate(stage.widths):
            with b.scope(f"convs.{i}"):
                x = self._unit(b, x, stage, features, stride, lead=stage.lead or i > 0)
            stride = b.ones
        return stage.squeezed(b, x)

    def _unit(
        self, b: Builder, x: int, stage: Stage, features: int, stride: Axes, *, lead: bool
    ) -> int:
        style = stage.style

        def separable(y: int) -> int:
            y = stage.depthwise(b, y, stride)
            if self.between:
                y = style.norm.lower(b, y, "depthwise_norm", style.path)
                y = style.activation.lower(b, y, "depthwise_act")
            return b.conv("pointwise", y, features, kernel=b.ones, bias=style.bias)

        return lower_unit(b, x, style, separable, lead=lead)


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
        for i, features in enumerate(stage.widths):
            with b.scope(f"units.{i}"):
                x = self._unit(b, x, stage, features, stride, lead=stage.lead or i > 0)
            stride = b.ones
        return x

    def _unit(
        self, b: Builder, x: int, stage: Stage, features: int, stride: Axes, *, lead: bool
    ) -> int:
        style, shortcut, ones = stage.style, x, b.ones
        hidden = width_of(self.expansion, b.channels(x), 1)
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
            x = lower_unit(b, x, style, lambda y: stage.depthwise(b, y, stride), lead=lead)
        x = stage.squeezed(b, x)
        with b.scope("project"):
            x = lower_unit(
                b,
                x,
                style,
                lambda y: b.conv("conv", y, features, kernel=ones, bias=style.bias),
                act=style.preactivated,
            )
        if b.channels(shortcut) != features or stride != ones:
            return x
        return stage.add_shortcut(b, x, shortcut)


AnyBlock = Plain | Residual | DepthwiseSeparable | InvertedBottleneck
Block = TypeAliasType("Block", Annotated[AnyBlock, Field(discriminator="type"), Shorthand])

"""Skip fusion: how a decoder stage takes in the skip, and what aligns the two sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from unet_nas.errors import Path
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Builder
from unet_nas.operators.fields import (
    Flag,
    Options,
    Shorthand,
    Width,
    width_of,
)
from unet_nas.operators.primitives import Axes
from unet_nas.operators.unit import (
    ActivationOrInherit,
    ConvUnit,
    Inherit,
    NoActivation,
    NoNorm,
    NormOrInherit,
    Style,
    lower_after,
)

# --- alignment --------------------------------------------------------------------------


class Strict(Options):
    """Unequal sizes are an error."""

    type: Literal["strict"] = "strict"

    def lower(self, b: Builder, skip: int, up: int) -> tuple[int, int]:
        return skip, up


class Crop(Options):
    """On each axis the larger of the two maps is centre-cropped (Ronneberger et al. 2015)."""

    type: Literal["crop"] = "crop"

    def lower(self, b: Builder, skip: int, up: int) -> tuple[int, int]:
        cropped = b.add("crop_skip", p.CropTo(), skip, up)
        return cropped, b.add("crop_up", p.CropTo(), up, skip)


class PadSmaller(Options):
    """On each axis the smaller of the two maps is padded."""

    type: Literal["pad"] = "pad"
    side: Literal["both", "end"] = Field("both", description="both: the odd position at the end")
    mode: Literal["zeros", "replicate"] = Field("zeros", description="what is padded")

    def lower(self, b: Builder, skip: int, up: int) -> tuple[int, int]:
        padded = b.add("pad_skip", p.PadTo(self.side, self.mode), skip, up)
        return padded, b.add("pad_up", p.PadTo(self.side, self.mode), up, skip)


class Resize(Options):
    """The decoder map is interpolated to the size of the skip."""

    type: Literal["resize"] = "resize"
    mode: Literal["nearest", "linear"] = Field("linear", description="kind of interpolation")
    align_corners: Flag = Field(False, description="linear only: corners keep their values")

    def lower(self, b: Builder, skip: int, up: int) -> tuple[int, int]:
        aligned = self.align_corners and self.mode == "linear"
        return skip, b.add("resize_up", p.ResizeTo(self.mode, aligned), up, skip)


AnyAlignment = Strict | Crop | PadSmaller | Resize
Alignment = TypeAliasType(
    "Alignment", Annotated[AnyAlignment, Field(discriminator="type"), Shorthand]
)


# --- fusion -----------------------------------------------------------------------------


@dataclass(slots=True)
class Joint:
    """What meets at a fusion.

    Args:
        skip: node of the encoder's map.
        up: node of the up-sampled decoder map.
        below: node of the decoder map before it was up-sampled.
        factor: by how much the two resolutions differ on each axis.
        align: the alignment policy.
        style: of the decoder stage.
        path: of the fusion in the file.
    """

    skip: int
    up: int
    below: int
    factor: Axes
    align: AnyAlignment
    style: Style
    path: Path


class Concat(Options):
    """Both maps side by side: the channels add up (Ronneberger et al. 2015)."""

    type: Literal["concat"] = "concat"
    first: Literal["skip", "decoder"] = Field("skip", description="whose channels come first")
    skip: ConvUnit | None = Field(None, description="a convolution on the skip before; null: none")
    norm: NormOrInherit = Field(
        NoNorm.model_construct(), description="norm of the concatenated channels"
    )

    def lower(self, b: Builder, joint: Joint) -> int:
        skip = joint.skip
        if self.skip is not None:
            with b.scope("skip"):
                path = (*joint.path, "skip")
                skip = self.skip.lower(b, skip, joint.style, b.channels(skip), path)
        skip, up = joint.align.lower(b, skip, joint.up)
        x = _concat(b, skip, up, self.first)
        return lower_after(b, x, joint.style, self.norm, NoActivation(), joint.path)


def _concat(b: Builder, skip: int, up: int, first: str) -> int:
    pair = (skip, up) if first == "skip" else (up, skip)
    return b.add("concat", p.Concat(), *pair)


class ConcatBottleneck(Options):
    """Concatenation, then a 1x1 convolution to fewer channels."""

    type: Literal["concat_bottleneck"] = "concat_bottleneck"
    first: Literal["skip", "decoder"] = Field("skip", description="whose channels come first")
    features: Width = Field(0.5, description="channels, or a ratio of the concatenated ones")
    bias: Flag = Field(True, description="the 1x1 convolution has a bias")
    norm: NormOrInherit = Field(NoNorm.model_construct(), description="norm after the convolution")
    activation: ActivationOrInherit = Field(
        NoActivation.model_construct(), description="activation after it"
    )

    def lower(self, b: Builder, joint: Joint) -> int:
        skip, up = joint.align.lower(b, joint.skip, joint.up)
        x = _concat(b, skip, up, self.first)
        features = width_of(self.features, b.channels(x), 1)
        x = b.conv("conv", x, features, kernel=b.ones, bias=self.bias)
        return lower_after(b, x, joint.style, self.norm, self.activation, joint.path)


class Add(Options):
    """The sum; the skip passes a 1x1 convolution where its channels differ."""

    type: Literal["add"] = "add"
    bias: Flag = Field(True, description="that 1x1 convolution has a bias")

    def lower(self, b: Builder, joint: Joint) -> int:
        skip, up = joint.skip, joint.up
        if b.channels(skip) != b.channels(up):
            ones = b.ones
            skip = b.conv("project", skip, b.channels(up), kernel=ones, bias=self.bias)
        skip, up = joint.align.lower(b, skip, up)
        return b.add("add", p.Add(), skip, up)


class AttentionGate(Options):
    """The skip is weighted by coefficients from the decoder, then concatenated (Oktay 2018).

    At ``coarse`` resolution the gating signal is the decoder map before up-sampling, the
    skip is brought down by a strided convolution and the coefficients are interpolated up
    (Oktay et al., arXiv:1804.03999); at ``full`` resolution it is the up-sampled map (MONAI).
    """

    type: Literal["attention_gate"] = "attention_gate"
    resolution: Literal["coarse", "full"] = Field("coarse", description="where the gate works")
    features: Width | None = Field(
        0.5, description="channels inside, or a ratio of the skip's; null: the skip's"
    )
    norm: NormOrInherit = Field(
        NoNorm.model_construct(), description="norm of the inner convolutions"
    )
    skip_bias: Flag = Field(False, description="bias of the convolution on the skip")
    gating_unit: Flag = Field(
        False, description="a 1x1 convolution with norm and activation on the gating signal first"
    )
    output: Literal["none", "conv_norm", "conv_norm_unit"] = Field(
        "none",
        description="after the gate: nothing, a 1x1 convolution with norm, or these and a "
        "1x1 convolution with norm and activation",
    )
    first: Literal["skip", "decoder"] = Field("skip", description="whose channels come first")

    def lower(self, b: Builder, joint: Joint) -> int:
        if self.resolution == "coarse":
            skip = self._after(b, self._coarse(b, joint), joint)
            skip, up = joint.align.lower(b, skip, joint.up)
        else:
            skip, up = joint.align.lower(b, joint.skip, joint.up)
            skip = self._after(b, self._full(b, skip, up, joint), joint)
        return _concat(b, skip, up, self.first)

    def _width(self, b: Builder, skip: int) -> int:
        channels = b.channels(skip)
        return width_of(self.features, channels, channels)

    def _conv_norm(
        self,
        b: Builder,
        name: str,
        x: int,
        features: int,
        joint: Joint,
        *,
        stride: Axes | None = None,
        bias: bool = True,
    ) -> int:
        with b.scope(name):
            x = b.conv(
                "conv",
                x,
                features,
                kernel=stride or b.ones,
                stride=stride,
                padding="valid",
                bias=bias,
            )
            return lower_after(b, x, joint.style, self.norm, NoActivation(), joint.path)

    def _full(self, b: Builder, skip: int, up: int, joint: Joint) -> int:
        features = self._width(b, skip)
        gate = self._conv_norm(b, "gating", self._gating(b, up, joint), features, joint)
        own = self._conv_norm(b, "skip", skip, features, joint, bias=self.skip_bias)
        both = b.add("relu", p.Activation("ReLU"), b.add("add", p.Add(), gate, own))
        alpha = self._conv_norm(b, "coefficients", both, 1, joint)
        alpha = b.add("sigmoid", p.Activation("Sigmoid"), alpha)
        return b.add("gate", p.Gate(), skip, alpha)

    def _coarse(self, b: Builder, joint: Joint) -> int:
        skip, features = joint.skip, self._width(b, joint.skip)
        own = self._conv_norm(
            b, "skip", skip, features, joint, stride=joint.factor, bias=self.skip_bias
        )
        gate = self._conv_norm(b, "gating", self._gating(b, joint.below, joint), features, joint)
        gate = b.add("resize_gating", p.ResizeTo("linear", False), gate, own)
        both = b.add("relu", p.Activation("ReLU"), b.add("add", p.Add(), own, gate))
        alpha = self._conv_norm(b, "coefficients", both, 1, joint)
        alpha = b.add("sigmoid", p.Activation("Sigmoid"), alpha)
        alpha = b.add("resize_coefficients", p.ResizeTo("linear", False), alpha, skip)
        return b.add("gate", p.Gate(), skip, alpha)

    def _gating(self, b: Builder, x: int, joint: Joint) -> int:
        return self._unit(b, "gating_unit", x, joint) if self.gating_unit else x

    def _unit(self, b: Builder, name: str, x: int, joint: Joint) -> int:
        with b.scope(name):
            x = b.conv("conv", x, b.channels(x), kernel=b.ones)
            return lower_after(b, x, joint.style, Inherit(), Inherit(), joint.path)

    def _after(self, b: Builder, skip: int, joint: Joint) -> int:
        if self.output == "none":
            return skip
        with b.scope("output"):
            skip = b.conv("conv", skip, b.channels(skip), kernel=b.ones)
            skip = lower_after(b, skip, joint.style, Inherit(), NoActivation(), joint.path)
        if self.output == "conv_norm":
            return skip
        return self._unit(b, "output_unit", skip, joint)


class NoFusion(Options):
    """The skip is dropped: the decoder goes on alone."""

    type: Literal["none"] = "none"

    def lower(self, b: Builder, joint: Joint) -> int:
        return joint.up


AnyFusion = Concat | ConcatBottleneck | Add | AttentionGate | NoFusion
Fusion = TypeAliasType("Fusion", Annotated[AnyFusion, Field(discriminator="type"), Shorthand])

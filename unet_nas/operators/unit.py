"""The convolution unit (convolution, norm, activation, dropout) and the parts it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, get_args

from pydantic import Field
from typing_extensions import TypeAliasType

from unet_nas.errors import Path
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Builder
from unet_nas.operators.fields import (
    Channels,
    Extent,
    Flag,
    Options,
    Padding,
    PadModeName,
    Positive,
    Rate,
    Shorthand,
    Width,
    width_of,
)

#: positions of dropout that have a meaning for stages only
_OF_STAGES = ("between", "stage_end")

#: gives the path of a field in the file; called only where there is a fault to report
FieldPath = Callable[[str], Path]

Eps = Annotated[float, Field(strict=True, gt=0, le=1)]


# --- norms ------------------------------------------------------------------------------


class NoNorm(Options):
    """No normalisation."""

    type: Literal["none"] = "none"

    def lower(self, b: Builder, x: int, name: str, path: FieldPath) -> int:
        return x


class BatchNorm(Options):
    """Batch normalisation over batch and positions (Ioffe and Szegedy 2015)."""

    type: Literal["batch"] = "batch"
    affine: Flag = Field(True, description="learn a scale and a shift per channel")
    eps: Eps = Field(1e-5, description="added to the variance")

    def lower(self, b: Builder, x: int, name: str, path: FieldPath) -> int:
        return b.add(name, p.BatchNorm(b.channels(x), self.eps, self.affine), x)


class InstanceNorm(Options):
    """Instance normalisation over the positions of each map (Ulyanov et al. 2016)."""

    type: Literal["instance"] = "instance"
    affine: Flag = Field(True, description="learn a scale and a shift per channel")
    eps: Eps = Field(1e-5, description="added to the variance")

    def lower(self, b: Builder, x: int, name: str, path: FieldPath) -> int:
        return b.add(name, p.InstanceNorm(b.channels(x), self.eps, self.affine), x)


class GroupNorm(Options):
    """Group normalisation over groups of channels and the positions (Wu and He 2018)."""

    type: Literal["group"] = "group"
    groups: Channels = Field(8, description="number of groups; must divide the channels")
    group_width: Channels | None = Field(
        None, description="channels per group, in place of `groups`; must divide the channels"
    )
    fewer_channels: Literal["refuse", "one_group"] = Field(
        "refuse", description="one_group: where there are fewer channels than groups"
    )
    affine: Flag = Field(True, description="learn a scale and a shift per channel")
    eps: Eps = Field(1e-5, description="added to the variance")

    def lower(self, b: Builder, x: int, name: str, path: FieldPath) -> int:
        channels, width = b.channels(x), self.group_width
        given = self.groups if width is None else width
        if channels < given and self.fewer_channels == "one_group":
            groups = 1
        else:
            groups = given if width is None else max(1, channels // width)
            if channels % given:
                field = "groups" if width is None else "group_width"
                rule = f"must divide the {channels} channels normalised"
                nearest = next(n for n in range(min(given, channels), 0, -1) if channels % n == 0)
                b.fault((*path("norm"), field), rule, given, f"use {nearest}")
        return b.add(name, p.GroupNorm(groups, channels, self.eps, self.affine), x)


class LayerNorm(Options):
    """Layer normalisation over all channels and positions of a sample (Ba et al. 2016)."""

    type: Literal["layer"] = "layer"
    affine: Flag = Field(True, description="learn a scale and a shift per channel")
    eps: Eps = Field(1e-5, description="added to the variance")

    def lower(self, b: Builder, x: int, name: str, path: FieldPath) -> int:
        return b.add(name, p.GroupNorm(1, b.channels(x), self.eps, self.affine), x)


AnyNorm = NoNorm | BatchNorm | InstanceNorm | GroupNorm | LayerNorm
Norm = TypeAliasType("Norm", Annotated[AnyNorm, Field(discriminator="type"), Shorthand])


# primitives without options are all alike: one of each will do
_RELU, _SILU = p.Activation("ReLU"), p.Activation("SiLU")
_GELU, _MISH = p.Activation("GELU"), p.Activation("Mish")

# --- activations ------------------------------------------------------------------------

# These have no option, so one node's primitive serves all.
_RELU = p.Activation("ReLU")
_SILU = p.Activation("SiLU")
_GELU = p.Activation("GELU")
_MISH = p.Activation("Mish")


class NoActivation(Options):
    """The identity."""

    type: Literal["none"] = "none"

    def lower(self, b: Builder, x: int, name: str) -> int:
        return x


class ReLU(Options):
    """max(0, x) (Nair and Hinton 2010)."""

    type: Literal["relu"] = "relu"

    def lower(self, b: Builder, x: int, name: str) -> int:
        return b.add(name, _RELU, x)


class LeakyReLU(Options):
    """x, or slope times x where x is negative (Maas et al. 2013)."""

    type: Literal["leaky_relu"] = "leaky_relu"
    slope: Annotated[float, Field(strict=True, gt=0, lt=1)] = Field(
        0.01, description="slope for negative values"
    )

    def lower(self, b: Builder, x: int, name: str) -> int:
        return b.add(name, p.Activation("LeakyReLU", self.slope), x)


class ELU(Options):
    """x, or alpha (exp(x) - 1) where x is negative (Clevert et al. 2016)."""

    type: Literal["elu"] = "elu"
    alpha: Positive = Field(1.0, description="value approached at minus infinity, negated")

    def lower(self, b: Builder, x: int, name: str) -> int:
        return b.add(name, p.Activation("ELU", self.alpha), x)


class PReLU(Options):
    """x, or a learnt slope times x where x is negative (He et al. 2015)."""

    type: Literal["prelu"] = "prelu"
    per_channel: Flag = Field(False, description="one slope per channel instead of one in all")
    init: Annotated[float, Field(strict=True, ge=0, le=1)] = Field(
        0.25, description="initial slope"
    )

    def lower(self, b: Builder, x: int, name: str) -> int:
        slopes = b.channels(x) if self.per_channel else 1
        return b.add(name, p.PReLU(slopes, self.init), x)


class SiLU(Options):
    """x sigmoid(x), also called swish (Elfwing et al. 2018)."""

    type: Literal["silu"] = "silu"

    def lower(self, b: Builder, x: int, name: str) -> int:
        return b.add(name, _SILU, x)


class GELU(Options):
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016)."""

    type: Literal["gelu"] = "gelu"

    def lower(self, b: Builder, x: int, name: str) -> int:
        return b.add(name, _GELU, x)


class Mish(Options):
    """x tanh(softplus(x)) (Misra 2019)."""

    type: Literal["mish"] = "mish"

    def lower(self, b: Builder, x: int, name: str) -> int:
        return b.add(name, _MISH, x)


AnyActivation = NoActivation | ReLU | LeakyReLU | ELU | PReLU | SiLU | GELU | Mish
Activation = TypeAliasType(
    "Activation", Annotated[AnyActivation, Field(discriminator="type"), Shorthand]
)


class Inherit(Options):
    """The norm, activation or dropout of the stage that the operator leads to."""

    type: Literal["inherit"] = "inherit"


NormOrInherit = TypeAliasType(
    "NormOrInherit", Annotated[Inherit | AnyNorm, Field(discriminator="type"), Shorthand]
)
ActivationOrInherit = TypeAliasType(
    "ActivationOrInherit",
    Annotated[Inherit | AnyActivation, Field(discriminator="type"), Shorthand],
)


# --- dropout ----------------------------------------------------------------------------


class NoDropout(Options):
    """No dropout."""

    type: Literal["none"] = "none"


class _Dropout(Options):
    rate: Rate = Field(0.1, description="share that is dropped; 0 makes no dropout")
    position: Literal["end", "after_conv", "after_norm", "before_conv", "between", "stage_end"] = (
        Field(
            "end",
            description="where in each convolution unit it stands; between: after each unit but "
            "the last of a stage or residual unit; stage_end: once, after the stage",
        )
    )


class ElementDropout(_Dropout):
    """Drops single elements (Srivastava et al. 2014)."""

    type: Literal["element"] = "element"


class ChannelDropout(_Dropout):
    """Drops whole channels (Tompson et al. 2015)."""

    type: Literal["channel"] = "channel"


AnyDropout = NoDropout | ElementDropout | ChannelDropout
Dropout = TypeAliasType("Dropout", Annotated[AnyDropout, Field(discriminator="type"), Shorthand])
DropoutOrInherit = TypeAliasType(
    "DropoutOrInherit", Annotated[Inherit | AnyDropout, Field(discriminator="type"), Shorthand]
)

Order = Literal[
    "conv-norm-act",
    "conv-act-norm",
    "norm-act-conv",
    "norm-conv-act",
    "act-norm-conv",
    "act-conv-norm",
]


# --- the unit ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Style:
    """How the convolution units of one stage look, with every field resolved.

    ``words`` is the order, ``path`` gives the path of a field in the file, for faults.
    """

    norm: AnyNorm
    activation: AnyActivation
    dropout: AnyDropout
    bias: bool
    padding_mode: PadModeName
    path: FieldPath
    words: tuple[str, ...]

    @property
    def preactivated(self) -> bool:
        """Norm or activation stand before the convolution."""
        return self.words[0] != "conv"


def lower_dropout(b: Builder, x: int, dropout: AnyDropout, position: str) -> int:
    """Adds the dropout if this is its position and its rate is not zero."""
    if dropout.type == "none" or dropout.position != position or dropout.rate == 0:
        return x
    return b.add("dropout", p.Dropout(dropout.rate, dropout.type == "channel"), x)


def lower_unit(
    b: Builder,
    x: int,
    style: Style,
    conv: Callable[[int], int],
    *,
    norm: bool = True,
    act: bool = True,
    lead: bool = True,
) -> int:
    """Adds one convolution unit: the convolution with what stands before and after it.

    Args:
        b: the builder.
        x: the node read.
        style: order, norm, activation and dropout.
        conv: adds the convolution itself and returns its node.
        norm: False leaves the norm out.
        act: False leaves the activation out.
        lead: False leaves out all that stands before the convolution.

    Returns:
        The last node of the unit.
    """
    dropout = style.dropout
    drop = dropout.type != "none"
    before = True
    for word in style.words:
        if word == "conv":
            x = lower_dropout(b, x, dropout, "before_conv") if drop else x
            x = conv(x)
            x = lower_dropout(b, x, dropout, "after_conv") if drop else x
            before = False
        elif before and not lead:
            continue
        elif word == "norm":
            x = style.norm.lower(b, x, "norm", style.path) if norm else x
            x = lower_dropout(b, x, dropout, "after_norm") if drop else x
        elif act:
            x = style.activation.lower(b, x, "act")
    return lower_dropout(b, x, dropout, "end") if drop else x


def lower_after(
    b: Builder,
    x: int,
    style: Style,
    norm: Inherit | AnyNorm,
    activation: Inherit | AnyActivation,
    path: Path,
) -> int:
    """Adds an operator's own norm and activation after its convolution."""
    if isinstance(norm, Inherit):
        x = style.norm.lower(b, x, "norm", style.path)
    else:
        x = norm.lower(b, x, "norm", lambda field: (*path, field))
    own = style.activation if isinstance(activation, Inherit) else activation
    return own.lower(b, x, "act")


class Own(Protocol):
    """An operator between two stages with a convolution unit of its own."""

    @property
    def norm(self) -> Inherit | AnyNorm: ...
    @property
    def activation(self) -> Inherit | AnyActivation: ...
    @property
    def dropout(self) -> Inherit | AnyDropout: ...
    @property
    def order(self) -> Order: ...
    @property
    def bias(self) -> bool: ...


def lower_own(
    b: Builder, x: int, style: Style, own: Own, conv: Callable[[int], int], path: Path
) -> int:
    """Adds an operator's convolution with its own norm, activation and dropout.

    Args:
        b: the builder.
        x: the node read.
        style: of the stage, for what is inherited.
        own: the operator.
        conv: adds the convolution itself and returns its node.
        path: of the operator in the file.
    """
    norm, activation, dropout = own.norm, own.activation, own.dropout
    if norm.type == "none" and activation.type == "none" and dropout.type == "none":
        return conv(x)
    if not isinstance(dropout, Inherit | NoDropout) and dropout.position in _OF_STAGES:
        rule = "must not be between or stage_end in an operator, which has one convolution"
        b.fault((*path, "dropout", "position"), rule, dropout.position, "use end")
    inherits = isinstance(norm, Inherit)
    unit = Style(
        norm=style.norm if isinstance(norm, Inherit) else norm,
        activation=style.activation if isinstance(activation, Inherit) else activation,
        dropout=style.dropout if isinstance(dropout, Inherit) else dropout,
        bias=own.bias,
        padding_mode=style.padding_mode,
        path=style.path if inherits else lambda field: (*path, field),
        words=tuple(own.order.split("-")),
    )
    return lower_unit(b, x, unit, conv)


class ConvUnit(Options):
    """One convolution with norm and activation."""

    features: Width | None = Field(
        None, description="channels, or a ratio of those there; null: as many"
    )
    kernel_size: Extent = Field(3, description="size of the kernel")
    padding: Padding = Field("same", description="padding of the convolution")
    bias: Flag = Field(True, description="the convolution has a bias")
    norm: NormOrInherit = Field(Inherit.model_construct(), description="norm of the convolution")
    activation: ActivationOrInherit = Field(Inherit.model_construct(), description="its activation")
    dropout: DropoutOrInherit = Field(NoDropout.model_construct(), description="its dropout")
    order: Order = Field("conv-norm-act", description="order of the convolution and these")

    def lower(self, b: Builder, x: int, style: Style, features: int, path: Path) -> int:
        """Adds the unit on ``x``; ``features`` is the number of channels that is the default."""
        padding = self.padding

        def conv(y: int) -> int:
            return b.conv(
                "conv",
                y,
                width_of(self.features, features, features),
                kernel=b.axes(self.kernel_size, (*path, "kernel_size")),
                padding=padding
                if isinstance(padding, str)
                else b.axes(padding, (*path, "padding")),
                mode=style.padding_mode,
                bias=self.bias,
            )

        return lower_own(b, x, style, self, conv, path)


def members(union: object) -> tuple[type[Options], ...]:
    """Returns the operators of a union such as ``Norm``; the union is the registry."""
    union = getattr(union, "__value__", union)  # of a type alias
    inner = get_args(union)[0] if hasattr(union, "__metadata__") else union
    return get_args(inner) or (inner,)

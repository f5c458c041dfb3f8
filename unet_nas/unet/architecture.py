"""The schema of the section ``architecture:``: one U-Net, described completely.

Stage 0 is full resolution; every list is indexed by resolution, the decoder's too. The fields
of :class:`StageOptions` hold for the whole network when written at the top (a list then has
depth + 1 entries, the last for the bottleneck); ``encoder``, ``bottleneck`` and ``decoder``
override them for their part (with lists of depth, 1 and depth entries).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from typing_extensions import TypeAliasType

from unet_nas.errors import Fault, Path
from unet_nas.operators.block import Block, Plain, SqueezeExcitation
from unet_nas.operators.downsample import Downsample, MaxPool
from unet_nas.operators.fields import (
    MAX_CHANNELS,
    Channels,
    CountOrZero,
    Extent,
    Flag,
    Options,
    Padding,
    PadModeName,
    PerStage,
    Positive,
    Stages,
    width_of,
)
from unet_nas.operators.fusion import Alignment, Concat, Fusion
from unet_nas.operators.fusion import Strict as StrictAlignment
from unet_nas.operators.head import ConvHead, Head, Stem
from unet_nas.operators.unit import (
    Activation,
    BatchNorm,
    Dropout,
    NoDropout,
    Norm,
    Order,
    ReLU,
)
from unet_nas.operators.upsample import TransposedConv, Upsample
from unet_nas.text.validation import faults_error

if TYPE_CHECKING:
    from unet_nas.operators.builder import Graph

Part = Literal["encoder", "bottleneck", "decoder"]
PARTS: tuple[Part, ...] = ("encoder", "bottleneck", "decoder")


def _conv_features_kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "list"
    return "ratio" if isinstance(value, float) else "channels"


#: widths of a stage's convolutions but the last: one number or ratio for all, or a list
ConvFeatures = TypeAliasType(
    "ConvFeatures",
    Annotated[
        Annotated[Channels, Tag("channels")]
        | Annotated[Positive, Tag("ratio")]
        | Annotated[tuple[Channels, ...], Tag("list")],
        Discriminator(_conv_features_kind),
    ],
)


def _fuse_kind(value: Any) -> str:
    return "word" if isinstance(value, str) else "convs"


#: where in a decoder stage the skip joins
Fuse = Annotated[
    Annotated[Literal["before_block", "after_block"], Tag("word")]
    | Annotated[CountOrZero, Tag("convs")],
    Discriminator(_fuse_kind),
]

#: the kernel of each convolution of a stage in turn
ConvKernels = Annotated[tuple[Extent, ...], Tag("list")]


class StageOptions(Options):
    """What the convolutions of a stage look like; every field per stage or for all."""

    block: PerStage[Block] = Field(
        Plain.model_construct(), description="what a stage's convolutions form"
    )
    convs: PerStage[CountOrZero] = Field(
        2, description="convolutions of kernel_size per stage; 0 passes the map through"
    )
    conv_features: PerStage[ConvFeatures | None] = Field(
        None,
        description="channels of a stage's convolutions but the last, as a number, a ratio of "
        "the stage's features, or a list; null: the stage's features",
    )
    kernel_size: PerStage[Extent] = Field(3, description="size of the kernels, as 3 or 1x3x3")
    conv_kernels: PerStage[ConvKernels | None] = Field(
        None,
        description="kernel of each of a stage's convolutions in turn, as [1x3x3, 3]; null: "
        "kernel_size",
    )
    dilation: PerStage[Extent] = Field(1, description="spacing of kernel elements")
    groups: PerStage[Channels] = Field(1, description="groups of channels in convolutions")
    padding: PerStage[Padding] = Field(
        "same",
        description="same (the output is ceil(n / stride); an even kernel pads one more at the "
        "end), valid (none), or positions at both ends",
    )
    padding_mode: PerStage[PadModeName] = Field("zeros", description="what is padded")
    norm: PerStage[Norm] = Field(BatchNorm.model_construct(), description="normalisation")
    activation: PerStage[Activation] = Field(ReLU.model_construct(), description="activation")
    order: PerStage[Order] = Field(
        "conv-norm-act", description="order in each unit; norm-act-conv is pre-activation"
    )
    first_preactivation: PerStage[Flag] = Field(
        True, description="false: nothing before a stage's first convolution"
    )
    dropout: PerStage[Dropout] = Field(
        NoDropout.model_construct(), description="dropout in each unit"
    )
    bias: PerStage[Flag] = Field(True, description="the convolutions have a bias")
    squeeze_excitation: PerStage[SqueezeExcitation | None] = Field(
        None, description="channel attention at the end of a stage or residual unit"
    )


STAGE_FIELDS = tuple(StageOptions.model_fields)
#: stage options that take one number per axis, which is not the same as one per stage
PER_AXIS_FIELDS = ("kernel_size", "dilation", "padding")
#: fields of a network with one value per down-sampling
OPERATOR_FIELDS = ("down", "up", "fusion", "align", "skip_after", "fuse")


@dataclass(slots=True)
class Lowered:
    """Given as the context of a validation, takes the graph that it made.

    Validation lowers an architecture to find faults; who judges thousands need not do so again.
    """

    graph: Graph | None = None


class DecoderOptions(StageOptions):
    """Options of the decoder's stages, where they differ from the network's."""

    features: tuple[Channels, ...] | None = Field(
        None, description="channels per decoder stage; null: those of the encoder"
    )


class Architecture(StageOptions):
    """One U-Net, described completely; see the fields for their defaults."""

    spatial_dims: Annotated[int, Strict(), Field(ge=1, le=3)] = Field(
        2, description="1 for signals, 2 for images, 3 for volumes"
    )
    in_channels: Channels = Field(1, description="channels of the input")
    classes: Channels = Field(2, description="channels of the output")
    depth: Annotated[int, Strict(), Field(ge=1, le=8)] = Field(
        4, description="number of down-samplings"
    )
    width: Channels = Field(64, description="features of stage 0")
    growth: Annotated[float, Field(gt=0, le=16)] = Field(
        2.0,
        description="features of stage i are width * growth^i, rounded half up (at least 1), "
        "then cut at max_width",
    )
    max_width: Channels | None = Field(None, description="upper limit of the features")
    features: tuple[Channels, ...] | None = Field(
        None, description="features of every stage, in place of width, growth and max_width"
    )
    encoder: StageOptions = Field(
        StageOptions.model_construct(), description="overrides for the encoder"
    )
    bottleneck: StageOptions = Field(
        StageOptions.model_construct(), description="overrides for the bottleneck"
    )
    decoder: DecoderOptions = Field(
        DecoderOptions.model_construct(), description="overrides for the decoder"
    )
    stem: Stem | None = Field(None, description="a convolution before the first stage")
    down: PerStage[Downsample] = Field(
        MaxPool.model_construct(), description="down-sampling below stage i"
    )
    up: PerStage[Upsample] = Field(
        TransposedConv.model_construct(), description="up-sampling to stage i"
    )
    fusion: PerStage[Fusion] = Field(
        Concat.model_construct(), description="how stage i takes in its skip"
    )
    align: PerStage[Alignment] = Field(
        StrictAlignment.model_construct(), description="what happens where the skip's size differs"
    )
    skip_after: PerStage[CountOrZero | None] = Field(
        None,
        description="the skip leaves encoder stage i after this many of its convolutions; "
        "null: after all (Wave-U-Net keeps one for after it)",
    )
    fuse: PerStage[Fuse] = Field(
        "before_block",
        description="the skip joins before or after the decoder stage's block, or after this "
        "many of its convolutions",
    )
    head: Head = Field(
        ConvHead.model_construct(), description="from the last decoder stage to the classes"
    )
    deep_supervision: Annotated[int, Strict(), Field(ge=0, le=7)] = Field(
        0, description="heads on decoder stages 1 to this, returned after the main output"
    )

    if not TYPE_CHECKING:  # mypy's plug-in derives the signature from the fields

        def __init__(self, /, **fields: Any) -> None:
            """Checks fields that come from Python.

            Raises:
                DocumentError: with a sentence for each fault.
            """
            try:
                super().__init__(**fields)
            except ValidationError:
                from unet_nas.text import error_of  # noqa: PLC0415 - most architectures are right

                raise error_of(fields, Architecture) from None

        # pydantic's own mark: files and trees are validated as if this were not here
        __init__.__pydantic_base_init__ = True

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        faults = list(_shape_faults(self))
        if not faults:
            from unet_nas.unet.graph import lower_with_faults  # noqa: PLC0415 - graph imports this module

            graph, faults = lower_with_faults(self)
            if isinstance(info.context, Lowered):
                info.context.graph = graph
        if faults:
            summary = "; ".join(_sentence(fault) for fault in faults)
            raise faults_error(faults, summary)
        return self

    def features_per_stage(self) -> tuple[int, ...]:
        """Returns the features of stages 0 to depth (the bottleneck)."""
        if self.features is not None:
            return self.features
        widths = [max(1, floor(self.width * self.growth**i + 0.5)) for i in range(self.depth + 1)]
        limit = self.max_width
        return tuple(widths if limit is None else [min(width, limit) for width in widths])

    def decoder_features(self) -> tuple[int, ...]:
        """Returns the features of decoder stages 0 to depth - 1."""
        return self.decoder.features or self.features_per_stage()[: self.depth]

    def digest(self) -> str:
        """Returns a SHA-256 of the lowered graph: equal networks have equal digests."""
        from unet_nas.unet.graph import lower  # noqa: PLC0415 - graph imports this module

        return lower(self).digest()


def _sentence(fault: Fault) -> str:
    place = ".".join(map(str, fault.path)) or "architecture"
    fix = f" ({fault.fix})" if fault.fix else ""
    return f"{place}: {fault.rule}, got {fault.got}{fix}"


# --- values per stage -------------------------------------------------------------------


def stage_options(architecture: Architecture, part: Part, stage: int) -> dict[str, Any]:
    """Returns every stage option by name: the part's own where written, else the network's."""
    section = getattr(architecture, part)
    own = section.model_fields_set
    values = {}
    for field in STAGE_FIELDS:
        value = getattr(section if field in own else architecture, field)
        if type(value) is Stages:
            value = value[0 if part == "bottleneck" and field in own else stage]
        values[field] = value
    return values


def varies(architecture: Architecture, part: Part) -> bool:
    """Tells whether any stage option of a part is a list, so that its stages can differ."""
    sections = (architecture, getattr(architecture, part))
    return any(Stages in map(type, section.__dict__.values()) for section in sections)


def option_path(architecture: Architecture, part: Part, stage: int, field: str) -> Path:
    """Returns the path of the value that :func:`stage_options` returns for ``field``."""
    section = getattr(architecture, part)
    own = field in section.model_fields_set
    value = getattr(section if own else architecture, field)
    path: Path = (part, field) if own else (field,)
    if type(value) is not Stages:
        return path
    return (*path, 0 if own and part == "bottleneck" else stage)


def per_stage(architecture: Architecture, field: str, stage: int) -> tuple[Any, Path]:
    """Returns a field of :data:`OPERATOR_FIELDS` at a stage, and its path."""
    value = getattr(architecture, field)
    return (value[stage], (field, stage)) if type(value) is Stages else (value, (field,))


# --- rules between fields that need no graph ---------------------------------------------


def _shape_faults(a: Architecture) -> Iterator[Fault]:
    yield from _width_faults(a)
    yield from _length_faults(a, (), a.depth + 1, STAGE_FIELDS, "depth + 1")
    yield from _length_faults(a, (), a.depth, OPERATOR_FIELDS, "depth")
    parts = (("encoder", a.depth, "depth"), ("bottleneck", 1, "one"), ("decoder", a.depth, "depth"))
    for part, count, rule in parts:
        section = getattr(a, part)
        yield from _length_faults(section, (part,), count, STAGE_FIELDS, rule)
    if a.decoder.features is not None and len(a.decoder.features) != a.depth:
        yield _length_fault(("decoder", "features"), a.depth, "depth", a.decoder.features)
    if a.deep_supervision >= a.depth:
        rule = (
            f"must be below the depth {a.depth}: decoder stages 1 to {a.depth - 1} can have heads"
        )
        fix, reads = f"use {a.depth - 1}", (("depth",),)
        yield Fault(("deep_supervision",), rule, str(a.deep_supervision), fix, reads)


def _width_faults(a: Architecture) -> Iterator[Fault]:
    if a.features is not None:
        if len(a.features) != a.depth + 1:
            yield _length_fault(("features",), a.depth + 1, "depth + 1", a.features)
        both = sorted(a.model_fields_set & {"width", "growth", "max_width"})
        for field in both:
            rule = "must be left out where the list `features` is given"
            yield Fault((field,), rule, str(getattr(a, field)), f"remove {field} or features")
    elif max(a.features_per_stage()) > MAX_CHANNELS:
        rule = f"must give at most {MAX_CHANNELS} features at every stage"
        widest = max(a.features_per_stage())
        field = "growth"
        reads: tuple[Path, ...] = (("width",), ("growth",), ("depth",), ("max_width",))
        yield Fault((field,), rule, f"{widest} at stage {a.depth}", "set max_width", reads)
    if a.max_width is not None and a.features is None and a.max_width < a.width:
        rule = f"must be at least the width {a.width}"
        yield Fault(("max_width",), rule, str(a.max_width), f"use {a.width}", (("width",),))


def _length_faults(
    section: Options, prefix: Path, count: int, fields: tuple[str, ...], rule: str
) -> Iterator[Fault]:
    for field in fields:
        value = getattr(section, field)
        if type(value) is Stages and len(value) != count:
            yield _length_fault((*prefix, field), count, rule, value)


def _length_fault(path: Path, count: int, rule: str, value: tuple[Any, ...]) -> Fault:
    entries = "entry" if count == 1 else "entries"
    length = f"{count} {entries}" if rule == "one" else f"{count} {entries} ({rule})"
    rule = f"must have {length}, one per stage, full resolution first"
    fix = "a single value stands for all stages" if path[-1] != "features" else None
    if path[-1] in PER_AXIS_FIELDS and 1 < len(value) <= 3:
        one = "x".join(map(str, value))
        fix = f"for one number per axis at every stage write {one}"
    return Fault(path, rule, str(len(value)), fix, reads=(("depth",),))


def conv_widths(
    convs: int, inner: int | float | tuple[int, ...] | None, features: int
) -> tuple[int, ...] | None:
    """Returns the output channels of each convolution of a stage; None where a list misfits.

    >>> conv_widths(2, 0.5, 64), conv_widths(3, (48, 48), 64), conv_widths(2, None, 64)
    ((32, 64), (48, 48, 64), (64, 64))
    """
    if convs == 0:
        return ()
    if not isinstance(inner, tuple):
        return (width_of(inner, features, features),) * (convs - 1) + (features,)
    return (*inner, features) if len(inner) == convs - 1 else None

"""Primitives: the nodes of a graph, and all that is known of each.

A primitive is one PyTorch module in the graph. It alone carries the rule for its output
size, its parameter and buffer counts, its multiply-accumulates (MACs), and the module that
it stands for (as data, a :class:`Call`). Whatever an operator, an audit or a drawing says
about a network follows from these rules, so nothing can disagree.

Sizes are Python integers, one spatial axis at a time: every rule here treats the axes
independently. Formulas for convolutions and pooling are those of the PyTorch documentation
(``torch.nn.Conv2d``, ``ConvTranspose2d``, ``MaxPool2d``, ``AvgPool2d``) and of Dumoulin and
Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Literal

Axes = tuple[int, ...]
PadMode = Literal["zeros", "reflect", "replicate", "circular"]
Reason = Literal["mismatch", "too_small", "pad_too_large", "not_divisible", "single_value"]
Argument = int | float | bool | str | None | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A module as data: ``Call("nn.ReLU", ())`` is ``nn.ReLU()``.

    Args:
        target: ``nn.NAME`` for a module of PyTorch, ``layers.NAME`` for one of
            :mod:`unet_nas.unet.layers`.
        arguments: keyword arguments in the order in which they are written.
    """

    target: str
    arguments: tuple[tuple[str, Argument], ...] = ()


class Misfit(Exception):  # noqa: N818 - a finding, not a failure
    """A map of this size cannot pass through this primitive.

    Args:
        reason: one of the reasons of rejection.
        got: the sizes met, one per input of the node.
        need: what must hold, as a clause ("at least 5 after padding").
        assume: the size with which checking goes on, or None where none makes sense.
    """

    def __init__(
        self, reason: Reason, got: Sequence[int], need: str, assume: int | None = None
    ) -> None:
        super().__init__(need)
        self.reason = reason
        self.got = tuple(got)
        self.need = need
        self.assume = assume


@dataclass(frozen=True, slots=True)
class Primitive:
    """What all primitives share; the defaults are those of a parameter-free map."""

    #: the output has the size of the first input, whatever that is
    keeps_size: ClassVar[bool] = False
    #: the primitive belongs to the conv family: its MACs are multiply-accumulates
    is_conv: ClassVar[bool] = False

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        """Returns the output size along ``axis`` from the inputs' sizes; raises Misfit."""
        return sizes[0]

    def out_channels(self, channels: Sequence[int]) -> int:
        """Returns the number of output channels from those of the inputs."""
        return channels[0]

    def parameters(self) -> int:
        """Returns the number of trainable parameters."""
        return 0

    def buffers(self) -> int:
        """Returns the number of elements in the module's buffers."""
        return 0

    def macs(self, in_positions: int, out_positions: int) -> int:
        """Returns multiply-accumulates per sample for the given numbers of positions."""
        return 0

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        """Returns operations besides the MACs.

        Args:
            dims: number of spatial dimensions.
            inputs: elements of each input.
            output: elements of the output.

        Convention: one per element for an activation, an addition, a product, a dropout or a
        bias; five for a norm with scale and shift and four without, as fvcore counts them;
        the window for pooling; the number of neighbours for interpolation. Moving elements
        (concat, crop, pad, shuffle) is none.
        """
        return 0

    def single_value(self, batch: int, channels: int, positions: int, training: bool) -> bool:
        """Tells whether PyTorch refuses to normalise because one value is left."""
        return False

    def call(self, dims: int) -> Call:
        """Returns the module for ``dims`` spatial dimensions."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Input(Primitive):
    """The network's input; always node 0."""

    channels: int
    keeps_size: ClassVar[bool] = True

    def out_channels(self, channels: Sequence[int]) -> int:
        return self.channels


@dataclass(frozen=True, slots=True)
class Conv(Primitive):
    """Convolution with zero padding.

    Output size ``(n + 2p - d(k - 1) - 1) // s + 1``; parameters
    ``out * (in // groups) * prod(k) + out * bias``; MACs ``out positions * out *
    (in // groups) * prod(k)`` (the bias is an addition and is not counted).
    Source: ``torch.nn.Conv2d``.

    >>> conv = Conv(1, 64, (3, 3), (1, 1), (0, 0), (1, 1), 1, True)
    >>> conv.size(0, [572]), conv.parameters(), conv.macs(572 * 572, 570 * 570)
    (570, 640, 187142400)
    """

    in_channels: int
    features: int
    kernel: Axes
    stride: Axes
    padding: Axes
    dilation: Axes
    groups: int
    bias: bool
    is_conv: ClassVar[bool] = True

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        out = (sizes[0] + 2 * self.padding[axis] - extent) // self.stride[axis] + 1
        if out < 1:
            need = f"at least {extent - 2 * self.padding[axis]}, the extent of its kernel"
            raise Misfit("too_small", sizes, need)
        return out

    def out_channels(self, channels: Sequence[int]) -> int:
        return self.features

    def parameters(self) -> int:
        weight = self.features * (self.in_channels // self.groups) * prod(self.kernel)
        return weight + self.features * self.bias

    def macs(self, in_positions: int, out_positions: int) -> int:
        per_position = self.features * (self.in_channels // self.groups) * prod(self.kernel)
        return out_positions * per_position

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output * self.bias

    def call(self, dims: int) -> Call:
        return Call(
            f"nn.Conv{dims}d",
            (
                ("in_channels", self.in_channels),
                ("out_channels", self.features),
                ("kernel_size", self.kernel),
                ("stride", self.stride),
                ("padding", self.padding),
                ("dilation", self.dilation),
                ("groups", self.groups),
                ("bias", self.bias),
            ),
        )


@dataclass(frozen=True, slots=True)
class ConvTranspose(Primitive):
    """Transposed convolution.

    Output size ``(n - 1)s - 2p + (k - 1) + output_padding + 1``; parameters
    ``in * (out // groups) * prod(k) + out * bias``; MACs ``in positions * in *
    (out // groups) * prod(k)``: each *input* element meets each kernel element once.
    Source: ``torch.nn.ConvTranspose2d``.

    >>> up = ConvTranspose(1024, 512, (2, 2), (2, 2), (0, 0), (0, 0), 1, True)
    >>> up.size(0, [28]), up.parameters(), up.macs(28 * 28, 56 * 56)
    (56, 2097664, 1644167168)
    """

    in_channels: int
    features: int
    kernel: Axes
    stride: Axes
    padding: Axes
    output_padding: Axes
    groups: int
    bias: bool
    is_conv: ClassVar[bool] = True

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        grown = (sizes[0] - 1) * self.stride[axis] + self.kernel[axis] + self.output_padding[axis]
        out = grown - 2 * self.padding[axis]
        if out < 1:
            need = f"more than {2 * self.padding[axis]} before its padding is taken off"
            raise Misfit("too_small", sizes, need)
        return out

    def out_channels(self, channels: Sequence[int]) -> int:
        return self.features

    def parameters(self) -> int:
        weight = self.in_channels * (self.features // self.groups) * prod(self.kernel)
        return weight + self.features * self.bias

    def macs(self, in_positions: int, out_positions: int) -> int:
        per_position = self.in_channels * (self.features // self.groups) * prod(self.kernel)
        return in_positions * per_position

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output * self.bias

    def call(self, dims: int) -> Call:
        return Call(
            f"nn.ConvTranspose{dims}d",
            (
                ("in_channels", self.in_channels),
                ("out_channels", self.features),
                ("kernel_size", self.kernel),
                ("stride", self.stride),
                ("padding", self.padding),
                ("output_padding", self.output_padding),
                ("groups", self.groups),
                ("bias", self.bias),
            ),
        )


@dataclass(frozen=True, slots=True)
class Blur(Primitive):
    """Fixed binomial low-pass filter with a stride: a depthwise convolution of a buffer.

    Output size ``(n - k) // s + 1``; no parameters; MACs ``out positions * channels *
    prod(k)``. Source: Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML
    2019, arXiv:1904.11486.

    >>> blur = Blur(8, (3,), (2,))
    >>> blur.size(0, [65]), blur.parameters(), blur.buffers(), blur.macs(65, 32)
    (32, 0, 24, 768)
    """

    channels: int
    kernel: Axes
    stride: Axes
    is_conv: ClassVar[bool] = True

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        out = (sizes[0] - self.kernel[axis]) // self.stride[axis] + 1
        if out < 1:
            need = f"at least {self.kernel[axis]}, the length of its filter"
            raise Misfit("too_small", sizes, need)
        return out

    def buffers(self) -> int:
        return self.channels * prod(self.kernel)

    def macs(self, in_positions: int, out_positions: int) -> int:
        return out_positions * self.channels * prod(self.kernel)

    def call(self, dims: int) -> Call:
        return Call(
            "layers.Blur",
            (("channels", self.channels), ("kernel_size", self.kernel), ("stride", self.stride)),
        )


@dataclass(frozen=True, slots=True)
class BatchNorm(Primitive):
    """Batch normalisation: 2C parameters; buffers 2C running statistics and one counter.

    In training a single value per channel cannot be normalised. Source: Ioffe and Szegedy,
    arXiv:1502.03167; ``torch.nn.BatchNorm2d``.

    >>> BatchNorm(64).parameters(), BatchNorm(64).buffers()
    (128, 129)
    """

    channels: int
    eps: float = 1e-5
    affine: bool = True
    keeps_size: ClassVar[bool] = True

    def parameters(self) -> int:
        return 2 * self.channels * self.affine

    def buffers(self) -> int:
        return 2 * self.channels + 1

    def single_value(self, batch: int, channels: int, positions: int, training: bool) -> bool:
        return training and batch * positions == 1

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output * (4 + self.affine)

    def call(self, dims: int) -> Call:
        return Call(
            f"nn.BatchNorm{dims}d",
            (("num_features", self.channels), ("eps", self.eps), ("affine", self.affine)),
        )


@dataclass(frozen=True, slots=True)
class InstanceNorm(Primitive):
    """Instance normalisation: 2C parameters where affine.

    One position per map cannot be normalised, in training or not. Source: Ulyanov et al.,
    arXiv:1607.08022; ``torch.nn.InstanceNorm2d``.

    >>> InstanceNorm(32).parameters(), InstanceNorm(32, affine=False).parameters()
    (64, 0)
    """

    channels: int
    eps: float = 1e-5
    affine: bool = True
    keeps_size: ClassVar[bool] = True

    def parameters(self) -> int:
        return 2 * self.channels * self.affine

    def single_value(self, batch: int, channels: int, positions: int, training: bool) -> bool:
        return positions == 1

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output * (4 + self.affine)

    def call(self, dims: int) -> Call:
        return Call(
            f"nn.InstanceNorm{dims}d",
            (("num_features", self.channels), ("eps", self.eps), ("affine", self.affine)),
        )


@dataclass(frozen=True, slots=True)
class GroupNorm(Primitive):
    """Group normalisation: 2C parameters; one group is layer normalisation.

    A batch in which each group is a single value in all is refused by PyTorch. Source: Wu
    and He, arXiv:1803.08494; Ba et al., arXiv:1607.06450; ``torch.nn.GroupNorm``.

    >>> GroupNorm(8, 64).parameters()
    128
    """

    groups: int
    channels: int
    eps: float = 1e-5
    affine: bool = True
    keeps_size: ClassVar[bool] = True

    def parameters(self) -> int:
        return 2 * self.channels * self.affine

    def single_value(self, batch: int, channels: int, positions: int, training: bool) -> bool:
        return batch * (self.channels // self.groups) * positions == 1

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output * (4 + self.affine)

    def call(self, dims: int) -> Call:
        return Call(
            "nn.GroupNorm",
            (
                ("num_groups", self.groups),
                ("num_channels", self.channels),
                ("eps", self.eps),
                ("affine", self.affine),
            ),
        )


ActivationKind = Literal[
    "ReLU", "LeakyReLU", "ELU", "SiLU", "GELU", "Mish", "Sigmoid", "Tanh", "Hardswish"
]

#: the keyword by which PyTorch calls the one number of an activation
_ACTIVATION_ARGUMENT = {"LeakyReLU": "negative_slope", "ELU": "alpha"}


@dataclass(frozen=True, slots=True)
class Activation(Primitive):
    """An element-wise activation without parameters. Source: ``torch.nn``.

    >>> Activation("LeakyReLU", 0.1).call(2)
    Call(target='nn.LeakyReLU', arguments=(('negative_slope', 0.1),))
    """

    kind: ActivationKind
    value: float | None = None
    keeps_size: ClassVar[bool] = True

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output

    def call(self, dims: int) -> Call:
        if self.value is None:
            return Call(f"nn.{self.kind}")
        return Call(f"nn.{self.kind}", ((_ACTIVATION_ARGUMENT[self.kind], self.value),))


@dataclass(frozen=True, slots=True)
class PReLU(Primitive):
    """Parametric ReLU with one slope, or one per channel. Source: He et al., arXiv:1502.01852.

    >>> PReLU(64, 0.25).parameters()
    64
    """

    slopes: int
    init: float
    keeps_size: ClassVar[bool] = True

    def parameters(self) -> int:
        return self.slopes

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output

    def call(self, dims: int) -> Call:
        return Call("nn.PReLU", (("num_parameters", self.slopes), ("init", self.init)))


@dataclass(frozen=True, slots=True)
class Dropout(Primitive):
    """Dropout of elements, or of whole channels. Source: ``torch.nn.Dropout``, ``Dropout2d``."""

    rate: float
    channels: bool
    keeps_size: ClassVar[bool] = True

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output

    def call(self, dims: int) -> Call:
        return Call(f"nn.Dropout{dims}d" if self.channels else "nn.Dropout", (("p", self.rate),))


def _pooled_size(n: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Returns the size after pooling; in ceil mode no window starts beyond the map."""
    span = n + 2 * padding - kernel
    if not ceil_mode:
        return span // stride + 1
    out = -(-span // stride) + 1
    return out - 1 if (out - 1) * stride >= n + padding else out


@dataclass(frozen=True, slots=True)
class MaxPool(Primitive):
    """Max pooling: output size ``(n + 2p - k) // s + 1``, rounded up in ceil mode.

    Source: ``torch.nn.MaxPool2d``.

    >>> pool = MaxPool((2, 2), (2, 2), (0, 0), False)
    >>> pool.size(0, [568]), pool.size(0, [45])
    (284, 22)
    """

    kernel: Axes
    stride: Axes
    padding: Axes
    ceil_mode: bool

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        kernel, padding = self.kernel[axis], self.padding[axis]
        out = _pooled_size(sizes[0], kernel, self.stride[axis], padding, self.ceil_mode)
        if out < 1:
            raise Misfit("too_small", sizes, f"at least {kernel - 2 * padding}, its window")
        return out

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output * prod(self.kernel)

    def call(self, dims: int) -> Call:
        return Call(
            f"nn.MaxPool{dims}d",
            (
                ("kernel_size", self.kernel),
                ("stride", self.stride),
                ("padding", self.padding),
                ("ceil_mode", self.ceil_mode),
            ),
        )


@dataclass(frozen=True, slots=True)
class AvgPool(Primitive):
    """Average pooling: sizes as for max pooling. Source: ``torch.nn.AvgPool2d``.

    In 3D PyTorch refuses a map that is smaller than the window even where padding would
    make up for it (``aten/src/ATen/native/Pool.h``, ``check_input_size``).

    >>> AvgPool((2,), (2,), (0,), False, True).size(0, [9])
    4
    """

    kernel: Axes
    stride: Axes
    padding: Axes
    ceil_mode: bool
    count_include_pad: bool

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        kernel, padding = self.kernel[axis], self.padding[axis]
        out = _pooled_size(sizes[0], kernel, self.stride[axis], padding, self.ceil_mode)
        if len(self.kernel) == 3 and sizes[0] < kernel:
            raise Misfit("too_small", sizes, f"at least {kernel}, its window")
        if out < 1:
            raise Misfit("too_small", sizes, f"at least {kernel - 2 * padding}, its window")
        return out

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output * prod(self.kernel)

    def call(self, dims: int) -> Call:
        return Call(
            f"nn.AvgPool{dims}d",
            (
                ("kernel_size", self.kernel),
                ("stride", self.stride),
                ("padding", self.padding),
                ("ceil_mode", self.ceil_mode),
                ("count_include_pad", self.count_include_pad),
            ),
        )


@dataclass(frozen=True, slots=True)
class GlobalAvgPool(Primitive):
    """The mean of each channel: every axis becomes 1. Source: ``torch.nn.AdaptiveAvgPool2d``."""

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return 1

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return inputs[0]

    def call(self, dims: int) -> Call:
        return Call(f"nn.AdaptiveAvgPool{dims}d", (("output_size", 1),))


_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True, slots=True)
class Interpolate(Primitive):
    """Nearest or (bi-, tri-)linear interpolation by an integer factor: output size ``n * f``.

    Source: ``torch.nn.Upsample``.

    >>> Interpolate("linear", (2, 2), True).size(0, [28])
    56
    """

    mode: Literal["nearest", "linear"]
    factor: Axes
    align_corners: bool

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return sizes[0] * self.factor[axis]

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output * (1 if self.mode == "nearest" else 2**dims)

    def call(self, dims: int) -> Call:
        factor = tuple(float(f) for f in self.factor)
        scale: tuple[str, Argument] = ("scale_factor", factor)  # type: ignore[assignment]
        if self.mode == "nearest":
            return Call("nn.Upsample", (scale, ("mode", "nearest")))
        aligned = ("align_corners", self.align_corners)
        return Call("nn.Upsample", (scale, ("mode", _LINEAR[dims]), aligned))


@dataclass(frozen=True, slots=True)
class ResizeTo(Primitive):
    """Interpolates the first map to the size of the second; equal sizes pass through."""

    mode: Literal["nearest", "linear"]
    align_corners: bool

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return sizes[1]

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        if inputs[0] == output:  # equal sizes pass through
            return 0
        return output * (1 if self.mode == "nearest" else 2**dims)

    def call(self, dims: int) -> Call:
        if self.mode == "nearest":
            return Call("layers.ResizeTo", (("mode", "nearest"),))
        return Call(
            "layers.ResizeTo", (("mode", _LINEAR[dims]), ("align_corners", self.align_corners))
        )


@dataclass(frozen=True, slots=True)
class PixelShuffle(Primitive):
    """Rearranges ``prod(f)`` channels into ``f`` times the size per axis.

    Source: Shi et al., arXiv:1609.05158; in 2D as ``torch.nn.PixelShuffle``.

    >>> PixelShuffle((2, 2)).out_channels([64]), PixelShuffle((2, 2)).size(0, [14])
    (16, 28)
    """

    factor: Axes

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return sizes[0] * self.factor[axis]

    def out_channels(self, channels: Sequence[int]) -> int:
        return channels[0] // prod(self.factor)

    def call(self, dims: int) -> Call:
        return Call("layers.PixelShuffle", (("factor", self.factor),))


@dataclass(frozen=True, slots=True)
class PixelUnshuffle(Primitive):
    """Rearranges each ``f``-wide cell into ``prod(f)`` channels; sizes must divide by ``f``.

    Source: the inverse of pixel shuffle; in 2D as ``torch.nn.PixelUnshuffle``.

    >>> PixelUnshuffle((2, 2)).out_channels([16]), PixelUnshuffle((2, 2)).size(0, [28])
    (64, 14)
    """

    factor: Axes

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        factor = self.factor[axis]
        if sizes[0] % factor:
            below = sizes[0] // factor
            raise Misfit("not_divisible", sizes, f"a multiple of {factor}", max(1, below))
        return sizes[0] // factor

    def out_channels(self, channels: Sequence[int]) -> int:
        return channels[0] * prod(self.factor)

    def call(self, dims: int) -> Call:
        return Call("layers.PixelUnshuffle", (("factor", self.factor),))


def _check_padding(mode: PadMode, widest: int, sizes: Sequence[int], out: int) -> None:
    """Raises Misfit where a map is too small to be padded with itself."""
    if mode == "reflect" and widest >= sizes[0]:
        raise Misfit("pad_too_large", sizes, f"more than its reflected {widest}", out)
    if mode == "circular" and widest > sizes[0]:
        raise Misfit("pad_too_large", sizes, f"at least its circular {widest}", out)


@dataclass(frozen=True, slots=True)
class Pad(Primitive):
    """Padding by fixed numbers at the two ends of each axis: output size ``n + low + high``.

    Reflection needs more positions than it adds at either end, circular padding at least as
    many. Source: ``torch.nn.functional.pad``.

    >>> Pad((0, 0), (1, 1), "zeros").size(0, [45])
    46
    """

    low: Axes
    high: Axes
    mode: PadMode

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        low, high = self.low[axis], self.high[axis]
        out = sizes[0] + low + high
        _check_padding(self.mode, max(low, high), sizes, out)
        return out

    def call(self, dims: int) -> Call:
        return Call("layers.Pad", (("low", self.low), ("high", self.high), ("mode", self.mode)))


@dataclass(frozen=True, slots=True)
class CropTo(Primitive):
    """Centre-crops the first map to the second wherever it is the larger of the two.

    >>> CropTo().size(0, [64, 56]), CropTo().size(0, [56, 64])
    (56, 56)
    """

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return min(sizes)

    def call(self, dims: int) -> Call:
        return Call("layers.CropTo")


@dataclass(frozen=True, slots=True)
class PadTo(Primitive):
    """Pads the first map to the second wherever it is the smaller of the two.

    ``side`` both puts the odd position at the end; the modes and their limits are those of
    :class:`Pad`.

    >>> PadTo("end", "replicate").size(0, [44, 45])
    45
    """

    side: Literal["both", "end"]
    mode: PadMode

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        missing = max(0, sizes[1] - sizes[0])
        widest = missing - missing // 2 if self.side == "both" else missing
        _check_padding(self.mode, widest, sizes, sizes[0] + missing)
        return sizes[0] + missing

    def call(self, dims: int) -> Call:
        return Call("layers.PadTo", (("side", self.side), ("mode", self.mode)))


def _equal_size(sizes: Sequence[int]) -> int:
    """Returns the size common to all inputs; raises Misfit where they differ."""
    first = sizes[0]
    for other in sizes[1:]:
        if other != first:
            raise Misfit("mismatch", sizes, "equal sizes", first)
    return first


@dataclass(frozen=True, slots=True)
class Concat(Primitive):
    """Concatenates maps of equal size along the channels. Source: ``torch.cat``."""

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return _equal_size(sizes)

    def out_channels(self, channels: Sequence[int]) -> int:
        return sum(channels)

    def call(self, dims: int) -> Call:
        return Call("layers.Concat")


@dataclass(frozen=True, slots=True)
class Add(Primitive):
    """Adds maps of equal size and channels; unequal ones are an error, never broadcast."""

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return _equal_size(sizes)

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return sum(inputs) - output

    def call(self, dims: int) -> Call:
        return Call("layers.Add")


@dataclass(frozen=True, slots=True)
class Gate(Primitive):
    """Multiplies the first map by a one-channel map of equal size (attention coefficients)."""

    def size(self, axis: int, sizes: Sequence[int]) -> int:
        return _equal_size(sizes)

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output

    def call(self, dims: int) -> Call:
        return Call("layers.Gate")


@dataclass(frozen=True, slots=True)
class Scale(Primitive):
    """Multiplies each channel of the first map by one number of the second (1 per axis)."""

    keeps_size: ClassVar[bool] = True

    def elementwise(self, dims: int, inputs: Sequence[int], output: int) -> int:
        return output

    def call(self, dims: int) -> Call:
        return Call("layers.Scale")

"""The memory tape of every primitive: the PyTorch calls that its module makes, one entry each.

An entry turns the inputs of a node into its output on a simulated process (`operators.eager`)
with the calls of `operators.aten`, in the order of the module's ``forward``. What autograd keeps,
what backward allocates and when it is freed follows from those calls. `TAPE` has an entry for
every primitive; a test compares it with the primitives that exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from unet_nas.operators import aten
from unet_nas.operators import primitives as p
from unet_nas.operators.eager import Eager, Tensor

Sizes = tuple[int, ...]

_FULL_BYTES = 4
#: activations by what they save, and whether they can really work in place
_SAVES = {
    "ReLU": "output",
    "Sigmoid": "output",
    "Tanh": "output",
    "LeakyReLU": "input",
    "ELU": "input",
    "SiLU": "input",
    "GELU": "input",
    "Mish": "input",
    "Hardswish": "input",
}


@dataclass(slots=True)
class Mode:
    """How the network runs.

    Attributes:
        batch: Samples per step.
        training: Training mode (batch statistics, dropout).
        autocast_bytes: Element width of convolutions under autocast, or None without it.
        device: Whose operators: ``"cpu"`` or ``"cuda"`` keep different masks and conversions.
        casts: Converted weights, kept until the autocast region ends, by the weight's identity.
    """

    batch: int
    training: bool
    autocast_bytes: int | None
    device: str
    casts: dict[int, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class Site:
    """One node where it stands: its primitive, its weights, and the sizes of its maps.

    Attributes:
        primitive: What it does.
        inputs: Spatial sizes of its inputs.
        size: Spatial size of its output.
        elements: Elements of its output, with batch and channels.
        channels: Channels of its first input.
        weights: Its parameters, in the module's order.
        buffers: Its buffers, in the module's order.
        in_place: Whether the activation overwrites its input.
        on_view: Whether that input is a view, as instance norm returns one.
    """

    primitive: p.Primitive
    inputs: tuple[Sizes, ...]
    size: Sizes
    elements: int
    channels: int
    weights: tuple[Tensor, ...] = ()
    buffers: tuple[Tensor, ...] = ()
    in_place: bool = False
    on_view: bool = False


Entry = Callable[[Eager, Mode, Site, Sequence[Tensor]], Tensor]


def weight_elements(primitive: p.Primitive) -> tuple[int, ...]:
    """Returns the elements of each parameter tensor of a primitive, in the module's order.

    >>> weight_elements(p.Conv(1, 64, (3, 3), (1, 1), (0, 0), (1, 1), 1, True))
    (576, 64)
    """
    total = primitive.parameters()
    match primitive:
        case p.Conv() | p.ConvTranspose():
            return (total - primitive.features, primitive.features) if primitive.bias else (total,)
        case p.BatchNorm() | p.InstanceNorm() | p.GroupNorm():
            return (total // 2, total // 2) if total else ()
    return (total,) if total else ()


def buffer_elements(primitive: p.Primitive) -> tuple[int, ...]:
    """Returns the elements of each floating-point buffer of a primitive (the counter is apart)."""
    match primitive:
        case p.BatchNorm():
            return (primitive.channels, primitive.channels)
    return (primitive.buffers(),) if primitive.buffers() else ()


# --- conversions by autocast -----------------------------------------------------------------


def _lowered(eager: Eager, mode: Mode, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Converts arguments as autocast does, the last first.

    In training each weight is converted once per autocast region; in inference mode at each use.
    """
    if mode.autocast_bytes is None:
        return [eager.view(tensor) for tensor in tensors]
    converted = [_converted(eager, mode, tensor) for tensor in reversed(tensors)]
    return converted[::-1]


def _converted(eager: Eager, mode: Mode, tensor: Tensor) -> Tensor:
    assert mode.autocast_bytes is not None
    if tensor.itemsize == mode.autocast_bytes:
        return eager.view(tensor)
    if tensor.storage.kind != "parameters" or not mode.training:
        return aten.cast(eager, tensor, mode.autocast_bytes)
    key = id(tensor)
    if key not in mode.casts:
        mode.casts[key] = aten.cast(eager, tensor, mode.autocast_bytes)
    return eager.view(mode.casts[key])


def _full(eager: Eager, mode: Mode, x: Tensor, wanted: bool) -> Tensor:
    """Converts an input to full precision where autocast runs the operator in it."""
    if mode.autocast_bytes is None or not wanted:
        return eager.view(x)
    return aten.cast(eager, x, _FULL_BYTES)


def _release(eager: Eager, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        eager.drop(tensor)


# --- entries ---------------------------------------------------------------------------------


def _convolution(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    arguments = _lowered(eager, mode, (inputs[0], *(site.weights or site.buffers)))
    bias = arguments[2] if len(arguments) > 2 else None
    x, weight = arguments[:2]
    reserved = _reserved_elements(mode, site, x)
    out = aten.convolution(eager, x, weight, bias, site.elements, reserved=reserved)
    _release(eager, arguments)
    return out


def _reserved_elements(mode: Mode, site: Site, x: Tensor) -> int:
    """Returns the elements that a 3D transposed convolution without oneDNN starts from.

    PyTorch's own kernel on a CPU makes its output like its input and then resizes it, which keeps
    the larger storage. Source: ``ConvParams::use_mkldnn`` and ``slow_conv_transpose3d`` of
    PyTorch 2.13, for one thread and a processor without half-precision instructions.
    """
    conv = site.primitive
    if not isinstance(conv, p.ConvTranspose) or len(site.size) != 3 or conv.groups > 1:
        return 0
    if mode.device != "cpu":
        return 0
    plain = conv.stride == (1, 1, 1) and mode.batch < 16 and conv.kernel[1:] == (1, 1)
    first = prod((mode.batch, conv.in_channels, *site.inputs[0][:2]))
    small = min(conv.kernel[1:]) <= 3 and mode.batch == 1 and first <= 20480
    return x.elements if x.itemsize < _FULL_BYTES or plain or small else 0


def _batch_norm(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    return aten.batch_norm(eager, inputs[0], site.weights, site.buffers, training=mode.training)


def _instance_norm(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    return aten.instance_norm(eager, inputs[0], site.weights, mode.batch, site.channels)


def _group_norm(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    primitive = site.primitive
    assert isinstance(primitive, p.GroupNorm)
    x = _full(eager, mode, inputs[0], mode.device == "cuda")
    out = aten.group_norm(eager, x, site.weights, mode.batch * primitive.groups)
    eager.drop(x)
    return out


def _activation(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    primitive = site.primitive
    assert isinstance(primitive, p.Activation)
    if site.on_view:
        return aten.overwrite_view(eager, inputs[0])
    return aten.elementwise(eager, inputs[0], _SAVES[primitive.kind], in_place=site.in_place)


def _prelu(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    x, weight = arguments = _lowered(eager, mode, (inputs[0], site.weights[0]))
    out = aten.prelu(eager, x, weight)
    _release(eager, arguments)
    return out


def _dropout(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    primitive = site.primitive
    assert isinstance(primitive, p.Dropout)
    x = inputs[0]
    if not mode.training or not primitive.rate:
        return eager.view(x)
    mask = mode.batch * site.channels if primitive.channels else x.elements
    return aten.dropout(eager, x, mask, device=mode.device, fused=not primitive.channels)


def _max_pool(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    # without gradients a CPU pools one axis by a kernel of its own, which makes no indices
    if len(site.size) == 1 and inputs[0].function is None and mode.device == "cpu":
        return aten.resample(eager, inputs[0], site.elements)
    x = _full(eager, mode, inputs[0], mode.device == "cpu" and len(site.size) == 3)
    out = aten.max_pool(eager, x, site.elements)
    eager.drop(x)
    return out


def _avg_pool(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    x = _full(eager, mode, inputs[0], mode.device == "cpu" and len(site.size) == 3)
    out = aten.resample(eager, x, site.elements, saves_input=True)
    eager.drop(x)
    return out


def _global_avg_pool(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    x = _full(eager, mode, inputs[0], mode.device == "cpu" and len(site.size) == 3)
    out = aten.resample(eager, x, site.elements)
    eager.drop(x)
    return out


def _interpolate(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    x = _full(eager, mode, inputs[0], mode.device == "cuda")
    out = aten.resample(eager, x, site.elements)
    eager.drop(x)
    return out


def _resize_to(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    if site.inputs[0] == site.size:
        return eager.view(inputs[0])
    return _interpolate(eager, mode, site, inputs)


def _shuffle(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    """Merges each factor into its axis; backward merges all factors into the channels."""
    primitive = site.primitive
    assert isinstance(primitive, p.PixelShuffle)
    factor, sizes = primitive.factor, site.inputs[0]
    channels = site.channels // prod(factor)
    copies = _axes_copy(factor, sizes), _channels_copy(channels, factor, sizes)
    return aten.rearrange(eager, inputs[0], *copies)


def _unshuffle(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    """Merges all factors into the channels; backward merges each into its axis."""
    primitive = site.primitive
    assert isinstance(primitive, p.PixelUnshuffle)
    factor, sizes = primitive.factor, site.size
    copies = _channels_copy(site.channels, factor, sizes), _axes_copy(factor, sizes)
    return aten.rearrange(eager, inputs[0], *copies)


def _axes_copy(factor: Sizes, sizes: Sizes) -> bool:
    """Whether merging each factor into its axis takes a copy: some axis has both."""
    return any(f > 1 and n > 1 for f, n in zip(factor, sizes, strict=True))


def _channels_copy(channels: int, factor: Sizes, sizes: Sizes) -> bool:
    """Whether merging the factors into the channels takes a copy: some size lies between them."""
    between = channels > 1 and sizes[0] > 1
    met = channels > 1
    for axis, f in enumerate(factor):
        between |= met and sizes[axis] > 1
        if f > 1:
            if between:
                return True
            met = True
    return False


def _pad(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    primitive = site.primitive
    assert isinstance(primitive, p.Pad | p.PadTo)
    kind, dims = primitive.mode, len(site.size)
    if kind == "circular":
        return _circular_pad(eager, primitive, site, inputs[0])
    full = kind == "replicate" or (kind == "reflect" and dims < 3)
    x = _full(eager, mode, inputs[0], mode.device == "cpu" and full)
    out = aten.resample(eager, x, site.elements, saves_input=kind != "zeros")
    eager.drop(x)
    return out


def _circular_pad(eager: Eager, primitive: p.Pad | p.PadTo, site: Site, x: Tensor) -> Tensor:
    """The borders are written axis by axis, the last axis first, low before high."""
    slabs = [
        site.elements // site.size[axis] * amount
        for axis in reversed(range(len(site.size)))
        for amount in _border(primitive, axis, site)
        if amount
    ]
    return aten.circular_pad(eager, x, site.elements, slabs, len(site.size))


def _border(primitive: p.Pad | p.PadTo, axis: int, site: Site) -> tuple[int, int]:
    """Returns the positions added at both ends of an axis."""
    if isinstance(primitive, p.Pad):
        return primitive.low[axis], primitive.high[axis]
    missing = site.size[axis] - site.inputs[0][axis]
    low = missing // 2 if primitive.side == "both" else 0
    return low, missing - low


def _pad_to(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    if site.inputs[0] == site.size:
        return eager.view(inputs[0])
    return _pad(eager, mode, site, inputs)


def _crop_to(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    """One slice per axis that is too long; the last result is a view of the whole map."""
    out = eager.view(inputs[0])
    size = list(site.inputs[0])
    samples = mode.batch * site.channels
    for axis, wanted in enumerate(site.size):
        if size[axis] == wanted:
            continue
        size[axis] = wanted
        sliced = aten.narrow(
            eager, out, samples * prod(size), contiguous=samples == 1 and axis == 0
        )
        eager.drop(out)
        out = sliced
    return out


def _concat(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    if mode.device == "cuda":  # its kernel reads several widths at once
        return aten.concatenate(eager, inputs, batch=mode.batch)
    itemsize = max(x.itemsize for x in inputs)
    converted = [aten.cast(eager, x, itemsize) for x in inputs]
    out = aten.concatenate(eager, converted, batch=mode.batch)
    _release(eager, converted)
    return out


def _add(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    out = aten.add(eager, inputs[0], inputs[1])
    for x in inputs[2:]:
        total = aten.add(eager, out, x)
        eager.drop(out)
        out = total
    return out


def _multiply(eager: Eager, mode: Mode, site: Site, inputs: Sequence[Tensor]) -> Tensor:
    return aten.multiply(eager, inputs[0], inputs[1])


TAPE: Mapping[type[p.Primitive], Entry] = {
    p.Conv: _convolution,
    p.ConvTranspose: _convolution,
    p.Blur: _convolution,
    p.BatchNorm: _batch_norm,
    p.InstanceNorm: _instance_norm,
    p.GroupNorm: _group_norm,
    p.Activation: _activation,
    p.PReLU: _prelu,
    p.Dropout: _dropout,
    p.MaxPool: _max_pool,
    p.AvgPool: _avg_pool,
    p.GlobalAvgPool: _global_avg_pool,
    p.Interpolate: _interpolate,
    p.ResizeTo: _resize_to,
    p.PixelShuffle: _shuffle,
    p.PixelUnshuffle: _unshuffle,
    p.Pad: _pad,
    p.CropTo: _crop_to,
    p.PadTo: _pad_to,
    p.Concat: _concat,
    p.Add: _add,
    p.Gate: _multiply,
    p.Scale: _multiply,
}

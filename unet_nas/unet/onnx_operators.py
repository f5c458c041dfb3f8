"""What each primitive is in ONNX: a few operators, which compute their sizes where the model runs.

Source: the operators of ONNX 1.14 (opset 19), https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from unet_nas.operators import primitives as p

_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@dataclass(frozen=True, slots=True)
class Site:
    """One node where it stands: its name, the spatial axes, the channels of its output."""

    name: str
    dims: int
    channels: int

    def per_channel(self, values: np.ndarray) -> np.ndarray:
        """Returns one number per channel in a shape that broadcasts to a map."""
        return values.reshape(-1, *[1] * self.dims)


@dataclass
class Writer:
    """The model under way.

    Attributes:
        weights: The network's tensors by name.
        nodes: ONNX operators in the order in which they run.
        constants: Weights and numbers, by name.
        name: Of the node at work.
    """

    weights: Mapping[str, np.ndarray]
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    def op(
        self, kind: str, inputs: Sequence[str], attributes: Mapping[str, Any] | None = None
    ) -> str:
        """Appends an operator and returns the name of its result."""
        output = f"{self.name}/{kind}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [output], name=output, **(attributes or {}))
        )
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        """Returns the name of a constant, which is stored once."""
        if name not in self.constants:
            made = numpy_helper.from_array(np.ascontiguousarray(values), name)
            self.constants[name] = made
        return name

    def integers(self, values: Sequence[int]) -> str:
        """Returns the name of a vector of integers."""
        name = f"integers/{'_'.join(map(str, values))}"
        return self.constant(name, np.array(values, dtype=np.int64))

    def weight(self, site: Site, name: str) -> str:
        """Returns the name of a tensor of the node."""
        path = f"{site.name}.{name}"
        return self.constant(path, self.weights[path])

    def filled(self, count: int, value: float) -> str:
        """Returns the name of a vector of equal numbers."""
        return self.constant(f"filled/{count}_{value}", np.full(count, value, dtype=np.float32))

    def affine(self, site: Site, wanted: bool) -> list[str]:
        """Returns scale and shift of a norm; one and zero where it has none."""
        if wanted:
            return [self.weight(site, "weight"), self.weight(site, "bias")]
        return [self.filled(site.channels, 1), self.filled(site.channels, 0)]

    def sizes(self, x: str) -> str:
        """Returns the spatial sizes of a map, as a vector."""
        return self.op("Shape", [x], {"start": 2})

    def join(self, vectors: Sequence[str]) -> str:
        """Returns vectors end to end."""
        return self.op("Concat", vectors, {"axis": 0})


def _both(padding: Sequence[int]) -> list[int]:
    """Returns a padding for the starts of all axes, then for their ends."""
    return [*padding, *padding]


def _axes(site: Site) -> list[int]:
    return list(range(2, 2 + site.dims))


# --- convolutions -------------------------------------------------------------------------


def _conv(writer: Writer, conv: p.Conv, site: Site, inputs: list[str]) -> str:
    names = ("weight", "bias") if conv.bias else ("weight",)
    attributes = {
        "kernel_shape": conv.kernel,
        "strides": conv.stride,
        "pads": _both(conv.padding),
        "dilations": conv.dilation,
        "group": conv.groups,
    }
    return writer.op("Conv", [*inputs, *(writer.weight(site, n) for n in names)], attributes)


def _conv_transpose(writer: Writer, conv: p.ConvTranspose, site: Site, inputs: list[str]) -> str:
    names = ("weight", "bias") if conv.bias else ("weight",)
    attributes = {
        "kernel_shape": conv.kernel,
        "strides": conv.stride,
        "pads": _both(conv.padding),
        "output_padding": conv.output_padding,
        "group": conv.groups,
    }
    weights = [writer.weight(site, n) for n in names]
    return writer.op("ConvTranspose", [*inputs, *weights], attributes)


def _blur(writer: Writer, blur: p.Blur, site: Site, inputs: list[str]) -> str:
    attributes = {"kernel_shape": blur.kernel, "strides": blur.stride, "group": blur.channels}
    return writer.op("Conv", [*inputs, writer.weight(site, "filter")], attributes)


# --- norms --------------------------------------------------------------------------------


def _batch_norm(writer: Writer, norm: p.BatchNorm, site: Site, inputs: list[str]) -> str:
    running = [writer.weight(site, name) for name in ("running_mean", "running_var")]
    arguments = [*inputs, *writer.affine(site, norm.affine), *running]
    return writer.op("BatchNormalization", arguments, {"epsilon": norm.eps})


def _instance_norm(writer: Writer, norm: p.InstanceNorm, site: Site, inputs: list[str]) -> str:
    arguments = [*inputs, *writer.affine(site, norm.affine)]
    return writer.op("InstanceNormalization", arguments, {"epsilon": norm.eps})


def _group_norm(writer: Writer, norm: p.GroupNorm, site: Site, inputs: list[str]) -> str:
    """Instance norm of maps that are groups laid end to end, then scale and shift."""
    groups = writer.op("Reshape", [*inputs, writer.integers((0, norm.groups, -1))])
    unit = [writer.filled(norm.groups, 1), writer.filled(norm.groups, 0)]
    normed = writer.op("InstanceNormalization", [groups, *unit], {"epsilon": norm.eps})
    out = writer.op("Reshape", [normed, writer.op("Shape", inputs)])
    if not norm.affine:
        return out
    for kind, name in (("Mul", "weight"), ("Add", "bias")):
        path = f"{site.name}.{name}"
        values = site.per_channel(writer.weights[path])
        out = writer.op(kind, [out, writer.constant(path, values)])
    return out


# --- activations --------------------------------------------------------------------------

#: those that ONNX has, with the name of their number and PyTorch's default for it
_ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "ReLU": ("Relu", {}),
    "LeakyReLU": ("LeakyRelu", {"alpha": 0.01}),
    "ELU": ("Elu", {"alpha": 1.0}),
    "Mish": ("Mish", {}),
    "Sigmoid": ("Sigmoid", {}),
    "Tanh": ("Tanh", {}),
    "Hardswish": ("HardSwish", {}),
}


def _activation(writer: Writer, act: p.Activation, site: Site, inputs: list[str]) -> str:
    if act.kind == "SiLU":
        return writer.op("Mul", [*inputs, writer.op("Sigmoid", inputs)])
    if act.kind == "GELU":
        return _gelu(writer, inputs[0])
    kind, defaults = _ACTIVATIONS[act.kind]
    given = {} if act.value is None else dict.fromkeys(defaults, act.value)
    return writer.op(kind, inputs, {**defaults, **given})


def _gelu(writer: Writer, x: str) -> str:
    """``x / 2 (1 + erf(x / √2))``, which opset 19 has no operator for."""
    root, half = writer.filled(1, 2**-0.5), writer.filled(1, 0.5)
    bell = writer.op("Erf", [writer.op("Mul", [x, root])])
    risen = writer.op("Add", [bell, writer.filled(1, 1)])
    return writer.op("Mul", [writer.op("Mul", [x, half]), risen])


def _prelu(writer: Writer, act: p.PReLU, site: Site, inputs: list[str]) -> str:
    path = f"{site.name}.weight"
    slopes = writer.constant(path, site.per_channel(writer.weights[path]))
    return writer.op("PRelu", [*inputs, slopes])


def _same(writer: Writer, dropout: p.Dropout, site: Site, inputs: list[str]) -> str:
    """Dropout: outside training the map itself."""
    return inputs[0]


# --- pooling and interpolation ------------------------------------------------------------


def _max_pool(writer: Writer, pool: p.MaxPool, site: Site, inputs: list[str]) -> str:
    return writer.op("MaxPool", inputs, _window(pool))


def _avg_pool(writer: Writer, pool: p.AvgPool, site: Site, inputs: list[str]) -> str:
    counted = {"count_include_pad": int(pool.count_include_pad)}
    return writer.op("AveragePool", inputs, {**_window(pool), **counted})


def _window(pool: p.MaxPool | p.AvgPool) -> dict[str, Any]:
    return {
        "kernel_shape": pool.kernel,
        "strides": pool.stride,
        "pads": _both(pool.padding),
        "ceil_mode": int(pool.ceil_mode),
    }


def _global_avg_pool(writer: Writer, pool: p.GlobalAvgPool, site: Site, inputs: list[str]) -> str:
    return writer.op("GlobalAveragePool", inputs)


def _interpolate(writer: Writer, node: p.Interpolate, site: Site, inputs: list[str]) -> str:
    scales = np.array([1, 1, *node.factor], dtype=np.float32)
    factor = writer.constant(f"scales/{'_'.join(map(str, node.factor))}", scales)
    return writer.op("Resize", [*inputs, "", factor], _sampling(node.mode, node.align_corners))


def _resize_to(writer: Writer, node: p.ResizeTo, site: Site, inputs: list[str]) -> str:
    x, reference = inputs
    if node.mode == "nearest":
        return _nearest(writer, site, x, reference)
    size = writer.join([writer.op("Shape", [x], {"end": 2}), writer.sizes(reference)])
    return writer.op("Resize", [x, "", "", size], _sampling(node.mode, node.align_corners))


def _nearest(writer: Writer, site: Site, x: str, reference: str) -> str:
    """Takes position ``floor(i * (old / new))`` for each new one, with PyTorch's own rounding.

    ``Resize`` divides by ``new / old`` instead, and so takes a neighbour where that is no binary
    fraction.
    """
    to_float = {"to": TensorProto.FLOAT}
    ratios = writer.op(
        "Div",
        [
            writer.op("Cast", [writer.sizes(x)], to_float),
            writer.op("Cast", [writer.sizes(reference)], to_float),
        ],
    )
    for axis in range(site.dims):
        number = writer.constant(f"integer/{axis}", np.array(axis, dtype=np.int64))
        new = writer.op("Gather", [writer.sizes(reference), number])
        zero = writer.constant("integer/0", np.array(0, dtype=np.int64))
        one = writer.constant("integer/1", np.array(1, dtype=np.int64))
        steps = writer.op("Cast", [writer.op("Range", [zero, new, one])], to_float)
        exact = writer.op("Mul", [steps, writer.op("Gather", [ratios, number])])
        sources = writer.op("Cast", [exact], {"to": TensorProto.INT64})  # rounds down
        x = writer.op("Gather", [x, sources], {"axis": 2 + axis})
    return x


def _sampling(mode: str, align_corners: bool) -> dict[str, str]:
    if mode == "nearest":
        return {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
    corners = "align_corners" if align_corners else "half_pixel"
    return {"mode": "linear", "coordinate_transformation_mode": corners}


# --- positions to channels and back -------------------------------------------------------


def _shuffle(writer: Writer, node: p.PixelShuffle, site: Site, inputs: list[str]) -> str:
    dims, factor, sizes = site.dims, node.factor, writer.sizes(inputs[0])
    split = writer.join([writer.integers((0, site.channels, *factor)), sizes])
    cells = writer.op("Reshape", [*inputs, split])
    order = [0, 1, *(n for axis in range(dims) for n in (2 + dims + axis, 2 + axis))]
    moved = writer.op("Transpose", [cells], {"perm": order})
    grown = writer.op("Mul", [sizes, writer.integers(factor)])
    return writer.op("Reshape", [moved, writer.join([writer.integers((0, site.channels)), grown])])


def _unshuffle(writer: Writer, node: p.PixelUnshuffle, site: Site, inputs: list[str]) -> str:
    dims, factor = site.dims, node.factor
    shrunk = writer.op("Div", [writer.sizes(inputs[0]), writer.integers(factor)])
    vectors = [writer.integers((0, site.channels // int(np.prod(factor))))]
    for axis, f in enumerate(factor):
        vectors.append(writer.op("Gather", [shrunk, writer.integers((axis,))]))
        vectors.append(writer.integers((f,)))
    cells = writer.op("Reshape", [*inputs, writer.join(vectors)])
    order = [0, 1, *(3 + 2 * axis for axis in range(dims)), *(2 + 2 * axis for axis in range(dims))]
    moved = writer.op("Transpose", [cells], {"perm": order})
    return writer.op("Reshape", [moved, writer.join([writer.integers((0, site.channels)), shrunk])])


# --- borders ------------------------------------------------------------------------------


def _pad(writer: Writer, node: p.Pad, site: Site, inputs: list[str]) -> str:
    amounts = writer.integers((*node.low, *node.high))
    return _padded(writer, site, inputs[0], amounts, node.mode)


def _pad_to(writer: Writer, node: p.PadTo, site: Site, inputs: list[str]) -> str:
    x, reference = inputs
    wanted, own = writer.sizes(reference), writer.sizes(x)
    missing = writer.op("Sub", [wanted, writer.op("Min", [own, wanted])])
    part = writer.integers((2,) if node.side == "both" else (1 << 40,))  # none of it: at the end
    low = writer.op("Div", [missing, part])
    amounts = writer.join([low, writer.op("Sub", [missing, low])])
    return _padded(writer, site, x, amounts, node.mode)


def _padded(writer: Writer, site: Site, x: str, amounts: str, mode: str) -> str:
    axes = writer.integers(_axes(site))
    return writer.op("Pad", [x, amounts, "", axes], {"mode": _PAD_MODES[mode]})


def _crop_to(writer: Writer, node: p.CropTo, site: Site, inputs: list[str]) -> str:
    x, reference = inputs
    own = writer.sizes(x)
    size = writer.op("Min", [own, writer.sizes(reference)])
    start = writer.op("Div", [writer.op("Sub", [own, size]), writer.integers((2,))])
    end = writer.op("Add", [start, size])
    return writer.op("Slice", [x, start, end, writer.integers(_axes(site))])


# --- joints -------------------------------------------------------------------------------


def _concat(writer: Writer, node: p.Concat, site: Site, inputs: list[str]) -> str:
    return writer.op("Concat", inputs, {"axis": 1})


def _add(writer: Writer, node: p.Add, site: Site, inputs: list[str]) -> str:
    total = inputs[0]
    for other in inputs[1:]:
        total = writer.op("Add", [total, other])
    return total


def _multiply(writer: Writer, node: p.Gate | p.Scale, site: Site, inputs: list[str]) -> str:
    return writer.op("Mul", inputs)


# each takes the primitive under which it stands
OPERATORS: Mapping[type[p.Primitive], Callable[[Writer, Any, Site, list[str]], str]] = {
    p.Conv: _conv,
    p.ConvTranspose: _conv_transpose,
    p.Blur: _blur,
    p.BatchNorm: _batch_norm,
    p.InstanceNorm: _instance_norm,
    p.GroupNorm: _group_norm,
    p.Activation: _activation,
    p.PReLU: _prelu,
    p.Dropout: _same,
    p.MaxPool: _max_pool,
    p.AvgPool: _avg_pool,
    p.GlobalAvgPool: _global_avg_pool,
    p.Interpolate: _interpolate,
    p.ResizeTo: _resize_to,
    p.PixelShuffle: _shuffle,
    p.PixelUnshuffle: _unshuffle,
    p.Pad: _pad,
    p.PadTo: _pad_to,
    p.CropTo: _crop_to,
    p.Concat: _concat,
    p.Add: _add,
    p.Gate: _multiply,
    p.Scale: _multiply,
}

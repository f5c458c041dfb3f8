"""Counts of any module by fvcore and by ``FlopCounterMode``, held against the static ones.

fvcore traces the module and counts operator by operator; what it has no rule for it lists as
unsupported. The handles here give it a rule for every operator that a network of ours has (and
for its common relatives), by the convention of `unet_nas.operators.primitives`: one per element
for an activation, an addition or a product; five for a norm with scale and shift; the window for
pooling; the number of neighbours for interpolation; nothing for moving elements.

Three of our columns fvcore leaves out by its own convention, and :func:`compare` says so: biases,
ReLU and (element) dropout. ``FlopCounterMode`` is the second witness: it runs on the ``meta``
device, costs no memory, and counts two per multiply-accumulate of convolutions and matrix
products only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from unet_nas.audit.cost import check_batch_size, node_costs
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.records import Counts
from unet_nas.unet.shapes import shapes

Handle = Callable[[list[Any], list[Any]], int | Counter[str]]


# --- handles ------------------------------------------------------------------------------


def _elements(value: Any) -> int:
    """Returns the elements of a traced value; 0 for integers, which are sizes and counters."""
    kind: Any = value.type()
    if kind.kind() != "TensorType" or not value.isCompleteTensor():
        return 0
    if kind.scalarType() in ("Long", "Int", "Bool"):
        return 0
    return int(prod(kind.sizes()))


def _per_output(operations: int) -> Handle:
    return lambda inputs, outputs: operations * _elements(outputs[0])


def _per_input(operations: int) -> Handle:
    return lambda inputs, outputs: operations * _elements(inputs[0])


def _pool(dims: int) -> Handle:
    """Counts the window for each element of the output."""

    def handle(inputs: list[Any], outputs: list[Any]) -> int:
        window = [value.toIValue() for value in inputs[1].node().inputs()]
        extents = window * dims if len(window) == 1 else window
        return int(prod(extents)) * _elements(outputs[0])

    return handle


def _norm(weight: int) -> Handle:
    """Counts five for each element, four without scale and shift, in training or not."""

    def handle(inputs: list[Any], outputs: list[Any]) -> int:
        affine = bool(inputs[weight].type().kind() == "TensorType")
        return (4 + affine) * _elements(inputs[0])

    return handle


def _conv_by_mode(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Counts a convolution whose padding is a word, as ``padding="same"``."""
    positions = prod(outputs[0].type().sizes()[2:])
    weight = prod(inputs[1].type().sizes())
    return Counter({"conv": inputs[0].type().sizes()[0] * positions * weight})


def _attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Counts the two matrix products of scaled dot-product attention."""
    *batch, queries, width = inputs[0].type().sizes()
    keys, out = inputs[1].type().sizes()[-2], outputs[0].type().sizes()[-1]
    return Counter({"matmul": prod(batch) * queries * keys * (width + out)})


def _baddbmm(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return Counter({"bmm": prod(inputs[1].type().sizes()) * inputs[2].type().sizes()[-1]})


#: one operation for each element of the output
_POINTWISE = (
    *("add", "sub", "rsub", "mul", "div", "neg", "exp", "log", "sqrt", "rsqrt", "pow", "abs"),
    *("leaky_relu", "prelu", "elu", "selu", "celu", "silu", "gelu", "mish", "sigmoid", "tanh"),
    *("hardswish", "hardsigmoid", "hardtanh", "softplus", "log_sigmoid", "relu6", "rrelu"),
    *("softmax", "log_softmax", "feature_dropout", "alpha_dropout", "maximum", "minimum"),
)
_FREE = (
    *("pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "unfold", "clone", "alias"),
    *("movedim", "swapaxes", "flip", "unflatten", "ones_like", "scalar_tensor", "lift_fresh"),
    *("numpy_T", "expand_as", "view_as", "reshape_as", "_to_copy", "bernoulli", "bernoulli_"),
)
_NEIGHBOURS = {"nearest1d": 1, "nearest3d": 1, "linear1d": 2, "trilinear3d": 8, "bicubic2d": 16}


def handles() -> dict[str, Handle | None]:
    """Returns the rules that fvcore lacks, by the name of the operator; None counts nothing."""
    rules: dict[str, Handle | None] = dict.fromkeys([f"aten::{name}" for name in _FREE])
    for name in _POINTWISE:
        rules[f"aten::{name}"] = rules[f"aten::{name}_"] = _per_output(1)
    for dims in (1, 2, 3):
        for name in (f"max_pool{dims}d", f"max_pool{dims}d_with_indices", f"avg_pool{dims}d"):
            rules[f"aten::{name}"] = _pool(dims)
        for kind in ("avg", "max"):
            rules[f"aten::adaptive_{kind}_pool{dims}d"] = _per_input(1)
    for name, count in _NEIGHBOURS.items():
        rules[f"aten::upsample_{name}"] = _per_output(count)
    rules |= {"aten::mean": _per_input(1), "aten::sum": _per_input(1)}
    rules |= {"aten::batch_norm": _norm(1), "aten::instance_norm": _norm(1)}
    rules["aten::_convolution_mode"] = _conv_by_mode
    rules["aten::scaled_dot_product_attention"] = _attention
    rules["aten::baddbmm"] = _baddbmm
    return rules


#: what fvcore counts that are multiply-accumulates; the rest is element-wise
MAC_OPERATORS = ("conv", "addmm", "bmm", "einsum", "matmul", "mm", "linear")


# --- counting -----------------------------------------------------------------------------


class _Flat(nn.Module):
    """A module that returns its tensors as a tuple: tracing takes no dicts and dataclasses."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns all tensors of the output."""
        return tuple(v for v in tree_flatten(self.inner(x))[0] if isinstance(v, Tensor))


def count(module: nn.Module, inputs: Tensor) -> Counts:
    """Counts a forward pass of a module in evaluation mode; the module's mode is kept.

    Args:
        module: any module that takes one tensor.
        inputs: ``(batch, channels, *spatial)``, on the module's device.
    """
    training = module.training
    module.eval()
    try:
        by_operator, unsupported, note = _by_fvcore(module, inputs)
        witness, other_note = _by_flop_counter(module, inputs)
    finally:
        module.train(training)
    macs = sum(n for name, n in by_operator.items() if name in MAC_OPERATORS)
    return Counts(
        parameters=sum(t.numel() for t in module.parameters()),
        trainable_parameters=sum(t.numel() for t in module.parameters() if t.requires_grad),
        buffers=sum(t.numel() for t in module.buffers()),
        macs=None if note else macs,
        elementwise=None if note else sum(by_operator.values()) - macs,
        by_operator=by_operator,
        unsupported=unsupported,
        flop_counter_macs=witness,
        notes=tuple(filter(None, (note, other_note))),
    )


def _by_fvcore(module: nn.Module, inputs: Tensor) -> tuple[dict[str, int], dict[str, int], str]:
    """Returns counts and unsupported operators by name, and why there are none."""
    analysis = FlopCountAnalysis(_Flat(module), inputs).set_op_handle(**handles())
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    try:
        with torch.no_grad():
            found = analysis.by_operator()
    except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        return {}, {}, f"fvcore cannot trace this module: {_first_line(error)}"
    counts = {name: int(n) for name, n in sorted(found.items()) if n}
    return counts, dict(sorted(analysis.unsupported_ops().items())), ""


def _by_flop_counter(module: nn.Module, inputs: Tensor) -> tuple[int | None, str]:
    """Returns half of FlopCounterMode's count, on ``meta`` and where that fails on the device."""
    state = [*module.named_parameters(), *module.named_buffers()]
    on_meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in state}
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            torch.func.functional_call(module, on_meta, (inputs.to("meta"),))
        return counter.get_total_flops() // 2, ""
    except Exception:  # a foreign module may raise anything on meta
        pass
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(inputs)
        return counter.get_total_flops() // 2, ""
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        return None, f"FlopCounterMode cannot run this module: {_first_line(error)}"


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether an error says that memory ran out, on a CPU or a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# --- against the static counts ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """One count, as the static side and as a witness has it.

    Args:
        what: the count.
        static: ours.
        measured: the witness's; None where it has none.
        conventions: what ours includes and the witness does not, by name; where static minus
            these is the witness's count, the two agree.
    """

    what: str
    static: int
    measured: int | None
    conventions: dict[str, int]

    @property
    def agrees(self) -> bool:
        """Whether the conventions explain all of the difference."""
        return self.measured == self.static - sum(self.conventions.values())


def compare(
    graph: Graph, patch_size: Sequence[int], batch_size: int, counts: Counts
) -> list[Difference]:
    """Compares the static counts of a network with those of its built module.

    Raises:
        SizeError: if the network does not run on ``patch_size``.
    """
    check_batch_size(batch_size)
    sizes = shapes(graph, patch_size)
    costs = node_costs(graph, sizes, batch_size)
    macs = sum(cost.macs for cost in costs)
    nodes = [node.primitive for node in graph.nodes]
    left_out = {"biases": 0, "ReLU": 0, "dropout of elements": 0}
    for node, cost in zip(nodes, costs, strict=True):
        kind = _left_out(node)
        if kind:
            left_out[kind] += cost.elementwise
    return [
        Difference("parameters", graph.parameters(), counts.trainable_parameters, {}),
        Difference("buffers", sum(cost.buffers for cost in costs), counts.buffers, {}),
        Difference("MACs (fvcore)", macs, counts.macs, {}),
        Difference("MACs (FlopCounterMode)", macs, counts.flop_counter_macs, {}),
        Difference(
            "element-wise (fvcore)",
            sum(cost.elementwise for cost in costs),
            counts.elementwise,
            {kind: n for kind, n in left_out.items() if n},
        ),
    ]


def _left_out(primitive: p.Primitive) -> str | None:
    """Returns the convention by which fvcore counts nothing besides the MACs of a node."""
    match primitive:
        case p.Conv() | p.ConvTranspose():
            return "biases"
        case p.Activation(kind="ReLU"):
            return "ReLU"
        case p.Dropout(channels=False):
            return "dropout of elements"
    return None

"""The memory of the PyTorch operators that networks and losses are made of.

Each function is one call as Python writes it (``F.conv2d``, ``torch.cat``, ``x.float()``): it
allocates what the call allocates, records what autograd saves, and gives back the result with one
owner. Inputs stay with their owners. What each keeps and allocates was read off the allocator
(``docs/memory.md``); blocks that live inside one ATen operator only are left out everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from unet_nas.operators.eager import (
    Eager,
    Function,
    Gradients,
    Rule,
    Tensor,
    fresh,
    passed,
    viewed,
)

_INDEX_BYTES = 8
_FULL_BYTES = 4
#: a Python number among the operands is a tensor of its own for as long as the call lasts
_SCALAR_BYTES = 8


def cast(eager: Eager, x: Tensor, itemsize: int) -> Tensor:
    """``x.to(dtype)``: a copy, or the tensor itself where the width is that already."""
    if x.itemsize == itemsize:
        return eager.view(x)
    out = eager.new(x.elements, itemsize)
    eager.record(out, (x,))
    return out


def convolution(
    eager: Eager,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    elements: int,
    *,
    reserved: int = 0,
) -> Tensor:
    """Convolution, transposed or not: saves input and weight.

    Args:
        eager: The process.
        x: The input.
        weight: The weight.
        bias: The bias, if any.
        elements: Elements of the output.
        reserved: Elements that the output's storage has room for where these are more.
    """
    inputs = (x, weight) if bias is None else (x, weight, bias)
    eager.saving(inputs, 2)
    out = eager.new(max(elements, reserved), x.itemsize)
    out.elements = elements
    eager.record(out, inputs, (x, weight))
    return out


def batch_norm(
    eager: Eager, x: Tensor, affine: Sequence[Tensor], running: Sequence[Tensor], *, training: bool
) -> Tensor:
    """Batch norm: saves input and weight; in training also two statistics per channel.

    Args:
        eager: The process.
        x: The input.
        affine: Weight and bias, or nothing.
        running: The two running statistics, whose width those of the batch have.
        training: Whether statistics of the batch are computed.
    """
    out = _normed(eager, x, affine)
    inputs = (x, *affine)
    kernel = _batch_norm_kernel(eager, inputs)
    if training or kernel == "cuda":
        width = _statistics_bytes(eager, running[0].itemsize)
        rule = _contiguous_backward if kernel == "cudnn" else fresh
        return _with_statistics(eager, out, inputs, running[0].elements, width, rule)
    eager.record(out, inputs, inputs[:2])
    return out


def _batch_norm_kernel(eager: Eager, inputs: Sequence[Tensor]) -> str:
    """Returns whose kernel normalises: PyTorch's on CUDA makes statistics in inference too.

    cuDNN's takes no bfloat16, and weights of full precision only. Source:
    ``_select_batch_norm_backend`` of PyTorch.
    """
    if eager.device == "cpu":
        return "cpu"
    x, weight = inputs[0], inputs[1] if len(inputs) > 1 else None
    full = weight is not None and weight.itemsize == _FULL_BYTES
    return "cudnn" if full and (x.itemsize == _FULL_BYTES or not eager.bfloat16) else "cuda"


def _statistics_bytes(eager: Eager, itemsize: int) -> int:
    """Returns the width of a batch's statistics: CUDA keeps them in full precision."""
    return itemsize if eager.device == "cpu" else _FULL_BYTES


def _normed(eager: Eager, x: Tensor, affine: Sequence[Tensor]) -> Tensor:
    return eager.view(x) if eager.ends(3 + bool(affine)) else eager.new(x.elements, x.itemsize)


def _with_statistics(
    eager: Eager,
    out: Tensor,
    inputs: Sequence[Tensor],
    statistics: int,
    itemsize: int,
    rule: Rule = fresh,
) -> Tensor:
    """Saves input, weight, mean and reciprocal deviation."""
    mean = eager.new(statistics, itemsize)
    deviation = eager.new(statistics, itemsize)
    eager.record(out, inputs, (*inputs[:2], mean, deviation), rule)
    eager.drop(mean)
    eager.drop(deviation)
    return out


def instance_norm(
    eager: Eager, x: Tensor, affine: Sequence[Tensor], batch: int, channels: int
) -> Tensor:
    """Instance norm: weight and bias are repeated per sample, then batch norm on a view."""
    repeated = [repeat(eager, tensor, batch) for tensor in affine]
    flat = view(eager, x)
    inputs = (flat, *repeated)
    normed = _normed(eager, flat, repeated)
    width = _statistics_bytes(eager, inputs[-1].itemsize)
    _with_statistics(eager, normed, inputs, batch * channels, width)
    out = view(eager, normed)
    for tensor in (*repeated, flat, normed):
        eager.drop(tensor)
    return out


def repeat(eager: Eager, x: Tensor, times: int) -> Tensor:
    """``x.repeat(times)``: copies even once; its backward sums, or passes where it is once."""
    out = eager.new(x.elements * times, x.itemsize)
    eager.record(out, (x,), (), fresh if times > 1 else passed)
    return out


def group_norm(eager: Eager, x: Tensor, affine: Sequence[Tensor], statistics: int) -> Tensor:
    """Group norm: saves input, weight, and two statistics per group, as wide as the weight."""
    out = _normed(eager, x, affine)
    inputs = (x, *affine)
    width = inputs[-1].itemsize
    return _with_statistics(eager, out, inputs, statistics, width, _contiguous_backward)


def _contiguous_backward(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """Works on a contiguous copy of a gradient that is a slice of another."""
    if gradient.contiguous:
        return fresh(eager, function, gradient)
    copy = eager.new(gradient.elements, gradient.itemsize)
    results = fresh(eager, function, copy)
    eager.drop(copy)
    return results


def elementwise(eager: Eager, x: Tensor, saves: str, *, in_place: bool = False) -> Tensor:
    """A function of each element that saves its ``input`` or its ``output``."""
    if in_place or saves == "output":
        out = eager.view(x) if in_place else eager.new(x.elements, x.itemsize)
        eager.record(out, (x,), (out,))
        return out
    eager.saving((x,), 1)
    out = eager.new(x.elements, x.itemsize)
    eager.record(out, (x,), (x,))
    return out


def overwrite_view(eager: Eager, x: Tensor) -> Tensor:
    """An in-place activation on a view, as instance norm returns one.

    Autograd then routes the gradient through the base: ``AsStridedBackward`` lays it out anew and
    ``CopySlices`` runs the activation's backward on a copy of a copy.
    """
    out = eager.view(x)
    viewing = x.function
    if viewing is not None:
        out.function = viewing.edges[0]
        eager.record(out, (out,), (out,), _overwritten, late=True)
        eager.record(out, (out,))
    return out


def _overwritten(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    whole = eager.new(gradient.elements, gradient.itemsize)
    copy = eager.new(gradient.elements, gradient.itemsize)
    eager.unpack(function)  # a recomputation meets the two copies
    result = eager.new(gradient.elements, gradient.itemsize)
    eager.drop(result)
    eager.drop(copy)
    return [whole]


def prelu(eager: Eager, x: Tensor, weight: Tensor) -> Tensor:
    """PReLU: saves input and weight; its backward has a full-size slope gradient to sum."""
    slopes = view(eager, weight)
    eager.saving((x, slopes), 2)
    out = eager.new(x.elements, x.itemsize)
    eager.record(out, (x, slopes), (x, slopes), _broadcast_backward)
    eager.drop(slopes)
    return out


def multiply(eager: Eager, x: Tensor, y: Tensor) -> Tensor:
    """``x * y`` with broadcasting: saves each operand for the gradient of the other."""
    saved = [a for a, b in ((x, y), (y, x)) if b.function is not None]
    eager.saving((x, y), len(saved))
    out = eager.new(max(x.elements, y.elements), max(x.itemsize, y.itemsize))
    eager.record(out, (x, y), saved, _broadcast_backward)
    return out


def _broadcast_backward(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """Full-size gradients for all inputs first, then each summed or converted to its own form."""
    width = max(gradient.itemsize, *(itemsize for _, itemsize in function.wants))
    full = [
        None if target is None else eager.new(gradient.elements, width) for target in function.edges
    ]
    if function.frame is not None:  # what was made again is let go of before the sums
        eager.release(function)
    return [
        None if tensor is None else _fitted(eager, tensor, elements, itemsize)
        for tensor, (elements, itemsize) in zip(full, function.wants, strict=True)
    ]


def _fitted(eager: Eager, full: Tensor, elements: int, itemsize: int) -> Tensor:
    """Sums a gradient to fewer elements, then converts it."""
    out = full
    if out.elements != elements:
        out = _replaced(eager, out, elements, out.itemsize)
    if out.itemsize != itemsize:
        out = _replaced(eager, out, elements, itemsize)
    return out


def _replaced(eager: Eager, tensor: Tensor, elements: int, itemsize: int) -> Tensor:
    out = eager.new(elements, itemsize)
    eager.drop(tensor)
    return out


def add(eager: Eager, x: Tensor, y: Tensor) -> Tensor:
    """``x + y`` of equal size: saves nothing, and hands its gradient to both."""
    out = eager.new(x.elements, max(x.itemsize, y.itemsize))
    eager.record(out, (x, y), (), passed)
    return out


def dropout(eager: Eager, x: Tensor, mask: int, *, device: str, fused: bool) -> Tensor:
    """Dropout: a mask of ``mask`` elements, saved; as wide as the input, or bool where fused."""
    noise = eager.new(mask, 1 if fused and device == "cuda" else x.itemsize)
    eager.saving((x,), 1)
    out = eager.new(x.elements, x.itemsize)
    eager.record(out, (x,), (noise,))
    eager.drop(noise)
    return out


def max_pool(eager: Eager, x: Tensor, elements: int) -> Tensor:
    """Max pooling: saves its input and an int64 index per output element."""
    out = eager.new(elements, x.itemsize)
    indices = eager.new(elements, _INDEX_BYTES)
    eager.record(out, (x,), (x, indices))
    eager.drop(indices)
    return out


def resample(eager: Eager, x: Tensor, elements: int, *, saves_input: bool = False) -> Tensor:
    """Any map to another size (pooling, interpolation, padding): some save their input."""
    saved = (x,) if saves_input else ()
    eager.saving((x,), len(saved))
    out = eager.new(elements, x.itemsize)
    eager.record(out, (x,), saved)
    return out


def view(eager: Eager, x: Tensor) -> Tensor:
    """``x.view(...)``: the same storage; backward copies a gradient that is a slice."""
    out = eager.view(x)
    eager.record(out, (x,), (), viewed)
    return out


def rearrange(eager: Eager, x: Tensor, copies: bool, back_copies: bool) -> Tensor:
    """View, permute, reshape: the reshapes copy wherever strides cannot say the same.

    Args:
        eager: The process.
        x: The input.
        copies: Whether the result is a copy.
        back_copies: Whether its gradient is.
    """
    out = eager.new(x.elements, x.itemsize) if copies else eager.view(x)
    eager.record(out, (x,), (), fresh if back_copies else viewed)
    return out


def narrow(eager: Eager, x: Tensor, elements: int, *, contiguous: bool) -> Tensor:
    """A slice: the same storage; backward writes into zeros of the full size."""
    out = eager.view(x, elements, contiguous)
    eager.record(out, (x,))
    return out


def circular_pad(eager: Eager, x: Tensor, elements: int, slabs: Sequence[int], dims: int) -> Tensor:
    """``F.pad(mode="circular")``: written slice by slice into one map, and so taken apart.

    Args:
        eager: The process.
        x: The input.
        elements: Elements of the padded map.
        slabs: Elements of each border in the order in which they are written.
        dims: Spatial axes.
    """
    source = eager.view(x)
    for _ in range(dims):
        sliced = narrow(eager, source, x.elements, contiguous=True)
        eager.drop(source)
        source = sliced
    out = eager.new(elements, x.itemsize)
    eager.record(out, (source,), (), _copy_slices)
    eager.drop(source)
    for slab in slabs:
        border = narrow(eager, out, slab, contiguous=False)
        eager.record(out, (out, border), (), _copy_slices)
        eager.drop(border)
    return out


def _copy_slices(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """Backward of a copy into a slice: a copy of the whole gradient, and the slice cut out."""
    whole = eager.new(gradient.elements, gradient.itemsize)
    border = eager.new(*function.wants[-1])
    if len(function.edges) == 1:
        eager.drop(whole)
        return [border]
    eager.drop(eager.new(*function.wants[-1]))
    return [whole, border]


def concatenate(eager: Eager, tensors: Sequence[Tensor], *, batch: int) -> Tensor:
    """``torch.cat`` along the channels: its gradients are slices that share one storage."""
    itemsize = max(tensor.itemsize for tensor in tensors)
    out = eager.new(sum(tensor.elements for tensor in tensors), itemsize)
    eager.record(out, tensors, (), _sliced if batch > 1 else _sliced_sample)
    return out


def _sliced(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """Slices across samples: not contiguous."""
    return _slices(eager, function, gradient, False)


def _sliced_sample(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """Slices of a single sample: contiguous."""
    return _slices(eager, function, gradient, True)


def _slices(eager: Eager, function: Function, gradient: Tensor, contiguous: bool) -> Gradients:
    return [
        None
        if target is None
        else _fitted(eager, eager.view(gradient, elements, contiguous), elements, itemsize)
        for target, (elements, itemsize) in zip(function.edges, function.wants, strict=True)
    ]


# --- small operators of the losses -----------------------------------------------------------


def nll_loss(
    eager: Eager, log_probabilities: Tensor, target: Tensor, weights: Tensor | None = None
) -> Tensor:
    """``F.nll_loss``: saves its inputs and the total weight; its backward is full size."""
    out = eager.new(1, log_probabilities.itemsize)
    total_weight = eager.new(1, log_probabilities.itemsize)
    weighted = () if weights is None else (weights,)
    eager.record(out, (log_probabilities,), (log_probabilities, target, *weighted, total_weight))
    eager.drop(total_weight)
    return out


def binary_cross_entropy(
    eager: Eager, logits: Tensor, target: Tensor, weights: Tensor | None
) -> Tensor:
    """``F.binary_cross_entropy_with_logits``: saves its inputs."""
    out = eager.new(1, logits.itemsize)
    weighted = () if weights is None else (weights,)
    eager.record(out, (logits,), (logits, target, *weighted))
    return out


def masked_fill(eager: Eager, x: Tensor, mask: Tensor) -> Tensor:
    """``x.masked_fill(mask, number)``: saves the mask; its backward fills the gradient."""
    out = eager.new(x.elements, x.itemsize)
    eager.record(out, (x,), (mask,))
    return out


def total(eager: Eager, x: Tensor, elements: int) -> Tensor:
    """``x.sum(axes)``: its gradient is an expanded view."""
    out = eager.new(elements, x.itemsize)
    eager.record(out, (x,), (), _expanded)
    return out


def _expanded(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    return [eager.view(gradient, function.wants[0][0], False)]


def times_number(eager: Eager, x: Tensor, *, saves: bool = True) -> Tensor:
    """``number * x``: the number is a tensor of eight bytes, saved for backward."""
    number = eager.new_on_cpu(_SCALAR_BYTES)
    out = eager.new(x.elements, x.itemsize)
    eager.record(out, (x,), (number,) if saves else ())
    eager.drop(number)
    return out


def plus_number(eager: Eager, x: Tensor) -> Tensor:
    """``x + number``."""
    number = eager.new_on_cpu(_SCALAR_BYTES)
    out = eager.new(x.elements, x.itemsize)
    eager.record(out, (x,), (), passed)
    eager.drop(number)
    return out


def divide(eager: Eager, x: Tensor, y: Tensor) -> Tensor:
    """``x / y`` of equal size: saves both, or ``y`` only where it needs no gradient."""
    out = eager.new(x.elements, x.itemsize)
    if y.function is None:
        eager.record(out, (x, y), (y,))
    else:
        eager.record(out, (x, y), (x, y), _divided)
    return out


def _divided(eager: Eager, function: Function, gradient: Tensor) -> Gradients:
    """The divisor's gradient, ``-gradient * (x / y / y)``, has three temporaries on its way."""
    first = eager.new(gradient.elements, gradient.itemsize)
    eager.spike(3 * gradient.elements * gradient.itemsize)
    return [first, eager.new(gradient.elements, gradient.itemsize)]

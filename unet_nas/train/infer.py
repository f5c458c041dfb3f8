"""Segmenting a whole image: in one pass where it fits, else in tiles.

An axis is planned by itself: a *tile* of ``size`` input positions gives ``output`` positions that
begin ``margin`` after its own beginning (valid padding; 0 with same padding). What a tile reads
beyond the image is mirrored, so that the output always covers the image.

Source: Ronneberger et al., arXiv:1505.04597 (overlap-tile strategy, mirrored border); Isensee et
al., "nnU-Net", Nature Methods 18 (2021) (Gaussian weights of overlapping tiles).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from unet_nas.audit.memory import Device, Precision, inference_memory
from unet_nas.errors import InputError, SizeError
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.train.failures import is_out_of_memory
from unet_nas.unet.build import UNet
from unet_nas.unet.shapes import AxisSizes, trace_axis

__all__ = [
    "WHOLE_BYTES",
    "AxisPlan",
    "Predictor",
    "autocast",
    "check_device",
    "evaluating",
    "predict",
]

WHOLE_BYTES = 1 << 30
"""An image goes through in one pass if that takes no more tensors than so many bytes.

It is a constant and not what happens to be free, so that scores do not depend on it.
"""
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: more sizes than this are not tried to find one whose output covers an image
_TRIES = 1024


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """The tiles along one axis.

    Attributes:
        size: Positions that a tile reads.
        output: Positions that the network gives for a tile.
        starts: Where the output of each tile begins in the image.
        weights: Of each position of an output.
    """

    size: int
    output: int
    starts: tuple[int, ...]
    weights: Tensor

    def reads(self, start: int, length: int) -> Tensor:
        """Returns the positions of an image of ``length`` that the tile at ``start`` reads."""
        first = start - (self.size - self.output) // 2
        return mirrored(torch.arange(first, first + self.size), length)

    def total(self, length: int) -> Tensor:
        """Returns the sum of the weights at each position of the image."""
        total = torch.zeros(length)
        for start in self.starts:
            kept = min(self.output, length - start)
            total[start : start + kept] += self.weights[:kept]
        return total


def mirrored(positions: Tensor, length: int) -> Tensor:
    """Brings positions beyond an axis back into it by mirroring at its first and last position.

    >>> mirrored(torch.arange(-2, 6), 4).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    if length == 1:
        return torch.zeros_like(positions)
    folded = positions.remainder(2 * (length - 1))
    return torch.minimum(folded, 2 * (length - 1) - folded)


class Predictor:
    """Segments whole images with one network.

    Args:
        module: The network, on its device; its mode is that of the moment of the call.
        patch_size: Size of a tile; the network runs on it.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, or autocast to ``bf16`` or ``fp16``.
        whole_bytes: Up to so many bytes of tensors an image goes through in one pass.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        patch_size: Sequence[int],
        device: Device = "cpu",
        precision: Precision = "fp32",
        whole_bytes: int = WHOLE_BYTES,
    ) -> None:
        self.module = module
        self.patch_size = tuple(patch_size)
        self.device: Device = device
        self.precision: Precision = precision
        self.whole_bytes = whole_bytes
        self._graph = module.graph if isinstance(module, UNet) else None
        self._known: dict[tuple[int, ...], tuple[AxisPlan, ...]] = {}

    def __call__(self, image: Tensor) -> Tensor:
        """Returns the logits ``(classes, *spatial)``, float32, of an image.

        Args:
            image: ``(channels, *spatial)``, float32.

        Raises:
            SizeError: if the network has no size at which its output covers the image.
        """
        size = tuple(image.shape[1:])
        if size not in self._known:
            self._known[size] = self._whole(size) or self._tiles(size, len(image))
        try:
            return self._run(image, self._known[size])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or _tiled(self._known[size]):
                raise
        # the error is gone here, and with it the maps that its traceback held
        self._known[size] = self._tiles(size, len(image))
        return self._run(image, self._known[size])

    # --- plans ----------------------------------------------------------------------------

    def _whole(self, size: Sequence[int]) -> tuple[AxisPlan, ...] | None:
        """Returns the plan of one pass; None where it needs too much memory."""
        graph = self._graph
        if graph is None:  # the sizes that a network of somebody else's takes are not known
            return None
        plans = tuple(whole_axis(graph, axis, n) for axis, n in enumerate(size))
        reads = [plan.size for plan in plans]
        memory = inference_memory(graph, reads, 1, self.precision, device=self.device)
        return plans if memory.peak_bytes <= self.whole_bytes else None

    def _tiles(self, size: Sequence[int], channels: int) -> tuple[AxisPlan, ...]:
        graph, patch = self._graph, self.patch_size
        outputs = output_size(self.module, patch, in_channels=channels, device=self.device)
        if graph is None:
            strides, overlap = [1] * len(patch), outputs == patch
        else:
            strides = [AxisSizes(graph, axis).stride for axis in range(graph.dims)]
            overlap = _pads(graph)
        return tuple(
            tiled_axis(n, tile, output, stride, overlap=overlap)
            for n, tile, output, stride in zip(size, patch, outputs, strides, strict=True)
        )

    # --- passes ---------------------------------------------------------------------------

    def _run(self, image: Tensor, plans: Sequence[AxisPlan]) -> Tensor:
        size = image.shape[1:]
        if not _tiled(plans):
            logits = self._pass(image, plans, [plan.starts[0] for plan in plans])
            return _part(logits, [slice(0, n) for n in size])
        total: Tensor | None = None
        for starts in product(*(plan.starts for plan in plans)):
            logits = self._pass(image, plans, starts).cpu()
            if total is None:
                total = torch.zeros(logits.shape[0], *size)
            ends = [s + plan.output for s, plan in zip(starts, plans, strict=True)]
            inside = [slice(s, min(e, n)) for s, e, n in zip(starts, ends, size, strict=True)]
            kept = _part(logits, [slice(0, part.stop - part.start) for part in inside])
            weights = [plan.weights[:k] for plan, k in zip(plans, kept.shape[1:], strict=True)]
            _part(total, inside).add_(kept * _outer(weights))
        assert total is not None, "there is at least one tile"
        for axis, (plan, n) in enumerate(zip(plans, size, strict=True)):
            total /= _along(plan.total(n), axis, len(size))
        return total

    def _pass(self, image: Tensor, plans: Sequence[AxisPlan], starts: Sequence[int]) -> Tensor:
        """Returns the logits ``(classes, *output)`` of one tile."""
        for axis, (plan, start) in enumerate(zip(plans, starts, strict=True), start=1):
            length = image.shape[axis]
            if plan.size != length or plan.output != length:
                image = image.index_select(axis, plan.reads(start, length))
        with torch.inference_mode(), autocast(self.device, self.precision):
            outputs = self.module(image.unsqueeze(0).to(self.device))
        logits: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
        return logits[0].float()


def predict(
    module: nn.Module,
    image: Tensor,
    *,
    patch_size: Sequence[int],
    device: Device = "cpu",
    precision: Precision = "fp32",
    whole_bytes: int = WHOLE_BYTES,
) -> Tensor:
    """Returns the logits ``(classes, *spatial)`` of a whole image ``(channels, *spatial)``.

    Args:
        module: The network, on its device.
        image: Of any size.
        patch_size: Size of a tile where the image does not fit.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, or autocast to ``bf16`` or ``fp16``.
        whole_bytes: Up to so many bytes of tensors the image goes through in one pass.
    """
    with evaluating(module):
        return Predictor(
            module,
            patch_size=patch_size,
            device=device,
            precision=precision,
            whole_bytes=whole_bytes,
        )(image)


# --- axes ---------------------------------------------------------------------------------


def whole_axis(graph: Graph, axis: int, length: int) -> AxisPlan:
    """Returns the plan of one pass: the smallest valid size whose output covers the axis.

    Raises:
        SizeError: if there is none.
    """
    sizes = AxisSizes(graph, axis)
    size: int | None = length if sizes.valid(length) else sizes.nearest(length)[1]
    for _ in range(_TRIES):
        if size is None:
            break
        missing = length - _output(graph, axis, size)
        if missing <= 0:
            return _one_tile(graph, axis, size, length)
        above = size + missing
        size = above if sizes.valid(above) else sizes.nearest(above)[1]
    raise SizeError(f"no input size of this network gives an output of {length} along axis {axis}")


def _one_tile(graph: Graph, axis: int, size: int, length: int) -> AxisPlan:
    """Returns the plan of one pass, with ``size`` made as small as the output allows."""
    sizes = AxisSizes(graph, axis)
    output = _output(graph, axis, size)
    smaller = sizes.nearest(size)[0]
    while smaller is not None and (less := _output(graph, axis, smaller)) >= length:
        size, output, smaller = smaller, less, sizes.nearest(smaller)[0]
    return AxisPlan(size, output, (0,), torch.ones(output))


def tiled_axis(length: int, size: int, output: int, stride: int, *, overlap: bool) -> AxisPlan:
    """Returns the tiles along an axis.

    They lie at multiples of ``stride``, so that pooling meets the same positions as in one pass.

    Args:
        length: Of the image.
        size: That a tile reads.
        output: That the network gives for a tile.
        stride: By how much an input may be shifted so that all maps shift by whole positions.
        overlap: Whether tiles overlap by half, and the middle of each weighs most: where an
            output sees the border of its tile. Else they lie side by side.

    >>> tiled_axis(100, 40, 40, 8, overlap=True).starts
    (0, 16, 32, 48, 64)
    >>> tiled_axis(100, 60, 20, 8, overlap=False).starts
    (0, 16, 32, 48, 64, 80)
    """
    room = output // 2 if overlap else output
    step = room - room % stride or room
    last = -(-max(length - output, 0) // step)
    starts = tuple(step * i for i in range(last + 1))
    weights = gaussian(output) if overlap else torch.ones(output)
    return AxisPlan(size, output, starts, weights)


def gaussian(size: int) -> Tensor:
    """Returns weights of which the outermost is ``exp(-8)`` of the middle one, or more."""
    distance = torch.arange(size) - (size - 1) / 2
    return torch.exp(-0.5 * (distance / (size / 8)) ** 2)


def output_size(
    module: nn.Module, patch_size: Sequence[int], *, in_channels: int, device: Device = "cpu"
) -> tuple[int, ...]:
    """Returns the spatial size of a network's (first) output for a patch; other networks are run.

    Raises:
        SizeError: if the network cannot run on the patch.
    """
    if isinstance(module, UNet):
        graph = module.graph
        return tuple(_output(graph, axis, size) for axis, size in enumerate(patch_size))
    patch = torch.zeros(1, in_channels, *patch_size, device=device)
    with evaluating(module), torch.inference_mode():
        outputs = module(patch)
    first: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
    return tuple(first.shape[2:])


def _output(graph: Graph, axis: int, size: int) -> int:
    """Returns the size of the first output for a valid size of the input."""
    trace = trace_axis(graph, axis, size)
    found = trace.sizes[graph.outputs[0]]
    if trace.misfits or found is None:
        raise SizeError(f"this network does not run on a size of {size} along axis {axis}")
    return found


def _tiled(plans: Sequence[AxisPlan]) -> bool:
    return any(len(plan.starts) > 1 for plan in plans)


def _pads(graph: Graph) -> bool:
    """Tells whether an output may see the border of its tile, for something pads."""
    return any(
        (isinstance(node.primitive, p.Conv) and any(node.primitive.padding))
        or isinstance(node.primitive, p.Pad)
        for node in graph.nodes
    )


# --- tensors ------------------------------------------------------------------------------


def _part(tensor: Tensor, inside: Sequence[slice]) -> Tensor:
    return tensor[(slice(None), *inside)]


def _along(values: Tensor, axis: int, axes: int) -> Tensor:
    return values.view([-1 if i == axis else 1 for i in range(axes)])


def _outer(weights: Sequence[Tensor]) -> Tensor:
    shaped = [_along(w, axis, len(weights)) for axis, w in enumerate(weights)]
    return reduce(torch.mul, shaped)


# --- devices and modes ----------------------------------------------------------------------


def check_device(device: Device) -> None:
    """Raises InputError where the device is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda needs a GPU that PyTorch sees, and there is none here")


def autocast(device: Device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    """Returns the context of a forward pass."""
    dtype = _DTYPES.get(precision)
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device, dtype=dtype)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts a module into evaluation mode, and back into the mode that it was in."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)

"""Segmenting a whole image: in one pass where it fits, else in tiles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from unet_nas.audit.memory import Device, Precision, inference_memory
from unet_nas.errors import InputError
from unet_nas.train.failures import is_out_of_memory
from unet_nas.train.tiles import AxisPlan, output_length, pads, tiled_axis, whole_axis
from unet_nas.unet.build import UNet
from unet_nas.unet.shapes import AxisSizes

__all__ = [
    "WHOLE_BYTES",
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
            overlap = pads(graph)
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


def output_size(
    module: nn.Module, patch_size: Sequence[int], *, in_channels: int, device: Device = "cpu"
) -> tuple[int, ...]:
    """Returns the spatial size of a network's (first) output for a patch; other networks are run.

    Raises:
        SizeError: if the network cannot run on the patch.
    """
    if isinstance(module, UNet):
        graph = module.graph
        return tuple(output_length(graph, axis, size) for axis, size in enumerate(patch_size))
    patch = torch.zeros(1, in_channels, *patch_size, device=device)
    with evaluating(module), torch.inference_mode():
        outputs = module(patch)
    first: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
    return tuple(first.shape[2:])


def _tiled(plans: Sequence[AxisPlan]) -> bool:
    return any(len(plan.starts) > 1 for plan in plans)


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

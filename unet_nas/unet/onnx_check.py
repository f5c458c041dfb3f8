"""An ONNX model against the module of PyTorch that it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch

from unet_nas.errors import InputError, UnetNasError
from unet_nas.operators.builder import Graph
from unet_nas.unet.build import build
from unet_nas.unet.outline import by
from unet_nas.unet.shapes import AxisSizes, Size
from unet_nas.unet.source import single_value

TOLERANCE = 1e-3
"""Largest difference allowed, as a share of the largest absolute output of PyTorch."""

#: an output that is smaller everywhere counts as this large
_SMALLEST = 1e-3


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the two outputs are apart for one input.

    Attributes:
        shape: Of the input, ``(batch, channels, *spatial)``.
        difference: Largest absolute difference over the largest absolute output of PyTorch.
    """

    shape: tuple[int, ...]
    difference: float

    def __str__(self) -> str:
        return f"{self.difference:.1e} at {by(self.shape)}"


def check_onnx(
    model: bytes, graph: Graph, weights: Mapping[str, np.ndarray], size: Sequence[int]
) -> tuple[Agreement, Agreement]:
    """Runs both on random inputs of two sizes and batches.

    Args:
        model: What `unet.onnx.to_onnx` made.
        graph: The network.
        weights: The state of ``build(graph)``.
        size: The first spatial size; the second is a neighbour that the network takes too.

    Raises:
        InputError: if PyTorch cannot run the network on this size.
        UnetNasError: if they differ by more than `TOLERANCE`.
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    module = build(graph)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    module.eval()
    generator = torch.Generator().manual_seed(0)
    found = []
    for batch, spatial in ((1, tuple(size)), (2, other_size(graph, size))):
        shape = (batch, graph.nodes[0].channels, *spatial)
        found.append(_agreement(session, module, torch.randn(shape, generator=generator)))
    worst = max(found, key=lambda agreement: agreement.difference)
    if not worst.difference <= TOLERANCE:  # a NaN must not pass
        raise UnetNasError(
            f"the ONNX model differs from PyTorch by {worst} as a share of the largest output, "
            f"more than {TOLERANCE:g}; it was not written"
        )
    return found[0], found[1]


def _agreement(
    session: onnxruntime.InferenceSession, module: torch.nn.Module, image: torch.Tensor
) -> Agreement:
    try:
        with torch.inference_mode():
            outputs = module(image)
    except ValueError as error:  # a norm that is left with one value
        raise InputError(f"the network cannot run on {by(image.shape[2:])}: {error}") from None
    wanted = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    got = session.run(None, {"image": image.numpy()})
    largest = [
        float(np.abs(array - tensor.numpy()).max() / max(tensor.abs().max().item(), _SMALLEST))
        for tensor, array in zip(wanted, got, strict=True)
    ]
    return Agreement(tuple(image.shape), float(np.max(largest)))


def other_size(graph: Graph, size: Sequence[int]) -> Size:
    """Returns another size that the network takes: next smaller if that is not tiny, or larger."""
    near = [AxisSizes(graph, axis).nearest(n) for axis, n in enumerate(size)]
    smaller = tuple(below or n for (below, _), n in zip(near, size, strict=True))
    if smaller != tuple(size) and not single_value(graph, smaller, training=True):
        return smaller
    return tuple(above or n for (_, above), n in zip(near, size, strict=True))

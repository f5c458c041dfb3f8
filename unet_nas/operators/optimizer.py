"""The memory tape of the optimizers of PyTorch: state they keep, temporaries of one step.

Sources: ``torch/optim/{sgd,adam,adamw}.py`` of PyTorch 2.13; each implementation differs, so the
choice is explicit (``foreach=True``, ``fused=True`` or both False).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from unet_nas.operators.eager import Eager, Tensor

OptimizerKind = Literal["sgd", "adam", "adamw"]
Implementation = Literal["single", "foreach", "fused"]

_STEP_BYTES = 4
#: of a Python number among operands
_SCALAR_BYTES = 8


def make_state(
    eager: Eager,
    kind: OptimizerKind,
    implementation: Implementation,
    parameters: Sequence[Tensor],
    *,
    momentum: bool,
) -> None:
    """Allocates what the optimizer keeps between steps, as one block."""
    sizes = _sizes(parameters)
    kept = state_sizes(kind, implementation, sizes, momentum=momentum, device=eager.device)
    eager.new(sum(kept), 1, "optimizer")


def state_sizes(
    kind: OptimizerKind,
    implementation: Implementation,
    sizes: Sequence[int],
    *,
    momentum: bool,
    device: str,
) -> list[int]:
    """Returns the bytes of each tensor that an optimizer keeps between steps on its device.

    Adam counts its steps for each parameter, on the CPU where no fused kernel reads them.

    Args:
        kind: Which optimizer.
        implementation: Of its step.
        sizes: Bytes of each parameter.
        momentum: Whether SGD keeps a momentum buffer.
        device: ``cpu`` or ``cuda``.
    """
    if kind == "sgd":
        return list(sizes) * momentum
    counted = device == "cpu" or implementation == "fused"
    return [*sizes, *sizes, *[_STEP_BYTES] * (len(sizes) * counted)]


def _total_bytes(parameters: Sequence[Tensor]) -> int:
    return sum(_sizes(parameters))


def _sizes(parameters: Sequence[Tensor]) -> list[int]:
    return [parameter.elements * parameter.itemsize for parameter in parameters]


def step(
    eager: Eager,
    kind: OptimizerKind,
    implementation: Implementation,
    parameters: Sequence[Tensor],
    *,
    weight_decay: bool,
    momentum: bool,
    nesterov: bool,
) -> None:
    """Allocates and releases what one step needs for a while."""
    decayed = weight_decay and kind != "adamw"
    if implementation == "fused":
        return
    if implementation == "foreach":
        _foreach(eager, kind, parameters, decayed)
    elif kind == "sgd":
        _single_sgd(eager, parameters, decayed, momentum, nesterov)
    else:
        _single_adam(eager, parameters, decayed)


def _foreach(
    eager: Eager, kind: OptimizerKind, parameters: Sequence[Tensor], decayed: bool
) -> None:
    """Whole lists at a time, counted as blocks: decayed gradients, then Adam's square roots."""
    size_bytes = _total_bytes(parameters)
    for wanted in (decayed, kind != "sgd"):
        if wanted:
            eager.spike(size_bytes)


def _single_sgd(
    eager: Eager, parameters: Sequence[Tensor], decayed: bool, momentum: bool, nesterov: bool
) -> None:
    """One parameter at a time: the decayed gradient, beside it Nesterov's, or a number."""
    number_bytes = eager.on_cpu(_SCALAR_BYTES)
    for size_bytes in _sizes(parameters):
        beside_bytes = max(nesterov * size_bytes, momentum * number_bytes)
        eager.spike(decayed * size_bytes + beside_bytes)


def _single_adam(eager: Eager, parameters: Sequence[Tensor], decayed: bool) -> None:
    """One parameter at a time; its denominator lives until the next one's is ready."""
    held_bytes, number_bytes = 0, eager.on_cpu(_SCALAR_BYTES)
    for size_bytes in _sizes(parameters):
        gradient_bytes = size_bytes if decayed else 0
        eager.spike(held_bytes + gradient_bytes + 2 * size_bytes + number_bytes)
        held_bytes = size_bytes

"""How a training goes wrong, as results: the reason in one sentence, and nothing is raised."""

from __future__ import annotations

import math
import os

import torch

from unet_nas.audit.memory import Device
from unet_nas.records.study import TrialFailure
from unet_nas.units import format_bytes

__all__ = ["DIVERGED", "beyond_device", "is_out_of_memory", "judge_loss", "out_of_memory"]

DIVERGED = 10.0
"""A training has diverged when its loss is so many times that of its first steps."""
_WORDS = ("not enough memory", "can't allocate memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether memory ran out: on CUDA, in PyTorch's allocator for a CPU, or in Python.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("size mismatch"))
    (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def out_of_memory(error: BaseException, doing: str) -> TrialFailure:
    """Returns the failure that an error of `is_out_of_memory` stands for."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return TrialFailure("out_of_memory", f"memory ran out {doing}: {first}")


def beyond_device(needed_bytes: float, device: Device) -> TrialFailure | None:
    """Returns the failure of a step that asks for more memory than its device has.

    A system lends more than there is, and kills the process that uses it; so it is told before.
    """
    if device == "cuda":
        there = torch.cuda.mem_get_info()[1]
    else:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed_bytes <= there:
        return None
    sizes = f"needs {format_bytes(needed_bytes)}, and the {device} has {format_bytes(there)}"
    return TrialFailure("out_of_memory", f"a training step {sizes}")


def judge_loss(loss: float, first: float, step: int) -> TrialFailure | None:
    """Tells what a mean loss over a few steps says about a training.

    Args:
        loss: Of the steps before ``step``.
        first: Of the first steps, when the weights were still random.
        step: Steps done.

    >>> judge_loss(float("nan"), 0.7, 20).kind, judge_loss(9.0, 0.7, 20).kind
    ('nan_loss', 'diverged')
    >>> judge_loss(0.6, 0.7, 20) is None
    True
    """
    if math.isnan(loss):
        return TrialFailure("nan_loss", f"the loss was not a number by step {step}")
    if math.isinf(loss) or loss > DIVERGED * first:
        reason = f"the loss was {loss:.4g} by step {step}, {DIVERGED:g} times that of the first"
        return TrialFailure("diverged", f"{reason} steps ({first:.4g}) or more")
    return None

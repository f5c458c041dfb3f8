"""How a training goes wrong, as results: the reason in one sentence, and nothing is raised."""

from __future__ import annotations

import math

import torch

from unet_nas.records.study import TrialFailure

__all__ = ["DIVERGED", "is_out_of_memory", "judge_loss", "out_of_memory"]

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

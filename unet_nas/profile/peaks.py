"""Peak memory of a workload: the allocator's events on a CPU, the caching allocator on CUDA.

Both are meant for a process in which nothing ran before. The training step is the steady state:
the optimizer's state exists from the start, as it does from the second step on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from unet_nas.profile.memory import MeasuredPeak, inference_peak, training_peaks
from unet_nas.profile.workload import Workload
from unet_nas.records import PeakMemory

#: steps on CUDA after the first: cuDNN has chosen its algorithms by then
STEADY_STEPS = 2


def measure_memory(
    make: Callable[[], Workload], what: Literal["inference", "training"], device: str
) -> PeakMemory:
    """Measures the peak of a forward pass or of a training step.

    Args:
        make: makes the workload; on CUDA the device is looked at before and after.
        what: which of the two.
        device: ``cpu`` or ``cuda``.
    """
    if device == "cuda":
        return _on_cuda(make, what)
    peak = _of_tensors(make(), what)
    return PeakMemory(what, peak.tensor_bytes, peak.raw_bytes)


def _of_tensors(work: Workload, what: Literal["inference", "training"]) -> MeasuredPeak:
    """Returns the peak of the tensors of a workload without gradients, and that of all blocks."""
    precision = work.training.precision
    autocast = precision if precision in ("bf16", "fp16") else None
    if what == "inference":
        return inference_peak(work.module, work.inputs, autocast=autocast)
    steps = work.steps()
    _, peak = training_peaks(
        work.module,
        steps.criterion,
        steps.optimizer,
        work.inputs,
        steps.target,
        autocast=autocast,
        set_to_none=work.training.set_to_none,
    )
    return peak


def _on_cuda(make: Callable[[], Workload], what: Literal["inference", "training"]) -> PeakMemory:
    before = _device_bytes()
    work = make()
    run = _cuda_run(work, what)
    run()
    torch.cuda.synchronize()
    # reserved segments stay, so their peak is over all runs; allocated is that of the steady state
    torch.cuda.reset_peak_memory_stats()
    for _ in range(STEADY_STEPS):
        run()
    torch.cuda.synchronize()
    allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    after = _device_bytes()
    del run  # and with it the optimizer
    work.module.zero_grad(set_to_none=True)
    # the profiler would disturb the figures above, so it looks last
    tensors = _of_tensors(work, what).tensor_bytes
    return PeakMemory(what, tensors, allocated, reserved, after, before)


def _cuda_run(work: Workload, what: Literal["inference", "training"]) -> Callable[[], None]:
    if what == "inference":
        work.module.eval()
        return work.infer
    steps = work.steps()
    # the forward pass that told the target's size must not count as reserved
    torch.cuda.empty_cache()
    work.module.train()
    return steps.train


def _device_bytes() -> int:
    """Returns what is in use on the device, by all processes, contexts included."""
    free, total = torch.cuda.mem_get_info()
    return total - free

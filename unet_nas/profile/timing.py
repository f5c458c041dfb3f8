"""Latency: the median and quantiles of repeated runs, warm-up excluded.

On a CPU `torch.utils.benchmark` runs blocks that are long enough for the clock (a block of a
slow module is one run). On CUDA every run stands between two events of the stream, and there is
one synchronization, at the end: so the launches of one run overlap with the one before, as they
do in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Literal

import torch
from torch.utils.benchmark import Timer

from unet_nas.records import Latency

Run = Callable[[], None]
What = Literal["inference", "training"]


def measure_latency(
    run: Run,
    what: What,
    *,
    device: str,
    repeats: int,
    warmup: int,
    compiled: bool = False,
) -> Latency:
    """Measures how long a run takes.

    Args:
        run: a forward pass or a training step.
        what: which of the two, for the record.
        device: ``cpu`` or ``cuda``.
        repeats: how many samples at least.
        warmup: runs before the first sample.
        compiled: whether the module was compiled, for the record.
    """
    once_s = _warm_up(run, warmup)
    times, block = (
        _cuda_times_ms(run, repeats) if device == "cuda" else _cpu_times_ms(run, repeats, once_s)
    )
    p05, p25, median, p75, p95 = quantiles(times, (0.05, 0.25, 0.5, 0.75, 0.95))
    return Latency(
        what=what,
        compiled=compiled,
        median_ms=median,
        p05_ms=p05,
        p25_ms=p25,
        p75_ms=p75,
        p95_ms=p95,
        samples=len(times),
        runs_per_sample=block,
        warmup=warmup,
    )


def _cuda_times_ms(run: Run, repeats: int) -> tuple[list[float], int]:
    """Returns the time between two events around each run."""
    torch.cuda.synchronize()
    marks = [(_event(), _event()) for _ in range(repeats)]
    for before, after in marks:
        before.record()
        run()
        after.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) for before, after in marks], 1


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _warm_up(run: Run, warmup: int) -> float:
    """Runs the warm-up, and returns about how many seconds a run takes."""
    took = 0.0
    for _ in range(warmup):
        start = perf_counter()
        run()
        took = perf_counter() - start
    return took


def _cpu_times_ms(run: Run, repeats: int, once_s: float) -> tuple[list[float], int]:
    """Returns the mean time of a run in each block, and how many runs a block has."""
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    once_s = once_s or timer.timeit(1).median
    times: list[float] = []
    while len(times) < repeats:
        found = timer.blocked_autorange(min_run_time=(repeats - len(times)) * once_s)
        times += found.times
        once_s = found.number_per_run * found.median
    return [1e3 * seconds for seconds in times], found.number_per_run


def quantiles(values: Sequence[float], at: Sequence[float]) -> list[float]:
    """Returns quantiles, with linear interpolation between the sorted values.

    >>> quantiles([4.0, 1.0, 2.0, 3.0], (0.0, 0.5, 1.0))
    [1.0, 2.5, 4.0]
    """
    ordered = sorted(values)
    found = []
    for share in at:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        found.append(ordered[low] + (place - low) * (ordered[high] - ordered[low]))
    return found

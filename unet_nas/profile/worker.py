"""The measuring process: ``python -m unet_nas.profile.worker JOB RESULTS``.

It writes one JSON object a line to RESULTS as soon as it knows it, so that what was measured
before a crash is not lost: ``{"started": part}``, then ``{"part": part, "value": …}`` or
``{"part": part, "failure": …}``; once ``{"conditions": …}``; and ``{"refused": message}`` where
the job itself is at fault.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TextIO

import torch

from unet_nas.errors import InputError
from unet_nas.profile.counts import count, is_out_of_memory
from unet_nas.profile.job import Job
from unet_nas.profile.peaks import measure_memory
from unet_nas.profile.timing import measure_latency
from unet_nas.profile.workload import Workload, make_workload
from unet_nas.records import Conditions, Counts, Failure, Latency, Part, PeakMemory

Measured = Counts | Latency | PeakMemory
What = Literal["inference", "training"]


def main(job_file: str, results_file: str) -> None:
    """Runs a job and writes its results as they come."""
    job = Job.from_json(Path(job_file).read_bytes())
    with open(results_file, "a", encoding="utf-8") as results:
        try:
            run_job(job, results)
        except InputError as error:
            _write(results, {"refused": str(error)})


def run_job(job: Job, results: TextIO) -> None:
    """Measures the parts of a job one after the other; a part that fails does not end it.

    Raises:
        InputError: if the job itself is at fault.
    """
    _require_device(job)
    _apply(job)
    session = _Session(job)
    if job.in_channels is not None:
        _write(results, {"conditions": asdict(conditions(job, job.in_channels))})
    for part in job.parts:
        _write(results, {"started": part})
        try:
            value = session.measure(part)
        except InputError:
            raise
        except Exception as error:  # whatever a network raises is a result
            _write(results, {"part": part, "failure": asdict(failure_of(error))})
            session.forget()
        else:
            _write(results, {"part": part, "value": asdict(value)})
        if session.channels and job.in_channels is None:
            job = replace(job, in_channels=session.channels)
            _write(results, {"conditions": asdict(conditions(job, session.channels))})


def _require_device(job: Job) -> None:
    if job.device == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device cuda needs a GPU; this torch ({torch.__version__}) finds none")


def _apply(job: Job) -> None:
    """Sets what holds for the whole process."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    torch.backends.cuda.matmul.allow_tf32 = job.tf32
    torch.backends.cudnn.allow_tf32 = job.tf32
    torch.backends.cudnn.benchmark = job.cudnn_benchmark
    if job.memory_limit_bytes is not None and job.device == "cpu":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (job.memory_limit_bytes, hard))


class _Session:
    """A job's workload, made when it is first needed and shared by the parts of a pass."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.channels = 0
        self._work: Workload | None = None

    def work(self) -> Workload:
        if self._work is None:
            self._work = make_workload(self.job)
            self.channels = self._work.inputs.shape[1]
        return self._work

    def forget(self) -> None:
        """Lets go of the workload after a failure, which may have left it half changed."""
        self._work = None
        if self.job.device == "cuda":
            torch.cuda.empty_cache()

    def measure(self, part: Part) -> Measured:
        """Measures one part."""
        what: What = "training" if "training" in part else "inference"
        if part == "counts":
            work = self.work()
            return count(work.module, work.inputs)
        if part.endswith("_memory"):
            return measure_memory(self.work, what, self.job.device)
        return self._latency(what, compiled=part.startswith("compiled_"))

    def _latency(self, what: What, *, compiled: bool) -> Latency:
        work, job = self.work(), self.job
        steps = work.steps() if what == "training" else None
        if compiled:
            work = replace(work, module=torch.compile(work.module))  # type: ignore[arg-type]
        work.module.train(what == "training")
        run = work.infer if steps is None else replace(steps, work=work).train
        return measure_latency(
            run,
            what,
            device=job.device,
            repeats=job.repeats,
            warmup=job.warmup,
            compiled=compiled,
        )


def failure_of(error: Exception) -> Failure:
    """Returns why a part could not be measured."""
    text = " ".join(str(error).split())
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    kind: Literal["out_of_memory", "failed"]
    kind = "out_of_memory" if is_out_of_memory(error) else "failed"
    return Failure(kind, reason if len(reason) <= 300 else reason[:299] + "…")


def conditions(job: Job, in_channels: int) -> Conditions:
    """Returns what the figures of this process hold for."""
    on_cuda, t = job.device == "cuda", job.training
    cudnn: int | None = torch.backends.cudnn.version() if on_cuda else None  # type: ignore[no-untyped-call]
    return Conditions(
        device=job.device,
        device_name=torch.cuda.get_device_name() if on_cuda else processor_name(),
        torch_version=torch.__version__,
        cuda_version=torch.version.cuda,
        cudnn_version=cudnn,
        threads=torch.get_num_threads(),
        patch_size=job.patch_size,
        in_channels=in_channels,
        batch_size=job.batch_size,
        precision=t.precision,
        optimizer=f"{t.optimizer} ({t.implementation})",
        loss=t.loss_text,
        checkpoint=t.checkpoint,
        in_place=t.in_place,
        set_to_none=t.set_to_none,
        channels_last=job.channels_last,
        tf32=torch.backends.cudnn.allow_tf32,
        cudnn_benchmark=torch.backends.cudnn.benchmark,
    )


def processor_name() -> str:
    """Returns what the processor calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _write(results: TextIO, line: dict[str, Any]) -> None:
    results.write(json.dumps(line) + "\n")
    results.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One call that measures a network in fresh processes.

Counts and latency share a process; each peak of memory has one of its own. A process that runs
out of memory, is killed, or takes too long is a result with a reason; what it had measured before
is kept. No torch is imported here: only the measuring processes have it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

import unet_nas
from unet_nas.audit.cost import check_batch_size
from unet_nas.audit.memory import Training
from unet_nas.errors import InputError, UnetNasError
from unet_nas.profile.job import COMPILED_PARTS, EAGER_PARTS, PASSES, DeviceKind, Job
from unet_nas.profile.names import is_foreign, parse_foreign
from unet_nas.records import Failure, Part, Profile
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.dump import to_tree
from unet_nas.unet.graph import lower
from unet_nas.unet.load import load_architecture
from unet_nas.unet.shapes import shapes

Progress = Callable[[str], None]
JOB, RESULTS = "job.json", "results.jsonl"


def profile(
    network: Architecture | str,
    *,
    patch_size: Sequence[int],
    batch_size: int = 1,
    training: Training | None = None,
    name: str | None = None,
    in_channels: int | None = None,
    device: DeviceKind = "cpu",
    compiled: bool = False,
    channels_last: bool = False,
    tf32: bool = True,
    cudnn_benchmark: bool = False,
    threads: int | None = None,
    repeats: int = 20,
    warmup: int = 3,
    parts: Sequence[Part] | None = None,
    time_limit_s: float = 600.0,
    memory_limit_bytes: int | None = None,
    on_progress: Progress | None = None,
) -> Profile:
    """Measures a network in fresh processes: counts, latency and peak memory.

    Args:
        network: an architecture, a file, ``preset:NAME`` or ``python:package.module:factory``.
        patch_size: spatial size of the input.
        batch_size: samples per batch.
        training: precision, optimizer, loss, …; the same that the static model takes.
        name: what the network is called in the record; default: as it was given.
        in_channels: of a network of somebody else's; default: of its first convolution.
        device: ``cpu`` or ``cuda``.
        compiled: measure the latency under ``torch.compile`` too.
        channels_last: use the channels-last memory format.
        tf32: allow TF32 on CUDA.
        cudnn_benchmark: let cuDNN try its algorithms.
        threads: of torch; default: its own choice.
        repeats: samples of a latency.
        warmup: runs before the first sample.
        parts: what to measure; default: all.
        time_limit_s: of each process.
        memory_limit_bytes: of the address space of each process, on a CPU.
        on_progress: is told before each process what it measures.

    Raises:
        InputError: if the network, the device or an option is at fault.
        SizeError: if the network does not run on ``patch_size``.
        UnetNasError: if a measuring process cannot start.
    """
    check_batch_size(batch_size)
    _check_numbers(repeats=repeats, warmup=warmup, threads=threads, in_channels=in_channels)
    wanted = tuple(parts or EAGER_PARTS + (COMPILED_PARTS if compiled else ()))
    architecture = _architecture(network, patch_size, in_channels)
    job = Job(
        network=network if isinstance(network, str) else "architecture",
        architecture=None if architecture is None else json.dumps(to_tree(architecture)),
        patch_size=tuple(patch_size),
        batch_size=batch_size,
        in_channels=in_channels if architecture is None else architecture.in_channels,
        training=training or Training(),
        device=device,
        channels_last=channels_last,
        tf32=tf32,
        cudnn_benchmark=cudnn_benchmark,
        threads=threads,
        repeats=repeats,
        warmup=warmup,
        memory_limit_bytes=memory_limit_bytes,
        parts=wanted,
    )
    return _run(job, name or job.network, time_limit_s, on_progress or (lambda message: None))


def _check_numbers(
    *, repeats: int, warmup: int, threads: int | None, in_channels: int | None
) -> None:
    given = {"repeats": (repeats, 1), "warmup": (warmup, 0)}
    given |= {} if threads is None else {"threads": (threads, 1)}
    given |= {} if in_channels is None else {"in_channels": (in_channels, 1)}
    for name, (value, least) in given.items():
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")


def _architecture(
    network: Architecture | str, patch_size: Sequence[int], in_channels: int | None
) -> Architecture | None:
    """Returns an architecture that runs on the patch; None for a network of somebody else's."""
    if isinstance(network, str) and is_foreign(network):
        parse_foreign(network)
        if not patch_size or any(type(n) is not int or n < 1 for n in patch_size):
            raise InputError(f"a patch size must be made of integers from 1 on, got {patch_size}")
        return None
    architecture = load_architecture(network) if isinstance(network, str) else network
    if in_channels not in (None, architecture.in_channels):
        raise InputError(
            f"in_channels is for networks of Python code; this one says {architecture.in_channels}"
        )
    shapes(lower(architecture), patch_size)
    return architecture


# --- processes ----------------------------------------------------------------------------


@dataclass(slots=True)
class _Results:
    """What the processes have said so far."""

    conditions: Any = None
    values: dict[Part, Any] = field(default_factory=dict)
    failures: dict[Part, Failure] = field(default_factory=dict)

    def read(self, lines: Sequence[str]) -> None:
        """Reads the lines of one process.

        Raises:
            InputError: if it refused the job.
        """
        for line in lines:
            said = json.loads(line)
            if "refused" in said:
                raise InputError(said["refused"])
            if "conditions" in said:
                self.conditions = said["conditions"]
            elif "value" in said:
                self.values[said["part"]] = said["value"]
            elif "failure" in said:
                self.failures[said["part"]] = Failure(**said["failure"])

    def profile(self, network: str) -> Profile:
        """Puts together what was said."""
        latencies = [v for part, v in self.values.items() if part.endswith("_latency")]
        found = {
            "network": network,
            "conditions": self.conditions,
            "counts": self.values.get("counts"),
            "latencies": latencies,
            "inference_memory": self.values.get("inference_memory"),
            "training_memory": self.values.get("training_memory"),
            "failures": self.failures,
        }
        return TypeAdapter(Profile).validate_python(found)


def _run(job: Job, name: str, time_limit_s: float, on_progress: Progress) -> Profile:
    results = _Results()
    passes = [tuple(part for part in parts if part in job.parts) for parts in PASSES]
    passes = [parts for parts in passes if parts]
    for number, parts in enumerate(passes, start=1):
        what = ", ".join(part.replace("_", " ") for part in parts)
        on_progress(f"measuring {what} of {name} (process {number} of {len(passes)})")
        _one_pass(replace(job, parts=parts), time_limit_s, results)
    return results.profile(name)


def _one_pass(job: Job, time_limit_s: float, results: _Results) -> None:
    """Runs one process, reads what it wrote, and notes why the rest is missing."""
    with tempfile.TemporaryDirectory(prefix="unet-nas-") as folder:
        Path(folder, JOB).write_text(job.to_json(), "utf-8")
        Path(folder, RESULTS).touch()
        end = _spawn(Path(folder), time_limit_s)
        results.read(Path(folder, RESULTS).read_text("utf-8").splitlines())
    missing = [p for p in job.parts if p not in results.values and p not in results.failures]
    for part in missing:
        results.failures[part] = end or Failure("failed", "the process ended without a result")


def _spawn(folder: Path, time_limit_s: float) -> Failure | None:
    """Runs a measuring process to its end; returns why it ended early, or None."""
    # -P keeps the current directory out of the way: a random.py there is not ours to import
    command = [sys.executable, "-P", "-m", "unet_nas.profile.worker"]
    home = str(Path(unet_nas.__file__).parents[1])
    places = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    errors = folder / "stderr"
    with errors.open("wb") as stderr:
        try:
            process = subprocess.Popen(
                [*command, str(folder / JOB), str(folder / RESULTS)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,  # so that its compilers can be ended with it
            )
        except OSError as error:
            raise UnetNasError(f"no measuring process could be started: {error}") from error
        if not _wait(process, time_limit_s):
            return Failure("timeout", f"it took longer than the limit of {time_limit_s:g} s")
    return _ending(process.returncode, errors.read_text("utf-8", errors="replace"))


def _wait(process: subprocess.Popen[bytes], time_limit_s: float) -> bool:
    """Waits for a process, and ends it with its children if it takes too long."""
    try:
        process.wait(time_limit_s)
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return True


def _ending(code: int, stderr: str) -> Failure | None:
    """Returns what a process died of; its last line on stderr says most."""
    if code == 0:
        return None
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "no message")
    if "bad_alloc" in stderr or last.startswith("MemoryError"):
        return Failure("out_of_memory", last.strip()[:300])
    if code > 0:
        return Failure("failed", last.strip()[:300])
    name = signal.Signals(-code).name
    why = ", as the system does where memory runs out" if -code == signal.SIGKILL else ""
    return Failure("killed", f"the process was ended by {name}{why}")

"""What a measuring process is asked to do, as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter

from unet_nas.audit.memory import Training
from unet_nas.records import Part

DeviceKind = Literal["cpu", "cuda"]

#: the passes of a profile, each in a process of its own: memory is measured where nothing else ran
PASSES: tuple[tuple[Part, ...], ...] = (
    (
        "counts",
        "inference_latency",
        "training_latency",
        "compiled_inference_latency",
        "compiled_training_latency",
    ),
    ("inference_memory",),
    ("training_memory",),
)
EAGER_PARTS: tuple[Part, ...] = (
    "counts",
    "inference_latency",
    "training_latency",
    "inference_memory",
    "training_memory",
)
COMPILED_PARTS: tuple[Part, ...] = ("compiled_inference_latency", "compiled_training_latency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One process of measurements.

    Attributes:
        network: ``python:package.module:factory``, or what an architecture is called.
        architecture: The architecture as JSON; None for a network of somebody else's.
        patch_size: Spatial size of the input.
        batch_size: Samples per batch.
        in_channels: Channels of the input; None: as the architecture or the first convolution
            says.
        training: How the training step runs.
        device: ``cpu`` or ``cuda``.
        channels_last: Whether to use the channels-last memory format.
        tf32: Whether CUDA may use TF32.
        cudnn_benchmark: Whether cuDNN tries its algorithms.
        threads: Of torch; None for its own choice.
        repeats: Samples of a latency.
        warmup: Runs before the first sample.
        memory_limit_bytes: Of the process's address space (CPU only), or None.
        seed: Of the weights and the data.
        parts: What to measure, in this order.
    """

    network: str
    architecture: str | None = None
    patch_size: tuple[int, ...]
    batch_size: int = 1
    in_channels: int | None = None
    training: Training = field(default_factory=Training)
    device: DeviceKind = "cpu"
    channels_last: bool = False
    tf32: bool = True
    cudnn_benchmark: bool = False
    threads: int | None = None
    repeats: int = 20
    warmup: int = 3
    memory_limit_bytes: int | None = None
    seed: int = 0
    parts: tuple[Part, ...] = EAGER_PARTS

    def to_json(self) -> str:
        """Returns the job as JSON."""
        return TypeAdapter(Job).dump_json(self).decode()

    @staticmethod
    def from_json(text: str | bytes) -> Job:
        """Returns the job that `to_json` wrote."""
        return TypeAdapter(Job).validate_json(text)

"""What was measured, as plain data: every record goes to JSON and comes back equal.

A record holds numbers, text and tuples, and no object of torch, so that a process can write it
and another, with no torch at all, can read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter

Part = Literal[
    "counts",
    "inference_latency",
    "training_latency",
    "compiled_inference_latency",
    "compiled_training_latency",
    "inference_memory",
    "training_memory",
]
FailureKind = Literal["out_of_memory", "killed", "timeout", "failed"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of one forward pass of a batch in evaluation mode.

    Attributes:
        parameters: Elements of all parameters.
        trainable_parameters: Those that take gradients.
        buffers: Elements of all buffers.
        macs: Multiply-accumulates of convolutions and matrix products, by fvcore; None where
            fvcore cannot trace the module.
        elementwise: Operations besides, by fvcore with our handles (`unet_nas.profile.counts`).
        by_operator: fvcore's count by operator; convolutions are ``conv``.
        unsupported: Operators that fvcore met and has no handle for, and how often: these are
            missing from the counts.
        flop_counter_macs: Half of what ``FlopCounterMode`` counts; None where it cannot run.
        notes: Why a count is missing.
    """

    parameters: int
    trainable_parameters: int
    buffers: int
    macs: int | None
    elementwise: int | None
    by_operator: dict[str, int] = field(default_factory=dict)
    unsupported: dict[str, int] = field(default_factory=dict)
    flop_counter_macs: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one forward pass or one training step, after warm-up.

    Attributes:
        what: ``inference`` or ``training`` (a whole step: forward, loss, backward, optimizer).
        compiled: Whether ``torch.compile`` was used.
        median_ms: Median of the samples, in milliseconds.
        p05_ms: 5 % of the samples are below it.
        p25_ms: A quarter is below it.
        p75_ms: Three quarters are below it.
        p95_ms: 95 % are below it.
        samples: How many samples.
        runs_per_sample: Runs that one sample is the mean of (more than one for short runs).
        warmup: Runs before the first sample.
    """

    what: Literal["inference", "training"]
    compiled: bool
    median_ms: float
    p05_ms: float
    p25_ms: float
    p75_ms: float
    p95_ms: float
    samples: int
    runs_per_sample: int
    warmup: int


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Peak memory of one forward pass, or of a training step in the steady state.

    Attributes:
        what: ``inference`` or ``training``.
        tensor_bytes: Tensors alive at once, without blocks that live inside one operator.
        allocated_bytes: All that the allocator had handed out at once.
        reserved_bytes: CUDA: what the caching allocator took from the device.
        device_bytes: CUDA: used on the device afterwards, by every process, contexts included.
        device_before_bytes: CUDA: the same before the module was made.
    """

    what: Literal["inference", "training"]
    tensor_bytes: int
    allocated_bytes: int
    reserved_bytes: int | None = None
    device_bytes: int | None = None
    device_before_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the figures hold for.

    Attributes:
        device: ``cpu`` or ``cuda``.
        device_name: Of the processor or the GPU.
        torch_version: With its build.
        cuda_version: That torch was built with, or None.
        cudnn_version: That torch loaded, or None.
        threads: Of torch, inside one operator.
        patch_size: Spatial size of the input.
        in_channels: Channels of the input.
        batch_size: Samples per batch.
        precision: ``fp32``, autocast to ``bf16`` or ``fp16``, or ``pure-…``.
        optimizer: Of the training step, with its implementation: ``adamw (foreach)``.
        loss: Of the training step.
        checkpoint: Units recomputed in backward.
        in_place: Whether activations overwrite their input where that is safe.
        set_to_none: Whether ``zero_grad`` frees the gradients.
        channels_last: Whether module and input have the channels-last memory format.
        tf32: Whether CUDA may use TF32 in fp32 convolutions and matrix products.
        cudnn_benchmark: Whether cuDNN tries its algorithms and takes the fastest.
    """

    device: str
    device_name: str
    torch_version: str
    cuda_version: str | None
    cudnn_version: int | None
    threads: int
    patch_size: tuple[int, ...]
    in_channels: int
    batch_size: int
    precision: str
    optimizer: str
    loss: str
    checkpoint: tuple[str, ...]
    in_place: bool
    set_to_none: bool
    channels_last: bool
    tf32: bool
    cudnn_benchmark: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a part could not be measured; running out of memory is a result.

    Attributes:
        kind: ``out_of_memory``, ``killed`` (by a signal), ``timeout`` or ``failed``.
        reason: In one sentence.
    """

    kind: FailureKind
    reason: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What was measured of a network under stated conditions.

    Attributes:
        network: A file, ``preset:NAME`` or ``python:package.module:factory``.
        conditions: What the figures hold for; None where no process lived to tell them.
        counts: Parameters and operations.
        latencies: One for every mode that was measured.
        inference_memory: Peak of a forward pass without gradients.
        training_memory: Peak of a training step, from the second on.
        failures: Why a part that was asked for is missing.
    """

    network: str
    conditions: Conditions | None = None
    counts: Counts | None = None
    latencies: tuple[Latency, ...] = ()
    inference_memory: PeakMemory | None = None
    training_memory: PeakMemory | None = None
    failures: dict[Part, Failure] = field(default_factory=dict)

    def latency(
        self, what: Literal["inference", "training"], *, compiled: bool = False
    ) -> Latency | None:
        """Returns a latency, or None where it was not measured."""
        asked = (what, compiled)
        return next((t for t in self.latencies if (t.what, t.compiled) == asked), None)

    def to_json(self) -> str:
        """Returns the record as JSON."""
        return TypeAdapter(Profile).dump_json(self, indent=2).decode()

    @staticmethod
    def from_json(text: str | bytes) -> Profile:
        """Returns the record that `to_json` wrote.

        >>> profile = Profile("preset:unet-2015", failures={"counts": Failure("killed", "…")})
        >>> Profile.from_json(profile.to_json()) == profile
        True
        """
        return TypeAdapter(Profile).validate_json(text)

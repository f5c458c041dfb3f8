"""The sections ``budget`` and, as far as costs need it, ``train``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
)
from pydantic_core import PydanticCustomError

from unet_nas.audit.memory import Device, Precision, Training
from unet_nas.errors import InputError
from unet_nas.operators.fields import Flag, Options
from unet_nas.operators.loss import LossKind
from unet_nas.operators.optimizer import OptimizerKind
from unet_nas.units import (
    format_bytes,
    format_count,
    format_duration,
    parse_count,
    parse_duration,
    parse_memory_limit,
    parse_size,
    parse_time_limit,
)

__all__ = ["STATIC_LIMITS", "Budget", "Conditions", "Limit", "format_limit", "limit_text"]

Limit: TypeAlias = Literal["parameters", "macs", "training_memory", "inference_memory"]
STATIC_LIMITS: tuple[Limit, ...] = ("parameters", "macs", "training_memory", "inference_memory")
"""The limits that arithmetic decides, cheapest first."""


def _read(parse: Callable[[Any], Any]) -> BeforeValidator:
    """Makes a validator of a function that reads a quantity; its sentence becomes the fault's."""

    def read(value: Any) -> Any:
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise PydanticCustomError(
                "quantity", "must be a number with a unit, such as 5M or 8GiB"
            )
        try:
            return parse(value)
        except InputError as error:
            raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None

    return BeforeValidator(read)


Count = Annotated[int, Field(gt=0), _read(parse_count)]
Bytes = Annotated[int, Field(gt=0), _read(parse_memory_limit)]
Seconds = Annotated[float, Field(gt=0), _read(parse_duration)]
_Latency = Annotated[float, Field(gt=0), _read(parse_time_limit)]


class Budget(Options):
    """The limits that a person sets; a candidate may reach them, not exceed them."""

    parameters: Count | None = Field(None, description="trainable parameters, as 5M")
    macs: Count | None = Field(
        None, description="multiply-accumulates of one forward pass of one patch, as 10G"
    )
    training_memory: Bytes | None = Field(
        None, description="peak of tensors in a training step at the batch of train, as 8GiB"
    )
    inference_memory: Bytes | None = Field(
        None, description="peak of tensors in a forward pass of one patch, as 2GiB"
    )
    latency: _Latency | None = Field(
        None, description="median time of a forward pass of one patch, as 50ms; it is measured"
    )

    def static_limits(self) -> dict[Limit, int]:
        """Returns the limits that arithmetic decides, cheapest first."""
        found = {name: getattr(self, name) for name in STATIC_LIMITS}
        return {name: limit for name, limit in found.items() if limit is not None}


def _split(value: Any) -> Any:
    """Reads a text such as ``256x256``."""
    if not isinstance(value, str):
        return value
    try:
        size = parse_size(value)
    except InputError as error:
        raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None
    return size if len(size) > 1 else size[0]


def _all_or_axes(value: Any) -> str:
    return "axes" if isinstance(value, list | tuple) else "all"


_Extent = Annotated[int, Strict(), Field(ge=1, le=1_000_000)]
#: ``256`` (for all axes), ``256x256`` or ``[256, 256]``
PatchSize = Annotated[
    Annotated[_Extent, Tag("all")]
    | Annotated[tuple[_Extent, ...], Field(min_length=1, max_length=3), Tag("axes")],
    Discriminator(_all_or_axes),
    BeforeValidator(_split),
]


def _weights_kind(value: Any) -> str:
    return "word" if isinstance(value, str) else "list"


ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("word")]
    | Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2), Tag("list")],
    Discriminator(_weights_kind),
]


class Conditions(BaseModel):
    """What the cost of a candidate depends on besides its architecture.

    Other keys of ``train`` are left to those who train.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)

    patch_size: PatchSize | None = Field(
        None, description="size of a training input, as 256x256; one number stands for all axes"
    )
    batch_size: Annotated[int, Strict(), Field(ge=1, le=1 << 20)] = Field(
        1, description="samples per training step"
    )

    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="autocast of the forward pass; auto: bf16 on CUDA, fp32 on a CPU"
    )
    optimizer: OptimizerKind = Field("adamw", description="sgd, adam or adamw")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-2, description="of the optimizer")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of sgd")
    nesterov: Flag = Field(False, description="momentum of sgd as Nesterov's")
    loss: LossKind = Field("dice_cross_entropy", description="what is minimised")
    class_weights: ClassWeights | None = Field(
        None, description="weights of the classes in the cross-entropy: balanced, or a list"
    )
    checkpoint: tuple[str, ...] = Field(
        (), description="units recomputed in backward to save memory, as [0, bottleneck]"
    )
    in_place: Flag = Field(False, description="activations overwrite their input where safe")

    def training(self, device: Device = "cpu") -> Training:
        """Returns the training step that the audit computes the memory of."""
        fastest: Precision = "bf16" if device == "cuda" else "fp32"
        return Training(
            precision=fastest if self.precision == "auto" else self.precision,
            optimizer=self.optimizer,
            momentum=self.momentum > 0,
            weight_decay=self.weight_decay > 0,
            nesterov=self.nesterov and self.optimizer == "sgd",
            implementation="foreach" if device == "cuda" else "single",
            loss=self.loss,
            class_weights=self.class_weights is not None,
            in_place=self.in_place,
            checkpoint=self.checkpoint,
            device=device,
        )

    def size(self, dims: int) -> tuple[int, ...] | None:
        """Returns the patch size with one number per axis, if there is one.

        >>> Conditions(patch_size=64).size(3)
        (64, 64, 64)
        """
        size = self.patch_size
        return (size,) * dims if isinstance(size, int) else size

    @property
    def size_text(self) -> str:
        """The patch size as it stands in a file; empty where there is none."""
        size = self.patch_size
        return "x".join(map(str, size)) if isinstance(size, tuple) else str(size or "")


def format_limit(name: str, value: float) -> str:
    """Writes a quantity for people.

    >>> format_limit("macs", 1.5e9), format_limit("training_memory", 2**33)
    ('1.5G', '8 GiB')
    """
    if name == "latency":
        return format_duration(value)
    return format_bytes(value) if name.endswith("memory") else format_count(value)


def limit_text(name: Limit, value: int) -> str:
    """Writes a limit as it stands in a file, rounded up, so that ``value`` lies within it.

    >>> limit_text("parameters", 1_240_001), limit_text("training_memory", 3 * 2**30 + 1)
    ('1.241M', '3.001GiB')
    """
    memory = name.endswith("memory")
    base, units = (1024, ("B", "KiB", "MiB", "GiB")) if memory else (1000, ("", "K", "M", "G"))
    index = next((i for i in (3, 2, 1) if value >= base**i), 0)
    unit = base**index
    thousandths = -(-value * 1000 // unit)
    whole, rest = divmod(thousandths, 1000)
    digits = f"{whole}.{rest:03}".rstrip("0").rstrip(".")
    return f"{digits}{units[index]}"

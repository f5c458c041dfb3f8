"""The section ``train``: one training run, described completely (imports no torch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, Strict, ValidationError, model_validator

from unet_nas.errors import Fault
from unet_nas.operators.fields import Flag
from unet_nas.space.budget import Conditions, Seconds
from unet_nas.text.validation import faults_error
from unet_nas.train.data.options import Augment

__all__ = ["Schedule", "TrainConfig", "patch_size_of"]

Schedule: TypeAlias = Literal["cosine", "constant"]
_Count = Annotated[int, Strict(), Field(ge=1, le=10**9)]
_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(ge=0, le=1)]

DEFAULT_STEPS = 500


class TrainConfig(Conditions):
    """How a network is trained; one of ``steps``, ``epochs`` and ``seconds`` ends it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    steps: _Count | None = Field(
        None, description=f"optimizer steps; {DEFAULT_STEPS} where no other budget is given"
    )
    epochs: _Positive | None = Field(
        None, description="passes: so many patches as the training cases hold, one batch a step"
    )
    seconds: Seconds | None = Field(
        None, description="time of training, without validation, as 60s; scores then vary"
    )
    learning_rate: _Positive = Field(1e-3, description="highest learning rate")
    schedule: Schedule = Field("cosine", description="of the learning rate, after the warm-up")
    warmup: _Share = Field(0.05, description="share of the budget in which the rate rises")
    clip: _Positive | None = Field(1.0, description="highest norm of the gradient; null: any")
    channels_last: Flag | None = Field(
        None, description="memory format; null: where the device gains from it"
    )
    compile: Flag = Field(False, description="use torch.compile")
    foreground: _Share = Field(
        0.33, description="share of patches that are centred on a foreground position"
    )
    augment: Augment | None = Field(
        Augment.model_construct(), description="random changes of patches; null: none"
    )
    validations: _Count = Field(
        5, description="scorings of the validation cases, evenly over the budget"
    )
    surface_tolerance: _Positive | None = Field(
        None, description="of surface_dice, in mm or pixels; null: one position"
    )
    event_tolerance: _Positive | None = Field(None, description="of event_f1, in samples; null: 10")

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = list(self._faults())
        if faults:
            summary = "; ".join(f"{fault.path[0]} {fault.rule}" for fault in faults)
            raise faults_error(faults, summary)
        return self

    def _faults(self) -> Iterator[Fault]:
        given = [n for n in ("steps", "epochs", "seconds") if getattr(self, n) is not None]
        if len(given) > 1:
            rule = f"must stand alone: {' and '.join(given)} are given, and one ends the training"
            yield Fault((given[1],), rule, str(getattr(self, given[1])), f"remove {given[1]}")
        if self.nesterov and self.optimizer != "sgd":
            yield Fault(("nesterov",), "needs optimizer: sgd", "true", "remove nesterov")

    @property
    def budget(self) -> tuple[Literal["steps", "epochs", "seconds"], float]:
        """What ends the training, and after how much."""
        if self.epochs is not None:
            return "epochs", self.epochs
        if self.seconds is not None:
            return "seconds", self.seconds
        return "steps", self.steps or DEFAULT_STEPS


def patch_size_of(section: Any, dims: int) -> tuple[int, ...] | None:
    """Returns the patch size of a section ``train`` as written, which may have domains or faults.

    Args:
        section: Plain data, or None.
        dims: Of the data.

    >>> patch_size_of({"patch_size": 64, "learning_rate": {"choice": [1, 2]}}, 2)
    (64, 64)
    >>> patch_size_of({"patch_size": {"choice": [32, 64]}}, 2)
    """
    written = section.get("patch_size") if isinstance(section, Mapping) else None
    try:
        size = TrainConfig.model_validate({"patch_size": written}).size(dims)
    except ValidationError:  # told where the section is checked
        return None
    return size if size is not None and len(size) == dims else None

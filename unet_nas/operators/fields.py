"""Types of the fields that people write: strict scalars, one value or a list per stage.

Scalars are strict (``3.0`` is not an integer, ``yes`` is not a truth value), containers are
lax (a tuple, a list). Each type fails with one error, not with one per member of a union.

Unions are ``TypeAliasType``: pydantic then makes the validator of each once, not once per field.
"""

from __future__ import annotations

from math import floor
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
)
from typing_extensions import TypeAliasType

T = TypeVar("T")

MAX_CHANNELS = 1_000_000
MAX_EXTENT = 1_000


class Options(BaseModel):
    """Base of all that people write: frozen, no unknown keys, no infinities.

    Validators are built when they are first needed, and defaults are given as
    ``Class.model_construct()``, which needs none: so one schema is built per process, that
    of the whole architecture, and the command line starts quickly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


# --- operators by name ------------------------------------------------------------------


def _shorthand(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


#: lets ``max_pool`` stand for ``{type: max_pool}`` in a union discriminated by ``type``
Shorthand = BeforeValidator(_shorthand)


# --- scalars ----------------------------------------------------------------------------

Flag = Annotated[bool, Strict()]
Channels = Annotated[int, Strict(), Field(ge=1, le=MAX_CHANNELS)]
Count = Annotated[int, Strict(), Field(ge=1, le=64)]
CountOrZero = Annotated[int, Strict(), Field(ge=0, le=64)]
Rate = Annotated[float, Strict(), Field(ge=0, lt=1)]
Positive = Annotated[float, Strict(), Field(gt=0, le=1_000)]
PadModeName = Literal["zeros", "reflect", "replicate", "circular"]


# --- one number for all axes, or one per axis -------------------------------------------


class PerAxis(tuple[int, ...]):
    """One number per spatial axis (as opposed to one value per stage)."""

    __slots__ = ()


def _split_axes(value: Any) -> Any:
    """Turns the text ``1x3x3`` into a list of numbers."""
    if isinstance(value, str):
        parts = value.lower().split("x")
        if len(parts) > 1 and all(part.strip().isdecimal() for part in parts):
            return PerAxis(int(part) for part in parts)
    return value


# Functions, not the classes themselves: pydantic reads the signature of a validator, and that
# of a subclass of tuple takes it a millisecond.
def _to_axes(value: tuple[int, ...]) -> PerAxis:
    return PerAxis(value)


def _all_or_axes(value: Any) -> str:
    return "axes" if isinstance(value, list | tuple) else "all"


_Extent = Annotated[int, Strict(), Field(ge=1, le=MAX_EXTENT)]
_Border = Annotated[int, Strict(), Field(ge=0, le=MAX_EXTENT)]
_AXES = (Field(min_length=1, max_length=3), AfterValidator(_to_axes), Tag("axes"))

#: a kernel, a stride, a factor: at least 1, as ``3`` or ``1x3x3`` or ``[1, 3, 3]``
Extent = TypeAliasType(
    "Extent",
    Annotated[
        Annotated[_Extent, Tag("all")] | Annotated[tuple[_Extent, ...], *_AXES],
        Discriminator(_all_or_axes),
        BeforeValidator(_split_axes),
    ],
)
#: a number of positions at a border: at least 0, as ``1`` or ``0x1x1`` or ``[0, 1, 1]``
Border = TypeAliasType(
    "Border",
    Annotated[
        Annotated[_Border, Tag("all")] | Annotated[tuple[_Border, ...], *_AXES],
        Discriminator(_all_or_axes),
        BeforeValidator(_split_axes),
    ],
)


def _padding_kind(value: Any) -> str:
    return "word" if isinstance(value, str) else _all_or_axes(value)


#: ``same``, ``valid``, or a number of positions (per axis) at both ends
Padding = TypeAliasType(
    "Padding",
    Annotated[
        Annotated[Literal["same", "valid"], Tag("word")]
        | Annotated[_Border, Tag("all")]
        | Annotated[tuple[_Border, ...], *_AXES],
        Discriminator(_padding_kind),
        BeforeValidator(_split_axes),
    ],
)


# --- widths -----------------------------------------------------------------------------


def _width_kind(value: Any) -> str:
    return "ratio" if isinstance(value, float) else "channels"


#: a number of channels (``64``), or a ratio of another number of channels (``0.5``)
Width = TypeAliasType(
    "Width",
    Annotated[
        Annotated[Channels, Tag("channels")] | Annotated[Positive, Tag("ratio")],
        Discriminator(_width_kind),
    ],
)


def width_of(width: int | float | None, whole: int, default: int) -> int:
    """Returns a number of channels: as given, as a ratio of ``whole``, or the default.

    A ratio is rounded half up and gives at least 1.

    >>> width_of(0.5, 96, 64), width_of(48, 96, 64), width_of(None, 96, 64)
    (48, 48, 64)
    """
    if width is None:
        return default
    if isinstance(width, int):
        return width
    return max(1, floor(whole * width + 0.5))


# --- one value for all stages, or a list with one per stage -----------------------------


class Stages(tuple[T, ...]):
    """One value per stage, index 0 at full resolution."""

    __slots__ = ()


def _to_stages(value: tuple[T, ...]) -> Stages[T]:
    return Stages(value)


def _one_or_stages(value: Any) -> str:
    per_stage = isinstance(value, list | tuple) and not isinstance(value, PerAxis)
    return "stages" if per_stage else "one"


#: a value for every stage, or a list indexed by resolution
PerStage = TypeAliasType(
    "PerStage",
    Annotated[
        Annotated[T, Tag("one")]
        | Annotated[tuple[T, ...], AfterValidator(_to_stages), Tag("stages")],
        Discriminator(_one_or_stages),
    ],
    type_params=(T,),
)

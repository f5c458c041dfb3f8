"""The list of all operators with their options, read off the unions: there is no other registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typing_extensions import TypeAliasType

from unet_nas.operators.block import AnyBlock, SqueezeExcitation
from unet_nas.operators.downsample import AnyDownsample
from unet_nas.operators.fields import Options
from unet_nas.operators.fusion import AnyAlignment, AnyFusion
from unet_nas.operators.head import AnyHead, Stem
from unet_nas.operators.unit import AnyActivation, AnyDropout, AnyNorm
from unet_nas.operators.upsample import AnyUpsample


@dataclass(frozen=True, slots=True)
class Option:
    """One option of an operator: its name, its default as YAML, the words allowed, its meaning."""

    name: str
    default: str
    choices: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: the field that takes it, its name there, its meaning, its options."""

    field: str
    name: str
    meaning: str
    options: tuple[Option, ...]


def kinds() -> dict[str, tuple[type[Options], ...]]:
    """Returns the operators that each field takes, in the order of their unions."""
    return {
        "block": get_args(AnyBlock),
        "squeeze_excitation": (SqueezeExcitation,),
        "down": get_args(AnyDownsample),
        "up": get_args(AnyUpsample),
        "fusion": get_args(AnyFusion),
        "align": get_args(AnyAlignment),
        "norm": get_args(AnyNorm),
        "activation": get_args(AnyActivation),
        "dropout": get_args(AnyDropout),
        "stem": (Stem,),
        "head": get_args(AnyHead),
    }


def operators() -> list[Operator]:
    """Returns every operator that an architecture file can name."""
    return [_operator(field, kind) for field, members in kinds().items() for kind in members]


def _operator(field: str, kind: type[Options]) -> Operator:
    fields = kind.model_fields
    name = fields["type"].default if "type" in fields else "{…}"
    meaning = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    options = tuple(describe(key, info) for key, info in fields.items() if key != "type")
    return Operator(field, name, meaning, options)


def describe(name: str, info: FieldInfo) -> Option:
    """Returns what is known of a field of a schema."""
    return Option(name, as_yaml(info.default), choices(info.annotation), info.description or "")


def as_yaml(value: Any) -> str:
    """Returns a default value as a person would write it in YAML.

    >>> as_yaml(None), as_yaml(True), as_yaml(2.0)
    ('null', 'true', '2.0')
    """
    if value is PydanticUndefined:
        return "(required)"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, Options):
        return str(value)
    changed = {key: getattr(value, key) for key in sorted(value.model_fields_set)}
    head = getattr(value, "type", None)
    if not changed:
        return str(head or "{}")
    inner = ", ".join(f"{key}: {as_yaml(item)}" for key, item in changed.items())
    return f"{{type: {head}, {inner}}}" if head else f"{{{inner}}}"


def choices(annotation: Any) -> tuple[str, ...]:
    """Returns the words of all literals in a type.

    >>> choices(Literal["same", "valid"] | int)
    ('same', 'valid')
    """
    if isinstance(annotation, TypeAliasType):
        return choices(annotation.__value__)
    if get_origin(annotation) is Literal:
        return tuple(str(word) for word in get_args(annotation))
    return tuple(word for part in get_args(annotation) for word in choices(part))

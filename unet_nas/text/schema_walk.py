"""From pydantic's ``loc`` of an error back to the path in the tree and the types expected there.

A ``loc`` mixes keys and indices with names of union members that the person never wrote
(``('down', 'stages', 1, 'max_pool', 'kernel')``). The types of the model are walked along with the
tree to tell them apart; where the types are unknown, what is in the tree decides.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Discriminator, Tag
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType

from unet_nas.errors import Path

__all__ = ["Member", "Spot", "keys_of", "literals_of", "tags_of", "walk"]


@dataclass(frozen=True, slots=True)
class Member:
    """One type that may stand at a place.

    Attributes:
        type: The type, without ``Annotated``.
        tag: The name pydantic gives it in a tagged union.
        discriminator: The key that chooses among its own members, where it is a union itself.
    """

    type: Any
    tag: str | None = None
    discriminator: str | None = None


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an error is.

    Attributes:
        path: The path in the tree, from the root of the model; an absent key is its last part.
        value: The value in the tree, None for an absent key.
        exists: Whether the tree has a value there.
        rest: Keys that go on from a shorthand (``norm: group``) into what it stands for.
        members: The types that may stand there.
        in_union: Whether the error is that of one member of an untagged union.
    """

    path: Path
    value: Any
    exists: bool
    rest: tuple[str | int, ...]
    members: tuple[Member, ...]
    in_union: bool


def walk(loc: Sequence[str | int], tree: Any, model: type[BaseModel]) -> Spot:
    """Follow ``loc`` through the tree and the types of the model."""
    path: Path = ()
    rest: Path = ()
    value, exists, in_union = tree, True, False
    members = tuple(_expand(model))
    for part in loc:
        if any(member.tag == part for member in members):
            members = tuple(
                inner
                for member in members
                if member.tag == part
                for inner in _expand(member.type, member.discriminator)
            )
            continue
        followed = tuple(_follow(members, part))
        if exists and not rest and _has(value, part):
            value, path = value[part], (*path, part)
        elif not followed:
            # The name of a member of an untagged union: the types stay as they are.
            in_union = in_union or len(members) > 1
            continue
        elif rest or (exists and not isinstance(value, dict)):
            rest = (*rest, part)
        else:
            value, exists, path = None, False, (*path, part)
        members, in_union = followed, False
    return Spot(path, value, exists, rest, members, in_union)


def keys_of(members: Iterable[Member]) -> list[str]:
    """Return the keys that the models among the members know, in their order."""
    keys = [key for member in members if _is_model(member.type) for key in _fields(member.type)]
    return list(dict.fromkeys(keys))


def tags_of(members: Iterable[Member]) -> list[str]:
    """Return the names by which one of several models is chosen."""
    return [member.tag for member in members if member.tag and _is_model(member.type)]


def literals_of(members: Iterable[Member]) -> list[Any]:
    """Return the literal values among the members.

    >>> literals_of(_expand(Literal["same", "valid"] | int))
    ['same', 'valid']
    """
    return [
        value
        for member in members
        if get_origin(member.type) is Literal
        for value in get_args(member.type)
    ]


def _expand(annotation: Any, discriminator: str | None = None) -> Iterator[Member]:
    """Yield the alternatives of a type; the members of a tagged union keep their tag."""
    annotation, tag, own = _bare(annotation)
    discriminator = own or discriminator
    if tag is not None:
        yield Member(annotation, tag, own)
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _expand(member, discriminator)
    elif discriminator is not None and _is_model(annotation):
        field = _fields(annotation).get(discriminator)
        values = literals_of(_expand(field.annotation)) if field is not None else []
        for value in values or [None]:
            yield Member(annotation, value)
    else:
        yield Member(annotation)


def _bare(annotation: Any) -> tuple[Any, str | None, str | None]:
    """Take off aliases and ``Annotated``; return the type, its tag and its discriminating key."""
    tag: str | None = None
    discriminator: str | None = None
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *metadata = get_args(annotation)
            for item in metadata:
                tag = item.tag if isinstance(item, Tag) else tag
                discriminator = _discriminating_key(item) or discriminator
        elif isinstance(annotation, TypeAliasType):
            annotation = annotation.__value__
        elif isinstance(origin, TypeAliasType):
            annotation = origin.__value__[get_args(annotation)]
        else:
            return annotation, tag, discriminator


def _discriminating_key(metadata: Any) -> str | None:
    found = metadata.discriminator if isinstance(metadata, Discriminator | FieldInfo) else None
    if isinstance(found, Discriminator):
        found = found.discriminator
    return found if isinstance(found, str) else None


def _follow(members: Iterable[Member], part: str | int) -> Iterator[Member]:
    """Yield the types behind a key or an index."""
    for member in members:
        if member.tag is not None and not _is_model(member.type):
            continue  # only behind its tag
        if isinstance(part, str) and _is_model(member.type):
            field = _fields(member.type).get(part)
            if field is not None:
                yield from _expand(_annotated(field))
            continue
        origin, arguments = get_origin(member.type), get_args(member.type)
        if isinstance(part, int) and origin is tuple and arguments:
            item = arguments[min(part, len(arguments) - 1)]
            yield from _expand(arguments[0] if item is Ellipsis else item)
        elif isinstance(part, int) and origin in (list, Sequence) and arguments:
            yield from _expand(arguments[0])
        elif isinstance(part, str) and origin in (dict, Mapping) and arguments:
            yield from _expand(arguments[1])


def _annotated(field: FieldInfo) -> Any:
    """Put the metadata that pydantic moved to the field back to its type."""
    metadata = [item for item in field.metadata if isinstance(item, Tag | Discriminator)]
    if field.discriminator is not None:
        metadata.append(
            field.discriminator
            if isinstance(field.discriminator, Discriminator)
            else Discriminator(field.discriminator)
        )
    annotation: Any = field.annotation
    for item in metadata:
        annotation = Annotated[annotation, item]
    return annotation


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)

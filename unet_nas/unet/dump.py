"""An architecture as YAML: what differs from the defaults, in a fixed order."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from unet_nas.operators.fields import PerAxis
from unet_nas.unet.architecture import PARTS, STAGE_FIELDS, Architecture, StageOptions

#: characters that a mapping or list on one line has at most: with its key, below 100
MAX_FLOW = 76


def to_yaml(architecture: Architecture, name: str | None = None) -> str:
    """Returns a document that loads to an architecture with the same digest.

    Only what differs from the defaults is written. The shape of the network comes first, then
    what its stages look like, then the parts.

    >>> from unet_nas.unet.architecture import Architecture
    >>> print(to_yaml(Architecture(depth=3, norm="instance", down=["max_pool"] * 3), "small"))
    name: small
    architecture:
      depth: 3
      norm: instance
      down: [max_pool, max_pool, max_pool]
    <BLANKLINE>
    """
    document: dict[str, Any] = {} if name is None else {"name": name}
    document["architecture"] = to_tree(architecture)
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


class _Dumper(yaml.SafeDumper):
    """Puts a mapping or list of scalars on one line where it is short enough."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: Any = None) -> Any:
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = _is_short(node.value)
        return node

    def represent_mapping(self, tag: str, mapping: Any, flow_style: Any = None) -> Any:
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = _is_short([part for pair in node.value for part in pair])
        return node


def _is_short(nodes: list[Any]) -> bool:
    scalars = all(isinstance(node, yaml.ScalarNode) for node in nodes)
    return scalars and sum(len(node.value) + 2 for node in nodes) <= MAX_FLOW


def to_tree(architecture: Architecture) -> dict[str, Any]:
    """Returns the section ``architecture`` as plain mappings, lists and scalars."""
    tree = _different(architecture)
    for part in PARTS:
        tree.pop(part, None)
        section = _part(architecture, part)
        if section:
            tree[part] = section
    fields = [name for name in Architecture.model_fields if name not in STAGE_FIELDS]
    first = fields[: fields.index(PARTS[0])]
    return {k: tree[k] for k in (*first, *STAGE_FIELDS, *fields[len(first) :]) if k in tree}


def _part(architecture: Architecture, part: str) -> dict[str, Any]:
    """Returns what a part writes itself.

    That holds even where it is the default, which overrides what the network says; where the
    two say the same for all stages, once is enough.
    """
    section: StageOptions = getattr(architecture, part)
    tree = {}
    for name in type(section).model_fields:
        if name not in section.model_fields_set:
            continue
        value = plain(getattr(section, name))
        whole = plain(getattr(architecture, name)) if name in STAGE_FIELDS else None
        if name not in STAGE_FIELDS or value != whole or isinstance(value, list):
            tree[name] = value
    return tree


def plain(value: Any) -> Any:
    """Returns an option as YAML would give it: an operator without options by its name."""
    if isinstance(value, BaseModel):
        options = _different(value)
        kind = getattr(value, "type", None)
        if kind is None:
            return options
        return {"type": kind, **options} if options else kind
    if isinstance(value, PerAxis):
        return "x".join(map(str, value)) if len(value) > 1 else value[0]
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    return value


def _different(model: BaseModel) -> dict[str, Any]:
    """Returns the options that differ from their defaults."""
    tree = {}
    for name, field in type(model).model_fields.items():
        value = plain(getattr(model, name))
        if name != "type" and not _same(value, plain(field.default)):
            tree[name] = value
    return tree


def _same(value: Any, default: Any) -> bool:
    """Tells whether two plain values are equal and of one type: 1 channel is no ratio of 1.0."""
    return type(value) is type(default) and value == default

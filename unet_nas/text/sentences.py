"""pydantic's errors as faults: what must hold, what was found, the nearest fix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from unet_nas.errors import Fault, Path
from unet_nas.text.document import SECTION_KEYS, SECTIONS, shown
from unet_nas.text.domains import DOMAIN_KEYS
from unet_nas.text.lists import brackets_meant, several_meant
from unet_nas.text.scalars import parse_scalar
from unet_nas.text.schema_walk import Spot, keys_of, literals_of, tags_of, walk

__all__ = ["Trouble", "did_you_mean", "troubles_of"]

_TYPES: Mapping[str, str] = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "int_parsing_size": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "decimal_type": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "dict_type": "a mapping (lines of 'key: value')",
    "mapping_type": "a mapping (lines of 'key: value')",
    "model_type": "a mapping (lines of 'key: value')",
    "model_attributes_type": "a mapping (lines of 'key: value')",
    "dataclass_type": "a mapping (lines of 'key: value')",
    "none_required": "null",
}
_MODEL_TYPES = frozenset({"model_type", "model_attributes_type", "dataclass_type"})
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("gt", "must be > {}"),
    "greater_than_equal": ("ge", "must be ≥ {}"),
    "less_than": ("lt", "must be < {}"),
    "less_than_equal": ("le", "must be ≤ {}"),
    "multiple_of": ("multiple_of", "must be a multiple of {}"),
}
_LENGTHS: Mapping[str, tuple[str, str]] = {
    "too_short": ("min_length", "must have at least {} {}"),
    "too_long": ("max_length", "must have at most {} {}"),
    "string_too_short": ("min_length", "must have at least {} {}"),
    "string_too_long": ("max_length", "must have at most {} {}"),
}
#: each advice on lists is tried, so there is none where nobody would read it
_MOST_TRIED = 20
_TRUTH_WORDS: Mapping[str, str] = {"yes": "true", "on": "true", "no": "false", "off": "false"}


#: other names for the same, and what they are called here
_SYNONYMS: Mapping[str, str] = {
    "flop": "macs",
    "flops": "macs",
    "madds": "macs",
    "mult_adds": "macs",
    "multiply_adds": "macs",
    "multiply_accumulates": "macs",
    "params": "parameters",
    "memory": "training_memory",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault as seen by the loop that looks for more.

    Attributes:
        fault: The fault, its path from the root of the model.
        cut: What to cut so that the checks behind this one run.
        is_type: The value is of the wrong kind altogether.
        in_union: Another kind of value might have stood there.
        of_key: The key itself is wrong, whatever its value.
    """

    fault: Fault
    cut: Path
    is_type: bool = False
    in_union: bool = False
    of_key: bool = False


def troubles_of(
    errors: Sequence[ErrorDetails], tree: Any, model: type[BaseModel], *, holes: bool = False
) -> list[Trouble]:
    """Translate the errors of one validation; those of the members of a union become one fault.

    Args:
        errors: As pydantic lists them.
        tree: What was validated.
        model: The model that it was validated with.
        holes: Domains may stand in the section, so a list may have been meant as one.
    """
    true = [error for error in errors if not _is_short_of_faulty(error)]
    advice = _Advice(tree, model, holes) if len(errors) <= _MOST_TRIED else None
    found = [trouble for error in true for trouble in _translate(error, tree, model, advice)]
    in_unions: dict[Path, list[Trouble]] = {}
    for trouble in found:
        if trouble.in_union:
            in_unions.setdefault(trouble.fault.path, []).append(trouble)
    merged = [trouble for trouble in found if not trouble.in_union]
    for path, group in in_unions.items():
        # A member that fitted well enough to fail deeper inside says more than the others.
        if not any(_is_below(trouble.fault.path, path) for trouble in found):
            merged.append(_merge(group))
    return merged


def _is_short_of_faulty(error: ErrorDetails) -> bool:
    """Tells whether a list is too short only because pydantic did not count faulty entries."""
    value = error["input"]
    enough = error.get("ctx", {}).get("min_length", 0)
    return error["type"] == "too_short" and isinstance(value, list) and len(value) >= enough


def did_you_mean(word: str, known: Sequence[str]) -> str | None:
    """Return a question with the nearest known word, if one is near.

    >>> did_you_mean("widht", ["depth", "width"]), did_you_mean("arch", ["search", "architecture"])
    ("did you mean 'width'?", "did you mean 'architecture'?")
    """
    # The comparison is quadratic in the length, and no long word is a slip of a short one.
    if len(word) > 60:
        return None
    by_lower_case = {other.lower(): other for other in known}
    word = word.lower().replace("-", "_")
    # A beginning is an abbreviation, whatever else is spelt alike.
    begun = [other for other in by_lower_case if len(word) >= 3 and other.startswith(word)]
    same = [other for other in by_lower_case if other == _SYNONYMS.get(word)]
    near = begun or same or get_close_matches(word, list(by_lower_case), n=1)
    return f"did you mean {by_lower_case[near[0]]!r}?" if near else None


@dataclass(frozen=True, slots=True)
class _Advice:
    """What to write for a list where one value must stand, and the other way round."""

    tree: Any
    model: type[BaseModel]
    holes: bool

    def fix(self, kind: str, spot: Spot) -> str | None:
        """Return a fix that was tried, if there is one."""
        if not spot.exists or spot.rest:
            return None
        if kind in ("list_type", "tuple_type"):
            return brackets_meant(spot.path, spot.value, self.tree, self.model) or None
        if self.holes and (kind in _TYPES or kind == "literal_error"):
            return several_meant(kind, spot.path, spot.value, self.tree, self.model) or None
        return None


def _translate(
    error: ErrorDetails, tree: Any, model: type[BaseModel], advice: _Advice | None
) -> list[Trouble]:
    kind, loc, context = error["type"], error["loc"], error.get("ctx", {})
    spot = walk(loc, tree, model)
    if kind == "faults":
        return [Trouble(_prefixed(fault, spot.path), spot.path) for fault in _faults(context)]
    if kind == "missing":
        return [_missing(spot, loc)]
    if kind == "extra_forbidden":
        return [_unknown_key(spot, walk(loc[:-1], tree, model))]
    value = spot.value if spot.exists and not spot.rest else error["input"]
    path, rule, got, fix = _sentence(error, spot, value)
    if fix is None and advice is not None:
        fix = advice.fix(kind, spot)
    rest = [part for part in spot.rest if isinstance(part, str)]  # one value stands for a list
    if rest:
        rule = f"{'.'.join(rest)} {rule}"
    is_type = kind in _TYPES or kind.startswith(("union_tag", "is_instance"))
    return [Trouble(Fault(path, rule, got, fix), spot.path, is_type, spot.in_union)]


def _sentence(error: ErrorDetails, spot: Spot, value: Any) -> tuple[Path, str, str, str | None]:
    """Return path, rule, what was found, and fix."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("union_tag_invalid", "union_tag_not_found") or (
        kind in _MODEL_TYPES and len(tags_of(spot.members)) > 1
    ):
        return _unknown_tag(spot, value, str(context.get("discriminator", "'type'")).strip("'"))
    if kind in _TYPES:
        rule = f"must be {_TYPES[kind]}"
        return spot.path, rule, _with_kind(value), _type_fix(kind, value)
    if kind in _BOUNDS:
        name, rule = _BOUNDS[kind]
        # The bound of a float field is a float: "< 1.0" for what was declared as `lt=1`.
        return spot.path, rule.format(f"{context[name]:.12g}"), shown(value), None
    if kind in _LENGTHS:
        return (spot.path, *_length(kind, context, value), None)
    if kind in ("literal_error", "enum"):
        return (spot.path, *_choice(spot, context, value))
    if kind == "finite_number":
        return spot.path, "must be a finite number", shown(value), None
    if kind == "string_pattern_mismatch":
        return spot.path, f"must match the pattern {context['pattern']}", shown(value), None
    if kind in ("value_error", "assertion_error"):
        return spot.path, str(context["error"]), "", None
    # Errors of validators of our own say all; of pydantic's, the opening is its jargon.
    rule = re.sub(r"^Input should (be a valid|be|have)", _in_our_words, error["msg"])
    return spot.path, rule, shown(value) if rule != error["msg"] else "", None


def _in_our_words(match: re.Match[str]) -> str:
    return {"be a valid": "must be a valid", "be": "must be", "have": "must have"}[match[1]]


def _faults(context: Mapping[str, Any]) -> list[Fault]:
    return [fault for fault in context.get("faults", ()) if isinstance(fault, Fault)]


def _prefixed(fault: Fault, prefix: Path) -> Fault:
    return Fault(
        (*prefix, *fault.path),
        fault.rule,
        fault.got,
        fault.fix,
        tuple((*prefix, *path) for path in fault.reads),
    )


def _missing(spot: Spot, loc: Sequence[str | int]) -> Trouble:
    key = str(loc[-1])
    if spot.rest:
        fix = f"write it as a mapping with the key {key!r}"
        return Trouble(Fault(spot.path, f"{key} must be given", shown(spot.value), fix), spot.path)
    path = spot.path if spot.path and not spot.exists else (*spot.path, key)
    return Trouble(Fault(path, "must be given, it has no default"), path[:-1])


def _unknown_key(spot: Spot, parent: Spot) -> Trouble:
    key = str(spot.path[-1]) if spot.path else ""
    known = keys_of(parent.members)
    fix = _elsewhere(key, spot.path) or did_you_mean(key, known)
    fix = fix or _section_meant(key, spot.path)
    if fix is None and known:
        fix = f"the known keys are {', '.join(known)}"
    fault = Fault(spot.path, f"unknown key {shown(key)}", fix=fix)
    return Trouble(fault, spot.path, of_key=True)


def _elsewhere(key: str, path: Path) -> str | None:
    """Return a question with the section that has the key, if exactly one other has it."""
    homes = [section for section, keys in SECTION_KEYS.items() if key in keys]
    return f"did you mean {homes[0]}.{key}?" if len(path) == len(homes) == 1 else None


def _section_meant(key: str, path: Path) -> str | None:
    """Say that a section was meant: ``--set`` looks in ``architecture`` for all other names."""
    if len(path) != 1:
        return None
    if key in SECTIONS:
        return f"{key} is a section: write it beside the others, at the left"
    near = did_you_mean(key, SECTIONS)
    return near and f"{near[:-1]}, the section?"


def _unknown_tag(spot: Spot, value: Any, key: str) -> tuple[Path, str, str, str | None]:
    """Say which names may choose among models, wherever the name stands or should stand."""
    tags = tags_of(spot.members)
    names = ", ".join(tags) if tags else "the known ones"
    if not isinstance(value, dict):
        rule = f"must be one of {names}, or a mapping with the key {key!r}"
        return spot.path, rule, shown(value), _near(value, tags)
    if not key.isidentifier():
        return spot.path, "must be a value or a list", shown(value), None
    tag = value.get(key)
    if isinstance(spot.value, dict) and key not in spot.value:
        rule = f"must have the key {key!r}, one of {names}"
        return spot.path, rule, shown(value), _domain_meant(value)
    path = (*spot.path, key) if isinstance(spot.value, dict) else spot.path
    return path, f"must be one of {names}", shown(tag), _near(tag, tags)


def _domain_meant(value: dict[Any, Any]) -> str | None:
    """Ask whether a mapping was to be a domain of a search space."""
    slips = (did_you_mean(key, sorted(DOMAIN_KEYS)) for key in value if isinstance(key, str))
    return next(filter(None, slips), None)


def _near(value: Any, known: Sequence[str]) -> str | None:
    return did_you_mean(value, known) if isinstance(value, str) else None


def _choice(spot: Spot, context: Mapping[str, Any], value: Any) -> tuple[str, str, str | None]:
    values = literals_of(spot.members)
    if not values:
        return f"must be {context.get('expected', 'another value')}", shown(value), None
    names = ", ".join(shown(known) for known in values)
    rule = f"must be one of {names}" if len(values) > 1 else f"must be {names}"
    return rule, shown(value), _near(value, [known for known in values if isinstance(known, str)])


def _length(kind: str, context: Mapping[str, Any], value: Any) -> tuple[str, str]:
    name, rule = _LENGTHS[kind]
    limit = context[name]
    noun = "character" if kind.startswith("string") else "entry"
    plural = noun if limit == 1 else {"character": "characters", "entry": "entries"}[noun]
    actual = len(value) if isinstance(value, str | list | tuple | dict) else 0
    return rule.format(limit, plural), str(context.get("actual_length", actual))


def _with_kind(value: Any) -> str:
    return f"{shown(value)} (text)" if isinstance(value, str) else shown(value)


def _type_fix(kind: str, value: Any) -> str | None:
    """Return the spelling that was most likely meant."""
    if isinstance(value, dict):
        return _domain_meant(value)
    # beyond 2^53 a float says nothing of its last digits
    if (
        kind.startswith("int")
        and isinstance(value, float)
        and abs(value) < 2**53
        and value.is_integer()
    ):
        return f"write {int(value)}"
    if kind.startswith("bool") and isinstance(value, str) and value.lower() in _TRUTH_WORDS:
        return f"write {_TRUTH_WORDS[value.lower()]}"
    if kind == "string_type" and isinstance(value, int | float):
        return f"write '{shown(value)}', in quotes"
    if kind.startswith(("int", "float")) and isinstance(value, str) and len(value) < 40:
        meant = parse_scalar(value.strip().replace("_", "").replace(",", ""))
        if isinstance(meant, int | float) and not isinstance(meant, bool):
            return f"write {shown(meant)}"
    return None


def _is_below(path: Path, ancestor: Path) -> bool:
    return len(path) > len(ancestor) and path[: len(ancestor)] == ancestor


def _merge(group: Sequence[Trouble]) -> Trouble:
    """Make one fault of those of the members of a union: any of them would have been right."""
    right_kind = [trouble for trouble in group if not trouble.is_type]
    only_choices = all("one of" in t.fault.rule or "must be '" in t.fault.rule for t in right_kind)
    # A number out of range was meant as a number; a word was not meant as any of the words.
    chosen = right_kind if right_kind and not only_choices else list(group)
    rules = list(dict.fromkeys(trouble.fault.rule for trouble in chosen))
    rule = " or ".join([rules[0], *(other.removeprefix("must be ") for other in rules[1:])])
    got = max((trouble.fault.got for trouble in chosen), key=len)
    fix = next((trouble.fault.fix for trouble in chosen if trouble.fault.fix), None)
    return Trouble(Fault(group[0].fault.path, rule, got, fix), group[0].cut)

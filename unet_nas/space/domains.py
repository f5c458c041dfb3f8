"""Domains: the holes of a search space, and a tree in which they stand.

In a file, a mapping with one of the keys ``choice``, ``int`` and ``float`` is a domain::

    {choice: [3, 5]}                   one of these; an entry may be a mapping with holes of its own
    {int: [8, 64]}, {int: [8, 64, 8]}  an integer from 8 to 64, in steps of 1 or of 8
    {int: [8, 512], log: true}         an integer that samplers draw evenly in its logarithm
    {float: [0.1, 0.5]}                a number; also with log: true
    {choice: [3, 5], per_stage: true}  one variable per stage; also with int and float

`compile_tree` turns the tree of a document into one of dictionaries, lists, scalars, `Choice`,
`IntRange`, `FloatRange` and, for the section ``architecture``, `ByDepth`: the depth decides how
many entries a domain per stage has, so there is one tree for every depth.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, TypeAlias

from unet_nas.errors import Fault, Path
from unet_nas.text.document import shown
from unet_nas.text.domains import DOMAIN_KEYS
from unet_nas.text.sentences import did_you_mean
from unet_nas.unet.architecture import OPERATOR_FIELDS, STAGE_FIELDS, Architecture

__all__ = [
    "Branch",
    "ByDepth",
    "Choice",
    "Domain",
    "FloatRange",
    "IntRange",
    "Scalar",
    "compile_tree",
    "count",
    "float_sources",
]

Scalar: TypeAlias = str | int | float | bool | None

SECTION = "architecture"
_PER_STAGE = "per_stage"
_WORD = re.compile(r"[A-Za-z_]\w*")
#: depths that the schema takes; another one is reported when the space is probed
_DEPTHS = range(1, 9)
#: of an architecture that does not say
DEFAULT_DEPTH: int = Architecture.model_fields["depth"].default


@dataclass(frozen=True, slots=True)
class Branch:
    """One entry of a choice.

    Attributes:
        label: The value itself where it is a scalar, else its name; unique in its choice.
        value: A tree, perhaps with holes.
        leaves: How many ways there are to go on from here.
    """

    label: Scalar
    value: Any
    leaves: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several branches.

    Attributes:
        branches: In the order of the file.
        source: Path of the domain in the document.
    """

    branches: tuple[Branch, ...]
    source: Path

    @property
    def labels(self) -> tuple[Scalar, ...]:
        """What may be picked."""
        return tuple(branch.label for branch in self.branches)

    @property
    def leaves(self) -> int:
        """How many ways there are to fill this hole and those behind it."""
        return sum(branch.leaves for branch in self.branches)


@dataclass(frozen=True, slots=True)
class IntRange:
    """An integer from ``low`` to ``high``, both included.

    Attributes:
        low: The smallest.
        high: The largest: a whole number of steps above ``low``.
        step: Distance between neighbours.
        log: Samplers draw it evenly in its logarithm.
        source: Path of the domain in the document.
        weights: For a depth, how many ways there are to go on from each value; else empty.
    """

    low: int
    high: int
    step: int
    log: bool
    source: Path
    weights: tuple[int, ...] = ()

    @property
    def values(self) -> range:
        """What may be picked."""
        return range(self.low, self.high + 1, self.step)

    @property
    def leaves(self) -> int:
        """How many ways there are to fill this hole and, for a depth, those that hang on it."""
        return sum(self.weights) if self.weights else (self.high - self.low) // self.step + 1


@dataclass(frozen=True, slots=True)
class FloatRange:
    """A number from ``low`` to ``high``, both included.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Drawn evenly in its logarithm.
        source: Path of the domain in the document.
    """

    low: float
    high: float
    log: bool
    source: Path


Domain: TypeAlias = Choice | IntRange | FloatRange


@dataclass(frozen=True, slots=True)
class ByDepth:
    """The mapping of an architecture, whose lists follow from its depth.

    Attributes:
        keys: All keys, in the order of the file.
        depth: A number or a domain.
        variants: The tree of all other keys, by depth.
    """

    keys: tuple[str, ...]
    depth: Any
    variants: Mapping[int, dict[str, Any]]

    def variant(self, depth: Any) -> dict[str, Any]:
        """Returns the other keys for a depth; for one that the schema refuses, any of them."""
        known = type(depth) is int and depth in self.variants
        return self.variants[depth if known else next(iter(self.variants))]


def compile_tree(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Returns the tree of a document with its domains as objects, and the faults of domains.

    >>> tree, faults = compile_tree({"architecture": {"width": {"int": [8, 32, 8]}}})
    >>> count(tree), faults
    (4, [])
    """
    compiler = _Compiler()
    compiled = {key: compiler.compile(value, (key,), (key,)) for key, value in tree.items()}
    return compiled, list(dict.fromkeys(compiler.faults))


def count(tree: Any) -> int:
    """Returns the number of ways to fill all holes of a tree; a range of floats counts once.

    Entries of a mapping and of a list multiply, branches of a choice add up.

    >>> down = {"choice": ["max_pool", {"type": "strided_conv", "kernel_size": {"int": [2, 4]}}]}
    >>> count(compile_tree({"architecture": {"down": down, "width": {"choice": [8, 16]}}})[0])
    8
    """
    match tree:
        case Choice() | IntRange():
            return tree.leaves
        case ByDepth():
            if isinstance(tree.depth, Choice | IntRange):
                return count(tree.depth)
            return count(tree.variant(tree.depth))
        case dict():
            return prod(count(value) for value in tree.values())
        case list():
            return prod(count(value) for value in tree)
    return 1


def float_sources(tree: Any) -> set[Path]:
    """Returns the domains that make a space infinite: ranges of floats."""
    match tree:
        case FloatRange():
            return {tree.source} if tree.low < tree.high else set()
        case Choice():
            return set().union(*(float_sources(branch.value) for branch in tree.branches))
        case ByDepth():
            parts = (tree.depth, *tree.variants.values())
            return set().union(*map(float_sources, parts))
        case dict():
            return set().union(*map(float_sources, tree.values()))
        case list():
            return set().union(*map(float_sources, tree))
    return set()


# --- from a document to a tree with holes -------------------------------------------------


@dataclass(slots=True)
class _Compiler:
    """Turns mappings such as ``{choice: [3, 5]}`` into domains, and notes their faults.

    Paths come in two kinds: ``at`` is where the value will stand in a filled tree, ``source``
    where it stands in the document.
    """

    faults: list[Fault] = field(default_factory=list)
    depth: int | None = None

    def compile(self, value: Any, at: Path, source: Path) -> Any:
        if isinstance(value, dict):
            if DOMAIN_KEYS & value.keys():
                return self._domain(value, at, source)
            if at == (SECTION,):
                return self._by_depth(value, source)
            return self._entries(value, at, source)
        if isinstance(value, list):
            return [self.compile(v, (*at, i), (*source, i)) for i, v in enumerate(value)]
        return value

    def _entries(self, value: dict[str, Any], at: Path, source: Path) -> dict[str, Any]:
        return {k: self.compile(v, (*at, k), (*source, k)) for k, v in value.items()}

    def _by_depth(self, value: dict[str, Any], source: Path) -> ByDepth:
        raw = value.get("depth", DEFAULT_DEPTH)
        depth = self.compile(raw, (SECTION, "depth"), (*source, "depth"))
        others = {key: child for key, child in value.items() if key != "depth"}
        variants = {}
        outer = self.depth
        for number in _possible_depths(depth):
            self.depth = number
            variants[number] = self._entries(others, (SECTION,), source)
        self.depth = outer
        counts = {number: count(tree) for number, tree in variants.items()}
        default = next(iter(counts.values()))
        weighed = _weigh(depth, lambda n: counts.get(n, default) if type(n) is int else default)
        return ByDepth(tuple(value), weighed, variants)

    def _domain(self, value: dict[str, Any], at: Path, source: Path) -> Any:
        if value.get(_PER_STAGE) is not True:
            return self._one(value, at, source)
        stages = self._stages(at, source)
        return [self._one(value, (*at, i), source) for i in range(stages)]

    def _stages(self, at: Path, source: Path) -> int:
        """Returns how many entries a domain per stage has; notes a fault where it has none."""
        count = stage_count(at, self.depth or DEFAULT_DEPTH)
        if count is None:
            rule = "must stand for the whole of a field with one entry per stage"
            fix = "remove per_stage, or write the list with one domain per entry"
            self._fault((*source, _PER_STAGE), rule, fix=fix)
        return count or 1

    def _one(self, value: dict[str, Any], at: Path, source: Path) -> Any:
        kinds = [key for key in value if key in DOMAIN_KEYS]
        if len(kinds) > 1:
            rule = "must be one domain: choice, int or float"
            self._fault(source, rule, " and ".join(kinds), f"keep {kinds[0]}")
            return None
        self._extra_keys(value, kinds[0], source)
        if kinds[0] == "choice":
            return self._choice(value["choice"], at, source)
        log = value.get("log") is True
        if kinds[0] == "int":
            return self._int(value["int"], log, source)
        return self._float(value["float"], log, source)

    def _extra_keys(self, value: dict[str, Any], kind: str, source: Path) -> None:
        flags = [_PER_STAGE] if kind == "choice" else ["log", _PER_STAGE]
        for key, flag in value.items():
            if key == kind:
                continue
            if key not in flags:
                near = did_you_mean(key, flags)
                fix = near or f"beside {kind} there may be {' and '.join(flags)}"
                self._fault((*source, key), f"unknown key {shown(key)}", fix=fix)
            elif not isinstance(flag, bool):
                self._fault((*source, key), "must be true or false", shown(flag))

    def _choice(self, values: Any, at: Path, source: Path) -> Choice | None:
        here = (*source, "choice")
        if not isinstance(values, list) or not values:
            self._fault(here, "must be a list of at least one value", shown(values))
            return None
        seen: dict[str, int] = {}
        labels: list[Scalar] = []
        branches = []
        for index, value in enumerate(values):
            first = seen.setdefault(_canonical(value), index)
            if first != index:
                rule = "must differ from the other values of the choice"
                self._fault((*here, index), rule, shown(value), "remove one of them")
                continue
            if isinstance(value, float) and not math.isfinite(value):
                self._fault((*here, index), "must be a finite number", shown(value))
                continue
            labels.append(_label(value, index, labels))
            compiled = self.compile(value, at, (*here, index))
            branches.append(Branch(labels[-1], compiled, count(compiled)))
        return Choice(tuple(branches), source)

    def _int(self, value: Any, log: bool, source: Path) -> IntRange | None:
        here = (*source, "int")
        if not _numbers(value, (2, 3), int):
            rule = "must be [low, high] or [low, high, step], all integers"
            self._fault(here, rule, shown(value))
            return None
        low, high, *rest = value
        step = rest[0] if rest else 1
        if not self._order(low, high, log, here):
            return None
        if step < 1:
            self._fault((*here, 2), "must be a step of at least 1", shown(step))
            return None
        if log and rest:
            fix = "remove the step, or log"
            self._fault((*here, 2), "must have no step where log is true", shown(step), fix)
            return None
        return IntRange(low, low + (high - low) // step * step, step, log, source)

    def _float(self, value: Any, log: bool, source: Path) -> FloatRange | None:
        here = (*source, "float")
        if not _numbers(value, (2,), int | float):
            self._fault(here, "must be [low, high], two finite numbers", shown(value))
            return None
        low, high = map(float, value)
        return FloatRange(low, high, log, source) if self._order(low, high, log, here) else None

    def _order(self, low: float, high: float, log: bool, here: Path) -> bool:
        if low > high:
            rule = "must not begin above its end"
            self._fault(here, rule, shown([low, high]), f"write {shown([high, low])}")
        elif log and low <= 0:
            rule = "must begin above 0 where log is true"
            self._fault((*here, 0), rule, shown(low), "remove log, or begin above 0")
        return low <= high and not (log and low <= 0)

    def _fault(self, path: Path, rule: str, got: str = "", fix: str | None = None) -> None:
        self.faults.append(Fault(path, rule, got, fix))


def stage_count(at: Path, depth: int) -> int | None:
    """Returns how many entries the list of a field has, or None where it is no list of stages.

    >>> stage_count(("architecture", "kernel_size"), 4), stage_count(("architecture", "down"), 4)
    (5, 4)
    >>> stage_count(("architecture", "down", "kernel_size"), 4) is None
    True
    """
    match at:
        case (section, str(name)) if section == SECTION:
            if name in (*STAGE_FIELDS, "features"):
                return depth + 1
            return depth if name in OPERATOR_FIELDS else None
        case (section, "encoder", str(name)) if section == SECTION and name in STAGE_FIELDS:
            return depth
        case (section, "decoder", str(name)) if section == SECTION:
            return depth if name in (*STAGE_FIELDS, "features") else None
    return None


def _numbers(value: Any, lengths: Sequence[int], kind: Any) -> bool:
    """Tells whether a value is a list of finite numbers of one of these lengths."""
    return (
        isinstance(value, list)
        and len(value) in lengths
        and all(isinstance(v, kind) and not isinstance(v, bool) for v in value)
        and all(math.isfinite(v) for v in value)
    )


def _canonical(value: Any) -> str:
    """Writes a value so that equal ones, and only these, are written alike (1 is not 1.0)."""
    return json.dumps(value, sort_keys=True)


def _label(value: Any, index: int, taken: Sequence[Scalar]) -> Scalar:
    """Names a branch: a scalar by itself, a mapping by its type, others by their number.

    >>> _label(3, 0, []), _label({"type": "max_pool"}, 1, []), _label([3, 5], 2, [])
    (3, 'max_pool', '#3')
    """
    number = f"#{index + 1}"
    if not isinstance(value, dict | list):
        name: Scalar = value
    else:
        kind = value.get("type") if isinstance(value, dict) else None
        name = kind if isinstance(kind, str) and _WORD.fullmatch(kind) else number
    # 1, 1.0 and true are equal to Python, and a sampler could not tell them apart.
    if name not in taken:
        return name
    return f"{name if isinstance(name, str) else shown(name)}{number}"


def _possible_depths(depth: Any) -> list[int]:
    """Returns the depths in a domain that the schema takes, or the default where there is none."""
    found = [number for number in _DEPTHS if _may_be(depth, number)]
    return found or [DEFAULT_DEPTH]


def _may_be(depth: Any, number: int) -> bool:
    match depth:
        case Choice():
            return any(_may_be(branch.value, number) for branch in depth.branches)
        case IntRange():
            return number in depth.values
    return type(depth) is int and depth == number


def _weigh(depth: Any, weight: Callable[[Any], int]) -> Any:
    """Returns the domain of a depth in which each value counts as often as the rest has leaves."""
    match depth:
        case Choice():
            branches = []
            for branch in depth.branches:
                value = _weigh(branch.value, weight)
                inner = isinstance(value, Choice | IntRange)
                leaves = count(value) if inner else weight(value)
                branches.append(replace(branch, value=value, leaves=leaves))
            return replace(depth, branches=tuple(branches))
        case IntRange() if len(depth.values) <= len(_DEPTHS) * 8:
            return replace(depth, weights=tuple(weight(number) for number in depth.values))
    return depth

"""Sampling: from a tree with holes to one concrete tree.

`assign` asks a callback for every hole that it reaches, and for no other. The callback is told
the name of the parameter and its domain: a random picker with a seed, the one that counts through
all leaves (`RankPicker`), or a sampler of a search.

A parameter is named by its path, with the branch that was taken wherever a choice lies on the
way: ``architecture.down[strided_conv].kernel_size``, ``architecture.kernel_size[2]`` for stage 2.
One name always has one domain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

from unet_nas.errors import Path
from unet_nas.space.domains import (
    ByDepth,
    Choice,
    Domain,
    FloatRange,
    IntRange,
    Scalar,
    count,
)
from unet_nas.text.document import format_path, shown

__all__ = [
    "Assignment",
    "Pick",
    "RankPicker",
    "assign",
    "draw",
    "enumerate_assignments",
    "sample",
]

Pick: TypeAlias = Callable[[str, Domain], Scalar]
"""Told a parameter and its domain, returns a label of the choice or a number of the range."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One filled tree, and how it came about.

    Attributes:
        tree: Dictionaries, lists and scalars without holes.
        values: What was picked, by the name of the parameter, in the order of the questions.
        domains: The domain of every parameter that was asked for.
        origins: For every hole, by its path in the filled tree: the path in the document of the
            value that went in.
    """

    tree: Any
    values: dict[str, Scalar] = field(default_factory=dict)
    domains: dict[str, Domain] = field(default_factory=dict)
    origins: dict[Path, Path] = field(default_factory=dict)


def sample(tree: Any, pick: Pick) -> Any:
    """Returns the tree with all holes filled; a hole is asked for only when it is reached.

    >>> from unet_nas.space.domains import compile_tree
    >>> down = {"choice": ["max_pool", {"type": "strided_conv", "kernel_size": {"int": [2, 4]}}]}
    >>> tree, _ = compile_tree({"architecture": {"down": down}})
    >>> def last(name, domain):
    ...     print(name)
    ...     return domain.labels[-1] if isinstance(domain, Choice) else domain.high
    >>> sample(tree, last)
    architecture.down
    architecture.down[strided_conv].kernel_size
    {'architecture': {'down': {'type': 'strided_conv', 'kernel_size': 4}}}
    """
    return assign(tree, pick).tree


def assign(tree: Any, pick: Pick) -> Assignment:
    """Returns the filled tree with the values and domains of all parameters asked for.

    Raises:
        ValueError: ``pick`` returned what is not in the domain.
    """
    walk = _Walk(pick)
    filled = walk.fill(tree, "", ())
    return Assignment(filled, walk.values, walk.domains, walk.origins)


def enumerate_assignments(tree: Any) -> Iterator[Assignment]:
    """Yields every leaf of a space once, in the order of the file; floats at their low end."""
    for rank in range(count(tree)):
        yield assign(tree, RankPicker(rank, None))


def draw(tree: Any, rng: Random) -> Assignment:
    """Returns a random leaf: each way to fill the discrete holes is equally likely.

    A branch with more ways to go on is drawn more often in proportion; an ``int`` with
    ``log: true`` is drawn like any other. A range of floats is drawn evenly (in the logarithm
    where ``log: true``).
    """
    return assign(tree, RankPicker(rng.randrange(count(tree)), rng))


class RankPicker:
    """Picks the leaf of a given rank; ranks 0 to ``count(tree) - 1`` are all leaves.

    The rank is read like a number in a mixed radix: each hole takes its share off the low end.

    Args:
        rank: Which leaf.
        rng: Draws the floats; without it they are at their low end.
    """

    def __init__(self, rank: int, rng: Random | None) -> None:
        self.rank, self.rng = rank, rng

    def __call__(self, name: str, domain: Domain) -> Scalar:
        """Returns the value for a hole."""
        match domain:
            case Choice():
                weights = [branch.leaves for branch in domain.branches]
                return domain.branches[self._split(weights)].label
            case IntRange(weights=()):
                self.rank, index = divmod(self.rank, domain.leaves)
                return domain.values[index]
            case IntRange():
                return domain.values[self._split(domain.weights)]
            case FloatRange():
                return domain.low if self.rng is None else draw_float(domain, self.rng)

    def _split(self, weights: list[int] | tuple[int, ...]) -> int:
        """Returns the branch that the rank falls into, and leaves it the rest of the rank."""
        self.rank, rest = divmod(self.rank, sum(weights))
        for index, weight in enumerate(weights):
            if rest < weight:
                self.rank = self.rank * weight + rest
                return index
            rest -= weight
        raise AssertionError("a remainder is smaller than its divisor")


def draw_float(domain: FloatRange, rng: Random) -> float:
    """Returns a number of the range, evenly drawn (in its logarithm where ``log`` is true)."""
    if domain.log:
        value = math.exp(rng.uniform(math.log(domain.low), math.log(domain.high)))
    else:
        value = rng.uniform(domain.low, domain.high)
    return min(max(value, domain.low), domain.high)  # rounding may step over an end


class _Walk:
    """One way through a tree."""

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.values: dict[str, Scalar] = {}
        self.domains: dict[str, Domain] = {}
        self.origins: dict[Path, Path] = {}

    def fill(self, tree: Any, name: str, path: Path) -> Any:
        match tree:
            case dict():
                return self._mapping(tree, name, path)
            case list():
                return [self.fill(v, f"{name}[{i}]", (*path, i)) for i, v in enumerate(tree)]
            case ByDepth():
                return self._by_depth(tree, name, path)
            case Choice():
                return self._choice(tree, name, path)
            case IntRange() | FloatRange():
                return self._number(tree, name, path)
        return tree

    def _mapping(self, tree: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
        return {k: self.fill(v, _child(name, k), (*path, k)) for k, v in tree.items()}

    def _by_depth(self, tree: ByDepth, name: str, path: Path) -> dict[str, Any]:
        depth = self.fill(tree.depth, _child(name, "depth"), (*path, "depth"))
        others = self._mapping(tree.variant(depth), name, path)
        return {key: depth if key == "depth" else others[key] for key in tree.keys}

    def _choice(self, domain: Choice, name: str, path: Path) -> Any:
        label = self._ask(name, domain)
        for index, branch in enumerate(domain.branches):
            if branch.label == label:
                self.origins[path] = (*domain.source, "choice", index)
                word = label if isinstance(label, str) else shown(label)
                return self.fill(branch.value, f"{name}[{word}]", path)
        raise ValueError(f"{name}: {label!r} is none of {domain.labels!r}")

    def _number(self, domain: IntRange | FloatRange, name: str, path: Path) -> Any:
        kind = "int" if isinstance(domain, IntRange) else "float"
        value = self._ask(name, domain)
        if not isinstance(value, int | float) or not domain.low <= value <= domain.high:
            raise ValueError(f"{name}: {value!r} is not in {domain.low} to {domain.high}")
        end: Path = (0,) if value == domain.low else (1,) if value == domain.high else ()
        self.origins[path] = (*domain.source, kind, *end)
        return value

    def _ask(self, name: str, domain: Domain) -> Scalar:
        value = self.pick(name, domain)
        self.values[name], self.domains[name] = value, domain
        return value


def _child(name: str, key: str) -> str:
    text = format_path((key,))
    return f"{name}.{text}" if name and not text.startswith("[") else f"{name}{text}"

"""Which cases are for training, validation and test; a group is never divided."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unet_nas.errors import InputError
from unet_nas.text.sentences import did_you_mean
from unet_nas.train.data.cases import Part
from unet_nas.train.data.config import Split
from unet_nas.train.data.names import listed, stem
from unet_nas.train.data.paths import find_file
from unet_nas.train.data.raw import Item

__all__ = ["groups_of", "split_cases"]


def groups_of(items: Sequence[Item], rule: str | None, base: Path) -> list[str]:
    """Returns the group of each case.

    Args:
        items: The cases.
        rule: A CSV file, a regular expression, or None for the groups that the source knows.
        base: Folder that the file is looked for in.

    Raises:
        InputError: if a case has no group.
    """
    if rule is None:
        return [item.group for item in items]
    if rule.lower().endswith(".csv"):
        table = _read_groups(find_file(rule, base, "data.split.groups"))
        groups = [table.get(item.name) for item in items]
        want = f"{rule} has no line for"
    else:
        matches = [re.search(rule, item.name) for item in items]
        groups = [match[1] if match else None for match in matches]
        want = f"the expression {rule!r} finds no group in"
    missing = [item.name for item, group in zip(items, groups, strict=True) if not group]
    if missing:
        raise InputError(f"data.split.groups: {want} {listed(missing)}")
    return [group for group in groups if group]


def _read_groups(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"data.split.groups: cannot read {path}: {error}") from error
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
    if short:
        raise InputError(f"{path}:{short}: needs two columns, the name of a case and its group")
    return {stem(row[0].strip()): row[1].strip() for row in rows}


def split_cases(
    items: Sequence[Item], groups: Sequence[str], split: Split, *, base: Path, seed: int
) -> list[Part]:
    """Returns the part of each case.

    Parts that the source knows stay; lists come next; shares are of the groups that are left,
    in an order drawn with the seed from the sorted names, and give at least one group each.

    Raises:
        InputError: if a name is unknown, a group would be divided, or a part would be empty.
    """
    parts: dict[str, Part] = {}
    for item, group in zip(items, groups, strict=True):
        if item.part is not None:
            _assign(parts, group, item.part, item.name)
    known = {group: group for group in groups}  # a list may name groups as well as cases
    known |= {item.name: group for item, group in zip(items, groups, strict=True)}
    for part, wanted in (("test", split.test), ("validation", split.validation)):
        for name in _names(wanted, base, part):
            if stem(name) not in known and name not in known:
                hint = did_you_mean(name, list(known)) or f"there are {listed(sorted(known))}"
                raise InputError(f"data.split.{part}: no case is called {name!r}; {hint}")
            group = known[name if name in known else stem(name)]
            _assign(parts, group, "test" if part == "test" else "validation", name)
    drawn = _draw(sorted(set(groups) - set(parts)), parts, split, seed)
    parts.update(drawn)
    found: list[Part] = [parts.get(group, "train") for group in groups]
    _refuse_empty(found, groups)
    return found


def _assign(parts: dict[str, Part], group: str, part: Part, name: str) -> None:
    if parts.setdefault(group, part) != part:
        raise InputError(
            f"data.split: the group {group!r} would stand in {parts[group]} and, with {name!r}, "
            f"in {part}; keep all cases of a group in one part"
        )


def _names(wanted: float | str | Sequence[str], base: Path, part: str) -> list[str]:
    if isinstance(wanted, float | int):
        return []
    if not isinstance(wanted, str):
        return list(wanted)
    path = find_file(wanted, base, f"data.split.{part}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data.split.{part}: cannot read {path}: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _draw(free: Sequence[str], parts: dict[str, Part], split: Split, seed: int) -> dict[str, Part]:
    """Draws parts for the groups that are still free."""
    order = [free[i] for i in np.random.default_rng(seed).permutation(len(free))]
    drawn: dict[str, Part] = {}
    if isinstance(split.test, float) and "test" not in parts.values():
        # of two groups one is for validation: no test then
        number = _number(split.test, len(free), least=int(len(free) > 2), most=len(free) - 2)
        drawn |= dict.fromkeys(order[:number], "test")
        order = order[number:]
    if split.folds is not None:
        if len(order) < split.folds:
            raise InputError(
                f"data.split.folds: {split.folds} folds need as many groups, got {len(order)}"
            )
        drawn |= dict.fromkeys(order[split.fold :: split.folds], "validation")
    elif isinstance(split.validation, float) and "validation" not in parts.values():
        number = _number(split.validation, len(free), least=1, most=len(order) - 1)
        drawn |= dict.fromkeys(order[:number], "validation")
    return drawn


def _number(share: float, whole: int, *, least: int, most: int) -> int:
    """Returns how many groups a share is, leaving enough for the other parts."""
    return 0 if share == 0 else max(0, min(max(least, round(share * whole)), most))


def _refuse_empty(parts: Sequence[Part], groups: Sequence[str]) -> None:
    if len(set(groups)) == 1:
        what = "one case" if len(groups) == 1 else f"{len(groups)} cases of one group"
        raise InputError(
            f"data.source: has {what}, and training and validation need one each at least; cut "
            "it into several files, or give more"
        )
    for part in ("train", "validation"):
        if part not in parts:
            raise InputError(
                f"data.split: leaves no case for {part} of {len(parts)} cases in "
                f"{len(set(groups))} groups; change data.split.validation or data.split.test"
            )

"""What data lack, and whether they suit a network; one sentence each, before anything trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_nas.errors import InputError
from unet_nas.train.data.cases import IGNORE, Case, Part, Task
from unet_nas.train.data.names import listed

if TYPE_CHECKING:
    from unet_nas.train.data.config import MaskValue
    from unet_nas.unet.architecture import Architecture

__all__ = [
    "check_task",
    "class_counts",
    "class_notes",
    "class_shares",
    "fields_of",
    "patch_notes",
    "twin_notes",
]

#: a valid size next to that of the images is less than so many times as large
_WASTE = 2


def fields_of(task: Task) -> dict[str, int]:
    """Returns the fields of an architecture that the data decide.

    >>> fields_of(Task(1, 4, ("background", "P", "T")))
    {'spatial_dims': 1, 'in_channels': 4, 'classes': 3}
    """
    return {
        "spatial_dims": task.spatial_dims,
        "in_channels": task.in_channels,
        "classes": task.classes,
    }


def check_task(task: Task, architecture: Architecture | Mapping[str, Any]) -> None:
    """Refuses an architecture that does not fit the data.

    Args:
        task: Of the data.
        architecture: Or the section ``architecture`` of a file; what is absent or a domain there
            is not judged.

    Raises:
        InputError: naming every difference and the ``--set`` that removes them.

    >>> check_task(Task(2, 1, ("background", "cell")), {"depth": 3})
    """
    words = ("spatial dimension", "channel", "label" if task.multi_label else "class")
    numbers = fields_of(task)
    wanted = {f: (n, word) for (f, n), word in zip(numbers.items(), words, strict=True)}
    has = {field: _number(architecture, field) for field in wanted}
    wrong = {f: (n, word) for f, (n, word) in wanted.items() if has[f] not in (n, None)}
    if not wrong:
        return
    data = " and ".join(_plural(number, word) for number, word in wrong.values())
    network = " and ".join(_plural(has[f] or 0, word) for f, (_, word) in wrong.items())
    fix = " ".join(f"--set {field}={number}" for field, (number, _) in wrong.items())
    raise InputError(f"the data have {data} and the architecture {network}; fix: {fix}")


def _number(architecture: Architecture | Mapping[str, Any], field: str) -> int | None:
    """Returns the value of a field; None where it is not one number."""
    if not isinstance(architecture, Mapping):
        return int(getattr(architecture, field))
    value = architecture.get(field)
    return value if isinstance(value, int) else None


def _plural(number: int, word: str) -> str:
    """Writes a number with its noun.

    >>> _plural(1, "class"), _plural(3, "class"), _plural(2, "channel")
    ('1 class', '3 classes', '2 channels')
    """
    end = "" if number == 1 else "es" if word.endswith("s") else "s"
    return f"{number} {word}{end}"


def class_counts(task: Task, cases: Sequence[Case]) -> NDArray[np.int64]:
    """Returns how many annotated positions each class has, and how many there are in all.

    Returns:
        (classes + 1): the classes, then all annotated positions (of one label, where they overlap).
    """
    counts = np.zeros(task.classes + 1, np.int64)
    for case in cases:
        if task.multi_label:
            counts[:-1] += (case.target == 1).reshape(task.classes, -1).sum(axis=1)
            counts[-1] += int((case.target[0] != IGNORE).sum())
        else:
            counts[:-1] += np.bincount(case.target.ravel(), minlength=256)[: task.classes]
    if not task.multi_label:
        counts[-1] = counts[:-1].sum()
    return counts


def class_shares(task: Task, cases: Sequence[Case]) -> dict[str, float]:
    """Returns the share of each class in the annotated positions.

    >>> case = Case("a", "a", np.zeros((1, 4), "f4"), np.array([0, 0, 1, 255], "u1"), (1.0,))
    >>> class_shares(Task(1, 1, ("background", "P"), ignore_label=255), [case])["P"]
    0.3333333333333333
    """
    counts = class_counts(task, cases)
    whole = max(1, int(counts[-1]))
    names = zip(task.class_names, counts[:-1], strict=True)
    return {name: float(count) / whole for name, count in names}


def class_notes(
    task: Task, parts: Mapping[Part, Sequence[Case]], values: Sequence[MaskValue] = ()
) -> list[str]:
    """Returns what people should know of classes that a part lacks.

    Args:
        task: Of the cases.
        parts: The cases.
        values: How each class is stored.

    Raises:
        InputError: if a class never occurs in training.
    """
    missing = {part: _missing(task, cases) for part, cases in parts.items() if cases}
    if missing["train"]:
        _refuse_missing(task, missing, parts, values)
    notes = [
        f"no {part} case has the class {' or '.join(names)}, so its score leaves "
        f"{'it' if len(names) == 1 else 'them'} out"
        for part, names in missing.items()
        if names
    ]
    if not parts["test"]:
        notes.append("there are no test cases, so finalists are scored on the validation cases")
    return notes


def twin_notes(parts: Mapping[Part, Sequence[Case]]) -> list[str]:
    """Returns which images stand in two parts under different names: their scores are no test."""
    first: dict[bytes, tuple[Part, str]] = {}
    found: list[str] = []
    for part, cases in parts.items():
        for case in cases:
            if not case.image.std():
                continue  # empty images are alike and leak nothing
            digest = blake2b(np.ascontiguousarray(case.image).data, digest_size=16).digest()
            other, name = first.setdefault(digest, (part, case.name))
            if other != part:
                found.append(f"{case.name} of {part} is {name} of {other}")
    if not found:
        return []
    return [f"the same image stands in two parts: {listed(found)}; give such cases one group"]


def patch_notes(
    parts: Mapping[Part, Sequence[Case]], patch_size: Sequence[int] | None
) -> list[str]:
    """Returns what people should know of patches that are mostly mirrored images.

    >>> case = Case("a", "a", np.zeros((1, 89, 70), "f4"), np.zeros((89, 70), "u1"), (1.0, 1.0))
    >>> patch_notes({"train": [case]}, (96, 96)), len(patch_notes({"train": [case]}, (512, 512)))
    ([], 1)
    """
    if patch_size is None:
        return []
    shapes = [case.image.shape[1:] for cases in parts.values() for case in cases]
    largest = [max(axis) for axis in zip(*shapes, strict=True)]
    if prod(patch_size) < _WASTE * prod(map(min, patch_size, largest)):
        return []
    patch, image = ("x".join(map(str, size)) for size in (patch_size, largest))
    return [
        f"patches of {patch} are larger than every image (at most {image}) and are filled by "
        "mirroring, so costs are those of the patch"
    ]


def _missing(task: Task, cases: Sequence[Case]) -> list[str]:
    counts = class_counts(task, cases)[:-1]
    return [name for name, count in zip(task.class_names, counts, strict=True) if count == 0]


def _refuse_missing(
    task: Task,
    missing: Mapping[Part, list[str]],
    parts: Mapping[Part, Sequence[Case]],
    values: Sequence[MaskValue],
) -> None:
    names = missing["train"]
    elsewhere = [name for name in names if any(name not in m for m in missing.values())]
    if elsewhere:
        _refuse_elsewhere(task, elsewhere, parts, values)
    what, occur, them = ("the class", "occurs", "it")
    if len(names) > 1:
        what, occur, them = ("the classes", "occur", "them")
    told = f"data.classes: {what} {', '.join(map(repr, names))} never {occur} in the masks"
    rest = [index for index, name in enumerate(task.class_names) if name not in names]
    if len(rest) < (1 if task.multi_label else 2):  # so few classes would be refused
        raise InputError(f"{told} where images hold information; check the masks, or add cases")
    left = f"data.classes: [{', '.join(task.class_names[index] for index in rest)}]"
    if values:
        stored = [list(v) if isinstance(v, tuple) else v for v in (values[i] for i in rest)]
        left += f", data.mask_values: {stored}"
    raise InputError(f"{told}; remove {them} ({left}), or add cases")


def _refuse_elsewhere(
    task: Task,
    names: Sequence[str],
    parts: Mapping[Part, Sequence[Case]],
    values: Sequence[MaskValue],
) -> None:
    """Refuses classes that occur in other parts than training, with what their masks hold."""
    others = (*parts["validation"], *parts["test"])
    wanted = set(names)
    where = [case.name for case in others if wanted - set(_missing(task, [case]))]
    indices = [index for index, name in enumerate(task.class_names) if name in wanted]
    found = [values[index] for index in indices] if values else []
    stored = [str(list(value) if isinstance(value, tuple) else value) for value in found]
    held = f" (stored as {listed(stored, most=8)})" if stored else ""
    many = len(names) > 1
    raise InputError(
        f"data.split: the class{'es' if many else ''} {listed([*map(repr, names)], most=8)}{held} "
        f"never {'occur' if many else 'occurs'} in the training cases, only in {listed(where)}; "
        "if these are no classes, repair the masks, else choose another split.seed, or list the "
        "cases of validation and test"
    )

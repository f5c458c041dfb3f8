"""From a tree to a model, or to all faults of the file at once.

pydantic skips the checks of a model (its ``after`` validators) while one of its fields is wrong.
To find all faults, the faulty values are cut from a copy, so that their defaults stand in, and the
copy is validated again, until nothing new is found. A fault that only the cutting has caused is
dropped.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from unet_nas.errors import DocumentError, Fault, Path
from unet_nas.text.document import (
    SECTIONS,
    Document,
    document_error,
    lookup,
    place,
    sentence,
    shown,
)
from unet_nas.text.domains import HOLE_SECTIONS

if TYPE_CHECKING:
    from unet_nas.text.sentences import Trouble

__all__ = ["error_of", "faults_error", "unknown_sections", "validate"]

ModelT = TypeVar("ModelT", bound=BaseModel)

# Each round cuts something and a document is 64 levels deep; real ones need two or three.
_MAX_ROUNDS = 80
# Nobody reads more, and finding the nearest known key for 40,000 unknown ones takes half a minute.
_MAX_FAULTS = 300


def validate(
    document: Document,
    model: type[ModelT],
    at: tuple[str, ...],
    *,
    sections: Sequence[str] = SECTIONS,
) -> ModelT:
    """Return the model of the section at ``at``.

    Args:
        document: The document, whose kept faults are reported too.
        model: The pydantic model of the section. A validator of its own raises
            `faults_error`.
        at: Keys to the section.
        sections: The top-level keys that the document may have.

    Raises:
        DocumentError: All faults of the section, unknown sections, and those kept in the document.
    """
    found = list(document.faults)
    unknown, meant = unknown_sections(document, model, at, sections)
    found += [place(fault, document) for fault in unknown]
    hidden = [placed.fault.path for placed in document.faults if placed.hides_value]
    try:
        tree = lookup(document.tree, at)
    except LookupError:
        if not meant:
            found.append(place(Fault(at, "this section must be given"), document))
        raise document_error(found, document.name) from None
    if any(at[: len(path)] == path for path in hidden):
        raise document_error(found, document.name)
    if not found:
        try:
            return model.model_validate(tree)
        except ValidationError:
            pass  # The slow path below finds out all that is wrong.
    inside = [path[len(at) :] for path in hidden if path[: len(at)] == at]
    faults = _all_faults(
        copy.deepcopy(tree), model, inside, holes=bool(at) and at[0] in HOLE_SECTIONS
    )
    found += [place(_below(at, fault), document) for fault in faults]
    raise document_error(found, document.name)


def faults_error(faults: Sequence[Fault], summary: str) -> PydanticCustomError:
    """Return what a validator of a model raises to report faults as they are.

    Args:
        faults: With paths from the model on.
        summary: What pydantic's own error says.
    """
    return PydanticCustomError("faults", "{summary}", {"summary": summary, "faults": list(faults)})


def error_of(fields: dict[str, Any], model: type[BaseModel]) -> DocumentError:
    """Return the error with all faults of values that come from Python and not from a file."""
    faults = _all_faults(copy.deepcopy(fields), model, ())
    return DocumentError("\n".join(sentence(fault) for fault in faults), faults)


def _all_faults(
    tree: Any, model: type[BaseModel], hidden: Iterable[Path], *, holes: bool = False
) -> list[Fault]:
    """Validate and cut, again and again. Changes the tree."""
    # Sentences are loaded where there is something to say: most files are right.
    from unet_nas.text.sentences import troubles_of  # noqa: PLC0415

    found: dict[tuple[Path, str], Fault] = {}
    cuts: list[Path] = []
    for path in hidden:
        _cut(tree, _without_index(path), cuts)
    for _ in range(_MAX_ROUNDS):
        try:
            model.model_validate(tree)
            break
        except ValidationError as error:
            errors = error.errors(include_url=False)[:_MAX_FAULTS]
            troubles = troubles_of(errors, tree, model, holes=holes)
        for trouble in troubles:
            if not _is_consequence(trouble.fault, cuts):
                found.setdefault((trouble.fault.path, trouble.fault.rule), trouble.fault)
        n_cut = sum(_cut(tree, path, cuts) for path in _next_cuts(troubles))
        if not n_cut or len(found) >= _MAX_FAULTS:
            break
    return list(found.values())


def _next_cuts(troubles: Sequence[Trouble]) -> list[Path]:
    """Choose what to cut: values of keys while there are some, then whole lists.

    An entry cannot leave its list without moving the others, so its list goes with it; until then
    the checks of its neighbours should have had their turn.
    """
    paths = [trouble.cut for trouble in troubles if trouble.cut]
    of_keys = [path for path in paths if isinstance(path[-1], str)]
    return list(dict.fromkeys(of_keys or [_without_index(path) for path in paths]))


def _without_index(path: Path) -> Path:
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return path


def _cut(tree: Any, path: Path, cuts: list[Path]) -> bool:
    """Delete the value of a key; return whether it was there."""
    if not path:
        return False
    cuts.append(path)
    try:
        parent = lookup(tree, path[:-1])
    except LookupError:
        return False
    if not isinstance(parent, dict) or path[-1] not in parent:
        return False
    del parent[path[-1]]
    return True


def _is_consequence(fault: Fault, cuts: Sequence[Path]) -> bool:
    """Tell whether a fault speaks of a stand-in for a value that was cut."""
    for cut in cuts:
        if fault.path[: len(cut)] == cut:
            return True
        if any(path[: len(cut)] == cut or cut[: len(path)] == path for path in fault.reads):
            return True
        # Where a rule does not say what it reads, its words do: "needs depth + 1 entries".
        if re.search(rf"\b{re.escape(str(cut[-1]))}\b", f"{fault.rule} {fault.got}"):
            return True
    return False


def _below(at: Path, fault: Fault) -> Fault:
    return Fault((*at, *fault.path), fault.rule, fault.got, fault.fix, fault.reads)


def unknown_sections(
    document: Document, model: type[BaseModel], at: Path, sections: Sequence[str] = SECTIONS
) -> tuple[list[Fault], bool]:
    """Return a fault for every unknown section, and whether one was meant to be that at ``at``."""
    faults: list[Fault] = []
    meant = False
    unknown = [key for key in document.tree if key not in sections] if at else []
    if not unknown:
        return faults, meant
    from unet_nas.text.sentences import did_you_mean  # noqa: PLC0415

    for key in unknown[:_MAX_FAULTS]:
        fix = did_you_mean(key, sections)
        if fix is not None:
            meant = meant or f"{at[0]!r}" in fix
        elif key in model.model_fields:
            fix = f"indent it under '{at[0]}:'"
            meant = True
        else:
            fix = f"the known sections are {', '.join(sections)}"
        faults.append(Fault((key,), f"unknown section {shown(key)}", fix=fix))
    return faults, meant

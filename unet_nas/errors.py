"""The exceptions of unet_nas and the record of one fault.

::

    UnetNasError              anything that unet_nas raises on purpose; exit code 1
    └── InputError            what a person gave is wrong; exit code 2
        ├── DocumentError     a YAML document is wrong; carries all its faults
        └── SizeError         a patch size does not fit the architecture

The command line prints the message and ends with ``exit_code``; no traceback is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["DocumentError", "Fault", "InputError", "Path", "SizeError", "UnetNasError"]

Path: TypeAlias = tuple[str | int, ...]
"""Keys and list indices that lead from the root of a document to one value."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule, where it was broken, and the nearest way out.

    Attributes:
        path: Where the fault is, from the root of the document (or, inside a validator, from the
            model that raises it).
        rule: What must hold, such as ``"must be ≥ 1"``.
        got: What was found instead; empty where the rule says it all.
        fix: The nearest fix, or a question that ends in ``?``.
        reads: Other paths whose values the rule depends on, beginning where ``path`` begins. A rule
            is not reported when one of them is itself faulty, since it judged a stand-in value.

    >>> Fault(("architecture", "depth"), "must be ≥ 1", got="0").fix is None
    True
    """

    path: Path
    rule: str
    got: str = ""
    fix: str | None = None
    reads: tuple[Path, ...] = ()


class UnetNasError(Exception):
    """The base of all exceptions that unet_nas raises on purpose."""

    exit_code: int = 1


class InputError(UnetNasError):
    """What a person gave (a file, an option, a value) is wrong."""

    exit_code = 2


class DocumentError(InputError):
    """A YAML document is wrong.

    Args:
        message: The rendered faults, one a line.
        faults: The same faults as data.
    """

    def __init__(self, message: str, faults: Iterable[Fault]) -> None:
        self.message = message
        self.faults: tuple[Fault, ...] = tuple(faults)
        # Both arguments go to the base class, so the error survives pickling between processes.
        super().__init__(message, self.faults)

    def __str__(self) -> str:
        return self.message


class SizeError(InputError):
    """A patch size does not fit the architecture."""

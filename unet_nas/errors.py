"""Placeholder until the house branch lands."""
from __future__ import annotations
from dataclasses import dataclass
class UnetNasError(Exception):
    exit_code = 1
class InputError(UnetNasError):
    exit_code = 2
@dataclass(frozen=True, slots=True)
class Fault:
    path: tuple[str | int, ...]
    rule: str
    got: str
    fix: str | None = None
class DocumentError(InputError):
    def __init__(self, message: str, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults
class SizeError(InputError):
    pass

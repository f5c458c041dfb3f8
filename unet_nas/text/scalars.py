"""Plain YAML scalars by the core schema of YAML 1.2.

PyYAML follows YAML 1.1, where ``on`` is true, ``1e-3`` is text, ``1:30`` is 90 and ``010`` is 8.
The core schema is section 10.3.2 of https://yaml.org/spec/1.2.2/.
"""

from __future__ import annotations

import re

__all__ = ["LARGEST_INTEGER", "Scalar", "parse_scalar"]

Scalar = str | int | float | bool | None

LARGEST_INTEGER = 2**64
"""Integers are below this in magnitude: more is a slip, and Python refuses over 4,300 digits."""

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_WORDS: tuple[tuple[tuple[str, ...], Scalar], ...] = (
    (("", "~", "null", "Null", "NULL"), None),
    (("true", "True", "TRUE"), True),
    (("false", "False", "FALSE"), False),
    ((".nan", ".NaN", ".NAN"), float("nan")),
)


def parse_scalar(text: str) -> Scalar:
    """Resolve an unquoted scalar.

    One rule of YAML 1.2 is left out: ``0x1`` is no hexadecimal number but text, since it
    stands for 0 along the first axis and 1 along the second.

    Raises:
        OverflowError: An integer of 64 bits or more.

    >>> parse_scalar("1e-3"), parse_scalar("on"), parse_scalar("0x1"), parse_scalar("~")
    (0.001, 'on', '0x1', None)
    """
    for words, value in _WORDS:
        if text in words:
            return value
    for pattern, base in ((_INT, 10), (_OCTAL, 8)):
        if pattern.fullmatch(text):
            return _integer(text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return float("-inf" if text.startswith("-") else "inf")
    return text


def _integer(text: str, base: int) -> int:
    digits = text.lstrip("+-").removeprefix("0o").lstrip("0") or "0"
    if len(digits) > 22:  # 2**64 in octal
        raise OverflowError
    value = int(digits, base)
    if value >= LARGEST_INTEGER:
        raise OverflowError
    return -value if text.startswith("-") else value

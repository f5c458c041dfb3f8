"""Quantities as people write them: bytes, counts, durations and sizes, in and out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from fractions import Fraction

from unet_nas.errors import InputError

__all__ = [
    "format_bytes",
    "format_count",
    "format_duration",
    "parse_bytes",
    "parse_count",
    "parse_duration",
    "parse_memory_limit",
    "parse_size",
    "parse_time_limit",
]

_BYTES: Mapping[str, Fraction] = {
    "B": Fraction(1),
    "kB": Fraction(1000),
    "KB": Fraction(1000),
    "MB": Fraction(1000**2),
    "GB": Fraction(1000**3),
    "TB": Fraction(1000**4),
    "KiB": Fraction(1024),
    "MiB": Fraction(1024**2),
    "GiB": Fraction(1024**3),
    "TiB": Fraction(1024**4),
}
_COUNTS: Mapping[str, Fraction] = {
    "k": Fraction(1000),
    "K": Fraction(1000),
    "M": Fraction(1000**2),
    "G": Fraction(1000**3),
    "T": Fraction(1000**4),
}
_SECONDS: Mapping[str, Fraction] = {
    "ns": Fraction(1, 1000**3),
    "us": Fraction(1, 1000**2),
    "µs": Fraction(1, 1000**2),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}

# The exponent has two digits at most: nobody means 1e999, and its digits would fill memory.
_QUANTITY = re.compile(
    r"\s*([0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*(?:\.[0-9]+)?|\.[0-9]+)"
    r"([eE][+-]?[0-9]{1,2})?\s*([^\W\d_]*)\s*"
)
_SIZE = re.compile(r"\s*[1-9][0-9]*(?:\s*[xX×]\s*[1-9][0-9]*){0,2}\s*")
#: of a size along one axis
_DIGITS = 9
_LONGEST = 60


def parse_bytes(text: str | int) -> int:
    """Read a number of bytes; GB is 1000³, GiB is 1024³, a bare number is bytes.

    Fractions of a byte are cut off.

    Raises:
        InputError: The text is not a number of bytes.

    >>> parse_bytes("8GiB"), parse_bytes("8 GB"), parse_bytes(512)
    (8589934592, 8000000000, 512)
    """
    return int(_parse(text, what="a number of bytes", example="8GiB", units=_BYTES))


def parse_count(text: str | int) -> int:
    """Read a count such as a number of parameters or of multiply-adds.

    Raises:
        InputError: The text is not a whole number.

    >>> parse_count("5M"), parse_count("31_030_658"), parse_count("31,030,658"), parse_count("1.2G")
    (5000000, 31030658, 31030658, 1200000000)
    """
    value = _parse(text, what="a count", example="5M", units=_COUNTS)
    if value.denominator != 1:
        raise InputError(f"a count must be a whole number, got {_quoted(text)}")
    return int(value)


def parse_duration(text: str | float) -> float:
    """Read a duration in seconds; a bare number is seconds.

    Raises:
        InputError: The text is not a duration.

    >>> parse_duration("10ms"), parse_duration("3 min"), parse_duration(0.5)
    (0.01, 180.0, 0.5)
    """
    return float(_parse(text, what="a duration", example="10ms", units=_SECONDS))


def parse_memory_limit(text: str | int) -> int:
    """Read a limit in bytes; a bare number below 1024 is taken for a slip, since none fits so few.

    Raises:
        InputError: The text is not a number of bytes, or has no unit and is small.

    >>> parse_memory_limit("4GiB"), parse_memory_limit(4096)
    (4294967296, 4096)
    """
    n_bytes = parse_bytes(text)
    if 0 < n_bytes < 1024 and _is_bare(text):
        number = str(text).strip()
        raise InputError(f"needs a unit: {number} means {number} bytes; fix: write {number}GiB")
    return n_bytes


def parse_time_limit(text: str | float) -> float:
    """Read a limit in seconds, which needs a unit: 50 was as likely meant as milliseconds.

    Raises:
        InputError: The text is not a duration, or has no unit.

    >>> parse_time_limit("50ms")
    0.05
    """
    seconds = parse_duration(text)
    if seconds and _is_bare(text):
        number = str(text).strip()
        raise InputError(f"needs a unit, as {number}ms or {number}s, got {number}")
    return seconds


def parse_size(text: str) -> tuple[int, ...]:
    """Read the spatial size of a patch: one to three positive integers with ``x`` between.

    Raises:
        InputError: The text is not a size.

    >>> parse_size("572x572"), parse_size("96 x 96 x 64"), parse_size("1024")
    ((572, 572), (96, 96, 64), (1024,))
    """
    if not _SIZE.fullmatch(text):
        raise InputError(
            "a size must be one to three positive integers with x between, such as 572x572 or "
            f"96x96x64, got {_quoted(text)}"
        )
    parts = [part.strip() for part in re.split(r"[xX×]", text)]
    if any(len(part) > _DIGITS for part in parts):
        limit = 10**_DIGITS - 1
        raise InputError(f"a size must be at most {limit:,} along each axis, got {_quoted(text)}")
    return tuple(map(int, parts))


def format_bytes(n_bytes: float) -> str:
    """Write a number of bytes in binary units, with four significant digits.

    >>> format_bytes(8 * 1024**3), format_bytes(1_536), format_bytes(12)
    ('8 GiB', '1.5 KiB', '12 B')
    """
    return _scaled(n_bytes, ("B", "KiB", "MiB", "GiB", "TiB"), base=1024, gap=" ")


def format_count(count: float) -> str:
    """Write a count with four significant digits.

    >>> format_count(31_030_658), format_count(999_999), format_count(64)
    ('31.03M', '1M', '64')
    """
    return _scaled(count, ("", "K", "M", "G", "T"), base=1000, gap="")


def format_duration(seconds: float) -> str:
    """Write a duration with four significant digits, or in two units from a minute on.

    >>> format_duration(0.0123), format_duration(200), format_duration(7200)
    ('12.3 ms', '3 min 20 s', '2 h 0 min')
    """
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds == 0:
        return "0 s"
    for unit, length in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        limit = 60 if unit == "s" else 1000
        if float(f"{seconds / length:.4g}") < limit:
            return f"{seconds / length:.4g} {unit}"
    return _two_units(round(seconds))


def _two_units(seconds: int) -> str:
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def _scaled(value: float, units: tuple[str, ...], *, base: int, gap: str) -> str:
    """Divide by ``base`` until the *rounded* value is below it, so 999,999 is 1M, not 1000K."""
    index, scaled = 0, float(value)
    while float(f"{abs(scaled):.4g}") >= base and index < len(units) - 1:
        index, scaled = index + 1, scaled / base
    # From 10,000 on, four digits would turn into an exponent; this happens only past the last unit.
    digits = f"{scaled:,.0f}" if abs(scaled) >= 1000 else f"{scaled:.4g}"
    return f"{digits}{gap}{units[index]}"


def _parse(
    value: str | float, *, what: str, example: str, units: Mapping[str, Fraction]
) -> Fraction:
    """Read a number with a unit as an exact fraction of the base unit."""
    # Booleans are integers to Python, but `memory: true` is a mistake. Not-a-number fails `>= 0`.
    if not isinstance(value, str):
        if isinstance(value, bool) or not 0 <= value < float("inf"):
            raise InputError(f"{what} must be a number ≥ 0, such as {example}, got {value!r}")
        return Fraction(value)
    match = _QUANTITY.fullmatch(value) if len(value) <= _LONGEST else None
    if match is None:
        raise InputError(f"{what} must be a number ≥ 0, such as {example}, got {_quoted(value)}")
    digits, exponent, unit = match.groups()
    if unit and unit not in units:
        raise InputError(_unknown_unit(value, unit, what, units))
    number = Fraction(digits.replace(",", "").replace("_", "") + (exponent or ""))
    return number * (units[unit] if unit else 1)


def _is_bare(text: str | float) -> bool:
    """Tell whether a quantity was written without its unit."""
    return not isinstance(text, str) or not any(char.isalpha() for char in text.strip()[-1:])


def _unknown_unit(value: str, unit: str, what: str, units: Mapping[str, Fraction]) -> str:
    by_lower_case = {known.lower(): known for known in units}
    near = get_close_matches(unit.lower(), list(by_lower_case), n=1, cutoff=0.5)
    hint = f"; did you mean {by_lower_case[near[0]]}?" if near else ""
    return f"unknown unit {unit!r} in {value!r}: {what} takes {', '.join(units)}{hint}"


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

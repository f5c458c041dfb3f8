"""One unit for a column of numbers, so that the header can state it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10

from unet_nas.report.quantities import MIB, Quantity
from unet_nas.report.tables import Column

__all__ = ["Measure", "best_rows", "measure"]

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTES = ((2.0**30, "GiB"), (MIB, "MiB"), (2.0**10, "KiB"), (1.0, "bytes"))


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of numbers in one unit."""

    header: str
    factor: float
    digits: int

    @property
    def column(self) -> Column:
        """The column of a table."""
        return Column(self.header, right=True)

    def cell(self, value: float | None) -> str:
        """Writes a value in the unit of the column."""
        if value is None:
            return "–"
        return f"{value / self.factor:,.{self.digits}f}"


def measure(quantity: Quantity, values: Iterable[float | None]) -> Measure:
    """Returns the unit in which the largest of some values is at least 1.

    >>> from unet_nas.report.quantities import COSTS
    >>> column = measure(COSTS["macs"], [48_096_083_968, 2_000_000_000])
    >>> column.header, column.cell(48_096_083_968)
    ('MACs per patch (G)', '48.10')
    """
    title = quantity.title[:1].upper() + quantity.title[1:]
    known = [abs(value) for value in values if value] or [1.0]
    if not quantity.cost:
        return Measure(f"{title} ({quantity.unit})" if quantity.unit else title, 1.0, 4)
    if quantity.name == "latency":
        return Measure(f"{title} (ms)", 1.0, _decimals(known, 1.0))
    units = _BYTES if quantity.unit == "MiB" else _PREFIXES
    factor, unit = next(((f, u) for f, u in units if max(known) >= f), units[-1])
    header = f"{title} ({unit})" if unit else title
    return Measure(header, factor, 0 if factor == 1 else _decimals(known, factor))


def _decimals(values: Sequence[float], factor: float) -> int:
    """Returns how many decimals show four digits of the largest value, and two of the least.

    >>> _decimals([31_030_658, 17_261_824], 1e6), _decimals([2.0, 0.012], 1.0)
    (2, 3)
    """
    digits = ((max(values) / factor, 4), (min(values) / factor, 2))
    return min(5, max(0, *(wanted - 1 - floor(log10(value)) for value, wanted in digits)))


def best_rows(values: Sequence[float | None], *, maximized: bool) -> set[int]:
    """Returns the rows with the best value; none where fewer than two are known.

    >>> best_rows([3.0, None, 1.0, 1.0], maximized=False)
    {2, 3}
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return set()
    best = max(known) if maximized else min(known)
    return {row for row, value in enumerate(values) if value == best}

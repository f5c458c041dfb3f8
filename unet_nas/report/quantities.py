"""What a report calls its numbers, and how it writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unet_nas.records import ObjectiveSpec
from unet_nas.units import format_bytes, format_count

__all__ = ["COSTS", "Quantity", "quantity_of"]

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that is measured or counted of a network.

    Attributes:
        name: As in the records.
        title: For people.
        unit: Of the axis of a plot and the column of a table; empty for shares and counts.
        scale: A record's value divided by this is in ``unit``.
        cost: It is a cost: smaller is better, and its axis is logarithmic.
        maximized: Larger is better.
    """

    name: str
    title: str
    unit: str = ""
    scale: float = 1.0
    cost: bool = False
    maximized: bool = False

    @property
    def axis(self) -> str:
        """The title with its unit.

        >>> COSTS["training_memory"].axis
        'training memory (MiB)'
        """
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float | None) -> str:
        """Writes a record's value for people.

        >>> COSTS["parameters"].text(31_030_658), COSTS["latency"].text(12.3456)
        ('31.03M', '12.35 ms')
        """
        if value is None:
            return "–"
        if self.unit == "MiB":
            return format_bytes(value)
        if self.cost and self.name != "latency":
            return format_count(value)
        digits = f"{value:.4g}" if self.unit else f"{value:.4f}"
        return f"{digits} {self.unit}" if self.unit else digits


COSTS: Mapping[str, Quantity] = {
    "parameters": Quantity("parameters", "parameters", cost=True),
    "macs": Quantity("macs", "MACs per patch", cost=True),
    "training_memory": Quantity("training_memory", "training memory", "MiB", MIB, cost=True),
    "inference_memory": Quantity("inference_memory", "inference memory", "MiB", MIB, cost=True),
    "latency": Quantity("latency", "latency", "ms", cost=True),
}
"""The costs of a record, cheapest to find first."""


def quantity_of(objective: ObjectiveSpec) -> Quantity:
    """Returns what an objective measures.

    >>> quantity_of(ObjectiveSpec("dice[nucleus]", "maximize")).title
    'Dice of nucleus'
    """
    if objective.name in COSTS:
        return COSTS[objective.name]
    maximized = objective.direction == "maximize"
    return Quantity(
        objective.name, score_title(objective.name), objective.unit, maximized=maximized
    )


_SCORES: Mapping[str, str] = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
    "surface_dice": "surface Dice",
    "event_f1": "event F1",
    "border_dice": "border Dice",
}


def score_title(name: str) -> str:
    """Returns the name of a metric for people.

    >>> score_title("dice"), score_title("iou[a_b]"), score_title("my_metric")
    ('Dice', 'IoU of a_b', 'my metric')
    """
    base, _, rest = name.partition("[")
    title = _SCORES.get(base, base.replace("_", " "))
    return f"{title} of {rest.removesuffix(']')}" if rest else title

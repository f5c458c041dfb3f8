"""Lists of what comes with the package, as lines for a person: operators and presets."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from unet_nas.operators.catalogue import Operator, Option
from unet_nas.unet.load import Preset


def operator_lines(operators: Iterable[Operator]) -> list[str]:
    """Returns all operators under the field that takes them, each with its options."""
    lines: list[str] = []
    for field, members in groupby(operators, key=lambda operator: operator.field):
        lines += ["", field] if lines else [field]
        for operator in members:
            lines.append(f"  {operator.name}: {operator.meaning}")
            names = max((len(option.name) for option in operator.options), default=0)
            values = max((len(option.default) for option in operator.options), default=0)
            lines += [
                f"      {option.name:{names}}  {option.default:{values}}  {meaning(option)}"
                for option in operator.options
            ]
    return lines


def meaning(option: Option) -> str:
    """Returns what an option means, with the words that it takes.

    >>> meaning(Option("side", "both", ("both", "end"), "which ends"))
    'which ends (both | end)'
    """
    words = f" ({' | '.join(option.choices)})" if option.choices else ""
    return option.meaning + words


def preset_lines(presets: Iterable[tuple[Preset, int]]) -> list[str]:
    """Returns each preset with its number of parameters, its meaning and its reference."""
    found = list(presets)
    width = max(len(preset.name) for preset, _ in found)
    lines = []
    for preset, parameters in found:
        lines.append(f"preset:{preset.name:{width}}  {parameters:>12,} parameters")
        lines += [f"    {preset.about}", f"    {preset.reference}"]
    return lines

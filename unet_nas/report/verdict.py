"""The verdict of a check as text for a person and as JSON for a program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from unet_nas.unet.check import Check, Fix, Problem
from unet_nas.unet.outline import by
from unet_nas.unet.shapes import ValidSizes

_PROBLEM_KEYS = ("name", "where", "axis", "reason", "sizes", "message", "why")
_FIX_KEYS = ("kind", "value", "output_size", "option")


def as_json(result: Check) -> dict[str, Any]:
    """Returns a verdict with the keys that ``docs/architecture.md`` documents."""
    rules = [
        None
        if rule is None
        else {"minimum": rule.minimum, "step": rule.step, "residues": list(rule.residues)}
        for rule in result.valid_sizes
    ]
    return {
        "valid": result.valid,
        "problems": [{key: getattr(p, key) for key in _PROBLEM_KEYS} for p in result.problems],
        "fixes": [{key: getattr(fix, key) for key in _FIX_KEYS} for fix in result.fixes],
        "input_size": result.input_size,
        "output_size": result.output_size,
        "nearest_valid_sizes": result.nearest_valid_sizes,
        "valid_sizes": rules,
        "parameters": result.parameters,
        "batch_size": result.batch_size,
        "mode": result.mode,
    }


def as_lines(file: str, result: Check) -> list[str]:
    """Returns a verdict as lines; the first begins with ``valid`` or ``not valid``."""
    lines = [_headline(file, result), ""]
    for axes, problem in _grouped(result):
        lines += [f"  {axes}{problem.message}", f"    because {problem.why}"]
    if result.problems:
        lines += ["", *_help(result.fixes), ""]
    if result.output_size is not None:
        lines.append(f"  output size  {by(result.output_size)}")
    lines.append(f"  parameters   {result.parameters:,}")
    label = "  valid sizes  "
    alone = any(problem.reason == "single_value" for problem in result.problems)
    sizes = _sizes(result.valid_sizes)
    for text in [*sizes, "as far as sizes go; norms need more than one value"] if alone else sizes:
        lines.append(f"{label}{text}")
        label = " " * len(label)
    return lines


def _headline(file: str, result: Check) -> str:
    if result.input_size is not None:
        asked = f"{by(result.input_size)} (batch {result.batch_size}, {result.mode} mode)"
        if result.valid:
            return f"valid: {file} runs on {asked}"
        return f"not valid: {file} does not run on {asked}"
    return f"valid: {file}" if result.valid else f"not valid: {file} runs on no patch size"


def _grouped(result: Check) -> Iterator[tuple[str, Problem]]:
    """Yields each problem once, with the axes that share it."""
    found: dict[Problem, list[int]] = {}
    for problem in result.problems:
        axes = found.setdefault(replace(problem, axis=None), [])
        axes += [] if problem.axis is None else [problem.axis]
    for problem, axes in found.items():
        if not axes or len(result.valid_sizes) == 1:
            yield "", problem
        elif len(axes) == 1:
            yield f"axis {axes[0]}: ", problem
        else:
            first = ", ".join(map(str, axes[:-1]))
            yield f"axes {first} and {axes[-1]}: ", problem


def _help(fixes: tuple[Fix, ...]) -> list[str]:
    if not fixes:
        return ["  no patch size and no alignment mends this; padding: same loses no border"]
    width = max(len(fix.option) for fix in fixes)
    note = {fix: f", {fix.note}" if fix.note else "" for fix in fixes}
    lines = [f"    {f.option:{width}}  output {by(f.output_size)}{note[f]}" for f in fixes]
    return ["  any one of these helps:" if len(fixes) > 1 else "  this helps:", *lines]


def _sizes(rules: tuple[ValidSizes | None, ...]) -> list[str]:
    texts = ["follow no short rule" if rule is None else rule.describe() for rule in rules]
    if len(set(texts)) == 1:
        return [f"{texts[0]}{', on every axis' if len(texts) > 1 and rules[0] else ''}"]
    return [f"axis {axis}: {text}" for axis, text in enumerate(texts)]

"""Row 2: where sizes do not come back, what is done about it, and the border that is lost.

Sources: Ronneberger, Fischer and Brox, MICCAI 2015, arXiv:1505.04597 (crop, and the border of
valid padding); Dumoulin and Visin, arXiv:1603.07285 (sizes).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from unet_nas.audit.diagnosis.meeting import Alignment, StageSize, analyse
from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import (
    Finding,
    Severity,
    Subject,
    axis_words,
    listed,
    numbered,
    percent,
)
from unet_nas.operators.fusion import Crop, PadSmaller, Resize
from unet_nas.unet.architecture import per_stage
from unet_nas.unet.outline import by
from unet_nas.unet.shapes import Size

__all__ = ["analyse", "figure", "findings"]


def findings(result: Alignment | None, subject: Subject) -> Iterator[Finding]:
    """Yields why a patch does not fit, what odd sizes cost, and the border that is lost."""
    if result is None:
        text = "no patch size at all runs through this network"
        yield Finding("alignment", "error", 1.0, text, "`unet-nas check` lists every cause")
        return
    if subject.given:  # nobody chose the usual patch, and it fits
        explained = result.output_size is not None or _unequal(result)
        odd = list(_odd(result, subject)) if explained else []
        yield from odd
        yield from _problems(result, besides="mismatch" if odd else "")
    if result.never_predicted:
        yield _border_finding(result, subject)


def _odd(result: Alignment, subject: Subject) -> Iterator[Finding]:
    """Yields one finding for each set of odd sizes, with the axes that share it."""
    groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for axis in range(subject.graph.dims):
        odd = tuple((s.stage, s.size) for s in result.stages if s.axis == axis and s.odd)
        if odd:
            groups.setdefault(odd, []).append(axis)
    runs = result.output_size is not None
    for odd, axes in groups.items():
        first = next(s for s in result.stages if s.axis == axes[0] and s.odd)
        words = axis_words(subject.graph.dims, axes)
        verb = "meets" if len(odd) == 1 else "meet"
        text = (
            f"{numbered('stage', [stage for stage, _ in odd])} {verb} "
            f"{listed([str(size) for _, size in odd])} {words}"
            f"{_comes_back(first)}{_what_align_does(result, subject, first)}"
        )
        severity: Severity = "warning" if runs else "error"
        fix = _pad_or_align(result, axes, runs)
        yield Finding("alignment", severity, 1 / first.size, text, fix)


def _comes_back(stage: StageSize) -> str:
    """Tells what becomes of the odd size."""
    if stage.skip is None or stage.up is None or abs(stage.skip - stage.up) >= stage.factor:
        return f", which the down-sampling by {stage.factor} does not divide"
    return f", and the skip of {stage.skip} meets {stage.up} from below"


def _what_align_does(result: Alignment, subject: Subject, stage: StageSize) -> str:
    """Tells what the network's own alignment does there, where it runs."""
    if result.output_size is None or stage.skip is None or stage.up is None:
        return ""
    align, _ = per_stage(subject.architecture, "align", stage.stage)
    difference = abs(stage.skip - stage.up)
    if not 0 < difference < stage.factor:  # a border of valid padding is another matter
        return ""
    match align:
        case Crop():
            return f": align=crop takes off {difference}"
        case PadSmaller():
            return f": align=pad fills in {difference} that nothing was computed for"
        case Resize():
            return f": align=resize stretches {stage.up} to {stage.skip} and so moves what it shows"
    return ""


def _pad_or_align(result: Alignment, axes: list[int], runs: bool) -> str:
    """Returns what helps: another size, or where it does not run another alignment."""
    axis = axes[0]
    above, size = result.nearest[axis][1], result.patch_size[axis]
    parts = []
    if above is not None and above != size:
        parts.append(f"pad the input from {size} to {above}")
    if not runs:
        for policy in result.policies:
            if policy.output_size is not None and policy.align != "strict":
                change = _change(policy.output_size, result.patch_size)
                parts.append(f"set align={policy.align}, which {change}")
    return ", or ".join(parts)


def _change(output: Size, patch: Size) -> str:
    word = "shrinks" if prod(output) < prod(patch) else "keeps"
    return f"{word} the output {'to' if word == 'shrinks' else 'at'} {by(output)}"


def _unequal(result: Alignment) -> bool:
    """Tells whether maps of unequal size meet, which an odd size may be the cause of."""
    return any(reason == "mismatch" for reason, _ in result.problems)


def _problems(result: Alignment, *, besides: str) -> Iterator[Finding]:
    """Yields why the network does not run, besides what odd sizes have explained."""
    for reason, text in result.problems:
        if reason != besides:
            yield Finding("alignment", "error", 1.0, text, ", or ".join(result.fixes))


def _border_finding(result: Alignment, subject: Subject) -> Finding:
    assert result.border is not None
    assert result.output_size is not None
    sides = sorted(set(result.border))
    lost = " and ".join(str(low) if low == high else f"{low} and {high}" for low, high in sides)
    text = (
        f"the output is {by(result.output_size)} for an input of {by(result.patch_size)}: "
        f"{lost} {axis_words(subject.graph.dims, range(subject.graph.dims))} are lost at each "
        f"side, and {percent(result.never_predicted)} of the input is never predicted"
    )
    fix = (
        "mirror the border of whole images (overlap-tile, as the 2015 paper does), or padding=same"
    )
    return Finding("alignment", "warning", result.never_predicted, text, fix)


def figure(result: Alignment | None) -> Figure | None:
    """Returns the sizes that meet at each fusion along axis 0, and the share that is predicted."""
    if result is None:
        return None
    rows = [s for s in result.stages if s.axis == 0 and s.skip is not None and s.up is not None]
    places = tuple(float(row.stage) for row in rows)
    sizes = Panel(
        "What meets at each fusion",
        "stage (0 = full resolution)",
        "size along axis 0 (positions)",
        (
            Series("skip", places, tuple(float(row.skip or 0) for row in rows)),
            Series("from below", places, tuple(float(row.up or 0) for row in rows)),
        ),
        kind="bars",
    )
    outputs = [policy for policy in result.policies if policy.output_size is not None]
    shares = Panel(
        "Output of each alignment",
        "align",
        "output (% of the input)",
        (
            Series(
                "",
                tuple(map(float, range(len(outputs)))),
                tuple(
                    100 * prod(policy.output_size or ()) / prod(result.patch_size)
                    for policy in outputs
                ),
            ),
        ),
        kind="bars",
        ticks=tuple(policy.align for policy in outputs),
    )
    caption = f"Alignment for an input of {by(result.patch_size)}."
    return Figure("alignment", caption, (sizes, shares))

"""What a survey of a space shows: counts, reasons, histograms, extremes, advice, and its JSON.

Pure functions of a survey; the text states what the numbers hold for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any

from unet_nas.audit.memory import Training
from unet_nas.report.tables import Column, Table
from unet_nas.space.budget import format_limit, limit_text
from unet_nas.space.candidate import Reason
from unet_nas.space.domains import Scalar
from unet_nas.space.survey import ReasonCount, Scope, Share, Survey
from unet_nas.text.document import shown
from unet_nas.units import format_duration

_BINS = 8
_BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_TITLES: Mapping[str, str] = {
    "depth": "depth",
    "parameters": "parameters",
    "macs": "MACs of a forward pass of one patch",
    "training_memory": "memory of a training step",
    "inference_memory": "memory of a forward pass of one patch",
}
_SHORT = {"macs": "MACs", "training_memory": "training memory"}
_STAGE = re.compile(r"(.+)\[(\d+)\]")
#: beyond this, digits say no more than the power of ten
_LARGEST_WRITTEN = 10**15


def counts(survey: Survey) -> list[tuple[str, str]]:
    """Returns the lines at the head of the page: a label and a text each."""
    scope = survey.scope
    lines = [("architectures", _architectures(scope))]
    if scope.candidates != scope.architectures:
        text = f"{_number(scope.candidates)} with the patch and batch sizes of train"
        lines.append(("candidates", text))
    lines.append(("judged", _judged(scope)))
    lines.append(("break no rule", _share(survey.valid)))
    if any(conditions.patch_size for conditions in survey.conditions):
        lines.append(("run on the patch", _share(survey.aligned)))
    lines.append(("feasible", _share(survey.feasible) + _within(scope)))
    networks = f"{survey.networks:,} among those judged that break no rule"
    lines.append(("distinct networks", f"{networks}, {survey.feasible_networks:,} feasible"))
    if scope.latency is not None:
        limit = format_duration(scope.latency)
        lines.append(("not checked", f"latency ≤ {limit}: it has to be measured"))
    return lines


def _architectures(scope: Scope) -> str:
    number = _number(scope.architectures)
    if not scope.infinite:
        ways = "way" if scope.architectures == 1 else "ways"
        return f"{number} {ways} to fill the holes of architecture"
    ranges = ", ".join(scope.infinite)
    return f"infinitely many ({number} without the ranges of floats: {ranges})"


def _judged(scope: Scope) -> str:
    if scope.exhaustive:
        return f"all {scope.judged:,}"
    return (
        f"{scope.judged:,} drawn with seed {scope.seed}, each way to fill the discrete holes "
        "equally likely; shares with 95 % interval"
    )


def _within(scope: Scope) -> str:
    limits = [f"{name} ≤ {format_limit(name, limit)}" for name, limit in scope.limits.items()]
    return f", within {', '.join(limits)}" if limits else ""


def _number(number: int) -> str:
    """Writes a count in full as long as somebody would read it.

    >>> _number(1234), _number(3 * 10**20)
    ('1,234', '3.00e+20')
    """
    return f"{number:,}" if number < _LARGEST_WRITTEN else f"{number:.2e}"


def _share(share: Share) -> str:
    text = f"{share.count:,} ({_percent(share.count, share.of)}"
    if not share.exact:
        low, high = share.interval
        text += f", {100 * low:.1f} to {100 * high:.1f} %"
    return f"{text})"


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} %" if of else "-"


# --- reasons ------------------------------------------------------------------------------


def reasons_table(survey: Survey) -> Table:
    """Returns how many candidates each reason rejects, and how many it alone."""
    columns = (
        Column("Rejected because"),
        Column("Candidates", right=True),
        Column("Share", right=True),
        Column("It alone", right=True),
        Column("Share", right=True),
    )
    rows = [_reason_row(survey, entry) for entry in survey.reasons]
    return Table(columns, tuple(rows), _reasons_caption(survey))


def _reason_row(survey: Survey, entry: ReasonCount) -> tuple[str, ...]:
    of = survey.scope.judged
    return (
        reason_text(entry.reason, survey.scope),
        f"{entry.any:,}",
        _percent(entry.any, of),
        f"{entry.alone:,}",
        _percent(entry.alone, of),
    )


def reason_text(reason: Reason, scope: Scope) -> str:
    """Returns a reason as a person would say it."""
    if reason.kind != "budget":
        return reason.text
    limit = next(limit for name, limit in scope.limits.items() if name == reason.text)
    return f"{reason.text} above {format_limit(reason.text, limit)}"


def _reasons_caption(survey: Survey) -> str:
    texts = ["A candidate may have several reasons. It alone: nothing else rejects it."]
    if any(entry.reason.kind != "budget" for entry in survey.reasons):
        texts.append("What breaks a rule or does not run has no cost to be judged.")
    if any(name.endswith("memory") for name in survey.scope.limits):
        texts.append("Memory is judged where at most one of parameters and MACs is too large.")
    return " ".join(texts)


def verdict(survey: Survey) -> list[str]:
    """Returns what costs most candidates and, where nothing is feasible, what would help."""
    dearest = survey.dearest_constraint
    lines = []
    if dearest is not None:
        share = _percent(dearest.alone, survey.scope.judged)
        text = reason_text(dearest.reason, survey.scope)
        lines.append(
            f"Costs most candidates: {text} rejects {dearest.alone:,} ({share}) by itself."
        )
    elif survey.feasible.count < survey.scope.judged:
        lines.append("No constraint rejects a candidate by itself.")
    if not survey.feasible.count:
        lines += _help(survey)
    return lines


def _help(survey: Survey) -> Iterator[str]:
    none = "No candidate is feasible" if survey.scope.exhaustive else "None drawn is feasible"
    scope = survey.scope
    if survey.relaxations:
        several = len(survey.relaxations[0].limits) > 1
        yield f"{none}. " + ("These limits must give way together:" if several else "Relax one:")
        for relaxation in survey.relaxations:
            for name, value in relaxation.limits.items():
                factor = value / scope.limits[name]
                old = format_limit(name, scope.limits[name])
                yield f"  budget.{name}: {limit_text(name, value)}  (now {old}; × {factor:.3g})"
    elif survey.remedies:
        yield f"{none}: none runs on the patch size. Any of these helps:"
        for remedy in survey.remedies:
            share = f"{remedy.runs:,} of {remedy.asked:,} asked run"
            yield f"  {remedy.path}: {remedy.value}  ({share})"
    elif not survey.valid.count:
        yield f"{none}: each breaks a rule between fields. A fix for one that does, by rule:"
        for entry in survey.reasons:
            if entry.fix:
                yield f"  {entry.reason.text}: {entry.fix}"
    else:
        yield f"{none}: none runs on this or a nearby patch size; use fewer down-samplings."


# --- histograms ---------------------------------------------------------------------------


def histograms(survey: Survey) -> Iterator[str]:
    """Yields a text histogram per cost over the feasible candidates."""
    feasible = survey.feasible.count
    for name, title in _TITLES.items():
        values = survey.costs.get(name, [])
        if values:
            of = f"{len(values):,} of {feasible:,}" if len(values) < feasible else f"{feasible:,}"
            yield "\n".join([f"{title} ({of} feasible)", *_bars(name, values)])


def _bars(name: str, values: Sequence[int]) -> list[str]:
    """Returns one line per bin: its range, a bar, the number."""
    if name == "depth":
        bins = [(str(n), values.count(n)) for n in range(min(values), max(values) + 1)]
    else:
        bins = [(_range(name, *ends), number) for *ends, number in log_bins(values)]
    width = max(len(label) for label, _ in bins)
    most = max(number for _, number in bins)
    digits = len(f"{most:,}")
    return [
        f"  {label:>{width}}  {number:>{digits},}  {bar(number, most)}" for label, number in bins
    ]


def _range(name: str, low: float, high: float) -> str:
    if low == high:
        return format_limit(name, low)
    return f"{format_limit(name, low):>9} – {format_limit(name, high):>9}"


def log_bins(values: Sequence[int]) -> list[tuple[float, float, int]]:
    """Returns up to eight bins of equal ratio: both ends and the number of values.

    >>> log_bins([1, 2, 256])[0], log_bins([7, 7])
    ((1.0, 2.0, 1), [(7, 7, 2)])
    """
    low, high = min(values), max(values)
    if low == high or low <= 0:
        return [(low, high, len(values))]
    ratio = high / low
    numbers = [0] * _BINS
    for value in values:
        numbers[min(_BINS - 1, int(_BINS * log(value / low) / log(ratio) + 1e-9))] += 1
    edges = [low * ratio ** (i / _BINS) for i in range(_BINS + 1)]
    return [(edges[i], edges[i + 1], number) for i, number in enumerate(numbers)]


def bar(number: int, most: int) -> str:
    """Returns a bar in eighths of a character; whatever is not zero shows.

    >>> bar(1, 2) == "█" * 20, bar(0, 2), bar(1, 10_000)
    (True, '', '▏')
    """
    eighths = max(1, round(8 * _BAR * number / most)) if number else 0
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


# --- extremes -----------------------------------------------------------------------------


def extremes_table(survey: Survey) -> Table:
    """Returns the cheapest and the dearest feasible candidate by each cost."""
    columns = (Column("Feasible candidate"), Column("Cost", right=True), Column("Values"))
    rows = []
    for name, extreme in survey.extremes.items():
        for word, (cost, values) in (("least", extreme.low), ("most", extreme.high)):
            label = f"{word} {_SHORT.get(name, name.replace('_', ' '))}"
            rows.append((label, format_limit(name, cost), describe(values)))
    return Table(columns, tuple(rows), conventions(survey))


def describe(values: Mapping[str, Scalar]) -> str:
    """Writes what was picked on one line: stages as a list, options of a branch in brackets.

    >>> describe({"architecture.depth": 2, "architecture.convs[0]": 1, "architecture.convs[1]": 2})
    'depth 2 · convs [1, 2]'
    >>> describe({"architecture.down": "conv", "architecture.down[conv].kernel_size": 3})
    'down conv (kernel_size 3)'
    """
    short = {name.removeprefix("architecture."): value for name, value in values.items()}
    return " · ".join(_described("", short))


def _described(prefix: str, values: Mapping[str, Scalar]) -> list[str]:
    """Returns one text per field; ``prefix`` is that of the branch that the fields stand in."""
    fields: dict[tuple[str, bool], list[str]] = {}
    taken: set[str] = set()
    for name, value in values.items():
        if name in taken:
            continue
        branch = f"{name}[{value if isinstance(value, str) else shown(value)}]"
        inner = {other: v for other, v in values.items() if other.startswith(branch)}
        taken.update(inner)
        options = f" ({', '.join(_described(branch, inner))})" if inner else ""
        match = _STAGE.fullmatch(name)
        key = (match[1] if match else name).removeprefix(prefix).removeprefix(".")
        fields.setdefault((key, match is not None), []).append(_plain(value) + options)
    return [_field(key, staged, texts) for (key, staged), texts in fields.items()]


def _field(key: str, staged: bool, texts: Sequence[str]) -> str:
    text = f"[{', '.join(texts)}]" if staged else texts[0]
    return f"{key} {text}".lstrip()


def _plain(value: Scalar) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else "null" if value is None else shown(value)


def conventions(survey: Survey) -> str:
    """Returns what the costs hold for, and how they are counted."""
    sizes = dict.fromkeys(c.size_text for c in survey.conditions if c.patch_size)
    batches = sorted({conditions.batch_size for conditions in survey.conditions})
    if not sizes:
        return "Without a patch size (train.patch_size or --patch-size) only parameters are known."
    device = survey.scope.device
    options = " or ".join(dict.fromkeys(map(_options, survey.trainings)))
    counted = "bytes of tensors alive at once, without library workspaces and allocator rounding"
    if device == "cuda":
        counted = "bytes that the allocator reserves, without library workspaces"
    return (
        f"Patch {_few(list(sizes))}. MACs: multiply-accumulates of convolutions in a forward pass "
        f"of one patch. Training memory: of a step with batch {_few([str(n) for n in batches])}, "
        f"{options}, {device}: {counted}."
    )


def _options(t: Training) -> str:
    return f"{t.precision}, {t.optimizer} ({t.implementation}), {t.loss_text.replace('_', '-')}"


def _few(texts: Sequence[str]) -> str:
    return ", ".join(texts) if len(texts) <= 4 else f"{texts[0]}, …, {texts[-1]}"


# --- JSON ---------------------------------------------------------------------------------


def as_json(file: str, survey: Survey) -> dict[str, Any]:
    """Returns the survey for programs; the values of the histograms are all feasible costs."""
    scope, dearest = survey.scope, survey.dearest_constraint
    return {
        "file": file,
        "architectures": None if scope.infinite else scope.architectures,
        "candidates": None if scope.infinite else scope.candidates,
        "infinite": list(scope.infinite),
        "judged": scope.judged,
        "exhaustive": scope.exhaustive,
        "seed": scope.seed,
        "limits": dict(scope.limits),
        "latency_seconds": scope.latency,
        "conditions": [conditions.model_dump() for conditions in survey.conditions],
        "valid": _share_json(survey.valid),
        "aligned": _share_json(survey.aligned),
        "feasible": _share_json(survey.feasible),
        "networks": survey.networks,
        "feasible_networks": survey.feasible_networks,
        "reasons": [_reason_json(entry) for entry in survey.reasons],
        "dearest_constraint": None if dearest is None else _reason_json(dearest),
        "costs": survey.costs,
        "extremes": {
            name: {
                "least": {"cost": extreme.low[0], "values": extreme.low[1]},
                "most": {"cost": extreme.high[0], "values": extreme.high[1]},
            }
            for name, extreme in survey.extremes.items()
        },
        "relaxations": [dict(relaxation.limits) for relaxation in survey.relaxations],
        "remedies": [
            {"path": r.path, "value": r.value, "runs": r.runs, "asked": r.asked}
            for r in survey.remedies
        ],
    }


def _share_json(share: Share) -> dict[str, Any]:
    return {"count": share.count, "of": share.of, "interval": share.interval}


def _reason_json(entry: ReasonCount) -> dict[str, Any]:
    reason = entry.reason
    return {
        "kind": reason.kind,
        "reason": reason.text,
        "rejected": entry.any,
        "alone": entry.alone,
        "fix": entry.fix,
    }

"""The parts of the page, as plain data for its template: what stands where, in which words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from unet_nas.records import Run, TrialRecord
from unet_nas.report.diagnosis_section import Principle, principles_of
from unet_nas.report.drawing import layout
from unet_nas.report.drawing_svg import PAGE_COLORS, describe, to_svg
from unet_nas.report.examples import Example, class_color, examples_of
from unet_nas.report.findings import Entry, Finals, Findings
from unet_nas.report.html import number
from unet_nas.report.network_figures import (
    Network,
    breakdown_text,
    network_of,
    stage_plot,
    timeline_plot,
    training_plot,
)
from unet_nas.report.plots import Plot
from unet_nas.report.quantities import COSTS, Quantity, score_title
from unet_nas.space.domains import Scalar
from unet_nas.units import format_bytes

__all__ = [
    "Card",
    "Fact",
    "answers",
    "beside_baselines",
    "budget_facts",
    "cards",
    "finals_title",
    "rows",
    "value_text",
]

_SCORE = Quantity("score", "score")
_MOST_ROWS = 500


@dataclass(frozen=True, slots=True)
class Fact:
    """A title and what stands beside it."""

    title: str
    value: str | Markup


# --- the answer ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """A recommended network; ``longer`` tells that the command takes longer-trained weights."""

    titles: tuple[str, ...]
    entry: Entry
    score: Markup
    score_title: str
    finals: str
    facts: tuple[Fact, ...]
    command: str
    longer: bool


def answers(findings: Findings) -> list[Answer]:
    """Returns the recommended networks, the best first."""
    score = findings.score
    return [
        Answer(
            one.titles,
            one.entry,
            Markup() if score is None else number(score, one.entry.value(score)),
            "" if score is None else score.title,
            finals_text(findings.finals(one.entry)),
            cost_facts(findings, one.entry),
            one.entry.longer_export_command or one.entry.export_command,
            bool(one.entry.longer_export_command),
        )
        for one in findings.recommendations
    ]


def finals_text(finals: Finals | None) -> str:
    """Returns the result of the longer trainings in words; empty without any.

    >>> finals_text(Finals((0.8, 0.82)))
    '0.8100 ± 0.0141 (SD of 2 seeds) on the test cases after the longer training'
    """
    if finals is None:
        return ""
    spread = finals.deviation
    count = len(finals.scores)
    shown = "(1 seed)" if spread is None else f"± {spread:.4f} (SD of {count} seeds)"
    failed = f"; {finals.failed} failed" if finals.failed else ""
    return f"{finals.mean:.4f} {shown} on the {finals.part} cases after the longer training{failed}"


def cost_facts(findings: Findings, entry: Entry) -> tuple[Fact, ...]:
    """Returns all costs that any network has, for one of them."""
    return tuple(Fact(q.title, number(q, entry.value(q))) for q in findings.costs)


def budget_facts(run: Run) -> list[Fact]:
    """Returns the limits that a person wrote."""
    limits = run.header.budget.items()
    return [
        Fact(COSTS[name].title if name in COSTS else name, number(COSTS.get(name, _SCORE), limit))
        for name, limit in limits
    ]


# --- tables of networks -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A network in a table."""

    entry: Entry
    carded: bool
    note: str
    numbers: tuple[Markup, ...]
    finals: str = ""


def rows(findings: Findings, entries: Sequence[Entry]) -> list[Row]:
    """Returns networks with their score and costs."""
    carded = {entry.key for entry in (*findings.carded, *findings.baselines)}
    quantities = findings.shown
    return [
        Row(
            e,
            e.key in carded,
            note_of(e.record),
            tuple(number(q, e.value(q)) for q in quantities),
            short_finals(findings.finals(e)),
        )
        for e in entries[:_MOST_ROWS]
    ]


def beside_baselines(findings: Findings) -> list[Row]:
    """Returns the recommended networks, then the baselines, to be read in the same columns."""
    recommended = [one.entry for one in findings.recommendations]
    return rows(findings, [*recommended, *findings.baselines])


def finals_title(findings: Findings, shown: Sequence[Row]) -> str:
    """Returns the title of the column of longer trainings; empty where no network has any."""
    found = [findings.finals(row.entry) for row in shown if row.finals]
    parts = sorted({finals.part for finals in found if finals is not None})
    return f"After longer training, {' or '.join(parts)}" if parts else ""


def short_finals(finals: Finals | None) -> str:
    """Returns mean and spread of the longer trainings as they fit into a table.

    >>> short_finals(Finals((0.8, 0.82))), short_finals(Finals((0.8,))), short_finals(None)
    ('0.8100 ± 0.0141 (n = 2)', '0.8000 (n = 1)', '')
    """
    if finals is None:
        return ""
    spread = "" if finals.deviation is None else f" ± {finals.deviation:.4f}"
    return f"{finals.mean:.4f}{spread} (n = {len(finals.scores)})"


def note_of(record: TrialRecord) -> str:
    """Returns what is to be said of a network besides its numbers."""
    if record.failure is not None:
        return f"{record.failure.kind.replace('_', ' ')}: {record.failure.reason}"
    if record.state == "pruned":
        return "pruned: stopped early"
    over = [name.replace("_", " ") for name, excess in record.constraints.items() if excess > 0]
    return f"over the limit of {', '.join(over)}" if over else ""


# --- cards --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Card:
    """All that is known of one network; ``copied``: skips bring some of the maps drawn."""

    entry: Entry
    badges: tuple[str, ...]
    facts: tuple[Fact, ...]
    finals: str
    chosen: tuple[Fact, ...]
    drawing: Markup
    natural: int
    copied: bool
    drawing_note: str
    peak: str
    scores: tuple[tuple[str, str, Markup], ...]
    examples: tuple[Example, ...]
    plots: tuple[Plot, ...]
    principles: tuple[Principle, ...]
    command: str


def cards(findings: Findings) -> list[Card]:
    """Returns the cards of the front, the dearest first, then those of the baselines."""
    titles = {one.entry.key: one.titles for one in findings.recommendations}
    made = [
        _card(findings, entry, titles.get(entry.key, ())) for entry in reversed(findings.carded)
    ]
    return made + [_card(findings, entry, ("baseline",)) for entry in findings.baselines[:12]]


def _card(findings: Findings, entry: Entry, badges: tuple[str, ...]) -> Card:
    record, run = entry.record, entry.run
    network = network_of(record, run)
    score = findings.score
    facts = [] if score is None else [Fact(score.title, number(score, entry.value(score)))]
    return Card(
        entry,
        badges,
        (*facts, *cost_facts(findings, entry)),
        finals_text(findings.finals(entry)),
        tuple(Fact(name.removeprefix("architecture."), value_text(value))
              for name, value in record.parameters.items()),
        *_drawing(entry, network),
        _without_drawing(record) if network is None else "",
        "" if network is None else _peak(record, network),
        tuple(class_scores(record, run)),
        tuple(examples_of(record, run)),
        tuple(_plots(findings, entry, network)),
        () if network is None else principles_of(record.architecture, network.sizes[0]),
        entry.export_command,
    )  # fmt: skip


def value_text(value: Scalar) -> str:
    """Returns a value of a file for people."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "null" if value is None else str(value)


def _drawing(entry: Entry, network: Network | None) -> tuple[Markup, int, bool]:
    """Returns the drawing, its natural width, and whether a skip brought any part of its boxes."""
    if network is None:
        return Markup(), 0, False
    drawn = layout(network.graph, network.sizes[0])
    title = describe(network.graph, network.sizes[0])
    # all text in it was escaped where it was written
    svg = to_svg(drawn, title, PAGE_COLORS, ids=f"u-{entry.key}")
    return Markup(svg), round(drawn.width), any(box.copied for box in drawn.boxes)


def _without_drawing(record: TrialRecord) -> str:
    if record.architecture is None:
        return f"{record.network} is code of its own; only what was measured is known of it."
    return "This version of unet_nas cannot run the recorded architecture on its patch size."


def _peak(record: TrialRecord, network: Network) -> str:
    """Returns the peak of the timeline in words, and what the record counts where that differs."""
    memory, training = network.memory, network.training
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in breakdown_text(memory))
    return (
        f"Peak {format_bytes(memory.peak_bytes)} at {memory.node} ({memory.phase}): {parts}. "
        f"A training step from the second on with batch {network.batch_size}, "
        f"{training.precision}, {training.optimizer} ({training.implementation}), "
        f"{training.loss_text.replace('_', '-')}, {training.device}; tensors, without library "
        f"workspaces.{_recorded(record, network)}"
    )


def _recorded(record: TrialRecord, network: Network) -> str:
    known = record.costs.get("training_memory")
    if known is None or known == network.memory.peak_bytes:
        return ""
    counts = ", what CUDA's allocator reserves" if network.training.device == "cuda" else ""
    return f" The record counts {format_bytes(known)}{counts}."


def class_scores(record: TrialRecord, run: Run) -> Iterator[tuple[str, str, Markup]]:
    """Yields metric, class and score of every score of a single class."""
    for name, value in record.metrics.items():
        base, _, rest = name.partition("[")
        if rest:
            yield score_title(base), rest.removesuffix("]"), number(_SCORE, value)


def _plots(findings: Findings, entry: Entry, network: Network | None) -> Iterator[Plot]:
    if network is not None:
        yield stage_plot(entry.key, network)
        yield timeline_plot(entry.key, network)
    finals = [r for r in entry.run.finalists if r.name == entry.record.name]
    metric = "score" if findings.score is None else findings.score.name
    curves = training_plot(entry.key, [entry.record, *finals], metric)
    if curves is not None:
        yield curves


def class_legend(run: Run) -> list[tuple[str, str]]:
    """Returns the names of the classes with their colours; the background has none."""
    overlapping = bool(run.header.data.get("multi_label"))
    names = run.header.class_names if overlapping else run.header.class_names[1:]
    return [(name, class_color(number)) for number, name in enumerate(names)]

"""The section about provenance: where the numbers of a run come from, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from unet_nas.audit.memory import Device
from unet_nas.records import Run
from unet_nas.report.findings import seconds_between
from unet_nas.report.page_parts import Fact, value_text
from unet_nas.space.load import conditions_of
from unet_nas.units import format_duration

__all__ = ["Provenance", "provenance"]

_MOST_FAILURES = 100
_MOST_LISTED = 8


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the numbers of one run come from."""

    run: Run
    facts: tuple[Fact, ...]
    data: tuple[Fact, ...]
    conventions: tuple[Fact, ...]
    states: tuple[Fact, ...]
    failures: tuple[tuple[str, str, str], ...]
    more_failures: int
    times: tuple[Fact, ...]


def provenance(run: Run) -> Provenance:
    """Returns file, seeds, versions, device, failures and times of a run."""
    header = run.header
    failed = [r for r in (*run.trials, *run.baselines, *run.finalists) if r.failure is not None]
    listed = [
        (r.name, r.failure.kind.replace("_", " "), r.failure.reason) for r in failed if r.failure
    ]
    facts = [
        Fact("state", header.state),
        Fact("device", header.device),
        Fact("seed", str(header.seed)),
        Fact("workers", str(header.workers)),
        Fact("patch size", "×".join(map(str, header.patch_size)) or "not recorded"),
        Fact("precision", _precisions(run)),
        Fact("sampler", _arguments(header.sampler)),
        Fact("pruner", _arguments(header.pruner) if header.pruner else "none"),
        Fact("versions", ", ".join(f"{k} {v}" for k, v in header.versions.items())),
        Fact("started", header.started or "not recorded"),
        Fact("finished", header.finished or "not yet"),
    ]
    return Provenance(
        run,
        tuple(facts),
        tuple(_flat({k: v for k, v in header.data.items() if k != "notes"})),
        tuple(Fact(name, text) for name, text in header.conventions.items()),
        tuple(_states(run)),
        tuple(listed[:_MOST_FAILURES]),
        max(0, len(listed) - _MOST_FAILURES),
        tuple(_times(run)),
    )


def _precisions(run: Run) -> str:
    """Returns what the networks were trained in; ``auto`` is told as what it was."""
    device: Device = "cuda" if run.header.device.startswith("cuda") else "cpu"
    trained = (conditions_of({"train": r.train}).training(device) for r in run.trials)
    return ", ".join(sorted({training.precision for training in trained})) or "not recorded"


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[Fact]:
    """Yields every value of nested mappings under its dotted name; lists on one line."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value not in (None, "", [], ()):
            shown = _listed(value) if isinstance(value, list | tuple) else value_text(value)
            yield Fact(f"{prefix}{name}".replace("_", " "), shown)


def _listed(values: Sequence[Any]) -> str:
    """Returns a list on one line; of a long one the first and how many there are.

    >>> _listed([1, 2]), _listed(range(70))
    ('1, 2', '0, 1, 2, … (70 in all; run.json has them)')
    """
    if len(values) <= _MOST_LISTED:
        return ", ".join(map(str, values))
    return f"{', '.join(map(str, values[:3]))}, … ({len(values)} in all; run.json has them)"


def _arguments(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items()) or "not recorded"


def _states(run: Run) -> Iterator[Fact]:
    counts = Counter(r.state for r in run.trials)
    for state in ("complete", "pruned", "failed"):
        yield Fact(state, f"{counts[state]:,}")
    over = sum(r.state == "complete" and not r.feasible for r in run.trials)
    if over:
        yield Fact("complete, over a limit", f"{over:,}")
    for kind, count in Counter(r.failure.kind for r in run.trials if r.failure).items():
        yield Fact(f"failed: {kind.replace('_', ' ')}", f"{count:,}")


def _times(run: Run) -> Iterator[Fact]:
    wall = seconds_between(run.header.started, run.header.finished)
    if wall is not None:
        yield Fact("from start to end", format_duration(wall))
    timings = [r.timing for r in (*run.trials, *run.baselines, *run.finalists) if r.timing]
    for name in ("training", "validation", "profiling", "sampling", "checking", "overhead"):
        total = sum(getattr(timing, f"{name}_s") for timing in timings)
        if total:
            yield Fact(name, format_duration(total))

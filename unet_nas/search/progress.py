"""Progress: what people see while a search runs, in a terminal and in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TextIO

from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from unet_nas.records.study import ObjectiveSpec, TrialFailure
from unet_nas.search.candidates import OUTDONE, SEEN
from unet_nas.search.failures import failure_text
from unet_nas.search.front import nondominated
from unet_nas.search.ledger import Ledger
from unet_nas.search.recovery import note_of
from unet_nas.space.budget import format_limit
from unet_nas.units import format_duration

__all__ = ["Board", "Display", "value_text"]

_SHOWN = 12
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def value_text(name: str, value: float) -> str:
    """Writes the value of an objective for people.

    >>> value_text("dice", 0.84321), value_text("macs", 12_300_000), value_text("latency", 3.2)
    ('0.8432', '12.3M', '3.2 ms')
    """
    if name == "latency":
        return format_duration(value / 1000)
    if name in ("parameters", "macs", "training_memory", "inference_memory"):
        return format_limit(name, value)
    return f"{value:.4f}"


class Board:
    """What is known of the trials: counts, the front, rejected draws. Each trial is read once.

    Args:
        objectives: of the study.
        wanted: trials in all.
        failure_of: tells why the trial of a number has failed, if that is known.
    """

    def __init__(
        self,
        objectives: Sequence[ObjectiveSpec],
        wanted: int,
        *,
        failure_of: Callable[[int], TrialFailure | None],
    ) -> None:
        self.objectives, self.wanted = tuple(objectives), wanted
        self.failure_of = failure_of
        self.ledger = Ledger()
        self.rejected: Counter[str] = Counter()
        self.front: list[tuple[tuple[float, ...], int]] = []
        self.fallbacks = 0
        self._began = time.monotonic()
        self._before: int | None = None

    @property
    def done(self) -> int:
        """Trials that have ended with a result."""
        return self.ledger.results

    @property
    def feasible_share(self) -> float | None:
        """The share of the draws that exist, align and fit; None before the first."""
        drawn = self.done + sum(self.rejected.values())
        fit = self.done + self.rejected[SEEN] + self.rejected[OUTDONE]
        return fit / drawn if drawn else None

    @property
    def left_s(self) -> float | None:
        """How long the rest will take at the pace of this session; None before it has one."""
        mine = self.done - (self._before or 0)
        if not mine:
            return None
        return (time.monotonic() - self._began) / mine * max(0, self.wanted - self.done)

    def read(self, study: OptunaStudy) -> list[FrozenTrial]:
        """Reads what is new in a study, and returns the trials that have ended since."""
        ended = self.ledger.read(study)
        for trial in ended:
            self._add(trial)
        if self._before is None:
            self._before = self.done
        return ended

    def _add(self, trial: FrozenTrial) -> None:
        note = note_of(trial)
        self.rejected.update(note.get("rejected", {}))
        self.fallbacks += bool(note.get("fallback"))
        if trial.state != TrialState.COMPLETE or any(v > 0 for v in trial.constraints.values()):
            return
        found = [*self.front, (tuple(trial.values or ()), trial.number)]
        kept = nondominated([values for values, _ in found], self.objectives)
        self.front = [found[index] for index in kept]

    def line(self, trial: FrozenTrial) -> str:
        """Returns a plain line on a trial that has ended."""
        if trial.state == TrialState.FAIL:
            failure = self.failure_of(trial.number)
            said = "failed" if failure is None else f"failed ({failure_text(failure)})"
        elif trial.state == TrialState.PRUNED:
            said = "pruned"
        else:
            pairs = zip(self.objectives, trial.values or (), strict=True)
            said = ", ".join(f"{spec.name} {value_text(spec.name, v)}" for spec, v in pairs)
            said += " (over the budget)" if any(v > 0 for v in trial.constraints.values()) else ""
        left = "" if self.left_s is None else f"; {format_duration(round(self.left_s))} left"
        share = "" if self.feasible_share is None else f"; {self.feasible_share:.0%} of draws fit"
        return (
            f"trial {trial.number}: {said}  ({self.done} of {self.wanted}; front "
            f"{len(self.front)}{share}{left})"
        )


class Display:
    """Shows a board: live on a terminal, else one plain line for every trial.

    Args:
        stream: where to; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, message: str) -> None:
        """Writes a line that stays."""
        self.console.print(Text(message))

    def show(self, board: Board, ended: Sequence[FrozenTrial]) -> None:
        """Shows what is new."""
        if self._live is not None:
            self._live.update(_picture(board))
            return
        for trial in ended:
            self.say(board.line(trial))

    def doing(self, message: str) -> None:
        """Shows what is done after the trials."""
        if self._live is not None:
            self._live.update(Text(message))
        else:
            self.say(message)


def _picture(board: Board) -> RenderableType:
    states = board.ledger.states.items()
    counts = ", ".join(f"{number} {_STATES[state]}" for state, number in sorted(states))
    share, left = board.feasible_share, board.left_s
    parts = [f"{board.done} of {board.wanted} trials ({counts or 'none yet'})"]
    if share is not None:
        parts.append(f"{share:.0%} of the draws fit")
    if left is not None:
        parts.append(f"about {format_duration(round(left))} left")
    table = Table(box=None, pad_edge=False)
    table.add_column("front")
    for spec in board.objectives:
        table.add_column(spec.name, justify="right")
    for values, number in board.front[:_SHOWN]:
        cells = [value_text(s.name, v) for s, v in zip(board.objectives, values, strict=True)]
        table.add_row(f"#{number}", *cells)
    if len(board.front) > _SHOWN:
        table.add_row(f"and {len(board.front) - _SHOWN} more")
    bar = ProgressBar(total=board.wanted, completed=board.done, width=40)
    return Group(bar, Text("; ".join(parts)), table)

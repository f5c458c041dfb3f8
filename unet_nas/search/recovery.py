"""After a crash: which trials died, what becomes of them, and whether records and study agree.

A trial is written in this order: its files, its record, its constraints, its state in the study.
So a process may die between any two of these, and the next one can tell what is missing:

=====================  =====================================================================
found                  done
=====================  =====================================================================
running, dead, record  the record is told to the study
running, dead          failed as interrupted; its candidate waits in the queue once more
finished, no record    the record is made again from what the study knows
interrupted, record    the record is removed: its candidate has another trial
=====================  =====================================================================
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import optuna
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from unet_nas.records.study import RECORD, TrialRecord
from unet_nas.search.claims import Claims
from unet_nas.search.folder import Folder
from unet_nas.search.storage import GRACE_S, silences

__all__ = ["NOTE", "OUTCOME", "WORKER", "Undertaker", "is_result", "note_of", "tell"]

NOTE = "candidate"
"""User attribute of a trial whose parameters are all known: digest and how it was found."""
OUTCOME = "outcome"
"""User attribute of a failed trial: ``failed`` is a result, ``interrupted`` and ``unused`` none."""
WORKER = "worker"
"""User attribute: the process that runs the trial."""
RETRY_OF = "retry_of"
"""User attribute of a trial that takes over the candidate of an interrupted one: its number."""
DRAWN = "drawn"
"""User attribute of such a trial: how the candidate was found."""

#: attributes of Optuna that must not go on to the trial that takes over: a constraint is written
#: once, so that an old one would silently stay
_LEFT_BEHIND = ("constraints", "tpe:relative_params", "fixed_params")


def is_result(trial: FrozenTrial) -> bool:
    """Tells whether a trial is one that was asked for: a network trained, or failing to."""
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        return True
    return trial.state == TrialState.FAIL and trial.user_attrs.get(OUTCOME) == "failed"


def note_of(trial: FrozenTrial) -> dict[str, Any]:
    """Returns what is known of a trial's candidate; empty until all its parameters are."""
    note: dict[str, Any] = trial.user_attrs.get(NOTE, {})
    return note


def tell(study: OptunaStudy, trial: Trial, record: TrialRecord) -> None:
    """Tells the study what a record says: constraints first, then values and state."""
    present = trial.constraints if record.constraints else {}
    for name, value in record.constraints.items():
        if name not in present:
            trial.set_constraint(name, value)
    if record.state == "complete":
        values = list(record.objectives.values())
        study.tell(trial, values, skip_if_finished=True)
    elif record.state == "pruned":
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
    else:
        drop(study, trial, "failed")


def drop(study: OptunaStudy, trial: Trial, outcome: str) -> None:
    """Ends a trial without values, unless another process has ended it."""
    with suppress(optuna.exceptions.UpdateFinishedTrialError):
        trial.set_user_attr(OUTCOME, outcome)
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def requeue(study: OptunaStudy, claims: Claims, trial: FrozenTrial) -> None:
    """Ends an interrupted trial; its candidate waits in the queue if it is known."""
    fixed = trial.params if note_of(trial) else trial.system_attrs.get("fixed_params")
    if not fixed:
        claims.release(trial.number)
        drop(study, Trial(study, trial._trial_id), "unused")
        return
    # a process may have died right here, or another one may be doing the same
    if not any(t.user_attrs.get(RETRY_OF) == trial.number for t in _all(study)):
        system = {k: v for k, v in trial.system_attrs.items() if not k.startswith(_LEFT_BEHIND)}
        user = {k: v for k, v in trial.user_attrs.items() if k not in (NOTE, WORKER, OUTCOME)}
        study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                system_attrs={**system, "fixed_params": fixed},
                user_attrs={**user, RETRY_OF: trial.number, DRAWN: note_of(trial)},
            )
        )
    drop(study, Trial(study, trial._trial_id), "interrupted")


def _all(study: OptunaStudy) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False)


class Undertaker:
    """Finds trials whose process has died, and gives their candidates to others.

    Args:
        study: the study.
        claims: who has which candidate.
        folder: where the records are.
    """

    def __init__(self, study: OptunaStudy, claims: Claims, folder: Folder) -> None:
        self.study, self.claims, self.folder = study, claims, folder
        self._first_seen: dict[int, float] = {}

    def sweep(self, *, alone: bool = False, dead_worker: str | None = None) -> int:
        """Ends the trials of dead processes, and returns how many there were.

        Args:
            alone: no other process works on the study, so all that run are dead.
            dead_worker: a process that is known to have died.
        """
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        dead = running if alone else list(self._dead(running, dead_worker))
        for trial in dead:
            self.bury(trial)
        return len(dead)

    def _dead(self, running: list[FrozenTrial], dead_worker: str | None) -> Iterator[FrozenTrial]:
        silent = silences(self.study, [trial._trial_id for trial in running])
        for trial in running:
            if dead_worker is not None and trial.user_attrs.get(WORKER) == dead_worker:
                yield trial
                continue
            seconds = silent[trial._trial_id]
            if seconds is None:  # killed before its first sign of life, or about to give it
                first = self._first_seen.setdefault(trial.number, time.monotonic())
                seconds = time.monotonic() - first
            if seconds > GRACE_S:
                yield trial

    def bury(self, trial: FrozenTrial) -> None:
        """Ends one trial: as its record says, else as interrupted, its candidate in the queue."""
        folder = self.folder.trial(trial.number)
        record = self.folder.read_record(folder)
        try:
            if record is not None:
                tell(self.study, Trial(self.study, trial._trial_id), record)
                return
            requeue(self.study, self.claims, trial)
        except optuna.exceptions.UpdateFinishedTrialError:
            return  # another process was faster
        shutil.rmtree(folder, ignore_errors=True)

    def missing_records(self) -> list[FrozenTrial]:
        """Returns the results in the study that have no record.

        Records of trials that count no longer are removed on the way.
        """
        trials = _all(self.study)
        present = {path.parent.name for path in self.folder.path.glob(f"trials/*/{RECORD}")}
        for trial in trials:
            name = self.folder.trial(trial.number).name
            if name in present and trial.state.is_finished() and not is_result(trial):
                shutil.rmtree(self.folder.trial(trial.number), ignore_errors=True)
        return [
            trial
            for trial in trials
            if is_result(trial) and self.folder.trial(trial.number).name not in present
        ]

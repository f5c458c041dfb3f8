"""The ledger: how many trials there are, of what kind, with each trial read once."""

from __future__ import annotations

from collections import Counter

from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from unet_nas.search.recovery import is_result

__all__ = ["Ledger"]


class Ledger:
    """Counts trials as they come and end; one that has ended is not looked at again."""

    def __init__(self) -> None:
        self.states: Counter[TrialState] = Counter()
        """Results by state."""
        self.running = 0
        self.known = 0
        """Trials there were, of every kind."""
        self.latest: FrozenTrial | None = None
        """The result that was read last."""
        self._open: set[int] = set()

    @property
    def results(self) -> int:
        """Trials that have ended with a result."""
        return sum(self.states.values())

    def read(self, study: OptunaStudy) -> list[FrozenTrial]:
        """Reads what is new in a study, and returns the results among it."""
        trials = study.get_trials(deepcopy=False)
        numbers = [*sorted(self._open), *range(self.known, len(trials))]
        self.known, self.running = len(trials), 0
        ended = []
        for number in numbers:
            trial = trials[number]
            if not trial.state.is_finished():
                self._open.add(number)
                self.running += trial.state == TrialState.RUNNING
                continue
            self._open.discard(number)
            if is_result(trial):
                self.states[trial.state] += 1
                ended.append(trial)
        if ended:
            self.latest = ended[-1]
        return ended

"""Static limits inside the sampler: what a trial is given exists, aligns, fits and is unseen.

`FeasibleSampler` stands around any sampler of Optuna. When a trial asks for its parameters, the
inner sampler draws a whole candidate; arithmetic judges it before anything is written; and the
inner sampler draws again until one is feasible and no other trial's; or until several are, of which
the one with the most MACs wins the trial. After a capped number of draws a uniform one takes over,
which finds every candidate in the end. The inner sampler learns from finished trials as ever: it
only ever sees feasible ones.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from unet_nas.errors import InputError, UnetNasError
from unet_nas.search.candidates import OUTDONE, SEEN, Candidates, Verdict, distribution_of
from unet_nas.search.claims import Claims
from unet_nas.space.domains import Domain, Scalar
from unet_nas.space.sample import Assignment, RankPicker, assign, draw
from unet_nas.space.survey import EXHAUSTIVE_LIMIT

__all__ = ["Draw", "FeasibleSampler", "NothingLeftError"]

#: after so many equal draws in a row, the inner sampler has no more to say (GP has one optimum)
_MOST_REPEATS = 5


class NothingLeftError(UnetNasError):
    """No candidate is left that fits and is unseen.

    Args:
        message: What was tried.
        rejected: The draws by reason.
        certain: All candidates were gone through.
    """

    def __init__(self, message: str, rejected: dict[str, int], *, certain: bool) -> None:
        super().__init__(message)
        self.rejected, self.certain = rejected, certain


@dataclass(slots=True)
class Draw:
    """How the candidate of a trial was found.

    Attributes:
        assignment: The candidate.
        verdict: On it.
        rejected: Draws before it, by reason.
        fallback: Whether the inner sampler's draws were spent.
        sampling_s: Time of the inner sampler.
        checking_s: Time of the arithmetic.
    """

    assignment: Assignment | None = None
    verdict: Verdict | None = None
    rejected: Counter[str] = field(default_factory=Counter)
    fallback: bool = False
    sampling_s: float = 0.0
    checking_s: float = 0.0


class FeasibleSampler(BaseSampler):
    """A sampler whose every candidate is feasible and unseen.

    Args:
        inner: draws candidates; None goes through all of them in the order of the file.
        candidates: the space.
        claims: who has which candidate.
        seed: of the uniform draws.
        tournament: feasible draws of the inner sampler that compete for one trial.
        redraws: draws of the inner sampler for one trial.
        uniform_draws: uniform draws for one trial.
    """

    def __init__(
        self,
        inner: BaseSampler | None,
        candidates: Candidates,
        claims: Claims,
        *,
        seed: int,
        tournament: int = 1,
        redraws: int = 100,
        uniform_draws: int = 20_000,
    ) -> None:
        self.inner, self.candidates, self.claims = inner, candidates, claims
        self.tournament = tournament
        self.redraws, self.uniform_draws = redraws, uniform_draws
        self.last = Draw()
        """How the candidate of the latest trial was found."""
        self._rng = Random(seed)
        self._ranks = self._all_ranks()

    def _all_ranks(self) -> Iterator[int] | None:
        """Returns the ranks of all candidates, each once; None where there are too many."""
        number = self.candidates.number
        if number is None:
            return None
        if self.inner is None:
            return iter(range(number))
        if number > EXHAUSTIVE_LIMIT:
            return None
        return iter(self._rng.sample(range(number), number))

    # --- what Optuna calls -------------------------------------------------------------------

    def infer_relative_search_space(
        self, study: OptunaStudy, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Finds the candidate of a trial, and returns the distributions of its parameters.

        Raises:
            NothingLeftError: if there is none.
        """
        self.last = Draw()
        assignment = self._find(study, trial, self.last)
        return {name: distribution_of(domain) for name, domain in assignment.domains.items()}

    def sample_relative(
        self,
        study: OptunaStudy,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Returns the values of the candidate that was found."""
        assert self.last.assignment is not None, "the search space is inferred first"
        return dict(self.last.assignment.values)

    def sample_independent(
        self,
        study: OptunaStudy,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Refuses: every parameter of a candidate is sampled with the others."""
        raise RuntimeError(f"{param_name} is no parameter of the candidate of this trial")

    def before_trial(self, study: OptunaStudy, trial: FrozenTrial) -> None:
        """Tells the inner sampler."""
        self.last = Draw()
        if self.inner is not None:
            self.inner.before_trial(study, trial)

    def after_trial(
        self,
        study: OptunaStudy,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tells the inner sampler."""
        if self.inner is not None:
            self.inner.after_trial(study, trial, state, values)

    # --- finding a candidate -----------------------------------------------------------------

    def _find(self, study: OptunaStudy, trial: FrozenTrial, found: Draw) -> Assignment:
        winner = None
        if self.inner is not None:
            proposals = self._by_inner(self.inner, study, trial, found)
            winner = self._first(proposals, self.tournament, trial, found)
            found.fallback = winner is None
        # no uniform draw loses a tournament: ranks come once, and each is to be found
        winner = winner or self._first(self._uniform(), 1, trial, found)
        if winner is not None:
            return winner
        certain = self._ranks is not None
        drawn = sum(found.rejected.values())
        said = "every candidate has been looked at" if certain else f"none of {drawn:,} draws was"
        what = ": none is left" if certain else " feasible and unseen"
        raise NothingLeftError(f"{said}{what}", dict(found.rejected), certain=certain)

    def _first(
        self, proposals: Iterable[Assignment], entrants: int, trial: FrozenTrial, found: Draw
    ) -> Assignment | None:
        """Returns the winner among the first feasible and unseen proposals; None if none is."""
        entered: list[tuple[Assignment, Verdict]] = []
        for assignment in proposals:
            start = perf_counter()
            verdict = self.candidates.examine(assignment.tree)
            reason = verdict.reason
            if not reason and self.claims.taken(verdict.digest):
                reason = SEEN
            found.checking_s += perf_counter() - start
            if reason:
                found.rejected[reason] += 1
                continue
            entered.append((assignment, verdict))
            if len(entered) == entrants:
                winner = self._winner(entered, trial, found)
                if winner is not None:
                    return winner
                entered.clear()
        return self._winner(entered, trial, found)

    def _winner(
        self, entered: list[tuple[Assignment, Verdict]], trial: FrozenTrial, found: Draw
    ) -> Assignment | None:
        """Claims the one with the most MACs that nobody else has claimed since we looked."""
        others = iter(sorted(entered, key=lambda one: -_macs(one[1])))
        for assignment, verdict in others:
            if self.claims.claim(verdict.digest, trial.number):
                found.assignment, found.verdict = assignment, verdict
                found.rejected.update(OUTDONE for _ in others)
                return assignment
            found.rejected[SEEN] += 1
        return None

    def _uniform(self) -> Iterator[Assignment]:
        """Yields the ranks that are left, or uniform draws where there are too many."""
        if self._ranks is not None:
            for rank in self._ranks:
                yield assign(self.candidates.tree, RankPicker(rank, None))
        else:
            for _ in range(self.uniform_draws):
                yield draw(self.candidates.tree, self._rng)

    def _by_inner(
        self, inner: BaseSampler, study: OptunaStudy, trial: FrozenTrial, found: Draw
    ) -> Iterator[Assignment]:
        """Yields draws of the inner sampler, until it only repeats itself."""
        had: set[tuple[Scalar, ...]] = set()
        latest, repeats = None, 0
        for _ in range(self.redraws):
            start = perf_counter()
            try:
                assignment = self._propose(inner, study, trial)
            except (ValueError, ImportError) as error:
                # several objectives, conditional parameters, a package that is missing
                said = " ".join(str(error).split())
                raise InputError(f"search.sampler: {inner}: {said}") from error
            found.sampling_s += perf_counter() - start
            key = (*assignment.values, *assignment.values.values())
            repeats = repeats + 1 if key == latest else 0
            if repeats == _MOST_REPEATS:
                return
            latest = key
            # what was refused before is not judged again
            if key not in had:
                had.add(key)
                yield assignment

    def _propose(self, inner: BaseSampler, study: OptunaStudy, trial: FrozenTrial) -> Assignment:
        """Lets the inner sampler fill the tree, as it would fill the parameters of a trial."""
        shared = inner.infer_relative_search_space(study, trial)
        relative = inner.sample_relative(study, trial, shared)
        partial = copy.copy(trial)
        partial.params, partial.distributions = {}, {}

        def pick(name: str, domain: Domain) -> Scalar:
            distribution = distribution_of(domain)
            value: Scalar
            if name in relative and _contains(distribution, relative[name]):
                value = relative[name]
            else:
                value = inner.sample_independent(study, partial, name, distribution)
            # some samplers return numbers of numpy
            value = distribution.to_external_repr(distribution.to_internal_repr(value))
            partial.params[name], partial.distributions[name] = value, distribution
            return value

        return assign(self.candidates.tree, pick)


def _macs(verdict: Verdict) -> int:
    return verdict.candidate.costs.get("macs", 0) if verdict.candidate else 0


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    return distribution._contains(distribution.to_internal_repr(value))

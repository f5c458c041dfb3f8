"""Static limits inside the sampler: every trial exists, aligns, fits and is unseen."""

import optuna
import pytest

from tests.support.searching import TEXT
from unet_nas.search.candidates import OUTDONE, SEEN, Candidates, suggest
from unet_nas.search.claims import MemoryClaims
from unet_nas.search.config import SearchConfig, Sections
from unet_nas.search.load import load_study
from unet_nas.search.makers import make_sampler, sampler_spec
from unet_nas.search.sampler import FeasibleSampler, NothingLeftError
from unet_nas.space.sample import assign

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = """\
architecture:
  depth: {int: [1, 2]}
  width: {int: [2, 16], log: true}
  down: {choice: [max_pool, {type: strided_conv, kernel_size: {choice: [2, 3]}}]}
  fusion: {choice: [concat, add], per_stage: true}
  norm: {choice: [batch, {type: group, groups: 4}]}
budget: {parameters: 20k, training_memory: 300KiB}
train: {patch_size: 16x16, batch_size: 2, learning_rate: {float: [1e-4, 1e-2], log: true}}
data: {source: synthetic}
"""


def searcher(text, sampler, *, assignments=(), objectives=2, **options):
    space = load_study(text, assignments).space
    spec = sampler_spec(SearchConfig(sampler=sampler, trials=20), seed=1, workers=1)
    inner = None if spec.type == "grid" else make_sampler(spec)
    candidates = Candidates(space, "cpu")
    wrapper = FeasibleSampler(inner, candidates, MemoryClaims(), seed=1, **options)
    directions = ["maximize", "minimize"][:objectives]
    return optuna.create_study(directions=directions, sampler=wrapper), wrapper


def run(study, wrapper, trials):
    """Runs trials with a formula for a score; returns the draws."""
    found = []
    for _ in range(trials):
        trial = study.ask()
        tree = wrapper.candidates.tree
        assignment = assign(tree, lambda name, domain, t=trial: suggest(t, name, domain))
        assert assignment.values == trial.params == wrapper.last.assignment.values
        found.append(wrapper.last)
        cost = wrapper.candidates.costs(assignment.tree)
        score = assignment.tree["architecture"]["width"] / 16
        study.tell(trial, [score, cost["macs"]][: len(study.directions)])
    return found


@pytest.mark.parametrize(
    "sampler",
    [
        "random",
        {"type": "tpe", "n_startup_trials": 4},
        {"type": "nsga2", "population_size": 4},
        {"type": "NSGAIIISampler", "population_size": 4},
        "QMCSampler",
    ],
    ids=str,
)
@pytest.mark.parametrize("objectives", [1, 2])
def test_every_trial_is_feasible_and_unseen(sampler, objectives):
    study, wrapper = searcher(SPACE, sampler, objectives=objectives, redraws=20)
    draws = run(study, wrapper, 10)
    limits = wrapper.candidates.limits
    digests = set()
    for draw in draws:
        verdict = wrapper.candidates.examine(draw.assignment.tree)
        assert verdict.feasible
        costs = wrapper.candidates.costs(draw.assignment.tree)
        assert all(costs[name] <= limit for name, limit in limits.items())
        digests.add(verdict.digest)
    assert len(digests) == 10
    rejected = sum((draw.rejected for draw in draws), start=draws[0].rejected.__class__())
    assert "norm.groups must divide the N channels normalised" in rejected


def test_gp_learns_through_the_wrapper():
    sampler = {"type": "GPSampler", "n_startup_trials": 1}
    study, wrapper = searcher(TEXT, sampler, objectives=1, redraws=2)
    draws = run(study, wrapper, 2)
    assert draws[1].sampling_s > draws[0].sampling_s
    assert draws[0].verdict.digest != draws[1].verdict.digest


def test_tpe_is_what_it_would_be_without_the_wrapper():
    text = SPACE.replace("budget: {parameters: 20k, training_memory: 300KiB}\n", "")
    text = text.replace("norm: {choice: [batch, {type: group, groups: 4}]}", "norm: batch")
    sampler = {"type": "tpe", "n_startup_trials": 4}
    study, wrapper = searcher(text, sampler, objectives=1)
    found = [draw.assignment.values for draw in run(study, wrapper, 9)]
    plain, _ = searcher(text, sampler, objectives=1)
    plain.sampler = plain.sampler.inner
    expected = []
    for _ in range(9):
        trial = plain.ask()
        tree = assign(
            wrapper.candidates.tree, lambda name, domain, t=trial: suggest(t, name, domain)
        ).tree
        expected.append(trial.params)
        plain.tell(trial, tree["architecture"]["width"] / 16)
    assert found == expected


def test_the_grid_goes_through_all_and_ends():
    study, wrapper = searcher(TEXT, "grid")
    feasible = {
        verdict.digest
        for verdict in map(
            wrapper.candidates.examine,
            (a.tree for a in _all(wrapper.candidates.tree)),
        )
        if verdict.feasible
    }
    digests = []
    with pytest.raises(NothingLeftError, match="every candidate has been looked at") as caught:
        for _ in range(200):
            digests += [draw.verdict.digest for draw in run(study, wrapper, 1)]
    assert len(digests) == len(feasible)
    assert set(digests) == feasible
    assert caught.value.certain


def _all(tree):
    from unet_nas.space.sample import enumerate_assignments

    return enumerate_assignments(tree)


def test_uniform_draws_find_what_a_sampler_does_not():
    study, wrapper = searcher(TEXT, "random", redraws=1)
    draws = []
    with pytest.raises(NothingLeftError):
        for _ in range(200):
            draws += run(study, wrapper, 1)
    assert any(draw.fallback for draw in draws)
    grid = searcher(TEXT, "grid")
    number = 0
    with pytest.raises(NothingLeftError):
        for _ in range(200):
            number += len(run(*grid, 1))
    assert len(draws) == number


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_largest_of_several_feasible_draws_wins(sampler):
    """The draws of an equal wrapper without tournaments, in groups, have the same winners."""
    study, wrapper = searcher(SPACE, sampler, objectives=1, tournament=4)
    (won,) = run(study, wrapper, 1)
    assert won.rejected[OUTDONE] == 3
    plain, one_by_one = searcher(SPACE, sampler, objectives=1)
    entrants = [draw.verdict.candidate.costs["macs"] for draw in run(plain, one_by_one, 4)]
    assert won.verdict.candidate.costs["macs"] == max(entrants)


def test_tournaments_lose_no_candidate():
    numbers = []
    for tournament in (1, 3):
        study, wrapper = searcher(TEXT, "random", tournament=tournament, redraws=5)
        draws = []
        with pytest.raises(NothingLeftError, match="none is left"):
            for _ in range(200):
                draws += run(study, wrapper, 1)
        numbers.append(len({draw.verdict.digest for draw in draws}))
    assert numbers[0] == numbers[1] > 20


def test_tournaments_are_for_tpe_with_one_accuracy():
    def tournament(**sections):
        return Sections(**sections).tournament

    assert tournament() == 5
    assert tournament(objectives="iou", search={"sampler": "tpe"}) == 5
    assert tournament(objectives=["dice", "macs"]) == 1
    assert tournament(objectives="macs") == 1
    assert tournament(search={"sampler": "random"}) == 1
    assert tournament(search={"sampler": "random", "tournament": 2}) == 2


def test_the_same_network_by_other_values_is_seen():
    text = "architecture:\n  width: 4\n  max_width: {choice: [4, 8, 16]}\n  depth: 1\n"
    text += "train: {patch_size: 16x16}\ndata: {source: synthetic}\n"
    study, wrapper = searcher(text, "grid")
    run(study, wrapper, 2)
    with pytest.raises(NothingLeftError) as caught:  # cut at 16 is cut at 8
        run(study, wrapper, 1)
    assert caught.value.rejected == {SEEN: 1}


def test_a_budget_that_nothing_fits():
    study, wrapper = searcher(SPACE, "random", assignments=["budget.macs=1"], uniform_draws=50)
    trial = study.ask()
    with pytest.raises(NothingLeftError, match="none of 150 draws") as caught:
        suggest(trial, *_first_hole(wrapper))
    assert set(caught.value.rejected) >= {"more macs than the budget"}
    assert not caught.value.certain


def _first_hole(wrapper):
    from random import Random

    from unet_nas.space.sample import draw

    return next(iter(draw(wrapper.candidates.tree, Random(0)).domains.items()))

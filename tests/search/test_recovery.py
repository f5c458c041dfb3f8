"""After a crash: what died goes on, what is whole stays, and records and study agree."""

from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from tests.support.searching import TEXT, make_fake
from unet_nas.records.study import RECORD
from unet_nas.search import recovery
from unet_nas.search.candidates import suggest
from unet_nas.search.recovery import DRAWN, NOTE, OUTCOME, RETRY_OF, Undertaker, is_result
from unet_nas.search.trials import TrialLoop, rebuilt
from unet_nas.search.workplace import Order, open_workplace
from unet_nas.space.sample import assign


@pytest.fixture
def place(tmp_path):
    order = Order(
        text=TEXT,
        name="fake",
        base=tmp_path,
        out=tmp_path,
        storage=None,
        seed=0,
        device="cpu",
        workers=1,
        wanted=3,
        deadline=None,
        make=make_fake,
    )
    return open_workplace(order)


def loop_of(place):
    return TrialLoop(place, lambda record: None)


def states(place):
    return [trial.state for trial in place.optuna.trials]


def undertaker_of(place):
    return Undertaker(place.optuna, place.claims, place.folder)


def begin(place):
    """Begins a trial as the loop does, up to where its parameters are known."""
    loop = loop_of(place)
    trial = place.optuna.ask()
    return trial, loop._job(trial)


def test_a_trial_with_a_record_is_told(place):
    loop_of(place).run()
    loop = loop_of(place)
    trial, job = begin(place)
    outcome = place.evaluator.evaluate(job, lambda point: False)
    record = loop._record(job, outcome, "", 0.0)
    place.folder.write_record(job.folder, record, outcome.files)
    assert undertaker_of(place).sweep(alone=True) == 1
    told = place.optuna.trials[trial.number]
    assert told.state == TrialState.COMPLETE
    assert told.values == list(record.objectives.values())


def test_a_trial_without_a_record_waits_once_more(place):
    trial, job = begin(place)
    trial.set_constraint("latency", -1.0)
    trial.storage.set_trial_system_attr(trial._trial_id, "NSGAIISampler:generation", 3)
    (job.folder).mkdir(parents=True)
    (job.folder / "weights.safetensors").write_bytes(b"half of th")
    assert undertaker_of(place).sweep(alone=True) == 1
    old, new = place.optuna.trials
    assert (old.state, new.state) == (TrialState.FAIL, TrialState.WAITING)
    assert old.user_attrs[OUTCOME] == "interrupted"
    assert new.system_attrs == {
        "NSGAIISampler:generation": 3,
        "fixed_params": trial.params,
    }  # and no constraint
    assert new.user_attrs == {RETRY_OF: 0, DRAWN: old.user_attrs[NOTE]}
    assert not job.folder.exists()
    loop_of(place).run()
    taken = place.optuna.trials[1]
    assert taken.params == trial.params
    assert taken.state.is_finished()
    assert taken.user_attrs[NOTE]["digest"] == job.digest
    assert sum(map(is_result, place.optuna.trials)) == 3


def test_a_trial_killed_before_its_parameters_gives_way(place):
    place.optuna.ask()
    assert undertaker_of(place).sweep(alone=True) == 1
    assert states(place) == [TrialState.FAIL]
    assert not is_result(place.optuna.trials[0])


def test_a_candidate_claimed_and_not_noted_is_free_again(place):
    trial = place.optuna.ask()
    tree = place.candidates.tree
    assign(tree, lambda name, domain: suggest(trial, name, domain))
    digest = place.sampler.last.verdict.digest
    assert not place.claims.claim(digest, 99)
    undertaker_of(place).sweep(alone=True)
    assert place.claims.claim(digest, 99)


def test_only_silent_trials_are_dead_where_others_live(place, monkeypatch):
    place.optuna.ask()
    undertaker = undertaker_of(place)
    assert undertaker.sweep() == 0
    assert undertaker.sweep(dead_worker="somebody else") == 0
    monkeypatch.setattr(recovery, "GRACE_S", -1.0)
    assert undertaker.sweep() == 1


def test_the_trial_of_a_worker_that_died(place):
    trial, _ = begin(place)
    trial.set_user_attr("worker", "host:1")
    assert undertaker_of(place).sweep(dead_worker="host:1") == 1
    assert states(place) == [TrialState.FAIL, TrialState.WAITING]


def test_two_that_bury_one_trial_queue_it_once(place):
    begin(place)
    frozen = place.optuna.trials[0]
    recovery.requeue(place.optuna, place.claims, frozen)
    recovery.requeue(place.optuna, place.claims, frozen)
    assert states(place) == [TrialState.FAIL, TrialState.WAITING]


def test_of_two_that_take_over_one_candidate_one_trains_it(place):
    _, job = begin(place)
    undertaker_of(place).sweep(alone=True)
    waiting = place.optuna.trials[1]
    place.optuna.add_trial(waiting)
    loop_of(place).run()
    digests = [t.user_attrs[NOTE]["digest"] for t in place.optuna.trials if is_result(t)]
    assert len(set(digests)) == len(digests) == 3
    assert job.digest in digests


@pytest.mark.parametrize("late", [False, True])
def test_a_trial_that_was_buried_alive(place, late):
    """Whether it comes to its result before or after its candidate is taken over: one counts."""
    trial, job = begin(place)
    frozen = place.optuna.trials[0]
    waiting = {"state": TrialState.WAITING, "user_attrs": {RETRY_OF: 0}}
    fixed = {"fixed_params": frozen.params}
    place.optuna.add_trial(optuna.trial.create_trial(**waiting, system_attrs=fixed))
    if not late:
        place.optuna.tell(trial, [0.5, 1])
    loop_of(place).run()
    if late:
        place.optuna.tell(trial, [0.5, 1], skip_if_finished=True)
    results = [t for t in place.optuna.trials if is_result(t)]
    digests = [t.user_attrs[NOTE]["digest"] for t in results]
    assert len(set(digests)) == len(digests) == 3
    assert job.digest in digests
    assert (results[0].number == 0) != late


def test_a_record_that_was_lost_is_made_again(place):
    loop_of(place).run()
    path = place.folder.trial(1) / RECORD
    before = place.folder.read_record(path.parent)
    path.unlink()
    (lost,) = undertaker_of(place).missing_records()
    _, record = rebuilt(place, lost)
    same = {"history": (), "metrics": {}, "timing": None, "weights": None, "best_step": None}
    same |= {"failure": None, "rejected": {}}
    assert replace(record, **same) == replace(before, **same)
    assert record.metrics["dice"] == before.metrics["dice"]


def test_a_record_of_an_interrupted_trial_is_removed(place):
    begin(place)
    undertaker = undertaker_of(place)
    undertaker.sweep(alone=True)
    folder = place.folder.trial(0)
    loop_of(place).run()
    record = place.folder.read_record(place.folder.trial(1))
    place.folder.write_record(folder, record, {})
    assert undertaker.missing_records() == []
    assert not folder.exists()

"""The search as a whole, with an evaluator that computes: phases, folders, stops, going on."""

import json
from dataclasses import replace
from functools import partial

import optuna
import pytest

from tests.support.searching import TEXT, Fake, make_broken, make_fake
from unet_nas.cli import main
from unet_nas.errors import InputError, UnetNasError
from unet_nas.records.study import ObjectiveSpec, TrialFailure, read_run
from unet_nas.search import driver, recovery
from unet_nas.search.driver import Options, search
from unet_nas.search.evaluate import Outcome
from unet_nas.search.failures import HopelessError
from unet_nas.search.folder import Folder
from unet_nas.search.header import importances
from unet_nas.search.load import load_study

BASELINE = "baselines=[{network: preset:unet-2015, set: [padding=same, depth=2], parameters: 5k}]"


def run(folder, *assignments, make=make_fake, **options):
    study = load_study(TEXT, ["search.sampler=random", *assignments])
    return search(study, Options(folder, **options), make=make)


class Stopping(Fake):
    """Is stopped in the fourth training."""

    def evaluate(self, job, on_point):
        if len(self.seen) == 3:
            raise KeyboardInterrupt
        return super().evaluate(job, on_point)


class Slow(Fake):
    """Reports a latency that grows with the width."""

    def evaluate(self, job, on_point):
        found = super().evaluate(job, on_point)
        return replace(found, costs={"latency": float(job.architecture["width"])})


def test_a_search_from_beginning_to_end(tmp_path):
    result = run(tmp_path, BASELINE, "search.finalists=2", seed=3)
    found = read_run(tmp_path)
    assert found.header.state == "complete"
    assert len(found.trials) == result.trials == 12
    assert len({record.digest for record in found.trials}) == 12
    assert all(record.costs["parameters"] <= 20_000 for record in found.trials)
    assert {record.state for record in found.trials} == {"complete", "failed"}
    (baseline,) = found.baselines
    assert baseline.name == "preset:unet-2015 at 5K"
    assert 4_000 < baseline.costs["parameters"] <= 5_000
    names = {record.name for record in found.finalists}
    assert len(names) == 3
    assert len(found.finalists) == 9
    assert {record.seed for record in found.finalists} == {3, 4, 5}
    assert all(record.train["steps"] == 50 and record.test for record in found.finalists)
    assert found.header.sampler["type"] == "RandomSampler"
    assert found.header.importances["macs"]
    assert (found.files_of(found.trials[0]) / "architecture.yaml").exists()
    scores = [record.objectives["dice"] for record in result.front]
    assert scores == sorted(scores, reverse=True)


def test_the_same_command_goes_on(tmp_path):
    evaluator = Stopping()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, make=lambda *_: evaluator)
    stopped = read_run(tmp_path)
    assert stopped.header.state == "interrupted"
    assert len(stopped.trials) == 3
    kept = {record.name: record for record in stopped.trials}
    result = run(tmp_path)
    assert result.trials == 12
    after = {record.name: record for record in read_run(tmp_path).trials}
    assert all(after[name] == record for name, record in kept.items())
    again = run(tmp_path)
    assert (again.trials, again.header.started) == (12, stopped.header.started)
    assert run(tmp_path, trials=14).trials == 14


def test_an_undisturbed_search_is_the_same_twice(tmp_path):
    one, two = (run(tmp_path / name, "search.sampler=tpe") for name in "ab")
    assert [r.parameters for r in one.front] == [r.parameters for r in two.front]


def test_a_folder_of_another_file_is_refused(tmp_path):
    run(tmp_path, trials=1)
    with pytest.raises(InputError, match="a run with another section train: give another --out"):
        run(tmp_path, "train.steps=11")
    with pytest.raises(InputError, match="with other sections: architecture, objectives; give"):
        run(tmp_path, "objectives=[dice]", "depth=1")


def test_two_searches_in_one_folder_refuse_each_other(tmp_path):
    with Folder(tmp_path).occupied(join=False) as mine:
        assert mine.owner
        assert mine.alone
        with pytest.raises(InputError, match=r"another search runs in .* --join to work"):
            run(tmp_path)
        assert run(tmp_path, join=True, trials=2).trials == 2
    assert not (tmp_path / "run.json").exists()  # the owner keeps the header


@pytest.mark.parametrize("told", [False, True])
def test_stopped_between_the_record_and_the_study(tmp_path, monkeypatch, told):
    """A trial whose record is whole counts, and its candidate is not trained again."""
    calls = []

    def stopped_at_the_third(study, trial, record):
        calls.append(record)
        if told or len(calls) != 3:
            recovery.tell(study, trial, record)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("unet_nas.search.trials.tell", stopped_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, trials=6)
    assert run(tmp_path, trials=6).trials == 6
    records = read_run(tmp_path).trials
    assert [record.number for record in records] == list(range(6))
    assert len({record.digest for record in records}) == 6


def test_a_mistake_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="no candidate is feasible"):
        run(tmp_path / "new", "budget.parameters=1")
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="no candidate is feasible"):
        run(tmp_path / "mine", "budget.parameters=1")
    assert (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"names": ["a", "b"], "contents": "2"}, r"\(the same names, changed\)"),
        ({"names": ["b", "c"], "contents": "3"}, r"\(a, c came or went\)"),
    ],
)
def test_a_run_does_not_go_on_with_other_data(tmp_path, now, message):
    def with_cases(part):
        def make(study, device, seed):
            return replace(make_fake(study, device, seed), summary={"parts": {"train": part}})

        return make

    begun = {"names": ["a", "b"], "contents": "1"}
    run(tmp_path / "run", make=with_cases(begun), trials=2)
    run(tmp_path / "run", make=with_cases(begun), trials=3)
    with pytest.raises(InputError, match=f"train cases are not those that .* {message}"):
        run(tmp_path / "run", make=with_cases(now), trials=4)
    assert len(read_run(tmp_path / "run").trials) == 3


def test_another_seed_needs_another_folder(tmp_path):
    run(tmp_path, trials=2, seed=3)
    with pytest.raises(InputError, match=r"holds a run with --seed 3: give that, or another --out"):
        run(tmp_path, trials=3)
    assert run(tmp_path, trials=3, seed=4, join=True).trials == 3


def test_importances_are_of_what_makes_the_best():
    """The greatest of what is maximised, as the least of what is minimised."""
    both = (ObjectiveSpec("dice", "maximize"), ObjectiveSpec("hd95", "minimize"))
    study = optuna.create_study(directions=[spec.direction for spec in both])
    for index in range(40):
        trial = study.ask()
        one, two = trial.suggest_float("one", 0, 1), trial.suggest_float("two", 0, 1)
        # `one` decides between bad and good, `two` only among the good
        score = 10 + two if one > 0.5 else one
        study.tell(trial, [score, -score])
        assert index == trial.number
    found = importances(study, both)
    assert found["dice"] == found["hd95"]
    lowest = importances(study, (ObjectiveSpec("dice", "minimize"),))
    assert lowest["dice"] != found["dice"]


def test_a_database_that_is_gone(tmp_path):
    run(tmp_path, trials=2)
    (tmp_path / "study.db").unlink()
    with pytest.raises(InputError, match=r"study.db is gone.*records beside it are whole"):
        run(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        run(tmp_path / "file" / "run")
    with pytest.raises(InputError, match=r"--out must be a folder, and .*file is a file"):
        run(tmp_path / "file")


def test_the_storage_may_be_elsewhere(tmp_path):
    url = f"sqlite:///{tmp_path / 'all.db'}"
    assert run(tmp_path / "a", storage=url, trials=2).trials == 2
    assert run(tmp_path / "b", storage=url, trials=3).trials == 3
    assert run(tmp_path / "a", storage=url, trials=4).trials == 4
    assert not (tmp_path / "a" / "study.db").exists()


def test_pruned_trials_count(tmp_path):
    pruner = "search.pruner={type: median, n_startup_trials: 2, n_warmup_steps: 0}"
    run(tmp_path, "objectives=[dice]", pruner)
    states = [record.state for record in read_run(tmp_path).trials]
    assert len(states) == 12
    assert "pruned" in states
    assert read_run(tmp_path).header.pruner["n_startup_trials"] == 2


def test_a_measured_limit_is_a_constraint_on_every_trial(tmp_path):
    result = run(tmp_path, "budget.latency=8ms", make=lambda *_: Slow())
    records = read_run(tmp_path).trials
    for record in records:
        assert record.constraints == {"latency": record.architecture["width"] - 8}
    assert {record.feasible for record in records} == {True, False}
    assert all(record.architecture["width"] <= 8 for record in result.front)
    study = optuna.load_study(study_name="unet_nas", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert all("latency" in trial.constraints for trial in study.trials)


def test_a_space_that_is_used_up(tmp_path):
    result = run(tmp_path, "search.sampler=grid", "fusion=concat", trials=500)
    assert result.trials < 100
    assert any("no further candidate was found" in note for note in result.header.notes)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["budget.parameters=50"], r"no candidate is feasible: relax budget.parameters to \d"),
        (["train.patch_size=15x15"], "no candidate is feasible: set train.patch_size to 16x16"),
        (["growth={float: [1.9, 2]}", "search.sampler=grid"], "grid needs a finite space"),
        (["growth={float: [1.9, 2]}", "budget.macs=5", "search.uniform_draws=20"], "relax budget"),
        (["baselines=[preset:unet-2015]"], "does not run on patches of 16x16"),
        (["baselines=[preset:unet-2014]"], "no preset is called 'unet-2014'"),
        (["search.enqueue=[preset:unet-2014]"], "no preset is called 'unet-2014'"),
        (["baselines=['python:no_such:net']"], "baseline python:no_such:net: there is no module"),
        (["baselines=['python:math:tau']"], "tau must be callable, got float"),
        (["baselines=['python:tests.support.searching:Fake']"], "must return a torch.nn.Module"),
        (["baselines=[preset:unet-2016]"], "no preset is called 'unet-2016'"),
        (
            ["search.sampler=CmaEsSampler", "objectives=[dice, macs]"],
            "search.sampler: CmaEsSampler: ",
        ),
        (["search.workers=5"], "at most 4 workers, got 5"),
        (["objectives=['dice[foo]', macs]"], r"'dice\[foo\]' .*use dice or dice\[nucleus\]"),
        (["in_channels=3"], "must be 1, as the data are, got 3"),
    ],
)
def test_what_cannot_be_searched_is_told_before_anything_trains(tmp_path, assignments, message):
    evaluator = Fake()
    with pytest.raises(InputError, match=message):
        run(tmp_path, *assignments, make=lambda *_: evaluator)
    assert evaluator.seen == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_in_which_everything_fails_ends(tmp_path, workers):
    with pytest.raises(
        HopelessError, match=r"first \d trials have all failed.*RuntimeError: the disk"
    ):
        run(tmp_path, make=make_broken, workers=workers)


def test_a_search_without_a_complete_trial_says_why(tmp_path, capsys):
    result = run(tmp_path, "width=6", trials=3)
    assert result.fruitless == (
        "no trial is complete; the most frequent reason (3 of 3 trials): "
        "nan_loss: the loss is nan at step 2"
    )
    assert read_run(tmp_path).header.state == "complete"
    assert "trial 2: failed (nan_loss: the loss is nan at step 2)  (3 of 3;" in (
        capsys.readouterr().err
    )
    assert run(tmp_path / "other", trials=3).fruitless is None


def test_a_measured_limit_that_nothing_keeps_is_told(tmp_path):
    result = run(tmp_path, "budget.latency=1ms", make=lambda *_: Slow(), trials=6)
    assert not result.front
    assert "no trial keeps the measured budget; the nearest, #" in result.fruitless
    assert result.fruitless.endswith("ms: raise budget.latency")


@pytest.mark.parametrize(("finalists", "noted"), [("{steps: 5}", True), ("{factor: 2}", False)])
def test_finalists_with_less_time_than_trials_are_noted(tmp_path, finalists, noted):
    run(tmp_path, f"search.finalists={finalists}", trials=2)
    said = "search.finalists trains for 5 steps, less than the 10 of a trial"
    assert (said in read_run(tmp_path).header.notes) is noted


def test_a_search_without_time_for_a_trial_is_no_success(tmp_path):
    found = run(tmp_path, trials=6, timeout_s=0.0)
    assert found.fruitless == "no trial came to its end: give more time"


def test_rare_candidates_are_not_called_none(tmp_path):
    rare = ["width={int: [1, 1000000]}", "search.uniform_draws=50", "search.redraws=5"]
    with pytest.raises(InputError, match=r"none of 5\d draws was feasible .*: if any candidate is"):
        run(tmp_path, *rare, trials=2)


def test_the_command_fails_where_no_trial_is_complete(tmp_path, capsys, monkeypatch):
    file = tmp_path / "space.yaml"
    file.write_text(TEXT)
    monkeypatch.setattr(driver, "search", partial(search, make=make_fake))
    with pytest.raises(SystemExit) as ended:
        main(["search", str(file), "--out", str(tmp_path / "run"), "--trials=3", "--set=width=6"])
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "no trial is complete" in said.err
    assert (tmp_path / "run" / "report").exists()


def test_a_time_limit_ends_the_trials_and_not_what_follows(tmp_path):
    result = run(tmp_path, BASELINE, timeout_s=0.0)
    assert result.trials == 0
    assert "the time was up after 0 of 12 trials" in result.header.notes
    assert len(read_run(tmp_path).baselines) == 1


def test_presets_and_files_seed_the_search(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("architecture: {depth: 1, width: 9, down: avg_pool}\n")
    run(tmp_path / "run", f"search.enqueue=['{file}', 'preset:unet-2015']", trials=2)
    run(tmp_path / "run", f"search.enqueue=['{file}', 'preset:unet-2015']", trials=3)
    records = read_run(tmp_path / "run").trials
    assert records[0].parameters == {
        "architecture.depth": 1,
        "architecture.width": 8,
        "architecture.down": "avg_pool",
        "architecture.fusion": "concat",
    }
    assert len(records) == 3
    notes = read_run(tmp_path / "run").header.notes
    assert any("nearest to preset:unet-2015 is not feasible" in note for note in notes)


def test_the_header_is_plain_json(tmp_path):
    run(tmp_path, trials=1)
    header = json.loads((tmp_path / "run.json").read_text())
    assert header["objectives"][1] == {"name": "macs", "direction": "minimize", "unit": "MACs"}
    assert header["versions"]["optuna"]
    assert header["patch_size"] == [16, 16]


def test_an_objective_that_was_not_measured_is_a_failure(tmp_path):
    class Blind(Fake):
        def evaluate(self, job, on_point):
            return Outcome("complete", metrics={"iou": 0.5})

    with pytest.raises(UnetNasError, match="dice could not be measured"):
        run(tmp_path, make=lambda *_: Blind())
    first = read_run(tmp_path).trials[0]
    assert first.failure == TrialFailure("failed", "dice could not be measured")

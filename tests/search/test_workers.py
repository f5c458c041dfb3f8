"""Several processes on one study: no candidate twice, none too many, and one may be killed."""

import json
import os
import signal
import sqlite3
import threading

import optuna

from tests.support.searching import TEXT, make_fake, make_slow
from unet_nas.records.study import read_run
from unet_nas.search.driver import Options, search
from unet_nas.search.load import load_study
from unet_nas.search.progress import Display


def first_worker(file):
    """The process of the first trial; None before there is one."""
    if not file.exists():
        return None
    with sqlite3.connect(file) as connection:
        try:
            query = "SELECT value_json FROM trial_user_attributes WHERE key = 'worker'"
            row = connection.execute(query).fetchone()
        except sqlite3.OperationalError:  # the tables are being made
            return None
        finally:
            connection.rollback()
    connection.close()
    return row and int(json.loads(row[0]).rpartition(":")[2])


def test_two_workers_share_a_study_and_one_is_killed(tmp_path):
    """The search ends with as many trials, whatever becomes of a worker."""
    study = load_study(TEXT, ["search.sampler=random"])
    ended, victims = threading.Event(), []

    def kill_one():
        while not ended.wait(0.02):
            worker = first_worker(tmp_path / "study.db")
            if worker is not None:
                victims.append(worker)
                os.kill(worker, signal.SIGKILL)
                return

    thread = threading.Thread(target=kill_one)
    thread.start()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        try:
            options = Options(tmp_path, workers=2, trials=10)
            result = search(study, options, make=make_slow, display=Display(nowhere))
        finally:
            ended.set()
            thread.join()
    assert victims != [os.getpid()]
    assert any("it was killed" in note for note in result.header.notes)
    found = read_run(tmp_path)
    assert len(found.trials) == 10
    assert len({record.digest for record in found.trials}) == 10
    database = f"sqlite:///{tmp_path / 'study.db'}"
    trials = optuna.load_study(study_name="unet_nas", storage=database).trials
    assert all(trial.state.is_finished() for trial in trials)
    assert {t.user_attrs.get("outcome") for t in trials} <= {
        None,
        "failed",
        "interrupted",
        "unused",
    }


def test_workers_that_find_enough_do_not_start(tmp_path):
    study = load_study(TEXT, ["search.sampler=random"])
    search(study, Options(tmp_path, trials=2), make=make_fake)
    result = search(study, Options(tmp_path, trials=2, workers=2), make=make_fake)
    assert result.trials == 2

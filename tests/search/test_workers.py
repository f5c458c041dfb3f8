"""Several processes on one study: no candidate twice, none too many, and one may be killed."""

import contextlib
import json
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import optuna
import pytest

from tests.support.searching import TEXT, main, make_fake, make_slow
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


@pytest.mark.parametrize("killed", [None, 0, 1])
def test_two_searches_join_one_study(tmp_path, killed):
    """Two commands at work in one folder end with as many trials, also if one of them is killed."""
    file, out = tmp_path / "space.yaml", tmp_path / "run"
    file.write_text(TEXT)
    context = multiprocessing.get_context("fork")
    pair = [context.Process(target=main, args=(file, out), kwargs={"join": True}) for _ in "ab"]
    for process in pair:
        process.start()
    while len(workers_of(out)) < 2 and all(process.is_alive() for process in pair):
        time.sleep(0.02)
    if killed is not None:
        pair[killed].kill()
    for process in pair:
        process.join()
    codes = [process.exitcode for process in pair]
    assert codes == [-signal.SIGKILL if index == killed else 0 for index in range(2)]
    found = read_run(out)
    assert len(found.trials) == 12
    assert len({record.digest for record in found.trials}) == 12
    assert len(workers_of(out)) == 2


def test_workers_end_with_their_parent_although_ctrl_c_is_ignored(tmp_path):
    """As in a search that a script starts in the background."""
    file, out = tmp_path / "space.yaml", tmp_path / "run"
    file.write_text(TEXT.replace("width: {int: [2, 16, 2]}", "width: {int: [2, 30]}"))

    def in_background():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        main(file, out, 2)

    parent = multiprocessing.get_context("fork").Process(target=in_background)
    parent.start()
    while not workers_of(out) and parent.is_alive():
        time.sleep(0.02)
    parent.kill()
    parent.join()
    begun = [int(name.rpartition(":")[2]) for name in workers_of(out)]
    deadline = time.monotonic() + 30
    while any(map(is_alive, begun)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert begun
    assert not any(map(is_alive, begun))
    assert len(list(out.glob("trials/*/record.json"))) < 12


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def workers_of(out):
    """The processes that have begun a trial."""
    if not (out / "study.db").exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{out / 'study.db'}?mode=ro", uri=True)) as base:
        query = "SELECT DISTINCT value_json FROM trial_user_attributes WHERE key = 'worker'"
        try:
            return [json.loads(row[0]) for row in base.execute(query)]
        except sqlite3.OperationalError:  # the tables are being made
            return []


def test_workers_that_find_enough_do_not_start(tmp_path):
    study = load_study(TEXT, ["search.sampler=random"])
    search(study, Options(tmp_path, trials=2), make=make_fake)
    result = search(study, Options(tmp_path, trials=2, workers=2), make=make_fake)
    assert result.trials == 2

"""What a search loses when it is killed: twenty random moments, then left alone.

``python benchmarks/kill_test.py`` writes ``results/kill_test.json``. The search runs in a process
of its own with an evaluator that computes a score in a tenth of a second, and gets SIGKILL at
random moments, from opening its storage to writing a record; the same command goes on each time.
It must lose no trial that was whole, end with as many as an undisturbed search, train no
candidate twice, and leave records and study in agreement. Once with one process, and once with
two workers, which notice by themselves that the process that started them is gone.
"""

import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import optuna
from conditions import conditions, save

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support

from tests.support.searching import TEXT, killed_until_done
from unet_nas.records.study import read_run
from unet_nas.search.recovery import is_result

KILLS = 20
TRIALS = 60
LONGEST_S = 3.0


def main() -> dict[str, Any]:
    """Kills searches with one process and with two workers."""
    counts = {f"workers: {workers}": killed(workers) for workers in (1, 2)}
    return {**conditions("optuna", "sqlalchemy"), **counts}


def killed(workers: int, seed: int = 0) -> dict[str, Any]:
    """Kills a search, and counts what is left of it."""
    rng = Random(seed)
    folder = Path(tempfile.mkdtemp())
    file, out = folder / "fake.yaml", folder / "run"
    file.write_text(TEXT.replace("trials: 12", f"trials: {TRIALS}"), encoding="utf-8")
    moments = (rng.uniform(0, LONGEST_S * workers) for _ in range(KILLS))
    kills, whole = killed_until_done(file, out, moments, workers=workers)
    run = read_run(out)
    study = optuna.load_study(study_name="unet_nas", storage=f"sqlite:///{out / 'study.db'}")
    results = [trial for trial in study.trials if is_result(trial)]
    names = {path.parent.name for path in out.glob("trials/*/record.json")}
    return {
        "kills": kills,
        "trials_asked_for": TRIALS,
        "trials_with_results": len(results),
        "records": len(run.trials),
        "whole_before_a_kill_and_lost": len(whole - names),
        "candidates_trained_twice": len(run.trials) - len({r.digest for r in run.trials}),
        "results_without_record": len({f"{t.number:04}" for t in results} - names),
        "interrupted_and_queued_again": sum(
            trial.user_attrs.get("outcome") == "interrupted" for trial in study.trials
        ),
        "killed_before_their_parameters_were_known": sum(
            trial.user_attrs.get("outcome") == "unused" for trial in study.trials
        ),
        "still_running": sum(t.state == optuna.trial.TrialState.RUNNING for t in study.trials),
    }


if __name__ == "__main__":
    save("kill_test", main())

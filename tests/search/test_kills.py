"""A search that is killed at random moments loses nothing that was whole."""

from random import Random

import optuna

from tests.support.searching import TEXT, killed_until_done
from unet_nas.records.study import read_run
from unet_nas.search.recovery import is_result


def test_six_kills_lose_no_trial_and_add_none(tmp_path):
    rng = Random(5)
    file, out = tmp_path / "fake.yaml", tmp_path / "run"
    file.write_text(TEXT)
    moments = (rng.uniform(0.2, 1.5) for _ in range(6))
    _, whole = killed_until_done(file, out, moments)
    run = read_run(out)
    assert run.header.state == "complete"
    assert whole <= {path.parent.name for path in out.glob("trials/*/record.json")}
    assert len(run.trials) == 12
    assert len({record.digest for record in run.trials}) == 12
    study = optuna.load_study(study_name="unet_nas", storage=f"sqlite:///{out / 'study.db'}")
    assert {t.number for t in study.trials if is_result(t)} == {r.number for r in run.trials}
    assert all(trial.state.is_finished() for trial in study.trials)

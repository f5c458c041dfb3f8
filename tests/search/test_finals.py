"""Test scores of finalists and baselines: in numbers, and as the command prints them."""

from functools import partial

import pytest

from tests.support.searching import TEXT, make_fake
from unet_nas.cli import main
from unet_nas.records.study import ObjectiveSpec, TrialRecord
from unet_nas.search import driver
from unet_nas.search.finals import finals, first_accuracy

HD95 = ObjectiveSpec("hd95", "minimize", "mm")


def record(name, seed, **test):
    state = "complete" if test else "failed"
    return TrialRecord("finalist", name, state, seed=seed, test=test, costs={"macs": 1.0})


def test_seeds_of_a_network_are_one_row_and_the_best_comes_first():
    records = [
        record("#2", 0),
        record("#1", 0, hd95=4.0),
        record("#1", 1, hd95=6.0),
        record("#0", 0, hd95=3.0),
        record("#0", 1),
    ]
    found = finals(records, HD95)
    assert [(f.name, f.text) for f in found] == [
        ("#0", "3.0000 (1 seed failed)"),
        ("#1", "5.0000 ± 1.4142"),
        ("#2", "failed"),
    ]


def test_the_first_accuracy_is_what_they_are_scored_by():
    macs = ObjectiveSpec("macs", "minimize")
    assert first_accuracy([macs, HD95]) == HD95
    assert first_accuracy([macs]).name == "dice"


def test_the_command_prints_them(tmp_path, capsys, monkeypatch):
    file = tmp_path / "space.yaml"
    file.write_text(TEXT.replace("finalists: 0", "finalists: {count: 1, seeds: 2, steps: 20}"))
    monkeypatch.setattr(driver, "search", partial(driver.search, make=make_fake))
    monkeypatch.setattr("unet_nas.cli.searching._report", lambda folder: None)
    with pytest.raises(SystemExit) as ended:
        main(["search", str(file), "--out", str(tmp_path / "run"), "--trials=2", "--set=width=8"])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert "seed 1: validation dice 0." in said.err
    header, table = said.out.partition("longer training")[2].split("\n", 1)
    assert header.split() == ["test", "dice", "parameters", "macs"]
    assert " ± 0.0001 " in table  # the scores of the two seeds are 0.0001 apart
    assert "on the test cases, which no selection has seen" in table

"""What is recommended, what is on the front, and what choices are worth at matched cost."""

import math
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.support.studies import DICE, MACS, MEMORY
from unet_nas.errors import InputError
from unet_nas.records import ObjectiveSpec, Run, RunHeader, TrialRecord
from unet_nas.records.pareto import front
from unet_nas.report.effects import effects
from unet_nas.report.findings import MOST_CARDS, Finals, Findings
from unet_nas.report.quantities import COSTS, quantity_of


def trial(number: int, dice: float, macs: float, **changes) -> TrialRecord:
    record = TrialRecord(
        "trial",
        f"#{number}",
        "complete",
        number=number,
        costs={"macs": macs, "parameters": macs / 100},
        metrics={"dice": dice},
        objectives={"dice": dice, "macs": macs},
    )
    return replace(record, **changes)


def run_of(*records: TrialRecord, objectives=(DICE, MACS), **header) -> Run:
    trials = tuple(r for r in records if r.kind == "trial")
    finals = tuple(r for r in records if r.kind == "finalist")
    return Run(Path("runs/x"), RunHeader("x", objectives=objectives, **header), trials, (), finals)


def titles(found: Findings) -> dict[str, tuple[str, ...]]:
    return {one.entry.label: one.titles for one in found.recommendations}


def test_best_knee_and_cheapest_within_one_percent():
    found = Findings.of(
        [
            run_of(
                trial(0, 0.900, 1e9),
                trial(1, 0.895, 3e8),  # within 1 % of the best
                trial(2, 0.880, 1e7),  # nearly as good for a hundredth: the knee
                trial(3, 0.500, 5e6),
                trial(4, 0.600, 5e8),  # dominated
            )
        ]
    )
    assert [entry.label for entry in found.front] == ["#3", "#2", "#1", "#0"]
    assert titles(found) == {
        "#0": ("best Dice",),
        "#2": ("knee point",),
        "#1": ("cheapest within 1 %",),
    }


def test_a_network_over_a_measured_limit_is_not_recommended():
    over = trial(0, 0.99, 1e6, constraints={"latency": 3.0})
    found = Findings.of([run_of(over, trial(1, 0.5, 1e7))])
    assert [entry.label for entry in found.front] == ["#1"]


def test_a_single_objective_is_set_against_macs():
    found = Findings.of([run_of(trial(0, 0.9, 1e9), trial(1, 0.8, 1e8), objectives=(DICE,))])
    assert [quantity.name for quantity in found.plane] == ["dice", "macs"]
    assert len(found.front) == 2


def test_a_score_that_is_minimised():
    hd = ObjectiveSpec("hd95", "minimize", "mm")
    records = [
        trial(n, 0.5, macs, objectives={"hd95": value, "macs": macs}, metrics={"hd95": value})
        for n, (value, macs) in enumerate([(3.0, 1e9), (3.02, 1e8), (9.0, 1e7)])
    ]
    found = Findings.of([run_of(*records, objectives=(hd, MACS))])
    assert titles(found)["#0"] == ("best HD95",)
    assert "cheapest within 1 %" in titles(found)["#1"]


def test_front_agrees_with_the_definition_for_three_objectives(tmp_path):
    rng = Random(1)
    records = []
    for n in range(60):
        values = {"dice": rng.random(), "macs": rng.randrange(1, 9) * 1e6}
        values["training_memory"] = rng.randrange(1, 9) * 2**20
        records.append(trial(n, values["dice"], values["macs"], objectives=values))
    found = Findings.of([run_of(*records, objectives=(DICE, MACS, MEMORY))])
    expected = {
        e.label
        for e, on in zip(found.feasible, front(found.losses(found.feasible)), strict=True)
        if on
    }
    assert {entry.label for entry in found.front} == expected


def test_no_more_cards_than_a_page_can_hold():
    records = [trial(n, 0.5 + n / 100, 1e6 * (n + 1)) for n in range(40)]
    found = Findings.of([run_of(*records)])
    assert len(found.front) == 40
    assert len(found.carded) == MOST_CARDS
    assert {one.entry.key for one in found.recommendations} <= {e.key for e in found.carded}


def test_finalists_are_scored_on_the_test_cases():
    finals = [
        trial(0, 0.9, 1e9, kind="finalist", seed=seed, test={"dice": score})
        for seed, score in enumerate((0.80, 0.84, math.nan))
    ]
    found = Findings.of([run_of(trial(0, 0.7, 1e9), *finals)])
    result = found.finals(found.trials[0])
    assert result == Finals((0.80, 0.84), 1, "test")
    assert result.mean == pytest.approx(0.82)
    assert result.deviation == pytest.approx(0.04 / math.sqrt(2))


def test_without_test_cases_finalists_are_scored_on_validation():
    found = Findings.of([run_of(trial(0, 0.7, 1e9), trial(0, 0.9, 1e9, kind="finalist"))])
    assert found.finals(found.trials[0]) == Finals((0.9,), 0, "validation")


def test_reference_point_is_the_budget_or_the_worst_seen():
    found = Findings.of([run_of(trial(0, 0.9, 1e8), trial(1, 0.5, 1e6), budget={"macs": 1e9})])
    assert found.reference == pytest.approx((-0.5, 9.0))
    assert found.box == pytest.approx(0.4 * 3)
    # #0 is 1 decade below the limit at the best score; #1 has the worst score and adds nothing
    assert found.hypervolume == pytest.approx(0.4 * 1 / (0.4 * 3))


def test_runs_with_other_objectives_are_refused():
    one, other = run_of(), run_of(objectives=(DICE,))
    with pytest.raises(InputError, match=r"must have the same objectives: .* dice, macs, .* dice;"):
        Findings.of([one, other])
    with pytest.raises(InputError, match="at least one run"):
        Findings.of([])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spatial_dims": 1}, "spatial_dims: runs/x has 2, runs/y has 1;"),
        ({"in_channels": 3}, "in_channels: runs/x has 1, runs/y has 3;"),
        ({"class_names": ("a", "c")}, "class names: runs/x has a, b, runs/y has a, c;"),
        ({"patch_size": (32, 32)}, "patch size: runs/x has 64×64, runs/y has 32×32;"),
        ({"objectives": (replace(DICE, direction="minimize"), MACS)}, "objectives: runs/x has (Ob"),
    ],
)
def test_runs_on_other_data_are_refused(changes, said):
    header = {"patch_size": (64, 64), "class_names": ("a", "b")}
    one = run_of(**header)
    other = replace(run_of(**(header | changes)), folder=Path("runs/y"))
    with pytest.raises(InputError) as caught:
        Findings.of([one, other])
    assert f"runs of one report must have the same {said}" in str(caught.value)
    assert "unet-nas compare" in str(caught.value)


def test_a_folder_given_twice_is_refused():
    one = run_of()
    again = replace(one, folder=Path("runs/../runs/x"))
    with pytest.raises(InputError, match="is given twice"):
        Findings.of([one, again])


def test_runs_together_keep_their_trials_apart():
    runs = [run_of(trial(0, 0.9, 1e8)), replace(run_of(trial(0, 0.8, 1e7)), folder=Path("runs/y"))]
    found = Findings.of(runs)
    assert [entry.label for entry in found.trials] == ["x (x) #0", "x (y) #0"]
    assert len({entry.key for entry in found.trials}) == 2
    assert found.front[0].export_command == "unet-nas export 'runs/y#0' --to exported/x-0"


def test_effects_find_a_planted_gain_and_are_not_misled_by_cost():
    rng = Random(0)
    records = []
    for n in range(400):
        # the gate is chosen for large networks, and is worth 0.02; avg_pool is worth nothing
        gate = rng.random() < 0.5
        log = rng.uniform(8, 9) if gate else rng.uniform(7, 8)
        dice = 0.3 + 0.05 * log + 0.02 * gate + rng.gauss(0, 0.003)
        values = {"fusion": "gate" if gate else "concat", "down": rng.choice(["avg", "max"])}
        records.append(trial(n, dice, 10**log, parameters=values))
    found = Findings.of([run_of(*records)])
    by_value = {effect.value: effect for effect in effects(found, COSTS["macs"])}
    raw = by_value["gate"].mean - by_value["concat"].mean
    matched = by_value["gate"].adjusted - by_value["concat"].adjusted
    assert raw > 0.06  # mostly that gates come with large networks
    assert 0 < matched < 0.02  # what cannot be told from cost is not credited
    assert by_value["avg"].adjusted == pytest.approx(by_value["max"].adjusted, abs=0.002)
    assert by_value["gate"].trials + by_value["concat"].trials == 400
    assert by_value["gate"].error < 0.001


def test_effects_are_exact_where_choice_and_cost_are_balanced():
    records = [
        trial(2 * n + gate, 0.5 + 0.1 * n / 10 + 0.02 * gate, 10 ** (6 + n / 10),
              parameters={"fusion": "gate" if gate else "add", "depth": n})
        for n in range(10) for gate in (0, 1)
    ]  # fmt: skip
    found = effects(Findings.of([run_of(*records)]), COSTS["macs"])
    assert [effect.value for effect in found] == ["add", "gate"]  # numbers are for slices
    add, gate = found
    assert gate.adjusted - add.adjusted == pytest.approx(0.02)
    assert gate.error == pytest.approx(0.0, abs=1e-12)


def test_a_few_trials_say_nothing_about_effects():
    records = [trial(n, 0.5, 1e6, parameters={"down": "max" if n % 2 else "avg"}) for n in range(7)]
    assert effects(Findings.of([run_of(*records)]), COSTS["macs"]) == []


def test_quantities_write_values_with_their_units():
    assert quantity_of(MEMORY).text(3 * 2**20) == "3 MiB"
    assert quantity_of(DICE).text(0.81234) == "0.8123"
    assert quantity_of(ObjectiveSpec("hd95", "minimize", "mm")).text(2.5) == "2.5 mm"

"""The sections of a search: every fault with its line, all at once, and what they come to."""

import pytest

from tests.support.searching import TEXT
from unet_nas.errors import DocumentError, InputError
from unet_nas.search.config import Finalists, SearchConfig, objective_of
from unet_nas.search.load import load_study
from unet_nas.search.makers import make_pruner, make_sampler, pruner_spec, sampler_spec
from unet_nas.space.budget import Budget
from unet_nas.text.document import SECTION_KEYS
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.cases import Task
from unet_nas.train.data.config import DataConfig

FAULTY = """\
architecture:
  depth: {int: [2, 9]}
data: {sourc: synthetic}
budget: {parameters: 5Q}
objectives: [dice, mac]
train: {patch_size: 16x16, optimizer: adam, nesterov: true}
search: {sampler: tpee, trials: 0, finalists: {steps: 3, factor: 2}}
baselines: [preset:unet-2015, {network: 'python:a:b', parameters: 5k}]
"""


def faults_of(text, assignments=()):
    with pytest.raises(DocumentError) as caught:
        load_study(text, assignments)
    return [line.removeprefix("<text>:") for line in str(caught.value).splitlines()]


def test_all_faults_of_all_sections_come_at_once():
    found = faults_of(FAULTY)
    places = [line.partition(": ")[0] for line in found]
    assert places == [
        "2, architecture.depth.int[1]",
        "3, data.sourc",
        "3, data.source",
        "4, budget.parameters",
        "5, objectives[1]",
        "6, train.nesterov",
        "7, search.finalists.steps",
        "7, search.sampler.type",
        "7, search.trials",
        "8, baselines[1].parameters",
    ]
    assert found[4].endswith("got 'mac'; did you mean 'macs'?")
    assert found[7].endswith("got 'tpee'; did you mean 'tpe'?")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("objectives=[dice, macs, dice]", "objectives[2]: must be named once"),
        ("objectives=[dice, iou, macs, parameters]", "must have at most 3"),
        ("objectives=[]", "must have at least 1"),
        ("search.pruner=median", "search.pruner: needs a single objective"),
        ("train={}", "train.patch_size: must be given for a search"),
        ("baselines=[preset:unet-2015, preset:unet-2015]", "baselines[1]: must differ"),
        ("search.trials={int: [1, 5]}", "only architecture and train may have domains"),
        ("data={}", "data.source: must be given"),
    ],
)
def test_rules_of_a_search(assignment, message):
    assert message in "\n".join(faults_of(TEXT, [assignment]))


def test_faulty_entries_count_in_a_list():
    (line,) = faults_of(TEXT, ["objectives=[dicee]"])
    assert line.endswith("did you mean 'dice'?")


def test_advice_knows_the_keys_of_the_sections():
    models = {"data": DataConfig, "budget": Budget, "train": TrainConfig, "search": SearchConfig}
    assert {name: tuple(model.model_fields) for name, model in models.items()} == SECTION_KEYS


@pytest.mark.parametrize(
    ("assignment", "field", "ending"),
    [
        ("steps=3", "architecture.steps", "unknown key 'steps'; did you mean train.steps?"),
        ("trials=3", "architecture.trials", "did you mean search.trials?"),
        ("finalists.seeds=3", "architecture.finalists", "did you mean search.finalists?"),
        ("macs=3G", "architecture.macs", "did you mean budget.macs?"),
        ("source=x", "architecture.source", "did you mean data.source?"),
        ("train.trials=3", "train.trials", "did you mean search.trials?"),
        ("clip=1", "architecture.clip", "head, deep_supervision"),  # of data and of train
    ],
)
def test_a_key_of_another_section_is_found_there(assignment, field, ending):
    (line,) = faults_of(TEXT, [assignment])
    assert f", {field}: " in line
    assert line.endswith(ending)


@pytest.mark.parametrize(
    ("assignment", "field", "ending"),
    [
        ("objectives=dice,macs", "objectives", "got 'dice,macs'; fix: write [dice, macs]"),
        ("objectives=[flops]", "objectives[0]", "got 'flops'; did you mean 'macs'?"),
        ("objectives=[mult-adds]", "objectives[0]", "got 'mult-adds'; did you mean 'macs'?"),
        ("objectives=params", "objectives", "got 'params'; did you mean 'parameters'?"),
        ("objectives=[memory]", "objectives[0]", "got 'memory'; did you mean 'training_memory'?"),
        ("budget.flops=5M", "budget.flops", "unknown key 'flops'; did you mean 'macs'?"),
        ("baselines=preset:unet-2015", "baselines", "fix: write [preset:unet-2015]"),
        ("baselines=preset:a, b.yaml", "baselines", "fix: write [preset:a, b.yaml]"),
        ("search.enqueue=preset:unet-2015", "search.enqueue", "fix: write [preset:unet-2015]"),
    ],
)
def test_what_people_write_has_its_fix(assignment, field, ending):
    (line,) = faults_of(TEXT, [assignment])
    assert f", {field}: " in line
    assert line.endswith(ending)
    assert f"{field}: 0 " not in line


def test_a_cost_alone_cannot_be_pruned_for():
    found = faults_of(TEXT, ["objectives=macs", "search.pruner=hyperband"])
    assert "a cost has no training curve" in found[0]


def test_directions_are_known_by_name():
    assert objective_of("hd95[nucleus]").direction == "minimize"
    assert objective_of("latency").unit == "ms"
    with pytest.raises(InputError, match="there is no accuracy metric 'speed'"):
        objective_of("speed")


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "GPSampler", "QMCSampler"])
def test_every_argument_of_a_sampler_is_recorded(name):
    spec = sampler_spec(SearchConfig(sampler=name, trials=40), seed=7, workers=2)
    assert spec.arguments["seed"] == 7
    assert type(make_sampler(spec)).__name__ == spec.type
    if name == "tpe":
        assert spec.record == {
            "type": "TPESampler",
            "n_startup_trials": 10,
            "n_ei_candidates": 24,
            "seed": 7,
            "multivariate": True,
            "group": True,
            "constant_liar": True,
        }


def test_arguments_are_classes_too():
    choice = {"type": "NSGAIIISampler", "crossover": {"type": "UniformCrossover"}}
    assert make_sampler(sampler_spec(SearchConfig(sampler=choice), seed=0, workers=1))
    pruner = {"type": "PatientPruner", "wrapped_pruner": {"type": "MedianPruner"}, "patience": 2}
    assert make_pruner(pruner_spec(SearchConfig(pruner=pruner), validations=5))
    assert pruner_spec(SearchConfig(pruner="hyperband"), validations=9).arguments == {
        "min_resource": 1,
        "max_resource": 9,
        "reduction_factor": 3,
        "bootstrap_count": 0,
    }


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ({"type": "TPESampler", "gama": 1}, "TPESampler has no argument 'gama'"),
        ("FooSampler", "Optuna has no class 'FooSampler'"),
        ({"type": "grid", "n": 3}, "grid has no 'n'"),
        ("GridSampler", "missing 1 required positional argument: 'search_space'"),
        ({"type": "nsga2", "population_size": 1}, "must be greater than or equal to 2"),
    ],
)
def test_samplers_that_cannot_be(sampler, message):
    with pytest.raises(InputError, match="search") as caught:
        make_sampler(sampler_spec(SearchConfig(sampler=sampler), seed=0, workers=1))
    assert message in str(caught.value)


def test_finalists_train_longer():
    assert Finalists().budget("epochs", 2.0)["epochs"] == 10.0
    assert Finalists(steps=700).budget("epochs", 2.0) == {
        "steps": 700,
        "epochs": None,
        "seconds": None,
    }


def test_a_study_takes_channels_and_classes_from_the_data():
    study = load_study(TEXT, ["train.patch_size=16"]).bound_to(
        Task(1, 3, ("a", "b", "c"), multi_label=True)
    )
    tree = study.space.tree["architecture"].variant(1)
    assert (tree["spatial_dims"], tree["in_channels"], tree["classes"]) == (1, 3, 3)
    assert study.space.tree["data"]["multi_label"] is True
    assert study.identity["architecture"] == load_study(TEXT).identity["architecture"]


def test_a_study_that_says_otherwise_than_the_data():
    study = load_study(TEXT, ["in_channels=3"])
    with pytest.raises(DocumentError) as caught:
        study.bound_to(Task(3, 1, ("a", "b")))
    assert "in_channels: must be 1, as the data are, got 3" in str(caught.value)
    assert "train.patch_size: must have one number" in str(caught.value)

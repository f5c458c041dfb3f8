"""Domains: what they mean, how they are counted, and what is wrong with them."""

import pytest

from unet_nas.errors import DocumentError
from unet_nas.space.domains import Choice, FloatRange, IntRange, compile_tree, count, stage_count
from unet_nas.space.load import load_space
from unet_nas.unet.architecture import OPERATOR_FIELDS, STAGE_FIELDS, Architecture


def compiled(architecture):
    tree, faults = compile_tree({"architecture": architecture})
    assert not faults
    return tree


def field(architecture, name):
    return compiled(architecture)["architecture"].variants[4][name]


@pytest.mark.parametrize(
    ("domain", "number"),
    [
        ({"choice": [3]}, 1),
        ({"choice": [3, 5, "x"]}, 3),
        ({"int": [3, 5]}, 3),
        ({"int": [3, 3]}, 1),
        ({"int": [8, 64, 8]}, 8),
        ({"int": [1, 10, 4]}, 3),
        ({"int": [1, 512], "log": True}, 512),
        ({"int": [0, 10**18]}, 10**18 + 1),
        ({"float": [0, 1]}, 1),
        ({"choice": [3, {"int": [5, 9, 2]}]}, 4),
        ({"choice": ["a", {"type": "b", "k": {"choice": [1, 2]}, "l": {"int": [1, 3]}}]}, 7),
        ({"choice": [3, 5], "per_stage": True}, 2**5),
        ({"choice": [3, {"choice": [3, 5], "per_stage": True}]}, 1 + 2**5),
        ([{"choice": [1, 2]}, 3, {"choice": [1, 2, 3]}], 6),
    ],
)
def test_count(domain, number):
    assert count(compiled({"kernel_size": domain})) == number


@pytest.mark.parametrize("depth", [2, 5])
def test_per_stage_follows_the_depth(depth):
    stages = {"choice": [0, 1], "per_stage": True}
    for at, entries in [
        (("convs",), depth + 1),
        (("features",), depth + 1),
        (("down",), depth),
        (("skip_after",), depth),
        (("encoder", "convs"), depth),
        (("decoder", "convs"), depth),
        (("decoder", "features"), depth),
    ]:
        tree = stages
        for key in reversed(at):
            tree = {key: tree}
        assert count(compiled({"depth": depth, **tree})) == 2**entries, at


def test_the_count_adds_up_the_depths():
    stages = {"choice": [3, 5], "per_stage": True}
    drawn = {"depth": {"int": [2, 4]}, "kernel_size": stages, "down": stages}
    assert count(compiled(drawn)) == 2**5 + 2**7 + 2**9
    nested = {"depth": {"choice": [2, {"int": [3, 4]}]}, "kernel_size": stages}
    assert count(compiled(nested)) == 2**3 + 2**4 + 2**5


def test_a_choice_of_whole_architectures():
    stages = {"choice": [3, 5], "per_stage": True}
    branches = [{"depth": 2, "kernel_size": stages}, {"depth": {"int": [1, 2]}, "up": stages}]
    assert count(compiled({"choice": branches})) == 2**3 + 2 + 4


def test_every_list_of_stages_of_the_schema_takes_per_stage():
    """Lengths are those that the schema asks for, field by field."""
    for field_name in (*STAGE_FIELDS, *OPERATOR_FIELDS):
        entries = stage_count(("architecture", field_name), 3)
        default = getattr(Architecture(), field_name)
        Architecture.model_validate({"depth": 3, field_name: [default] * entries})


def test_labels_tell_branches_apart():
    values = [1, 1.0, True, "a", None, {"type": "a"}, {"k": 1}, [1, 2], {"type": "a b"}]
    labels = field({"norm": {"choice": values}}, "norm").labels
    assert labels == (1, "1.0#2", "true#3", "a", None, "a#6", "#7", "#8", "#9")
    assert len(set(labels)) == len(labels)


def test_ranges_are_cut_to_whole_steps():
    domain = field({"width": {"int": [8, 30, 8]}}, "width")
    assert isinstance(domain, IntRange)
    assert (domain.low, domain.high, list(domain.values)) == (8, 24, [8, 16, 24])


def test_kinds():
    assert isinstance(field({"growth": {"float": [1, 2]}}, "growth"), FloatRange)
    assert isinstance(field({"width": {"choice": [1, 2]}}, "width"), Choice)


def fault_of(text):
    with pytest.raises(DocumentError) as caught:
        load_space(f"architecture:\n  {text}\n")
    (line,) = str(caught.value).splitlines()
    return line.removeprefix("<text>:2, architecture.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width: {choice: []}", "width.choice: must be a list of at least one value, got []"),
        ("width: {choice: 3}", "width.choice: must be a list of at least one value, got 3"),
        (
            "width: {choice: [8, 16, 8]}",
            "width.choice[2]: must differ from the other values of the choice, got 8; "
            "fix: remove one of them",
        ),
        (
            "width: {choice: [8, .nan]}",
            "width.choice[1]: must be a finite number, got .nan",
        ),
        (
            "width: {int: [5, 3]}",
            "width.int: must not begin above its end, got [5, 3]; fix: write [3, 5]",
        ),
        (
            "width: {int: [3, 5, 0]}",
            "width.int[2]: must be a step of at least 1, got 0",
        ),
        (
            "width: {int: [3, 5, -1]}",
            "width.int[2]: must be a step of at least 1, got -1",
        ),
        (
            "width: {int: 5}",
            "width.int: must be [low, high] or [low, high, step], all integers, got 5",
        ),
        (
            "width: {int: [1, 5.0]}",
            "width.int: must be [low, high] or [low, high, step], all integers, got [1, 5.0]",
        ),
        (
            "width: {int: [true, 5]}",
            "width.int: must be [low, high] or [low, high, step], all integers, got [true, 5]",
        ),
        (
            "width: {int: [0, 5], log: true}",
            "width.int[0]: must begin above 0 where log is true, got 0; "
            "fix: remove log, or begin above 0",
        ),
        (
            "width: {int: [1, 9, 2], log: true}",
            "width.int[2]: must have no step where log is true, got 2; "
            "fix: remove the step, or log",
        ),
        (
            "growth: {float: [1, .inf]}",
            "growth.float: must be [low, high], two finite numbers, got [1, .inf]",
        ),
        (
            "growth: {float: [1, 2, 0.5]}",
            "growth.float: must be [low, high], two finite numbers, got [1, 2, 0.5]",
        ),
        (
            "growth: {float: [2, 1]}",
            "growth.float: must not begin above its end, got [2.0, 1.0]; fix: write [1.0, 2.0]",
        ),
        (
            "growth: {float: [0, 1], log: true}",
            "growth.float[0]: must begin above 0 where log is true, got 0.0; "
            "fix: remove log, or begin above 0",
        ),
        (
            "width: {int: [8, 16], lgo: true}",
            "width.lgo: unknown key 'lgo'; did you mean 'log'?",
        ),
        (
            "width: {choice: [8, 16], log: true}",
            "width.log: unknown key 'log'; fix: beside choice there may be per_stage",
        ),
        ("width: {int: [8, 16], log: 1}", "width.log: must be true or false, got 1"),
        (
            "width: {choice: [8, 16], int: [1, 2]}",
            "width: must be one domain: choice, int or float, got choice and int; "
            "fix: keep choice",
        ),
        (
            "width: {choice: [8, 16], per_stage: true}",
            "width.per_stage: must stand for the whole of a field with one entry per stage; "
            "fix: remove per_stage, or write the list with one domain per entry",
        ),
        (
            "bottleneck: {convs: {choice: [1, 2], per_stage: true}}",
            "bottleneck.convs.per_stage: must stand for the whole of a field with one entry per "
            "stage; fix: remove per_stage, or write the list with one domain per entry",
        ),
        (
            "down: {type: strided_conv, kernel_size: {choice: [2, 3], per_stage: true}}",
            "down.kernel_size.per_stage: must stand for the whole of a field with one entry per "
            "stage; fix: remove per_stage, or write the list with one domain per entry",
        ),
    ],
)
def test_faults_of_domains(text, message):
    assert fault_of(text) == message


def test_all_faults_of_domains_at_once():
    text = "architecture:\n  depth: {int: [4, 3]}\n  width: {choice: []}\nbudgte: 3\n"
    with pytest.raises(DocumentError) as caught:
        load_space(text)
    lines = str(caught.value).splitlines()
    assert [line.split(",")[0] for line in lines] == ["<text>:2", "<text>:3", "<text>:4"]

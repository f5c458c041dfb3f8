"""Loading a space: every value is probed, faults stand at their line, rules between fields wait."""

import pytest

from unet_nas.cli import main
from unet_nas.errors import DocumentError, InputError
from unet_nas.space.budget import Budget, Conditions, limit_text
from unet_nas.space.load import load_space
from unet_nas.units import parse_bytes, parse_count

FAULTY = """\
architecture:
  depth: {int: [2, 9]}
  width: {choice: [8, 16, 0]}
  widht: 3
  growth: {float: [0, 2.0]}
  kernel_size: {choice: [3, wide], per_stage: true}
  down:
    choice:
      - max_pool
      - type: strided_conv
        kernel_size: {choice: [2, 3, 2.5]}
        strid: 2
      - max_pol
  norm:
    choice:
      - batch
      - type: group
        groups:
          choice:
            - 4
            - {int: [0, 8, 4]}
train:
  patch_size: 64
  batch_size: {int: [0, 4]}
budget:
  parameters: 5Q
  latency: 0
"""


def lines_of(text, assignments=()):
    with pytest.raises(DocumentError) as caught:
        load_space(text, assignments)
    return [line.removeprefix("<text>:") for line in str(caught.value).splitlines()]


def test_every_value_is_probed_and_all_faults_come_at_once():
    found = lines_of(FAULTY)
    assert [line.partition(",")[0] for line in found] == [
        *("2", "3", "4", "5", "6", "11", "12", "13", "21", "24", "26", "27")
    ]
    assert found[0] == "2, architecture.depth.int[1]: must be ≤ 8, got 9"
    assert found[1] == "3, architecture.width.choice[2]: must be ≥ 1, got 0"
    assert found[2] == "4, architecture.widht: unknown key 'widht'; did you mean 'width'?"
    assert found[3] == "5, architecture.growth.float[0]: must be > 0, got 0.0"
    assert (
        found[4] == "6, architecture.kernel_size.choice[1]: must be an integer, got 'wide' (text)"
    )
    assert found[5].startswith(
        "11, architecture.down.choice[1].kernel_size.choice[2]: must be an integer, got 2.5"
    )
    assert found[7].endswith("got 'max_pol'; did you mean 'max_pool'?")
    assert found[8] == (
        "21, architecture.norm.choice[1].groups.choice[1].int[0]: must be ≥ 1, got 0"
    )


def test_wide_ranges_are_probed_at_both_ends():
    assert lines_of("architecture:\n  width: {int: [1, 2000000]}\n") == [
        "2, architecture.width.int[1]: must be ≤ 1000000, got 2000000"
    ]


def test_a_list_is_asked_to_be_a_domain_where_one_loads():
    head = "architecture:\n  spatial_dims: {choice: [2, 3]}\n"
    hint = "must be an integer, got [1, 2]; fix: for several values write "
    assert lines_of(f"{head}  depth: [1, 2]\n") == [
        f"3, architecture.depth: {hint}{{choice: [1, 2]}} or {{int: [1, 2]}}"
    ]
    for domain in ("{choice: [1, 2]}", "{int: [1, 2]}"):
        assert load_space(f"{head}  depth: {domain}\n").count() == 4
    assert lines_of("architecture: {}\ntrain:\n  batch_size: [1, 2]\n") == [
        f"3, train.batch_size: {hint}{{choice: [1, 2]}} or {{int: [1, 2]}}"
    ]
    assert lines_of("architecture: {}\nbudget:\n  parameters: [1, 2]\n") == [
        "3, budget.parameters: must be a number with a unit, such as 5M or 8GiB"
    ]


@pytest.mark.parametrize("domain", ["{int: [1, 2]}", "{choice: [1, 2, 3]}", "{float: [1, 2]}"])
def test_a_misspelt_key_over_a_domain_is_told_once(domain):
    fault = "unknown key 'dpeth'; did you mean 'depth'?"
    assert lines_of(f"architecture:\n  dpeth: {domain}\n") == [f"2, architecture.dpeth: {fault}"]
    norm = f"{{choice: [batch, {{type: group, gruops: {domain}}}]}}"
    (line,) = lines_of(f"architecture:\n  norm: {norm}\n")
    assert line.startswith("2, architecture.norm.choice[1].gruops: unknown key 'gruops'; did you")


def test_a_range_of_floats_for_integers_is_told_once():
    text = "architecture:\n  depth: {float: [1, 2]}\n  width: {float: [1.5, 9.5], log: true}\n"
    assert lines_of(text) == [
        "2, architecture.depth: must be an integer, got a range of numbers; fix: write "
        "int: [1, 2] in place of float",
        "3, architecture.width: must be an integer, got a range of numbers; fix: write "
        "int: [2, 9] in place of float",
    ]
    fixed = ["depth={int: [1, 2]}", "width={int: [2, 9], log: true}"]
    assert load_space(text, fixed).count() == 16


def test_a_broken_rule_between_fields_is_no_error():
    space = load_space(
        "architecture:\n  width: {choice: [8, 12]}\n  norm: {type: group, groups: 8}\n"
    )
    assert space.count() == 2
    assert (
        load_space("architecture:\n  depth: {int: [2, 4]}\n  down: [max_pool, max_pool]\n").count()
        == 3
    )


def test_domains_belong_into_architecture_and_train():
    text = "architecture:\n  depth: 2\nbudget:\n  parameters: {choice: [1M, 2M]}\n"
    assert lines_of(text) == [
        "4, budget.parameters: must be one value: only architecture and train may have domains, "
        "got a domain"
    ]


def test_other_faults_of_the_document():
    assert lines_of("architecture:\n  depth: 2\n  depth: 3\nfoo: 1\n")[1] == (
        "4, foo: unknown section 'foo'; fix: the known sections are name, about, reference, "
        "architecture, data, budget, objectives, train, search, baselines"
    )
    assert lines_of("name: x\ntrain: {}\n") == ["1, architecture: this section must be given"]
    with pytest.raises(InputError, match=r"absent.yaml: there is no such file"):
        load_space("absent.yaml")


def test_set_may_give_a_domain():
    text = "architecture:\n  depth: 2\n"
    assert load_space(text, ["width={choice: [8, 16]}"]).count() == 2
    assert lines_of(text, ["width={choice: [8, 0]}"]) == [
        "--set 'width={choice: [8, 0]}', architecture.width.choice[1]: must be ≥ 1, got 0"
    ]


def test_a_file_without_holes_is_a_space_of_one():
    assert load_space("preset:unet-2015").count() == 1


def test_floats_make_a_space_infinite():
    text = (
        "architecture:\n  growth: {float: [1, 2]}\n  max_width: {choice: [64, 128]}\n"
        "train:\n  rate: {float: [0.1, 0.2]}\n"
    )
    space = load_space(text)
    assert space.infinite("architecture") == [("architecture", "growth")]
    assert space.infinite() == [("architecture", "growth"), ("train", "rate")]
    assert space.count() == 2
    assert load_space("architecture:\n  growth: {float: [2, 2]}\n").infinite() == []


@pytest.mark.parametrize("command", ["show", "check", "audit"])
def test_commands_for_one_network_refuse_holes(command, tmp_path, capsys):
    file = tmp_path / "space.yaml"
    file.write_text("architecture:\n  depth: {choice: [2, 3]}\n")
    size = ["--patch-size", "64x64"] if command == "audit" else []
    with pytest.raises(SystemExit) as caught:
        main([command, str(file), *size])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert ":2, architecture.depth: must be one value here: a domain makes the file a" in message
    assert "--set depth=…" in message


def test_limits_of_the_budget_need_a_unit():
    text = "architecture: {}\nbudget:\n  latency: 50\n  training_memory: 4\n"
    assert lines_of(text) == [
        "3, budget.latency: needs a unit, as 50ms or 50s, got 50",
        "4, budget.training_memory: needs a unit: 4 means 4 bytes; fix: write 4GiB",
    ]
    few = limit_text("training_memory", 900)
    assert load_space(text, ["budget.latency=50ms", f"budget.training_memory={few}"]).budget == (
        Budget(latency="50ms", training_memory="900B")
    )


def test_the_budget_reads_quantities():
    budget = Budget.model_validate(
        {"parameters": "5M", "macs": 1e9, "training_memory": "8GiB", "latency": "50ms"}
    )
    assert (budget.parameters, budget.macs) == (5_000_000, 10**9)
    assert (budget.training_memory, budget.latency) == (8 * 2**30, 0.05)
    assert budget.static_limits() == {
        "parameters": 5_000_000,
        "macs": 10**9,
        "training_memory": 8 * 2**30,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters: 5Q", "unknown unit 'Q' in '5Q': a count takes k, K, M, G, T"),
        ("parameters: 1.5", "a count must be a whole number, got 1.5"),
        ("parameters: true", "must be a number with a unit, such as 5M or 8GiB"),
        ("macs: 0", "must be > 0, got 0"),
        ("macs: -5", "a count must be a number ≥ 0, such as 5M, got -5"),
        ("memory: 8GiB", "unknown key 'memory'; did you mean 'training_memory'?"),
        ("zzz: 8GiB", "unknown key 'zzz'; fix: the known keys are parameters, macs"),
        ("latency: 10 GiB", "unknown unit 'GiB' in '10 GiB': a duration takes ns, us"),
    ],
)
def test_faults_of_the_budget(text, message):
    (line,) = lines_of(f"architecture:\n  depth: 2\nbudget:\n  {text}\n")
    assert line.partition(": ")[2].startswith(message)


@pytest.mark.parametrize(
    ("written", "size"),
    [(64, 64), ("64x32", (64, 32)), ([64, 32, 8], (64, 32, 8)), ("128", 128)],
)
def test_patch_sizes(written, size):
    assert Conditions.model_validate({"patch_size": written, "rate": 3}).patch_size == size


@pytest.mark.parametrize("text", ["patch_size: 0", "patch_size: 64x", "patch_size: [1, 2, 3, 4]"])
def test_wrong_patch_sizes(text):
    (line,) = lines_of(f"architecture:\n  depth: 2\ntrain:\n  {text}\n")
    assert line.startswith("4, train.patch_size")


@pytest.mark.parametrize("value", [1, 999, 1000, 1001, 123_456_789, 10**10 + 1, 2**30 + 1, 3**30])
def test_a_limit_as_text_holds_the_value(value):
    assert value <= parse_count(limit_text("macs", value)) <= value * 1.001 + 1
    assert value <= parse_bytes(limit_text("training_memory", value)) <= value * 1.001 + 1

"""The survey against brute force with the public checks and audits, and its advice."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import unet_nas
from unet_nas.audit.memory import Training, inference_memory, training_memory
from unet_nas.cli import common, main
from unet_nas.errors import InputError
from unet_nas.report import space_page
from unet_nas.space.budget import limit_text
from unet_nas.space.load import load_space
from unet_nas.space.sample import enumerate_assignments
from unet_nas.space.survey import Share, survey
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower

SPACES = Path(__file__).parents[2] / "search_spaces"
SMALL = SPACES / "exhaustive-small.yaml"

TINY = """\
architecture:
  depth: {choice: [2, 3]}
  width: {choice: [4, 8]}
  norm: {choice: [batch, {type: group, groups: 8}]}
  padding: {choice: [same, valid]}
budget: {parameters: 40k, macs: 5M, training_memory: 4MiB, inference_memory: 300KiB}
train: {patch_size: 44, batch_size: 2}
"""


def brute(text):
    """Judges every candidate with the public functions; returns rows of plain numbers."""
    space = load_space(text)
    rows = []
    for assignment in enumerate_assignments(space.part("architecture")):
        try:
            net = Architecture.model_validate(assignment.tree["architecture"])
        except ValueError:
            rows.append(None)
            continue
        row = {"digest": net.digest(), "parameters": lower(net).parameters(), "depth": net.depth}
        conditions = space.part("train")["train"]
        size = Architecture.model_validate({}).spatial_dims * (44,)
        batch = conditions["batch_size"]
        row["check"] = unet_nas.check(net, size, batch_size=batch)
        if row["check"].valid:
            graph = lower(net)
            row["macs"] = unet_nas.audit(net, patch_size=size).macs
            step = training_memory(graph, size, batch, Training())
            row["training_memory"] = step.peak_bytes
            row["inference_memory"] = inference_memory(graph, size, 1).peak_bytes
        rows.append(row)
    return space, rows


def test_a_survey_of_all_equals_brute_force():
    space, rows = brute(TINY)
    limits = space.budget.static_limits()
    valid = [row for row in rows if row is not None]
    runs = [row for row in valid if row["check"].valid]
    over = [[name for name in limits if row[name] > limits[name]] for row in runs]
    fits = [row for row, names in zip(runs, over, strict=True) if not names]
    assert len(rows) > len(valid) > len(runs) > len(fits) > 0, "the case must show something"

    found = survey(space)
    assert found.scope.judged == found.scope.candidates == len(rows)
    assert (found.valid.count, found.aligned.count) == (len(valid), len(runs))
    assert found.feasible.count == len(fits)
    assert found.networks == len({row["digest"] for row in valid})
    assert found.feasible_networks == len({row["digest"] for row in fits})
    for name in ("parameters", "macs", "training_memory", "inference_memory", "depth"):
        assert sorted(found.costs[name]) == sorted(row[name] for row in fits)
        if name != "depth":
            low, high = found.extremes[name].low, found.extremes[name].high
            costs = [row[name] for row in fits]
            assert (low[0], high[0]) == (min(costs), max(costs))

    reasons = {entry.reason.text: entry for entry in found.reasons}
    alone = Counter(names[0] for names in over if len(names) == 1)
    for name in limits:
        assert reasons[name].alone == alone[name], name
    unaligned = [row for row in valid if not row["check"].valid]
    sizes = [entry for entry in found.reasons if entry.reason.kind == "size"]
    assert sum(entry.alone for entry in sizes) <= len(unaligned)
    (rule,) = [entry for entry in found.reasons if entry.reason.kind == "rule"]
    assert rule.any == rule.alone == len(rows) - len(valid)
    assert rule.reason.text == "norm.groups must divide the N channels normalised"


def test_a_rule_on_the_limit_of_features_says_the_limit():
    text = (
        "architecture: {depth: 8, width: {int: [2000, 9000, 1000]}}\n"
        "train: {patch_size: 512, batch_size: 1}\n"
    )
    reasons = [entry.reason.text for entry in survey(load_space(text)).reasons]
    assert reasons == ["growth must give at most 1000000 features at every stage"]


def test_parameters_above_count_all_that_break_no_rule():
    space, rows = brute(TINY)
    reasons = {entry.reason.text: entry for entry in survey(space).reasons}
    limit = space.budget.parameters
    assert reasons["parameters"].any == sum(bool(row) and row["parameters"] > limit for row in rows)


def test_the_dearest_constraint_is_the_one_whose_removal_frees_most():
    space = load_space(TINY)
    found = survey(space)
    freed = {}
    for name in space.budget.static_limits():
        without = survey(load_space(TINY, [f"budget.{name}={1 << 50}"]))
        freed[name] = without.feasible.count - found.feasible.count
        (entry,) = [entry for entry in found.reasons if entry.reason.text == name]
        assert entry.alone == freed[name]
    dearest = found.dearest_constraint
    assert dearest is not None
    assert dearest.alone == max(entry.alone for entry in found.reasons)


def test_the_ready_space_is_small_and_shows_every_kind_of_verdict():
    found = survey(load_space(SMALL))
    assert found.scope.exhaustive
    assert 200 <= found.scope.judged <= 500
    assert 0 < found.feasible.count < found.aligned.count <= found.valid.count < found.scope.judged


def test_the_wide_space_is_sampled():
    found = survey(load_space(SPACES / "gpu-2d-wide.yaml"), samples=60)
    assert not found.scope.exhaustive
    assert found.scope.architectures > 10**11
    assert found.scope.judged == 60
    assert 0 < found.feasible.count < found.aligned.count < found.scope.judged
    assert found.scope.latency == 0.05


def test_the_same_seed_gives_the_same_survey():
    space = load_space(TINY)
    one, same, other = (survey(space, samples=7, seed=seed) for seed in (3, 3, 4))
    assert one == same
    assert one.costs != other.costs


def test_a_sample_is_near_the_truth():
    space = load_space(SMALL)
    truth = survey(space)
    low, high = survey(space, samples=150, seed=1).feasible.interval
    assert low <= truth.feasible.count / truth.scope.judged <= high
    assert high - low < 0.2


def test_wilson():
    # the example of Newcombe, Statist. Med. 17 (1998), method 3: 81 of 263
    low, high = Share(81, 263, exact=False).interval
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert Share(15, 148, exact=False).interval == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert Share(81, 263, exact=True).interval == (81 / 263, 81 / 263)
    assert Share(5, 5, exact=False).interval[1] == 1.0


# --- advice where nothing is feasible ----------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        ["parameters=1k"],
        ["macs=10k"],
        ["training_memory=1KiB"],
        ["inference_memory=1KiB"],
        ["parameters=1k", "macs=10k"],
        ["parameters=1k", "training_memory=1KiB"],
        ["parameters=1k", "macs=10k", "training_memory=1KiB", "inference_memory=1KiB"],
    ],
)
def test_limits_relaxed_as_advised_leave_something(limits):
    assignments = [f"budget.{limit}" for limit in limits]
    found = survey(load_space(TINY, assignments))
    assert found.feasible.count == 0
    assert found.relaxations
    for relaxation in found.relaxations:
        raised = [f"budget.{k}={limit_text(k, v)}" for k, v in relaxation.limits.items()]
        assert survey(load_space(TINY, [*assignments, *raised])).feasible.count > 0
        # and by no less: one below the value leaves nothing, where a single limit gives way
        if len(relaxation.limits) == 1:
            lower_limits = [f"budget.{k}={v - 1}" for k, v in relaxation.limits.items()]
            assert survey(load_space(TINY, [*assignments, *lower_limits])).feasible.count == 0
    text = "\n".join(space_page.verdict(found))
    assert "No candidate is feasible." in text
    assert ("together" in text) == (len(found.relaxations[0].limits) > 1)


def test_a_single_limit_is_raised_to_the_cheapest_candidate():
    text = "architecture: {depth: 2, width: {int: [4, 8]}}\nbudget: {parameters: 1k}\n"
    cheapest = lower(Architecture(depth=2, width=4)).parameters()
    (relaxation,) = survey(load_space(text)).relaxations
    assert relaxation.limits == {"parameters": cheapest}
    assert relaxation.factor == cheapest / 1_000


def test_a_limit_that_is_kept_is_not_advised():
    text = (
        "architecture: {depth: 2, width: {choice: [4, 16]}, kernel_size: {choice: [1, 5]}}\n"
        "train: {patch_size: 32}\n"
    )
    found = survey(load_space(text))
    by_macs = sorted(found.costs["macs"])
    limits = [
        f"budget.macs={by_macs[0] - 1}",
        f"budget.parameters={min(found.costs['parameters'])}",
    ]
    (relaxation,) = survey(load_space(text, limits)).relaxations
    assert relaxation.limits == {"macs": by_macs[0]}


def follow(text, remedy):
    return survey(load_space(text, [f"{remedy.path}={remedy.value}"]))


def test_sizes_and_alignments_as_advised_run():
    text = "architecture: {depth: {choice: [3, 4]}, width: 4}\ntrain: {patch_size: 45x44}\n"
    found = survey(load_space(text))
    assert found.aligned.count == 0
    for remedy in found.remedies:
        assert follow(text, remedy).aligned.count == remedy.runs > 0
    assert space_page.verdict(found)[1:] == [
        "No candidate is feasible: none runs on the patch size. Any of these helps:",
        "  train.patch_size: 48x48  (2 of 2 asked run)",
        "  train.patch_size: 48x32  (2 of 2 asked run)",
        "  train.patch_size: 32x48  (2 of 2 asked run)",
        "  architecture.align: crop  (2 of 2 asked run)",
    ]


def test_a_norm_with_one_value_asks_for_a_larger_patch():
    text = "architecture: {depth: {choice: [2, 3]}, width: 4, norm: instance}\n"
    text += "train: {patch_size: 4x4}\n"
    found = survey(load_space(text))
    assert found.aligned.count == 0
    best = found.remedies[0]
    assert (best.path, best.value) == ("train.patch_size", "8x8")
    assert follow(text, best).aligned.count == best.runs == 1


def test_a_space_of_broken_rules_says_so():
    text = "architecture: {width: {choice: [9, 11]}, norm: {type: group, groups: 8}}\n"
    found = survey(load_space(text))
    assert (found.valid.count, found.feasible.count) == (0, 0)
    lines = space_page.verdict(found)
    assert lines[1].startswith("No candidate is feasible: each breaks a rule between fields.")
    assert "norm.groups must divide the N channels normalised: use" in lines[2]


# --- conditions -----------------------------------------------------------------------------


def test_options_replace_the_sizes_of_the_file():
    space = load_space(TINY)
    found = survey(space, patch_size=(64, 64), batch_size=1)
    assert [(c.patch_size, c.batch_size) for c in found.conditions] == [((64, 64), 1)]


def test_sizes_may_be_holes():
    text = (
        "architecture: {depth: 2, width: {choice: [4, 8]}}\n"
        "train: {patch_size: {choice: [32, 33]}, batch_size: {int: [1, 3]}, rate: {float: [0, 1]}}"
    )
    found = survey(load_space(text + "\n"))
    assert (found.scope.architectures, found.scope.candidates) == (2, 12)
    assert found.scope.exhaustive, "a learning rate costs nothing"
    assert (found.aligned.count, found.networks) == (6, 2)
    assert found.costs["depth"] == [2] * 6


def test_without_a_patch_size_only_parameters_are_judged():
    text = "architecture: {depth: 2, width: {choice: [4, 64]}}\nbudget: {parameters: 100k}\n"
    found = survey(load_space(text))
    assert (found.feasible.count, list(found.extremes)) == (1, ["parameters"])
    with pytest.raises(InputError, match=r"budget.macs needs a patch size; fix: give train"):
        survey(load_space(text, ["budget.macs=1G"]))


def test_on_cuda_the_reserved_memory_is_limited():
    training = Training(device="cuda", implementation="foreach", precision="bf16")
    text = "architecture: {depth: 2, width: 8}\ntrain: {patch_size: 64, batch_size: 2}\n"
    net = Architecture(depth=2, width=8)
    found = unet_nas.audit(net, patch_size=(64, 64), batch_size=2, training=training)
    for limit, count in ((found.budgeted_bytes, 1), (found.budgeted_bytes - 1, 0)):
        space = load_space(text, [f"budget.training_memory={limit}"])
        assert survey(space, device="cuda").feasible.count == count
    assert found.budgeted_bytes > found.peak_training_bytes


@pytest.mark.parametrize("option", ["optimizer=sgd", "loss=cross_entropy", "precision=bf16"])
def test_the_section_train_decides_the_training_step(option):
    text = (
        "architecture: {depth: 2, width: 8, classes: 40}\ntrain: {patch_size: 64, batch_size: 2}\n"
    )
    name, _, value = option.partition("=")
    training = Training(**{name: value})
    peak = training_memory(
        lower(Architecture(depth=2, width=8, classes=40)), (64, 64), 2, training
    ).peak_bytes
    found = survey(load_space(text, [f"train.{option}"]))
    assert found.costs["training_memory"] == [peak]
    assert survey(load_space(text)).costs["training_memory"] != [peak]


def test_another_number_of_axes_is_a_misfit():
    text = "architecture: {spatial_dims: {int: [1, 3]}, depth: 2, width: 4}\n"
    found = survey(load_space(text), patch_size=(16, 16))
    assert (found.valid.count, found.aligned.count) == (3, 1)
    assert survey(load_space(text), patch_size=(16,)).aligned.count == 3, "one number: all axes"


def test_ranges_of_floats_are_sampled():
    found = survey(load_space("architecture: {growth: {float: [1, 2]}, width: 4}\n"), samples=5)
    assert (found.scope.infinite, found.scope.judged) == (("architecture.growth",), 5)
    assert dict(space_page.counts(found))["architectures"] == (
        "infinitely many (1 without the ranges of floats: architecture.growth)"
    )


# --- the command ----------------------------------------------------------------------------


def run(arguments, capsys):
    main_code = 0
    try:
        main(arguments)
    except SystemExit as exit_:
        main_code = exit_.code
    out = capsys.readouterr()
    return main_code or 0, out.out, out.err


def test_the_page(tmp_path, capsys):
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    code, out, err = run(["space", str(file)], capsys)
    assert (code, err) == (0, "")
    for text in (
        "architectures      16 ways to fill the holes of architecture",
        "judged             all 16",
        "norm.groups must divide the N channels normalised",
        "parameters above 40K",
        "Costs most candidates: ",
        "MACs of a forward pass of one patch",
        "memory of a training step",
        "least parameters",
        "Patch 44. MACs: multiply-accumulates",
        "batch 2, fp32, adamw (single), dice-cross-entropy, cpu: bytes of tensors",
    ):
        assert text in out
    assert "█" in out


def test_bars_are_aligned(tmp_path, capsys):
    for histogram in space_page.histograms(survey(load_space(SMALL))):
        title, *lines = histogram.splitlines()
        assert "feasible)" in title
        starts = {line.find("█") for line in lines if "█" in line}
        assert len(starts) == 1


def test_json_is_the_same_survey(tmp_path, capsys):
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    code, out, _ = run(["space", str(file), "--json", "--seed", "3"], capsys)
    data, found = json.loads(out), survey(load_space(TINY))
    assert code == 0
    assert data["feasible"]["count"] == found.feasible.count
    assert data["costs"] == found.costs
    assert data["dearest_constraint"]["alone"] == found.dearest_constraint.alone
    assert data["limits"] == found.scope.limits
    assert data["seed"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.yaml"], "absent.yaml"),
        (["--patch-size", "64y64"], "--patch-size: a size must be one to three"),
        (["--set", "width={choice: [0]}"], "architecture.width.choice[0]: must be ≥ 1, got 0"),
    ],
)
def test_bad_input_ends_with_2(arguments, message, tmp_path, capsys):
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    given = arguments if arguments[0].endswith("yaml") else [str(file), *arguments]
    code, _, err = run(["space", *given], capsys)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_survey_imports_no_torch():
    code = (
        "import sys\nfrom unet_nas.cli import main\n"
        "try:\n    main(['space', sys.argv[1], '--samples', '20'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'optuna'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(SMALL)], check=True, capture_output=True)


def test_progress_is_told_after_two_seconds(monkeypatch, capsys):
    clock = iter([0, 1, 1.9, 2.5, 2.5, 12])
    monkeypatch.setattr(common.time, "monotonic", lambda: next(clock))
    progress = common.Progress("judged")
    for done in range(1, 5):
        progress(done, 1_000)
    assert capsys.readouterr().err == "3 of 1,000 judged\n", "a file gets a line every ten seconds"

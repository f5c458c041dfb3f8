"""What a person sees: every command as a process of its own."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.searching import TEXT as STUDY

FIVE_LINES = "architecture:\n  depth: 4\n  width: 32\n  in_channels: 3\n  classes: 5\n"


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> tuple[int, str, str]:
    """Returns exit code, what was printed, and what was said on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "unet_nas.cli", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "five.yaml").write_text(FIVE_LINES)
    return tmp_path


# --- check --------------------------------------------------------------------------------


def test_check_says_valid_and_the_output_size():
    code, printed, said = run("check", "preset:unet-2015", "--patch-size", "572x572")
    assert (code, said) == (0, "")
    assert printed == (
        "valid: preset:unet-2015 runs on 572x572 (batch 1, train mode)\n"
        "\n"
        "  output size  388x388\n"
        "  parameters   31,030,658\n"
        "  valid sizes  every size from 188 on, on every axis\n"
    )


def test_check_lists_every_mismatch_its_cause_and_what_helps(folder):
    code, printed, said = run("check", "five.yaml", "--patch-size", "250x250", cwd=folder)
    assert (code, said) == (2, "")
    assert printed == (
        "not valid: five.yaml does not run on 250x250 (batch 1, train mode)\n"
        "\n"
        "  axes 0 and 1: decoder.fusions.3 needs equal sizes, but encoder.stages.3 gives 31 and "
        "decoder.ups.3 gives 30\n"
        "    because encoder.downs.3 meets 31 and gives 15, which comes up to 30\n"
        "  axes 0 and 1: decoder.fusions.1 needs equal sizes, but encoder.stages.1 gives 125 and "
        "decoder.ups.1 gives 124\n"
        "    because encoder.downs.1 meets 125 and gives 62, which comes up to 124\n"
        "\n"
        "  any one of these helps:\n"
        "    --patch-size 256x256  output 256x256, the next larger\n"
        "    --patch-size 240x240  output 240x240, the next smaller\n"
        "    --set align=crop      output 240x240\n"
        "    --set align=pad       output 250x250\n"
        "    --set align=resize    output 250x250\n"
        "\n"
        "  parameters   7,766,117\n"
        "  valid sizes  16, 32, 48, … (16k, at least 16), on every axis\n"
    )


def test_check_knows_the_batch_and_the_mode(folder):
    code, printed, _ = run("check", "five.yaml", "--patch-size", "16x16", cwd=folder)
    assert code == 2
    assert "bottleneck.convs.0.norm needs more than one value to normalise, got a map of 1x1 " in (
        printed
    )
    for option in ("--batch 2", "--mode eval", "--patch-size 32x16"):
        assert f"    {option} " in printed
    assert run("check", "five.yaml", "--patch-size", "16x16", "--batch", "2", cwd=folder)[0] == 0
    assert run("check", "five.yaml", "--patch-size", "16x16", "--mode", "eval", cwd=folder)[0] == 0


def test_check_without_a_patch_size_says_which_sizes_are_valid(folder):
    code, printed, _ = run("check", "five.yaml", cwd=folder)
    assert code == 0
    assert printed.splitlines()[0] == "valid: five.yaml"
    assert "16, 32, 48, … (16k, at least 16), on every axis" in printed


def test_check_of_a_network_that_runs_on_no_size_says_why_and_what_helps():
    code, printed, _ = run("check", "preset:unet-2015", "--set", "align=strict")
    assert code == 2
    assert printed.startswith("not valid: preset:unet-2015 runs on no patch size\n")
    assert "convolutions without padding in between take" in printed
    for policy in ("crop", "pad", "resize"):
        assert f"--set align={policy}" in printed


def test_check_json_has_stable_keys(folder):
    code, printed, _ = run("check", "five.yaml", "--patch-size", "250x256", "--json", cwd=folder)
    found = json.loads(printed)
    assert code == 2
    assert set(found) == {
        *("valid", "problems", "fixes", "input_size", "output_size", "nearest_valid_sizes"),
        *("valid_sizes", "parameters", "batch_size", "mode"),
    }
    assert found["valid"] is False
    assert found["input_size"] == [250, 256]
    assert found["output_size"] is None
    assert found["nearest_valid_sizes"] == [[240, 256], [256, 256]]
    assert found["valid_sizes"] == [{"minimum": 16, "step": 16, "residues": [0]}] * 2
    assert found["parameters"] == 7766117
    assert found["problems"][0] == {
        "name": "decoder.fusions.3.concat",
        "where": "decoder stage 3",
        "axis": 0,
        "reason": "mismatch",
        "sizes": [31, 30],
        "message": "decoder.fusions.3 needs equal sizes, but encoder.stages.3 gives 31 and "
        "decoder.ups.3 gives 30",
        "why": "encoder.downs.3 meets 31 and gives 15, which comes up to 30",
    }
    assert found["fixes"][0] == {
        "kind": "patch_size",
        "value": [256, 256],
        "output_size": [256, 256],
        "option": "--patch-size 256x256",
    }


def test_every_fix_of_check_works_as_it_is_printed(folder):
    sized = ("check", "five.yaml", "--patch-size", "250x17")
    fixes = json.loads(run(*sized, "--json", cwd=folder)[1])["fixes"]
    assert len(fixes) >= 4
    for fix in fixes:
        code, printed, _ = run(*sized, *fix["option"].split(), "--json", cwd=folder)
        assert code == 0, fix
        assert json.loads(printed)["output_size"] == fix["output_size"]


# --- show, presets, operators --------------------------------------------------------------


def test_show_prints_every_part_with_sizes():
    code, printed, _ = run("show", "preset:unet-2015", "--patch-size", "572x572")
    assert code == 0
    rows = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert rows["bottleneck"].split()[-3:] == ["1024", "28x28", "14,157,824"]
    assert rows["total"].split()[-1] == "31,030,658"
    assert rows["head"].split()[-2] == "388x388"


def test_show_fits_a_terminal_of_80_columns():
    _, printed, _ = run("show", "preset:unet-2015", "--patch-size", "572x572", COLUMNS="80")
    assert max(map(len, printed.splitlines())) <= 80


def test_show_json():
    _, printed, _ = run("show", "preset:unet-2015", "--json")
    found = json.loads(printed)
    assert set(found) == {"parameters", "digest", "input_size", "stages"}
    assert set(found["stages"][0]) == {"name", "what", "channels", "size", "parameters"}
    assert sum(stage["parameters"] for stage in found["stages"]) == found["parameters"] == 31030658


def test_show_on_a_size_that_does_not_fit_points_to_check(folder):
    code, printed, said = run("show", "five.yaml", "--patch-size", "250x250", cwd=folder)
    assert (code, printed) == (2, "")
    assert said == (
        "unet-nas: axis 0: decoder.fusions.3.concat needs equal sizes, got 31 and 30; "
        "see unet-nas check five.yaml --patch-size 250x250\n"
    )


def test_presets():
    code, printed, _ = run("presets")
    found = json.loads(run("presets", "--json")[1])["presets"]
    assert code == 0
    assert "preset:unet-2015" in printed
    counts = {entry["name"]: entry["parameters"] for entry in found}
    assert counts["unet-2015"] == 31030658
    for entry in found:
        assert set(entry) == {"name", "about", "reference", "parameters"}
        assert all(entry.values()), entry


def test_operators():
    code, printed, _ = run("operators")
    found = json.loads(run("operators", "--json")[1])["operators"]
    assert code == 0
    names = {(entry["field"], entry["name"]) for entry in found}
    assert {("down", "max_pool"), ("up", "transposed_conv"), ("fusion", "none")} <= names
    (strided,) = [entry for entry in found if entry["name"] == "strided_conv"]
    padding = next(option for option in strided["options"] if option["name"] == "padding")
    assert padding["choices"] == ["same", "valid"]
    for entry in found:
        assert entry["meaning"], entry
        assert f"  {entry['name']}: {entry['meaning']}" in printed
        for option in entry["options"]:
            assert set(option) == {"name", "default", "choices", "meaning"}
            assert option["meaning"], (entry["name"], option)


def test_help_without_arguments_names_every_command():
    _, printed, said = run("--help")
    for command in ("check", "show", "presets", "operators", "audit"):
        assert f" {command} " in printed + said


# --- bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("architecture:\n  widht: 32\n", "x.yaml:2, architecture.widht: unknown key 'widht'; did"),
        ("architecture:\n  depth: four\n", "x.yaml:2, architecture.depth: must be an integer, got"),
        ("architecture:\n  depth: 9\n", "x.yaml:2, architecture.depth: must be ≤ 8, got 9"),
        (
            "architecture:\n  depth: 3\n  down: [max_pool, max_pool]\n",
            "x.yaml:3, architecture.down: must have 3 entries (depth), one per stage",
        ),
        (
            "architecture:\n  width: 8\n  features: [1, 2, 3, 4, 5]\n",
            "x.yaml:2, architecture.width: must be left out where the list `features` is given",
        ),
        ("architecture: [\n", "x.yaml:2:1: this is not YAML"),
        ("architecture:\n  depth: &a 3\n", "x.yaml:2:10, architecture.depth: anchors and aliases"),
        ("a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n", "anchors and aliases are not allowed"),
        ("architecture:\n  depth: 3\n  depth: 4\n", "x.yaml:3:3, architecture.depth: the key"),
        ("[" * 200_000, "values must be nested at most 64 levels deep"),
        ("architecture:\n  width: 1" + "0" * 400 + "\n", "x.yaml:2:10, architecture.width: an int"),
        ("architecture:\n  width: 1000000000000\n", "x.yaml:2, architecture.width: must be ≤"),
        ("architecture:\n  growth: 1e400\n", "x.yaml:2, architecture.growth: must be"),
        ("architecture:\n  norm: {type: group, groups: 7}\n", "x.yaml:2, architecture.norm.groups"),
        ("- depth\n", "x.yaml:1: a document must be a mapping"),
        ("", "x.yaml is empty"),
        ("a" * 10_000_000, "x.yaml is larger than 1 MB"),
        (
            "architecture:\n  depth: {choice: [3, 4]}\n",
            "architecture.depth: must be one value here: a domain makes the file a search space",
        ),
    ],
)  # fmt: skip
def test_bad_files_exit_2_with_file_line_and_field(tmp_path, text, said):
    (tmp_path / "x.yaml").write_text(text)
    code, printed, errors = run("check", "x.yaml", cwd=tmp_path)
    assert (code, printed) == (2, "")
    assert said in errors
    assert len(errors) < 2000


def test_all_faults_of_a_file_at_once(tmp_path):
    text = (
        "architecture:\n  widht: 3\n  depth: 0\n  norm: bach\n  down:\n    type: max_pool\n"
        "    stride: -2\n  padding_mode: zero\n"
    )
    (tmp_path / "x.yaml").write_text(text)
    code, _, errors = run("check", "x.yaml", cwd=tmp_path)
    assert code == 2
    assert [line.split(",")[0] for line in errors.splitlines()] == [
        f"x.yaml:{line}" for line in (2, 3, 4, 7, 8)
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "x.yaml is a directory"),
        (lambda path: path.write_bytes(b"architecture:\n  depth: \xff\n"), "x.yaml:2: must be UTF"),
        (lambda path: None, "x.yaml: there is no such file"),
        (lambda path: path.write_bytes(b"a: \x00\n"), "x.yaml:1:4: must be text without control"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_text(tmp_path, make, said):
    make(tmp_path / "x.yaml")
    code, printed, errors = run("check", "x.yaml", cwd=tmp_path)
    assert (code, printed) == (2, "")
    assert said in errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["preset:unet-2051"], "no preset is called 'unet-2051'; did you mean preset:unet-2015?"),
        (["preset:unet-2016"], "called 'unet-2016'; did you mean preset:unet-2015?"),
        (["preset:unet3d-2015"], "called 'unet3d-2015'; did you mean preset:unet3d-2016?"),
        (["preset:"], "no preset is called ''; there are"),
        (["preset:../../x"], "no preset is called"),
        (["five.yml"], "five.yml: there is no such file; did you mean five.yaml?"),
        (["five.yaml", "--patch-size", "572x"], "--patch-size: a size must be"),
        (["five.yaml", "--patch-size", "0x4"], "--patch-size: a size must be"),
        (["five.yaml", "--patch-size", "-4x4"], "--patch-size: a size must be"),
        (["five.yaml", "--patch-size", "1" + "0" * 30], "--patch-size: a size must be"),
        (["five.yaml", "--patch-size", "64"], "for a 2D network must have 2 numbers, got 1 (64)"),
        (["five.yaml", "--patch-size", "64x64x64"], "must have 2 numbers, got 3 (64x64x64)"),
        (["five.yaml", "--set", "depht=3"], "--set depht=3, architecture.depht: unknown key"),
        (["five.yaml", "--set", "depth=x"], "--set depth=x, architecture.depth: must be an int"),
        (["five.yaml", "--set", "depth"], "must be path=value, such as depth=4"),
        (["five.yaml", "--batch", "0"], "--batch"),
        (["five.yaml", "--mode", "test"], "--mode"),
        (["five.yaml", "--nonsense"], "--nonsense"),
        ([], "FILE"),
    ],
)
def test_bad_options_exit_2_and_name_what_is_wrong(folder, arguments, said):
    code, printed, errors = run("check", *arguments, cwd=folder, COLUMNS="200")
    assert (code, printed) == (2, "")
    assert said in errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "study.yaml", "--timeout", "five"], "--timeout: a duration must be"),
        (
            ["train", "five.yaml", "--out", "o", "--seconds", "five"],
            "--seconds: a duration must be",
        ),
        (["audit", "five.yaml", "--patch-size", "x"], "--patch-size: a size must be"),
        (
            ["audit", "five.yaml", "--patch-size", "64x64", "--budget", "4"],
            "--budget: needs a unit: 4 means 4 bytes; fix: write 4GiB",
        ),
        (
            ["profile", "five.yaml", "--patch-size", "64x64", "--time-limit", "1 hr"],
            "--time-limit: unknown unit 'hr'",
        ),
    ],
)
def test_quantities_that_are_none_name_their_option(folder, arguments, said):
    (folder / "study.yaml").write_text(STUDY)
    code, printed, errors = run(*arguments, cwd=folder)
    assert (code, printed) == (2, "")
    assert said in errors


@pytest.mark.parametrize("seed", ["99999999999999999999999", str(2**32 - 1), "-1"])
@pytest.mark.parametrize(
    "arguments",
    [["search", "study.yaml"], ["train", "five.yaml", "--out", "o"], ["diagnose", "five.yaml"]],
)
def test_a_seed_out_of_range_names_its_option(folder, arguments, seed):
    (folder / "study.yaml").write_text(STUDY)
    code, printed, errors = run(*arguments, "--seed", seed, cwd=folder, COLUMNS="200")
    assert (code, printed) == (2, "")
    limit = "greater than or equal to 0" if seed == "-1" else "less than or equal to 4294966271"
    assert f"'--seed': Input should be {limit}" in errors


def test_set_overrides_a_field(folder):
    printed = run("check", "five.yaml", "--set", "depth=2", "--set", "norm=none", cwd=folder)[1]
    assert "4, 8, 12, … (4k, at least 4)" in printed


def test_a_huge_patch_is_answered(folder):
    code, printed, _ = run("check", "five.yaml", "--patch-size", "999999999x16", cwd=folder)
    assert code == 2
    assert "--patch-size 1000000000x16" in printed


# --- where output goes ---------------------------------------------------------------------


@pytest.mark.parametrize("command", [["operators"], ["show", "preset:unet-2015"], ["presets"]])
def test_a_reader_that_goes_away_is_no_failure(command):
    with subprocess.Popen(
        [sys.executable, "-m", "unet_nas.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_terminal_without_the_characters_shows_question_marks(folder):
    code, printed, _ = run("check", "five.yaml", cwd=folder, PYTHONIOENCODING="ascii")
    assert code == 0
    assert "16, 32, 48, ?" in printed


STATIC_COMMANDS = [
    "import unet_nas",
    "from unet_nas import Architecture, check, lower, preset, load_architecture, shapes",
    *(
        f"from unet_nas.cli import main; main({arguments!r})"
        for arguments in (
            ["--help"],
            ["check", "preset:unet-2015", "--patch-size", "572x572"],
            ["check", "preset:unet-2015", "--patch-size", "9x9"],
            ["show", "preset:unet-2015", "--patch-size", "572x572"],
            ["presets"],
            ["operators"],
            ["operators", "--json"],
            ["audit", "preset:unet-2015", "--patch-size", "572x572"],
            ["diagnose", "preset:unet-2015", "--patch-size", "572x572", "--tables"],
            ["diagnose", "--example"],
        )
    ),
]


@pytest.mark.parametrize("code", STATIC_COMMANDS)
def test_nothing_static_imports_torch(code):
    asked = (
        "import sys, atexit\n"
        "heavy = lambda: {'torch', 'numpy', 'monai', 'optuna'} & set(sys.modules)\n"
        "atexit.register(lambda: print(sorted(heavy()), file=sys.stderr))\n" + code
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, encoding="utf-8", check=False
    )
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_a_static_command_answers_quickly():
    """Generous: the limit is for a slip such as an import of torch (``benchmarks/startup.py``)."""
    run("check", "preset:unet-2015", "--patch-size", "572x572")
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run("check", "preset:unet-2015", "--patch-size", "572x572")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 1.5

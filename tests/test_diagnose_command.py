"""The command ``diagnose``, and the page that walks through every claim with it."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

from unet_nas.cli import main
from unet_nas.errors import InputError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "principles.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"^\| (.+?) \| `(.+?)` \| \[\w+\]\((.+?)\) \| `(.+?)::(.+?)` \|$", PAGE, re.MULTILINE
)


def run(capsys, *arguments):
    """Returns the exit code, what was printed, and what was said on stderr."""
    with pytest.raises(SystemExit) as exit_:
        main(["diagnose", *arguments])
    printed = capsys.readouterr()
    return exit_.value.code or 0, printed.out, printed.err


def test_findings_come_first_and_name_their_source(capsys):
    code, out, _ = run(capsys, "preset:unet-2015", "--patch-size", "572x572")
    assert code == 0
    assert out.splitlines()[:4] == [
        "preset:unet-2015 on 572x572",
        "",
        "Warnings:",
        "  1. the output is 388x388 for an input of 572x572: 92 rows and columns are lost at each "
        "side, and 54 % of the input is never predicted",
    ]
    assert out.count("[Ronneberger") == 1


def test_a_patch_that_does_not_fit_is_exit_code_2_with_the_fix(capsys):
    arguments = ("--set", "padding=same", "--set", "align=strict", "--patch-size", "572x570")
    code, out, _ = run(capsys, "preset:unet-2015", *arguments)
    assert code == 2
    assert "pad the input from 572 to 576" in out
    assert "pad the input from 570 to 576" in out


def test_tables_of_parts_stages_and_fusions(capsys):
    _, out, _ = run(capsys, "preset:unet-2015", "--patch-size", "572x572", "--tables")
    assert re.search(r"encoder.stages.3 +512 x 64x64 +68 +8 +0 +13-14 +16-17", out)
    assert re.search(r"head +2 x 388x388 +188-204 +1 +0 +1 +1 +130", out)
    assert re.search(r"as it is +73,792", out)


def test_json_has_stable_keys(capsys):
    code, out, _ = run(capsys, "preset:unet-2015", "--json")
    found = json.loads(out)
    assert code == 0
    assert list(found) == ["patch_size", "patch_given", "findings", "analyses", "measured"]
    assert found["patch_size"] == [256, 256]
    assert found["patch_given"] is False
    assert {"analysis", "severity", "weight", "text", "fix", "source"} == set(found["findings"][0])
    assert found["analyses"]["alignment"]["result"]["output_size"] == [68, 68]
    assert all(set(a) == {"title", "source", "result"} for a in found["analyses"].values())


def test_one_experiment_alone_with_its_figures(capsys, tmp_path):
    arguments = ("--measure", "--only", "folding", "--set", "depth=1", "--set", "width=4")
    folder = tmp_path / "figures"
    code, out, err = run(capsys, "preset:unet-2015", *arguments, "--figures", str(folder))
    assert code == 0
    assert "Measured:" in out
    assert "encoder.downs.0 gives back waves" in out
    assert "measuring folding" in err
    assert [path.name for path in folder.iterdir()] == ["folding.svg"]
    assert run(capsys, "preset:unet-2015", *arguments, "--figures", str(folder))[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "needs FILE"),
        (("preset:unet-2015", "--only", "spectra"), "it needs --measure"),
        (("preset:unet-2015", "--only", "spectre"), "takes one of receptive_field"),
        (("preset:unet-2015", "--only", "aliasing", "--tables"), "does not go with --only"),
        (("preset:unet-2015", "--patch-size", "64"), "must have 2 numbers"),
        (("preset:unet-2015", "--patch-size", "0x4"), "--patch-size"),
    ],
)
def test_bad_options_exit_2_and_say_why(capsys, arguments, said):
    code, _, err = run(capsys, *arguments)
    assert code == InputError.exit_code
    assert said in err
    assert err.count("\n") == 1


# --- the page -----------------------------------------------------------------------------


def test_every_claim_has_a_command_a_figure_and_a_test():
    assert len(ROWS) >= 16
    for claim, command, figure, file, name in ROWS:
        assert (ROOT / "docs" / figure).exists(), claim
        functions = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        assert name in {f.name for f in functions if isinstance(f, ast.FunctionDef)}, claim
        assert shlex.split(command)[0].startswith("--"), claim


@pytest.mark.parametrize(
    "command", sorted({command for _, command, *_ in ROWS if "--measure" not in command})
)
def test_every_static_command_of_the_table_answers(capsys, command):
    code, out, err = run(
        capsys, "preset:unet-2015", "--patch-size", "572x572", *shlex.split(command)
    )
    assert (code, err) == (0, "")
    assert out.strip()


def test_the_figures_are_small_and_say_what_is_on_their_axes():
    files = list((ROOT / "docs" / "figures").glob("*.svg"))
    assert {path.name for path in files} == {Path(figure).name for _, _, figure, *_ in ROWS}
    assert sum(path.stat().st_size for path in files) < 1_500_000

"""The page for newcomers, carried out on a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the extended package and the page's file."""
    folder = tmp_path_factory.mktemp("extended")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "unet_nas", folder / "unet_nas", ignore=ignored)
    class_text, union_text = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    file = folder / "unet_nas" / "operators" / "downsample.py"
    before, union, after = file.read_text(encoding="utf-8").partition(
        "AnyDownsample = (\n    MaxPool\n"
    )
    assert union
    file.write_text(f"{before}{class_text}\n\n{union_text}{after}", encoding="utf-8")
    (yaml_text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (folder / "new.yaml").write_text(yaml_text, encoding="utf-8")
    return folder


def python(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert done.stderr == "", done.stderr
    return done.returncode, done.stdout


def unet_nas(folder: Path, *arguments: str) -> tuple[int, str]:
    return python(folder, "-m", "unet_nas.cli", *arguments)


def test_the_page_shows_what_check_prints(extended):
    ((command, shown),) = re.findall(r"```console\n\$ unet-nas (.*?)\n(.*?)```", PAGE, re.DOTALL)
    assert unet_nas(extended, *command.split()) == (2, shown)


def test_the_list_of_operators_knows_it_with_its_options(extended):
    found = json.loads(unet_nas(extended, "operators", "--json")[1])["operators"]
    (entry,) = [operator for operator in found if operator["name"] == "blur_pool"]
    assert entry["field"] == "down"
    assert (
        entry["meaning"] == "A binomial blur filter with a stride, and nothing else (Zhang 2019)."
    )
    assert [(option["name"], option["default"]) for option in entry["options"]] == [
        ("stride", "2"),
        ("taps", "3"),
    ]


def test_show_and_audit_count_it(extended):
    shown = unet_nas(extended, "show", "new.yaml", "--patch-size", "64x64")[1]
    (row,) = [line for line in shown.splitlines() if " encoder.downs.0 " in line]
    assert "blur 3x3" in row
    code, printed = unet_nas(extended, "audit", "new.yaml", "--patch-size", "64x64", "--json")
    assert code == 0
    assert '"encoder.downs.0' in printed or "483170" in printed


def test_a_wrong_option_has_its_line(extended):
    (extended / "bad.yaml").write_text("architecture:\n  down:\n    type: blur_pool\n    tabs: 3\n")
    done = subprocess.run(
        [sys.executable, "-m", "unet_nas.cli", "check", "bad.yaml"],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=extended,
        env={**os.environ, "PYTHONPATH": str(extended)},
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == "bad.yaml:4, architecture.down.tabs: unknown key 'tabs'; did you mean 'taps'?\n"
    )


def test_the_module_runs_and_agrees_with_the_static_sizes(extended):
    code = (
        "import torch, unet_nas as u\n"
        "assert 'extended' in u.__file__, u.__file__\n"
        "n = u.load_architecture('new.yaml')\n"
        "out = u.build(n)(torch.zeros(1, 1, 64, 72))\n"
        "print(tuple(out.shape[2:]) == u.check(n, (64, 72)).output_size)\n"
        "print(sum(p.numel() for p in u.build(n).parameters()) == u.lower(n).parameters())\n"
    )
    assert python(extended, "-c", code) == (0, "True\nTrue\n")

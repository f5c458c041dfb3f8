"""The command export on what a search trained."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from tests.support.exporting import network, run
from tests.support.runs import NETWORKS, PREPROCESSING, make_run
from unet_nas.records import read_run
from unet_nas.train.data.preprocessing import Preprocessing, Statistics
from unet_nas.train.data.raw import RawCase
from unet_nas.unet.build import build

FILES = {"architecture.yaml", "model.py", "weights.safetensors", "README.md", "preprocessing.json"}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("work") / "reports" / "cells")


def exported(folder: Path) -> torch.nn.Module:
    """Returns the network of an exported folder, as its README says."""
    found = network(folder).eval()
    found.load_state_dict(load_file(folder / "weights.safetensors"))
    return found


@pytest.mark.parametrize(
    ("trial", "lies_in", "name"),
    [
        ("0", "trials/0000", "#0"),
        ("1", "trials/0001", "#1"),
        ("#1", "trials/0001", "#1"),
        ("best", "trials/0001", "#1"),
        ("preset:small", "baselines/preset-small", "preset:small"),
        ("preset-small", "baselines/preset-small", "preset:small"),
        ("1/seed-3", "finalists/0001/seed-3", "#1"),
        ("#1/seed-3", "finalists/0001/seed-3", "#1"),
    ],
)
def test_a_trained_network_comes_out_bit_for_bit(run_folder, tmp_path, trial, lies_in, name):
    assert run("export", f"{run_folder}#{trial}", "--to", tmp_path / "to") == 0
    assert {path.name for path in (tmp_path / "to").iterdir()} == FILES
    ours = build(NETWORKS[name]).eval()
    ours.load_state_dict(load_file(run_folder / lies_in / "weights.safetensors"))
    x = torch.randn(2, 1, 32, 48)
    wanted, got = ours(x), exported(tmp_path / "to")(x)
    several = isinstance(wanted, list)
    assert several == bool(NETWORKS[name].deep_supervision)
    for a, b in zip(wanted, got, strict=True) if several else [(wanted, got)]:
        assert torch.equal(a, b)


def test_a_run_is_found_by_its_name(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(run_folder.parents[1])
    assert run("export", "cells#best", "--to", tmp_path / "to") == 0
    assert run("export", "cels#best", "--to", tmp_path / "other") == 2
    errors = capsys.readouterr().err
    assert "no run is called 'cels': cels and reports/cels are none; there are cells" in errors


@pytest.mark.parametrize("command", ["check", "show", "audit", "diagnose"])
def test_other_commands_take_a_trial_too(run_folder, capsys, command):
    assert run(command, f"{run_folder}#1", "--patch-size", "32x48", "--json") in (0, 2)
    ours = capsys.readouterr().out
    assert run(
        command, run_folder / "trials/0001/architecture.yaml", "--patch-size", "32x48", "--json"
    ) in (0, 2)
    written = capsys.readouterr().out.replace(f"{run_folder}/trials/0001/architecture.yaml", "@")
    assert ours.replace(f"{run_folder}#1", "@") == written != ""
    assert run(command, f"{run_folder}#mine", "--patch-size", "32x48") == 2
    assert "mine is a network of Python code" in capsys.readouterr().err


def test_the_longer_training_is_pointed_at(run_folder, tmp_path, capsys):
    assert run("export", f"{run_folder}#1", "--to", tmp_path / "brief") == 0
    hint = f"#1 was trained for longer too: export '{run_folder}#1/seed-3'"
    assert hint in capsys.readouterr().out
    assert "longer too: `1/seed-3` of its run" in (tmp_path / "brief/README.md").read_text()
    assert run("export", f"{run_folder}#1/seed-3", "--to", tmp_path / "long") == 0
    long = (tmp_path / "long/README.md").read_text()
    assert "trained for longer" not in capsys.readouterr().out + long


def test_the_folder_says_how_to_use_it(run_folder, tmp_path):
    assert run("export", f"{run_folder}#1/seed-3", "--to", tmp_path) == 0
    assert json.loads((tmp_path / "preprocessing.json").read_text()) == PREPROCESSING
    text = (tmp_path / "README.md").read_text()
    for words in (
        "# cells: finalist #1, seed 3",
        "below percentile 1 and above percentile 99",
        "each channel of each image minus its mean",
        "spacing of 0.5x0.5 mm",
        "0 background, 1 nucleus, 2 membrane; `logits.argmax(1)`",
        "Scores on the test cases\n\n| metric | value |\n|:--|--:|\n| dice | 0.7 |",
        "Scores on the validation cases\n\n| metric | value |\n|:--|--:|\n| dice | 0.8 |",
    ):
        assert words in text


def test_the_header_of_the_run_may_know_the_preprocessing(run_folder, tmp_path):
    copy = shutil.copytree(run_folder, tmp_path / "run")
    (copy / "trials/0001/preprocessing.json").unlink()
    assert run("export", f"{copy}#1", "--to", tmp_path / "without") == 0
    assert not (tmp_path / "without/preprocessing.json").exists()
    assert 'data: `{"source": "cells/"}`' in (tmp_path / "without/README.md").read_text()
    header = read_run(copy).header
    header = replace(header, data={**header.data, "preprocessing": PREPROCESSING})
    (copy / "run.json").write_text(header.to_json())
    assert run("export", f"{copy}#1", "--to", tmp_path / "with") == 0
    assert json.loads((tmp_path / "with/preprocessing.json").read_text()) == PREPROCESSING


@pytest.mark.parametrize("trial", ["0", "preset:small"])
def test_the_code_of_the_readme_runs(run_folder, tmp_path, monkeypatch, trial):
    assert run("export", f"{run_folder}#{trial}", "--to", tmp_path, "--onnx") == 0
    torch_code, onnx_code, _ = (tmp_path / "README.md").read_text().split("```python\n")[1:]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    image = torch.randn(1, 1, 32, 48)
    scope: dict = {"image": image}
    exec(torch_code.split("```")[0], scope)
    other: dict = {"image": image.numpy()}
    exec(onnx_code.split("```")[0], other)
    assert scope["logits"].shape == (1, 3, 32, 48)
    torch.testing.assert_close(torch.from_numpy(other["logits"]), scope["logits"])


@pytest.mark.parametrize("clip", [None, (2.0, 90.0)])
@pytest.mark.parametrize("kind", ["image", "dataset", "scale", "none"])
def test_the_readme_prepares_images_as_training_did(run_folder, tmp_path, kind, clip):
    """The code that a person copies gives the values that the network was trained on."""
    pixels = np.random.default_rng(0).integers(0, 4_000, (2, 9, 11)).astype(np.uint16)
    raw = RawCase(pixels, None, (1.0, 1.0))
    steps = Preprocessing(2, 2, ("background", "cell"), normalise=kind, clip=clip)
    if kind == "dataset":
        steps = steps.with_statistics(Statistics.of([raw, raw], clip))
    copy = shutil.copytree(run_folder, tmp_path / "run")
    (copy / "trials/0001/preprocessing.json").write_text(json.dumps(steps.to_json()))
    assert run("export", f"{copy}#1", "--to", tmp_path / "to") == 0
    code = (tmp_path / "to/README.md").read_text().split("```python\n")[-1].split("```")[0]
    scope: dict = {}
    exec(code, scope)
    np.testing.assert_allclose(scope["prepare"](pixels)[0], steps.image(raw), rtol=1e-5, atol=1e-6)


def test_an_onnx_file_comes_with_its_tolerance(run_folder, tmp_path, capsys):
    assert run("export", f"{run_folder}#1", "--to", tmp_path, "--onnx") == 0
    printed = capsys.readouterr().out
    assert "at 1x1x32x48 and " in printed
    assert "(tolerance 0.001)" in printed
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = torch.randn(3, 1, 64, 16)
    torch.testing.assert_close(
        torch.from_numpy(session.run(["logits"], {"image": x.numpy()})[0]),
        exported(tmp_path)(x).detach(),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["{}#9"],
            "there is no trial '9'; the run has trials 0, 1, 2; mine, preset:small, 1/seed-3",
        ),
        (["{}#preset:smal"], "did you mean preset:small?"),
        (["{}#2"], "#2 has no weights: the loss was NaN at step 7"),
        (["{}#mine"], "mine is a network of Python code (python:mine:net)"),
        (["nowhere#1"], "no run is called 'nowhere': nowhere and reports/nowhere are none"),
        (["{}#1", "--set", "depth=3"], "--set is for files"),
        (["{}#1", "--patch-size", "33x48"], "needs"),
        (["preset:phasenet", "--onnx"], "--onnx needs weights"),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(
    run_folder, tmp_path, capsys, arguments, message
):
    given = [argument.format(run_folder) for argument in arguments]
    assert run("export", *given, "--to", tmp_path / "to") == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "to").exists()


def test_no_network_is_put_beside_an_onnx_file_of_another(run_folder, tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(b"of another")
    assert run("export", f"{run_folder}#1", "--to", tmp_path, "--force") == 2
    assert "may be of another network" in capsys.readouterr().err

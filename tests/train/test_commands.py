"""The commands train and predict, on a folder of images."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.train.blobs import case
from unet_nas.cli import main

FILE = """\
name: small
architecture: {depth: 1, width: 4}
train:
  {patch_size: 24, batch_size: 2, steps: 24, validations: 3, learning_rate: 0.01, augment: null}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder with images and masks, and an architecture beside them."""
    root = tmp_path_factory.mktemp("blobs")
    for part in ("images", "masks"):
        (root / "data" / part).mkdir(parents=True)
    for index in range(10):
        made = case(index, (32, 40))
        grey = np.clip(made.image[0] * 60 + 60, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(root / "data" / "images" / f"{index}.png")
        Image.fromarray(made.target * 255).save(root / "data" / "masks" / f"{index}.png")
    (root / "small.yaml").write_text(FILE)
    return root


def run(capsys, *arguments):
    """Runs a command in this process; returns exit code, stdout and stderr."""
    try:
        main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture(scope="module")
def trained(folder):
    """Trains once, in a process of its own that is killed on the way, then to the end."""
    out = folder / "trained"
    command = [sys.executable, "-m", "unet_nas.cli", "train", folder / "small.yaml"]
    command += ["--data", folder / "data", "--out", out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    lines = [killed.stderr.readline()]
    while not lines[-1].startswith("step 8"):  # the first validation was saved
        lines.append(killed.stderr.readline())
        assert lines[-1], "".join(lines)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert {path.name for path in out.iterdir()} == {"checkpoint.safetensors"}
    with pytest.raises(SystemExit) as ended:
        main([str(part) for part in command[3:]])
    assert not ended.value.code
    return out


def test_train_goes_on_after_a_kill_and_writes_all_that_is_needed(trained, capsys):
    record = json.loads((trained / "training.json").read_text())
    assert [point["step"] for point in record["history"]] == [8, 16, 24]
    assert record["patch_size"] == [24, 24]
    assert record["validation"]["dice"] > 0.5
    assert set(record["test"]) == set(record["validation"])
    assert record["preprocessing"]["in_channels"] == 1
    assert "left out" in record["conventions"]["dice"]
    assert {path.name for path in trained.iterdir()} == {
        "architecture.yaml",
        "checkpoint.safetensors",
        "training.json",
        "weights.safetensors",
    }


def test_train_prints_a_table_and_json(trained, folder, capsys):
    command = ("train", folder / "small.yaml", "--data", folder / "data", "--out", trained)
    code, out, err = run(capsys, *command)
    assert code == 0
    assert "step 8" not in err  # it was finished, so nothing is trained again
    assert "Validation" in out
    assert "dice[foreground]" in out
    code, out, _ = run(capsys, *command, "--json")
    assert json.loads(out)["validation"]["dice"] > 0.5


def test_predict_writes_files_like_the_images(trained, folder, tmp_path, capsys):
    out = tmp_path / "predicted"
    images = folder / "data" / "images"
    code, said, _ = run(capsys, "predict", trained, images, "--out", out)
    assert (code, said.strip()) == (0, f"10 files in {out}")
    dice = []
    for index in range(10):
        found = np.array(Image.open(out / f"{index}.png"))
        truth = np.array(Image.open(folder / "data" / "masks" / f"{index}.png"))
        assert found.shape == truth.shape
        assert set(np.unique(found)) <= {0, 255}  # as the masks of training are stored
        dice.append(2 * ((found > 0) & (truth > 0)).sum() / ((found > 0).sum() + (truth > 0).sum()))
    assert np.mean(dice) > 0.5
    code, _, err = run(capsys, "predict", trained, images, "--out", out)
    assert code == 2
    assert "exists already; --force replaces it" in err
    assert run(capsys, "predict", trained, images / "3.png", "--out", out, "--force")[0] == 0


def test_predict_refuses_what_would_harm_or_cannot_be(trained, folder, tmp_path, capsys):
    images = folder / "data" / "images"
    before = sorted(path.stat().st_mtime_ns for path in images.iterdir())
    for arguments, said in [
        ((trained, images, "--out", images, "--force"), "where the images lie"),
        ((trained, tmp_path / "none", "--out", tmp_path / "p"), "there is no file or folder"),
        ((folder / "data", images, "--out", tmp_path / "p"), "is not the folder of a training"),
        ((folder / "small.yaml", images, "--out", tmp_path / "p"), "needs --weights FILE"),
    ]:
        code, _, err = run(capsys, "predict", *arguments)
        assert code == 2
        assert said in err
        assert err.count("\n") == 1
    assert sorted(path.stat().st_mtime_ns for path in images.iterdir()) == before


def test_predict_takes_an_architecture_and_weights(trained, folder, tmp_path, capsys):
    weights = trained / "weights.safetensors"
    image = folder / "data" / "images" / "0.png"
    command = ("predict", folder / "small.yaml", image, "--out", tmp_path, "--weights", weights)
    code, _, err = run(capsys, *command)
    assert code == 0
    assert "normalised one by one" in err
    code, _, err = run(capsys, "predict", "preset:unet-2015", *command[2:])
    assert code == 2
    assert "are not of this network" in err


def test_train_tells_what_does_not_fit_in_one_sentence(folder, tmp_path, capsys):
    small, data, out = folder / "small.yaml", folder / "data", tmp_path / "out"
    for arguments, said in [
        ((small, "--out", out), "has no section data; give --data FOLDER"),
        ((small, "--out", out, "--data", data, "--set", "classes=3"), "--set classes=2"),
        ((small, "--out", out, "--data", data, "--steps", "3", "--epochs", "2"), "exclude each"),
        ((small, "--out", out, "--data", data, "--steps", "0"), "--steps must be more than 0"),
        ((small, "--out", out, "--data", data, "--metric", "dise"), "no accuracy metric 'dise'"),
        (
            (small, "--out", out, "--data", data, "--set", "train.steps={int: [1, 5]}"),
            "must be one value here",
        ),
        ((small, "--out", out, "--data", data, "--set", "train.stepz=1"), "did you mean"),
        ((small, "--out", out, "--data", tmp_path / "none"), "there is no"),
        ((tmp_path, "--out", out, "--data", data), "is a folder without architecture.yaml"),
    ]:
        code, _, err = run(capsys, "train", *arguments)
        assert code == 2, err
        assert said in err
    assert not out.exists()


def test_what_a_person_leaves_open_is_chosen_and_said(folder, tmp_path, capsys):
    (folder / "bare.yaml").write_text("architecture: {depth: 2, width: 4}\n")
    arguments = ("--data", folder / "data", "--steps", "1", "--out", tmp_path)
    code, _, err = run(capsys, "train", folder / "bare.yaml", *arguments)
    assert code == 0
    assert "patch size 32x40, since train.patch_size is not given" in err
    assert "batch size 8" in err


def test_train_notes_a_patch_larger_than_every_image(folder, tmp_path, capsys):
    command = ("train", folder / "small.yaml", "--data", folder / "data", "--out", tmp_path / "out")
    small = ("--set", "train.patch_size=80", "--set", "train.steps=1")
    code, _, err = run(capsys, *command, *small)
    assert code == 0, err
    assert "patches of 80x80 are larger than every image (at most 32x40)" in err

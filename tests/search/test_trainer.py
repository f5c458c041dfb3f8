"""A search that trains: the command from a file to the front, and records that can be trusted."""

import json

import numpy as np
import pytest
from safetensors.numpy import load

from unet_nas.audit.audit import audit
from unet_nas.cli import main
from unet_nas.records.study import read_run
from unet_nas.search.evaluate import Job
from unet_nas.search.folder import CHECKPOINT
from unet_nas.search.load import load_study
from unet_nas.search.trainer import Trainer
from unet_nas.search.workplace import make_trainer
from unet_nas.train.config import TrainConfig
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.load import load_architecture

FILE = """\
name: tiny
architecture: {depth: 1, width: {choice: [2, 3, 4]}}
data: {source: {type: synthetic, cases: 10, size: 32}}
budget: {parameters: 5k, latency: 1s}
objectives: [dice, macs, latency]
train: {patch_size: 16x16, batch_size: 2, steps: 3, validations: 1}
search: {sampler: random, trials: 2, finalists: {count: 1, seeds: 1, factor: 1}}
baselines: ['python:tests.support.foreign:small']
"""


def test_the_command_from_file_to_front(tmp_path, capsys, monkeypatch):
    file, out = tmp_path / "tiny.yaml", tmp_path / "run"
    file.write_text(FILE)
    monkeypatch.setattr("unet_nas.cli.searching._report", lambda folder: None)
    with pytest.raises(SystemExit) as ended:
        main(["search", str(file), "--out", str(out), "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["state"] == "complete"
    assert said["front"]
    run = read_run(out)
    assert len(run.trials) == 2
    for record in run.trials:
        network = Architecture.model_validate(record.architecture)
        config = TrainConfig.model_validate(record.train)
        one = audit(network, patch_size=(16, 16), training=config.training())
        batch = audit(network, patch_size=(16, 16), batch_size=2, training=config.training())
        latency = record.costs.pop("latency")
        assert record.costs == {
            "parameters": one.parameters,
            "macs": one.macs,
            "training_memory": batch.peak_training_bytes,
            "inference_memory": one.peak_inference_bytes,
        }
        assert record.profile.latency("inference").median_ms == latency
        assert record.constraints == {"latency": latency - 1000}
        files = run.files_of(record)
        assert load_architecture(files / "architecture.yaml").digest() == network.digest()
        weights = load((files / record.weights).read_bytes())
        assert sum(w.size for n, w in weights.items() if "running" not in n) >= one.parameters
        with np.load(files / record.examples) as arrays:
            assert arrays["truth_0"].shape == arrays["prediction_0"].shape
    (baseline,) = run.baselines
    assert baseline.network == "python:tests.support.foreign:small"
    assert baseline.costs["macs"] > 0
    assert all(record.test["dice"] >= 0 for record in run.finalists)


def test_a_trial_is_the_same_twice():
    study = load_study(FILE)
    trainer = make_trainer(study, "cpu", 0)
    assert isinstance(trainer, Trainer)
    tree = {"depth": 1, "width": 2, "in_channels": 1, "classes": trainer.task.classes}
    train = TrainConfig(patch_size=16, batch_size=2, steps=2, validations=1).model_dump(mode="json")
    job = Job("trial", "#0", None, 3, train, tree)
    one, two = (trainer.evaluate(job, lambda point: False) for _ in range(2))
    assert one.metrics == two.metrics
    assert one.files["weights.safetensors"] == two.files["weights.safetensors"]


def test_a_step_beyond_the_memory_of_the_machine_is_not_begun():
    trainer = make_trainer(load_study(FILE), "cpu", 0)
    assert isinstance(trainer, Trainer)
    tree = {"depth": 1, "width": 2, "in_channels": 1, "classes": trainer.task.classes}
    train = TrainConfig(patch_size=16, steps=2, validations=1).model_dump(mode="json")
    job = Job("trial", "#0", None, 3, train, tree, costs={"training_memory": 2.0**45})
    outcome = trainer.evaluate(job, lambda point: False)
    assert outcome.failure is not None
    assert outcome.failure.kind == "out_of_memory"
    assert outcome.failure.reason.startswith("a training step needs 32 TiB, and the cpu has ")


def test_weights_are_saved_in_any_memory_format():
    """A GPU trains in channels last, and a file has no strides."""
    trainer = make_trainer(load_study(FILE), "cpu", 0)
    assert isinstance(trainer, Trainer)
    tree = {"depth": 1, "width": 2, "in_channels": 1, "classes": trainer.task.classes}
    config = TrainConfig(patch_size=16, steps=2, validations=1, channels_last=True)
    job = Job("trial", "#0", None, 3, config.model_dump(mode="json"), tree)
    outcome = trainer.evaluate(job, lambda point: False)
    assert outcome.failure is None
    assert load(outcome.files["weights.safetensors"])


def test_a_stopped_trial_is_pruned():
    trainer = make_trainer(load_study(FILE), "cpu", 0)
    tree = {"depth": 1, "width": 2, "in_channels": 1, "classes": trainer.task.classes}
    train = TrainConfig(patch_size=16, steps=4, validations=4).model_dump(mode="json")
    outcome = trainer.evaluate(Job("trial", "#0", None, 0, train, tree), lambda point: True)
    assert outcome.state == "pruned"
    assert len(outcome.history) == 1


@pytest.mark.parametrize("device", ["cuda"])
def test_a_device_that_is_not_there(device):
    import torch

    from unet_nas.errors import InputError

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="device cuda needs a GPU"):
        make_trainer(load_study(FILE), device, 0)


@pytest.mark.parametrize("whole", [True, False])
def test_a_finalist_goes_on_from_its_checkpoint(tmp_path, whole):
    """Killed at its second step, it ends as if it had not been; a broken checkpoint is dropped."""
    study = load_study(FILE)
    trainer = make_trainer(study, "cpu", 0)
    tree = {"depth": 1, "width": 2, "in_channels": 1, "classes": trainer.task.classes}
    config = TrainConfig(patch_size=16, batch_size=2, steps=4, validations=2)
    train = config.model_dump(mode="json")
    undisturbed = trainer.evaluate(
        Job("finalist", "#0", tmp_path / "one", 3, train, tree), lambda point: False
    )

    class KilledError(BaseException):
        pass

    def kill(point):
        raise KilledError

    job = Job("finalist", "#0", tmp_path / "two", 3, train, tree)
    with pytest.raises(KilledError):
        trainer.evaluate(job, kill)
    checkpoint = job.folder / CHECKPOINT
    if not whole:
        checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    points = []
    ended = trainer.evaluate(job, lambda point: points.append(point.step))
    assert points == ([4] if whole else [2, 4])
    assert ended.files["weights.safetensors"] == undisturbed.files["weights.safetensors"]
    assert ended.test == undisturbed.test


def test_a_patch_larger_than_every_image_is_noted():
    for size, told in (("16x16", False), ("64x64", True)):
        study = load_study(FILE.replace("16x16", size))
        notes = make_trainer(study, "cpu", 0).notes
        assert any("are larger than every image (at most 32x32)" in n for n in notes) == told

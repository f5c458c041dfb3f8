"""What the package does on a GPU; skipped where PyTorch sees none."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from tests.support.memory_cases import (
    draw_memory_case,
    measured_inference,
    measured_training,
    predicted,
)
from tests.train.blobs import dataset
from unet_nas import Architecture, build, cli
from unet_nas.profile.profile import profile
from unet_nas.records import read_run
from unet_nas.train.config import TrainConfig
from unet_nas.train.loop import Fit, fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

NETWORK = {"depth": 2, "width": 8, "down": "strided_conv"}


def train(size=(32, 32), network=NETWORK, checkpoint=None, on_step=None, **section) -> Fit:
    torch.manual_seed(1)
    module = build(Architecture.model_validate({"spatial_dims": len(size), **network}))
    section = {"steps": 40, "validations": 2, "batch_size": 2, "patch_size": size, **section}
    config = TrainConfig.model_validate({"learning_rate": 1e-2, **section})
    return fit(
        module,
        dataset(size),
        config,
        seed=1,
        device="cuda",
        checkpoint=checkpoint,
        on_step=on_step,
    )


@pytest.mark.parametrize("seed", range(30))
def test_static_peaks_equal_the_tensors_of_the_device_to_the_byte(seed):
    case = draw_memory_case(seed, device="cuda")
    training, inference = measured_training(case), measured_inference(case)
    assert predicted(case) == (training.tensor_bytes, inference.tensor_bytes)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("size", [(64,), (32, 32), (16, 16, 16)])
def test_it_learns(size, precision):
    result = train(size, precision=precision, steps=100)
    assert result.failure is None
    assert result.metrics["dice"] > 0.8


@pytest.mark.parametrize("size", [(64,), (32, 32), (16, 16, 16)])
def test_the_same_seed_gives_the_same_scores(size):
    one, two = train(size), train(size)
    assert one.metrics == two.metrics
    assert [point.loss for point in one.history] == [point.loss for point in two.history]
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)


def test_cudnn_is_at_work_while_a_network_is_trained():
    seen = []
    train(steps=2, on_step=lambda _: seen.append(torch.backends.cudnn.enabled))
    assert seen == [True, True]


def test_a_training_goes_on_from_its_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.safetensors"

    def interrupt(progress):
        if progress.step == 25:
            os.kill(os.getpid(), signal.SIGINT)

    network = {**NETWORK, "dropout": {"type": "element", "rate": 0.2}}
    stopped = train(network=network, checkpoint=path, on_step=interrupt)
    assert stopped.interrupted
    resumed = train(network=network, checkpoint=path)
    whole = train(network=network)
    assert resumed.metrics == whole.metrics
    assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)


def test_running_out_of_memory_is_a_result():
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(64 * 2**20 / total)
    try:
        result = train(network={"depth": 2, "width": 512})
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.failure is not None
    assert result.failure.kind == "out_of_memory"
    assert train(steps=2).failure is None


def test_a_profile_measures_every_part():
    network = Architecture.model_validate({**NETWORK, "width": 16})
    found = profile(network, patch_size=(64, 64), batch_size=2, device="cuda", repeats=5)
    assert not found.failures
    assert found.conditions is not None
    assert found.conditions.device_name == torch.cuda.get_device_name()
    for peak in (found.training_memory, found.inference_memory):
        assert peak is not None
        assert peak.tensor_bytes is not None
        assert peak.reserved_bytes is not None
        assert peak.tensor_bytes <= peak.allocated_bytes <= peak.reserved_bytes
    latency = found.latency("inference")
    assert latency is not None
    assert latency.median_ms > 0


def test_a_search_ends_with_a_front(tmp_path: Path, capsys):
    file = tmp_path / "space.yaml"
    file.write_text(
        """\
architecture: {in_channels: 1, classes: 3, depth: {int: [1, 2]}, width: {int: [4, 8, 4]}}
data: {source: synthetic}
budget: {training_memory: 256MiB, latency: 1s}
objectives: [dice, latency]
train: {patch_size: 32x32, steps: 10}
search: {sampler: random, trials: 3, finalists: {count: 1, seeds: 1, factor: 1}}
""",
        "utf-8",
    )
    arguments = ["search", str(file), "--out", str(tmp_path / "run"), "--device", "cuda", "--json"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(arguments)
    assert json.loads(capsys.readouterr().out)
    run = read_run(tmp_path / "run")
    assert run.header.device == f"cuda ({torch.cuda.get_device_name()})"
    complete = [trial for trial in run.trials if trial.state == "complete"]
    assert len(complete) == 3
    assert all(trial.costs["latency"] > 0 for trial in complete)
    assert run.finalists


def test_segments_and_scores_are_those_of_the_cpu():
    torch.manual_seed(0)
    data = dataset((32, 32))
    module = build(Architecture.model_validate(NETWORK))
    from unet_nas.train.metrics import score

    here = score(module, data.validation, data.task, patch_size=(32, 32))
    there = score(module.cuda(), data.validation, data.task, patch_size=(32, 32), device="cuda")
    assert there["dice"] == pytest.approx(here["dice"], abs=1e-3)

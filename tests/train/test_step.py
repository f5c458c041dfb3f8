"""The training step is the one whose memory the audit predicts."""

import numpy as np
import pytest
import torch

from tests.train.blobs import dataset
from unet_nas import Architecture, build
from unet_nas.audit.memory import training_memory
from unet_nas.profile.memory import _measure, _state_bytes
from unet_nas.train.config import TrainConfig
from unet_nas.train.step import Step, balanced_weights, channels_last, make_loss


@pytest.mark.parametrize(
    ("architecture", "section"),
    [
        ({"depth": 2, "width": 8}, {}),
        ({"depth": 2, "width": 32}, {"batch_size": 1}),  # weights dominate
        ({"depth": 2, "width": 8, "norm": "instance"}, {"optimizer": "adam"}),
        ({"depth": 1, "width": 48}, {"optimizer": "sgd", "batch_size": 1, "momentum": 0.0}),
        ({"depth": 2, "width": 8, "deep_supervision": 1}, {"precision": "bf16"}),
    ],
    ids=str,
)
def test_a_step_with_clipping_takes_no_more_than_the_audit_says(architecture, section):
    data = dataset()
    section = {"patch_size": (32, 32), "batch_size": 4, "clip": 0.5, **section}
    config = TrainConfig.model_validate(section)
    training = config.training("cpu")
    module = build(Architecture.model_validate(architecture)).train()
    batch = config.batch_size
    inputs = torch.randn(batch, 1, 32, 32)
    target = torch.zeros(batch, 32, 32, dtype=torch.int64)
    step = Step(module, config, training, make_loss(config, data.task, data.train))
    phases = [lambda: step(inputs, target, 1e-3)] * 2
    measured = _measure(phases, _state_bytes(module, (inputs, target)), "cpu")[1]
    predicted = training_memory(module.graph, (32, 32), batch, training)
    # one norm per parameter tensor, their stack, and what becomes of it
    norms = 4 * (2 * len(step.parameters) + 4)
    assert predicted.peak_bytes <= measured.tensor_bytes <= predicted.peak_bytes + norms


def test_gradients_are_cut_to_the_norm_that_is_asked_for():
    data = dataset()
    module = build(Architecture(depth=1, width=4)).train()
    config = TrainConfig.model_validate({"clip": 1e-3})
    step = Step(module, config, config.training(), make_loss(config, data.task, data.train))
    step(torch.randn(2, 1, 16, 16), torch.ones(2, 16, 16, dtype=torch.int64), 1e-3)
    norms = torch.stack([p.grad.norm() for p in step.parameters])
    assert norms.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_class_weights_are_inverse_to_how_often_a_class_occurs():
    weights = balanced_weights(np.array([75, 25, 0, 100]))
    assert weights[1] / weights[0] == pytest.approx(3, rel=1e-3)
    assert sum(weights) == pytest.approx(3, abs=1e-5)


def test_the_memory_format_is_chosen_by_device_and_precision():
    config = TrainConfig()
    assert channels_last(config, config.training("cpu"), 2) is None
    assert channels_last(config, config.training("cuda"), 2) is torch.channels_last
    assert channels_last(config, config.training("cuda"), 3) is None
    asked = TrainConfig.model_validate({"channels_last": True})
    assert channels_last(asked, asked.training("cpu"), 3) is torch.channels_last_3d
    assert channels_last(asked, asked.training("cpu"), 1) is None

import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.train.blobs import dataset
from unet_nas import Architecture, build
from unet_nas.errors import InputError, SizeError
from unet_nas.train import loop
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.cases import Dataset
from unet_nas.train.loop import Fit, fit
from unet_nas.train.metrics import score

SMALL = {"depth": 2, "width": 4}


def train(data=None, architecture=None, seed=0, module=None, call=None, **section) -> Fit:
    """Trains a small network for a few steps on one thread's worth of data."""
    data = data or dataset()
    torch.manual_seed(seed)
    fields = {
        "spatial_dims": data.task.spatial_dims,
        "in_channels": data.task.in_channels,
        **SMALL,
        **(architecture or {}),
    }
    module = module or build(Architecture.model_validate(fields))
    size = data.train[0].image.shape[1:]
    section = {"patch_size": size, "batch_size": 2, "steps": 20, "validations": 2, **section}
    section = {"learning_rate": 1e-2, "augment": None, **section}
    given = {k: v for k, v in section.items() if v is not None or k == "augment"}
    config = TrainConfig.model_validate(given)
    return fit(module, data, config, seed=seed, **(call or {}))


def test_a_network_learns_and_its_best_weights_are_those_that_were_scored():
    data = dataset()
    torch.manual_seed(0)
    module = build(Architecture.model_validate(SMALL))
    result = train(data, module=module, steps=100)
    assert result.failure is None
    assert not result.stopped
    assert result.metrics["dice"] > 0.9
    assert result.metrics["dice"] == max(point.score for point in result.history)
    assert [point.step for point in result.history] == [50, 100]
    assert result.best_step in {50, 100}
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, result.state[name])
    again = score(module, data.validation, data.task, patch_size=(32, 32))
    assert again == result.metrics


@pytest.mark.parametrize(
    ("size", "architecture"),
    [
        ((64,), {}),
        ((32, 32), {"deep_supervision": 1}),
        ((16, 16, 16), {}),
        ((60, 60), {"padding": "valid", "align": "crop"}),
        ((32, 32), {"block": "residual", "norm": {"type": "group", "groups": 2}}),
    ],
)
def test_the_same_seed_gives_the_same_scores_bit_for_bit(size, architecture):
    one, two = (train(dataset(size), architecture, steps=6, seed=3, augment={}) for _ in range(2))
    assert one.failure is None
    assert one.metrics == two.metrics
    assert [p.loss for p in one.history] == [p.loss for p in two.history]
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)
    other = train(dataset(size), architecture, steps=6, seed=4)
    assert [p.loss for p in one.history] != [p.loss for p in other.history]


def test_the_generator_of_the_caller_is_left_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(1)
    module = build(Architecture.model_validate(SMALL))
    torch.manual_seed(5)
    train(module=module, steps=2, seed=5, architecture={"dropout": 0.1})
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), expected)


def test_budgets_in_epochs_and_seconds():
    # six cases of one patch each, two in a batch: three steps are an epoch
    result = train(steps=None, epochs=4, validations=4)
    assert result.steps == 12
    assert [point.epoch for point in result.history] == [1, 2, 3, 4]
    timed = train(steps=None, seconds=0.5, validations=2)
    assert 0.5 <= timed.training_s < 2
    assert len(timed.history) in {1, 2}


def test_a_loss_that_is_no_number_is_a_result():
    data = dataset()
    data.train[0].image[:] = float("nan")
    result = train(data, steps=40)
    assert result.failure.kind == "nan_loss"
    assert "by step" in result.failure.reason
    assert result.steps < 40


def test_a_loss_that_grows_is_divergence():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, x):
            with torch.no_grad():
                self.scale.mul_(1.5)
            return self.conv(x) * self.scale

    result = train(module=Growing(), steps=200)
    assert result.failure.kind == "diverged"


class Hungry(nn.Module):
    """Runs out of memory in its third step, as PyTorch's allocator for a CPU says it."""

    def __init__(self, error: BaseException):
        super().__init__()
        self.conv, self.calls, self.error = nn.Conv2d(1, 2, 1), 0, error

    def forward(self, x):
        self.calls += self.training
        if self.calls > 2:
            raise self.error
        return self.conv(x)


def test_memory_that_runs_out_is_a_result():
    with pytest.raises(RuntimeError) as met:
        torch.empty(1 << 60)
    for error in (met.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")):
        result = train(module=Hungry(error))
        assert result.failure.kind == "out_of_memory"
        assert result.steps == 2


def test_other_errors_are_raised():
    with pytest.raises(RuntimeError, match="mistake"):
        train(module=Hungry(RuntimeError("a mistake")))


def test_a_caller_can_stop_it_at_a_point():
    result = train(steps=40, validations=4, call={"on_point": lambda point: point.step == 20})
    assert result.stopped
    assert not result.interrupted
    assert result.steps == 20
    assert result.metrics


def test_ctrl_c_ends_it_after_the_step_in_hand():
    def interrupt(progress):
        if progress.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    result = train(steps=40, call={"on_step": interrupt})
    assert result.stopped
    assert result.interrupted
    assert result.steps == 7
    assert signal.getsignal(signal.SIGINT) is before


def test_it_runs_in_a_thread_that_is_not_the_main_one():
    results = []
    worker = threading.Thread(target=lambda: results.append(train(steps=2)))
    worker.start()
    worker.join()
    assert results[0].steps == 2


def test_metrics_that_cost_are_taken_once_of_the_best_weights():
    result = train(steps=60, call={"metrics": ["border_dice"]})
    assert set(result.metrics) >= {"dice", "iou", "dice[blob]", "iou[blob]", "border_dice[8-15]"}


def test_deep_supervision_and_valid_padding_learn():
    valid = {"padding": "valid", "align": "crop", "deep_supervision": 1}
    result = train(dataset((60, 60)), valid, steps=80)
    assert result.failure is None
    assert result.metrics["dice"] > 0.8


@pytest.mark.parametrize(
    "section",
    [
        {"optimizer": "sgd", "learning_rate": 0.1},
        {"optimizer": "adam", "schedule": "constant"},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"channels_last": True},
        {"clip": 0.1, "loss": "cross_entropy", "warmup": 0.5},
        {"checkpoint": ["0"], "in_place": True},
        {"class_weights": "balanced"},
        {"class_weights": [1, 3]},
    ],
    ids=str,
)
def test_the_options_of_the_section_train_are_followed(section):
    result = train(steps=60, **section)
    assert result.failure is None
    assert result.history[-1].loss < result.history[0].loss


def test_ignored_positions_teach_nothing():
    plain = dataset()
    task = replace(plain.task, ignore_label=255)
    for case in plain.train:
        case.target[:, 20:] = 255
    result = train(replace(plain, task=task), steps=60)
    assert result.failure is None
    assert result.metrics["dice"] > 0.6  # of whole images, though a third of none was seen
    everything = dataset()
    for case in everything.train:
        case.target[:] = 255
    nothing = train(replace(everything, task=task), steps=3, validations=1)
    assert nothing.history[-1].loss == 0


def test_labels_that_overlap_are_learnt():
    plain = dataset()

    def doubled(case):
        inner = np.zeros_like(case.target)
        inner[8:24, 8:24] = case.target[8:24, 8:24]
        return replace(case, target=np.stack([case.target, inner]))

    data = Dataset(
        replace(plain.task, class_names=("blob", "inner"), multi_label=True),
        tuple(map(doubled, plain.train)),
        tuple(map(doubled, plain.validation)),
    )
    result = train(data, steps=80)
    assert result.metrics["dice[blob]"] > 0.8
    assert result.metrics["dice[inner]"] > 0.5


def test_what_is_no_training_is_refused():
    with pytest.raises(
        InputError, match=r"one for each of the 2 classes \(background, blob\), got 3"
    ):
        train(class_weights=[1, 2, 3])
    with pytest.raises(InputError, match="patch_size must be given"):
        train(patch_size=None)
    with pytest.raises(SizeError, match="does not run on a size of 30"):
        train(patch_size=(30, 30), architecture={"align": "strict"})
    with pytest.raises(InputError, match="no accuracy metric 'dise'"):
        train(call={"score_name": "dise"})
    with pytest.raises(InputError, match="event_f1 is for data of one dimension"):
        train(call={"metrics": ["event_f1"]})
    assert loop.CHECK_EVERY > 1

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.train.blobs import dataset
from unet_nas import Architecture, build
from unet_nas.errors import InputError
from unet_nas.train.config import TrainConfig
from unet_nas.train.loop import Fit, fit

FIELDS = {"depth": 1, "width": 4, "dropout": {"type": "element", "rate": 0.2}}


def train(path: Path | None, kill_at: int | None = None, on_step=None, data=None, **section) -> Fit:
    """Trains with a checkpoint; ends its own process with SIGKILL after a step."""

    def die(progress):
        if progress.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.manual_seed(1)
    module = build(Architecture.model_validate(FIELDS))
    section = {"steps": 40, "validations": 5, "batch_size": 2, "patch_size": (24, 24), **section}
    config = TrainConfig.model_validate({"learning_rate": 1e-2, **section})
    return fit(module, data or dataset(), config, seed=1, checkpoint=path, on_step=on_step or die)


def same(one: Fit, two: Fit) -> bool:
    """Tells whether two trainings agree in all but the time that they took."""

    def timeless(fit):
        points = [replace(point, seconds=0.0) for point in fit.history]
        return points, fit.best_step, fit.metrics, fit.steps, fit.failure

    weights = all(torch.equal(one.state[name], two.state[name]) for name in one.state)
    return weights and timeless(one) == timeless(two)


def test_a_training_that_was_killed_goes_on_as_if_nothing_had_happened(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    code = (
        "from pathlib import Path; from tests.train.test_checkpoint import train;"
        f"train(Path({str(path)!r}), kill_at=21)"
    )
    # the same number of threads adds up in the same order
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    steps: list[int] = []
    resumed = train(path, on_step=lambda progress: steps.append(progress.step))
    assert steps[0] == 17  # it was validated, and saved, after 8 and 16 steps
    assert same(resumed, train(None))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_ctrl_c_saves_the_step_in_hand(tmp_path, optimizer):
    path = tmp_path / "checkpoint.safetensors"

    def interrupt(progress):
        if progress.step == 21:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train(path, on_step=interrupt, optimizer=optimizer)
    assert stopped.interrupted
    assert stopped.steps == 21
    steps: list[int] = []
    resumed = train(path, on_step=lambda progress: steps.append(progress.step), optimizer=optimizer)
    assert steps[0] == 22
    assert same(resumed, train(None, optimizer=optimizer))


def test_a_training_that_was_finished_is_not_done_again(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    first = train(path)
    steps: list[int] = []
    again = train(path, on_step=lambda progress: steps.append(progress.step))
    assert not steps
    assert same(first, again)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    train(path, steps=5, validations=1)
    with pytest.raises(InputError, match=r"with learning_rate 0.01, and 0.001 is asked for"):
        train(path, steps=5, validations=1, learning_rate=1e-3)
    data = dataset()
    with pytest.raises(InputError, match="is a checkpoint of other data; delete it"):
        train(path, steps=5, validations=1, data=replace(data, train=data.train[1:]))
    same_names = [replace(case, target=1 - case.target) for case in data.train]
    with pytest.raises(InputError, match="is a checkpoint of other data; delete it"):
        train(path, steps=5, validations=1, data=replace(data, train=tuple(same_names)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="is not a checkpoint of a training"):
        train(path, steps=5, validations=1)


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot write to"):
        train(tmp_path / "file" / "checkpoint.safetensors", steps=1, validations=1)

"""Where the sections of a training come from."""

from pathlib import Path

import pytest

from unet_nas.errors import InputError
from unet_nas.records.study import HEADER, RECORD, RunHeader, TrialRecord
from unet_nas.train.config import TrainConfig
from unet_nas.train.sections import architecture_file, data_config, train_config
from unet_nas.unet.load import open_document

NETWORK = "architecture: {depth: 1, width: 4}\n"
SPACE = "name: mine\narchitecture: {depth: {choice: [1, 2]}}\ndata: {source: synthetic}\n"


@pytest.fixture
def trial(tmp_path) -> Path:
    """Returns the architecture of a trial in a run."""
    folder = tmp_path / "run" / "trials" / "0003"
    folder.mkdir(parents=True)
    (tmp_path / "run" / HEADER).write_text(RunHeader("mine", file=SPACE).to_json())
    section = TrainConfig(patch_size=48, batch_size=3, learning_rate=0.02).model_dump(mode="json")
    record = TrialRecord("trial", "#3", "complete", 3, train=section)
    (folder / RECORD).write_text(record.to_json())
    (folder / "architecture.yaml").write_text(NETWORK)
    return folder / "architecture.yaml"


def train_of(file, data=None, assignments=()):
    return train_config(open_document(str(file)), str(file), data, assignments)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_trial_keeps_how_it_was_trained(trial, tmp_path):
    other = write(tmp_path / "other.yaml", "train: {patch_size: 16}\n")
    for data in (None, other):
        found = train_of(trial, data)
        assert (found.patch_size, found.batch_size, found.learning_rate) == (48, 3, 0.02)


def test_a_trial_is_trained_on_the_data_of_its_run(trial):
    document = open_document(str(trial))
    config, _ = data_config(document, str(trial), None, ["data.split.seed=5"])
    assert (config.source.type, config.split.seed) == ("synthetic", 5)


def test_a_run_and_a_number_name_the_folder(trial):
    run = trial.parents[2]
    assert Path(architecture_file(f"{run}#3")) == trial
    with pytest.raises(InputError, match="there is no trial '4'"):
        architecture_file(f"{run}#4")


def test_the_file_of_the_data_may_say_how_to_train(tmp_path):
    net = write(tmp_path / "net.yaml", NETWORK)
    data = write(tmp_path / "data.yaml", "data: {source: synthetic}\ntrain: {batch_size: 5}\n")
    assert train_of(net, data).batch_size == 5
    changed = train_of(net, data, ["train.steps=7"])
    assert (changed.batch_size, changed.steps) == (5, 7)


def test_the_file_itself_comes_first(tmp_path):
    net = write(tmp_path / "net.yaml", f"{NETWORK}train: {{batch_size: 2}}\n")
    data = write(tmp_path / "data.yaml", "data: {source: synthetic}\ntrain: {batch_size: 5}\n")
    assert train_of(net, data).batch_size == 2


def test_holes_are_told_with_the_file_they_are_in(tmp_path):
    net = write(tmp_path / "net.yaml", NETWORK)
    data = write(tmp_path / "data.yaml", "train: {learning_rate: {float: [0.1, 0.2]}}\n")
    with pytest.raises(InputError, match=r"data\.yaml: train\.learning_rate must be one value"):
        train_of(net, data)
    assert train_of(net, data, ["train.learning_rate=0.1"]).learning_rate == 0.1


def test_without_data_anywhere_it_says_so(tmp_path):
    net = write(tmp_path / "net.yaml", NETWORK)
    with pytest.raises(InputError, match="has no section data; give --data FOLDER"):
        data_config(open_document(net), net, None, ())

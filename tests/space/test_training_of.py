"""Which training step the sections of a file ask for."""

import pytest

from unet_nas.audit.memory import Training
from unet_nas.space.load import training_of

CASES = {
    "nothing": ({}, "cpu", Training()),
    "train": (
        {"train": {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "in_place": True}},
        "cpu",
        Training(optimizer="sgd", momentum=False, weight_decay=False, in_place=True),
    ),
    "class weights": (
        {"train": {"class_weights": "balanced"}},
        "cpu",
        Training(class_weights=True),
    ),
    "ignore label": ({"data": {"ignore_label": 0}}, "cpu", Training(ignore_label=True)),
    "overlap": ({"data": {"multi_label": True}}, "cpu", Training(multi_label=True)),
    "a GPU": ({}, "cuda", Training(device="cuda", implementation="foreach", precision="bf16")),
    "a GPU, fp32": (
        {"train": {"precision": "fp32"}},
        "cuda",
        Training(device="cuda", implementation="foreach"),
    ),
}


@pytest.mark.parametrize(("tree", "device", "expected"), CASES.values(), ids=CASES)
def test_the_sections_decide(tree, device, expected):
    assert training_of(tree, device) == expected

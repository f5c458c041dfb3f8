"""Architectures written as YAML are read back as the same network."""

import os
from random import Random

import pytest

from tests.support.draw import draw_architecture, verdict
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.dump import to_tree, to_yaml
from unet_nas.unet.load import load_architecture, preset, preset_names

SEED = os.environ.get("UNET_NAS_SEED", "0")
CASES, CHUNK = 1_000, 250


def test_defaults_are_not_written():
    assert to_yaml(Architecture()) == "architecture: {}\n"
    assert load_architecture(to_yaml(Architecture())).digest() == Architecture().digest()


def test_a_part_that_returns_to_the_default_keeps_it():
    architecture = Architecture(norm="instance", decoder={"norm": "batch"})
    assert to_tree(architecture) == {"norm": "instance", "decoder": {"norm": "batch"}}


def test_a_part_that_says_what_the_network_says_is_not_written():
    assert to_tree(Architecture(norm="instance", decoder={"norm": "instance"})) == {
        "norm": "instance"
    }


def test_a_part_without_a_list_keeps_its_value_beside_a_list():
    architecture = Architecture(depth=1, convs=[2, 3], bottleneck={"convs": 2})
    assert to_tree(architecture)["bottleneck"] == {"convs": 2}


def test_ratios_stay_ratios():
    architecture = Architecture(stem={"features": 1.0}, down={"type": "strided_conv"})
    assert load_architecture(to_yaml(architecture)).stem.features == 1.0
    assert isinstance(load_architecture(to_yaml(architecture)).stem.features, float)


def test_the_written_text_is_readable():
    architecture = Architecture(
        spatial_dims=3,
        kernel_size=["1x3x3", 3, 3, 3, 3],
        norm={"type": "instance", "eps": 1e-6},
        down=[{"type": "max_pool", "kernel_size": "1x2x2"}, *["max_pool"] * 3],
        stem={},
    )
    assert to_yaml(architecture, "my net") == (
        "name: my net\n"
        "architecture:\n"
        "  spatial_dims: 3\n"
        "  kernel_size: [1x3x3, 3, 3, 3, 3]\n"
        "  norm: {type: instance, eps: 1.0e-06}\n"
        "  stem: {}\n"
        "  down:\n"
        "  - {type: max_pool, kernel_size: 1x2x2}\n"
        "  - max_pool\n"
        "  - max_pool\n"
        "  - max_pool\n"
    )


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_read_back(name):
    text = to_yaml(preset(name))
    assert load_architecture(text).digest() == preset(name).digest()
    assert to_yaml(load_architecture(text)) == text


@pytest.mark.parametrize("start", range(0, CASES, CHUNK))
def test_random_architectures_are_read_back(start):
    read = 0
    for index in range(start, start + CHUNK):
        architecture, _ = verdict(draw_architecture(Random(f"dump-{SEED}-{index}")))
        if architecture is None:
            continue
        read += 1
        text = to_yaml(architecture)
        again = load_architecture(text)
        assert again.digest() == architecture.digest(), text
        assert to_yaml(again) == text
    assert read >= CHUNK // 3

"""The rule of valid sizes against trying every size."""

import random

import pytest

from tests.support.draw import draw_architecture
from unet_nas.errors import InputError
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import AxisSizes, ValidSizes, trace_axis

STRIDE_4 = {"type": "max_pool", "kernel_size": 4}


def axis_sizes(**options) -> AxisSizes:
    return AxisSizes(lower(Architecture(spatial_dims=1, width=2, growth=1.0, **options)), 0)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"depth": 4}, ValidSizes(16, 16, (0,))),
        ({"depth": 6, "down": STRIDE_4}, ValidSizes(4096, 4096, (0,))),
        ({"depth": 4, "align": "crop", "padding": "valid"}, ValidSizes(188, 1, (0,))),
        ({"depth": 4, "padding": "valid"}, ValidSizes(140, 1, ())),
        ({"depth": 2, "down": "pixel_unshuffle", "align": "pad"}, ValidSizes(4, 4, (0,))),
        ({"depth": 2, "fusion": "none"}, ValidSizes(4, 1, (0,))),
        ({"depth": 3, "align": ["strict", "resize", "resize"]}, ValidSizes(8, 2, (0,))),
    ],
)
def test_rules_known_by_hand(options, rule):
    assert axis_sizes(**options).rule() == rule


def test_the_nearest_sizes_follow_from_the_rule():
    assert axis_sizes(depth=4).nearest(250) == (240, 256)
    assert axis_sizes(depth=4).nearest(3) == (None, 16)
    assert axis_sizes(depth=6, down=STRIDE_4).nearest(100_000) == (98_304, 102_400)
    assert axis_sizes(depth=4, padding="valid").nearest(572) == (None, None)


def brute_force(graph, axis: int, stop: int) -> list[bool]:
    return [not trace_axis(graph, axis, n).misfits for n in range(1, stop)]


@pytest.mark.parametrize("seed", range(4))
def test_rules_of_drawn_architectures_are_complete(seed):
    rng, seen = random.Random(seed), 0
    while seen < 40:
        try:
            architecture = Architecture(**draw_architecture(rng))
        except InputError:
            continue
        seen += 1
        graph = lower(architecture)
        for axis in range(graph.dims):
            sizes = AxisSizes(graph, axis)
            rule = sizes.rule()
            stop = 200 if rule is None else min(rule.minimum + 2 * rule.step + 20, 600)
            expected = brute_force(graph, axis, stop)
            assert [sizes.valid(n) for n in range(1, stop)] == expected
            if rule is not None:
                assert [n in rule for n in range(1, stop)] == expected

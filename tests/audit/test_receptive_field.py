"""Receptive fields against the gradient footprint of the real module."""

import pytest
import torch

from unet_nas.audit.receptive_field import receptive_fields
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import shapes

SIZE = 216

CASES = {
    "same": {},
    "valid": {"padding": "valid", "align": "crop"},
    "linear": {"up": {"type": "interpolation", "mode": "linear"}},
    "shuffle": {"up": "pixel_shuffle", "down": "pixel_unshuffle"},
    "k4s3": {"down": {"type": "strided_conv", "kernel_size": 4, "stride": 3}},
    "k3s2p1": {
        "up": {"type": "transposed_conv", "kernel_size": 3, "padding": 1, "output_padding": 1}
    },
    "k4s2p1": {"up": {"type": "transposed_conv", "kernel_size": 4, "padding": 1}},
    "even kernels": {"kernel_size": [2, 4, 3], "align": "pad"},
    "blurred and dilated": {"down": "anti_aliased_strided_conv", "dilation": 2},
    "residual, gated": {"block": "residual", "fusion": "attention_gate"},
    "no skip at full size": {"fusion": ["none", "concat"]},
}


def network(options: dict) -> Architecture:
    plain = {"down": "avg_pool", "norm": "none", "activation": {"type": "elu"}}
    sizes = {"spatial_dims": 1, "width": 2, "growth": 1.0, "depth": 2}
    return Architecture(**{**plain, **sizes, **options})


def footprints(architecture: Architecture, positions: range) -> dict[int, tuple[int, int]]:
    """Returns the first and last input position with a gradient, per output position."""
    module = build(architecture).double().eval()
    for parameter in module.parameters():  # all positive: no path cancels another
        torch.nn.init.uniform_(parameter, 0.01, 0.05)  # and small: no gate saturates
    x = torch.rand(1, 1, SIZE, dtype=torch.float64, requires_grad=True)
    y = module(x)[0, 0]
    found = {}
    for position in positions:
        (gradient,) = torch.autograd.grad(y[position], x, retain_graph=True)
        touched = gradient[0, 0].nonzero().flatten()
        found[position] = (int(touched.min()), int(touched.max()))
    return found


@pytest.mark.parametrize("name", CASES)
def test_fields_are_the_gradient_footprints(name):
    architecture = network(CASES[name])
    graph = lower(architecture)
    sizes = shapes(graph, (SIZE,))
    field = receptive_fields(graph, 0, sizes)[graph.outputs[0]]
    middle = sizes[graph.outputs[0]][0] // 2
    positions = range(middle - 6, middle + 7)
    expected = {i: (field.start(i), field.stop(i)) for i in positions}
    assert footprints(architecture, positions) == expected


def test_aligned_corners_give_an_upper_bound():
    up = {"type": "interpolation", "mode": "linear", "align_corners": True}
    architecture = network({"up": up})
    graph = lower(architecture)
    field = receptive_fields(graph, 0, shapes(graph, (SIZE,)))[graph.outputs[0]]
    positions = range(SIZE // 2 - 4, SIZE // 2 + 5)
    for position, (start, stop) in footprints(architecture, positions).items():
        assert field.start(position) <= start
        assert stop <= field.stop(position)


def test_the_2015_network_depends_on_the_phase():
    architecture = Architecture(padding="valid", align="crop", norm="none")
    graph = lower(architecture)
    fields = receptive_fields(graph, 0, shapes(graph, (572, 572)))
    assert fields[graph.outputs[0]].sizes == (188, 204)


def test_a_resize_by_no_integer_has_no_field():
    architecture = network({"align": "resize"})
    graph = lower(architecture)
    assert receptive_fields(graph, 0, shapes(graph, (SIZE - 1,)))[graph.outputs[0]] is None
    assert receptive_fields(graph, 0, shapes(graph, (SIZE,)))[graph.outputs[0]] is not None

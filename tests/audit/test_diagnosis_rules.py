"""Rules of the diagnosis against PyTorch itself: paths, fields, coverage, filters, the example."""

from collections import deque

import pytest
import torch
from torch.nn import functional

from unet_nas import Architecture, build, load_architecture
from unet_nas.audit.diagnosis.aliasing import binomial_gain, box_gain
from unet_nas.audit.diagnosis.checkerboard import overlap_counts
from unet_nas.audit.diagnosis.diagnose import diagnose
from unet_nas.audit.diagnosis.example import (
    BIAS,
    BOTTLENECK,
    DECODER_WEIGHTS,
    ENCODER,
    EXAMPLE,
    SKIP_WEIGHTS,
    high_pass,
    impulse,
    lines,
    low_pass,
    power,
    worked,
)
from unet_nas.audit.diagnosis.padding import same_padding
from unet_nas.audit.diagnosis.paths import path_lengths
from unet_nas.audit.receptive_field import receptive_fields
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import shapes

# --- paths, as autograd goes them ---------------------------------------------------------

CASES = {
    "plain": {},
    "residual, strided": {"block": "residual", "down": "strided_block"},
    "gated, shuffled": {"fusion": "attention_gate", "up": "pixel_shuffle"},
    "added, supervised": {"fusion": "add", "deep_supervision": 2, "up": "interpolation"},
    "no skip at all": {"fusion": "none"},
    "3D": {"spatial_dims": 3, "depth": 2},
}


def shortest(outputs, wanted):
    """Returns the fewest convolutions from outputs to each weight, along autograd's graph."""
    found, queue = {}, deque((output.grad_fn, 0) for output in outputs)
    best = {}
    while queue:  # 0-1 breadth first: convolutions cost one
        step, length = queue.popleft()
        if step is None or best.get(step, 1 << 30) <= length:
            continue
        best[step] = length
        weight = getattr(step, "variable", None)
        if weight is not None and id(weight) in wanted:
            name = wanted[id(weight)]
            found[name] = min(found.get(name, length), length)
        conv = "Convolution" in type(step).__name__
        for child, _ in step.next_functions:
            (queue.append if conv else queue.appendleft)((child, length + conv))
    return found


@pytest.mark.parametrize("name", CASES)
def test_paths_are_those_of_autograd(name):
    architecture = Architecture(**{"depth": 3, "width": 4, "norm": "none", **CASES[name]})
    graph = lower(architecture)
    module = build(graph)
    convs = {
        f"{name}": leaf.weight
        for name, leaf in module.named_modules()
        if isinstance(leaf, torch.nn.modules.conv._ConvNd)
    }
    made = module(torch.randn(1, 1, *(16,) * architecture.spatial_dims))
    outputs = made if isinstance(made, list) else [made]
    expected = shortest(outputs, {id(weight): name for name, weight in convs.items()})
    lengths = path_lengths(graph)
    ours = {node.name: lengths[i] for i, node in enumerate(graph.nodes) if node.name in convs}
    assert ours == expected


def test_without_skips_a_network_is_the_one_that_has_none():
    whole, bare = Architecture(depth=4), Architecture(depth=4, fusion="none")
    removed = diagnose(whole, (64, 64)).results["gradient_paths"].parts
    never = diagnose(bare, (64, 64)).results["gradient_paths"].parts
    assert {q.part: q.without_skips for q in removed} == {q.part: q.with_skips for q in never}


# --- fields -------------------------------------------------------------------------------


def test_the_field_of_the_2015_network_is_188_or_204_in_the_real_module():
    net = Architecture(
        spatial_dims=1,
        depth=4,
        width=1,
        growth=1.0,
        norm="none",
        padding="valid",
        align="crop",
        down="avg_pool",
        activation={"type": "elu"},
    )
    module = build(net).double()
    for parameter in module.parameters():  # all positive: no path cancels another
        torch.nn.init.uniform_(parameter, 0.1, 0.5)
    x = torch.rand(1, 1, 572, dtype=torch.float64, requires_grad=True)
    y = module(x)[0, 0]
    found = []
    for position in range(192, 208):
        (gradient,) = torch.autograd.grad(y[position], x, retain_graph=True)
        touched = gradient[0, 0].nonzero().flatten()
        found.append((int(touched[0]), int(touched[-1])))
    graph = lower(net)
    field = receptive_fields(graph, 0, shapes(graph, (572,)))[graph.outputs[0]]
    assert found == [(field.start(i), field.stop(i)) for i in range(192, 208)]
    assert {stop - start + 1 for start, stop in found} == {188, 204}


# --- coverage, filters, padding -----------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 0)])
def test_coverage_is_what_ones_give_and_uniform_where_the_stride_divides(kernel, stride, padding):
    made = functional.conv_transpose1d(
        torch.ones(1, 1, 24), torch.ones(1, 1, kernel), stride=stride
    )
    covered = made[0, 0, padding:].tolist()
    start = 8 * stride  # a phase 0 away from the border
    counts = overlap_counts(kernel, stride, padding)
    assert tuple(covered[start : start + stride]) == counts
    assert (len(set(counts)) == 1) == (kernel % stride == 0)


@pytest.mark.parametrize("frequency", [0.0, 0.1, 0.25, 0.4, 0.5])
def test_gains_are_those_of_the_filters(frequency):
    places = torch.arange(64.0, dtype=torch.float64)
    wave = torch.exp(2j * torch.pi * frequency * places)
    for taps, gain in (([0.5, 0.5], box_gain(2, frequency)), ([1 / 3] * 3, box_gain(3, frequency))):
        out = sum(t * wave[i : i + 32] for i, t in enumerate(taps))
        assert float(out.abs().mean()) == pytest.approx(gain, abs=1e-9)
    out = sum(t * wave[i : i + 32] for i, t in enumerate([0.25, 0.5, 0.25]))
    assert float(out.abs().mean()) == pytest.approx(binomial_gain(3, frequency), abs=1e-9)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_keeps_the_size(kernel, dilation):
    pad = same_padding(kernel, dilation)
    assert pad.denominator == 1
    conv = torch.nn.Conv1d(1, 1, kernel, padding=int(pad), dilation=dilation)
    assert conv(torch.zeros(1, 1, 31)).shape[-1] == 31
    assert same_padding(kernel + 1).denominator == 2


# --- the worked example -------------------------------------------------------------------


@pytest.mark.parametrize("position", [3, 4])
def test_the_example_is_what_the_real_network_computes(position):
    module = build(load_architecture(EXAMPLE)).double()
    weights = {
        "encoder.stages.0.convs.0.conv": ([ENCODER], 0.0),
        "bottleneck.convs.0.conv": ([BOTTLENECK], 0.0),
        "decoder.stages.0.convs.0.conv": ([SKIP_WEIGHTS, DECODER_WEIGHTS], BIAS),
        "head.conv": ([(1.0,)], 0.0),
    }
    seen = {}
    for name, (kernels, bias) in weights.items():
        conv = module.get_submodule(name)
        assert conv.weight.shape == (1, len(kernels), len(kernels[0]))
        with torch.no_grad():
            conv.weight.copy_(torch.tensor([kernels]))
            conv.bias.fill_(bias)
    for name in ("encoder.stages.0.convs.0.act", "encoder.downs.0.pool", "bottleneck.convs.0.act"):
        module.get_submodule(name).register_forward_hook(
            lambda _m, _i, made, name=name: seen.update({name: made})
        )
    x = torch.tensor([[impulse(position)]], dtype=torch.float64)
    output = module(x)
    found = worked(position)
    assert seen["encoder.stages.0.convs.0.act"].flatten().tolist() == list(found.skip)
    assert seen["encoder.downs.0.pool"].flatten().tolist() == list(found.pooled)
    assert seen["bottleneck.convs.0.act"].flatten().tolist() == list(found.bottleneck)
    assert output.flatten().tolist() == list(found.with_skip) == list(impulse(position))


def test_without_the_skip_no_decoder_tells_the_two_impulses_apart():
    assert worked(3).up == worked(4).up
    assert worked(4).error_with == 0
    assert worked(4).error_without == 0.5
    assert lines()[-1] == "squared error: 0 with the skip, 0.5 without"


def test_low_pass_and_high_pass_make_the_signal_and_share_its_spectrum():
    signal = tuple(float((3 * i * i) % 7) for i in range(16))
    both = zip(low_pass(signal), high_pass(signal), strict=True)
    assert tuple(a + b for a, b in both) == pytest.approx(signal)
    expected = (torch.fft.rfft(torch.tensor(signal)).abs() ** 2 / 16).tolist()
    assert power(signal) == pytest.approx(expected, rel=1e-4)
    low, high = power(low_pass(impulse(8, 32))), power(high_pass(impulse(8, 32)))
    assert low[0] > 100 * high[0]
    assert high[-1] > 100 * low[-1]

"""The measured diagnosis: every effect is there, and gone where its cause is taken away."""

import json
import math
from random import Random

import pytest
import torch

from tests.support.draw import draw_case
from unet_nas import Architecture, preset
from unet_nas.profile.diagnosis import effective, folding, gradients, phases, spectra
from unet_nas.profile.diagnosis.experiments import EXPERIMENTS
from unet_nas.profile.diagnosis.measure import measure
from unet_nas.profile.diagnosis.reproduction import noise, target_of
from unet_nas.profile.diagnosis.spectra import radial_power
from unet_nas.profile.diagnosis.twin import outputs_of, silenced, small_twin, twin_on
from unet_nas.report.diagnosis_figures import COLOURS, render, save
from unet_nas.unet.skips import skip_edges, skips


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- twins and skips ----------------------------------------------------------------------


def test_a_twin_of_the_2015_network_is_cheap_and_says_what_was_changed():
    twin = small_twin(preset("unet-2015"), output=32, macs=15_000_000)
    assert twin.patch_size == (32, 32)
    assert twin.conditions == "on 32x32, widths divided by 8, padding same"
    whole = twin_on(Architecture(depth=2, width=4), (32, 32), macs=10**9)
    assert whole.changes == ()


@pytest.mark.parametrize(
    "fusion",
    [
        "concat",
        "concat_bottleneck",
        "add",
        "attention_gate",
        {"type": "attention_gate", "resolution": "full"},
    ],
)
def test_a_silenced_skip_carries_nothing(fusion):
    architecture = Architecture(depth=2, width=4, fusion=fusion, norm="none")
    twin = twin_on(architecture, (16, 16), macs=10**9)
    module = twin.module(0)
    x = torch.randn(1, 1, 16, 16)
    sources = {skip.stage: twin.graph.nodes[skip.source].name for skip in skips(twin.graph)}
    below = module.get_submodule("encoder.downs.0")
    handle = below.register_forward_hook(lambda _m, _i, y: torch.zeros_like(y))
    try:  # nothing comes from below either, so nothing of the input is left
        pool = module.get_submodule("encoder.downs.0.pool")
        inner = pool.register_forward_hook(lambda _m, _i, y: torch.zeros_like(y))
        with silenced(module, twin.graph, skip_edges(twin.graph)):
            first, second = (outputs_of(module, z)[0] for z in (x, 2 * x))
        assert torch.equal(first, second)
        assert not torch.equal(outputs_of(module, x)[0], outputs_of(module, 2 * x)[0])
        inner.remove()
    finally:
        handle.remove()
    assert sorted(sources) == [0, 1]


# --- spectra ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64,), (16, 24), (8, 12, 16)])
def test_a_wave_lies_in_the_ring_of_its_frequency(size):
    places = torch.arange(float(size[0]))
    wave = torch.cos(2 * torch.pi * 0.25 * places).reshape(1, 1, -1, *(1,) * (len(size) - 1))
    power = radial_power(wave.expand(1, 1, *size).contiguous())
    assert int(power.argmax()) == 8  # of 16 rings up to half a cycle per position
    assert float(power.sum() - power[8]) == pytest.approx(0.0, abs=1e-4)


def test_white_noise_has_the_same_power_in_every_ring():
    power = radial_power(torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert power.tolist() == pytest.approx([1.0] * 16, abs=0.15)


@pytest.mark.parametrize("dims", [1, 2])
def test_high_frequencies_come_back_through_the_skips(dims):
    architecture = Architecture(spatial_dims=dims, depth=2, width=8)
    twin = small_twin(architecture, output={1: 64, 2: 24}[dims], macs=10**8)
    result = spectra.measure(twin, steps=90, seed=0)
    found = {spectrum.name: spectrum for spectrum in result.spectra}
    assert found["with skips"].high < 0.2
    assert found["without skips"].high > 4 * found["with skips"].high
    assert found["without skips"].high > 0.8
    assert found["skip 0 dropped"].high > 4 * found["skip 1 dropped"].high
    sharp, blurred = result.impulses
    assert sharp.offset == (0,) * dims
    assert sharp.within_one > 0.8 > blurred.within_one
    assert "comes back mostly through skip 0" in str(next(iter(spectra.findings(result))))


def test_a_network_without_skips_is_told_so():
    architecture = Architecture(spatial_dims=1, depth=2, width=8, fusion="none")
    twin = small_twin(architecture, output=64, macs=10**8)
    result = spectra.measure(twin, steps=30, seed=0)
    (finding,) = spectra.findings(result)
    assert finding.severity == "warning"
    assert len(result.spectra) == 1


def test_what_is_to_be_reproduced_lies_where_the_output_lies():
    x = torch.arange(20.0).reshape(1, 1, 20)
    assert target_of(x, (8,), (1.0,)).flatten().tolist() == list(map(float, range(6, 14)))
    assert target_of(x, (10,), (2.0,)).flatten().tolist() == [2 * i + 0.5 for i in range(10)]


# --- gradients ----------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "factor"), [("none", 10), ("batch", 1.3)])
def test_gradients_reach_the_first_stage_through_the_skips(norm, factor):
    architecture = Architecture(depth=4, width=16, norm=norm)
    twin = small_twin(architecture, output=32, macs=10**8)
    result = gradients.measure(twin, steps=2, seed=0)
    first = result.parts[0]
    assert first.part == "encoder.stages.0"
    assert first.with_skips[0] > factor * first.long_way[0]
    assert first.with_skips[1] > factor * first.long_way[1]
    for part in result.parts:  # the forward pass is the same, and so is all behind the skips
        if part.part.split(".")[0] in ("bottleneck", "decoder", "head"):
            assert part.with_skips[0] == pytest.approx(part.long_way[0], rel=1e-4)
    assert "without the way back over the skips" in str(next(gradients.findings(result)))


def test_without_skips_there_is_nothing_to_compare():
    twin = small_twin(Architecture(depth=1, width=4, fusion="none"), output=16, macs=10**7)
    result = gradients.measure(twin, steps=1, seed=0)
    assert all(part.long_way is part.without_skips is None for part in result.parts)
    assert list(gradients.findings(result)) == []


# --- effective field ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"padding": "valid", "align": "crop"}, {"spatial_dims": 3}]
)
def test_the_effective_field_lies_within_the_theoretical_one(options):
    architecture = Architecture(**{"depth": 2, "width": 4, "norm": "none", **options})
    size = (60,) * 2 if architecture.spatial_dims == 2 else (20,) * 3
    twin = twin_on(architecture, size, macs=10**9)
    for reach in effective.measure(twin, seed=0, draws=2).axes:
        low, high = reach.theoretical
        assert max(0, low) <= reach.footprint[0] <= reach.footprint[1] <= min(high, size[0] - 1)
        assert reach.effective < high - low + 1
        assert sum(reach.energy) == pytest.approx(1.0, abs=1e-4)


# --- down and up --------------------------------------------------------------------------


def test_filters_fold_less_and_keep_shifts():
    found = {one.name: one for one in folding.references(0)}
    pooled, blurred = found["max pool 2"], found["max pool 2, blurred by 3 taps"]
    averaged, fitted = found["average pool 2"], found["strided conv 7, fitted"]
    strided = found["strided conv 3, random"]
    assert blurred.folded < pooled.folded / 2
    assert blurred.consistency > pooled.consistency + 0.2
    assert fitted.folded < averaged.folded < strided.folded
    assert fitted.consistency > 0.9
    assert strided.folded > 0.7


def test_the_networks_own_ways_down_are_measured_in_every_shape():
    for down in ("max_pool", "strided_block", "strided_conv", "pixel_unshuffle", "avg_pool"):
        architecture = Architecture(spatial_dims=2, depth=2, width=4, down=down)
        twin = small_twin(architecture, output=16, macs=10**7)
        own = [f for f in folding.measure(twin.graph, 2, seed=0) if f.name.startswith("encoder")]
        assert [one.name for one in own] == ["encoder.downs.0 to 1"]
        assert all(math.isfinite(one.folded) and one.stride == 2 for one in own)


@pytest.fixture(scope="module")
def upsamplings():
    return {one.name: one for one in phases.references(0)}


def test_checkerboards_are_where_the_stride_does_not_divide_the_kernel(upsamplings):
    found = upsamplings
    three, four = found["transposed conv 3"], found["transposed conv 4"]
    assert three.ones == pytest.approx([16 / 9, 8 / 9, 8 / 9, 4 / 9])
    assert four.ones_spread == pytest.approx(0.0, abs=1e-6)
    assert three.energy_spread > 1.0
    assert four.energy_spread < 0.25
    # one random initialisation proves nothing: its phases differ for both alike
    assert three.contrast > 0.5
    assert four.contrast > 0.5
    for name in ("nearest + conv 3", "bilinear + conv 3"):
        assert found[name].contrast == pytest.approx(0.0, abs=1e-6)
        assert found[name].ones_spread == pytest.approx(0.0, abs=1e-6)


def test_icnr_starts_without_a_checkerboard(upsamplings):
    assert upsamplings["pixel shuffle"].contrast > 0.5
    assert upsamplings["pixel shuffle, ICNR"].contrast == pytest.approx(0.0, abs=1e-6)


# --- all together -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_every_architecture_can_be_measured(seed):
    rng = Random(1000 + seed)
    case = next(
        c for c in iter(lambda: draw_case(rng), None) if c.graph and c.architecture.depth < 5
    )
    before = torch.get_num_threads(), torch.get_rng_state()
    result = measure(case.architecture, case.size, steps=2)
    assert {"folding", "phases"} <= set(result.results) <= set(EXPERIMENTS)
    text = json.dumps(result.plain())
    assert "NaN" not in text
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_figures_have_units_colours_and_are_the_same_every_time(tmp_path):
    twin = small_twin(Architecture(spatial_dims=1, depth=1, width=4), output=32, macs=10**7)
    figure = effective.figure(effective.measure(twin, seed=0, draws=1))
    assert "position of the input" in {panel.x_label for panel in figure.panels}
    assert render(figure) == render(figure)
    assert render(figure).count(COLOURS[0].lower().encode()) > 0
    (path,) = save([figure], tmp_path)
    assert path.name == "effective_field.svg"
    assert noise(twin, torch.Generator().manual_seed(0)).square().mean() == pytest.approx(1.0)

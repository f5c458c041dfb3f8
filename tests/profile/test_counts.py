"""Static counts against fvcore and ``FlopCounterMode``, of our modules and of others'."""

from random import Random

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.support.draw import draw_case
from tests.unet.test_references import FULL
from unet_nas.audit.cost import total_cost
from unet_nas.profile.counts import compare, count
from unet_nas.unet.build import build
from unet_nas.unet.check import check
from unet_nas.unet.graph import lower
from unet_nas.unet.layers import CropTo, PadTo
from unet_nas.unet.load import preset, preset_names
from unet_nas.unet.shapes import AxisSizes


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def patch_of(name: str, least: int) -> tuple[int, ...]:
    """Returns the smallest patch from ``least`` on that a preset runs on."""
    graph = lower(preset(name))
    sizes = [AxisSizes(graph, axis) for axis in range(graph.dims)]
    return tuple(least if axis.valid(least) else axis.nearest(least)[1] for axis in sizes)


def flop_counter_macs(module: nn.Module, *shape: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty(*shape, device="meta"))
    return counter.get_total_flops() // 2


# --- ours -----------------------------------------------------------------------------------


def test_random_architectures_agree_with_both_witnesses() -> None:
    found = 0
    for index in range(1000):
        drawn = draw_case(Random(f"counts {index}"))
        if drawn.graph is None:
            continue
        if not check(drawn.architecture, drawn.size, batch_size=2, mode="eval").valid:
            continue
        module = build(drawn.graph)
        counts = count(module, torch.randn(2, module.in_channels, *drawn.size))
        assert not counts.unsupported
        assert not counts.notes
        for difference in compare(drawn.graph, drawn.size, 2, counts):
            assert difference.agrees, (index, difference, counts)
        assert module.training  # the mode is kept
        found += 1
        if found == 10:
            return


@pytest.mark.parametrize("name", ["phasenet", "monai-unet-2d", "monai-attentionunet-2d"])
def test_presets_agree_with_both_witnesses(name: str) -> None:
    graph, size = lower(preset(name)), patch_of(name, 32)
    module = build(graph)
    counts = count(module, torch.randn(1, module.in_channels, *size))
    differences = compare(graph, size, 1, counts)
    assert all(difference.agrees for difference in differences), differences
    assert not counts.unsupported


@pytest.mark.parametrize("name", preset_names())
def test_presets_agree_with_flop_counter_at_full_size(name: str) -> None:
    size = patch_of(name, 188 if "3d" not in name else 100)
    with torch.device("meta"):
        module = build(preset(name)).eval()
    cost = total_cost(lower(preset(name)), size, 2)
    assert cost.macs == flop_counter_macs(module, 2, module.in_channels, *size)
    assert cost.parameters == sum(p.numel() for p in module.parameters())
    assert cost.buffers == sum(b.numel() for b in module.buffers())


def test_a_difference_that_no_convention_explains_is_found() -> None:
    graph = lower(preset("phasenet"))
    module = build(graph)
    counts = count(module, torch.randn(2, module.in_channels, 512))
    wrong = {d.what for d in compare(graph, (512,), 1, counts) if not d.agrees}
    assert wrong == {"MACs (fvcore)", "MACs (FlopCounterMode)", "element-wise (fvcore)"}


# --- others' --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FULL)
def test_the_references_own_modules_have_our_parameters_and_macs(name: str) -> None:
    graph = lower(preset(name))
    size = (256,) * 2 if graph.dims == 2 else (64,) * 3
    with torch.device("meta"):
        reference = FULL[name]().eval()
    cost = total_cost(graph, size)
    assert cost.parameters == sum(p.numel() for p in reference.parameters())
    assert cost.macs == flop_counter_macs(reference, 1, 1, *size)


@pytest.mark.parametrize("name", ["monai-basicunet-2d", "monai-unet-2d", "nnunet-plain-3d"])
def test_fvcore_counts_the_references_own_modules_as_we_do(name: str) -> None:
    graph = lower(preset(name))
    size = (32,) * 2 if graph.dims == 2 else (32, 32, 64)
    counts = count(FULL[name](), torch.randn(1, 1, *size))
    cost = total_cost(graph, size)
    assert (counts.parameters, counts.macs, counts.flop_counter_macs) == (
        cost.parameters,
        cost.macs,
        cost.macs,
    )
    assert not counts.unsupported


class _Odd(nn.Module):
    """Operators that our networks lack, a dict as output, a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding="same")
        self.linear = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.conv(x)
        tokens = self.linear(x.flatten(2).transpose(1, 2))
        mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return {"main": nn.functional.softmax(mixed, dim=-1) * self.scale, "odd": torch.erf(x)}


def test_a_foreign_module_is_counted_and_what_is_not_is_named() -> None:
    counts = count(_Odd(), torch.randn(2, 1, 6, 6))
    conv, linear, attention = 2 * 36 * 4 * 9, 2 * 36 * 16, 2 * 36 * 36 * (4 + 4)
    assert counts.macs == conv + linear + attention
    assert counts.unsupported == {"aten::erf": 1}
    assert (counts.parameters, counts.trainable_parameters) == (61, 60)
    assert counts.elementwise == 2 * (2 * 36 * 4)


class _Untraceable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch._C._get_tracing_state():
            raise RuntimeError("not\nwhile tracing")
        return nn.functional.conv2d(x, torch.ones(1, 1, 3, 3))


def test_a_module_that_cannot_be_traced_is_counted_by_the_second_witness() -> None:
    counts = count(_Untraceable(), torch.randn(1, 1, 5, 5))
    assert counts.macs is None
    assert counts.elementwise is None
    assert counts.flop_counter_macs == 81
    assert counts.notes == ("fvcore cannot trace this module: RuntimeError: not",)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_crops_and_pads_of_unequal_maps_can_be_traced() -> None:
    """``torch.jit`` gives sizes as tensors; ``torch.sym_min`` takes none."""
    large, small = torch.randn(1, 1, 6, 7), torch.randn(1, 1, 4, 7)
    for layer, pair in ((CropTo(), (large, small)), (PadTo("both", "zeros"), (small, large))):
        traced = torch.jit.trace(layer, pair)
        torch.testing.assert_close(traced(*pair), layer(*pair))

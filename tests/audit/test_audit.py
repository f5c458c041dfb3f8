"""The audit as a whole: cost, inversions, advice."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import unet_nas
from unet_nas import Architecture, InputError, SizeError
from unet_nas.audit.advice import advise
from unet_nas.audit.fit import fit_batch, fit_patch, fit_width
from unet_nas.audit.memory import Training, training_memory
from unet_nas.unet.build import build
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import AxisSizes

SMALL = Architecture(width=8, depth=3)
BUDGET = 40 * 2**20


def peak(architecture, size, batch, training=None):
    return training_memory(lower(architecture), size, batch, training or Training()).peak_bytes


def test_published_figures():
    net = unet_nas.preset("unet-2015")
    result = unet_nas.audit(net, patch_size=(572, 572))
    assert result.parameters == 31_030_658
    assert result.macs == 150_428_424_448
    assert result.output_size == (388, 388)
    same = unet_nas.audit(Architecture(), patch_size=(256, 256))
    assert (same.parameters, same.macs) == (31_042_434, 48_096_083_968)


def test_parts_and_nodes_add_up_to_the_total():
    net = Architecture(width=8, depth=3, block="residual", deep_supervision=2)
    result = unet_nas.audit(net, patch_size=(64, 64), batch_size=3)
    for field in ("parameters", "buffers", "macs", "elementwise", "activation_elements"):
        total = getattr(result.total, field)
        assert sum(getattr(cost, field) for cost in result.nodes) == total
        assert sum(getattr(cost, field) for cost in result.stages) == total
    assert sum(result.breakdown.values()) == result.peak_training_bytes


def test_macs_of_a_batch_equal_the_flop_counter():
    net = Architecture(width=8, depth=3, groups=[1, 2, 2, 4], down="anti_aliased_max_pool")
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        build(net)(torch.empty(3, 1, 64, 64))
    result = unet_nas.audit(net, patch_size=(64, 64), batch_size=3)
    assert 2 * result.macs == counter.get_total_flops() == result.flops


def test_valid_padding_looks_dearer_per_position():
    valid = unet_nas.audit(unet_nas.preset("unet-2015"), patch_size=(572, 572))
    assert valid.macs_per_output_position == 150_428_424_448 / 388**2


def test_largest_batch_is_the_last_that_fits():
    batch = fit_batch(SMALL, BUDGET, (64, 64), Training())
    assert peak(SMALL, (64, 64), batch) <= BUDGET < peak(SMALL, (64, 64), batch + 1)


def test_largest_patch_is_the_last_valid_one_that_fits():
    size = fit_patch(SMALL, BUDGET, (64, 32), 2, Training())
    assert size[0] == pytest.approx(2 * size[1], abs=8)
    assert peak(SMALL, size, 2) <= BUDGET
    larger = (size[0] + 8, size[1] + 8)
    assert peak(SMALL, larger, 2) > BUDGET


def test_widest_width_is_the_last_that_fits():
    width = fit_width(SMALL, BUDGET, (64, 64), 2, Training())

    def widened(by):
        return SMALL.model_copy(update={"width": width + by})

    assert peak(widened(0), (64, 64), 2) <= BUDGET < peak(widened(1), (64, 64), 2)


def test_widths_that_break_a_rule_are_left_out():
    grouped = SMALL.model_copy(update={"norm": Architecture(norm={"type": "group"}).norm})
    width = fit_width(grouped, BUDGET, (64, 64), 2, Training())
    assert width % 8 == 0


def test_nothing_fits_a_budget_of_one_byte():
    assert fit_batch(SMALL, 1, (64, 64), Training()) is None
    assert fit_patch(SMALL, 1, (64, 64), 1, Training()) is None


def test_a_network_that_runs_on_no_size_fits_none():
    unfit = Architecture(depth=1, width=2, up={"type": "transposed_conv", "padding": 5})
    assert not any(AxisSizes(lower(unfit), 0).valid(size) for size in range(1, 100))
    assert fit_patch(unfit, BUDGET, (64, 64), 1, Training()) is None
    assert fit_width(SMALL, 1, (64, 64), 1, Training()) is None


def test_width_needs_an_architecture_that_has_one():
    listed = Architecture(depth=2, features=(8, 8, 8))
    with pytest.raises(InputError, match="width and growth"):
        fit_width(listed, BUDGET, (64, 64), 1, Training())


def test_advice_is_what_the_changed_network_costs():
    rows = {row.change: row for row in advise(SMALL, patch_size=(64, 64), batch_size=2)}
    added = SMALL.model_copy(update={"fusion": Architecture(fusion="add").fusion})
    assert rows["add instead of concat"].parameters == lower(added).parameters()
    assert rows["add instead of concat"].peak_training_bytes == peak(added, (64, 64), 2)
    checkpointed = peak(SMALL, (64, 64), 2, Training(checkpoint=("0",)))
    assert rows["checkpoint stage 0"].peak_training_bytes == checkpointed
    assert rows["autocast to bf16"].macs == rows["as it is"].macs


def test_advice_leaves_out_what_does_not_apply():
    added = Architecture(width=8, depth=2, fusion="add")
    training = Training(precision="bf16", in_place=True, checkpoint=("0",))
    rows = advise(added, patch_size=(64, 64), training=training)
    assert [row.change for row in rows] == ["as it is"]


@pytest.mark.parametrize("batch", [0, -1, True, 1.5])
def test_a_batch_is_a_positive_integer(batch):
    with pytest.raises(InputError, match="at least 1 sample"):
        unet_nas.audit(SMALL, patch_size=(64, 64), batch_size=batch)


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(SizeError, match="must have 2 numbers"):
        unet_nas.audit(SMALL, patch_size=(64,))
    with pytest.raises(SizeError, match="needs equal sizes"):
        unet_nas.audit(SMALL, patch_size=(60, 64))


def test_the_audit_imports_no_torch():
    code = (
        "import sys, unet_nas; from unet_nas.audit.advice import advise\n"
        "net = unet_nas.Architecture(depth=2)\n"
        "unet_nas.audit(net, patch_size=(32, 32)); advise(net, patch_size=(32, 32))\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_of_the_step_may_be_given_by_name():
    by_name = unet_nas.audit(
        SMALL, patch_size=(64, 64), batch_size=2, precision="bf16", optimizer="sgd", in_place=True
    )
    training = unet_nas.Training(precision="bf16", optimizer="sgd", in_place=True)
    whole = unet_nas.audit(SMALL, patch_size=(64, 64), batch_size=2, training=training)
    assert by_name.training == training
    assert by_name.peak_training_bytes == whole.peak_training_bytes


def test_an_unknown_word_is_refused():
    with pytest.raises(InputError, match="precision must be one of fp32, bf16"):
        unet_nas.audit(SMALL, patch_size=(64, 64), precision="fp8")

"""The oracle itself: small sums known by hand, and a second witness."""

import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unet_nas.profile.memory import inference_peak, is_leaf_operator, training_peaks
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build
from unet_nas.unet.losses import SegmentationLoss

KIB = 1024


class Witness(TorchDispatchMode):
    """Counts the storages that operators give out, until Python sees them die."""

    def __init__(self, alive):
        super().__init__()
        self.live = sum(t.untyped_storage().nbytes() for t in alive)
        self.peak = self.live
        self._known = weakref.WeakSet()
        for tensor in alive:
            self._known.add(tensor.untyped_storage())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf.untyped_storage())
        return out

    def _note(self, storage):
        if storage not in self._known:
            size = storage.nbytes()
            self._known.add(storage)
            weakref.finalize(storage, self._gone, size)
            self.live += size
            self.peak = max(self.peak, self.live)

    def _gone(self, size):
        self.live -= size


def test_two_maps_live_at_once_in_a_chain():
    chain = nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.Tanh())
    found = inference_peak(chain, torch.zeros(1, 1, 16, 16))
    assert found.baseline_bytes == KIB
    assert found.tensor_bytes == 3 * KIB


def test_workspaces_are_only_in_the_raw_figure():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    found = inference_peak(conv, torch.zeros(2, 4, 16, 16))
    assert found.tensor_bytes == found.baseline_bytes + 8 * KIB
    assert found.raw_bytes > found.tensor_bytes


@pytest.mark.parametrize(
    ("name", "leaf"),
    [
        ("aten::convolution", True),
        ("aten::native_batch_norm", True),
        ("aten::instance_norm", False),
        ("aten::cross_entropy_loss", False),
        ("aten::to", False),
        ("Optimizer.step#SGD.step", False),
    ],
)
def test_leaf_operators(name, leaf):
    assert is_leaf_operator(name) is leaf


def test_the_first_step_makes_the_optimizers_state():
    model = nn.Conv2d(1, 8, 1, bias=False)
    data, target = torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    first, second = training_peaks(model, SegmentationLoss(), optimizer, data, target)
    assert first.baseline_bytes == second.baseline_bytes == 8 * 4 + 16 + 32
    state = 2 * 8 * 4 + 4
    assert second.timeline[-1][1] == first.timeline[-1][1] == 80 + 8 * 4 + state
    assert second.tensor_bytes >= first.tensor_bytes


def test_a_second_witness_agrees_where_nothing_forks():
    # Dispatch modes keep autograd from adding gradients in place: a network without skips.
    torch.manual_seed(0)
    net = build(Architecture(depth=2, width=4, fusion="none", activation="silu"))
    data, target = torch.randn(2, 1, 16, 16), torch.zeros(2, 16, 16, dtype=torch.int64)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=True)
    criterion = SegmentationLoss()
    _, second = training_peaks(net, criterion, optimizer, data, target)
    for parameter in net.parameters():
        parameter.grad = None
    with Witness([*net.parameters(), *net.buffers(), data, target]) as witness:
        criterion(net(data), target).backward()
    assert witness.peak == pytest.approx(second.tensor_bytes, rel=2e-3)

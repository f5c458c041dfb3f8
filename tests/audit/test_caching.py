"""The replay of CUDA's caching allocator against cases worked out by its rules."""

import random

import pytest

from unet_nas import Architecture, audit
from unet_nas.audit.caching import replay, round_up
from unet_nas.audit.memory import Training

MIB = 1 << 20


@pytest.mark.parametrize(
    ("requests", "segments_mib"),
    [
        ([100], 2),  # a small request takes a small segment
        ([MIB, MIB], 2),  # two of one MiB share it
        ([MIB, MIB, 1], 4),
        ([MIB + 1], 20),  # a larger one takes a segment of 20 MiB
        ([5 * MIB] * 4, 20),
        ([5 * MIB] * 4 + [MIB + 1], 40),
        ([10 * MIB], 10),  # from 10 MiB on a segment of its own
        ([10 * MIB + 1], 12),
    ],
)
def test_segments(requests, segments_mib):
    events = list(enumerate(requests))
    assert replay(events).reserved_bytes == segments_mib * MIB


def test_blocks_are_rounded_to_512_bytes():
    assert replay([(0, 1), (1, 513)]).allocated_bytes == 512 + 1024


def test_neighbours_that_are_free_are_joined():
    blocks = [(i, 5 * MIB) for i in range(4)]
    freed = [(i, -1) for i in (1, 0, 2)]
    assert replay([*blocks, *freed, (9, 9 * MIB)]).reserved_bytes == 20 * MIB


def test_the_best_fit_is_taken():
    events = [(0, 30 * MIB), (1, 12 * MIB), (0, -1), (1, -1), (2, 12 * MIB), (3, 30 * MIB)]
    assert replay(events).reserved_bytes == 42 * MIB


def test_what_is_left_of_a_large_block_is_split_off_only_above_one_mib():
    events = [(0, 12 * MIB), (0, -1), (1, 11 * MIB), (2, MIB)]
    assert replay(events).reserved_bytes == 12 * MIB + 2 * MIB


def test_reserved_is_never_below_what_is_allocated():
    rng, live, events = random.Random(0), [], []
    running = peak = 0
    sizes = {}
    for key in range(2000):
        if live and rng.random() < 0.5:
            gone = live.pop(rng.randrange(len(live)))
            running -= sizes[gone]
            events.append((gone, -1))
        else:
            size = int(2 ** rng.uniform(0, 26))
            live.append(key)
            sizes[key] = round_up(size)
            running += sizes[key]
            events.append((key, size))
        peak = max(peak, running)
    result = replay(events)
    assert peak <= result.allocated_bytes <= result.reserved_bytes


def test_an_audit_for_cuda_states_reserved_memory_and_budgets_with_it():
    net = Architecture(width=8, depth=3)
    on_cuda = Training(device="cuda", implementation="foreach")
    result = audit(net, patch_size=(64, 64), batch_size=2, training=on_cuda)
    cuda = result.training_step.cuda
    assert result.peak_training_bytes <= cuda.allocated_bytes <= cuda.reserved_bytes
    assert result.budgeted_bytes == cuda.reserved_bytes
    on_cpu = audit(net, patch_size=(64, 64), batch_size=2)
    assert on_cpu.training_step.cuda is None
    assert on_cpu.budgeted_bytes == on_cpu.peak_training_bytes

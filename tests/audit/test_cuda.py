"""The caching allocator in miniature, and the estimates that rest on it."""

from random import Random

from benchmarks.memory_exactness import RESULTS, predicted_again, read_rows
from unet_nas.audit.audit import audit
from unet_nas.audit.caching import CachingAllocator
from unet_nas.audit.cuda import cuda_memory
from unet_nas.audit.memory import Training, training_memory
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower

MIB = 1 << 20


def test_small_requests_share_a_segment():
    allocator = CachingAllocator()
    blocks = [allocator.allocate(MIB // 2) for _ in range(4)]
    assert (allocator.reserved_bytes, allocator.allocated_bytes) == (2 * MIB, 2 * MIB)
    for block in blocks:
        allocator.release(block)
    assert allocator.allocated_bytes == 0
    allocator.allocate(MIB)
    assert allocator.reserved_bytes == 2 * MIB


def test_large_requests_get_twenty_mib_or_their_own():
    allocator = CachingAllocator()
    allocator.allocate(MIB + 1)
    assert allocator.reserved_bytes == 20 * MIB
    allocator.allocate(11 * MIB + 1)
    assert allocator.reserved_bytes == 20 * MIB
    allocator.allocate(31 * MIB)
    assert allocator.reserved_bytes == 52 * MIB


def test_a_small_rest_is_not_split_off():
    allocator = CachingAllocator()
    allocator.allocate(19 * MIB + MIB // 2)
    assert allocator.allocated_bytes == 20 * MIB


def test_all_released_leaves_whole_segments():
    allocator, rng, blocks = CachingAllocator(), Random(0), []
    for _ in range(2000):
        if blocks and rng.random() < 0.5:
            allocator.release(blocks.pop(rng.randrange(len(blocks))))
        else:
            blocks.append(allocator.allocate(rng.choice((100, 5000, MIB, 3 * MIB, 30 * MIB))))
        assert sum(block.size for block in blocks) == allocator.allocated_bytes
        assert allocator.allocated_bytes <= allocator.reserved_bytes
    for block in blocks:
        allocator.release(block)
    free = [size for sizes in allocator._free.values() for size, _ in sizes]
    assert sum(free) == allocator.reserved_bytes
    assert min(free) >= 2 * MIB


def test_tensors_fit_into_blocks_and_blocks_into_segments():
    graph = lower(Architecture(depth=3, width=16, norm="instance"))
    for training in (
        Training(device="cuda"),
        Training(device="cuda", precision="bf16", checkpoint=("0",), optimizer="sgd"),
    ):
        memory = training_memory(graph, (128, 128), 2, training)
        found = cuda_memory(graph, memory, training)
        assert found.tensor_bytes <= found.allocated_bytes <= found.reserved_bytes
        assert found.reserved_bytes < 2 * found.tensor_bytes


def test_a_budget_on_cuda_means_reserved_memory():
    net = Architecture(depth=3, width=8)
    on_cuda = Training(device="cuda", implementation="foreach")
    result = audit(net, patch_size=(64, 64), batch_size=2, training=on_cuda)
    assert result.cuda is not None
    assert result.budgeted_bytes == result.cuda.reserved_bytes > result.peak_training_bytes
    on_cpu = audit(net, patch_size=(64, 64), batch_size=2)
    assert on_cpu.cuda is None
    assert on_cpu.budgeted_bytes == on_cpu.peak_training_bytes


def test_peaks_equal_what_a_gpu_measured_to_the_byte():
    """Of the cases that an H100 ran; their measurements are committed."""
    rows = read_rows(RESULTS / "memory_exactness_cuda.csv")
    assert len(rows) == 720
    for row in rows[::8]:
        now = predicted_again(row, "cuda")
        assert now.predicted_training == row.measured_training, row.seed
        assert now.predicted_inference == row.measured_inference, row.seed

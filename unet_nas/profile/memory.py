"""Measured peak memory of any ``nn.Module``: the truth that the static model is held to.

`torch.profiler(profile_memory=True)` reports every allocation and release of a device's allocator
in order, nested in the operators that asked for them. The peak of their running sum is the *raw*
peak. An allocation that is made and released inside one leaf ATen operator is that operator's
private *workspace* (re-ordered oneDNN blocks, reduction buffers): it depends on the library build
and on the processor. Without those the running sum is the *tensor* peak, which
`unet_nas.audit.memory` predicts.

A *leaf ATen operator* is one that PyTorch does not decompose further before dispatch to a backend,
that is, what `__torch_dispatch__` sees: `convolution` and `native_batch_norm` are leaves,
`cross_entropy_loss` and `instance_norm` are not.

The caching allocator of CUDA reports its blocks, which are rounded up. What was asked for stands in
its own history, in the same order; the figures here are of that.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

Criterion = Callable[[Any, Tensor], Tensor]

_PHASE = "unet_nas phase"
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class AllocationEvent:
    """One change of the allocator: ``size_bytes`` is negative for a release.

    Attributes:
        size_bytes: Bytes taken (positive) or given back (negative).
        path: Names of the operators around it, outermost first.
        workspace: Whether the block lives inside one leaf ATen operator only.
        time_ns: When, by the profiler's clock.
    """

    size_bytes: int
    path: tuple[str, ...]
    workspace: bool
    time_ns: int


@dataclass(frozen=True, slots=True)
class MeasuredPeak:
    """The peak of one measured phase.

    Attributes:
        tensor_bytes: Peak without operator-internal workspaces.
        raw_bytes: Peak of everything the allocator handed out.
        baseline_bytes: What was alive before the first phase (parameters, buffers, inputs).
        at: Operators around the tensor peak, outermost first.
        timeline: ``(operator, live tensor bytes)`` after each event that is no workspace.
    """

    tensor_bytes: int
    raw_bytes: int
    baseline_bytes: int
    at: tuple[str, ...]
    timeline: tuple[tuple[str, int], ...] = field(repr=False)


def training_step(
    model: nn.Module,
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    target: Tensor,
    *,
    autocast: str | None = None,
    set_to_none: bool = True,
) -> None:
    """Runs the training step whose memory is defined: nothing but the loss is held by name."""
    optimizer.zero_grad(set_to_none=set_to_none)
    with _autocast(autocast, inputs.device.type):
        loss = criterion(model(inputs), target)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def training_peaks(
    model: nn.Module,
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    target: Tensor,
    *,
    autocast: str | None = None,
    set_to_none: bool = True,
) -> tuple[MeasuredPeak, MeasuredPeak]:
    """Measures the first and the second training step of a model where its inputs are.

    The second is the steady state, in which the optimizer's state exists from the start; it is what
    the static model predicts. The first one differs in that the optimizer creates its state last.

    Args:
        model: The module; it is put into training mode and its weights change.
        criterion: Maps the model's output and the target to a scalar loss; of a module, its
            buffers count.
        optimizer: An optimizer over the model's parameters that has not stepped yet.
        inputs: A batch, ``(batch, channels, *spatial)``.
        target: What the criterion compares with.
        autocast: ``"bf16"`` or ``"fp16"`` for a forward pass under autocast.
        set_to_none: How gradients are cleared at the start of the step.

    Returns:
        The peaks of step one and of step two.
    """
    model.train()

    def phase() -> None:
        training_step(
            model, criterion, optimizer, inputs, target, autocast=autocast, set_to_none=set_to_none
        )

    buffers = criterion.buffers() if isinstance(criterion, nn.Module) else ()
    state_bytes = _state_bytes(model, (inputs, target, *buffers))
    first, second = _measure([phase, phase], state_bytes, inputs.device.type)
    return first, second


def inference_peak(
    model: nn.Module, inputs: Tensor, *, autocast: str | None = None
) -> MeasuredPeak:
    """Measures one forward pass in evaluation mode without gradients."""
    model.eval()

    def phase() -> None:
        with torch.inference_mode(), _autocast(autocast, inputs.device.type):
            model(inputs)

    return _measure([phase], _state_bytes(model, (inputs,)), inputs.device.type)[0]


def _autocast(precision: str | None, device: str) -> contextlib.AbstractContextManager[Any]:
    if precision is None:
        return contextlib.nullcontext()
    return torch.autocast(device, dtype=_AUTOCAST[precision])


def _state_bytes(model: nn.Module, extra: Iterable[Tensor]) -> int:
    tensors = [*model.parameters(), *model.buffers(), *extra]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _measure(
    phases: list[Callable[[], None]], baseline_bytes: int, device: str
) -> list[MeasuredPeak]:
    names = [f"{_PHASE} {i}" for i in range(len(phases))]
    with (
        _history(device) as asked,
        profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as run,
    ):
        for name, phase in zip(names, phases, strict=True):
            with record_function(name):
                phase()
    roots = run.profiler.kineto_results.experimental_event_tree()
    windows = [(r.start_time_ns, r.end_time_ns) for n in names for r in roots if r.name == n]
    return _peaks(list(allocation_events(roots, device, asked)), windows, baseline_bytes)


Asked = dict[int, deque[int]]


@contextlib.contextmanager
def _history(device: str) -> Iterator[Asked]:
    """Fills, at its end, what CUDA's allocator was asked for at each address, in order."""
    asked: Asked = defaultdict(deque)
    if device != "cuda":
        yield asked
        return
    torch.cuda.synchronize()
    torch.cuda.memory._record_memory_history("all", context=None)
    try:
        yield asked
        for entry in torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]:
            if entry["action"] == "alloc":
                asked[entry["addr"]].append(entry["size"])
    finally:
        torch.cuda.memory._record_memory_history(None)


@dataclass(frozen=True, slots=True)
class _Found:
    """An event of an allocator as the profiler tells it; ``leaf`` is 0 outside leaf operators."""

    time_ns: int
    size_bytes: int
    address: int
    leaf: int
    path: tuple[str, ...]


def allocation_events(
    roots: Iterable[Any], device: str = "cpu", asked: Asked | None = None
) -> Iterator[AllocationEvent]:
    """Flattens the profiler's event tree to its allocations and releases, in order of time.

    Args:
        roots: The tree.
        device: Whose allocator.
        asked: Of CUDA, the sizes asked for at each address, in order.
    """
    found: list[_Found] = []
    for root in roots:
        _collect(root, device, found)
    found.sort(key=lambda event: event.time_ns)
    if asked:
        found = _as_asked(found, asked)
    private = _workspaces(found)
    for position, event in enumerate(found):
        yield AllocationEvent(event.size_bytes, event.path, position in private, event.time_ns)


def _collect(root: Any, device: str, found: list[_Found]) -> None:
    """Appends all allocations under an event."""
    key = device.upper()
    stack: list[tuple[Any, tuple[str, ...], int]] = [(root, (), 0)]
    while stack:
        event, path, leaf = stack.pop()
        if "Allocation" in str(event.tag):
            extra = event.extra_fields
            if extra.device.type == device:
                found.append(_Found(event.start_time_ns, extra.alloc_size, extra.ptr, leaf, path))
            continue
        if not leaf and is_leaf_operator(event.name, key) and not _is_autocast(event, key):
            leaf = event.id
        inner = (*path, event.name)
        stack.extend((child, inner, leaf) for child in reversed(event.children))


def _as_asked(found: list[_Found], asked: Asked) -> list[_Found]:
    """Returns the events with the bytes that were asked for, not those of the blocks given."""
    alive: dict[int, int] = {}
    exact = []
    for event in found:
        if event.size_bytes > 0:
            size = alive[event.address] = asked[event.address].popleft()
        else:
            size = -alive.pop(event.address, -event.size_bytes)
        exact.append(replace(event, size_bytes=size))
    return exact


def _is_autocast(event: Any, key: str) -> bool:
    """Whether an event is autocast's wrapper: it converts the arguments, then calls itself."""
    nested = any(child.name == event.name for child in event.children)
    return nested and _has_kernel(event.name, f"Autocast{key}")


def _has_kernel(overload: str, key: str) -> bool:
    try:
        return torch._C._dispatch_has_kernel_for_dispatch_key(overload, key)
    except RuntimeError:  # TorchScript-only overloads are unknown to the dispatcher
        return False


def _workspaces(found: list[_Found]) -> set[int]:
    """Finds the events of blocks that are taken and given back inside one leaf operator."""
    taken: dict[int, tuple[int, int]] = {}
    private: set[int] = set()
    for position, event in enumerate(found):
        if event.size_bytes >= 0:
            taken[event.address] = (position, event.leaf)
            continue
        start, owner = taken.pop(event.address, (-1, 0))
        if owner and owner == event.leaf:
            private.update((start, position))
    return private


def is_leaf_operator(name: str, key: str = "CPU") -> bool:
    """Whether ``aten::…`` reaches a backend as one operator (see the module's docstring)."""
    namespace, _, operator = name.partition("::")
    if namespace != "aten" or not hasattr(torch.ops.aten, operator):
        return False
    overloads = [o for o in getattr(torch.ops.aten, operator).overloads() if "out" not in o]
    if "default" in overloads:
        overloads = ["default"]
    return not any(_is_composite(f"{name}.{o}".removesuffix(".default"), key) for o in overloads)


def _is_composite(overload: str, key: str) -> bool:
    return _has_kernel(overload, "CompositeImplicitAutograd") and not _has_kernel(overload, key)


def _peaks(
    events: list[AllocationEvent], windows: list[tuple[int, int]], baseline_bytes: int
) -> list[MeasuredPeak]:
    """Splits the running sums into the phases and takes the maximum of each.

    Phases are told apart by time: on CUDA, backward runs in a thread of its own.
    """
    live = raw = baseline_bytes
    results = []
    for begin, end in windows:
        best, best_raw = live, raw
        at: tuple[str, ...] = ()
        timeline: list[tuple[str, int]] = []
        for event in (e for e in events if begin <= e.time_ns <= end):
            raw += event.size_bytes
            best_raw = max(best_raw, raw)
            if event.workspace:
                continue
            live += event.size_bytes
            path = tuple(name for name in event.path if not name.startswith(_PHASE))
            timeline.append(("/".join(path), live))
            if live > best:
                best, at = live, path
        results.append(MeasuredPeak(best, best_raw, baseline_bytes, at, tuple(timeline)))
    return results

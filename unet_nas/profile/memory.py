"""Measured peak memory of any ``nn.Module`` on a CPU: the truth that the static model is held to.

`torch.profiler(profile_memory=True)` reports every allocation and release of the CPU allocator in
order, nested in the operators that asked for them. The peak of their running sum is the *raw*
peak. An allocation that is made and released inside one leaf ATen operator is that operator's
private *workspace* (re-ordered oneDNN blocks, reduction buffers): it depends on the library build
and on the processor. Without those the running sum is the *tensor* peak, which
`unet_nas.audit.memory` predicts.

A *leaf ATen operator* is one that PyTorch does not decompose further before dispatch to a backend,
that is, what `__torch_dispatch__` sees: `convolution` and `native_batch_norm` are leaves,
`cross_entropy_loss` and `instance_norm` are not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

Criterion = Callable[[Any, Tensor], Tensor]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class AllocationEvent:
    """One change of the allocator: ``size_bytes`` is negative for a release.

    Attributes:
        size_bytes: Bytes taken (positive) or given back (negative).
        path: Names of the operators around it, outermost first.
        workspace: Whether the block lives inside one leaf ATen operator only.
    """

    size_bytes: int
    path: tuple[str, ...]
    workspace: bool


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
    with _autocast(autocast):
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
    """Measures the first and the second training step of a model on a CPU.

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
    first, second = _measure([phase, phase], _state_bytes(model, (inputs, target, *buffers)))
    return first, second


def inference_peak(
    model: nn.Module, inputs: Tensor, *, autocast: str | None = None
) -> MeasuredPeak:
    """Measures one forward pass in evaluation mode without gradients on a CPU."""
    model.eval()

    def phase() -> None:
        with torch.inference_mode(), _autocast(autocast):
            model(inputs)

    return _measure([phase], _state_bytes(model, (inputs,)))[0]


def _autocast(precision: str | None) -> contextlib.AbstractContextManager[Any]:
    if precision is None:
        return contextlib.nullcontext()
    return torch.autocast("cpu", dtype=_AUTOCAST[precision])


def _state_bytes(model: nn.Module, extra: Iterable[Tensor]) -> int:
    tensors = [*model.parameters(), *model.buffers(), *extra]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _measure(phases: list[Callable[[], None]], baseline_bytes: int) -> list[MeasuredPeak]:
    names = [f"unet_nas phase {i}" for i in range(len(phases))]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as run:
        for name, phase in zip(names, phases, strict=True):
            with record_function(name):
                phase()
    kineto = run.profiler.kineto_results
    roots = kineto.experimental_event_tree()
    return _peaks(list(allocation_events(roots)), names, baseline_bytes)


def allocation_events(roots: Iterable[Any]) -> Iterator[AllocationEvent]:
    """Flattens the profiler's event tree to its allocations and releases, in order of time."""
    found: list[tuple[int, int, int, int, tuple[str, ...]]] = []
    for root in roots:
        _collect(root, (), 0, found)
    found.sort(key=lambda item: item[0])
    private = _workspaces(found)
    for position, (_, size, _, _, path) in enumerate(found):
        yield AllocationEvent(size, path, position in private)


def _collect(
    root: Any,
    path: tuple[str, ...],
    leaf: int,
    found: list[tuple[int, int, int, int, tuple[str, ...]]],
) -> None:
    """Appends ``(time, size, address, leaf operator, path)`` of all allocations under an event."""
    stack = [(root, path, leaf)]
    while stack:
        event, path, leaf = stack.pop()
        if "Allocation" in str(event.tag):
            extra = event.extra_fields
            found.append((event.start_time_ns, extra.alloc_size, extra.ptr, leaf, path))
            continue
        if not leaf and is_leaf_operator(event.name) and not _is_autocast(event):
            leaf = event.id
        inner = (*path, event.name)
        stack.extend((child, inner, leaf) for child in reversed(event.children))


def _is_autocast(event: Any) -> bool:
    """Whether an event is autocast's wrapper: it converts the arguments, then calls itself."""
    nested = any(child.name == event.name for child in event.children)
    return nested and _has_kernel(event.name, "AutocastCPU")


def _has_kernel(overload: str, key: str) -> bool:
    try:
        return torch._C._dispatch_has_kernel_for_dispatch_key(overload, key)
    except RuntimeError:  # TorchScript-only overloads are unknown to the dispatcher
        return False


def _workspaces(found: list[tuple[int, int, int, int, tuple[str, ...]]]) -> set[int]:
    """Finds the events of blocks that are taken and given back inside one leaf operator."""
    taken: dict[int, tuple[int, int]] = {}
    private: set[int] = set()
    for position, (_, size, address, leaf, _) in enumerate(found):
        if size >= 0:
            taken[address] = (position, leaf)
            continue
        start, owner = taken.pop(address, (-1, 0))
        if owner and owner == leaf:
            private.update((start, position))
    return private


def is_leaf_operator(name: str) -> bool:
    """Whether ``aten::…`` reaches a backend as one operator (see the module's docstring)."""
    namespace, _, operator = name.partition("::")
    if namespace != "aten" or not hasattr(torch.ops.aten, operator):
        return False
    overloads = [o for o in getattr(torch.ops.aten, operator).overloads() if "out" not in o]
    if "default" in overloads:
        overloads = ["default"]
    return not any(_is_composite(f"{name}.{o}".removesuffix(".default")) for o in overloads)


def _is_composite(overload: str) -> bool:
    return _has_kernel(overload, "CompositeImplicitAutograd") and not _has_kernel(overload, "CPU")


def _peaks(
    events: list[AllocationEvent], names: list[str], baseline_bytes: int
) -> list[MeasuredPeak]:
    """Splits the running sums into the phases and takes the maximum of each."""
    live = raw = baseline_bytes
    results = []
    for name in names:
        best, best_raw = live, raw
        at: tuple[str, ...] = ()
        timeline: list[tuple[str, int]] = []
        for event in (e for e in events if e.path[:1] == (name,)):
            raw += event.size_bytes
            best_raw = max(best_raw, raw)
            if event.workspace:
                continue
            live += event.size_bytes
            timeline.append(("/".join(event.path[1:]), live))
            if live > best:
                best, at = live, event.path[1:]
        results.append(MeasuredPeak(best, best_raw, baseline_bytes, at, tuple(timeline)))
    return results

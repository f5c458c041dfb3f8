"""One candidate of a space, judged by arithmetic: does it exist, does it align, does it fit.

Costs are those of the audit: MACs and the memory of inference for one patch, the memory of a
training step for the batch of ``train``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

from pydantic import ValidationError

from unet_nas.audit.cost import forward_macs
from unet_nas.audit.cuda import cuda_memory
from unet_nas.audit.memory import Device, Training, inference_memory, training_memory
from unet_nas.errors import Fault, Path
from unet_nas.operators.builder import Graph
from unet_nas.operators.fields import MAX_CHANNELS
from unet_nas.space.budget import STATIC_LIMITS, Conditions, Limit
from unet_nas.space.load import conditions_of, training_of
from unet_nas.text.document import format_path
from unet_nas.text.sentences import troubles_of
from unet_nas.unet.architecture import Architecture, Lowered
from unet_nas.unet.shapes import AxisTrace, trace_axis

__all__ = ["Candidate", "Reason", "judge"]

#: a limit that nothing exceeds
_ANY = 1 << 62
#: said of a field that breaks its rule at several stages
_MORE = re.compile(r" \(and \d+ more of the kind\)$")
_NUMBERS = re.compile(r"\d+(?:[x.]\d+)*")
_SIZE_REASONS: Mapping[str, str] = {
    "mismatch": "maps that are joined differ in size",
    "too_small": "a map is smaller than a kernel or window",
    "pad_too_large": "a map is too small for its padding",
    "not_divisible": "a cell of pixel_unshuffle does not divide a map",
    "single_value": "a norm is left with one value",
    "axes": "the patch size has another number of axes than the network",
}


@dataclass(frozen=True, slots=True, order=True)
class Reason:
    """Why a candidate is rejected, in words that other candidates share.

    Attributes:
        kind: ``rule`` (between fields), ``size`` (of maps) or ``budget``.
        text: The rule, what happens to the sizes, or the name of the limit.
    """

    kind: Literal["rule", "size", "budget"]
    text: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """What arithmetic knows of one candidate.

    Attributes:
        reasons: Why it is rejected; empty where it is feasible.
        costs: By the name of the limit, those that were computed.
        graph: The network, where no rule is broken.
        conditions: Patch and batch size that the costs hold for.
        faults: The broken rules, with the nearest fix.
    """

    reasons: frozenset[Reason]
    costs: dict[Limit, int] = field(default_factory=dict)
    graph: Graph | None = None
    conditions: Conditions | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def feasible(self) -> bool:
        """It exists, aligns and lies within all limits."""
        return not self.reasons

    @property
    def valid(self) -> bool:
        """No rule between fields is broken."""
        return self.graph is not None

    @property
    def aligned(self) -> bool:
        """It is valid and runs on the patch size."""
        return self.valid and not any(reason.kind == "size" for reason in self.reasons)


def judge(
    tree: Mapping[str, Any],
    limits: Mapping[Limit, int],
    *,
    device: Device = "cpu",
    thorough: bool = False,
) -> Candidate:
    """Judges one filled tree; the cheap checks come first.

    Args:
        tree: the sections ``architecture``, ``train`` and ``data`` without holes; the last two
            say how the training step runs (`training_of`).
        limits: the static limits.
        device: where it runs.
        thorough: compute the memory even of those that exceed both other limits.

    >>> tree = {"architecture": {"depth": 2, "width": 8}, "train": {"patch_size": 64}}
    >>> judge(tree, {"parameters": 1_000}).reasons
    frozenset({Reason(kind='budget', text='parameters')})
    """
    lowered = Lowered()
    try:
        Architecture.model_validate(tree["architecture"], context=lowered)
    except ValidationError as error:
        faults = tuple(_faults(error, tree["architecture"]))
        return Candidate(frozenset(map(rule_of, faults)), faults=faults)
    graph = lowered.graph
    assert graph is not None, "a valid architecture has been lowered"
    conditions = conditions_of(tree)
    costs: dict[Limit, int] = {"parameters": graph.parameters()}
    reasons: set[Reason] = set()
    size = conditions.size(graph.dims)
    if size is not None and len(size) != graph.dims:
        reasons.add(Reason("size", _SIZE_REASONS["axes"]))
    elif size is not None:
        traces = [trace_axis(graph, axis, n) for axis, n in enumerate(size)]
        reasons.update(_size_reasons(graph, traces, conditions.batch_size))
        if not reasons:
            training = training_of(tree, device)
            costs = _costs(graph, conditions, traces, limits, training=training, thorough=thorough)
    reasons.update(Reason("budget", name) for name in exceeded(costs, limits))
    return Candidate(frozenset(reasons), costs, graph, conditions)


def all_costs(
    candidate: Candidate, tree: Mapping[str, Any], *, device: Device = "cpu"
) -> dict[Limit, int]:
    """Returns all static costs of a candidate that runs, those that no limit asked for too.

    >>> tree = {"architecture": {"depth": 2, "width": 8}, "train": {"patch_size": 64}}
    >>> sorted(all_costs(judge(tree, {}), tree))
    ['inference_memory', 'macs', 'parameters', 'training_memory']
    """
    graph, conditions = candidate.graph, candidate.conditions
    assert graph is not None, "the candidate runs"
    assert conditions is not None, "the candidate runs"
    size = conditions.size(graph.dims)
    if size is None:
        return candidate.costs
    wanting = {name: _ANY for name in STATIC_LIMITS if name not in candidate.costs}
    traces = [trace_axis(graph, axis, n) for axis, n in enumerate(size)]
    training = training_of(tree, device)
    return candidate.costs | _costs(
        graph, conditions, traces, wanting, training=training, thorough=True
    )


def runs(graph: Graph, size: Sequence[int], batch_size: int) -> bool:
    """Tells whether a network trains on a patch size and a batch."""
    if len(size) != graph.dims:
        return False
    traces = [trace_axis(graph, axis, n) for axis, n in enumerate(size)]
    return next(_size_reasons(graph, traces, batch_size), None) is None


def exceeded(costs: Mapping[Limit, int], limits: Mapping[Limit, int]) -> list[Limit]:
    """Returns the limits that known costs exceed."""
    return [name for name, limit in limits.items() if costs.get(name, 0) > limit]


def _faults(error: ValidationError, tree: Any) -> Iterator[Fault]:
    for trouble in troubles_of(error.errors(include_url=False), tree, Architecture):
        yield trouble.fault


def rule_of(fault: Fault) -> Reason:
    """Returns a broken rule without its numbers and indices, so that equal ones are counted.

    The limit of features stays: it is the same for all candidates.
    """
    path: Path = tuple(part for part in fault.path if isinstance(part, str))
    text = f"{format_path(path)} {fault.rule}" if path else fault.rule
    return Reason("rule", _NUMBERS.sub(_as_letter, _MORE.sub("", text)))


def _as_letter(number: re.Match[str]) -> str:
    return number[0] if number[0] == str(MAX_CHANNELS) else "N"


def _size_reasons(graph: Graph, traces: Sequence[AxisTrace], batch_size: int) -> Iterator[Reason]:
    for trace in traces:
        for _, misfit in trace.misfits:
            yield Reason("size", _SIZE_REASONS[misfit.reason])
    for index, node in enumerate(graph.nodes):
        known = [trace.sizes[index] for trace in traces]
        positions = prod(n for n in known if n is not None)
        if None not in known and node.primitive.single_value(
            batch_size, node.channels, positions, True
        ):
            yield Reason("size", _SIZE_REASONS["single_value"])


def _costs(
    graph: Graph,
    conditions: Conditions,
    traces: Sequence[AxisTrace],
    limits: Mapping[Limit, int],
    *,
    training: Training,
    thorough: bool,
) -> dict[Limit, int]:
    """Returns MACs, and memory where it can still decide something: it takes ten times as long."""
    sizes = tuple(zip(*(trace.sizes for trace in traces), strict=True))
    costs: dict[Limit, int] = {"parameters": graph.parameters(), "macs": forward_macs(graph, sizes)}
    if len(exceeded(costs, limits)) > 1 and not thorough:
        return costs
    size, batch = sizes[0], conditions.batch_size
    if "training_memory" in limits:
        costs["training_memory"] = _step_bytes(graph, size, batch, training)
    if "inference_memory" in limits:
        memory = inference_memory(graph, size, 1, training.precision, device=training.device)
        costs["inference_memory"] = memory.peak_bytes
    return costs


def _step_bytes(graph: Graph, size: Sequence[int], batch: int, training: Training) -> int:
    """Returns what an audit compares with a memory budget: tensors, on CUDA what is reserved."""
    memory = training_memory(graph, size, batch, training)
    if training.device == "cpu":
        return memory.peak_bytes
    return cuda_memory(graph, memory, training).reserved_bytes

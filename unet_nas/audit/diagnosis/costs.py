"""Row 10: where parameters, MACs and activations sit, stage by stage, and why.

A stage halves every axis and, usually, doubles the channels: activations fall by 2^(dims - 1)
per stage, the weights of a convolution rise by 4, and their product, the MACs, changes by
4 / 2^dims. Sources: Ronneberger et al., arXiv:1505.04597 (the doubling); Chen et al., "Training
Deep Nets with Sublinear Memory Cost", arXiv:1604.06174 (recomputation).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from unet_nas.audit.diagnosis.plots import Figure, Panel, Series
from unet_nas.audit.diagnosis.subject import Finding, Subject, numbered, percent
from unet_nas.audit.memory import Training, training_memory
from unet_nas.errors import InputError
from unet_nas.unet.skips import stage_ends, stage_of
from unet_nas.units import format_bytes, format_count

#: a stage or two with this share of something are worth a word
_MOST = 0.5
#: a saving of this share of the peak is worth a word
_WORTH = 0.05


@dataclass(frozen=True, slots=True)
class StageCost:
    """What all parts at one resolution cost together, for one sample.

    Args:
        stage: 0 = full resolution; the last is the bottleneck.
        parameters: trainable parameters.
        macs: multiply-accumulates of a forward pass.
        activation_elements: elements of all maps that are made.
    """

    stage: int
    parameters: int
    macs: int
    activation_elements: int


@dataclass(frozen=True, slots=True)
class StageCosts:
    """The stages, and what recomputing the full-resolution stage would save.

    Args:
        stages: from full resolution down.
        peak_bytes: peak of a training step of one sample (fp32, AdamW, on a CPU).
        checkpointed_bytes: the same with the units of stage 0 recomputed; None: it has none.
    """

    stages: tuple[StageCost, ...]
    peak_bytes: int | None
    checkpointed_bytes: int | None

    def shares(self, what: str) -> tuple[float, ...]:
        """Returns each stage's share of a figure."""
        values = [getattr(stage, what) for stage in self.stages]
        return tuple(value / max(1, sum(values)) for value in values)


def analyse(subject: Subject) -> StageCosts:
    """Returns the cost of every stage; nothing where the network does not run."""
    depth = subject.architecture.depth
    sums = {stage: [0, 0, 0] for stage in range(depth + 1)}
    for cost in subject.costs[1:]:
        found = sums[stage_of(cost.name, depth)]
        found[0] += cost.parameters
        found[1] += cost.macs
        found[2] += cost.activation_elements
    if subject.patch_size is None or not subject.costs:
        return StageCosts((), None, None)
    stages = tuple(StageCost(stage, *values) for stage, values in sums.items())
    return StageCosts(stages, *_peaks(subject))


def _peaks(subject: Subject) -> tuple[int, int | None]:
    """Returns the peak of a training step as it is, and with stage 0 recomputed."""
    assert subject.patch_size is not None
    graph, patch = subject.graph, subject.patch_size
    peak = training_memory(graph, patch, 1, Training(), sizes=subject.sizes).peak_bytes
    try:
        saving = training_memory(graph, patch, 1, Training(checkpoint=("0",)), sizes=subject.sizes)
    except InputError:  # there are no convolutions at stage 0
        return peak, None
    return peak, saving.peak_bytes


def findings(result: StageCosts, subject: Subject) -> Iterator[Finding]:
    """Yields which stages hold most of the activations and which most of the parameters."""
    if not result.stages:
        return
    activations, parameters = result.shares("activation_elements"), result.shares("parameters")
    first = _leading(activations)
    text = (
        f"{numbered('stage', first)} {_hold(first)} {percent(sum(activations[i] for i in first))} "
        f"of the activations and {percent(sum(parameters[i] for i in first))} of the parameters"
    )
    yield Finding(
        "stage_costs", "note", activations[first[0]], text + _why(subject), _recompute(result)
    )
    last = _leading(parameters)
    if last != first:
        text = (
            f"{numbered('stage', last)} {_hold(last)} {percent(sum(parameters[i] for i in last))} "
            f"of the {format_count(sum(s.parameters for s in result.stages))} parameters and "
            f"{percent(sum(activations[i] for i in last))} of the activations"
        )
        fix = "" if subject.architecture.max_width else "max_width cuts them where they grow most"
        yield Finding("stage_costs", "note", parameters[last[0]] / 2, text, fix)


def _hold(stages: list[int]) -> str:
    return "holds" if len(stages) == 1 else "hold"


def _leading(shares: tuple[float, ...]) -> list[int]:
    """Returns the fewest stages that hold more than half, the largest first, in order."""
    chosen: list[int] = []
    for stage in sorted(range(len(shares)), key=lambda i: -shares[i]):
        chosen.append(stage)
        if sum(shares[i] for i in chosen) > _MOST:
            break
    return sorted(chosen)


def _why(subject: Subject) -> str:
    """Tells by how much positions and channels change from stage 0 to stage 1."""
    ends = stage_ends(subject.graph, subject.architecture.depth)
    if len(ends) < 2 or subject.sizes is None:
        return ""
    channels = [subject.graph.nodes[end].channels for end in ends[:2]]
    positions = [prod(subject.sizes[end]) for end in ends[:2]]
    wider, smaller = channels[1] / channels[0], positions[0] / positions[1]
    if wider <= 1 or smaller <= wider:
        return ""
    return (
        f", as from stage 0 to 1 a map's positions are divided by {smaller:.3g}, its channels "
        f"multiplied by {wider:.3g} and the weights of a convolution by {wider * wider:.3g}"
    )


def _recompute(result: StageCosts) -> str:
    """Returns what recomputation would save, where that is worth a word."""
    peak, saving = result.peak_bytes, result.checkpointed_bytes
    if peak is None or saving is None or saving > (1 - _WORTH) * peak:
        return ""
    return (
        f"recomputing stage 0 in backward (checkpoint 0) takes a training step of one sample from "
        f"{format_bytes(peak)} to {format_bytes(saving)}"
    )


def figure(result: StageCosts) -> Figure | None:
    """Returns the shares of parameters, MACs and activations per stage."""
    if not result.stages:
        return None
    places = tuple(float(stage.stage) for stage in result.stages)
    names = {"activation_elements": "activations", "macs": "MACs", "parameters": "parameters"}
    series = tuple(
        Series(label, places, tuple(100 * share for share in result.shares(what)))
        for what, label in names.items()
    )
    panel = Panel(
        "Where they sit",
        "stage (0 = full resolution)",
        "share of the network (%)",
        series,
        kind="bars",
    )
    return Figure("stage_costs", "Encoder and decoder of a stage together.", (panel,))

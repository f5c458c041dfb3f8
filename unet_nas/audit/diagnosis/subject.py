"""What a diagnosis looks at, and what it says: the subject and its findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from unet_nas.audit.cost import Cost, node_costs
from unet_nas.audit.receptive_field import Field, receptive_fields
from unet_nas.operators.builder import Graph
from unet_nas.operators.fields import MAX_CHANNELS, Stages
from unet_nas.unet.architecture import PARTS, Architecture
from unet_nas.unet.graph import lower, lower_with_faults
from unet_nas.unet.shapes import AxisSizes, Size, check_patch_size, trace_axis
from unet_nas.unet.skips import Skip, skips

Severity = Literal["error", "warning", "note"]

#: per number of axes, the patch that is looked at where none was given (the next that fits)
USUAL_PATCH = {1: 1024, 2: 256, 3: 64}

_AXIS_WORDS = {1: ("positions",), 2: ("rows", "columns"), 3: ("slices", "rows", "columns")}


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence on a network, with its numbers and what to do about them.

    Args:
        analysis: name of the analysis that says so.
        severity: ``error`` (it does not run), ``warning`` (something is lost or distorted) or
            ``note`` (how it is).
        weight: how much of what the analysis looks at is concerned, 0 to 1; orders findings of
            one severity.
        text: the sentence.
        fix: what would change it; empty where nothing needs to.
    """

    analysis: str
    severity: Severity
    weight: float
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.fix}" if self.fix else self.text


@dataclass(frozen=True)
class Subject:
    """A network with the patch that it is looked at with.

    Args:
        architecture: the network.
        graph: the same, lowered.
        patch_size: spatial size of the input; None where no usual patch fits either.
        given: a person chose the patch; otherwise nothing is said against its size.
    """

    architecture: Architecture
    graph: Graph
    patch_size: Size | None
    given: bool

    @classmethod
    def of(cls, architecture: Architecture, patch_size: Sequence[int] | None = None) -> Subject:
        """Returns the subject of an architecture; without a patch, one of usual size.

        Raises:
            SizeError: if ``patch_size`` is not one positive integer per axis.
        """
        graph = lower(architecture)
        if patch_size is None:
            return cls(architecture, graph, _usual_patch(graph), given=False)
        check_patch_size(graph.dims, patch_size)
        return cls(architecture, graph, tuple(patch_size), given=True)

    @cached_property
    def sizes(self) -> tuple[Size, ...] | None:
        """Spatial size of every node; None where the network does not run on the patch."""
        if self.patch_size is None:
            return None
        traces = [trace_axis(self.graph, axis, n) for axis, n in enumerate(self.patch_size)]
        if any(trace.misfits for trace in traces):
            return None
        return tuple(zip(*(trace.sizes for trace in traces), strict=True))

    @cached_property
    def skips(self) -> tuple[Skip, ...]:
        """The skip connections, full resolution first."""
        return skips(self.graph)

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """Cost of every node for one sample; nothing where the network does not run."""
        return () if self.sizes is None else tuple(node_costs(self.graph, self.sizes))

    @cached_property
    def fields(self) -> tuple[tuple[Field | None, ...], ...]:
        """Receptive field of every node, per axis; nothing where the network does not run."""
        if self.sizes is None:
            return ()
        axes = range(self.graph.dims)
        return tuple(tuple(receptive_fields(self.graph, axis, self.sizes)) for axis in axes)

    def changed(self, **fields: Any) -> Graph | None:
        """Returns the graph of the network with other values; None where they break a rule."""
        graph, faults = lower_with_faults(self.architecture.model_copy(update=fields))
        return None if faults else graph

    def at_depth(self, depth: int) -> Graph | None:
        """Returns the same network with another depth; None where it has lists per stage."""
        a = self.architecture
        sections = (a, *(getattr(a, part) for part in PARTS))
        listed = any(Stages in map(type, section.__dict__.values()) for section in sections)
        if listed or a.features or a.decoder.features or not 1 <= depth <= 8:
            return None
        supervised = min(a.deep_supervision, depth - 1)
        deeper = a.model_copy(update={"depth": depth, "deep_supervision": supervised})
        if max(deeper.features_per_stage()) > MAX_CHANNELS:
            return None
        return self.changed(depth=depth, deep_supervision=supervised)


def _usual_patch(graph: Graph) -> Size | None:
    usual = USUAL_PATCH[graph.dims]
    axes = [AxisSizes(graph, axis) for axis in range(graph.dims)]
    size = [usual if axis.valid(usual) else axis.nearest(usual)[1] for axis in axes]
    known = [n for n in size if n is not None]
    return tuple(known) if len(known) == len(size) else None


# --- words --------------------------------------------------------------------------------


def axis_words(dims: int, axes: Sequence[int]) -> str:
    """Returns what runs along some axes.

    >>> axis_words(2, [0, 1]), axis_words(1, [0]), axis_words(3, [0, 2])
    ('rows and columns', 'positions', 'slices and columns')
    """
    return listed([_AXIS_WORDS[dims][axis] for axis in axes])


def listed(words: Sequence[str]) -> str:
    """Returns words with commas and a last "and".

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def numbered(word: str, numbers: Sequence[int]) -> str:
    """Returns a word with its numbers, runs of them as a range.

    >>> numbered("stage", [2]), numbered("stage", [0, 1, 2, 4])
    ('stage 2', 'stages 0 to 2 and 4')
    """
    return f"{word}{'s' if len(numbers) > 1 else ''} {listed(runs(numbers))}"


def runs(numbers: Sequence[int]) -> list[str]:
    """Returns numbers in order, those that follow one another as one text.

    >>> runs([4, 0, 1, 2])
    ['0 to 2', '4']
    """
    found: list[list[int]] = []
    for n in sorted(numbers):
        if found and found[-1][-1] == n - 1:
            found[-1].append(n)
        else:
            found.append([n])
    return [span(run[0], run[-1]) for run in found]


def span(low: int, high: int) -> str:
    """Returns a range of whole numbers.

    >>> span(188, 204), span(3, 3)
    ('188 to 204', '3')
    """
    return str(low) if low == high else f"{low} to {high}"


def percent(share: float) -> str:
    """Returns a share in percent, never as 0 or 100 where it is neither.

    >>> percent(0.5398), percent(0.9999), percent(0.0001)
    ('54 %', 'over 99 %', 'under 1 %')
    """
    if 0 < share < 0.01:
        return "under 1 %"
    return "over 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"

"""Alignment, statically: does a network run on a patch size, and if not, why, and what helps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.operators.fusion import Crop, PadSmaller, Resize
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import (
    AxisSizes,
    AxisTrace,
    Size,
    ValidSizes,
    check_patch_size,
    trace_axis,
)

Mode = Literal["train", "eval"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why a network does not run on a patch size.

    Args:
        name: the node where it shows, as in ``decoder.fusions.2.concat``.
        axis: spatial axis, or None where all axes take part.
        reason: mismatch, too_small, pad_too_large, not_divisible or single_value.
        sizes: the sizes met there (the inputs of the node, or its one map).
        message: what must hold and what was met.
        why: where it comes from.
        fixes: the nearest ways out.
    """

    name: str
    axis: int | None
    reason: p.Reason
    sizes: tuple[int, ...]
    message: str
    why: str
    fixes: tuple[str, ...]

    @property
    def where(self) -> str:
        """The part and stage, as in ``decoder stage 2``."""
        words = self.name.split(".")
        if len(words) > 2 and words[2].isdecimal():
            return f"{words[0]} stage {words[2]}"
        return words[0]


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on an architecture, for one patch size or (without one) for all.

    Args:
        problems: every reason why it does not run; empty where it does.
        input_size: the patch size asked about, or None.
        output_size: spatial size of the main output where it runs.
        nearest_valid_sizes: per axis the next smaller and larger valid size (the size
            itself twice where the axis is fine).
        valid_sizes: per axis the rule of all valid sizes, or None where there is no
            readable rule.
        parameters: trainable parameters.
        batch_size: samples per batch.
        mode: train or eval.
    """

    problems: tuple[Problem, ...]
    input_size: Size | None
    output_size: Size | None
    nearest_valid_sizes: tuple[tuple[int | None, int | None], ...] | None
    valid_sizes: tuple[ValidSizes | None, ...]
    parameters: int
    batch_size: int
    mode: Mode

    @property
    def valid(self) -> bool:
        """The network runs on the patch size; without one: on some patch size."""
        if self.input_size is not None:
            return not self.problems
        return all(rule is None or rule.residues for rule in self.valid_sizes)


def check(
    architecture: Architecture,
    patch_size: Sequence[int] | None = None,
    *,
    batch_size: int = 1,
    mode: Mode = "train",
) -> Check:
    """Tells whether a network runs on a patch size, and if not, every reason why.

    Args:
        architecture: the network.
        patch_size: spatial size of the input, one number per axis; None asks only which
            sizes are valid.
        batch_size: samples per batch; batch norm in training needs two values per channel.
        mode: train or eval.

    Raises:
        SizeError: if ``patch_size`` is not one positive integer per axis.

    >>> result = check(Architecture(depth=4), (250, 256))
    >>> result.valid, result.nearest_valid_sizes
    (False, ((240, 256), (256, 256)))
    >>> print(result.problems[-1].why)
    encoder.downs.1 meets 125 and gives 62, which comes up to 124
    """
    graph = lower(architecture)
    rules = tuple(_per_axis(graph))
    parameters = graph.parameters()
    if patch_size is None:
        return Check((), None, None, None, rules, parameters, batch_size, mode)
    size = tuple(patch_size)
    check_patch_size(graph.dims, size)
    traces = [trace_axis(graph, axis, n) for axis, n in enumerate(size)]
    examiner = _Examiner(architecture, graph, size, traces, batch_size, mode)
    problems = tuple(examiner.problems())
    output = graph.outputs[0]
    output_size = None if problems else tuple(t.sizes[output] or 0 for t in traces)
    nearest = tuple(examiner.nearest(axis) for axis in range(graph.dims))
    return Check(problems, size, output_size, nearest, rules, parameters, batch_size, mode)


def _per_axis(graph: Graph) -> Iterator[ValidSizes | None]:
    for axis in range(graph.dims):
        yield AxisSizes(graph, axis).rule()


class _Examiner:
    """Turns the misfits of one patch size into problems with causes and fixes."""

    def __init__(
        self,
        architecture: Architecture,
        graph: Graph,
        size: Size,
        traces: Sequence[AxisTrace],
        batch_size: int,
        mode: Mode,
    ) -> None:
        self.architecture, self.graph, self.size = architecture, graph, size
        self.traces, self.batch_size, self.mode = traces, batch_size, mode

    def problems(self) -> Iterator[Problem]:
        """Yields every problem, in the order in which the network would meet them."""
        found = [
            (index, self._misfit(axis, index, misfit))
            for axis, trace in enumerate(self.traces)
            for index, misfit in trace.misfits
        ]
        found += list(self._single_values())
        for _, problem in sorted(found, key=lambda pair: pair[0]):
            yield problem

    def nearest(self, axis: int) -> tuple[int | None, int | None]:
        """Returns the next smaller and larger valid size along an axis."""
        size = self.size[axis]
        if not self.traces[axis].misfits:
            return size, size
        return AxisSizes(self.graph, axis).nearest(size)

    # --- misfits along one axis ---

    def _misfit(self, axis: int, index: int, misfit: p.Misfit) -> Problem:
        name = self.graph.nodes[index].name
        met = " and ".join(map(str, misfit.got))
        message = f"axis {axis}: {name} needs {misfit.need}, got {met}"
        if misfit.reason == "mismatch":
            message = f"axis {axis}: {self._maps(index, misfit)} must have equal sizes at {name}"
        why = self._why(axis, index, misfit)
        fixes = tuple(self._fixes(axis, index, misfit))
        return Problem(name, axis, misfit.reason, misfit.got, message, why, fixes)

    def _maps(self, index: int, misfit: p.Misfit) -> str:
        """Names the maps that meet, with their sizes."""
        named = []
        for source, size in zip(self.graph.nodes[index].inputs, misfit.got, strict=True):
            named.append(f"{self.graph.nodes[source].name} ({size})")
        return " and ".join(named)

    def _why(self, axis: int, index: int, misfit: p.Misfit) -> str:
        inputs = self.graph.nodes[index].inputs
        if misfit.reason != "mismatch":
            return self._shrunk(axis, inputs[0])
        if ".units." in self.graph.nodes[index].name:
            return "the convolutions and the shortcut of the unit round an odd size differently"
        between = range(min(inputs) + 1, max(inputs) + 1)
        return self._lossy(axis, between) or self._eaten(axis, between) or _UNEQUAL_FACTORS

    def _lossy(self, axis: int, between: range) -> str:
        """Names the first down-sampling whose input its factor does not divide."""
        for index in between:
            node = self.graph.nodes[index]
            factor = _down_factor(node.primitive, axis)
            got, gave = self._size(axis, node.inputs[0]), self._size(axis, index)
            if factor > 1 and got and gave and got % factor and "shortcut" not in node.name:
                place = ".".join(node.name.split(".")[:3])
                return f"{place} meets {got} and gives {gave}, which comes up to {gave * factor}"
        return ""

    def _eaten(self, axis: int, between: range) -> str:
        """Tells what convolutions without enough padding take off between two maps."""
        eaten = count = 0
        for index in between:
            node = self.graph.nodes[index]
            if isinstance(node.primitive, p.Conv) and node.primitive.stride[axis] == 1:
                source = self.graph.nodes[node.inputs[0]]
                padded = isinstance(source.primitive, p.Pad)
                before = self._size(axis, source.inputs[0] if padded else node.inputs[0])
                after = self._size(axis, index)
                if before and after and after < before:
                    eaten, count = eaten + before - after, count + 1
        if not eaten:
            return ""
        return f"{count} convolutions in between take {eaten} positions off their maps in all"

    def _shrunk(self, axis: int, index: int) -> str:
        """Tells how an input became as small as it is at a node."""
        path = self._back(index)
        downs = sum(_down_factor(self.graph.nodes[i].primitive, axis) > 1 for i in path)
        eaten = self._eaten(axis, range(1, index + 1)) if path else ""
        size = self._size(axis, index)
        parts = [f"an input of {self.size[axis]} is {size} there"]
        parts += [f"after {downs} down-samplings"] if downs else []
        return " ".join(parts) + (f"; {eaten}" if eaten else "")

    def _back(self, index: int) -> list[int]:
        """Returns the nodes from one back to the input, along first inputs."""
        path = []
        while index:
            path.append(index)
            index = self.graph.nodes[index].inputs[0]
        return path

    def _size(self, axis: int, index: int) -> int | None:
        return self.traces[axis].sizes[index]

    def _fixes(self, axis: int, index: int, misfit: p.Misfit) -> Iterator[str]:
        smaller, larger = self.nearest(axis)
        have = self.size[axis]
        if larger is not None:
            yield f"pad axis {axis} from {have} to {larger}"
        if smaller is not None:
            yield f"crop axis {axis} from {have} to {smaller}"
        if misfit.reason == "mismatch" and ".fusions." in self.graph.nodes[index].name:
            yield from self._policies
        elif smaller is None and larger is None:
            yield "no patch size fits: use padding same, or fewer down-samplings"

    @cached_property
    def _policies(self) -> tuple[str, ...]:
        """Each alignment policy under which this patch size would run."""
        fixes = []
        for policy in (Crop(), PadSmaller(), Resize()):
            other = lower(self.architecture.model_copy(update={"align": policy}))
            traces = [trace_axis(other, axis, n) for axis, n in enumerate(self.size)]
            if not any(trace.misfits for trace in traces):
                output = "x".join(str(trace.sizes[other.outputs[0]]) for trace in traces)
                fixes.append(f"set align: {policy.type} (the output is then {output})")
        return tuple(fixes)

    # --- norms that are left with one value ---

    def _single_values(self) -> Iterator[tuple[int, Problem]]:
        training = self.mode == "train"
        for index, node in enumerate(self.graph.nodes):
            known = [trace.sizes[index] for trace in self.traces]
            if None in known:
                continue
            sizes = tuple(n for n in known if n is not None)
            alone = node.primitive.single_value(
                self.batch_size, node.channels, prod(sizes), training
            )
            if alone:
                yield index, self._single_value(index, sizes)

    def _single_value(self, index: int, sizes: Size) -> Problem:
        node = self.graph.nodes[index]
        met = "x".join(map(str, sizes))
        message = (
            f"{node.name} needs more than one value to normalise, got a map of {met} "
            f"in a batch of {self.batch_size}"
        )
        grown = self._grown(index)
        fixes = [f"pad axis 0 from {self.size[0]} to {grown}"] if grown else []
        if not isinstance(node.primitive, p.InstanceNorm):
            fixes.insert(0, f"use a batch of {self.batch_size + 1} or more")
        if isinstance(node.primitive, p.BatchNorm):
            fixes.append("check with mode eval if it is not to be trained")
        why = f"an input of {'x'.join(map(str, self.size))} is {met} there"
        return Problem(node.name, None, "single_value", sizes, message, why, tuple(fixes))

    def _grown(self, index: int) -> int | None:
        """Returns the next valid size of axis 0 with which the map has two positions."""
        low = self.size[0]
        high = next((low << k for k in range(1, 20) if self._several(index, low << k)), None)
        if high is None:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._several(index, middle) else (middle, high)
        sizes = AxisSizes(self.graph, 0)
        return high if sizes.valid(high) else sizes.nearest(high)[1]

    def _several(self, index: int, size: int) -> bool:
        return (trace_axis(self.graph, 0, size).sizes[index] or 0) > 1


_UNEQUAL_FACTORS = "what goes down in between and what comes up differ"


def _down_factor(primitive: p.Primitive, axis: int) -> int:
    match primitive:
        case p.Conv() | p.MaxPool() | p.AvgPool() | p.Blur():
            return primitive.stride[axis]
        case p.PixelUnshuffle():
            return primitive.factor[axis]
    return 1

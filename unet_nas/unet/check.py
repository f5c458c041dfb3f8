"""Alignment, statically: does a network run on a patch size, and if not, why, and what helps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from unet_nas.errors import InputError
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.operators.fusion import Crop, PadSmaller, Resize
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.graph import lower
from unet_nas.unet.outline import by, part_of
from unet_nas.unet.shapes import (
    AxisSizes,
    AxisTrace,
    Size,
    ValidSizes,
    check_patch_size,
    trace_axis,
)

Mode = Literal["train", "eval"]

#: how often a patch is doubled along an axis, at most, to leave every norm two values
_DOUBLINGS = 12


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
    """

    name: str
    axis: int | None
    reason: p.Reason
    sizes: tuple[int, ...]
    message: str
    why: str

    @property
    def where(self) -> str:
        """The part and stage, as in ``decoder stage 2``."""
        words = self.name.split(".")
        if len(words) > 2 and words[2].isdecimal():
            return f"{words[0]} stage {words[2]}"
        return words[0]

    def __str__(self) -> str:
        axis = "" if self.axis is None else f"axis {self.axis}: "
        return f"{axis}{self.message}, because {self.why}"


@dataclass(frozen=True, slots=True)
class Fix:
    """One change that alone makes the network run; it has been tried.

    Args:
        kind: what is changed: ``patch_size``, ``align``, ``batch_size`` or ``mode``.
        value: its new value.
        output_size: spatial size of the main output then.
        note: a word on it, or nothing.
    """

    kind: Literal["patch_size", "align", "batch_size", "mode"]
    value: Size | str | int
    output_size: Size
    note: str = ""

    @property
    def option(self) -> str:
        """The fix as an option of the command line.

        >>> Fix("patch_size", (256, 256), (256, 256)).option
        '--patch-size 256x256'
        """
        value = by(self.value) if isinstance(self.value, tuple) else self.value
        names = {"patch_size": "--patch-size ", "batch_size": "--batch ", "mode": "--mode "}
        return f"{names.get(self.kind, '--set align=')}{value}"


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on an architecture, for one patch size or (without one) for all.

    Args:
        problems: every reason why it does not run; empty where it does.
        fixes: changes that each make it run, the nearest first.
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
    fixes: tuple[Fix, ...]
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
        return not self.problems


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
            sizes are valid. Where none is, the problems are those of a size at which every
            map is large enough.
        batch_size: samples per batch; batch norm in training needs two values per channel.
        mode: train or eval.

    Raises:
        SizeError: if ``patch_size`` is not one positive integer per axis.
        InputError: if ``batch_size`` is not positive, or the mode is neither.

    >>> result = check(Architecture(depth=4), (250, 256))
    >>> result.valid, result.nearest_valid_sizes
    (False, ((240, 256), (256, 256)))
    >>> print(result.problems[0].why)
    encoder.downs.3 meets 31 and gives 15, which comes up to 30
    >>> [fix.option for fix in result.fixes][:3]
    ['--patch-size 256x256', '--patch-size 240x256', '--set align=crop']
    """
    if type(batch_size) is not int or batch_size < 1:
        raise InputError(f"a batch must have at least 1 sample, got {batch_size}")
    if mode not in ("train", "eval"):
        raise InputError(f"mode must be train or eval, got {mode!r}")
    graph = lower(architecture)
    axes = [AxisSizes(graph, axis) for axis in range(graph.dims)]
    rules = tuple(axis.rule() for axis in axes)
    if patch_size is not None:
        check_patch_size(graph.dims, patch_size)
        size = tuple(patch_size)
        examiner = _Examiner(graph, size, batch_size, mode)
        problems = tuple(examiner.problems())
    else:
        # large enough for every map, whatever the alignment takes off
        size = tuple(1 if rule is None else 4 * rule.minimum for rule in rules)
        examiner = _Examiner(graph, size, batch_size, mode)
        hopeless = any(rule is not None and not rule.residues for rule in rules)
        problems = tuple(examiner.misfits()) if hopeless else ()
    fixes = tuple(_fixes(architecture, examiner, axes, problems)) if problems else ()
    asked = None if patch_size is None else size
    return Check(
        problems=problems,
        fixes=fixes,
        input_size=asked,
        output_size=None if problems or asked is None else examiner.output_size(),
        nearest_valid_sizes=None if asked is None else _nearest(axes, asked),
        valid_sizes=rules,
        parameters=graph.parameters(),
        batch_size=batch_size,
        mode=mode,
    )


def _nearest(axes: Sequence[AxisSizes], size: Size) -> tuple[tuple[int | None, int | None], ...]:
    """Returns per axis the next smaller and larger valid size, or the size itself twice."""
    return tuple(
        (n, n) if axis.valid(n) else axis.nearest(n) for axis, n in zip(axes, size, strict=True)
    )


# --- why not ------------------------------------------------------------------------------


class _Examiner:
    """Turns the misfits of one patch size into problems with causes."""

    def __init__(self, graph: Graph, size: Size, batch_size: int, mode: Mode) -> None:
        self.graph, self.size = graph, size
        self.batch_size, self.mode = batch_size, mode
        self.traces: list[AxisTrace] = [trace_axis(graph, axis, n) for axis, n in enumerate(size)]

    def at(self, size: Size) -> _Examiner:
        """Returns the same for another patch size."""
        return _Examiner(self.graph, size, self.batch_size, self.mode)

    def runs(self) -> bool:
        """Tells whether there is no problem."""
        return not any(trace.misfits for trace in self.traces) and self.norms_run()

    def norms_run(self) -> bool:
        """Tells whether every norm has more than one value."""
        return next(self._single_values(), None) is None

    def output_size(self) -> Size:
        """Returns the spatial size of the main output."""
        return tuple(trace.sizes[self.graph.outputs[0]] or 0 for trace in self.traces)

    def problems(self) -> Iterator[Problem]:
        """Yields every problem, in the order in which the network would meet them."""
        found = [*self._misfits(), *self._single_values()]
        for _, problem in sorted(found, key=lambda pair: pair[0]):
            yield problem

    def misfits(self) -> Iterator[Problem]:
        """Yields the problems of sizes, without those of norms."""
        for _, problem in sorted(self._misfits(), key=lambda pair: pair[0]):
            yield problem

    # --- misfits along one axis ---

    def _misfits(self) -> Iterator[tuple[int, Problem]]:
        for axis, trace in enumerate(self.traces):
            for index, misfit in trace.misfits:
                yield index, self._misfit(axis, index, misfit)

    def _misfit(self, axis: int, index: int, misfit: p.Misfit) -> Problem:
        name = self.graph.nodes[index].name
        if misfit.reason == "mismatch":
            message = self._mismatch(index, misfit)
        else:
            message = f"{name} needs {misfit.need}, got {misfit.got[0]}"
        why = self._why(axis, index, misfit)
        return Problem(name, axis, misfit.reason, misfit.got, message, why)

    def _mismatch(self, index: int, misfit: p.Misfit) -> str:
        """Names the place and the maps that meet there, with their sizes."""
        nodes = self.graph.nodes
        names = [nodes[source].name for source in nodes[index].inputs]
        parts = [part_of(name) for name in names]
        place = part_of(nodes[index].name)
        if len(set(parts)) < len(parts) or place in parts:
            parts, place = names, nodes[index].name
        gives = [f"{part} gives {n}" for part, n in zip(parts, misfit.got, strict=True)]
        return f"{place} needs equal sizes, but {' and '.join(gives)}"

    def _why(self, axis: int, index: int, misfit: p.Misfit) -> str:
        inputs = self.graph.nodes[index].inputs
        if misfit.reason != "mismatch":
            return self._shrunk(axis, inputs[0])
        if ".units." in self.graph.nodes[index].name:
            return "the convolutions and the shortcut of the unit round an odd size differently"
        between = range(min(inputs) + 1, max(inputs) + 1)
        return self._lossy(axis, between) or self._eaten(axis, between) or _UNEQUAL_FACTORS

    def _lossy(self, axis: int, between: range) -> str:
        """Names the first down-sampling that does not divide its map by its factor."""
        for index in between:
            node = self.graph.nodes[index]
            factor = _down_factor(node.primitive, axis)
            if factor == 1 or "shortcut" in node.name:
                continue
            entry, leave = self._ends(index)
            got, gave = self._size(axis, entry), self._size(axis, leave)
            if got and gave and got != gave * factor:
                place = part_of(node.name)
                return f"{place} meets {got} and gives {gave}, which comes up to {gave * factor}"
        return ""

    def _ends(self, index: int) -> tuple[int, int]:
        """Returns the nodes before and at the end of what goes down at a node.

        Padding, a pooling with stride 1 and a blur filter are one operator to a person.
        """
        nodes = self.graph.nodes
        part = part_of(nodes[index].name)
        if ".downs." in part:
            first = next(i for i, node in enumerate(nodes) if part_of(node.name) == part)
            return nodes[first].inputs[0], index
        source = nodes[index].inputs[0]
        padded = isinstance(nodes[source].primitive, p.Pad)
        return (nodes[source].inputs[0] if padded else source), index

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
        if count == 1:
            return f"a convolution without padding in between takes {eaten} off its map"
        return f"{count} convolutions without padding in between take {eaten} off their maps in all"

    def _shrunk(self, axis: int, index: int) -> str:
        """Tells how an input became as small as it is at a node."""
        path = self._back(index)
        downs = sum(_down_factor(self.graph.nodes[i].primitive, axis) > 1 for i in path)
        eaten = self._eaten(axis, range(1, index + 1)) if path else ""
        size = self._size(axis, index)
        parts = [f"an input of {self.size[axis]} is {size} there"]
        parts += [f"after {downs} down-sampling{'s' if downs > 1 else ''}"] if downs else []
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

    # --- norms that are left with one value ---

    def _single_values(self) -> Iterator[tuple[int, Problem]]:
        training = self.mode == "train"
        for index, node in enumerate(self.graph.nodes):
            known = [trace.sizes[index] for trace in self.traces]
            sizes = tuple(n for n in known if n is not None)
            if len(sizes) == len(known) and node.primitive.single_value(
                self.batch_size, node.channels, prod(sizes), training
            ):
                yield index, self._single_value(index, sizes)

    def _single_value(self, index: int, sizes: Size) -> Problem:
        name, met = self.graph.nodes[index].name, by(sizes)
        message = (
            f"{name} needs more than one value to normalise, got a map of {met} "
            f"in a batch of {self.batch_size}"
        )
        why = f"an input of {by(self.size)} is {met} there"
        return Problem(name, None, "single_value", sizes, message, why)


_UNEQUAL_FACTORS = "what goes down in between and what comes up differ"


def _down_factor(primitive: p.Primitive, axis: int) -> int:
    match primitive:
        case p.Conv() | p.MaxPool() | p.AvgPool() | p.Blur():
            return primitive.stride[axis]
        case p.PixelUnshuffle():
            return primitive.factor[axis]
    return 1


# --- what helps ---------------------------------------------------------------------------


def _fixes(
    architecture: Architecture,
    examiner: _Examiner,
    axes: Sequence[AxisSizes],
    problems: Sequence[Problem],
) -> Iterator[Fix]:
    """Yields the changes that each make the network run; each one is tried first."""
    size, nearest = examiner.size, _nearest(axes, examiner.size)
    larger = _larger(examiner, axes, tuple(high or 0 for _, high in nearest))
    if larger is not None:
        yield Fix("patch_size", larger.size, larger.output_size(), "the next larger")
    below = tuple(low or 0 for low, _ in nearest)
    if all(below) and below != size and examiner.at(below).runs():
        yield Fix("patch_size", below, examiner.at(below).output_size(), "the next smaller")
    if any(problem.reason == "mismatch" for problem in problems):
        for policy in (Crop(), PadSmaller(), Resize()):
            graph = lower(architecture.model_copy(update={"align": policy}))
            aligned = _Examiner(graph, size, examiner.batch_size, examiner.mode)
            if aligned.runs():
                yield Fix("align", policy.type, aligned.output_size())
    if any(problem.reason == "single_value" for problem in problems):
        more = _Examiner(examiner.graph, size, examiner.batch_size + 1, examiner.mode)
        if more.runs():
            yield Fix("batch_size", more.batch_size, more.output_size(), "or more")
        if examiner.mode == "train":
            idle = _Examiner(examiner.graph, size, examiner.batch_size, "eval")
            if idle.runs():
                yield Fix("mode", "eval", idle.output_size(), "if it is not to be trained")


def _larger(examiner: _Examiner, axes: Sequence[AxisSizes], size: Size) -> _Examiner | None:
    """Returns the next larger patch that runs, grown along one axis more where norms need it."""
    if not all(size):
        return None
    if size != examiner.size and examiner.at(size).runs():
        return examiner.at(size)
    grown = [_grow(examiner, axis, size) for axis in axes]
    found = [other for other in grown if other is not None]
    return min(found, key=lambda other: prod(other.size), default=None)


def _grow(examiner: _Examiner, axis: AxisSizes, size: Size) -> _Examiner | None:
    """Returns the smallest valid size along one axis that leaves no norm with one value."""

    def at(n: int) -> _Examiner:
        return examiner.at((*size[: axis.axis], n, *size[axis.axis + 1 :]))

    low = size[axis.axis]
    high = next((low << k for k in range(1, _DOUBLINGS) if at(low << k).norms_run()), None)
    if high is None:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle).norms_run() else (middle, high)
    valid = high if axis.valid(high) else axis.nearest(high)[1]
    return at(valid) if valid is not None and at(valid).runs() else None

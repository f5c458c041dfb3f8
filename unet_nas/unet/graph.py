"""Lowering: an architecture becomes a graph, once; everything else reads the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from unet_nas.errors import Fault, InputError, Path
from unet_nas.operators.block import AnyBlock, Residual, Stage
from unet_nas.operators.builder import Builder, Graph, Node
from unet_nas.operators.fusion import Joint
from unet_nas.operators.head import ConvHead
from unet_nas.operators.primitives import Axes
from unet_nas.operators.unit import Style, lower_dropout
from unet_nas.unet.architecture import (
    PARTS,
    conv_widths,
    option_path,
    per_stage,
    stage_options,
    varies,
)

if TYPE_CHECKING:
    from unet_nas.unet.architecture import Architecture, Part

__all__ = ["Graph", "Node", "lower", "lower_with_faults"]


def lower(architecture: Architecture) -> Graph:
    """Returns the graph of an architecture: topology and channels, no sizes.

    Modules are named ``stem``, ``encoder.stages.I``, ``encoder.downs.I`` (from stage I down),
    ``bottleneck``, ``decoder.ups.I`` (up to stage I), ``decoder.fusions.I``,
    ``decoder.stages.I``, ``head`` and ``deep_heads.I``.

    >>> from unet_nas.unet.architecture import Architecture
    >>> graph = lower(Architecture(depth=4, norm="none", padding="valid"))
    >>> graph.parameters()
    31030658
    """
    if isinstance(architecture, str):
        raise InputError(f"lower takes an Architecture: load_architecture({architecture!r}) is one")
    return lower_with_faults(architecture)[0]


def lower_with_faults(architecture: Architecture) -> tuple[Graph, list[Fault]]:
    """Returns the graph, and the faults of fields that do not fit the channels they meet."""
    lowering = _Lowering(architecture)
    outputs = lowering.run()
    b = lowering.b
    return b.finish(outputs), _one_per_field(b.faults)


def _one_per_field(faults: list[Fault]) -> list[Fault]:
    """Keeps the first fault of each field, and says how many more places it breaks a rule."""
    by_path: dict[Path, list[Fault]] = {}
    for fault in faults:
        by_path.setdefault(fault.path, []).append(fault)
    kept = []
    for first, *others in by_path.values():
        rules = {other.rule for other in others} - {first.rule}
        more = f" (and {len(rules)} more of the kind)" if rules else ""
        kept.append(replace(first, rule=first.rule + more))
    return kept


@dataclass(slots=True)
class Meeting:
    """Where a stage's skip leaves or joins.

    Args:
        happen: takes the map there, and returns the map with which the stage goes on.
        after: the number of the stage's convolutions before it; None: all.
        path: of the field that says so.
    """

    happen: Callable[[int], int]
    after: int | None = None
    path: Path = ()


def _leave(skips: list[int], x: int) -> int:
    skips.append(x)
    return x


class _Lowering:
    """One walk along the U: encoder, bottleneck, decoder, heads."""

    def __init__(self, architecture: Architecture) -> None:
        self.a = architecture
        self.b = Builder(architecture.spatial_dims, architecture.in_channels)
        self.features = architecture.features_per_stage()
        self.decoder_features = architecture.decoder_features()
        self._varies = {part: varies(architecture, part) for part in PARTS}
        self._styles: dict[tuple[Part, int], Style] = {}
        self._resolved: dict[tuple[Part, int], dict[str, Any]] = {}

    def run(self) -> tuple[int, ...]:
        """Adds all nodes; returns the outputs, full resolution first."""
        a, b = self.a, self.b
        x = 0
        style = self._style("encoder", 0)
        if a.stem is not None:
            with b.scope("stem"):
                x = a.stem.lower(b, x, style, self.features[0], ("stem",))
        x, skips, factors = self._encode(x)
        maps, deep = self._decode(x, skips, factors)
        styles = [self._style("decoder", i) for i in range(a.depth)]
        with b.scope("head"):
            main = a.head.combine(b, maps, styles, a.classes, ("head",))
        return (main, *deep)

    def _encode(self, x: int) -> tuple[int, list[int], list[Axes]]:
        a, b, depth = self.a, self.b, self.a.depth
        skips: list[int] = []
        factors: list[Axes] = []
        stride: Axes = b.ones
        for i in range(depth):
            at, where = per_stage(a, "skip_after", i)
            x = self._stage("encoder", i, x, stride, Meeting(partial(_leave, skips), at, where))
            down, path = per_stage(a, "down", i)
            with b.scope(f"encoder.downs.{i}"):
                style = self._style(*self._below(i))
                x = down.lower(b, x, style, path)
            factors.append(down.strides(b, path))
            stride = down.block_stride(b, path)
        x = self._stage("bottleneck", depth, x, stride, Meeting(lambda y: y))
        return x, skips, factors

    def _below(self, stage: int) -> tuple[Part, int]:
        last = stage + 1 == self.a.depth
        return ("bottleneck" if last else "encoder"), stage + 1

    def _decode(self, x: int, skips: list[int], factors: list[Axes]) -> tuple[list[int], list[int]]:
        a, b = self.a, self.b
        maps: list[int] = []
        deep: list[int] = []
        deep_head = a.head if isinstance(a.head, ConvHead) else ConvHead()
        for i in reversed(range(a.depth)):
            features, style, below = self.decoder_features[i], self._style("decoder", i), x
            up, path = per_stage(a, "up", i)
            with b.scope(f"decoder.ups.{i}"):
                x = up.lower(b, x, style, factors[i], features, path)
            fuse, where = per_stage(a, "fuse", i)
            at = {"before_block": 0, "after_block": None}.get(fuse, fuse)
            join = partial(self._fuse, i, skips[i], below, factors[i], style)
            x = self._stage("decoder", i, x, b.ones, Meeting(join, at, where))
            maps.insert(0, x)
            if 1 <= i <= a.deep_supervision:
                with b.scope(f"deep_heads.{i}"):
                    deep.insert(0, deep_head.lower(b, x, style, a.classes, ("head",)))
        return maps, deep

    def _fuse(self, i: int, skip: int, below: int, factor: Axes, style: Style, x: int) -> int:
        fusion, path = per_stage(self.a, "fusion", i)
        align, _ = per_stage(self.a, "align", i)
        with self.b.scope(f"decoder.fusions.{i}"):
            joint = Joint(skip, x, below, factor, align, style, path)
            return fusion.lower(self.b, joint)  # type: ignore[no-any-return]

    def _options(self, part: Part, stage: int) -> dict[str, Any]:
        # most parts have no list at all: their stages share options and style
        key = (part, stage if self._varies[part] else -1)
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = stage_options(self.a, part, stage)
            style = self._style(part, stage)
            for field in ("padding", "dilation"):
                found[field] = self._axes(found[field], style, field)
            found["kernels"] = self._kernels(found, style)
        return found

    def _style(self, part: Part, stage: int) -> Style:
        key = (part, stage if self._varies[part] else -1)
        found = self._styles.get(key)
        if found is None:
            found = self._styles[key] = self._new_style(part, stage)
        return found

    def _new_style(self, part: Part, stage: int) -> Style:
        get = stage_options(self.a, part, stage)
        return Style(
            norm=get["norm"],
            activation=get["activation"],
            dropout=get["dropout"],
            bias=get["bias"],
            padding_mode=get["padding_mode"],
            path=partial(option_path, self.a, part, stage),
            words=tuple(get["order"].split("-")),
        )

    def _stage(self, part: Part, i: int, x: int, stride: Axes, meeting: Meeting) -> int:
        """Adds a stage, and what happens on the way where its skip leaves or joins."""
        b = self.b
        name = part if part == "bottleneck" else f"{part}.stages.{i}"
        stage, block = self._new_stage(part, i, stride)
        if stage is None:
            if meeting.after and not self._options(part, i)["convs"]:
                b.fault(meeting.path, "must be 0 at a stage without convolutions", meeting.after)
            return meeting.happen(x)
        drop = stage.style.dropout
        at = self._parting(stage, block, part, stride, meeting)
        if at == len(stage.widths):
            with b.scope(name):
                x = block.lower(b, x, stage, stride)
                x = x if drop.type == "none" else lower_dropout(b, x, drop, "stage_end")
            return meeting.happen(x)
        if at > 0:
            first, stage = stage.parts(at)
            with b.scope(name):
                x = block.lower(b, x, first, stride)
            stride = b.ones
        x = meeting.happen(x)
        with b.scope(name):
            x = block.lower(b, x, stage, stride)
            return lower_dropout(b, x, drop, "stage_end")

    def _parting(
        self, stage: Stage, block: AnyBlock, part: Part, stride: Axes, meeting: Meeting
    ) -> int:
        """Returns after how many convolutions the skip leaves or joins, as far as it can."""
        at, count = meeting.after, len(stage.widths)
        unit = block.unit if isinstance(block, Residual) else 1
        if at is None:
            return count
        if at > count:
            rule = f"must be at most the {count} convolutions of the stage"
            fix = count
        elif at % unit:
            rule = f"must be a multiple of the {unit} convolutions of a residual unit"
            fix = at - at % unit
        elif at == 0 and part == "encoder" and stride != self.b.ones:
            rule = "must be at least 1 where the stage's first convolution carries the stride"
            fix = unit
        else:
            return at
        self.b.fault(meeting.path, rule, at, f"use {fix}")
        return count

    def _new_stage(self, part: Part, i: int, stride: Axes) -> tuple[Stage | None, AnyBlock]:
        """Returns a stage with its options resolved (None: no convolutions), and its block."""
        b, style, get = self.b, self._style(part, i), self._options(part, i)
        block: AnyBlock = get["block"]
        features = self.decoder_features[i] if part == "decoder" else self.features[i]
        widths = conv_widths(get["convs"], get["conv_features"], features)
        if widths is None:
            rule = f"must have one entry for each of {get['convs']} convolutions but the last"
            b.fault(style.path("conv_features"), rule, len(get["conv_features"]))
            return None, block
        if not widths:
            if any(s != 1 for s in stride):
                rule = "must be at least 1 where the stage's first convolution carries the stride"
                b.fault(style.path("convs"), rule, 0, "use 1, or another down-sampling")
            return None, block
        kernels = get["kernels"]
        if len(kernels) != len(widths):
            rule = f"must have one entry for each of {len(widths)} convolutions"
            b.fault(style.path("conv_kernels"), rule, len(kernels))
            return None, block
        stage = Stage(
            style=style,
            widths=widths,
            kernels=kernels,
            padding=get["padding"],
            dilation=get["dilation"],
            groups=get["groups"],
            lead=get["first_preactivation"],
            squeeze=get["squeeze_excitation"],
        )
        return stage, block

    def _kernels(self, get: dict[str, Any], style: Style) -> tuple[Axes, ...]:
        """Returns the kernel of each convolution of a stage."""
        given: tuple[Any, ...] | None = get["conv_kernels"]
        if given is None:
            kernel: Axes = self._axes(get["kernel_size"], style, "kernel_size")
            return (kernel,) * int(get["convs"])
        path = style.path("conv_kernels")
        return tuple([self.b.axes(kernel, (*path, n)) for n, kernel in enumerate(given)])

    def _axes(self, value: Any, style: Style, field: str) -> Any:
        """Returns one number per axis, or a word such as ``same`` as it is."""
        if isinstance(value, int):
            return (value,) * self.b.dims
        return value if isinstance(value, str) else self.b.axes(value, style.path(field))

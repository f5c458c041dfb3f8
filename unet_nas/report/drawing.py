"""The drawing of a network in the manner of figure 1 of Ronneberger et al. (2015), as shapes.

Boxes are feature maps: as tall as they are large, as wide as they have channels, both to one scale
for the whole drawing (a box is at least 3 units tall and wide, so that it can be seen). Encoder
stages go down on the left, decoder stages come up on the right; an arrow's colour says which
operator leads from one map to the next. The white part of a box came over a skip connection.

`layout` is a pure function; `drawing_svg` and `drawing_matplotlib` draw what it returns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod

from unet_nas.operators.builder import Graph
from unet_nas.report.drawing_shapes import FONT, Arrow, Box, Drawing, Label, Mark
from unet_nas.report.drawing_steps import Kind, Step, short_size, steps
from unet_nas.unet.shapes import Size, shapes

_BY = re.compile(r"(?<=\d)x(?=\d)")

__all__ = ["layout"]

TALLEST, WIDEST, THINNEST = 150.0, 88.0, 3.0
GAP = 26.0
_ABOVE, _BELOW = 26.0, 16.0
_MARGIN = 14.0
#: height of a line of the legend, and the width of a letter of its text
_LEGEND, _LETTER = 15.0, 4.4

KIND_WORDS: dict[Kind, str] = {
    "conv": "convolution",
    "conv1": "1×1 convolution",
    "down": "down-sampling",
    "up": "up-sampling",
    "skip": "skip connection",
    "gate": "gating signal",
    "residual": "residual connection",
    "resize": "resampling",
}


def layout(graph: Graph, patch_size: Sequence[int], *, legend: bool = True) -> Drawing:
    """Lays a network out.

    Args:
        graph: The network.
        patch_size: Spatial size of the input.
        legend: Add a line for each kind of arrow.

    Raises:
        SizeError: if the network does not run on ``patch_size``.

    >>> from unet_nas.unet.architecture import Architecture
    >>> from unet_nas.unet.graph import lower
    >>> drawn = layout(lower(Architecture(depth=1, width=4)), (16, 16))
    >>> [(box.channels, box.size[0]) for box in drawn.boxes][:4]
    [(1, 16), (4, 16), (4, 16), (4, 8)]
    """
    sizes = shapes(graph, patch_size)
    plan = _Plan(graph, sizes, steps(graph, sizes))
    plan.place()
    plan.connect()
    return plan.finish(legend)


class _Plan:
    """A drawing in the making: where every step lies, then what joins them."""

    def __init__(self, graph: Graph, sizes: Sequence[Size], found: list[Step]) -> None:
        self.graph, self.sizes, self.steps = graph, sizes, found
        self.drawing = Drawing()
        self.boxes: dict[int, list[Box]] = {}  # by the index of the step
        self.at: dict[int, int] = {}  # from a node to the step that shows it
        tallest = max(_extent(sizes[step.last]) for step in found)
        widest = max(part.channels for step in found for part in step.parts)
        self.per_position = TALLEST / tallest
        self.per_channel = WIDEST / widest
        self.middles = self._middles()

    def _middles(self) -> list[float]:
        """Returns the height at which each level's boxes have their middle."""
        levels = 1 + max(step.level for step in self.steps)
        tall = [THINNEST] * levels
        deep = [_BELOW] * levels
        for step in self.steps:
            size = self.sizes[step.last]
            tall[step.level] = max(tall[step.level], self._height(size))
            deep[step.level] = max(deep[step.level], _label_depth(size))
        middles, top = [], _MARGIN
        for height, below in zip(tall, deep, strict=True):
            middles.append(top + _ABOVE + height / 2)
            top += _ABOVE + height + below
        self.bottom = top
        return middles

    def _height(self, size: Size) -> float:
        return max(THINNEST, _extent(size) * self.per_position)

    # --- boxes ----------------------------------------------------------------------------

    def place(self) -> None:
        """Puts the boxes of all steps next to, below or above the one before."""
        free: dict[int, float] = {}  # by level: how far to the right it is taken
        previous: Step | None = None
        for index, step in enumerate(self.steps):
            for node in step.nodes:
                self.at[node] = index
            if step.merged:
                self.boxes[index] = []
                continue
            left = self._left(step, previous, free)
            self.boxes[index] = self._boxes(step, left)
            free[step.level] = self.boxes[index][-1].right
            self.drawing.boxes += self.boxes[index]
            if not step.aside:
                previous = step
        for boxes in self.boxes.values():
            self._label(boxes)

    def _left(self, step: Step, previous: Step | None, free: dict[int, float]) -> float:
        taken = free.get(step.level)
        least = _MARGIN if taken is None else taken + GAP
        if previous is None:
            return least
        before = self.boxes[self.steps.index(previous)][-1]
        if step.aside or previous.level == step.level:
            return least
        # straight above or below the box before; only the part that comes up lies above it
        copied = sum(self._width(part.channels) for part in step.parts if part.skip)
        first_copied = copied if step.parts[0].skip else 0.0
        return max(least, before.x - first_copied)

    def _width(self, channels: int) -> float:
        return max(THINNEST, channels * self.per_channel)

    def _boxes(self, step: Step, left: float) -> list[Box]:
        size = self.sizes[step.last]
        height = self._height(size)
        top = self.middles[step.level] - height / 2
        boxes = []
        for part in step.parts:
            width = self._width(part.channels)
            boxes.append(Box(left, top, width, height, part.channels, size, step.name, part.skip))
            left += width
        return boxes

    def _label(self, boxes: list[Box]) -> None:
        """Writes the channels above and the size below."""
        if not boxes:
            return
        first, last = boxes[0], boxes[-1]
        channels = "+".join(str(box.channels) for box in boxes)
        middle = (first.x + last.right) / 2
        add = self.drawing.labels.append
        add(Label(middle, first.y - 4, channels))
        text, below = short_size(first.size), first.y + first.height
        if _is_long(first.size):
            add(Label(middle + FONT / 3, below + 4, text, "end", upright=True, quiet=True))
        else:
            add(Label(middle, below + FONT + 2, text, quiet=True))

    # --- arrows ---------------------------------------------------------------------------

    def connect(self) -> None:
        """Draws what leads from box to box."""
        for index, step in enumerate(self.steps):
            boxes = self.boxes[index]
            if not boxes or step.source < 0:
                continue
            self._main(step, boxes)
            self._skip(step, boxes)
            self._residual(step, boxes[-1])
            for node in step.extra:
                self._from_below(self._box(node), boxes[-1], "conv1", step.name)

    def _box(self, node: int) -> Box:
        """Returns the last box of the step that shows a node."""
        while node not in self.at:  # a shortcut: its box is that of what it starts from
            node = self.graph.nodes[node].inputs[0]
        index = self.at[node]
        while not self.boxes[index]:
            index -= 1
        return self.boxes[index][-1]

    def _main(self, step: Step, boxes: list[Box]) -> None:
        """The operator that makes a box; an up-sampling leads to the part that it makes."""
        own = [box for box in boxes if not box.copied] or boxes
        target = own[0] if boxes[0].copied else boxes[0]
        source, kind = self._box(step.source), step.kind
        up = self.steps[self.at[step.source]] if step.source in self.at else step
        if kind == "skip":
            if not up.merged:  # the fusion comes later in the stage: the map just goes on
                self._level_arrow(source, target, "skip", step.name)
                return
            source, kind = self._box(up.source), "up"
        if abs(source.middle - target.middle) < 1e-6:
            self._level_arrow(source, target, kind, step.name)
        elif source.middle < target.middle:
            self._down(source, target, kind, step.name)
        else:
            self._up(source, target, kind, step.name)

    def _level_arrow(self, source: Box, target: Box, kind: Kind, name: str) -> None:
        points = ((source.right + 2, source.middle), (target.x - 2, target.middle))
        self.drawing.arrows.append(Arrow(points, kind, name))

    def _down(self, source: Box, target: Box, kind: Kind, name: str) -> None:
        x = target.x + min(source.width, target.width) / 2
        start = source.y + source.height + _label_depth(source.size) - 3
        self.drawing.arrows.append(Arrow(((x, start), (x, target.y - 14)), kind, name))

    def _up(self, source: Box, target: Box, kind: Kind, name: str) -> None:
        x = target.x + min(source.width, target.width) / 2
        end = target.y + target.height + _label_depth(target.size) - 3
        start = (x, source.y - 14)
        points: tuple[tuple[float, float], ...] = (start, (x, end))
        if x > source.right:  # pushed aside by the encoder: out to the right, then up
            points = ((source.right + 2, source.middle), (x, source.middle), (x, end))
        self.drawing.arrows.append(Arrow(points, kind, name))

    def _from_below(self, source: Box, target: Box, kind: Kind, name: str) -> None:
        """A head that reads a deeper stage: along under the decoder, then up."""
        x, end = target.x + target.width / 2, target.y + target.height
        end += _label_depth(target.size)
        points = ((source.right + 2, source.middle), (x, source.middle), (x, end))
        self.drawing.arrows.append(Arrow(points, kind, name))

    def _skip(self, step: Step, boxes: list[Box]) -> None:
        if step.skip is None:
            return
        source, target = self._box(step.skip), boxes[0]
        low = max(source.y, target.y)
        y = low + 0.2 * (min(source.y + source.height, target.y + target.height) - low)
        start, end = source.right + 2, target.x - 2
        between = [box.x for box in self.drawing.boxes if source.right < box.x < target.x
                   and abs(box.middle - target.middle) < 1e-6]  # fmt: skip
        points: tuple[tuple[float, float], ...] = ((start, y), (end, y))
        if between:  # it joins later in the stage: over the boxes before
            end, x, over = min(between) - 9, target.x + target.width / 2 + 3, target.y - 17
            points = ((start, y), (end, y), (end, over), (x, over), (x, target.y - 12))
        self.drawing.arrows.append(Arrow(points, "skip", step.name))
        words = ", ".join(word for word in step.joint if word not in ("gate", "add"))
        if words:
            self.drawing.labels.append(Label((start + end) / 2, y - 4, words, quiet=True))
        if "gate" in step.joint:
            self._gate(step, end - 12, y)
        if "add" in step.joint:
            where = target.middle if between else y
            self.drawing.marks.append(Mark(target.x - 9, where, "+", "skip"))

    def _gate(self, step: Step, x: float, y: float) -> None:
        """A sign on the skip, and where its coefficients come from."""
        self.drawing.marks.append(Mark(x, y, "×", "gate"))
        up = self.steps[self.at[step.source]]
        source = self._box(up.source if up.merged else step.source)
        start, over = source.x + source.width / 2 - 6, source.y - 19
        points = ((start, source.y - 12), (start, over), (x, over), (x, y + 7))
        self.drawing.arrows.append(Arrow(points, "gate", step.name))

    def _residual(self, step: Step, target: Box) -> None:
        """A line over the unit, or, where the unit begins on another level, off its first arrow."""
        if step.shortcut is None:
            return
        source, end = self._box(step.shortcut), target.x + target.width / 2 - 3
        if abs(source.middle - target.middle) < 1e-6:
            start, over = source.x + source.width / 2 + 3, min(source.y, target.y) - 15
            points: tuple[tuple[float, float], ...] = ((start, source.y - 12), (start, over))
        else:
            first = self._first_of_unit(step)
            start, over = first.x + min(source.width, first.width) / 2, first.y - 21
            points = ((start, over),)
        points = (*points, (end, over), (end, target.y - 12))
        self.drawing.arrows.append(Arrow(points, "residual", step.name))

    def _first_of_unit(self, step: Step) -> Box:
        words = step.name.split(".")
        unit = ".".join(words[: words.index("units") + 2])
        index = next(i for i, other in enumerate(self.steps) if other.name.startswith(unit))
        return self.boxes[index][0]

    # --- legend ---------------------------------------------------------------------------

    def finish(self, legend: bool) -> Drawing:
        """Adds the legend and takes the measure of all."""
        drawing = self.drawing
        ends = [box.right for box in drawing.boxes]
        ends += [x for arrow in drawing.arrows for x, _ in arrow.points]
        drawing.width = max(max(ends) + _MARGIN + 10, 260.0)
        drawing.height = self.bottom + _MARGIN
        if legend:
            self._legend()
        return drawing

    def _legend(self) -> None:
        """One line for each kind of arrow: which operators it stands for."""
        drawing = self.drawing
        y = self.bottom + _LEGEND
        for kind, text in self._legend_texts().items():
            arrow = Arrow(((_MARGIN, y - 3), (_MARGIN + 22, y - 3)), kind, "legend")
            drawing.arrows.append(arrow)
            drawing.labels.append(Label(_MARGIN + 29, y, text, "start", quiet=True))
            drawing.width = max(drawing.width, 2 * _MARGIN + 29 + _LETTER * len(text))
            y += _LEGEND
        drawing.height = y

    def _legend_texts(self) -> dict[Kind, str]:
        drawn = dict.fromkeys(arrow.kind for arrow in self.drawing.arrows)
        found: dict[Kind, dict[str, None]] = {kind: {} for kind in KIND_WORDS if kind in drawn}
        for step in self.steps:
            if step.kind in found and step.kind != "skip" and not step.merged:
                found[step.kind][step.what] = None
            elif step.merged and "up" in found:
                found["up"][step.what] = None
        return {kind: _legend_text(kind, list(whats)) for kind, whats in found.items()}


def _legend_text(kind: Kind, whats: list[str]) -> str:
    shown = "; ".join(whats[:3]) + ("; …" if len(whats) > 3 else "")
    shown = _BY.sub("×", shown)
    return f"{KIND_WORDS[kind]}: {shown}" if shown and kind != "resize" else KIND_WORDS[kind]


def _extent(size: Size) -> float:
    """Returns the geometric mean of a size, which is the size itself where all axes agree."""
    return float(size[0]) if len(set(size)) == 1 else float(prod(size)) ** (1 / len(size))


def _is_long(size: Size) -> bool:
    return len(short_size(size)) > 5


def _label_depth(size: Size) -> float:
    """Returns the room that the text of a size takes below its box."""
    return _BELOW if not _is_long(size) else 8 + FONT * 0.58 * len(short_size(size))

"""Draws a network's shapes as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from unet_nas.operators.builder import Graph
from unet_nas.report.drawing_shapes import FONT, Arrow, Box, Drawing, Label, Mark
from unet_nas.report.drawing_steps import Kind

__all__ = ["FILE_COLORS", "PAGE_COLORS", "to_svg"]

_KINDS: tuple[Kind, ...] = ("conv", "conv1", "down", "up", "skip", "gate", "residual", "resize")

#: Okabe and Ito (2008): told apart with any colour vision
FILE_COLORS: Mapping[str, str] = {
    "conv": "#0072B2",
    "conv1": "#56B4E9",
    "down": "#D55E00",
    "up": "#009E73",
    "skip": "#808080",
    "gate": "#CC79A7",
    "residual": "#E69F00",
    "resize": "#808080",
    "ink": "#1a1a1a",
    "quiet": "#555555",
    "map": "#CFE0EE",
    "copied": "#FFFFFF",
    "edge": "#3B6A94",
}
"""Colours of a file, by what is drawn."""

PAGE_COLORS: Mapping[str, str] = {name: f"var(--u-{name}, {c})" for name, c in FILE_COLORS.items()}
"""Colours that a page's style can change."""


def to_svg(
    drawing: Drawing, title: str, colors: Mapping[str, str] = FILE_COLORS, *, ids: str = "u"
) -> str:
    """Returns the drawing as an SVG document.

    Args:
        drawing: What `layout` returned.
        title: What a reader who cannot see it is told.
        colors: By what is drawn.
        ids: Begin of the ids inside, unique where several drawings share a page.
    """
    width, height = f"{drawing.width:.0f}", f"{drawing.height:.0f}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-labelledby="{escape(ids)}-title" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="{FONT:g}">'
    )
    parts = [head, f'<title id="{escape(ids)}-title">{escape(title)}</title>']
    parts.append("<defs>" + "".join(_heads(colors, ids)) + "</defs>")
    parts += [_arrow(arrow, colors, ids) for arrow in drawing.arrows]
    parts += [_box(box, colors) for box in drawing.boxes]
    parts += [_mark(mark, colors) for mark in drawing.marks]
    parts += [_label(label, colors) for label in drawing.labels]
    return "\n".join([*parts, "</svg>"])


def _heads(colors: Mapping[str, str], ids: str) -> Iterator[str]:
    for kind in _KINDS:
        yield (
            f'<marker id="{escape(ids)}-{kind}" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="5.5" markerHeight="5.5" orient="auto">'
            f'<path d="M0 0.6 8 4 0 7.4Z" style="fill:{colors[kind]}"/></marker>'
        )


def _arrow(arrow: Arrow, colors: Mapping[str, str], ids: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in arrow.points)
    dash = ' stroke-dasharray="3 2"' if arrow.kind in ("gate", "residual") else ""
    return (
        f'<polyline points="{points}" style="fill:none;stroke:{colors[arrow.kind]}" '
        f'stroke-width="1.6"{dash} marker-end="url(#{escape(ids)}-{arrow.kind})"/>'
    )


def _box(box: Box, colors: Mapping[str, str]) -> str:
    fill = colors["copied" if box.copied else "map"]
    size = "×".join(map(str, box.size))
    return (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" style="fill:{fill};stroke:{colors["edge"]}" '
        f'stroke-width="0.8" data-channels="{box.channels}" data-size="{size}">'
        f"<title>{escape(box.name)}: {box.channels} channels, {size}</title></rect>"
    )


def _mark(mark: Mark, colors: Mapping[str, str]) -> str:
    color = colors[mark.kind]
    return (
        f'<circle cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="5" '
        f'style="fill:{colors["copied"]};stroke:{color}" stroke-width="1.2"/>'
        f'<text x="{mark.x:.1f}" y="{mark.y + 2.9:.1f}" text-anchor="middle" '
        f'style="fill:{color}">{escape(mark.text)}</text>'
    )


def _label(label: Label, colors: Mapping[str, str]) -> str:
    turn = f' transform="rotate(-90 {label.x:.1f} {label.y:.1f})"' if label.upright else ""
    color = colors["quiet" if label.quiet else "ink"]
    return (
        f'<text x="{label.x:.1f}" y="{label.y:.1f}" text-anchor="{label.anchor}"{turn} '
        f'style="fill:{color}">{escape(label.text)}</text>'
    )


def describe(graph: Graph, patch_size: tuple[int, ...]) -> str:
    """Returns the title of a drawing."""
    size = "×".join(map(str, patch_size))
    return f"A U-Net of {graph.parameters():,} parameters for inputs of {size}"

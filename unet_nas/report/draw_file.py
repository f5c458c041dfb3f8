"""The drawing of one network as one file, without a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unet_nas.errors import InputError
from unet_nas.files import write_files
from unet_nas.operators.builder import Graph
from unet_nas.report.drawing import layout
from unet_nas.report.drawing_svg import describe, to_svg
from unet_nas.unet.shapes import AxisSizes

__all__ = ["default_size", "write_drawing"]

KINDS = (".svg", ".pdf", ".png")
#: where the search for a size that fits begins, by the number of axes
_USUAL = {1: 1024, 2: 256, 3: 96}


def write_drawing(graph: Graph, out: Path, patch_size: Sequence[int], *, force: bool) -> Path:
    """Writes the drawing of a network as SVG, PDF or PNG, by the name of the file.

    Raises:
        InputError: if the name ends otherwise, or the file is there and ``force`` is not set.
        SizeError: if the network does not run on ``patch_size``.
    """
    kind = out.suffix.lower()
    if kind not in KINDS:
        raise InputError(
            f"a drawing ends in {', '.join(KINDS)}, got {out.name!r}; fix: {out.stem}.svg"
        )
    drawn = layout(graph, patch_size)
    if kind == ".svg":
        content = to_svg(drawn, describe(graph, tuple(patch_size))).encode()
    else:
        from unet_nas.report.drawing_matplotlib import drawing_file  # noqa: PLC0415 - takes a second

        content = drawing_file(drawn, kind[1:])
    return write_files(out.parent, {out.name: content}, force=force)[0]


def default_size(graph: Graph) -> tuple[int, ...]:
    """Returns the usual size nearest to which a network runs.

    Raises:
        InputError: if there is none near it.

    >>> from unet_nas.unet.architecture import Architecture
    >>> from unet_nas.unet.graph import lower
    >>> default_size(lower(Architecture(depth=4)))
    (256, 256)
    """
    usual = _USUAL[graph.dims]
    found = []
    for axis in range(graph.dims):
        sizes = AxisSizes(graph, axis)
        below, above = sizes.nearest(usual)
        near = usual if sizes.valid(usual) else above if above is not None else below
        if near is None:
            raise InputError(f"no size near {usual} fits this network; give --patch-size")
        found.append(near)
    return tuple(found)

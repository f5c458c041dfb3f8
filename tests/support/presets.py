"""Presets made small, for tests that run them."""

from __future__ import annotations

from tests.support.running import expected
from unet_nas.operators.builder import Graph
from unet_nas.unet.graph import lower
from unet_nas.unet.load import load_architecture, preset
from unet_nas.unet.shapes import AxisSizes


def narrowed(name: str) -> Graph:
    """Returns a preset with a sixteenth of its features."""
    original = preset(name)
    if original.features is None:
        width = max(4, original.width // 16)
        changes = [f"width={width}"]
        changes += [f"max_width={original.max_width // 16}"] if original.max_width else []
    else:
        changes = [f"features={[max(2, n // 16) for n in original.features]}"]
    if original.decoder.features:
        found = [max(2, n // 16) for n in original.decoder.features]
        changes.append(f"decoder.features={found}")
    return lower(load_architecture(f"preset:{name}", changes))


def smallest(graph: Graph) -> tuple[int, ...]:
    """Returns a small size that the graph runs on in training: long on the first axis only."""
    axes = [AxisSizes(graph, axis) for axis in range(graph.dims)]
    size = [axis.nearest(0)[1] for axis in axes]
    while expected(graph, tuple(size), 1, True).failed is not None:
        size[0] = axes[0].nearest(size[0])[1]
    return tuple(size)

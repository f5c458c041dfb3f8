"""Two facts that both the module and the memory model read off the graph.

Which nodes form a unit that can be recomputed in backward, and which activations may
overwrite their input.
"""

from __future__ import annotations

from collections.abc import Sequence

from unet_nas.errors import InputError
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph

#: activations that PyTorch can run in place without keeping their input for backward
_INPLACE_KINDS = ("ReLU", "LeakyReLU", "ELU")


def unit_of(name: str) -> str | None:
    """Returns the unit of convolutions that a node belongs to, or None.

    >>> unit_of("encoder.stages.1.convs.0.conv"), unit_of("bottleneck.convs.0.act")
    ('encoder.stages.1', 'bottleneck')
    >>> unit_of("decoder.ups.0.conv") is None
    True
    """
    words = name.split(".")
    if words[0] == "bottleneck":
        return "bottleneck"
    if len(words) > 3 and words[0] in ("encoder", "decoder") and words[1] == "stages":
        return ".".join(words[:3])
    return None


def units(graph: Graph) -> dict[str, range]:
    """Returns every unit with the range of its nodes, in order of execution."""
    found: dict[str, range] = {}
    for index, node in enumerate(graph.nodes):
        unit = unit_of(node.name)
        if unit is not None:
            start = found[unit].start if unit in found else index
            found[unit] = range(start, index + 1)
    return found


def checkpoint_units(graph: Graph, names: Sequence[str]) -> list[range]:
    """Returns the node ranges of the named units, in order of execution.

    Args:
        graph: the network.
        names: ``encoder.stages.0``, ``bottleneck``, ``decoder.stages.0``; a bare ``0`` names
            all units of that stage, and the depth names the bottleneck.

    Raises:
        InputError: if there is no such unit.
    """
    found = units(graph)
    depth = 1 + max(_stage(node.name) for node in graph.nodes)
    chosen: set[str] = set()
    for name in names:
        if name.isdecimal():
            wanted = [f"encoder.stages.{name}", f"decoder.stages.{name}"]
            wanted = ["bottleneck"] if int(name) == depth else wanted
        else:
            wanted = [name]
        present = [unit for unit in wanted if unit in found]
        if not present:
            raise InputError(f"no stage {name!r} to checkpoint; there are {', '.join(found)}")
        chosen.update(present)
    return [nodes for unit, nodes in found.items() if unit in chosen]


def _stage(name: str) -> int:
    """Returns the stage that a node of the encoder or the decoder belongs to, else -1."""
    words = name.split(".")
    return int(words[2]) if words[0] in ("encoder", "decoder") else -1


def inplace_nodes(graph: Graph, recomputed: Sequence[range] = ()) -> frozenset[int]:
    """Returns the activations that may overwrite their input.

    The input must have no other reader, must not be an output, and must not be kept for the
    backward pass of the node that made it: convolutions and norms keep their inputs, not
    their outputs. Nor may it enter a unit that is ``recomputed`` from what enters it.
    """
    readers = graph.readers()
    safe = (p.Conv, p.ConvTranspose, p.Blur, p.BatchNorm, p.InstanceNorm, p.GroupNorm)
    return frozenset(
        index
        for index, node in enumerate(graph.nodes)
        if isinstance(node.primitive, p.Activation)
        and node.primitive.kind in _INPLACE_KINDS
        and len(readers[node.inputs[0]]) == 1
        and node.inputs[0] not in graph.outputs
        and isinstance(graph.nodes[node.inputs[0]].primitive, safe)
        and not any(index in unit and node.inputs[0] not in unit for unit in recomputed)
    )

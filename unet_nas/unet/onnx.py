"""A graph as an ONNX model: another reader of it, which needs no PyTorch.

Every primitive is a few ONNX operators; batch and spatial sizes stay open, and alignment computes
its sizes where the model runs, so one file takes every size that the network takes. PyTorch's own
exporter needs 2 to 30 seconds for a network and fixes the sizes of some. `unet.onnx_check` compares
the result with PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from unet_nas.errors import InputError
from unet_nas.operators.builder import Graph
from unet_nas.unet.onnx_operators import OPERATORS, Site, Writer

OPSET = 19
#: of the file format; readers refuse a newer one than theirs
_FORMAT = 9
#: what one file of protocol buffers can hold
_LARGEST_BYTES = 2**31 - 2**20
_SPATIAL = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def to_onnx(graph: Graph, weights: Mapping[str, np.ndarray], *, name: str = "unet") -> bytes:
    """Returns the model: input ``image``, outputs ``logits``, and ``logits_1`` … of deep heads.

    Args:
        graph: the network.
        weights: the state of ``build(graph)``: its tensors by name.
        name: what the file calls the network.

    Raises:
        InputError: if the weights are larger than an ONNX file can be.
    """
    size_bytes = sum(tensor.nbytes for tensor in weights.values())
    if size_bytes > _LARGEST_BYTES:
        raise InputError(f"an ONNX file holds 2 GiB of weights, and these are {size_bytes:,} bytes")
    writer = Writer(weights)
    values = ["image"]
    for node in graph.nodes[1:]:
        writer.name = node.name
        site = Site(node.name, graph.dims, node.channels)
        write = OPERATORS[type(node.primitive)]
        values.append(write(writer, node.primitive, site, [values[i] for i in node.inputs]))
    outputs = ["logits", *(f"logits_{i}" for i in range(1, len(graph.outputs)))]
    for output, index in zip(outputs, graph.outputs, strict=True):
        writer.nodes.append(helper.make_node("Identity", [values[index]], [output], name=output))
    classes = [graph.nodes[index].channels for index in graph.outputs]
    return _model(writer, graph, name, dict(zip(outputs, classes, strict=True)))


def _model(writer: Writer, graph: Graph, name: str, outputs: Mapping[str, int]) -> bytes:
    kind = TensorProto.FLOAT
    image: list[str | int | None] = ["batch", graph.nodes[0].channels, *_SPATIAL[graph.dims]]
    unknown: list[str | int | None] = [None] * graph.dims
    made = helper.make_model(
        helper.make_graph(
            writer.nodes,
            name,
            [helper.make_tensor_value_info("image", kind, image)],
            [
                helper.make_tensor_value_info(output, kind, ["batch", channels, *unknown])
                for output, channels in outputs.items()
            ],
            list(writer.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_FORMAT,
        producer_name="unet_nas",
    )
    helper.set_model_props(made, {"digest": graph.digest()})
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content

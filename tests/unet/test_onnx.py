"""ONNX models against the modules of PyTorch that they stand for."""

import sys
from random import Random

import numpy as np
import onnx
import pytest
import torch

from tests.support.draw import draw_case
from tests.support.presets import narrowed, smallest
from unet_nas.errors import InputError, UnetNasError
from unet_nas.operators import primitives as p
from unet_nas.operators.builder import Graph
from unet_nas.unet import onnx as written
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build
from unet_nas.unet.export import export_onnx
from unet_nas.unet.graph import lower
from unet_nas.unet.load import preset_names
from unet_nas.unet.onnx import to_onnx
from unet_nas.unet.onnx_check import TOLERANCE, check_onnx, other_size
from unet_nas.unet.onnx_operators import OPERATORS
from unet_nas.unet.source import single_value

SMALL = lower(Architecture(depth=1, width=2))


def weights(graph: Graph) -> dict[str, np.ndarray]:
    """Returns a state in which nothing is zero or one by default, as after training."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    state = build(graph).state_dict()
    for name, tensor in state.items():
        if tensor.dim() == 1 and tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            positive = name.endswith(("weight", "running_var"))
            state[name] = 0.5 + noise if positive else noise - 0.5
    return {name: tensor.numpy() for name, tensor in state.items()}


def compare(graph: Graph, size: tuple[int, ...]) -> None:
    """Asserts that both give the same numbers at two sizes and batches."""
    state = weights(graph)
    one, two = check_onnx(to_onnx(graph, state), graph, state, size)
    assert one.shape == (1, graph.nodes[0].channels, *size)
    assert two.shape[0] == 2
    assert max(one.difference, two.difference) <= TOLERANCE


@pytest.mark.parametrize("name", preset_names())
def test_presets(name):
    graph = narrowed(name)
    compare(graph, smallest(graph))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_random_architectures(dims):
    rng, done = Random(dims), 0
    while done < 12:
        case = draw_case(rng)
        graph = case.graph
        if graph is None or graph.dims != dims or graph.outputs == (0,):
            continue
        if not runs(graph, case.size):
            continue
        try:
            compare(graph, case.size)
        except Exception as error:
            error.add_note(f"{case.tree}, {case.size}")
            raise
        done += 1


def runs(graph: Graph, size: tuple[int, ...]) -> bool:
    """Tells whether no norm is left with a single value, where rounding is all there is."""
    try:
        return not any(single_value(graph, s, True) for s in (size, other_size(graph, size)))
    except InputError:
        return False


@pytest.mark.parametrize(
    ("tree", "size"),
    [
        ({"padding": "valid", "align": "crop", "depth": 2}, (45, 50)),
        ({"align": "pad", "depth": 3}, (45, 50)),
        ({"align": {"type": "pad", "side": "end", "mode": "replicate"}}, (45, 50)),
        ({"align": "resize", "depth": 3}, (45, 51)),
        ({"align": {"type": "resize", "mode": "nearest"}, "fusion": "add"}, (45, 51)),
        ({"deep_supervision": 2, "depth": 3, "head": "multi_scale"}, (16, 24)),
        ({"block": "residual", "squeeze_excitation": {}, "activation": "gelu"}, (32, 32)),
        ({"dropout": {"type": "channel", "rate": 0.5}, "up": "pixel_shuffle"}, (32, 32)),
        ({"stem": {}, "down": "pixel_unshuffle", "kernel_size": 2, "norm": "layer"}, (32, 48)),
        ({"padding_mode": "reflect", "down": "anti_aliased_max_pool", "align": "crop"}, (48, 65)),
        ({"padding_mode": "circular", "activation": "silu", "up": "interpolation"}, (32, 48)),
        ({"fusion": "attention_gate", "activation": "mish", "norm": "instance"}, (32, 48)),
        ({"down": "avg_pool", "norm": {"type": "group", "groups": 2}}, (32, 48)),
        ({"activation": "elu"}, (32, 48)),
        ({"activation": "prelu", "padding_mode": "replicate"}, (32, 48)),
        ({"activation": "leaky_relu", "spatial_dims": 3, "depth": 2}, (16, 24, 8)),
    ],
)
def test_operators(tree, size):
    compare(lower(Architecture.model_validate({"width": 4, **tree})), size)


@pytest.mark.parametrize("down", ["max_pool", "avg_pool"])
@pytest.mark.parametrize("size", [(29, 30), (31, 33)])
def test_pooling_that_rounds_up(down, size):
    pool = {"type": down, "kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    graph = lower(Architecture.model_validate({"width": 4, "down": pool, "align": "crop"}))
    compare(graph, size)


def test_every_primitive_is_written():
    primitives = {c for c in vars(p).values() if isinstance(c, type) and issubclass(c, p.Primitive)}
    assert primitives - {p.Primitive, p.Input} == set(OPERATORS)


def test_inputs_and_outputs_have_names_and_open_sizes():
    graph = lower(Architecture(depth=2, width=2, classes=3, deep_supervision=1))
    model = onnx.load_from_string(to_onnx(graph, weights(graph)))
    onnx.checker.check_model(model, full_check=True)
    (image,) = model.graph.input
    names = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert (image.name, names) == ("image", ["batch", 1, "height", "width"])
    assert [output.name for output in model.graph.output] == ["logits", "logits_1"]
    assert {entry.key: entry.value for entry in model.metadata_props} == {"digest": graph.digest()}


def test_a_difference_is_found():
    state = weights(SMALL)
    changed = {**state, "head.conv.bias": state["head.conv.bias"] + 0.1}
    with pytest.raises(UnetNasError, match=r"differs from PyTorch by .* it was not written"):
        check_onnx(to_onnx(SMALL, changed), SMALL, state, (16, 16))


def test_a_size_that_leaves_norms_one_value_is_said():
    graph = lower(Architecture(depth=2, width=2, norm="instance"))
    state = weights(graph)
    with pytest.raises(InputError, match="cannot run on 4x4: "):
        check_onnx(to_onnx(graph, state), graph, state, (4, 4))


def test_weights_that_no_file_can_hold_are_refused(monkeypatch):
    monkeypatch.setattr(written, "_LARGEST_BYTES", 100)
    with pytest.raises(InputError, match="2 GiB of weights, and these are"):
        to_onnx(SMALL, weights(SMALL))


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    from safetensors.torch import save_file

    architecture = Architecture(depth=1, width=2)
    save_file(build(architecture).state_dict(), tmp_path / "w.safetensors")
    monkeypatch.delitem(sys.modules, "unet_nas.unet.onnx_check")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        InputError, match=r"needs the package onnxruntime; pip install 'unet-nas\[o"
    ):
        export_onnx(architecture, tmp_path / "w.safetensors")


def test_no_torch_is_imported():
    import subprocess

    code = "import sys, unet_nas.unet.onnx; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

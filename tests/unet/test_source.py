"""The exported file is the network, bit for bit, and reads as a person would write it."""

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

from tests.support.draw import Case, draw_case
from tests.support.presets import narrowed, smallest
from tests.support.running import expected, random_input
from unet_nas.errors import InputError, SizeError
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import UNet, build
from unet_nas.unet.calls import default_of
from unet_nas.unet.graph import Graph, lower
from unet_nas.unet.load import preset, preset_names
from unet_nas.unet.source import (
    example_size,
    export_source,
    parameter_names,
    renamed,
)
from unet_nas.unet.statements import Statement, module_paths, program

SEED = os.environ.get("UNET_NAS_SEED", "0")
CHUNKS, CHUNK = 10, 40


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def executed(text: str) -> nn.Module:
    scope = {"__name__": "exported"}
    exec(compile(text, "model.py", "exec"), scope)
    return scope["UNet"]()


def agree(graph: Graph, size: tuple[int, ...], batch: int) -> None:
    """Asserts that our module and the exported one give the same bits, gradients too."""
    ours, theirs = build(graph), executed(export_source(graph, "drawn"))
    theirs.load_state_dict(renamed(graph, ours.state_dict()))
    x = random_input(graph, size, batch)
    for training in (True, False):
        if expected(graph, size, batch, training).failed is None:
            results = [outcome(module.train(training), x, graph) for module in (ours, theirs)]
            assert_same(*results)
    names = parameter_names(graph)
    after = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, after[names[name]]), name


def outcome(module: nn.Module, x: torch.Tensor, graph: Graph) -> tuple[list, dict]:
    """Returns outputs and gradients by our names; the same random numbers every time."""
    torch.manual_seed(0)
    x = x.clone().requires_grad_()
    outputs = module(x)
    assert isinstance(outputs, list) == (len(graph.outputs) > 1)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    module.zero_grad()
    weights = [torch.randn_like(y) for y in outputs]
    sum((y * w).sum() for y, w in zip(outputs, weights, strict=True)).backward()
    named = dict(module.named_parameters())
    names = {name: name for name in named}
    if not isinstance(module, UNet):
        names = {o: t for o, t in parameter_names(graph).items() if t in named}
    gradients = {ours: named[own].grad for ours, own in names.items()}
    return outputs, {"input": x.grad, **gradients}


def assert_same(ours: tuple[list, dict], theirs: tuple[list, dict]) -> None:
    assert len(ours[0]) == len(theirs[0])
    for mine, other in zip(ours[0], theirs[0], strict=True):
        assert same(mine, other), f"outputs differ by {(mine - other).abs().max()}"
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in ours[1].items():
        assert same(gradient, theirs[1][name]), f"gradients of {name} differ"


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    """Tells whether two tensors have the same bits; a value that is no number is one."""
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


# --- random architectures -----------------------------------------------------------------


@cache
def drawn(chunk: int) -> tuple[Case, ...]:
    """Returns the cases of a chunk that run."""
    return tuple(_drawn(chunk))


def _drawn(chunk: int) -> Iterator[Case]:
    for index in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        case = draw_case(Random(f"source-{SEED}-{index}"))
        runs = case.graph and expected(case.graph, case.size, 1, False).failed is None
        if runs and case.graph.outputs != (0,):
            yield case


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_exported_file_gives_the_same_bits(chunk):
    for case in drawn(chunk):
        torch.manual_seed(1)
        try:
            agree(case.graph, case.size, case.batch)
        except Exception as error:
            error.add_note(f"{case.tree}, {case.size}, batch {case.batch}")
            raise


def some() -> tuple[Case, ...]:
    """Returns fewer cases, for what needs no run."""
    return (*drawn(0), *drawn(1), *drawn(2))


def test_enough_of_the_draw_runs():
    # a tenth of the draw tells of the whole; 15 of a chunk are 150 in all
    assert len(drawn(0)) >= 15


@pytest.mark.parametrize(
    ("tree", "size"),
    [
        ({"padding": "valid", "align": "crop", "depth": 2}, (45, 50)),
        ({"align": "crop", "depth": 3, "up": {"type": "transposed_conv", "padding": 0}}, (45, 50)),
        ({"align": "pad", "depth": 3}, (45, 50)),
        ({"align": {"type": "pad", "side": "end", "mode": "replicate"}}, (45, 50)),
        ({"align": "resize", "depth": 3}, (45, 51)),
        ({"align": {"type": "resize", "mode": "nearest"}, "fusion": "add"}, (45, 51)),
        ({"align": "pad", "fusion": {"type": "attention_gate", "resolution": "full"}}, (33, 34)),
        ({"align": ["pad", "crop", "resize", {"type": "resize", "mode": "nearest"}]}, (37, 63)),
        ({"deep_supervision": 3, "align": "resize"}, (39, 52)),
        ({"deep_supervision": 2, "depth": 3, "head": "multi_scale"}, (16, 24)),
        ({"block": "residual", "padding": "valid", "align": "crop", "depth": 2}, (60, 61)),
        ({"convs": 0, "depth": 2, "fusion": "add", "up": "interpolation"}, (16, 16)),
        ({"block": {"type": "residual", "unit": 1}, "squeeze_excitation": {}}, (32, 32)),
        ({"dropout": {"type": "channel", "rate": 0.5}, "up": "pixel_shuffle"}, (32, 32)),
        ({"stem": {}, "down": "pixel_unshuffle", "kernel_size": 2, "norm": "layer"}, (32, 48)),
        ({"padding_mode": "reflect", "down": "anti_aliased_max_pool", "align": "crop"}, (48, 65)),
    ],
)
def test_alignments_heads_and_blocks_give_the_same_bits(tree, size):
    architecture = Architecture.model_validate({"width": 4, **tree})
    agree(lower(architecture), size, batch=2)


# --- presets ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", preset_names())
def test_presets_give_the_same_bits(name):
    graph = narrowed(name)
    agree(graph, smallest(graph), batch=1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """Returns a folder with the files of all presets at their full width."""
    folder = tmp_path_factory.mktemp("exported")
    for name in preset_names():
        (folder / f"{name}.py").write_text(export_source(lower(preset(name)), name), "utf-8")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--select", "A,B,C4,E,F,I,PIE,RET,RUF,SIM,UP,W"),
        ("format", "--check"),
    ],
)
def test_presets_are_formatted_and_clean(exported, arguments):
    command = [sys.executable, "-m", "ruff", arguments[0], "--isolated", "--line-length", "100"]
    done = subprocess.run(
        [*command, *arguments[1:], exported], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


ALONE = """
import runpy, sys
sys.modules["unet_nas"] = None
runpy.run_path(sys.argv[1], run_name="__main__")
assert not [name for name in sys.modules if name.startswith("unet_nas.")]
"""


@pytest.mark.parametrize(
    ("name", "printed"), [("phasenet", "(1, 3, 512)"), ("monai-unet-2d", "(1, 2, 128, 128)")]
)
def test_a_file_runs_where_this_package_is_not(exported, name, printed):
    command = [sys.executable, "-I", "-W", "error", "-c", ALONE, exported / f"{name}.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, printed), done.stderr


# --- what the file says -------------------------------------------------------------------


def test_the_head_states_conventions_and_conditions():
    graph = lower(preset("unet-2015"))
    text = export_source(graph, "unet-2015", (572, 572)).split('"""')[1]
    words = " ".join(text.split())
    assert "Parameters 31,030,658" in words
    assert "MACs 150,428,424,448 for one input of 572x572" in words
    assert "FLOPs = 2 x MACs" in words
    assert "each axis: every size from 188 on" in words
    assert graph.digest() in words


def test_sizes_that_differ_by_axis_are_told_apart():
    graph = lower(Architecture(depth=2, down={"type": "max_pool", "kernel_size": "2x4"}))
    text = " ".join(export_source(graph, "flat").split())
    assert "axis 0: 4, 8, 12, … (4k, at least 4); axis 1: 16, 32, 48" in text


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(SizeError, match="needs"):
        export_source(lower(Architecture(depth=4)), "unet", (250, 256))


def test_an_example_of_the_only_sizes_that_fit_is_found():
    graph = lower(
        Architecture(
            spatial_dims=1,
            depth=1,
            down={"type": "max_pool", "padding": 1, "ceil_mode": True},
            up="none",
        )
    )
    assert example_size(graph) == (2,)
    agree(graph, (2,), batch=2)


@pytest.mark.parametrize("name", ['a """ b', "back\\slash\\", "two\nlines", "x" * 300, '"', "ünï"])
def test_no_name_breaks_the_file(name):
    graph = lower(Architecture(width=2, depth=1))
    text = export_source(graph, name)
    assert max(map(len, text.splitlines())) <= 100
    executed(text)


def test_a_network_without_convolutions_and_a_network_of_nothing():
    pools = {"convs": 0, "up": {"type": "interpolation", "kernel_size": None}, "fusion": "none"}
    graph = lower(Architecture(depth=1, in_channels=2, classes=2, width=2, head="none", **pools))
    agree(graph, (8, 8), batch=1)
    down = {"type": "strided_block", "stride": 1}
    empty = {"convs": 0, "up": "none", "fusion": "none", "down": down, "head": "none"}
    graph = lower(Architecture(depth=1, in_channels=2, classes=2, width=2, **empty))
    assert graph.outputs == (0,)
    x = torch.ones(1, 2, 8, 8)
    assert executed(export_source(graph, "nothing"))(x) is x


def test_what_is_left_out_is_the_default_of_pytorch():
    calls = {n.primitive.call(c.graph.dims) for c in some() for n in c.graph.nodes[1:]}
    arguments = {(c.target, name) for c in calls for name, _ in c.arguments}
    compared = 0
    for target, argument in arguments:
        default = default_of(target, argument)
        if target.startswith("nn.") and default is not None:
            theirs = inspect.signature(getattr(nn, target[3:])).parameters[argument].default
            theirs = "kernel_size" if theirs is None else theirs  # of a pool's stride
            assert type(theirs) is type(default), (target, argument)
            assert theirs == default, (target, argument)
            compared += 1
    assert compared >= 30


# --- weights ------------------------------------------------------------------------------


def test_names_are_those_of_both_modules():
    for case in drawn(0):
        names = parameter_names(case.graph)
        assert names.keys() == build(case.graph).state_dict().keys()
        theirs = executed(export_source(case.graph, "drawn")).state_dict()
        assert len(set(names.values())) == len(names)
        assert set(names.values()) == theirs.keys()


def test_weights_of_another_network_are_refused():
    graph = lower(Architecture(width=2, depth=1))
    state = build(graph).state_dict()
    with pytest.raises(InputError, match="have no place in the network for 'more'"):
        renamed(graph, {**state, "more": state["head.conv.bias"]})
    del state["head.conv.bias"], state["head.conv.weight"]
    with pytest.raises(InputError, match=r"lack 'head.conv.bias' and 1 more"):
        renamed(graph, state)


def test_weights_are_drawn_as_ours():
    torch.manual_seed(0)
    architecture = Architecture(width=32, depth=1, up="pixel_shuffle")
    graph = lower(architecture)
    network, ours = executed(export_source(graph, "unet")), build(graph).state_dict()
    for own, theirs in parameter_names(graph).items():
        tensor = network.state_dict()[theirs]
        if tensor.dim() == 4:
            assert float(tensor.std()) == pytest.approx(float(ours[own].std()), rel=0.2)
        elif own.endswith("bias"):
            assert not tensor.any()
    conv = network.get_submodule(module_paths(graph)["decoder.ups.0.conv"]).weight
    assert torch.equal(conv, conv[::4].repeat_interleave(4, dim=0))


# --- lines of forward ---------------------------------------------------------------------


def test_no_map_lives_longer_than_it_is_needed():
    for case in some():
        lines = program(case.graph)
        live = {"x"}
        for i, line in enumerate(lines.statements):
            live = (live | {line.target} | {line.saved} - {""}) - set(line.deleted)
            later = lines.statements[i + 1 :]
            assert live == {v for v in live if needed(v, later, lines.outputs)}, line


def needed(variable: str, later: tuple[Statement, ...], outputs: tuple[str, ...]) -> bool:
    """Tells whether the value that a variable has is read before it gets another."""
    for line in later:
        if variable in line.arguments or (variable == line.target and line.saved):
            return True
        if variable == line.target:
            return False
    return variable in outputs

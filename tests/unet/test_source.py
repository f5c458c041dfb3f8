"""The exported file is the network, bit for bit, and reads as a person would write it."""

import inspect
import os
import re
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
from tests.support.running import expected, random_input
from unet_nas.errors import InputError, SizeError
from unet_nas.unet.build import UNet, build
from unet_nas.unet.graph import Graph, lower
from unet_nas.unet.load import load_architecture, preset_names
from unet_nas.unet.source import (
    DEFAULTS,
    example_size,
    export_source,
    parameter_names,
    renamed,
)
from unet_nas.unet.statements import module_paths

SEED = os.environ.get("UNET_NAS_SEED", "0")
CHUNKS, CHUNK = 10, 40
#: what makes every preset small enough to run at once; those with lists need other fields
NARROW = {"features": ["features=null"]}


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


def drawn(chunk: int) -> Iterator[Case]:
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


def test_enough_of_the_draw_runs():
    assert sum(1 for chunk in range(CHUNKS) for _ in drawn(chunk)) >= 150


# --- presets ------------------------------------------------------------------------------

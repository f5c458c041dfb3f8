"""What is said about a network before it exists, against the network itself.

Thousands of architectures are drawn from the schema (``tests/support/draw.py``) and run on the
CPU, leaf by leaf. Another seed: ``UNET_NAS_SEED=7 pytest tests/unet/test_agreement.py``.
"""

import ast
import os
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from math import prod
from pathlib import Path
from random import Random

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

import unet_nas
from tests.support.draw import Case, draw_case, operators_of, verdict
from tests.support.running import Expected, expected, random_input, run
from unet_nas import errors
from unet_nas.operators.block import Block, SqueezeExcitation
from unet_nas.operators.downsample import Downsample
from unet_nas.operators.fusion import Alignment, Fusion
from unet_nas.operators.head import Head, Stem
from unet_nas.operators.unit import Activation, Dropout, Norm, members
from unet_nas.operators.upsample import Upsample
from unet_nas.unet.build import UNet, build
from unet_nas.unet.check import check
from unet_nas.unet.shapes import shapes

SEED = os.environ.get("UNET_NAS_SEED", "0")
CASES, CHUNK = 2_000, 50
SIZE_REASONS = ("mismatch", "too_small", "pad_too_large", "not_divisible", "single_value")
UNIONS = (Block, Downsample, Upsample, Fusion, Alignment, Head, Norm, Activation, Dropout)
OPERATORS = [operator for union in UNIONS for operator in members(union)]
OPERATORS += [Stem, SqueezeExcitation]


def case(index: int) -> Case:
    return draw_case(Random(f"{SEED}-{index}"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- the static side agrees with the module -----------------------------------------------


@pytest.mark.parametrize("start", range(0, CASES, CHUNK))
def test_every_verdict_shape_and_count_is_that_of_the_module(start):
    missed = list(filter(None, map(miss, range(start, start + CHUNK))))
    assert not missed, f"{len(missed)} of {CHUNK} cases miss:\n" + "\n".join(missed)


def miss(index: int) -> str:
    """Returns how the two sides differ on a drawn case; nothing where they agree."""
    drawn = case(index)
    torch.manual_seed(index)
    try:
        if drawn.graph is not None:
            agree(drawn)
    except AssertionError as error:
        text = yaml.safe_dump(drawn.tree, sort_keys=False)
        return f"case {SEED}-{index}, patch size {drawn.size}: {error}\n{text}"
    return ""


def agree(drawn: Case) -> None:
    """Asserts that nothing known of a drawn network differs from the network."""
    module = build(drawn.architecture)
    agree_on_counts(drawn, module)
    for training in (True, False):
        for batch in (1, 2):
            said = expected(drawn.graph, drawn.size, batch, training)
            agree_on_run(drawn, module.train(training), batch, said)
    agree_on_check(drawn)


def agree_on_counts(drawn: Case, module: UNet) -> None:
    for node in drawn.graph.nodes[1:]:
        leaf = module.get_submodule(node.name)
        assert sum(p.numel() for p in leaf.parameters()) == node.primitive.parameters(), node
        assert sum(b.numel() for b in leaf.buffers()) == node.primitive.buffers(), node
    assert sum(p.numel() for p in module.parameters()) == drawn.graph.parameters()
    assert sum(b.numel() for b in module.buffers()) == sum(
        node.primitive.buffers() for node in drawn.graph.nodes
    )


def agree_on_run(drawn: Case, module: UNet, batch: int, said: Expected) -> None:
    x = random_input(drawn.graph, drawn.size, batch)
    counting = batch == 2 and not module.training and said.failed is None
    with torch.no_grad(), FlopCounterMode(display=False) if counting else torch.no_grad() as flops:
        ran = run(module, x)
    place = f"batch {batch}, {'train' if module.training else 'eval'}"
    assert ran.failed == said.failed, f"{place}: stopped at {ran.failed} ({ran.error})"
    assert ran.shapes == said.shapes, place
    if said.failed is None:
        outputs = ran.output if isinstance(ran.output, list) else [ran.output]
        names = [drawn.graph.nodes[index].name for index in drawn.graph.outputs]
        assert [tuple(y.shape) for y in outputs] == [said.shapes[name] for name in names]
        assert outputs[0].shape[1] == drawn.architecture.classes
    if counting:
        agree_on_macs(drawn, flops.get_flop_counts(), batch)


def agree_on_macs(drawn: Case, counted: dict, batch: int) -> None:
    sizes = shapes(drawn.graph, drawn.size)
    for node, size in zip(drawn.graph.nodes[1:], sizes[1:], strict=True):
        before = prod(sizes[node.inputs[0]])
        macs = node.primitive.macs(before, prod(size))
        assert sum(counted.get(f"UNet.{node.name}", {}).values()) == 2 * batch * macs, node
        assert node.primitive.is_conv == (macs > 0), node


def agree_on_check(drawn: Case) -> None:
    training = drawn.mode == "train"
    said = expected(drawn.graph, drawn.size, drawn.batch, training)
    found = check(drawn.architecture, drawn.size, batch_size=drawn.batch, mode=drawn.mode)
    assert found.valid == (said.failed is None)
    assert found.parameters == drawn.graph.parameters()
    if said.failed is None:
        output = drawn.graph.nodes[drawn.graph.outputs[0]].name
        assert found.output_size == said.shapes[output][2:]
    else:
        assert found.problems[0].name == said.failed


# --- the draw is worth its name ------------------------------------------------------------


@cache
def drawn_cases() -> tuple[Case, ...]:
    return tuple(case(index) for index in range(CASES))


def problems_of(drawn: Case) -> set[str]:
    found = check(drawn.architecture, drawn.size, batch_size=drawn.batch, mode=drawn.mode)
    return {problem.reason for problem in found.problems}


def test_between_30_and_70_percent_are_invalid_for_every_reason():
    reasons = Counter()
    invalid = 0
    for drawn in drawn_cases():
        found = {"fault"} if drawn.graph is None else problems_of(drawn)
        invalid += bool(found)
        reasons.update(found)
    assert 0.3 * CASES <= invalid <= 0.7 * CASES
    assert {reason: n for reason, n in reasons.items() if n < 20} == {}
    assert set(reasons) == {"fault", *SIZE_REASONS}


def test_every_operator_is_lowered_in_every_dimension_often():
    seen = Counter(
        (operator, drawn.graph.dims)
        for drawn in drawn_cases()
        if drawn.graph is not None
        for operator in operators_of(drawn.architecture)
    )
    rare = {
        f"{operator.__name__} in {dims}D": seen[operator, dims]
        for operator in OPERATORS
        for dims in (1, 2, 3)
        if seen[operator, dims] < 30
    }
    assert rare == {}


def test_every_rule_between_fields_is_broken_often(monkeypatch):
    hits = Counter()
    original = errors.Fault.__init__

    def recording(self, *arguments, **options):
        original(self, *arguments, **options)
        hits.update([_site(sys._getframe(1))])

    monkeypatch.setattr(errors.Fault, "__init__", recording)
    for drawn in drawn_cases():
        if drawn.graph is None:
            before = hits.copy()
            verdict(drawn.tree)
            for site in hits:  # once a case
                hits[site] = before[site] + min(1, hits[site] - before[site])
    assert {site: hits[site] for site in fault_sites() if hits[site] < 20} == {}


def _site(frame) -> str | None:
    """Names the call of ``fault`` (or ``Fault``) from which a fault came."""
    while frame.f_code.co_name == "fault":
        frame = frame.f_back
    path, line = Path(frame.f_code.co_filename), frame.f_lineno
    return next((name for name, place in fault_sites().items() if _inside(path, line, place)), None)


def _inside(path: Path, line: int, place: tuple[Path, int, int]) -> bool:
    return path == place[0] and place[1] <= line <= place[2]


@cache
def fault_sites() -> dict[str, tuple[Path, int, int]]:
    """Returns every place in the source that records a broken rule between fields."""
    root = Path(unet_nas.__file__).parent
    sources = [*(root / "operators").glob("*.py"), root / "unet/architecture.py"]
    return {
        f"{path.name}:{call.lineno}": (path, call.lineno, call.end_lineno)
        for path in [*sources, root / "unet/graph.py"]
        for call in _fault_calls(ast.parse(path.read_text("utf-8")))
    }


def _fault_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yields the calls of ``builder.fault`` and ``Fault``, but not that in ``fault`` itself."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "fault":
            continue
        name = getattr(getattr(node, "func", None), "attr", None)
        if name == "fault" or getattr(getattr(node, "func", None), "id", None) == "Fault":
            yield node
        yield from _fault_calls(node)

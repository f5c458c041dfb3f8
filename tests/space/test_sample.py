"""Sampling: every leaf once, names with one domain each, evenly drawn."""

import itertools
import json
import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_nas.space.domains import Choice, FloatRange, compile_tree, count
from unet_nas.space.sample import RankPicker, assign, draw, enumerate_assignments, sample

SCALARS = st.sampled_from([1, 2, 3, 1.0, "a", "b", True, False, None])


def mappings(values):
    return st.dictionaries(st.sampled_from(["k", "l", "type", "a.b"]), values, max_size=2)


def domains(values):
    choices = st.lists(values, min_size=1, max_size=3, unique_by=json.dumps)
    ranges = st.tuples(st.integers(-2, 2), st.integers(0, 3), st.integers(1, 2))
    return st.one_of(
        choices.map(lambda branches: {"choice": branches}),
        ranges.map(lambda r: {"int": [r[0], r[0] + r[1], r[2]]}),
    )


def inner(values):
    lists = st.lists(values, min_size=1, max_size=2)
    return st.one_of(mappings(values), lists, domains(values))


TREES = st.recursive(SCALARS, inner, max_leaves=6)
STAGED = domains(TREES).map(lambda domain: {**domain, "per_stage": True})
ARCHITECTURES = st.fixed_dictionaries(
    {},
    optional={
        "depth": st.sampled_from([1, 2, {"int": [1, 3]}, {"choice": [2, {"int": [3, 4]}]}]),
        "kernel_size": TREES | STAGED,
        "down": TREES | STAGED,
        "encoder": st.fixed_dictionaries({"convs": STAGED}),
        "width": TREES,
    },
)
DOCUMENTS = st.fixed_dictionaries({"architecture": ARCHITECTURES}, optional={"train": TREES})


# --- an independent reading of the language: all trees that a document stands for ----------


def expand(value, at=(), depth=None):
    """Yields every concrete tree, one by one."""
    if isinstance(value, dict) and value.keys() & {"choice", "int"}:
        yield from expand_domain(value, at, depth)
    elif at == ("architecture",) and isinstance(value, dict):
        for number in expand(value.get("depth", 4)):
            rest = {k: v for k, v in value.items() if k != "depth"}
            chosen = {"depth": number} if "depth" in value else {}
            for filled in expand_entries(rest, at, number):
                yield {**chosen, **filled}
    elif isinstance(value, dict):
        yield from expand_entries(value, at, depth)
    elif isinstance(value, list):
        yield from map(list, itertools.product(*(list(expand(v, (*at, 0), depth)) for v in value)))
    else:
        yield value


def expand_entries(mapping, at, depth):
    values = (list(expand(value, (*at, key), depth)) for key, value in mapping.items())
    for filled in itertools.product(*values):
        yield dict(zip(mapping, filled, strict=True))


def expand_domain(value, at, depth):
    if value.get("per_stage"):
        entries = depth if at[-1] == "down" or "encoder" in at else depth + 1
        one = {key: child for key, child in value.items() if key != "per_stage"}
        alternatives = list(expand(one, (*at, 0), depth))
        yield from map(list, itertools.product(alternatives, repeat=entries))
    elif "choice" in value:
        for branch in value["choice"]:
            yield from expand(branch, at, depth)
    else:
        low, high, *step = value["int"]
        yield from range(low, high + 1, *step)


def written(tree):
    return json.dumps(tree, sort_keys=True)


@settings(deadline=None, max_examples=150)
@given(DOCUMENTS)
def test_count_and_enumeration_equal_brute_force(document):
    tree, faults = compile_tree(document)
    assert not faults
    number = count(tree)
    if number > 3_000:
        return
    brute = [dict(zip(document, t, strict=True)) for t in expand_all(document)]
    assert number == len(brute)
    found = list(enumerate_assignments(tree))
    assert Counter(written(a.tree) for a in found) == Counter(map(written, brute))
    assert len({written(sorted(a.values.items(), key=str)) for a in found}) == number


def expand_all(document):
    return itertools.product(*(list(expand(v, (k,))) for k, v in document.items()))


@settings(deadline=None, max_examples=150)
@given(DOCUMENTS, st.integers(0, 2**32))
def test_one_name_has_one_domain(document, seed):
    tree, _ = compile_tree(document)
    domains, rng = {}, Random(seed)
    for _ in range(10):
        for name, domain in draw(tree, rng).domains.items():
            seen = domains.setdefault(name, domain)
            if isinstance(domain, Choice):
                assert seen.labels == domain.labels
            assert seen == domain


@settings(deadline=None)
@given(DOCUMENTS, st.integers(0, 2**32))
def test_recorded_values_give_the_same_tree(document, seed):
    tree, _ = compile_tree(document)
    drawn = draw(tree, Random(seed))
    assert sample(tree, lambda name, domain: drawn.values[name]) == drawn.tree


def test_holes_are_asked_for_only_when_reached():
    down = {
        "choice": [
            {"type": "max_pool", "kernel_size": {"choice": [2, 3]}},
            {"type": "strided_conv", "kernel_size": {"int": [2, 5]}},
        ],
        "per_stage": True,
    }
    kernel = {"choice": [3, {"choice": [3, 5], "per_stage": True}]}
    tree, _ = compile_tree({"architecture": {"depth": 2, "down": down, "kernel_size": kernel}})
    last = assign(tree, lambda n, d: d.labels[-1] if isinstance(d, Choice) else d.low)
    assert list(last.values.items()) == [
        ("architecture.down[0]", "strided_conv"),
        ("architecture.down[0][strided_conv].kernel_size", 2),
        ("architecture.down[1]", "strided_conv"),
        ("architecture.down[1][strided_conv].kernel_size", 2),
        ("architecture.kernel_size", "#2"),
        ("architecture.kernel_size[#2][0]", 5),
        ("architecture.kernel_size[#2][1]", 5),
        ("architecture.kernel_size[#2][2]", 5),
    ]
    first = assign(tree, lambda n, d: d.labels[0] if isinstance(d, Choice) else d.low)
    assert "architecture.down[0][max_pool].kernel_size" in first.values
    assert "architecture.kernel_size[#2][0]" not in first.values


def test_stages_below_the_drawn_depth_are_not_asked_for():
    stages = {"choice": [3, 5], "per_stage": True}
    tree, _ = compile_tree({"architecture": {"kernel_size": stages, "depth": {"int": [1, 3]}}})
    for depth in (1, 2, 3):
        picked = assign(
            tree, lambda n, d, depth=depth: depth if n.endswith("depth") else d.labels[0]
        )
        assert list(picked.tree["architecture"]) == ["kernel_size", "depth"]
        assert len(picked.tree["architecture"]["kernel_size"]) == depth + 1
        assert len(picked.values) == 1 + depth + 1


def test_draws_are_even_over_the_leaves():
    down = {"choice": ["a", {"type": "b", "k": {"int": [1, 3]}}]}
    stages = {"choice": [3, 5], "per_stage": True}
    document = {"depth": {"choice": [1, {"int": [2, 3]}]}, "down": down, "up": stages}
    tree, _ = compile_tree({"architecture": document})
    number = count(tree)
    assert number == 4 * (2 + 4 + 8)
    rng, each = Random(1), 200
    found = Counter(written(draw(tree, rng).tree) for _ in range(each * number))
    assert len(found) == number
    chi2 = sum((n - each) ** 2 / each for n in found.values())
    # mean number - 1, standard deviation sqrt(2 (number - 1))
    assert abs(chi2 - (number - 1)) < 4 * math.sqrt(2 * number)


def test_the_same_seed_draws_the_same():
    tree, _ = compile_tree({"architecture": {"growth": {"float": [1, 2]}, "width": {"int": [1, 99]}}})
    one, other = Random(7), Random(7)
    assert [draw(tree, one).tree for _ in range(9)] == [draw(tree, other).tree for _ in range(9)]


def test_floats_stay_in_range_and_follow_log():
    tree, _ = compile_tree({"architecture": {"growth": {"float": [1e-4, 1], "log": True}}})
    rng = Random(0)
    drawn = [draw(tree, rng).tree["architecture"]["growth"] for _ in range(2_000)]
    assert all(1e-4 <= value <= 1 for value in drawn)
    assert sum(value < 1e-2 for value in drawn) == pytest.approx(1_000, abs=100)
    assert draw(compile_tree({"a": {"float": [2, 2]}})[0], rng).tree == {"a": 2.0}


def test_a_pick_outside_the_domain_is_refused():
    tree, _ = compile_tree({"architecture": {"width": {"choice": [8, 16]}, "convs": {"int": [1, 2]}}})
    with pytest.raises(ValueError, match=r"architecture.width: 9 is none of \(8, 16\)"):
        sample(tree, lambda name, domain: 9)
    with pytest.raises(ValueError, match="architecture.convs: 8 is not in 1 to 2"):
        sample(tree, lambda name, domain: 8)


def test_ranks_of_huge_spaces():
    tree, _ = compile_tree({"architecture": {f"f{i}": {"int": [1, 10**9]} for i in range(20)}})
    assert count(tree) == 10**180
    last = assign(tree, RankPicker(10**180 - 1, None)).tree["architecture"]
    assert set(last.values()) == {10**9}


def test_floats_are_domains_of_their_own():
    tree, _ = compile_tree({"train": {"rate": {"float": [0.1, 0.2]}}})
    assert isinstance(assign(tree, lambda n, d: d.low).domains["train.rate"], FloatRange)

"""Dominance, knee and hypervolume against their definitions."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_nas.records.pareto import as_losses, front, hypervolume, hypervolume_trace, knee


def points(dims: int, most: int = 8):
    row = st.lists(st.integers(0, 6).map(float), min_size=dims, max_size=dims)
    return st.lists(row, min_size=1, max_size=most).map(np.array)


def dominates(a, b) -> bool:
    return bool(np.all(a <= b) and np.any(a < b))


def inclusion_exclusion(losses, corner) -> float:
    """The volume of a union of boxes, by adding and subtracting all intersections."""
    boxes = [p for p in losses if np.all(p < corner)]
    total = 0.0
    for count in range(1, len(boxes) + 1):
        for chosen in combinations(boxes, count):
            total += (-1) ** (count + 1) * float(np.prod(corner - np.max(chosen, axis=0)))
    return total


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_front_is_what_nothing_dominates(dims):
    @given(points(dims, 20))
    def check(losses):
        expected = [not any(dominates(other, p) for other in losses) for p in losses]
        assert front(losses).tolist() == expected

    check()


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_hypervolume_is_the_volume_of_the_union(dims):
    @given(points(dims))
    def check(losses):
        corner = np.full(dims, 5.0)
        assert hypervolume(losses, corner) == pytest.approx(inclusion_exclusion(losses, corner))

    check()


@given(points(3, 12))
def test_trace_ends_at_the_hypervolume_and_never_falls(losses):
    trace = hypervolume_trace(losses, (5, 5, 5))
    assert trace[-1] == pytest.approx(hypervolume(losses, (5, 5, 5)))
    assert np.all(np.diff(trace) >= 0)


def test_hypervolume_of_a_known_staircase():
    # of three unit steps under (3, 3): 1 x 3 + 1 x 2 + ... = 1 + 2 + 3
    losses = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])
    assert hypervolume(losses, (3, 3)) == 6.0


def test_hypervolume_of_optuna_agrees_in_two_and_three_objectives():
    # optuna's is private; it is only a second opinion
    compute = pytest.importorskip("optuna._hypervolume").compute_hypervolume
    rng = np.random.default_rng(0)
    for dims in (2, 3):
        losses = rng.random((60, dims))
        corner = np.full(dims, 1.1)
        assert hypervolume(losses, corner) == pytest.approx(compute(losses, corner))


def test_what_lies_beyond_the_reference_point_adds_nothing():
    inside, beyond = [1.0, 1.0], [0.0, 9.0]
    assert hypervolume(np.array([inside, beyond]), (3, 3)) == hypervolume(
        np.array([inside]), (3, 3)
    )
    assert hypervolume(np.empty((0, 2)), (3, 3)) == 0.0


def test_knee_does_not_depend_on_units():
    losses = np.array([[0.0, 1.0], [0.2, 0.3], [0.5, 0.2], [1.0, 0.0]])
    assert knee(losses) == knee(losses * [1000.0, 0.001]) == 1


def test_maximised_objectives_change_their_sign():
    assert as_losses([[0.5, 3.0]], [True, False]).tolist() == [[-0.5, 3.0]]
    assert as_losses([], [True, False]).shape == (0, 2)

"""Dominance, the Pareto front, its knee, and the exact hypervolume.

All functions take *losses*: an array (networks, objectives) in which smaller is better. A network
dominates another if it is nowhere worse and somewhere better; equal ones do not dominate each
other, so both are on the front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]


def as_losses(values: Sequence[Sequence[float]], maximized: Sequence[bool]) -> Losses:
    """Returns values (networks, objectives) with the signs of maximised objectives turned.

    >>> as_losses([[0.9, 10], [0.8, 5]], [True, False]).tolist()
    [[-0.9, 10.0], [-0.8, 5.0]]
    """
    signs = np.where(maximized, -1.0, 1.0)
    return np.asarray(values, np.float64).reshape(-1, len(maximized)) * signs


def on_scale(value: float, *, cost: bool) -> float:
    """Returns an accuracy as it is, and a cost by its decimal logarithm: ratios of costs count.

    >>> on_scale(0.8, cost=False), on_scale(1e6, cost=True)
    (0.8, 6.0)
    """
    return math.log10(max(value, 1e-12)) if cost else value


def front(losses: Losses) -> NDArray[np.bool_]:
    """Tells for each network whether nothing dominates it.

    Sorted by the first objective, a network can only be dominated by those before it, and it is
    enough to ask those of them that are on the front.

    >>> front(np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [1.0, 3.0]])).tolist()
    [True, True, False, True]
    """
    on_front = np.zeros(len(losses), np.bool_)
    kept = np.empty_like(losses)
    count = 0
    for index in np.lexsort(losses.T[::-1]):
        point = losses[index]
        better = kept[:count]
        dominated = np.all(better <= point, axis=1) & np.any(better < point, axis=1)
        if not dominated.any():
            on_front[index] = True
            kept[count] = point
            count += 1
    return on_front


def knee(losses: Losses) -> int:
    """Returns the network of a front that lies farthest below the plane through its extremes.

    Every objective is scaled so that the front reaches from 0 to 1; the plane is then where
    the scaled losses add up to 1, and the distance to it grows as their sum falls (Das,
    Structural Optimization 18, 1999).

    >>> knee(np.array([[0.0, 10.0], [1.0, 2.0], [10.0, 0.0]]))
    1
    """
    low, high = losses.min(axis=0), losses.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    return int(np.argmin(((losses - low) / width).sum(axis=1)))


def hypervolume(losses: Losses, reference: Sequence[float]) -> float:
    """Returns the volume that the losses dominate within the reference point, exactly.

    Two objectives are swept; with more, the space is cut into slabs at each value of the last
    objective, and a slab's base is the hypervolume of what lies below it (While et al., IEEE
    Trans. Evol. Comput. 10, 2006). Networks beyond the reference point add nothing.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), (3, 3))
    3.0
    """
    corner = np.asarray(reference, np.float64)
    inside = losses[np.all(losses < corner, axis=1)]
    return _volume(inside[front(inside)], corner) if len(inside) else 0.0


def _volume(losses: Losses, corner: Losses) -> float:
    """Returns the hypervolume of losses that all lie within ``corner``."""
    if losses.shape[1] == 1:
        return float(corner[0] - losses.min())
    if losses.shape[1] == 2:
        return _area(losses, corner)
    ordered = losses[np.argsort(losses[:, -1], kind="stable")]
    tops = np.append(ordered[1:, -1], corner[-1])
    heights = tops - ordered[:, -1]
    return sum(
        float(height) * _volume(ordered[: end + 1, :-1], corner[:-1])
        for end, height in enumerate(heights)
        if height > 0
    )


def _area(losses: Losses, corner: Losses) -> float:
    ordered = losses[np.lexsort((losses[:, 1], losses[:, 0]))]
    ceilings = np.minimum.accumulate(np.append(corner[1], ordered[:, 1]))
    return float(np.sum((corner[0] - ordered[:, 0]) * (ceilings[:-1] - ceilings[1:])))


def hypervolume_trace(losses: Losses, reference: Sequence[float]) -> NDArray[np.float64]:
    """Returns the hypervolume after each network, in the order given; NaN losses add nothing.

    >>> hypervolume_trace(np.array([[2.0, 2.0], [np.nan, 1.0], [1.0, 1.0]]), (3, 3)).tolist()
    [1.0, 1.0, 4.0]
    """
    corner = np.asarray(reference, np.float64)
    best = np.empty((0, len(corner)))
    volume, trace = 0.0, []
    for point in losses:
        inside = bool(np.all(point < corner))  # false for NaN
        if inside and not np.any(np.all(best <= point, axis=1)):
            best = np.vstack([best[~np.all(point <= best, axis=1)], point])
            volume = _volume(best, corner)
        trace.append(volume)
    return np.asarray(trace)

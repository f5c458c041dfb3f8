"""How long lowering and shapes take: ``python benchmarks/lowering_speed.py``.

Two networks of depth 5: all defaults, and one with residual blocks, group norm,
squeeze-excitation and attention gates.
"""

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from conditions import conditions, save

from unet_nas import Architecture, lower, shapes

ROUNDS = 200
DEFAULT = Architecture(depth=5)
RICH = Architecture.model_validate(
    {
        "depth": 5,
        "block": "residual",
        "norm": "group",
        "squeeze_excitation": {},
        "fusion": "attention_gate",
    }
)


def milliseconds(function: Callable[[], object], rounds: int = ROUNDS) -> dict[str, float]:
    """Returns the least and the median CPU time of a call."""
    taken = []
    for _ in range(rounds):
        start = time.process_time_ns()
        for _ in range(10):
            function()
        taken.append((time.process_time_ns() - start) / 1e7)
    return {"least_ms": round(min(taken), 3), "median_ms": round(median(taken), 3)}


def measure(architecture: Architecture) -> dict[str, Any]:
    """Measures one network."""
    graph, size = lower(architecture), (256,) * architecture.spatial_dims
    return {
        "nodes": len(graph.nodes),
        "lower": milliseconds(lambda: lower(architecture)),
        "shapes": milliseconds(lambda: shapes(graph, size)),
        "lower_and_shapes": milliseconds(lambda: shapes(lower(architecture), size)),
    }


if __name__ == "__main__":
    found = {"depth 5, all defaults": measure(DEFAULT), "depth 5, rich": measure(RICH)}
    load = {"load_average_at_the_end": round(os.getloadavg()[0], 2)}
    save("lowering_speed", {**conditions("pydantic"), **load, "networks": found})

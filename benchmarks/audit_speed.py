"""How fast one full static audit is, beside fvcore and ``FlopCounterMode``, in one run.

``python benchmarks/audit_speed.py`` writes ``results/audit_speed.json``. An audit is all that
``unet-nas audit`` computes: lowering, sizes, cost, and the memory of training and of inference.
fvcore builds the module and traces it on the CPU; ``FlopCounterMode`` builds it on the ``meta``
device and runs it there; both give parameters and MACs only, and must give the audit's. All run in
one thread and take turns. The ratios are of CPU time, the least of the runs: that is the time
without what other programs on the machine take, which wall time is not where the machine is busy.
"""

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from conditions import conditions, save
from fvcore.nn import FlopCountAnalysis
from monai.networks.nets import BasicUNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unet_nas.audit.audit import audit
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build
from unet_nas.unet.load import preset

SIZE = (256, 256)
#: audits for each run of the others
AUDITS = 20
RUNS = 5

SMALL, LARGE = Architecture(depth=2, width=8), Architecture(depth=4, width=64)
NETWORKS: dict[str, tuple[Architecture, Callable[[], nn.Module]]] = {
    "small (depth 2, width 8)": (SMALL, lambda: build(SMALL)),
    "MONAI BasicUNet 2D": (preset("monai-basicunet-2d"), lambda: BasicUNet(spatial_dims=2)),
    "2015 size (depth 4, width 64, batch norm)": (LARGE, lambda: build(LARGE)),
}


def by_fvcore(make: Callable[[], nn.Module]) -> int:
    """Returns the MACs of convolutions, the module's making included."""
    module = make().eval()
    analysis = FlopCountAnalysis(module, torch.zeros(1, 1, *SIZE))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad():
        return int(analysis.by_operator()["conv"])


def by_flop_counter(make: Callable[[], nn.Module]) -> int:
    """Returns the same by ``FlopCounterMode`` on the ``meta`` device."""
    with torch.device("meta"):
        module, inputs = make().eval(), torch.zeros(1, 1, *SIZE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(inputs)
    return counter.get_total_flops() // 2


def timed(call: Callable[[], int], expected: int) -> tuple[float, float]:
    """Returns the milliseconds of a call, CPU and wall; it must return ``expected``."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    assert found == expected, (found, expected)
    return 1000 * cpu, 1000 * wall


def measure(architecture: Architecture, make: Callable[[], nn.Module], runs: int) -> dict[str, Any]:
    """Returns the times of the three and their ratios."""
    result = audit(architecture, patch_size=SIZE)
    times: dict[str, list[tuple[float, float]]] = {"audit": [], "fvcore": [], "flop_counter": []}
    for _ in range(runs):
        times["audit"] += [
            timed(lambda: audit(architecture, patch_size=SIZE).macs, result.macs)
            for _ in range(AUDITS)
        ]
        times["fvcore"].append(timed(lambda: by_fvcore(make), result.macs))
        times["flop_counter"].append(timed(lambda: by_flop_counter(make), result.macs))
    cpu = {name: [one for one, _ in found] for name, found in times.items()}
    wall = {name: [one for _, one in found] for name, found in times.items()}
    least = {name: min(found) for name, found in cpu.items()}
    return {
        "parameters": result.parameters,
        "macs": result.macs,
        "nodes": len(result.graph.nodes),
        "cpu_ms_least": {name: round(ms, 3) for name, ms in least.items()},
        "cpu_ms_median": {name: round(median(found), 3) for name, found in cpu.items()},
        "wall_ms_least": {name: round(min(found), 3) for name, found in wall.items()},
        "fvcore_over_audit": round(least["fvcore"] / least["audit"], 1),
        "flop_counter_over_audit": round(least["flop_counter"] / least["audit"], 1),
    }


def main(runs: int = RUNS) -> dict[str, Any]:
    """Measures every network."""
    torch.set_num_threads(1)
    return {
        **conditions("torch", "fvcore", "monai", "pydantic"),
        "threads": torch.get_num_threads(),
        "load_average_at_the_end": round(os.getloadavg()[0], 2),
        "patch_size": SIZE,
        "runs": runs,
        "audits_per_run": AUDITS,
        "networks": {name: measure(*network, runs) for name, network in NETWORKS.items()},
    }


if __name__ == "__main__":
    save("audit_speed", main())

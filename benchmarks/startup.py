"""How long the static commands take as whole processes: ``python benchmarks/startup.py``.

The least of several runs is the time without what other programs on the machine take. CPU time
is that of the process and says more than wall time where the machine is busy. One run goes
before and is not counted: it leaves byte code behind, as installing a package does.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from conditions import conditions, save

RUNS = 8
FIVE_LINES = "architecture:\n  depth: 4\n  width: 32\n  in_channels: 3\n  classes: 5\n"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import unet_nas": ["-c", "import unet_nas"],
    "unet-nas --help": ["-m", "unet_nas.cli", "--help"],
    "unet-nas check": ["-m", "unet_nas.cli", "check", "FILE", "--patch-size", "256x256"],
    "unet-nas check (not valid)": ["-m", "unet_nas.cli", "check", "FILE", "--patch-size", "250x99"],
    "unet-nas show": ["-m", "unet_nas.cli", "show", "FILE", "--patch-size", "256x256"],
    "unet-nas operators": ["-m", "unet_nas.cli", "operators"],
    "unet-nas presets": ["-m", "unet_nas.cli", "presets"],
    "unet-nas diagnose": ["-m", "unet_nas.cli", "diagnose", "FILE", "--patch-size", "256x256"],
    "unet-nas audit": ["-m", "unet_nas.cli", "audit", "FILE", "--patch-size", "256x256"],
}


def measure(arguments: list[str]) -> tuple[float, float]:
    """Returns CPU and wall seconds of one process."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall


def main(runs: int = RUNS) -> dict[str, Any]:
    """Measures every command in turn, so that all meet the same disturbances."""
    file = Path(os.environ.get("TMPDIR", "/tmp")) / "startup-five-lines.yaml"
    file.write_text(FIVE_LINES, encoding="utf-8")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for run in range(runs + 1):
        for name, arguments in COMMANDS.items():
            taken = measure([str(file) if word == "FILE" else word for word in arguments])
            times[name] += [taken] if run else []
    commands = {
        name: {
            "cpu_ms_least": round(1000 * min(cpu for cpu, _ in taken)),
            "cpu_ms_median": round(1000 * median(cpu for cpu, _ in taken)),
            "wall_ms_least": round(1000 * min(wall for _, wall in taken)),
        }
        for name, taken in times.items()
    }
    return {
        **conditions("pydantic", "typer", "rich", "PyYAML"),
        "load_average_at_the_end": round(os.getloadavg()[0], 2),
        "runs": runs,
        "commands": commands,
    }


if __name__ == "__main__":
    save("startup", main())

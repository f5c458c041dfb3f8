"""Our loop beside a bare one: ``python benchmarks/loop_speed.py [FOLDER OF NUCLEI] [DEVICE]``.

Both train the same network from the same weights, on patches of the same images, with the same
loss and the same optimizer. The bare loop is what one writes by hand: a random crop of a tensor,
flips, forward, backward, step. It has no clipping, no schedule, no watch over the loss, no
checkpoint. Ours runs as `unet-nas train` runs it, with flips as the only augmentation, and once
more with the default ones. On a GPU a larger network is timed besides: for a small one the GPU
waits, and the speed is that of Python. Pairs are interleaved, and the figure is the median of the
paired ratios, so that whatever else the machine does meets both alike. Beside wall time stands the
processor time of the whole process, which other processes disturb less; it counts the thread that
makes patches as if there were no second core for it.
"""

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch
from conditions import conditions, save
from torch import Tensor
from torch.nn import functional

from unet_nas import Architecture, build
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.cases import Dataset
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.load import load_data
from unet_nas.train.loop import fit

NUCLEI = Path(__file__).parents[2] / "shared" / "data" / "nuclei"
PAIRS = 9
STEPS, WARM_UP = 30, 5


@dataclass(frozen=True)
class Setting:
    """What is trained, on which batches."""

    network: Architecture
    patch: int
    batch: int

    def __str__(self) -> str:
        network = f"depth {self.network.depth}, width {self.network.width}"
        return f"{network}, {self.batch} patches of {self.patch} x {self.patch}, float32"

    def fresh(self) -> torch.nn.Module:
        """Returns the network with its first weights."""
        torch.manual_seed(0)
        return build(self.network)


SMALL = Setting(Architecture(depth=3, width=8), 128, 4)
LARGE = Setting(Architecture(depth=4, width=64), 256, 16)


class Clock:
    """Steps per second after the first few, of wall and of processor time."""

    def __init__(self, device: str) -> None:
        self.device, self.steps = device, 0

    def tick(self) -> None:
        """Called after every step."""
        self.steps += 1
        if self.steps in {WARM_UP, STEPS}:
            if self.device == "cuda":
                torch.cuda.synchronize()
            now = (time.perf_counter(), time.process_time())
            self.begin, self.end = (now, now) if self.steps == WARM_UP else (self.begin, now)

    def speeds(self) -> tuple[float, float]:
        """Returns steps per second of wall time, and of processor time."""
        wall, cpu = (end - begin for begin, end in zip(self.begin, self.end, strict=True))
        return (STEPS - WARM_UP) / wall, (STEPS - WARM_UP) / cpu


def ours(
    data: Dataset, device: str, augment: dict[str, Any], setting: Setting
) -> tuple[float, float]:
    """Returns our steps per second."""
    config = TrainConfig.model_validate(
        {
            "patch_size": setting.patch,
            "batch_size": setting.batch,
            "steps": STEPS,
            "validations": 1,
            "precision": "fp32",
            "augment": augment,
        }
    )
    clock = Clock(device)
    where: Any = device
    fit(setting.fresh(), data, config, seed=0, device=where, on_step=lambda _: clock.tick())
    return clock.speeds()


def dice_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Dice + cross-entropy, as one writes it."""
    probabilities = logits.softmax(1)
    truth = functional.one_hot(target, logits.shape[1]).movedim(-1, 1).float()
    axes = (0, 2, 3)
    overlap, size = (probabilities * truth).sum(axes), (probabilities + truth).sum(axes)
    return (
        functional.cross_entropy(logits, target) + 1 - ((2 * overlap + 1e-5) / (size + 1e-5)).mean()
    )


def bare(data: Dataset, device: str, setting: Setting) -> tuple[float, float]:
    """Returns the steps per second of a loop without anything."""
    images = torch.from_numpy(np.stack([case.image for case in data.train]))
    targets = torch.from_numpy(np.stack([case.target for case in data.train])).long()
    size = setting.patch
    module = setting.fresh().to(device).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    draw = np.random.default_rng(0)

    def patch() -> tuple[Tensor, Tensor]:
        case = draw.integers(len(images))
        top, left = (int(draw.integers(n - size + 1)) for n in images.shape[2:])
        x = images[case, :, top : top + size, left : left + size]
        y = targets[case, top : top + size, left : left + size]
        axes = [axis for axis in (-2, -1) if draw.random() < 0.5]
        return x.flip(axes), y.flip(axes)

    clock = Clock(device)
    for _ in range(STEPS):
        xs, ys = zip(*(patch() for _ in range(setting.batch)), strict=True)
        loss = dice_cross_entropy(module(torch.stack(xs).to(device)), torch.stack(ys).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.tick()
    return clock.speeds()


def compare(
    data: Dataset, device: str, augment: dict[str, Any], setting: Setting
) -> dict[str, Any]:
    """Runs the pairs, alternating which one begins."""
    ours(data, device, augment, setting)
    bare(data, device, setting)
    pairs = []
    for index in range(PAIRS):
        if index % 2:
            without = bare(data, device, setting)
            pairs.append((ours(data, device, augment, setting), without))
        else:
            mine = ours(data, device, augment, setting)
            pairs.append((mine, bare(data, device, setting)))
    return {
        "wall": summary([(mine[0], theirs[0]) for mine, theirs in pairs]),
        "processor": summary([(mine[1], theirs[1]) for mine, theirs in pairs]),
    }


def summary(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Returns medians of speeds and of the paired ratios, ours to bare."""
    ratios = [mine / theirs for mine, theirs in pairs]
    low, _, high = quantiles(ratios, n=4)
    return {
        "ours_steps_per_s": round(median(mine for mine, _ in pairs), 3),
        "bare_steps_per_s": round(median(theirs for _, theirs in pairs), 3),
        "ratio_median": round(median(ratios), 4),
        "ratio_quartiles": [round(low, 4), round(high, 4)],
        "pairs": len(pairs),
    }


def main(folder: Path, device: str) -> None:
    data = load_data(DataConfig.model_validate({"source": str(folder)}), base=Path())
    off = dict.fromkeys(["affine", "noise", "intensity", "gamma", "blur"])
    data = replace(data, validation=data.validation[:1])  # it is scored, and not timed
    augmentations = {"flips only": {"flip": True, **off}, "default augmentation": {}}
    found = {
        str(setting): {name: compare(data, device, a, setting) for name, a in augmentations.items()}
        for setting in ((SMALL,) if device == "cpu" else (SMALL, LARGE))
    }
    where = device if device == "cpu" else torch.cuda.get_device_name()
    setting = {
        "steps_per_run": STEPS,
        "device": where,
        "threads": torch.get_num_threads(),
        "load_average_at_the_end": round(os.getloadavg()[0], 2),
    }
    name = "loop_speed" if device == "cpu" else f"loop_speed_{device}"
    save(name, {**conditions("torch", "numpy"), **setting, "loops": found})


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else NUCLEI,
        sys.argv[2] if len(sys.argv) > 2 else "cpu",
    )

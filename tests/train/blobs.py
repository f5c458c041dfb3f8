"""Small data whose truth a network can learn in seconds: bright discs, boxes or runs on noise."""

import numpy as np

from unet_nas.train.data.cases import Case, Dataset, Task


def task(dims: int = 2, channels: int = 1) -> Task:
    return Task(dims, channels, ("background", "blob"))


def case(index: int, size: tuple[int, ...], channels: int = 1) -> Case:
    draw = np.random.default_rng(index)
    centre = [draw.uniform(n / 4, 3 * n / 4) for n in size]
    radius = min(size) * draw.uniform(0.15, 0.25)
    axes = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    inside = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) <= radius**2
    image = inside + 0.5 * draw.standard_normal((channels, *size))
    return Case(
        f"case-{index}",
        f"group-{index}",
        image.astype(np.float32),
        inside.astype(np.uint8),
        (1.0,) * len(size),
    )


def dataset(size: tuple[int, ...] = (32, 32), channels: int = 1) -> Dataset:
    cases = [case(index, size, channels) for index in range(9)]
    return Dataset(task(len(size), channels), tuple(cases[:6]), tuple(cases[6:8]), (cases[8],))

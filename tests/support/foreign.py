"""A network of somebody else's: ``python:tests.support.foreign:small``."""

from torch import nn


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))

r"""unet_nas: describe, check, audit and search spaces of U-Nets.

>>> import unet_nas
>>> network = unet_nas.load_architecture("architecture:\n  depth: 4")
>>> unet_nas.check(network, (250, 256)).valid
False

The names below are loaded when they are first used, so that importing the package costs
nothing, and only ``build`` imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_nas.audit.memory import Training
    from unet_nas.errors import DocumentError, InputError, SizeError, UnetNasError
    from unet_nas.unet.architecture import Architecture
    from unet_nas.unet.build import build
    from unet_nas.unet.check import check
    from unet_nas.unet.graph import Graph, lower
    from unet_nas.unet.load import load_architecture, preset
    from unet_nas.unet.shapes import shapes

_HOMES = {
    "Architecture": "unet_nas.unet.architecture",
    "DocumentError": "unet_nas.errors",
    "Graph": "unet_nas.unet.graph",
    "InputError": "unet_nas.errors",
    "SizeError": "unet_nas.errors",
    "Training": "unet_nas.audit.memory",
    "UnetNasError": "unet_nas.errors",
    "build": "unet_nas.unet.build",
    "check": "unet_nas.unet.check",
    "load_architecture": "unet_nas.unet.load",
    "lower": "unet_nas.unet.graph",
    "preset": "unet_nas.unet.load",
    "shapes": "unet_nas.unet.shapes",
}

_CALLABLE = ("audit", "profile")

__all__ = [
    "Architecture",
    "DocumentError",
    "Graph",
    "InputError",
    "SizeError",
    "Training",
    "UnetNasError",
    "build",
    "check",
    "load_architecture",
    "lower",
    "preset",
    "shapes",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("unet-nas")
    if name in _CALLABLE:  # a layer that can be called by its name
        return import_module(f"unet_nas.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'unet_nas' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_CALLABLE})

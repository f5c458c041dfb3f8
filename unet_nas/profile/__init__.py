"""The measured profile: counts, latency and peak memory of a module that really runs.

``unet_nas.profile(...)`` is :func:`unet_nas.profile.profile.profile`: the package can be called,
so that the name of the layer and the name of what it does are one.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """This package, callable."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Measures a network; see :func:`unet_nas.profile.profile.profile`."""
        from unet_nas.profile.profile import profile

        return profile(*arguments, **options)


sys.modules[__name__].__class__ = _Callable

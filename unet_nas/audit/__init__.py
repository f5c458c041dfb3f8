"""The audit: what a network costs before training, to the last parameter, MAC and byte.

``unet_nas.audit(...)`` is :func:`unet_nas.audit.audit.audit`: the package can be called, so
that the name of the layer and the name of what it does are one.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """This package, callable."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Audits an architecture; see :func:`unet_nas.audit.audit.audit`."""
        from unet_nas.audit.audit import audit

        return audit(*arguments, **options)


sys.modules[__name__].__class__ = _Callable

"""Networks of others: ``python:package.module:factory`` names what returns an ``nn.Module``.

The factory is called without arguments. The current directory can be imported from, as in a
Python that was started there.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from unet_nas.errors import InputError
from unet_nas.profile.names import parse_foreign


def load_foreign(name: str) -> nn.Module:
    """Imports a factory, calls it, and returns the module that it makes.

    Args:
        name: ``python:package.module:factory``; the factory may be a class, and lie in one.

    Raises:
        InputError: if the module or factory does not exist, cannot be called without
            arguments, raises, or returns no ``nn.Module``.
    """
    module_name, path = parse_foreign(name)
    factory = _factory(name, _import(name, module_name), path)
    _require_no_arguments(name, factory)
    try:
        made = factory()
    except (Exception, SystemExit) as error:
        raise InputError(f"{name}: the factory raised {_described(error)}") from error
    if not isinstance(made, nn.Module):
        found = f"{type(made).__module__}.{type(made).__qualname__}".removeprefix("builtins.")
        raise InputError(f"{name}: the factory must return a torch.nn.Module, got {found}")
    return made


def _import(name: str, module_name: str) -> Any:
    """Imports a module, with the current directory first among the places to look."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # an import inside the module that fails is another matter than no such module
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            where = f"{os.getcwd()} or the installed packages"
            raise InputError(f"{name}: there is no module {error.name!r} in {where}") from error
        raise InputError(f"{name}: importing {module_name} raised {_described(error)}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{name}: importing {module_name} raised {_described(error)}") from error


def _factory(name: str, module: Any, path: str) -> Callable[[], Any]:
    found = module
    for word in path.split("."):
        if not hasattr(found, word):
            raise InputError(f"{name}: {module.__name__} has no {path!r}")
        found = getattr(found, word)
    if not callable(found):
        raise InputError(f"{name}: {path} must be callable, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _require_no_arguments(name: str, factory: Callable[[], Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some callables of C have none
        return
    try:
        signature.bind()
    except TypeError as error:
        raise InputError(
            f"{name}: the factory must be callable without arguments, but takes {signature}; "
            "write a function that fills them in"
        ) from error


def _described(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def in_channels_of(name: str, module: nn.Module) -> int:
    """Returns the input channels of the first convolution that was registered.

    Raises:
        InputError: if there is none, or it has not learned its channels yet.
    """
    first = next((m for m in module.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
    if first is None or first.in_channels < 1:
        raise InputError(
            f"{name}: the channels of the input cannot be told from the first convolution; "
            "give --in-channels"
        )
    return first.in_channels

"""Modules as a person writes them in Python: the rendering of :class:`Call` as text."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence

from unet_nas.operators import primitives as p

MAX_COLUMNS = 100

#: arguments that are given without their name, as far as they stand at the front
_POSITIONAL = (
    "in_channels",
    "out_channels",
    "num_features",
    "num_groups",
    "num_channels",
    "num_parameters",
    "output_size",
    "channels",
    "p",
)

#: PyTorch's own defaults, which need not be written; those of one module go before the others,
#: and the name of another argument stands for its value
DEFAULTS: dict[str, p.Argument] = {
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "eps": 1e-5,
    "affine": True,
    "ceil_mode": False,
    "count_include_pad": True,
    "MaxPool.stride": "kernel_size",
    "AvgPool.stride": "kernel_size",
    "InstanceNorm.affine": False,
    "LeakyReLU.negative_slope": 0.01,
    "ELU.alpha": 1.0,
    "PReLU.num_parameters": 1,
    "PReLU.init": 0.25,
}


def chain_text(calls: Sequence[p.Call], column: int) -> str:
    """Returns one module, or several in a row as ``nn.Sequential``."""
    if len(calls) == 1:
        return call_text(calls[0], column)
    inner = [textwrap.indent(call_text(call, 12) + ",", " " * 4) for call in calls]
    return "\n".join(["nn.Sequential(", *inner, ")"])


def call_text(call: p.Call, column: int) -> str:
    """Returns a module as it is written in Python; over several lines if one is too short.

    Args:
        call: the module.
        column: how many characters stand before and after it on its line.

    >>> convolution = p.Conv(1, 8, (3, 3), (1, 1), (1, 1), (1, 1), 1, False)
    >>> call_text(convolution.call(2), 8)
    'nn.Conv2d(1, 8, kernel_size=3, padding=1, bias=False)'
    """
    target = call.target.removeprefix("layers.")
    given = dict(call.arguments)
    if target.startswith("nn."):
        given = {name: _scalar(value) for name, value in call.arguments}
        given = {k: v for k, v in given.items() if not _is_default(target, k, given)}
    words, at_front = [], True
    for name, value in given.items():
        at_front = at_front and name in _POSITIONAL
        words.append(_literal(value) if at_front else f"{name}={_literal(value)}")
    text = f"{target}({', '.join(words)})"
    if len(text) + column < MAX_COLUMNS:
        return text
    return "\n".join([f"{target}(", *(f"    {word}," for word in words), ")"])


def _is_default(target: str, name: str, given: Mapping[str, p.Argument]) -> bool:
    default = default_of(target, name)
    return default is not None and given[name] == given.get(str(default), default)


def default_of(target: str, name: str) -> p.Argument:
    """Returns what PyTorch takes for an argument left out; None where it must be written.

    >>> default_of("nn.Conv2d", "stride"), default_of("nn.MaxPool2d", "stride")
    (1, 'kernel_size')
    """
    kind = re.sub(r"\dd$", "", target.removeprefix("nn."))
    return DEFAULTS.get(f"{kind}.{name}", DEFAULTS.get(name))


def _scalar(value: p.Argument) -> p.Argument:
    """Returns one number in place of equal ones per axis, and whole factors as integers."""
    if not isinstance(value, tuple):
        return value
    axes = tuple(int(n) for n in value)
    return axes[0] if len(set(axes)) == 1 else axes


def _literal(value: p.Argument) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)

"""What the principles say about a recorded network: the section of its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unet_nas.audit.diagnosis.diagnose import SOURCES, diagnose
from unet_nas.errors import UnetNasError
from unet_nas.unet.architecture import Architecture


@dataclass(frozen=True, slots=True)
class Principle:
    """One finding on a network.

    Attributes:
        severity: ``error``, ``warning`` or ``note``.
        text: The sentence, with its numbers.
        fix: What would change it; empty where nothing needs to.
        source: The paper or textbook.
    """

    severity: str
    text: str
    fix: str
    source: str


def principles_of(
    architecture: Mapping[str, Any] | None, patch_size: Sequence[int]
) -> tuple[Principle, ...]:
    """Returns the static findings on a recorded network, the most important first.

    Args:
        architecture: as a record holds it; None for networks of others.
        patch_size: that it was trained on.

    Returns:
        Nothing for networks of others, and for records that this version does not know.

    >>> found = principles_of({"depth": 1, "fusion": "none"}, (64, 64))
    >>> found[0].severity, found[0].fix
    ('warning', 'set fusion=concat there')
    """
    if architecture is None:
        return ()
    try:
        found = diagnose(Architecture.model_validate(architecture), patch_size).findings
    except (UnetNasError, ValueError):
        return ()
    return tuple(Principle(f.severity, f.text, f.fix, SOURCES[f.analysis]) for f in found)

"""Baselines: known networks, brought to the data and, if asked, to a parameter count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet_nas.errors import InputError
from unet_nas.operators.builder import Graph
from unet_nas.profile.names import is_foreign, parse_foreign
from unet_nas.search.config import Baseline
from unet_nas.space.candidate import judge
from unet_nas.space.load import conditions_of
from unet_nas.text import set_values
from unet_nas.train.data.cases import Task
from unet_nas.train.data.checks import fields_of
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.dump import to_tree
from unet_nas.unet.graph import lower_with_faults
from unet_nas.unet.load import PREFIX, open_document, preset_names, to_architecture
from unet_nas.units import format_count

__all__ = ["architecture_of", "check_baselines", "check_there", "scaled"]

WIDEST = 4096


def architecture_of(baseline: Baseline, task: Task, *, base: Path) -> Architecture | None:
    """Returns the network of a baseline for the data; None for networks of others.

    Args:
        baseline: the entry of the file.
        task: what the data ask of a network.
        base: the folder that paths are relative to.

    Raises:
        InputError: if there is no such network, or it cannot take the data.
    """
    if is_foreign(baseline.network):
        parse_foreign(baseline.network)
        return None
    document = open_document(_source(baseline.network, task.spatial_dims, base))
    numbers = fields_of(task)
    settings = [*(f"{name}={value}" for name, value in numbers.items()), *baseline.set]
    try:
        found = to_architecture(set_values(document, settings))
        return found if baseline.parameters is None else scaled(found, baseline.parameters)
    except InputError as error:
        raise InputError(f"baseline {baseline.label}: {error}") from error


def _source(network: str, dims: int, base: Path) -> str:
    """Returns the source of a baseline; a preset may leave out the number of its axes.

    ``preset:nnunet-plain`` is ``nnunet-plain-2d`` for images.
    """
    if network.startswith(PREFIX):
        name, names = network.removeprefix(PREFIX), preset_names()
        own = f"{name}-{dims}d"
        near = next((n for n in (own, f"{name}-2d") if n in names), name)
        return network if name in names else f"{PREFIX}{near}"
    return str(base / network) if (base / network).exists() else network


def scaled(architecture: Architecture, parameters: int) -> Architecture:
    """Returns the widest version of a network that has at most so many parameters.

    The number of parameters grows with the width, so bisection finds it. A list of features
    is scaled as a whole. Widths that break a rule between fields are left out.

    Raises:
        InputError: if no width is small enough.

    >>> found = scaled(Architecture(depth=2), 100_000)
    >>> found.width, scaled(found, 100_000) == found
    (14, True)
    """
    low, high = 0, WIDEST
    while high - low > 1:
        middle = (low + high) // 2
        size = _parameters(architecture, middle)
        low, high = (middle, high) if size is not None and size <= parameters else (low, middle)
        if size is None:  # a width that breaks a rule says nothing of its neighbours
            return _scanned(architecture, parameters)
    if low == 0:
        return _refuse(architecture, parameters)
    return _with_width(architecture, low)


def _scanned(architecture: Architecture, parameters: int) -> Architecture:
    """Returns the same where some widths break a rule: by trying them in turn."""
    best, misses = 0, 0
    for width in range(1, WIDEST):
        size = _parameters(architecture, width)
        if size is None:
            continue
        misses = misses + 1 if size > parameters else 0
        if misses == 3:
            break
        best = width if size <= parameters else best
    return _with_width(architecture, best) if best else _refuse(architecture, parameters)


def _refuse(architecture: Architecture, parameters: int) -> Architecture:
    least = next(filter(None, (_parameters(architecture, width) for width in range(1, 65))), 0)
    raise InputError(
        f"no width gives at most {format_count(parameters)} parameters; the narrowest has "
        f"{format_count(least)}: set a smaller depth"
    )


def _with_width(architecture: Architecture, width: int) -> Architecture:
    if architecture.features is None:
        return _changed(architecture, {"width": width})
    first = architecture.features[0]
    features = tuple(max(1, round(f * width / first)) for f in architecture.features)
    return _changed(architecture, {"features": features})


def _changed(architecture: Architecture, values: dict[str, Any]) -> Architecture:
    changed = architecture.model_copy(update=values)
    changed.model_fields_set.update(values)
    return changed


def _parameters(architecture: Architecture, width: int) -> int | None:
    graph, faults = lower_with_faults(_with_width(architecture, width))
    return None if faults or not isinstance(graph, Graph) else graph.parameters()


def _require_foreign(baseline: Baseline) -> None:
    from unet_nas.profile.foreign import load_foreign  # noqa: PLC0415 - it costs the import of torch

    try:
        load_foreign(baseline.network)
    except InputError as error:
        raise InputError(f"baseline {error}") from error


def check_there(networks: Sequence[str], *, base: Path) -> None:
    """Refuses presets and files that do not exist, before the data are loaded.

    Args:
        networks: as a file names them; those of others are looked at later.
        base: the folder that paths are relative to.

    Raises:
        InputError: if one does not.
    """
    presets = {f"{PREFIX}{name}" for name in preset_names()}
    for network in networks:
        # how many axes there are, the data will tell
        sources = [_source(network, dims, base) for dims in (1, 2, 3)]
        if not is_foreign(network) and presets.isdisjoint(sources):
            open_document(sources[0])


def check_baselines(
    baselines: tuple[Baseline, ...], task: Task, train: dict[str, Any], *, base: Path
) -> None:
    """Refuses baselines that cannot be trained, before anything is.

    Args:
        baselines: the entries of the file.
        task: what the data ask of a network.
        train: a section ``train`` without holes.
        base: the folder that paths are relative to.

    Raises:
        InputError: if one does not exist, is no network, or does not run on the patch size.
    """
    for baseline in baselines:
        found = architecture_of(baseline, task, base=base)
        if found is None:
            _require_foreign(baseline)
            continue
        candidate = judge({"architecture": to_tree(found), "train": train}, {})
        if candidate.aligned:
            continue
        reason = min(candidate.reasons).text
        size = conditions_of({"train": train}).size_text
        raise InputError(
            f"baseline {baseline.label} does not run on patches of {size}: {reason}; give "
            f"{_way_out(baseline, found, task, train, base)}"
        )


def _way_out(
    baseline: Baseline, network: Architecture, task: Task, train: dict[str, Any], base: Path
) -> str:
    """Returns settings with which a baseline runs, the mildest first, and each was tried."""
    paddings = ((), ("padding=same",))
    for depth in range(network.depth, 0, -1):
        outputs = min(network.deep_supervision, depth - 1)
        shallower = [f"depth={depth}"] * (depth < network.depth)
        if outputs < network.deep_supervision:
            shallower.append(f"deep_supervision={outputs}")
        for padding in paddings:
            settings = (*padding, *shallower)
            entry = baseline.model_copy(update={"set": (*baseline.set, *settings)})
            if settings and _runs(entry, task, train, base):
                return f"it set: [{', '.join(settings)}], or another train.patch_size"
    return "another train.patch_size"


def _runs(baseline: Baseline, task: Task, train: dict[str, Any], base: Path) -> bool:
    try:
        found = architecture_of(baseline, task, base=base)
    except InputError:
        return False
    assert found is not None, "a baseline of somebody else's has no settings"
    return judge({"architecture": to_tree(found), "train": train}, {}).aligned

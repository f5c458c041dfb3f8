"""A network in a folder of its own: the architecture, a Python file, and its weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from unet_nas.errors import InputError
from unet_nas.files import write_files
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.dump import to_yaml
from unet_nas.unet.graph import Graph, lower
from unet_nas.unet.outline import by
from unet_nas.unet.source import export_source, renamed

WEIGHTS = "weights.safetensors"


def export(
    architecture: Architecture,
    folder: str | os.PathLike[str],
    *,
    name: str = "unet",
    patch_size: Sequence[int] | None = None,
    weights: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> list[Path]:
    """Writes ``architecture.yaml``, ``model.py`` and, where given, ``weights.safetensors``.

    Args:
        architecture: the network.
        folder: where to; it is made if it is not there.
        name: what the files call the network.
        patch_size: the size that ``model.py`` states MACs for and runs as an example.
        weights: a safetensors file with the state of ``build(architecture)``; it is written
            under the names of ``model.py``.
        force: replace files that are there.

    Returns:
        The files written.

    Raises:
        InputError: if a file is there already, or the weights are not those of this network.
        SizeError: if the network does not run on the patch size.
    """
    graph = lower(architecture)
    files = {
        "architecture.yaml": to_yaml(architecture, name).encode(),
        "model.py": export_source(graph, name, patch_size).encode(),
    }
    if weights is not None:
        files[WEIGHTS] = _converted(graph, Path(weights))
    else:
        _refuse_stale_weights(Path(folder))
    return write_files(Path(folder), files, force=force)


def _converted(graph: Graph, path: Path) -> bytes:
    """Returns a safetensors file of our names as one of the names of ``model.py``."""
    # torch takes a second to import, and an export without weights needs none of it
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file, save  # noqa: PLC0415

    from unet_nas.unet.build import build  # noqa: PLC0415

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the weights {path}: {error}") from error
    theirs = renamed(graph, weights)
    for name, tensor in build(graph).state_dict().items():
        if weights[name].shape != tensor.shape:
            need, got = by(tensor.shape), by(weights[name].shape)
            raise InputError(
                f"the weights {path} are not of this network: {name} is {got}, and must be {need}"
            )
    return save(theirs, metadata={"format": "pt", "digest": graph.digest()})


def _refuse_stale_weights(folder: Path) -> None:
    """Refuses to write a network beside weights that may be of another."""
    if (folder / WEIGHTS).exists():
        raise InputError(
            f"{folder / WEIGHTS} is there, and may be of another network; delete it, or give "
            "the weights of this one"
        )

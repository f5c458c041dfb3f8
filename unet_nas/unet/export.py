"""A network in a folder of its own: the architecture, a Python file, and its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unet_nas.errors import InputError
from unet_nas.files import write_files
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.dump import to_yaml
from unet_nas.unet.graph import Graph, lower
from unet_nas.unet.outline import by
from unet_nas.unet.source import example_size, export_source, renamed

if TYPE_CHECKING:
    from torch import Tensor

    from unet_nas.unet.onnx_check import Agreement

WEIGHTS = "weights.safetensors"
ONNX = "model.onnx"


def export(
    architecture: Architecture,
    folder: str | os.PathLike[str],
    *,
    name: str = "unet",
    patch_size: Sequence[int] | None = None,
    weights: str | os.PathLike[str] | None = None,
    beside: Mapping[str, bytes] | None = None,
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
        beside: other files that belong to the network, by name.
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
    files.update(beside or {})
    _refuse_stale(Path(folder), files)
    return write_files(Path(folder), files, force=force)


def export_onnx(
    architecture: Architecture,
    weights: str | os.PathLike[str],
    *,
    name: str = "unet",
    patch_size: Sequence[int] | None = None,
) -> tuple[bytes, tuple[Agreement, Agreement]]:
    """Returns an ONNX file, and how far it is from PyTorch at two sizes.

    Args:
        architecture: the network.
        weights: a safetensors file with the state of ``build(architecture)``.
        name: what the file calls the network.
        patch_size: the first of the two sizes.

    Raises:
        InputError: if the weights are not those of this network, or what writes and runs ONNX
            is not installed.
        UnetNasError: if the two differ by more than the tolerance.
    """
    graph = lower(architecture)
    state = {key: tensor.numpy() for key, tensor in _state(graph, Path(weights)).items()}
    try:
        from unet_nas.unet.onnx import to_onnx  # noqa: PLC0415 - of an extra
        from unet_nas.unet.onnx_check import check_onnx  # noqa: PLC0415 - of an extra
    except ModuleNotFoundError as error:
        need = f"an ONNX file needs the package {error.name}"
        raise InputError(f"{need}; pip install 'unet-nas[onnx]'") from error
    model = to_onnx(graph, state, name=name)
    return model, check_onnx(model, graph, state, patch_size or example_size(graph))


def _state(graph: Graph, path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file, which must be those of the network."""
    # torch takes a second to import, and an export without weights needs none of it
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    from unet_nas.unet.build import build  # noqa: PLC0415

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the weights {path}: {error}") from error
    renamed(graph, weights)  # refuses names that are not the network's
    for name, tensor in build(graph).state_dict().items():
        if weights[name].shape != tensor.shape:
            need, got = by(tensor.shape), by(weights[name].shape)
            raise InputError(
                f"the weights {path} are not of this network: {name} is {got}, and must be {need}"
            )
    return weights


def _converted(graph: Graph, path: Path) -> bytes:
    """Returns a safetensors file of our names as one of the names of ``model.py``."""
    from safetensors.torch import save  # noqa: PLC0415 - torch takes a second to import

    theirs = renamed(graph, _state(graph, path))
    return save(theirs, metadata={"format": "pt", "digest": graph.digest()})


def _refuse_stale(folder: Path, files: Mapping[str, bytes]) -> None:
    """Refuses to write a network beside weights that may be of another."""
    for name, option in ((WEIGHTS, "--weights FILE"), (ONNX, "--onnx")):
        if name not in files and (folder / name).exists():
            raise InputError(
                f"{folder / name} is there, and may be of another network; delete it, or replace "
                f"it too: {option} --force"
            )

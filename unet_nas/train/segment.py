"""A folder of images through a network, to files of the same kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unet_nas.audit.memory import Device, Precision
from unet_nas.errors import InputError
from unet_nas.records.lookup import find_trial, names_trial, run_above
from unet_nas.records.study import HEADER, RECORD, RunHeader, TrialRecord
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.predict import list_images, read_images, write_prediction
from unet_nas.train.data.preprocessing import Preprocessing
from unet_nas.train.infer import Predictor, evaluating
from unet_nas.train.metrics import probabilities
from unet_nas.train.product import ARCHITECTURE, TRAINING, WEIGHTS, load_weights, read_trained
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import UNet, build
from unet_nas.unet.load import load_architecture

__all__ = ["Segmenter", "load_segmenter", "segment"]


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A trained network with all that prediction needs.

    Attributes:
        module: With its weights.
        preprocessing: What is done to an image.
        patch_size: Of tiles.
        precision: Of training.
        notes: What had to be assumed.
    """

    module: UNet
    preprocessing: Preprocessing
    patch_size: tuple[int, ...]
    precision: Precision = "fp32"
    notes: tuple[str, ...] = ()


def load_segmenter(source: str, *, weights: str | None = None) -> Segmenter:
    """Returns the network of a training's or trial's folder, or of a file with weights.

    Args:
        source: A folder that `unet-nas train` or a search wrote, ``RUN#TRIAL``, an architecture
            file, or ``preset:NAME``.
        weights: A safetensors file, where ``source`` is no folder.

    Raises:
        InputError: if something is missing or does not fit.
    """
    folder = _folder_of(source)
    if weights is not None:
        architecture = load_architecture(source)
        note = "the images are normalised one by one, for nothing says how training did it"
        return Segmenter(
            _loaded(architecture, Path(weights)),
            _assumed(architecture),
            _patch_size(architecture),
            notes=(note,),
        )
    if not folder.is_dir():
        raise InputError(
            f"{source} is no folder of a training; an architecture needs --weights FILE"
        )
    size, preparation, precision = _of_folder(folder)
    module = _loaded(load_architecture(folder / ARCHITECTURE), folder / WEIGHTS)
    if preparation is None:
        raise InputError(
            f"{folder} does not say how its images were prepared, as is so with data made in "
            "Python; predict with unet_nas.train.infer.predict"
        )
    return Segmenter(module, Preprocessing.from_json(preparation), size, precision)


def _folder_of(source: str) -> Path:
    """Returns the folder of ``RUN#TRIAL``, or what is named itself."""
    if not names_trial(source):
        return Path(source)
    run, record = find_trial(source)
    return run.files_of(record)


def _of_folder(folder: Path) -> tuple[tuple[int, ...], dict[str, Any] | None, Precision]:
    """Returns patch size, preprocessing and precision of a training's or trial's folder."""
    if (folder / TRAINING).exists() or not (folder / RECORD).exists():
        trained = read_trained(folder)
        return trained.patch_size, trained.preprocessing, trained.precision  # type: ignore[return-value]
    record = TrialRecord.from_json((folder / RECORD).read_bytes())
    run = run_above(folder)
    if run is None or record.weights is None:
        why = f"; it failed: {record.failure.reason}" if record.failure else ""
        what = WEIGHTS if run else f"a {HEADER} above it"
        raise InputError(f"{folder} is no trial that can predict: it lacks {what}{why}")
    header = RunHeader.from_json((run / HEADER).read_bytes())
    config = TrainConfig.model_validate(record.train)
    size = config.size(header.spatial_dims) or header.patch_size
    device: Device = "cuda" if record.device.startswith("cuda") else "cpu"
    return size, header.data.get("preprocessing"), config.training(device).precision


def _loaded(architecture: Architecture, path: Path) -> UNet:
    module = build(architecture)
    load_weights(module, path)
    return module.eval()


def _assumed(architecture: Architecture) -> Preprocessing:
    names = ("background", *(f"class {i}" for i in range(1, architecture.classes)))
    return Preprocessing(architecture.spatial_dims, architecture.in_channels, names)


def _patch_size(architecture: Architecture) -> tuple[int, ...]:
    """Returns a valid size of tiles where nothing says which one training had."""
    from unet_nas.unet.graph import lower  # noqa: PLC0415 - beside what else needs a graph
    from unet_nas.unet.shapes import AxisSizes  # noqa: PLC0415

    wanted = {1: 2048, 2: 256, 3: 64}[architecture.spatial_dims]
    graph, found = lower(architecture), []
    for axis in range(graph.dims):
        sizes = AxisSizes(graph, axis)
        size = wanted if sizes.valid(wanted) else sizes.nearest(wanted)[1]
        if size is None:
            raise InputError(f"this network takes no size of {wanted} or more")
        found.append(size)
    return tuple(found)


def segment(
    segmenter: Segmenter,
    images: Path,
    folder: Path,
    *,
    device: Device = "cpu",
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Segments a file or all images of a folder.

    Args:
        segmenter: The network.
        images: A file or a folder.
        folder: Where the predictions go, as files of the kind and geometry of the images.
        device: ``cpu`` or ``cuda``.
        force: Replace files that are there.
        progress: Called with the number of images done and of all.

    Returns:
        The files written.

    Raises:
        InputError: if a file is there already, or, once all others are segmented, if images
            cannot be read or do not fit.
    """
    paths = list_images(images)
    if folder.resolve() == paths[0].parent.resolve():
        raise InputError(f"predictions may not go to {folder}, where the images lie; give another")
    prepared, written, done = segmenter.preprocessing, [], 0
    faults: list[InputError] = []
    # half precision on a CPU saves nothing that a person would wait for
    precision: Precision = segmenter.precision if device == "cuda" else "fp32"
    module = segmenter.module.to(device)
    predictor = Predictor(
        module, patch_size=segmenter.patch_size, device=device, precision=precision
    )
    with evaluating(module):
        for image in read_images(paths, prepared, faults=faults):
            logits = predictor(torch.from_numpy(image.image))
            found = probabilities(logits, prepared.task).cpu().numpy()
            written += write_prediction(image, found, folder, prepared, force=force)
            done += 1
            if progress is not None:
                progress(done, max(done, len(paths)))
    if faults:
        raise InputError(_left_out(faults, done, folder))
    return written


def _left_out(faults: Sequence[InputError], done: int, folder: Path) -> str:
    """Returns what is wrong with images, and where the others are."""
    first, count = str(faults[0]), len(faults)
    if not done:
        return (
            first if count == 1 else f"none of {count} images can be segmented; the first: {first}"
        )
    begin = f"{count} of {done + count} images left out, predictions of the other {done} are in"
    return f"{begin} {folder}; {'' if count == 1 else 'the first: '}{first}"

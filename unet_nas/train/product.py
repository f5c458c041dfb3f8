"""What a training at length leaves: a folder that prediction reads, and nothing else is needed.

::

    FOLDER/
      architecture.yaml
      weights.safetensors        best weights
      training.json              Trained: how it was trained, its curve, its scores
      checkpoint.safetensors     the whole state, to go on after a kill
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from unet_nas.errors import InputError
from unet_nas.files import write_files
from unet_nas.records.study import ARCHITECTURE, Point
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import UNet, build
from unet_nas.unet.dump import to_yaml
from unet_nas.unet.graph import lower
from unet_nas.unet.load import load_architecture

__all__ = [
    "ARCHITECTURE",
    "CHECKPOINT",
    "TRAINING",
    "WEIGHTS",
    "Trained",
    "load_trained",
    "load_weights",
    "read_trained",
    "weights_bytes",
    "write_trained",
]

WEIGHTS = "weights.safetensors"
TRAINING = "training.json"
CHECKPOINT = "checkpoint.safetensors"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Trained:
    """How a network was trained, and what came of it.

    Attributes:
        name: Of the network.
        patch_size: Spatial size of a training input, and of tiles in prediction.
        precision: Of the forward pass.
        train: The section ``train``, with all defaults.
        seed: Of weights, patches and augmentation.
        device: ``cpu`` or ``cuda``, with its name.
        preprocessing: What is done to an image before the network sees it.
        data: Source, counts, spacing, shares of the classes, notes.
        steps: Optimizer steps done.
        best_step: Step of the weights.
        history: The training curve.
        validation: Scores of the weights on the validation cases.
        test: Their scores on the test cases, where there are any.
        conventions: What the scores mean.
        versions: Of Python and packages.
        training_s: Of optimizer steps with their data.
        validation_s: Of scoring.
        format: Of this file.
    """

    name: str
    patch_size: tuple[int, ...]
    precision: str
    train: dict[str, Any]
    seed: int
    device: str
    preprocessing: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    best_step: int | None = None
    history: tuple[Point, ...] = ()
    validation: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    conventions: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    training_s: float = 0.0
    validation_s: float = 0.0
    format: int = FORMAT

    def to_json(self) -> bytes:
        """Returns it as JSON."""
        return TypeAdapter(Trained).dump_json(self, indent=1)


def write_trained(
    folder: Path, architecture: Architecture, state: dict[str, Tensor], trained: Trained
) -> list[Path]:
    """Writes the three files; those of an earlier training of this folder are replaced.

    Raises:
        InputError: if the folder cannot be written to.
        UnetNasError: if the disk is full.
    """
    files = {
        ARCHITECTURE: to_yaml(architecture, trained.name).encode(),
        WEIGHTS: weights_bytes(state, lower(architecture).digest()),
        TRAINING: trained.to_json(),
    }
    return write_files(folder, files, force=True)


def weights_bytes(state: dict[str, Tensor], digest: str) -> bytes:
    """Returns weights as a safetensors file that says which network they are of."""
    from safetensors.torch import save  # noqa: PLC0415 - only where weights are written

    return save(state, metadata={"format": "pt", "digest": digest})


def read_trained(folder: Path) -> Trained:
    """Returns what a training left in a folder.

    Raises:
        InputError: if the file is not there, is damaged or was written by a newer version.
    """
    path = folder / TRAINING
    try:
        trained = TypeAdapter(Trained).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} is not the folder of a training: it has no {TRAINING}"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except ValidationError as error:
        raise InputError(f"{path} is damaged: {error.errors()[0]['msg']}") from error
    if trained.format > FORMAT:
        raise InputError(f"{path} was written by a newer unet_nas; update this one")
    return trained


def load_trained(folder: Path) -> tuple[UNet, Trained]:
    """Returns the network of a folder with its weights, in evaluation mode.

    Raises:
        InputError: if the folder is not that of a finished training.
    """
    trained = read_trained(folder)
    module = build(load_architecture(folder / ARCHITECTURE))
    load_weights(module, folder / WEIGHTS)
    return module.eval(), trained


def load_weights(module: UNet, path: Path) -> None:
    """Loads a safetensors file into a network.

    Raises:
        InputError: if it is not one, or of another network.
    """
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the weights {path}: {error}") from error
    expected = module.state_dict()
    strange = sorted(weights.keys() ^ expected.keys())
    wrong = [
        name for name in expected if name in weights and weights[name].shape != expected[name].shape
    ]
    if strange or wrong:
        name = (strange or wrong)[0]
        what = "is not in both" if strange else "has another shape"
        hint = "; those of an exported model.py have its names and go with it" if strange else ""
        raise InputError(f"the weights {path} are not of this network: {name} {what}{hint}")
    module.load_state_dict(weights)

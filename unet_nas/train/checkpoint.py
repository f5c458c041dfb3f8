"""The state of a training in one file, so that it goes on as if nothing had happened.

The file is safetensors: tensors by name, and all plain numbers as JSON in its header. It is one
file and is renamed into place, so whoever reads it finds one whole state, the old or the new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from unet_nas.errors import InputError
from unet_nas.files import write_files
from unet_nas.records.study import Point
from unet_nas.train.config import TrainConfig
from unet_nas.train.data.cases import contents
from unet_nas.unet.build import UNet

if TYPE_CHECKING:
    from unet_nas.train.data.cases import Dataset
    from unet_nas.train.data.patches import Patches

__all__ = [
    "CheckpointError",
    "Identity",
    "Parts",
    "State",
    "identify",
    "plain_copies",
    "read",
    "write",
]

Identity: TypeAlias = dict[str, Any]
FORMAT = 1
_KEY = "unet_nas"


class CheckpointError(InputError):
    """A file is not the checkpoint of the training that is asked for."""


@dataclass(slots=True)
class State:
    """The numbers of a training so far.

    Attributes:
        identity: What it is a training of; a checkpoint of another one is refused.
        step: Optimizer steps done.
        training_s: Of steps with their data.
        validation_s: Of scoring.
        validated: Validations that were due so far.
        first_loss: Mean loss of the first steps.
        recent_loss: Mean loss at the last look.
        pending: Steps since the last look at the loss.
        point_loss: Sum of losses between the last point and the last look.
        point_steps: Steps in that sum.
        best_step: Step of the best weights.
        best_score: Their score.
        best_metrics: All their scores.
        history: One point for every validation.
    """

    identity: Identity
    step: int = 0
    training_s: float = 0.0
    validation_s: float = 0.0
    validated: int = 0
    first_loss: float | None = None
    recent_loss: float | None = None
    pending: int = 0
    point_loss: float = 0.0
    point_steps: int = 0
    best_step: int | None = None
    best_score: float | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    history: list[Point] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Parts:
    """What moves in a training besides its numbers.

    Attributes:
        module: The network.
        optimizer: With its buffers.
        scaler: Of half precision.
        patches: Where the sampler of patches stands.
        losses: The sum of losses since the last look, on the device.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    patches: Patches
    losses: Tensor


def identify(module: nn.Module, data: Dataset, config: TrainConfig, seed: int) -> Identity:
    """Returns what must be equal for a checkpoint to be continued."""
    train = config.model_dump(mode="json")
    cases = {part: contents(cases) for part, cases in data.parts().items()}
    weights = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    network = module.graph.digest() if isinstance(module, UNet) else type(module).__name__
    return {**train, "seed": seed, "cases": cases, "weights": weights, "network": network}


def write(path: Path, state: State, parts: Parts, best: Mapping[str, Tensor]) -> None:
    """Writes a checkpoint in the place of the one before.

    Raises:
        InputError: if the folder cannot be written to.
        UnetNasError: if the disk is full.
    """
    tensors = {f"weights/{name}": t for name, t in parts.module.state_dict().items()}
    tensors |= {f"best/{name}": t for name, t in best.items()}
    optimizer = parts.optimizer.state_dict()
    tensors |= {
        f"optimizer/{index}/{key}": value
        for index, buffers in optimizer["state"].items()
        for key, value in buffers.items()
        if isinstance(value, Tensor)
    }
    tensors |= {f"random/{device}": t for device, t in _generators(parts.losses.device).items()}
    tensors["losses"] = parts.losses
    plain = {
        "format": FORMAT,
        "state": asdict(state),
        "scaler": parts.scaler.state_dict(),
        "patches": parts.patches.state(),
    }
    content = save(plain_copies(tensors), {_KEY: json.dumps(plain)})
    write_files(path.parent, {path.name: content}, force=True)


def plain_copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors as a file takes them: it has no strides, and refuses shared memory."""
    layout = torch.contiguous_format
    return {k: t.detach().to("cpu", copy=True, memory_format=layout) for k, t in tensors.items()}


def read(path: Path, identity: Identity, parts: Parts) -> tuple[State, dict[str, Tensor]] | None:
    """Brings a training to where its checkpoint stands; None where there is no checkpoint.

    Returns:
        The numbers and the best weights.

    Raises:
        CheckpointError: if the file is not a checkpoint of this training.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            plain = json.loads((file.metadata() or {})[_KEY])
            _refuse_other(path, plain, identity)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of a training; delete it to begin anew"
        ) from error
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = tensor
    parts.module.load_state_dict(groups["weights"])
    _fill(parts.optimizer, groups.get("optimizer", {}))
    parts.scaler.load_state_dict(plain["scaler"])
    parts.patches.set_state(plain["patches"])
    parts.losses.copy_(tensors["losses"])
    torch.set_rng_state(groups["random"]["cpu"])
    if "cuda" in groups["random"]:
        torch.cuda.set_rng_state(groups["random"]["cuda"])
    state = State(**plain["state"])
    state.history = [Point(**point) for point in plain["state"]["history"]]
    return state, groups.get("best", {})


def _refuse_other(path: Path, plain: dict[str, Any], identity: Identity) -> None:
    """Refuses a checkpoint of a newer version or of another training."""
    if plain["format"] > FORMAT:
        raise CheckpointError(f"{path} was written by a newer unet_nas; update this one")
    before = plain["state"]["identity"]
    now = json.loads(json.dumps(identity))
    other = next((key for key in now if now[key] != before.get(key)), None)
    if other is None:
        return
    sentences = dict.fromkeys(("weights", "network"), "of another network")
    sentences["cases"] = "of other data"
    said = sentences.get(
        other, f"of a training with {other} {before.get(other)}, and {now[other]} is asked for"
    )
    raise CheckpointError(f"{path} is a checkpoint {said}; delete it, or write to another folder")


def _generators(device: torch.device) -> dict[str, Tensor]:
    """Returns the state of the random generators that dropout draws from."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def _fill(optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    """Gives an optimizer its buffers back, in the memory layout of their parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, tensor in saved.items():
        index, key = name.split("/")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)  # noqa: PLW2901
        optimizer.state[parameter][key] = tensor

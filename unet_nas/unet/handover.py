"""What a person needs besides the network to use it: how its input is made, what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from unet_nas.errors import InputError
from unet_nas.records import Run, TrialRecord
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.outline import by

PREPROCESSING = "preprocessing.json"

_SPATIAL = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
#: the words of `normalise` in the section ``data``
_NORMALISE = {
    "image": "each channel of each image minus its mean, divided by its standard deviation",
    "dataset": "each channel minus its mean over the training images (`means`), divided by its "
    "standard deviation over them (`deviations`)",
    "scale": "integer images divided by the largest value of their type",
    "none": "values as they are in the files",
}


def handover(
    run: Run, record: TrialRecord, architecture: Architecture, *, onnx: bool
) -> dict[str, bytes]:
    """Returns ``README.md`` and, where it is known, ``preprocessing.json``.

    Args:
        run: where the network was trained.
        record: the network.
        architecture: that of the record.
        onnx: whether an ONNX file goes with it.

    Raises:
        InputError: if the record's ``preprocessing.json`` is damaged.
    """
    steps = _steps(run, record)
    files = {PREPROCESSING: json.dumps(steps, indent=1).encode()} if steps else {}
    paragraphs = [
        f"# {run.header.name}: {_title(record)}",
        "A network that unet_nas trained. `model.py` is plain PyTorch and needs nothing of "
        "unet_nas; its head says which sizes the network takes. Mirror an image of another size at "
        "its ends up to the next of them, and cut the logits back to its size: "
        f"`np.pad(image, ((0, 0), (0, 0){', (0, more)' * architecture.spatial_dims}), "
        'mode="reflect")` with how many `more` each axis takes.',
        *_training(run, record),
        *_use(architecture, onnx=onnx),
        "## Input and output",
        "\n".join(f"- {line}" for line in _tensors(run, steps)),
        *_prepare(steps),
        *_scores(record),
        f"Digest of architecture and training: `{record.digest}`.",
    ]
    return {"README.md": ("\n\n".join(paragraphs) + "\n").encode(), **files}


def _steps(run: Run, record: TrialRecord) -> dict[str, Any]:
    """Returns what was done to images: as the record's folder says, or else the run's header."""
    path = run.files_of(record) / PREPROCESSING
    if not path.exists():
        return run.header.data.get("preprocessing") or {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it must hold an object")
    return found


def _training(run: Run, record: TrialRecord) -> Iterator[str]:
    """Yields how long it was trained, and where there are weights that were trained longer."""
    if record.history:
        best = f", and has the weights of step {record.best_step:,}" if record.best_step else ""
        yield f"It was trained for {record.history[-1].step:,} steps{best}."
    longer = longer_trainings(run, record)
    if longer:
        yield f"It was trained for longer too: `{'`, `'.join(longer)}` of its run."


def longer_trainings(run: Run, record: TrialRecord) -> list[str]:
    """Returns the names, as in ``STUDY#NAME``, of the longer trainings of a trial or baseline."""
    if record.kind == "finalist":
        return []
    mine = [r for r in run.finalists if r.name == record.name and r.weights is not None]
    return [f"{r.name.removeprefix('#')}/seed-{r.seed}" for r in mine]


def _title(record: TrialRecord) -> str:
    seed = f", seed {record.seed}" if record.kind == "finalist" else ""
    return f"{record.kind} {record.name}{seed}"


def _use(architecture: Architecture, *, onnx: bool) -> Iterator[str]:
    spatial = ", ".join(_SPATIAL[architecture.spatial_dims])
    shape = f"(batch, {architecture.in_channels}, {spatial}), float32"
    first = "[0]" if architecture.deep_supervision else ""
    heads = "; [1:] are coarser" if first else ""
    yield "## Use"
    yield f"""\
```python
import torch
from safetensors.torch import load_file
from model import UNet

network = UNet().eval()
network.load_state_dict(load_file("weights.safetensors"))
with torch.inference_mode():
    logits = network(image){first}  # image: {shape}{heads}
```"""
    if onnx:
        yield "Without PyTorch, for the same numbers up to rounding:"
        yield """\
```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
logits = session.run(["logits"], {"image": image})[0]
```"""


def _tensors(run: Run, steps: Mapping[str, Any]) -> Iterator[str]:
    """Yields what goes in and what comes out."""
    header = run.header
    yield f"trained on patches of {by(header.patch_size)}" if header.patch_size else "any size"
    yield from _preprocessing(run, steps)
    names = ", ".join(f"{i} {name}" for i, name in enumerate(header.class_names))
    if steps.get("multi_label"):
        yield f"output channels are labels that may overlap: {names}; `logits.sigmoid() > 0.5`"
    else:
        yield f"output channels are classes: {names}; `logits.argmax(1)`"


def _preprocessing(run: Run, steps: Mapping[str, Any]) -> Iterator[str]:
    if not steps:
        yield f"data: `{json.dumps(run.header.data, ensure_ascii=False)}`"
        return
    yield f"`{PREPROCESSING}` says how images were prepared; in words:"
    if steps.get("clip"):
        low, high = steps["clip"]
        yield f"values below percentile {low:g} and above percentile {high:g} were clipped"
    kind = steps.get("normalise")
    yield f"values were normalised: {_NORMALISE.get(str(kind), kind)}"
    if steps.get("channels"):
        taken = ", ".join(map(str, steps["channels"]))
        yield f"of the channels of a file these were taken: {taken}"
    if steps.get("nodata") is not None:
        yield f"positions of value {steps['nodata']} were left out, and then set to the mean"
    if steps.get("spacing"):
        unit = steps.get("unit", "")
        yield f"images were then resampled to a spacing of {by(steps['spacing'])} {unit}".rstrip()


def _prepare(steps: Mapping[str, Any]) -> Iterator[str]:
    """Yields the normalisation as code."""
    if not steps:
        return
    lines = [*_clip_lines(steps), *_normalise_lines(steps)]
    body = "\n".join(f"        {line}" for line in lines) or "        pass"
    more = ", before it is resampled" if steps.get("spacing") else ""
    yield f"In Python, for the values of one image as its file holds them{more}:"
    yield f"""\
```python
import numpy as np


def prepare(pixels):  # (channels, …), as in the file
    image = pixels.astype(np.float32)
    for index, channel in enumerate(image):
{body}
    return image[None]  # a batch of one; torch.from_numpy(…) makes it a tensor
```"""


def _clip_lines(steps: Mapping[str, Any]) -> Iterator[str]:
    if steps.get("limits"):
        yield f"np.clip(channel, *{steps['limits']}[index], out=channel)"
    elif steps.get("clip"):
        yield f"np.clip(channel, *np.percentile(channel, {steps['clip']}), out=channel)"


def _normalise_lines(steps: Mapping[str, Any]) -> Iterator[str]:
    """Yields what `unet_nas.train.data.preprocessing` does to a channel."""
    match steps.get("normalise"):
        case "image":
            yield "channel -= channel.mean(dtype=np.float64)"
            yield "channel /= max(float(channel.std(dtype=np.float64)), 1e-6)"
        case "dataset":
            yield f"channel -= {steps['means']}[index]"
            yield f"channel /= max({steps['deviations']}[index], 1e-6)"
        case "scale":
            yield "if np.issubdtype(pixels.dtype, np.integer):"
            yield "    channel /= np.iinfo(pixels.dtype).max"


def _scores(record: TrialRecord) -> Iterator[str]:
    for cases, scores in (("test", record.test), ("validation", record.metrics)):
        if scores:
            rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in sorted(scores.items()))
            yield f"## Scores on the {cases} cases\n\n| metric | value |\n|:--|--:|\n{rows}"

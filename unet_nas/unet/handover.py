"""What a person needs besides the network to use it: how its input is made, what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unet_nas.errors import InputError
from unet_nas.records import Run, TrialRecord
from unet_nas.unet.outline import by

PREPROCESSING = "preprocessing.json"

#: the words of `normalise` in the section ``data``
_NORMALISE = {
    "image": "each channel of each image minus its mean, divided by its standard deviation",
    "dataset": "each channel minus its mean over the training images (`means`), divided by its "
    "standard deviation over them (`deviations`)",
    "scale": "integer images divided by the largest value of their type",
    "none": "values as they are in the files",
}


def handover(run: Run, record: TrialRecord, *, onnx: bool) -> dict[str, bytes]:
    """Returns ``README.md`` and, where the record has one, ``preprocessing.json``.

    Args:
        run: where the network was trained.
        record: the network.
        onnx: whether an ONNX file goes with it.
    """
    path = run.files_of(record) / PREPROCESSING
    files: dict[str, bytes] = {}
    steps: Mapping[str, Any] = {}
    if path.exists():
        files[PREPROCESSING] = path.read_bytes()
        steps = _parse(path)
    return {"README.md": _readme(run, record, steps, onnx=onnx).encode(), **files}


def _parse(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it must hold an object")
    return found


def _readme(run: Run, record: TrialRecord, steps: Mapping[str, Any], *, onnx: bool) -> str:
    header = run.header
    paragraphs = [
        f"# {header.name}: {_title(record)}",
        "A network that unet_nas found and trained. `model.py` is plain PyTorch and needs nothing "
        "of unet_nas; its head says which sizes the network takes.",
        *_use(header.spatial_dims, header.in_channels, onnx=onnx),
        "## Input and output",
        "\n".join(f"- {line}" for line in _tensors(run, steps)),
        *_scores(record),
        f"Digest of architecture and training: `{record.digest}`.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _title(record: TrialRecord) -> str:
    words = {"trial": "trial", "baseline": "baseline", "finalist": "finalist"}
    seed = f", seed {record.seed}" if record.kind == "finalist" else ""
    return f"{words[record.kind]} {record.name}{seed}"


def _use(dims: int, channels: int, *, onnx: bool) -> Iterator[str]:
    spatial = ", ".join(("depth", "height", "width")[-dims:]) if dims > 1 else "length"
    yield "## Use"
    yield f"""\
```python
import torch
from safetensors.torch import load_file
from model import UNet

network = UNet().eval()
network.load_state_dict(load_file("weights.safetensors"))
with torch.inference_mode():
    logits = network(image)  # (batch, {channels}, {spatial}), float32
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
    yield "of several outputs (deep supervision) the first has full resolution"


def _preprocessing(run: Run, steps: Mapping[str, Any]) -> Iterator[str]:
    if not steps:
        yield f"data: `{json.dumps(run.header.data, ensure_ascii=False)}`"
        return
    yield f"`{PREPROCESSING}` says how images were prepared; in words:"
    if steps.get("clip"):
        low, high = steps["clip"]
        yield f"values below percentile {low:g} and above percentile {high:g} were clipped"
    kind = steps.get("normalise")
    yield f"then normalised: {_NORMALISE.get(str(kind), kind)}"
    if steps.get("spacing"):
        unit = steps.get("unit", "")
        yield f"then resampled to a spacing of {by(steps['spacing'])} {unit}".rstrip()


def _scores(record: TrialRecord) -> Iterator[str]:
    if not record.metrics:
        return
    cases = "test" if record.kind == "finalist" else "validation"
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in sorted(record.metrics.items()))
    yield f"## Scores on the {cases} cases\n\n| metric | value |\n|:--|--:|\n{rows}"

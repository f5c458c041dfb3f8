"""The options of each source of cases (imports nothing that reads files)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict
from typing_extensions import TypeAliasType

from unet_nas.operators.fields import Options

__all__ = ["Builtin", "Folder", "NnUNet", "Npz", "Python", "Source", "Synthetic"]

_Count = Annotated[int, Strict(), Field(ge=1, le=100_000)]
_Extent = Annotated[int, Strict(), Field(ge=4, le=100_000)]
_Strength = Annotated[float, Field(ge=0, le=10)]
_Dims = Literal[1, 2, 3]


class Folder(Options):
    """A folder with images and masks, matched by their names."""

    type: Literal["folder"] = "folder"
    path: str = Field(description="the folder")
    images: str = Field("images", description="its folder of images; . for itself")
    masks: str | dict[str, str] | None = Field(
        None,
        description="its folder of masks; null: masks, labels, annotations or that of the images; "
        "where labels overlap a mapping from each label to a folder",
    )
    image_suffix: str = Field("", description="end of the names of images that masks lack")
    mask_suffix: str | None = Field(
        None, description="end of the names of masks; null: none, _mask, _masks, _label, …"
    )
    pages: Literal["channels", "volume", "slices"] | None = Field(
        None, description="what the pages of a file are; null: as the file says"
    )


class Npz(Options):
    """Arrays: images (cases, [channels,] *spatial) and masks (cases, *spatial)."""

    type: Literal["npz"] = "npz"
    path: str = Field(description="the file, or a folder of files")
    x: str = Field("x", description="array of images")
    y: str = Field("y", description="array of masks")
    names: str | None = Field(None, description="array of names")
    groups: str | None = Field(None, description="array of groups, such as subjects")
    channel_axis: Literal["first", "last"] | None = Field(
        None, description="where images have channels; null: as the shape of the masks shows"
    )


class NnUNet(Options):
    """A raw dataset of nnU-Net: dataset.json, imagesTr, labelsTr."""

    type: Literal["nnunet"] = "nnunet"
    path: str = Field(description="the folder with dataset.json")


class Builtin(Options):
    """The brain template that the package nilearn ships; one volume, for demonstration only."""

    type: Literal["builtin"] = "builtin"
    builtin: Literal["mni152_tissue"] = Field(
        "mni152_tissue", description="T1 template with grey and white matter derived from maps"
    )
    dims: Literal[2, 3] = Field(2, description="2: axial slices, 3: slabs of the volume")
    step: Annotated[int, Strict(), Field(ge=1, le=20)] = Field(
        2, description="take each so many-th slice"
    )
    noise: _Strength = Field(
        0.0, description="deviation of noise added to the images, in deviations of the image"
    )
    bias_field: _Strength = Field(
        0.0, description="deviation of the logarithm of a smooth factor over each image"
    )
    seed: Annotated[int, Strict(), Field(ge=0)] = Field(0, description="of noise and bias field")


class Synthetic(Options):
    """Shapes before a noisy background; needs no files."""

    type: Literal["synthetic"] = "synthetic"
    dims: _Dims = Field(2, description="1, 2 or 3")
    classes: Annotated[int, Strict(), Field(ge=2, le=20)] = Field(
        3, description="with the background"
    )
    channels: Annotated[int, Strict(), Field(ge=1, le=100)] = Field(1, description="of the images")
    size: _Extent | None = Field(
        None, description="along each axis; null: 512 in 1D, 64 in 2D, 32 in 3D"
    )
    cases: _Count = Field(40, description="how many")
    noise: _Strength = Field(0.5, description="deviation; the classes are 1 apart")
    seed: Annotated[int, Strict(), Field(ge=0)] = Field(0, description="of shapes and noise")


class Python(Options):
    """A function of your own that yields the cases."""

    type: Literal["python"] = "python"
    function: str = Field(
        pattern=r"^[\w.]+:[\w.]+$", description="module:function, importable from here"
    )
    arguments: dict[str, Any] = Field({}, description="passed to it by name")


def _shorthand(value: Any) -> Any:
    """Turns a text, or a mapping without ``type``, into a mapping with it."""
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, dict) and "type" not in value:
        if "builtin" in value:
            return {"type": "builtin", **value}
        if "function" in value:
            return {"type": "python", **value}
        if isinstance(value.get("path"), str):
            return {"type": _from_text(value["path"])["type"], **value}
    return value


def _from_text(text: str) -> dict[str, str]:
    kind, colon, rest = text.partition(":")
    if text == "synthetic":
        return {"type": "synthetic"}
    if colon and kind == "builtin":
        return {"type": "builtin", "builtin": rest.strip()}
    if colon and kind == "python":
        return {"type": "python", "function": rest.strip()}
    if re.search(r"\.npz$", text, re.IGNORECASE):
        return {"type": "npz", "path": text}
    return {"type": "folder", "path": text}


#: a text, or a mapping whose ``type`` says which
Source = TypeAliasType(
    "Source",
    Annotated[
        Folder | Npz | NnUNet | Builtin | Synthetic | Python,
        Field(discriminator="type"),
        BeforeValidator(_shorthand),
    ],
)

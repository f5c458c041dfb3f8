"""The section ``data``: where the cases come from, how they are split and prepared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isnan
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Strict, Tag, model_validator

from unet_nas.errors import Fault
from unet_nas.operators.fields import Flag, Options
from unet_nas.text.validation import faults_error
from unet_nas.train.data.sources.options import Source, Synthetic

__all__ = ["Colour", "DataConfig", "MaskValue", "Split"]

_Share = Annotated[float, Field(ge=0, lt=1)]
_Index = Annotated[int, Strict(), Field(ge=0, le=10_000)]
_Byte = Annotated[int, Strict(), Field(ge=0, le=255)]
_Integer = Annotated[int, Strict()]
_Percentile = Annotated[float, Field(ge=0, le=100)]
_Millimetres = Annotated[float, Field(gt=0)]


def _kind(value: Any) -> str:
    """Names the member of a union that a value was meant as."""
    if isinstance(value, list | tuple):
        return "list"
    return "text" if isinstance(value, str) else "number"


#: a share, a list of names, or a text file with one name a line
Cases: TypeAlias = Annotated[
    Annotated[_Share, Tag("number")]
    | Annotated[tuple[str, ...], Field(min_length=1), Tag("list")]
    | Annotated[str, Tag("text")],
    Discriminator(_kind),
]
Colour: TypeAlias = tuple[_Byte, _Byte, _Byte]
MaskValue: TypeAlias = Annotated[
    Annotated[_Integer, Tag("number")] | Annotated[Colour, Tag("list")], Discriminator(_kind)
]
_Classes: TypeAlias = Annotated[
    Annotated[int, Strict(), Field(ge=1, le=255), Tag("number")]
    | Annotated[tuple[str, ...], Field(min_length=1, max_length=255), Tag("list")],
    Discriminator(_kind),
]
_Spacing: TypeAlias = Annotated[
    Annotated[Literal["median"], Tag("text")]
    | Annotated[tuple[_Millimetres, ...], Field(min_length=1, max_length=3), Tag("list")],
    Discriminator(_kind),
]


def _not_a_number(value: Any) -> Any:
    return "nan" if isinstance(value, float) and isnan(value) else value


class Split(Options):
    """Which cases are for training, validation and test; groups stay together."""

    validation: Cases = Field(
        0.2, description="share of the groups, list of names, or text file with a name a line"
    )
    test: Cases = Field(0.2, description="the same; cases that no selection sees; 0: none")
    seed: Annotated[int, Strict(), Field(ge=0)] | None = Field(
        0, description="of the drawing; null: the seed of the run"
    )
    groups: str | None = Field(
        None,
        description="what stays together: a CSV file with the columns name and group, or a "
        "regular expression whose first bracket in the name is the group; null: each case",
    )
    folds: Annotated[int, Strict(), Field(ge=2, le=100)] | None = Field(
        None, description="cross-validation: so many equal parts of what is not test"
    )
    fold: Annotated[int, Strict(), Field(ge=0)] = Field(
        0, description="which of the folds is validation, from 0"
    )


class DataConfig(Options):
    """Data of one run, and how they are prepared."""

    # the default only stands in while a faulty one is cut out to look for other faults
    source: Source = Field(
        Synthetic.model_construct(),
        description="a folder, .npz file, nnU-Net folder, synthetic, python:module:function, "
        "builtin:mni152_tissue, or a mapping with the options of one of these",
    )
    split: Split = Field(Split.model_construct(), description="train, validation and test")
    channels: Annotated[tuple[_Index, ...], Field(min_length=1)] | None = Field(
        None, description="channels to use, counted from 0; null: all"
    )
    classes: _Classes | None = Field(
        None, description="names, background first, or their number; null: as found in the masks"
    )
    mask_values: Annotated[tuple[MaskValue, ...], Field(min_length=2)] | None = Field(
        None, description="how each class is stored, in order: numbers, or colours [r, g, b]"
    )
    ignore_label: _Integer | None = Field(
        None, description="mask value of positions that are not annotated"
    )
    multi_label: Flag = Field(
        False, description="labels may overlap: masks hold one channel (or folder) per label"
    )
    normalise: Literal["image", "dataset", "scale", "none"] = Field(
        "image",
        description="mean 0 and deviation 1 per channel, of each image or of all training "
        "cases; scale: integers to 0..1 by their type; none: as stored",
    )
    clip: tuple[_Percentile, _Percentile] | None = Field(
        None, description="percentiles that intensities are cut at first, as [0.5, 99.5]"
    )
    nodata: Annotated[float | Literal["nan"] | None, BeforeValidator(_not_a_number)] = Field(
        None, description="image value without information; null: as a GeoTIFF says"
    )
    spacing: _Spacing | None = Field(
        "median",
        description="volumes are resampled to it: median of the training cases, or mm per axis; "
        "null: not at all",
    )
    label_interpolation: Literal["linear", "nearest"] = Field(
        "linear", description="of targets that are resampled; linear: per class"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = list(self._faults())
        if faults:
            summary = "; ".join(f"{fault.path[0]} {fault.rule}" for fault in faults)
            raise faults_error(faults, summary)
        return self

    def _faults(self) -> Iterator[Fault]:
        if "source" not in self.model_fields_set:
            yield Fault(("source",), "must be given", fix="name a folder, or write synthetic")
        yield from self._split_faults()
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            yield Fault(("clip",), "must be a lower and a higher percentile", str(list(self.clip)))
        names = self.classes if isinstance(self.classes, tuple) else ()
        if len(set(names)) < len(names):
            yield Fault(("classes",), "must be different names", str(list(names)))
        if not self.multi_label and (self.classes == 1 or len(names) == 1):
            fix = "write [background, NAME], or set multi_label: true"
            yield Fault(("classes",), "must be at least 2 with the background", fix=fix)
        yield from self._mask_value_faults(len(names) or self.classes)

    def _mask_value_faults(self, classes: Any) -> Iterator[Fault]:
        values = self.mask_values
        if values is None:
            return
        if self.multi_label:
            yield Fault(("mask_values",), "must not be given where labels overlap", fix="remove it")
        if len(set(values)) < len(values):
            yield Fault(("mask_values",), "must be different values")
        if len({isinstance(value, tuple) for value in values}) > 1:
            yield Fault(("mask_values",), "must be all numbers or all colours")
        if classes is not None and classes != len(values):
            rule = f"must have one value for each of the {classes} classes"
            yield Fault(("mask_values",), rule, f"{len(values)} values", reads=(("classes",),))
        if self.ignore_label is not None and self.ignore_label in values:
            rule = "must not be one of mask_values"
            yield Fault(("ignore_label",), rule, str(self.ignore_label))

    def _split_faults(self) -> Iterator[Fault]:
        split = self.split
        if split.validation == 0.0 and split.folds is None:
            rule = "must be > 0: without validation no network can be chosen"
            yield Fault(("split", "validation"), rule, "0", "write 0.2")
        shares = [s for s in (split.validation, split.test) if isinstance(s, float)]
        if split.folds is None and sum(shares) >= 1:
            rule = "validation and test together must leave something to train on"
            yield Fault(("split",), rule, f"{sum(shares):g} of the cases", "write 0.2 for both")
        if split.folds is not None and split.fold >= split.folds:
            yield Fault(("split", "fold"), f"must be < folds, {split.folds}", str(split.fold))
        if split.groups is not None and not split.groups.lower().endswith(".csv"):
            yield from _regex_faults(split.groups)


def _regex_faults(pattern: str) -> Iterator[Fault]:
    path = ("split", "groups")
    try:
        brackets = re.compile(pattern).groups
    except re.error as error:
        yield Fault(path, f"must be a .csv file or a regular expression: {error}", repr(pattern))
        return
    if not brackets:
        rule = "must be a .csv file, or a regular expression with a bracket around the group"
        yield Fault(path, rule, repr(pattern), r"write it as '^(patient\d+)_'")

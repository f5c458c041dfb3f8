"""Random architectures, drawn from the schema itself.

:func:`draw_architecture` walks the fields and annotations of ``Architecture`` and returns a
plain tree, as YAML would give it. A field, an operator or a limit that is added to the schema
is drawn at once; nothing here lists them. What *is* listed are the knobs that keep networks
small and cases interesting: they name fields, and a field without a knob is drawn from its own
annotation.

The knobs: :data:`NUMBERS` (values that numeric fields mostly take), :data:`PRESENCE` (how often
a field is written at all) and :data:`MOODS` (most trees are mended, so that they pass the rules
between fields; some have lists of a wrong length; some have many options at once).

No pytest and no torch here: benchmarks draw from the same source.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from random import Random
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType

from unet_nas.errors import Fault, Path
from unet_nas.operators.builder import Graph
from unet_nas.operators.fields import MAX_CHANNELS
from unet_nas.unet.architecture import (
    PARTS,
    STAGE_FIELDS,
    Architecture,
    StageOptions,
    stage_options,
)
from unet_nas.unet.graph import lower
from unet_nas.unet.shapes import AxisSizes, Size, trace_axis

#: values that numeric fields take, by name; a field that is not here starts at its lower limit
NUMBERS: dict[str, Sequence[float]] = {
    "in_channels": (1, 2, 2, 4),
    "classes": (1, 2, 3, 4),
    "width": (2, 4, 4, 4, 8) * 4 + (MAX_CHANNELS,),
    "growth": (0.5, 1, 1.0, 1.5, 1.5, 2.0, 2.0),
    "max_width": (2, 4, 8, 8, 16),
    "features": (1, 2, 4, 4, 4, 8),
    "conv_features": (2, 4, 4, 8),
    "convs": (0, 0, 0, 1, 1, 2, 2, 2, 3, 4),
    "kernel_size": (1, 2, 3, 3, 3, 4, 5),
    "conv_kernels": (1, 2, 3, 3, 3, 5),
    "skip_after": (0, 1, 1, 2),
    "fuse": (0, 1, 1, 2),
    "group_width": (1, 2, 2, 4),
    "projection_kernel": (1, 1, 2, 3),
    "dilation": (1, 1, 2, 2, 3),
    "groups": (1, 1, 2, 2, 3, 4),
    "deep_supervision": (0, 0, 1, 1, 2, 3),
    "stride": (1, 2, 2, 2, 2, 3, 4),
    "factor": (1, 2, 2, 2, 2, 3),
    "padding": (0, 1, 1, 1, 2, 3),
    "output_padding": (0, 1, 2),
    "expansion": (0.5, 1.0, 1.5, 2.0),
    "rate": (0, 0.1, 0.5),
    "stride_on": (0, 0, 1, 2, 3),
    "scales": (1, 2, 3, 4, 5),
}

#: words that are drawn twice as often as the others: their rules are rarely broken else
MORE_OFTEN = ("repeat",)

#: how often a field is written; by class and field, by class, or by field
PRESENCE: dict[str, float] = {
    "spatial_dims": 1.0,
    "depth": 1.0,
    "width": 1.0,
    "growth": 1.0,
    "Architecture.features": 0.2,
    "max_width": 0.3,
    "in_channels": 0.6,
    "classes": 0.6,
    "down": 0.95,
    "up": 0.85,
    "fusion": 0.8,
    "deep_supervision": 0.12,
    "align": 0.75,
    "head": 0.7,
    "stem": 0.35,
    "encoder": 0.2,
    "bottleneck": 0.2,
    "decoder": 0.25,
    "Architecture.groups": 0.08,
    "Architecture.dilation": 0.12,
    "Architecture.convs": 0.6,
    "Architecture.block": 0.75,
    "Architecture.norm": 0.6,
    "Architecture.activation": 0.6,
    "Architecture.dropout": 0.5,
    "Architecture.conv_features": 0.5,
    "Architecture.conv_kernels": 0.1,
    "Architecture.skip_after": 0.15,
    "Architecture.fuse": 0.3,
    "GroupNorm.groups": 0.9,
    "TransposedConv.output_padding": 0.6,
    "Interpolation.kernel_size": 0.7,
    "Interpolation.features": 0.85,
    "Residual.stride_on": 0.6,
    "Residual.projection": 1.0,
    "MultiScaleHead.scales": 0.85,
    "Interpolation.align_corners": 0.5,
    "StageOptions": 0.12,
    "DecoderOptions": 0.12,
    "Architecture": 0.25,
}
PRESENT_OTHERWISE = 0.35

#: how often a member of a union is taken where there is a choice, by its tag
TAGS = {"stages": 0.45, "axes": 0.2, "list": 0.6}


#: entries of lists that are not one per stage, by field; 1 or 2 otherwise
LISTS = {"conv_kernels": 2}


@dataclass(frozen=True)
class Mood:
    """How a tree is drawn.

    Args:
        share: how many trees are drawn in this mood.
        repaired: fields that break rules between fields are taken out again.
        careless: how often a list has the wrong length, and the like.
        crowding: presences are raised to this power: below 1, more options at once.
    """

    share: float
    repaired: bool = False
    careless: float = 0.0
    crowding: float = 1.0


MOODS = (
    Mood(0.65, repaired=True),
    Mood(0.07, careless=0.15),
    Mood(0.28, crowding=0.45),
)

#: depths drawn, by number of spatial dimensions: 256 positions are many in 3D, few in 1D
DEPTHS = {1: (1, 1, 2, 2, 3, 3, 4, 5, 8), 2: (1, 1, 2, 2, 3, 3, 4), 3: (1, 1, 2, 2, 3)}
#: the largest size drawn per axis, and the most elements of all maps together
LARGEST = {1: 96, 2: 40, 3: 20}
#: share of the patch sizes that fit on every axis, where any does
FITTING = 0.75
MAX_ELEMENTS = 400_000
MAX_PARAMETERS = 400_000

Tree = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One draw: a tree, and where the schema takes it, its graph and an input for it."""

    tree: Tree
    faults: tuple[Fault, ...]
    architecture: Architecture | None = None
    graph: Graph | None = None
    size: Size = ()
    batch: int = 1
    mode: Literal["train", "eval"] = "train"


def draw_case(rng: Random) -> Case:
    """Returns an architecture with a patch size, a batch size and a mode."""
    tree = draw_architecture(rng)
    architecture, faults = verdict(tree)
    if architecture is None:
        return Case(tree, faults)
    graph = lower(architecture)
    size = draw_size(rng, graph)
    return Case(
        tree, (), architecture, graph, size, rng.choice((1, 1, 2)), rng.choice(("train", "eval"))
    )


def draw_architecture(rng: Random) -> Tree:
    """Returns a random tree for the section ``architecture``, small enough to run at once.

    Every field value is one that its own annotation allows; rules between fields may be broken.
    """
    while True:
        mood = rng.choices(MOODS, [mood.share for mood in MOODS])[0]
        tree = _Drawer(rng, mood).options(Architecture)
        if mood.repaired:
            tree = repaired(tree)
        architecture, _ = verdict(tree)
        if architecture is None or lower(architecture).parameters() <= MAX_PARAMETERS:
            return tree


def draw_options(rng: Random, model: type[BaseModel], dims: int) -> Tree:
    """Returns random options of one operator."""
    return _Drawer(rng, MOODS[0], dims).options(model)


def verdict(tree: Tree) -> tuple[Architecture | None, tuple[Fault, ...]]:
    """Returns the architecture, or the rules between fields that the tree breaks.

    Raises:
        ValidationError: if a field by itself is at fault: the draw is wrong then.
    """
    try:
        return Architecture.model_validate(tree), ()
    except ValidationError as error:
        faults = tuple(_faults(error))
        if not faults:
            raise
        return None, faults


def _faults(error: ValidationError) -> list[Fault]:
    found: list[Fault] = []
    for entry in error.errors():
        if entry["type"] != "faults":
            return []
        found.extend(entry["ctx"]["faults"])
    return found


def repaired(tree: Tree) -> Tree:
    """Returns the tree without the fields that break rules between fields, where that helps."""
    tree = copy.deepcopy(tree)
    for _ in range(12):
        faults = verdict(tree)[1]
        if not sum(_remove(tree, fault.path) for fault in faults):
            break
    return tree


def _remove(tree: Any, path: Path) -> bool:
    """Takes out the innermost key on ``path`` that was written."""
    if not path or isinstance(tree, str):
        return False
    key = path[0]
    inside = isinstance(tree, list) or key in tree
    if inside and _remove(tree[key], path[1:]):
        return True
    return isinstance(tree, dict) and tree.pop(key, None) is not None


# --- the walk along the schema ----------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where a value stands: its field, the entries its lists need, what a bare list means."""

    field: str
    count: int | None = None
    list_is_stages: bool = False


class _Drawer:
    """Draws values for annotations."""

    def __init__(self, rng: Random, mood: Mood, dims: int | None = None) -> None:
        self.rng, self.mood = rng, mood
        self.dims = dims or rng.choice((1, 2, 3))
        self.depth = rng.choice(DEPTHS[self.dims])

    def options(self, model: type[BaseModel], part: str = "") -> Tree:
        """Returns options of a model: each field as often as its knob says."""
        tree: Tree = {}
        for name, field in model.model_fields.items():
            if name == "type":
                tree[name] = field.default
            elif self.rng.random() < _presence(model, name) ** self.mood.crowding:
                place = _Place(name, self._entries(model, name, part))
                tree[name] = self.value(field.annotation, field.metadata, place)
        if model is Architecture and (self.mood.repaired or self.rng.random() < 0.7):
            _agree(tree)
        return tree

    def _entries(self, model: type[BaseModel], name: str, part: str) -> int:
        """Returns how many entries a list in this field needs."""
        if part == "bottleneck":
            return 1
        whole = model is Architecture and (name in STAGE_FIELDS or name == "features")
        return self.depth + 1 if whole else self.depth

    def value(self, annotation: Any, metadata: Sequence[Any], place: _Place) -> Any:
        """Returns a value for an annotation with its metadata."""
        if get_origin(annotation) is Annotated:
            annotation, *inner = get_args(annotation)
            return self.value(annotation, [*inner, *metadata], place)
        if isinstance(annotation, TypeAliasType):
            return self.value(annotation.__value__, metadata, place)
        if isinstance(get_origin(annotation), TypeAliasType):
            whole = get_origin(annotation).__value__[get_args(annotation)]
            return self.value(whole, metadata, place)
        if place.field == "spatial_dims":
            return self.dims
        if place.field == "depth":
            return self.depth
        origin = get_origin(annotation)
        if origin in (Union, types.UnionType):
            return self._member(get_args(annotation), place)
        if origin is tuple:
            return self._list(get_args(annotation)[0], metadata, place)
        if origin is Literal:
            words = get_args(annotation)
            return self.rng.choice([*words, *(w for w in words if w in MORE_OFTEN)])
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self._model(annotation, place)
        return self._scalar(annotation, metadata, place)

    def _list_length(self, place: _Place) -> int:
        return LISTS.get(place.field) or self.rng.choice((1, 1, 2))

    def _scalar(self, annotation: Any, metadata: Sequence[Any], place: _Place) -> Any:
        if annotation is type(None):
            return None
        if annotation is bool:
            return self.rng.random() < 0.5
        if annotation in (int, float):
            return self._number(annotation, metadata, place)
        raise NotImplementedError(f"no way to draw {annotation} for {place.field}")

    def _model(self, model: type[BaseModel], place: _Place) -> Any:
        tree = self.options(model, part=place.field)
        short = list(tree) == ["type"] and self.rng.random() < 0.5
        return tree["type"] if short else tree

    def _member(self, members: Sequence[Any], place: _Place) -> Any:
        """Returns a value of one member of a union; some tags are rarer than others."""
        weights = [TAGS.get(_tag(member) or "", 1.0) for member in members]
        member = self.rng.choices(members, weights)[0]
        if _tag(member) == "one":
            place = _Place(place.field, place.count, list_is_stages=True)
        return self.value(member, (), place)

    def _list(self, item: Any, metadata: Sequence[Any], place: _Place) -> Any:
        tag = next((m.tag for m in metadata if isinstance(m, Tag)), None)
        if tag == "axes":
            return self._axes(item, place)
        if tag == "list" and place.list_is_stages:  # a bare list would be one entry per stage
            inner = _Place(place.field, place.count)
            return [self._list(item, metadata, inner) for _ in range(place.count or 1)]
        count = self._list_length(place) if tag == "list" else place.count or 1
        if self._careless():
            count = max(0, count + self.rng.choice((-1, 1)))
        inner = _Place(place.field, place.count)
        return [self.value(item, (), inner) for _ in range(count)]

    def _axes(self, item: Any, place: _Place) -> Any:
        """Returns one number per axis, as a list or as the text ``1x3x3``."""
        count = self.dims
        if self._careless() or (self.mood.crowding < 1 and self.rng.random() < 0.08):
            count = self.rng.choice([n for n in (1, 2, 3) if n != self.dims])
        numbers = [self.value(item, (), place) for _ in range(count)]
        if count > 1 and (place.list_is_stages or self.rng.random() < 0.5):
            return "x".join(map(str, numbers))
        return numbers[0] if place.list_is_stages else numbers

    def _number(self, kind: type, metadata: Sequence[Any], place: _Place) -> float:
        low, high = _limits(metadata)
        known = [n for n in NUMBERS.get(place.field, ()) if low <= n <= high]
        strict = any(getattr(m, "strict", False) for m in _flat(metadata))
        known = [n for n in known if not strict or isinstance(n, kind)]
        if known:
            return self.rng.choice(known)
        if kind is int:
            return self.rng.randint(int(low), int(min(high, low + 3)))
        return round(self.rng.uniform(low, min(high, low + 1)), 3) or high / 2

    def _careless(self) -> bool:
        return self.rng.random() < self.mood.careless


def _agree(tree: Tree) -> None:
    """Makes the fields that say widths agree, which hardly any would by chance."""
    if tree.get("features"):
        for name in ("width", "growth", "max_width"):
            tree.pop(name, None)
    if tree.get("head") in ("none", {"type": "none"}):
        part = tree.get("decoder", {}).get("features")
        decoder = part or tree.get("features")
        tree["classes"] = decoder[0] if decoder else tree.get("width", 1)


def _presence(model: type[BaseModel], name: str) -> float:
    own = model.__name__
    keys = [f"{own}.{name}", *([own] if issubclass(model, StageOptions) else []), name]
    if model is Architecture:
        keys = [f"{own}.{name}", name, own]
    return next((PRESENCE[key] for key in keys if key in PRESENCE), PRESENT_OTHERWISE)


def _tag(member: Any) -> str | None:
    return next((m.tag for m in getattr(member, "__metadata__", ()) if isinstance(m, Tag)), None)


def _flat(metadata: Sequence[Any]) -> list[Any]:
    """Returns metadata with that of nested ``Field(...)`` unpacked."""
    flat: list[Any] = []
    for entry in metadata:
        flat.extend(entry.metadata if isinstance(entry, FieldInfo) else [entry])
    return flat


def _limits(metadata: Sequence[Any]) -> tuple[float, float]:
    """Returns the closed range of a number; an open end moves in by a little."""
    low, high = 0.0, 4.0
    for entry in _flat(metadata):
        match entry:
            case annotated_types.Ge(ge=limit):
                low = limit
            case annotated_types.Gt(gt=limit):
                low = limit + 1e-3
            case annotated_types.Le(le=limit):
                high = limit
            case annotated_types.Lt(lt=limit):
                high = limit - 1e-3
    return low, high


# --- sizes ------------------------------------------------------------------------------


def draw_size(rng: Random, graph: Graph) -> Size:
    """Returns a patch size near what the graph needs; more than half fit on every axis."""
    largest, fitting = LARGEST[graph.dims], rng.random() < FITTING
    while True:
        size = tuple(
            _draw_axis(rng, AxisSizes(graph, axis), largest, fitting) for axis in range(graph.dims)
        )
        if largest == 1 or _elements(graph, size) <= MAX_ELEMENTS:
            return size
        largest = max(1, largest * 2 // 3)


def _draw_axis(rng: Random, sizes: AxisSizes, largest: int, fitting: bool) -> int:
    """Returns a size that fits (the smallest, or the next from anywhere), or any, or one beside."""
    start = 1 if rng.random() < 0.3 else rng.randint(1, largest)
    size = next((n for n in range(start, start + largest) if sizes.valid(n)), start)
    if fitting:
        return size
    return rng.choice((size, rng.randint(1, largest), size + 1, max(1, size - 1)))


def _elements(graph: Graph, size: Size) -> int:
    traces = [trace_axis(graph, axis, n).sizes for axis, n in enumerate(size)]
    return sum(
        node.channels * prod(n or 0 for n in sizes)
        for node, *sizes in zip(graph.nodes, *traces, strict=True)
    )


# --- what was drawn ---------------------------------------------------------------------


def operators_of(architecture: Architecture) -> set[type[BaseModel]]:
    """Returns the classes of all operators that take part in a network."""
    stages = [("encoder", i) for i in range(architecture.depth)]
    stages += [("bottleneck", architecture.depth)]
    stages += [("decoder", i) for i in range(architecture.depth)]
    values: list[Any] = [stage_options(architecture, part, i) for part, i in stages]
    others = set(Architecture.model_fields) - {*STAGE_FIELDS, *PARTS}
    return _models([*values, *(getattr(architecture, name) for name in others)])


def _models(value: Any) -> set[type[BaseModel]]:
    if isinstance(value, BaseModel):
        inner = [getattr(value, name) for name in type(value).model_fields]
        return {type(value)}.union(*map(_models, inner))
    if isinstance(value, dict):
        value = tuple(value.values())
    return set().union(*map(_models, value)) if isinstance(value, tuple | list) else set()


__all__ = [
    "Case",
    "draw_architecture",
    "draw_case",
    "draw_options",
    "draw_size",
    "operators_of",
    "repaired",
    "verdict",
]

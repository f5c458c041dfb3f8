"""A parsed document: its plain tree, where each value stands, and how its faults are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unet_nas.errors import DocumentError, Fault, Path

__all__ = [
    "SECTIONS",
    "SECTION_KEYS",
    "Document",
    "PlacedFault",
    "document_error",
    "format_path",
    "lookup",
    "place",
    "printable",
    "render",
    "shown",
]

SECTIONS: tuple[str, ...] = (
    "name",
    "about",
    "reference",
    "architecture",
    "data",
    "budget",
    "objectives",
    "train",
    "search",
    "baselines",
)
"""The sections a document may have; ``name``, ``about`` and ``reference`` are text for people."""

SECTION_KEYS: Mapping[str, tuple[str, ...]] = {
    "data": (
        *("source", "split", "channels", "classes", "mask_values", "ignore_label", "multi_label"),
        *("normalise", "clip", "nodata", "spacing", "label_interpolation"),
    ),
    "budget": ("parameters", "macs", "training_memory", "inference_memory", "latency"),
    "train": (
        *("patch_size", "batch_size", "precision", "optimizer", "weight_decay", "momentum"),
        *("nesterov", "loss", "class_weights", "checkpoint", "in_place", "steps", "epochs"),
        *("seconds", "learning_rate", "schedule", "warmup", "clip", "channels_last", "compile"),
        *("foreground", "augment", "validations", "surface_tolerance", "event_tolerance"),
    ),
    "search": (
        *("sampler", "trials", "timeout", "workers", "enqueue", "pruner", "tournament"),
        *("redraws", "uniform_draws", "finalists", "measure"),
    ),
}
"""The keys of sections, for advice where one stands in the wrong section; a test compares them
with the models, which this layer cannot import."""

_PLAIN_KEY = re.compile(r"[^\W\d][\w-]*")
_LONGEST_SHOWN = 60
_MOST_SHOWN = 50


@dataclass(frozen=True, slots=True)
class PlacedFault:
    """A fault with the place it is reported at, where the path alone does not tell.

    Attributes:
        fault: What is wrong.
        line: Line in the file, from 1; 0 for a value that ``--set`` gave.
        column: Column, from 1, for faults of the YAML itself; 0 where it says nothing.
        source: The text of the ``--set`` that gave the value, if one did.
        hides_value: The value at the path is unknown, so nothing is to be said about it.
    """

    fault: Fault
    line: int
    column: int = 0
    source: str = ""
    hides_value: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """The content of one YAML file.

    Attributes:
        name: The file name as messages show it.
        tree: Dictionaries, lists and scalars.
        marks: Line, from 1, of every path (of the key, for a value in a mapping).
        overrides: The ``--set`` text of every path that one has given.
        faults: Faults found while reading, kept only where the reader was told to.
    """

    name: str
    tree: dict[str, Any]
    marks: Mapping[Path, int]
    overrides: Mapping[Path, str] = field(default_factory=dict)
    faults: tuple[PlacedFault, ...] = ()

    def line(self, path: Path) -> int:
        """Return the line of the value at ``path``, or of its nearest ancestor in the file."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.marks:
                return self.marks[path[:end]]
        return 1


def lookup(tree: Any, path: Path) -> Any:
    """Return the value at ``path``.

    Raises:
        LookupError: There is no such value.

    >>> lookup({"down": [{"kernel": 3}]}, ("down", 0, "kernel"))
    3
    """
    for part in path:
        known = part in tree if isinstance(tree, dict) else isinstance(tree, list)
        if not known or (isinstance(tree, list) and not isinstance(part, int)):
            raise LookupError(part)
        tree = tree[part]
    return tree


def place(fault: Fault, document: Document) -> PlacedFault:
    """Find the nearest ancestor of the fault's path that the file or a ``--set`` has given."""
    for end in range(len(fault.path), 0, -1):
        path = fault.path[:end]
        if path in document.overrides:
            return PlacedFault(fault, line=0, source=document.overrides[path])
        if path in document.marks:
            return PlacedFault(fault, line=document.marks[path])
    return PlacedFault(fault, line=document.line(()))


def render(faults: Iterable[Fault], document: Document) -> str:
    """Write faults, one a line, in the order of the file.

    >>> tree, marks = {"architecture": {"depth": 0}}, {("architecture", "depth"): 2}
    >>> document = Document("u.yaml", tree, marks)
    >>> render([Fault(("architecture", "depth"), "must be ≥ 1", "0")], document)
    'u.yaml:2, architecture.depth: must be ≥ 1, got 0'
    """
    return _lines([place(fault, document) for fault in faults], document.name)


def document_error(found: Sequence[PlacedFault], name: str) -> DocumentError:
    """Make the error that reports all faults, in the order of the file and each once."""
    ordered = sorted(dict.fromkeys(found), key=_order)
    return DocumentError(_lines(ordered, name), [placed.fault for placed in ordered])


def format_path(path: Path) -> str:
    """Write a path as ``--set`` takes it.

    >>> format_path(("architecture", "down", 1, "kernel_size"))
    'architecture.down[1].kernel_size'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part) and len(part) <= _LONGEST_SHOWN:
            text += f".{part}" if text else part
        else:
            text += f"[{shown(part)}]"
    return text


def shown(value: object) -> str:
    """Write a value of the tree on one short line, as YAML spells it.

    >>> shown("three"), shown(True), shown(None), shown([1, 2]), shown(float("nan"))
    ("'three'", 'true', 'nothing', '[1, 2]', '.nan')
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(value), repr(value))
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, list | tuple):
        return _shown_list(value)
    if isinstance(value, dict):
        return _shown_mapping(value)
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_SHOWN:
        return repr(text)
    # Cut before quoting, so that no escape sequence is cut in the middle.
    return f"{text[: _LONGEST_SHOWN - 1]!r}…"


def _shown_list(values: Sequence[object]) -> str:
    if len(values) <= 6 and not any(isinstance(value, list | tuple | dict) for value in values):
        text = f"[{', '.join('null' if value is None else shown(value) for value in values)}]"
        if len(text) <= _LONGEST_SHOWN:
            return text
    return f"a list of {len(values)}"


def _shown_mapping(values: Mapping[Any, object]) -> str:
    if not values:
        return "an empty mapping"
    text = f"a mapping with {', '.join(shown(key)[1:-1] for key in list(values)[:4])}"
    text += ", …" if len(values) > 4 else ""
    return text if len(text) <= _LONGEST_SHOWN else f"a mapping of {len(values)}"


def _order(placed: PlacedFault) -> tuple[bool, int, int, str]:
    return bool(placed.source), placed.line, placed.column, format_path(placed.fault.path)


def _lines(found: Sequence[PlacedFault], name: str) -> str:
    ordered = sorted(dict.fromkeys(found), key=_order)
    lines = [_one_line(placed, name) for placed in ordered[:_MOST_SHOWN]]
    if len(ordered) > _MOST_SHOWN:
        lines.append(f"… and {len(ordered) - _MOST_SHOWN} more faults in {printable(name)}")
    return "\n".join(lines)


def _one_line(placed: PlacedFault, name: str) -> str:
    fault = placed.fault
    if placed.source:
        from shlex import quote  # noqa: PLC0415 - only here, and rarely

        where = f"--set {printable(quote(placed.source))}"
    else:
        column = f":{placed.column}" if placed.column else ""
        where = f"{printable(name)}:{placed.line}{column}"
    return f"{where}, {sentence(fault)}" if fault.path else f"{where}: {sentence(fault)}"


def sentence(fault: Fault) -> str:
    """Write a fault without the file that it is in.

    >>> sentence(Fault(("depth",), "must be ≥ 1", "0", "use 1"))
    'depth: must be ≥ 1, got 0; fix: use 1'
    """
    field_name = f"{format_path(fault.path)}: " if fault.path else ""
    got = f", got {fault.got}" if fault.got else ""
    fix = ""
    if fault.fix:
        fix = f"; {fault.fix}" if fault.fix.endswith("?") else f"; fix: {fault.fix}"
    return f"{field_name}{printable(fault.rule)}{got}{fix}"


def printable(text: str) -> str:
    """Escape what would move a terminal's cursor or break the one-line message."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)

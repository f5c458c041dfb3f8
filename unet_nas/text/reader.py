"""YAML text → plain tree with positions.

The tree is built from PyYAML's stream of events with a stack of our own. Events are made one by one
without recursion, so 200,000 opening brackets end at the nesting limit; composing nodes as PyYAML
does recurses on them, in its C loader until the process dies. Refused are: anchors and aliases (a
small file could stand for a huge tree), tags, duplicate keys, keys that are not text, and more than
one document. Such faults are collected; only a fault of the syntax ends the reading.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import yaml

from unet_nas.errors import Fault, InputError, Path
from unet_nas.text.document import Document, PlacedFault, document_error, printable, shown
from unet_nas.text.scalars import LARGEST_INTEGER, Scalar, parse_scalar
from unet_nas.text.syntax import LINE_BREAK, syntax_fault

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_VALUES",
    "Built",
    "build",
    "parse_document",
    "read_document",
]

MAX_BYTES = 1_000_000
MAX_DEPTH = 64
MAX_VALUES = 50_000

# All that YAML does not print, and lone surrogates; a byte order mark is cut off before.
# Patterns as text: compiling the first takes longer than reading a file, and ASCII is common.
_FORBIDDEN = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
_FORBIDDEN_IN_ASCII = "[^\t\n\r\x20-\x7e]"


@dataclass(frozen=True, slots=True)
class Built:
    """What a text stands for: any tree, its lines, its faults."""

    tree: Any
    marks: dict[Path, int]
    faults: tuple[PlacedFault, ...]


def read_document(source: str | os.PathLike[str], *, keep_faults: bool = False) -> Document:
    """Read a YAML file.

    Args:
        source: Path of the file.
        keep_faults: Leave faults such as duplicate keys in ``Document.faults`` for `validate`,
            which reports them together with its own, instead of raising them here. Faults of the
            syntax are raised in any case.

    Raises:
        InputError: There is no such file, or it is no text, too large, or not YAML.
        DocumentError: The faults of the document, all at once.
    """
    name = os.fsdecode(source)
    data = _read_bytes(name)
    return parse_document(_decode(data, name), name, keep_faults=keep_faults)


def parse_document(text: str, name: str = "<text>", *, keep_faults: bool = False) -> Document:
    r"""Parse YAML text; see `read_document`.

    >>> document = parse_document("architecture:\n  depth: 4\n")
    >>> document.tree, document.line(("architecture", "depth"))
    ({'architecture': {'depth': 4}}, 2)
    """
    built = build(text, name)
    if built.faults and not keep_faults:
        raise document_error(built.faults, name)
    if built.tree is None:
        raise InputError(f"{printable(name)} is empty; fix: begin with a line 'architecture:'")
    if not isinstance(built.tree, dict):
        rule = "a document must be a mapping (lines of 'key: value')"
        root = PlacedFault(Fault((), rule, shown(built.tree)), line=1)
        raise document_error([*built.faults, root], name)
    return Document(name, built.tree, built.marks, faults=built.faults)


def build(text: str, name: str, *, loader: Any = None) -> Built:
    """Build the tree of one YAML text, whatever its root.

    Args:
        text: The YAML text.
        name: The file name for messages.
        loader: A PyYAML loader class; by default the C one where PyYAML was built with it.

    Raises:
        InputError: The text is too large or holds characters that YAML does not allow.
        DocumentError: The text is not YAML; reported with the other faults found before that.
    """
    # A character takes at least a byte, so the cheap test spares encoding a huge text.
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise _too_large(name)
    text = text.removeprefix("\ufeff")
    _refuse_control_characters(text, name)
    builder = _Builder()
    chosen = loader or getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=chosen):
            builder.take(event)
    except yaml.YAMLError as error:
        raise document_error([*builder.faults, syntax_fault(error, text)], name) from None
    except _HopelessError:
        raise document_error(builder.faults, name) from None
    return Built(builder.root, builder.marks, tuple(builder.faults))


def _read_bytes(name: str) -> bytes:
    where = printable(name)
    try:
        with open(name, "rb") as file:
            # One byte over the limit tells, and an endless device cannot fill memory.
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{where}: there is no such file{_near_file(name)}") from None
    except IsADirectoryError:
        raise InputError(f"{where} is a directory; fix: name a YAML file in it") from None
    except PermissionError:
        raise InputError(f"{where} cannot be read: permission denied") from None
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the name.
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise InputError(f"{where} cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise _too_large(name)
    return data


def _near_file(name: str) -> str:
    folder, base = os.path.split(name)
    try:
        others = [entry for entry in os.listdir(folder or ".") if entry.endswith((".yaml", ".yml"))]
    except (OSError, ValueError):
        return ""
    # An equal ending makes no two names similar.
    by_stem = {os.path.splitext(entry)[0]: entry for entry in others[:1000]}
    near = get_close_matches(os.path.splitext(base)[0], list(by_stem), n=1, cutoff=0.75)
    meant = [by_stem[stem] for stem in near]
    return f"; did you mean {printable(os.path.join(folder, meant[0]))}?" if meant else ""


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{printable(name)}:{line}: must be UTF-8 text, got byte 0x{data[error.start]:02x} at "
            f"offset {error.start}; fix: save the file as UTF-8"
        ) from None


def _too_large(name: str) -> InputError:
    return InputError(
        f"{printable(name)} is larger than {MAX_BYTES // 1_000_000} MB, too large for a YAML file "
        "that describes networks"
    )


def _refuse_control_characters(text: str, name: str) -> None:
    match = re.search(_FORBIDDEN_IN_ASCII if text.isascii() else _FORBIDDEN, text)
    if match is None:
        return
    breaks = list(re.finditer(LINE_BREAK, text[: match.start()]))
    column = match.start() - (breaks[-1].end() if breaks else 0) + 1
    rule = f"must be text without control characters, got U+{ord(match.group()):04X}"
    fault = Fault((), rule, fix="delete the character")
    raise document_error([PlacedFault(fault, len(breaks) + 1, column)], name)


class _HopelessError(Exception):
    """Reading on makes no sense; the faults so far say why."""


@dataclass(slots=True)
class _Frame:
    """One open mapping or list.

    A mapping alternates between keys and values: ``key`` is the key that waits for its value. A
    frame that is not ``live`` is read only for the faults in it (the value of a duplicate key, a
    key that is itself a mapping): it is not in the tree and leaves no marks.
    """

    path: Path
    value: dict[str, Any] | list[Any]
    live: bool
    is_key: bool = False
    key: str | None = None
    expects_value: bool = False
    skip_value: bool = False
    lines: dict[str, int] = field(default_factory=dict)


class _Builder:
    """Builds the tree from events."""

    def __init__(self) -> None:
        self.root: Any = None
        self.marks: dict[Path, int] = {}
        self.faults: list[PlacedFault] = []
        self._stack: list[_Frame] = []
        self._documents = 0
        self._values = 0

    def take(self, event: Any) -> None:
        """Take the next event."""
        match event:
            case yaml.DocumentStartEvent():
                self._start_document(event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._open(event, {})
            case yaml.SequenceStartEvent():
                self._open(event, [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()

    def _start_document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            fix = "delete the line '---' and what follows, or make it a file of its own"
            self._fault(event, (), "a file must hold one document, here a second begins", fix=fix)
            raise _HopelessError

    def _alias(self, event: Any) -> None:
        path = self._child_path()
        rule = f"anchors and aliases are not allowed, got *{_cut(event.anchor)}"
        is_key = self._awaits_key()
        self._fault(event, path, rule, fix="write the value out", hides_value=not is_key)
        if is_key:
            self._begin_entry(None, event)
        else:
            self._add(None, event)

    def _scalar(self, event: Any) -> None:
        value = self._resolve(event)
        if self._awaits_key():
            self._take_key(value, event)
        else:
            self._refuse_properties(event)
            self._add(value, event)

    def _resolve(self, event: Any) -> Scalar:
        # `implicit[0]`: plain and untagged, so the schema decides; quoted and block text is text.
        if event.tag is not None or not event.implicit[0]:
            # PyYAML's own parser lets "\\ud800" through, which no file can hold.
            return str(event.value).encode("utf-8", "replace").decode()
        try:
            return parse_scalar(event.value)
        except OverflowError:
            rule = f"an integer must be below {LARGEST_INTEGER:,} in magnitude"
            got = event.value if len(event.value) < 40 else f"one of {len(event.value):,} digits"
            self._fault(event, self._child_path(), rule, got, hides_value=True)
            return 0

    def _open(self, event: Any, value: dict[str, Any] | list[Any]) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self._fault(event, (), f"values must be nested at most {MAX_DEPTH} levels deep")
            raise _HopelessError
        if self._awaits_key():
            got = "a list" if isinstance(value, list) else "a mapping"
            self._fault(event, self._path(), "a key must be text", got)
            self._stack.append(_Frame(self._path(), value, live=False, is_key=True))
            return
        self._refuse_properties(event)
        path, live = self._child_path(), self._child_is_live()
        self._add(value, event)
        self._stack.append(_Frame(path, value, live))

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.is_key:
            self._begin_entry(None, None)

    def _take_key(self, key: Scalar, event: Any) -> None:
        frame = self._stack[-1]
        self._refuse_properties(event)
        if not isinstance(key, str):
            spelled = event.value or "nothing"
            fix = f"quote it: '{spelled}'" if event.value else "write a key before the ':'"
            self._fault(event, frame.path, "a key must be text", _cut(spelled), fix=fix)
            self._begin_entry(None, event)
        elif key in frame.lines:
            rule = f"the key {shown(key)} is given twice, first in line {frame.lines[key]}"
            self._fault(event, (*frame.path, key), rule, fix="delete one of the two")
            self._begin_entry(key, event, skip=True)
        else:
            frame.lines[key] = event.start_mark.line + 1
            self._begin_entry(key, event)

    def _begin_entry(self, key: str | None, event: Any, *, skip: bool = False) -> None:
        frame = self._stack[-1]
        frame.key, frame.expects_value, frame.skip_value = key, True, skip or key is None
        if frame.live and key is not None and not skip:
            self.marks[(*frame.path, key)] = event.start_mark.line + 1

    def _add(self, value: Any, event: Any) -> None:
        """Put a value where it belongs: the root, the open list, or under the waiting key."""
        self._values += 1
        if self._values > MAX_VALUES:
            self._fault(event, (), f"a document must hold at most {MAX_VALUES:,} values")
            raise _HopelessError
        if not self._stack:
            self.root = value
            return
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            if frame.live:
                self.marks[self._child_path()] = event.start_mark.line + 1
            frame.value.append(value)
            return
        if not frame.skip_value and frame.key is not None:
            frame.value[frame.key] = value
        frame.expects_value = False

    def _awaits_key(self) -> bool:
        return bool(self._stack) and (
            isinstance(self._stack[-1].value, dict) and not self._stack[-1].expects_value
        )

    def _child_is_live(self) -> bool:
        return not self._stack or (self._stack[-1].live and not self._stack[-1].skip_value)

    def _path(self) -> Path:
        return self._stack[-1].path if self._stack else ()

    def _child_path(self) -> Path:
        if not self._stack:
            return ()
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            return (*frame.path, len(frame.value))
        return (
            frame.path if frame.key is None or not frame.expects_value else (*frame.path, frame.key)
        )

    def _refuse_properties(self, event: Any) -> None:
        is_key = self._awaits_key()
        path = self._path() if is_key else self._child_path()
        if event.anchor is not None:
            rule = f"anchors and aliases are not allowed, got &{_cut(event.anchor)}"
            self._fault(event, path, rule, fix="write the value out where it is used")
        if event.tag is not None:
            tag = _cut(event.tag.replace("tag:yaml.org,2002:", "!!"))
            rule = f"tags are not allowed, got {tag}"
            self._fault(event, path, rule, fix="delete the tag", hides_value=not is_key)

    def _fault(
        self,
        event: Any,
        path: Path,
        rule: str,
        got: str = "",
        *,
        fix: str | None = None,
        hides_value: bool = False,
    ) -> None:
        mark = event.start_mark
        fault = Fault(path, rule, got, fix)
        self.faults.append(
            PlacedFault(fault, mark.line + 1, mark.column + 1, hides_value=hides_value)
        )


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"

"""YAML text → plain tree with positions; faults → messages with file and line.

`read_document` and `parse_document` read, `set_values` applies ``--set path=value``, `validate`
makes a pydantic model of one section or raises all faults of the file at once, and `render` writes
faults.
"""

from __future__ import annotations

from unet_nas.text.document import SECTIONS, Document, format_path, render
from unet_nas.text.domains import find_domains
from unet_nas.text.overrides import set_values
from unet_nas.text.reader import parse_document, read_document
from unet_nas.text.validation import error_of, validate

__all__ = [
    "SECTIONS",
    "Document",
    "error_of",
    "find_domains",
    "format_path",
    "parse_document",
    "read_document",
    "render",
    "set_values",
    "validate",
]

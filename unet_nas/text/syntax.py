"""PyYAML's complaints in plain words."""

from __future__ import annotations

import re

import yaml

from unet_nas.errors import Fault
from unet_nas.text.document import PlacedFault

__all__ = ["LINE_BREAK", "syntax_fault"]

LINE_BREAK = "\r\n|[\n\r\x85\u2028\u2029]"
"""A pattern of what ends a line of YAML."""

# Patterns over "problem | context" of libyaml and of PyYAML's own parser, which word it
# differently; the first that is found wins. {begun} is the line where the construct was begun,
# {char} the character at the place.
_PLAIN_WORDS: tuple[tuple[str, str, str | None], ...] = (
    (
        r"mapping values are not allowed",
        "a ':' stands where none may stand",
        "quote the value, or check the line breaks and the indentation",
    ),
    (
        r"(block )?sequence entries are not allowed",
        "a list entry '- ' stands where none may stand",
        "put the list on lines of its own",
    ),
    (
        r"expected ',' or '\]'",
        "the list opened in line {begun} needs a ',' or its closing ']'",
        None,
    ),
    (
        r"expected ',' or '\}'",
        "the mapping opened in line {begun} needs a ',' or its closing '}'",
        None,
    ),
    (
        r"unexpected end of stream.*(quoted|scalar)",
        "the quote opened in line {begun} is not closed",
        None,
    ),
    (r"could not find expected ':'", "a ':' is missing after the key in line {begun}", None),
    (
        r"cannot start any token",
        "{char} cannot begin a value",
        "quote the text",
    ),
    (
        r"unknown escape character",
        "a backslash in double quotes begins an unknown escape",
        "use ''",
    ),
    (r"incompatible YAML document", "this version of YAML is unknown", "delete the %YAML line"),
    (r"directive", "a line that begins with % is a directive, and this one is unknown", None),
    (
        r"expected <document start>",
        "this line does not belong to what stands above it",
        "give all keys of a mapping the same indentation",
    ),
    (
        r"while parsing a block (mapping|collection)",
        "this does not continue what was begun in line {begun}",
        "give all its entries the same indentation",
    ),
    (r"node content", "a value must stand here", None),
    (r"block scalar", "the line of a '|' or '>' must end after it", None),
    (r"anchor|alias", "anchors and aliases are not allowed, got '&' or '*'", "quote the text"),
    (r"tag", "tags are not allowed, got '!'", "quote the text"),
)


def syntax_fault(error: yaml.YAMLError, text: str) -> PlacedFault:
    """Turn an error of PyYAML about a text into one fault with line and column."""
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    context = str(getattr(error, "context", None) or "")
    problem_mark = getattr(error, "problem_mark", None)
    context_mark = getattr(error, "context_mark", None)
    mark = problem_mark or context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 0)
    begun = context_mark.line + 1 if context_mark else line
    rule, fix = _in_plain_words(f"{problem} | {context}", begun)
    if "{char}" in rule:
        char = _char_at(text, line, column)
        rule = rule.replace("{char}", "a tab" if char == "\t" else char or "this character")
        fix = "write spaces in its place" if char == "\t" else fix
    return PlacedFault(Fault((), f"this is not YAML: {rule}", fix=fix), line, column)


def _char_at(text: str, line: int, column: int) -> str:
    """Return the character at a place, which libyaml does not tell."""
    lines = re.split(LINE_BREAK, text)
    return lines[line - 1][column - 1 : column] if line <= len(lines) else ""


def _in_plain_words(complaint: str, begun: int) -> tuple[str, str | None]:
    for pattern, rule, fix in _PLAIN_WORDS:
        if re.search(pattern, complaint):
            return rule.replace("{begun}", str(begun)), fix
    return complaint.split(" | ", maxsplit=1)[0], None

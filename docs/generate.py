"""Fills in what the documentation takes from the code: ``make docs``.

In ``README.md`` and ``docs/principles.md`` the output below each ``$ unet-nas …`` line; in
``docs/architecture.md`` the tables between ``<!-- name -->`` and ``<!-- end -->``, as in
``docs/data.md``; in ``docs/export.md`` the exported file.
Tests compare the result with the files.
"""

import contextlib
import io
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from unet_nas import Architecture
from unet_nas.cli import main
from unet_nas.operators.catalogue import Option, describe, operators
from unet_nas.report.listings import meaning
from unet_nas.search.config import Baseline, Finalists, SearchConfig
from unet_nas.train.data.config import DataConfig, Split
from unet_nas.train.data.options import Augment
from unet_nas.train.data.sources.options import Source
from unet_nas.unet.architecture import DecoderOptions, StageOptions

ROOT = Path(__file__).parents[1]


# --- README -------------------------------------------------------------------------------


def readme(text: str) -> str:
    """Returns a text with the true output below every command of its console blocks."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, content in re.findall(r"`(\S+\.yaml)`:\n\n```yaml\n(.*?)```", text, re.DOTALL):
            Path(name).write_text(content, encoding="utf-8")
        return re.sub(r"```console\n(.*?)```", _with_output, text, flags=re.DOTALL)


def _with_output(match: re.Match[str]) -> str:
    commands = [line[2:] for line in match[1].splitlines() if line.startswith("$ ")]
    shown = "".join(f"$ {command}\n{output_of(command)}" for command in commands)
    return f"```console\n{shown}```"


def output_of(command: str) -> str:
    """Returns what a command prints, on either stream, without blanks at the ends of lines."""
    program, *arguments = shlex.split(command)
    if program != "unet-nas":
        raise ValueError(f"only unet-nas is run, got {command!r}")
    printed = io.StringIO()
    os.environ.pop("COLUMNS", None)
    outputs = contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed)
    with outputs[0], outputs[1], contextlib.suppress(SystemExit):
        main(arguments)
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


# --- docs/architecture.md ------------------------------------------------------------------


def reference(text: str) -> str:
    """Returns a text with its generated tables made anew."""
    parts = {
        "network": _table(_own_fields()),
        "stages": _table(_fields(StageOptions)),
        "decoder": _table(
            option for option in _fields(DecoderOptions) if option.name == "features"
        ),
        "operators": "\n".join(_operators()),
    }
    return _filled(text, parts)


def _filled(text: str, parts: Mapping[str, str]) -> str:
    for name, made in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, made=made: f"{m[1]}\n{made}\n\n{m[2]}", text, flags=re.S)
    return text


def _fields(model: type[BaseModel]) -> list[Option]:
    return [describe(name, info) for name, info in model.model_fields.items()]


def _own_fields() -> list[Option]:
    return [
        option for option in _fields(Architecture) if option.name not in StageOptions.model_fields
    ]


def _operators() -> Iterator[str]:
    field = ""
    for operator in operators():
        if operator.field != field:
            field = operator.field
            yield f"### `{field}`\n"
        yield f"**`{operator.name}`**: {operator.meaning}\n"
        if operator.options:
            yield _table(operator.options) + "\n"


def _table(options: Iterable[Option]) -> str:
    rows = [
        f"| `{option.name}` | `{option.default}` | {meaning(option).replace('|', chr(92) + '|')} |"
        for option in options
    ]
    return "\n".join(["| field | default | meaning |", "| :-- | :-- | :-- |", *rows])


# --- docs/data.md --------------------------------------------------------------------------


def data_reference(text: str) -> str:
    """Returns a text with the options of data, of each source and of augmentation."""
    sources = get_args(get_args(Source.__value__)[0])
    parts = {source.__name__.lower(): _table(_options(source)) for source in sources}
    # the default of the source only stands in while faults are looked for
    parts["data"] = _table(
        replace(option, default="(required)") if option.name == "source" else option
        for option in _fields(DataConfig)
    )
    parts["split"] = _table(_fields(Split))
    parts["augment"] = _table(_fields(Augment))
    for name, info in Augment.model_fields.items():
        for model in get_args(info.annotation):
            if isinstance(model, type) and issubclass(model, BaseModel):
                parts[name] = _table(_fields(model))
    return _filled(text, parts)


# --- docs/search.md ------------------------------------------------------------------------


def _by_name(option: Option) -> Option:
    """Writes a default that has a name, and no options, as people do."""
    return replace(option, default=option.default.removeprefix("type=").strip("'"))


def search_reference(text: str) -> str:
    """Returns a text with the options of a search."""
    parts = {
        "search": _table(_by_name(option) for option in _fields(SearchConfig)),
        "finalists": _table(_fields(Finalists)),
        "baselines": _table(_fields(Baseline)),
    }
    return _filled(text, parts)


def _options(source: type[BaseModel]) -> list[Option]:
    return [option for option in _fields(source) if option.name != "type"]


# --- docs/export.md ------------------------------------------------------------------------


def exported(text: str) -> str:
    """Returns a text with the model that its command writes of its YAML file."""
    found = re.search(r"^unet-nas export (\S+) --to (\S+).*$", text, re.MULTILINE)
    given = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    if found is None or given is None:
        raise ValueError("docs/export.md must show a YAML file and the command that exports it")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path(found[1]).write_text(given[1], encoding="utf-8")
        output_of(found[0])
        model = Path(found[2], "model.py").read_text(encoding="utf-8")
    block = f"```python\n{model}```"
    return re.sub(r"```python\n.*?```", lambda _: block, text, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    pages = {"README.md": readme, "docs/architecture.md": reference, "docs/export.md": exported}
    pages["docs/data.md"] = data_reference
    pages["docs/search.md"] = search_reference
    pages["docs/principles.md"] = readme
    for name, fill in pages.items():
        path = ROOT / name
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")

"""What the documentation shows is what the code does."""

import doctest
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from unet_nas.text import parse_document, validate
from unet_nas.train.data.config import DataConfig, Split
from unet_nas.train.data.options import Augment
from unet_nas.train.data.sources.options import Source

ROOT = Path(__file__).parents[1]
STALE = "out of date; run `make docs` and look at the difference"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_of_the_readme_prints_what_it_shows(generate):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("```console") >= 4
    assert generate.readme(text) == text, f"README.md is {STALE}"


def test_every_command_of_the_principles_prints_what_it_shows(generate):
    text = (ROOT / "docs" / "principles.md").read_text(encoding="utf-8")
    assert text.count("```console") >= 9
    assert generate.readme(text) == text, f"docs/principles.md is {STALE}"


def test_every_table_of_the_reference_is_that_of_the_code(generate):
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert generate.reference(text) == text, f"docs/architecture.md is {STALE}"


def test_every_table_of_the_page_on_data_is_that_of_the_code(generate):
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert generate.data_reference(text) == text, f"docs/data.md is {STALE}"
    options = {name for model in data_models() for name in model.model_fields if name != "type"}
    assert {name for name in options if f"| `{name}` |" not in text} == set()


def test_every_table_of_the_page_on_searching_is_that_of_the_code(generate):
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert generate.search_reference(text) == text, f"docs/search.md is {STALE}"


def test_every_example_of_the_page_on_data_is_valid():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(data:.*?)```", text, re.DOTALL)
    assert len(examples) >= 8
    for example in examples:
        assert validate(parse_document(example), DataConfig, ("data",))


def data_models():
    sources = get_args(get_args(Source.__value__)[0])
    return (DataConfig, Split, Augment, *sources)


def test_the_exported_file_of_the_page_is_what_the_command_writes(generate):
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    assert generate.exported(text) == text, f"docs/export.md is {STALE}"


def test_every_python_example_of_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False)
    # the blocks are one session, as a reader would type them
    examples = parser.get_doctest("\n".join(blocks), {}, "README.md", "README.md", 0)
    runner.run(examples)
    assert runner.failures == 0


def test_every_link_of_the_documentation_leads_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"

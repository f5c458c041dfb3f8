"""What the documentation shows is what the code does."""

import doctest
import importlib.util
import json
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
CEILING = "ceiling: tau of two seeds of long"
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


def test_what_searches_found_is_what_the_benchmarks_say():
    """The figures in the README are those of the committed results."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files = sorted((ROOT / "benchmarks" / "results").glob("finalists-*.json"))
    assert len(files) == 3
    for path in files:
        assert found_row(json.loads(path.read_text(encoding="utf-8"))) in text, path.name


def found_row(result):
    searches = result["searches"]
    steps = {one["steps"] for one in searches}
    cells = [f"{result['space']}, {len(searches)} search{'es' if len(searches) > 1 else ''}"]
    cells += [f"{steps.pop():,}", f"{result['finalist']:.3f}"]
    for name in ("best of random", "2015", "nnunet-plain"):
        gaps = [
            gap
            for network, gap in result["finalist minus"].items()
            if network.partition(",")[0] == name
        ]
        cells += [
            "<br>".join(
                f"{gap['mean']:+.3f} [{gap['interval'][0]:.3f}, {gap['interval'][1]:.3f}]"
                for gap in gaps
            )
        ]
    return f"| {' | '.join(cells)} |"


def test_the_fidelity_is_what_the_benchmark_says():
    """README and quickstart say what the brief training was worth."""
    path = ROOT / "benchmarks" / "results" / "fidelity.json"
    summary = json.loads(path.read_text(encoding="utf-8"))["summary"]
    tau, ceiling = (summary[name] for name in ("tau of brief and long", CEILING))
    said = (
        f"{tau['value']:.2f} [{tau['interval'][0]:.2f}, {tau['interval'][1]:.2f}]",
        f"{ceiling['value']:.2f} [{ceiling['interval'][0]:.2f}, {ceiling['interval'][1]:.2f}]",
        f"{summary['regret of the brief top five']:.3f}",
        f"{summary['complete']} architectures",
    )
    for name in ("README.md", "search_spaces/quickstart.yaml"):
        text = " ".join((ROOT / name).read_text(encoding="utf-8").replace("#", " ").split())
        assert all(words in text for words in said), name

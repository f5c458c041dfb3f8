import contextlib
import math
import os
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from unet_nas.errors import DocumentError, Fault, InputError
from unet_nas.text import (
    Document,
    find_domains,
    format_path,
    parse_document,
    read_document,
    render,
    set_values,
    validate,
)
from unet_nas.text.reader import build

LOADERS = [yaml.CSafeLoader, yaml.SafeLoader]

# Models of the shape of the architecture schema, but small.

Int = Annotated[int, Strict()]
PositiveInt = Annotated[Int, Field(ge=1)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MaxPool(Model):
    type: Literal["max_pool"] = "max_pool"
    kernel_size: PositiveInt = 2


class StridedConv(Model):
    type: Literal["strided_conv"] = "strided_conv"
    kernel_size: PositiveInt
    mode: Literal["zeros", "reflect"] = "zeros"


def _spelled_out(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _form(value: Any) -> str:
    return "stages" if isinstance(value, list | tuple) else "one"


T = TypeVar("T")
Downsample = Annotated[
    MaxPool | StridedConv, Field(discriminator="type"), BeforeValidator(_spelled_out)
]
PerStage = Annotated[
    Annotated[T, Tag("one")] | Annotated[tuple[T, ...], Tag("stages")], Discriminator(_form)
]


class Block(Model):
    convs: PositiveInt = 2
    squeeze: Int | None = None

    @model_validator(mode="after")
    def _check(self) -> "Block":
        if self.squeeze is not None and self.squeeze > self.convs:
            faults = [Fault(("squeeze",), "must be ≤ convs", str(self.squeeze))]
            raise PydanticCustomError("faults", "{summary}", {"summary": "bad", "faults": faults})
        return self


class Small(Model):
    depth: Annotated[Int, Field(ge=1, le=8)] = 4
    width: PositiveInt = 64
    down: PerStage[Downsample] = MaxPool()
    kernel_size: PerStage[PositiveInt] = 3
    padding: Annotated[Int, Field(ge=0)] | Literal["same", "valid"] = "same"
    patch: Int | tuple[Int, ...] = 3
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    bias: Annotated[bool, Strict()] = True
    title: str = ""
    block: Block = Block()

    @model_validator(mode="after")
    def _check_lengths(self) -> "Small":
        faults: list[Fault] = []
        if isinstance(self.down, tuple) and len(self.down) != self.depth:
            rule = f"must have depth = {self.depth} entries"
            faults.append(Fault(("down",), rule, str(len(self.down)), reads=(("depth",),)))
        if self.width % 8:
            faults.append(Fault(("width",), "must be a multiple of 8", str(self.width)))
        if faults:
            raise PydanticCustomError("faults", "{summary}", {"summary": "bad", "faults": faults})
        return self


def faults_of(text: str, assignments: Sequence[str] = (), *, keep: bool = True) -> list[str]:
    """Return the lines of the message, which must be free of jargon."""
    with pytest.raises(InputError) as caught:
        document = parse_document(text, "u.yaml", keep_faults=keep)
        validate(set_values(document, assignments), Small, ("architecture",))
    message = str(caught.value)
    for jargon in ("pydantic", "http", "Input ", "function-", "constrained", "Value error"):
        assert jargon not in message
    return message.splitlines()


def fault_of(field_text: str) -> str:
    """Return the only fault of a document with one field."""
    (line,) = faults_of(f"architecture:\n  {field_text}\n")
    return line.removeprefix("u.yaml:2, architecture.")


# Reading


def test_tree_and_lines():
    document = parse_document("# a\narchitecture:\n  depth: 3\n  down:\n  - max_pool\n  - {a: 1}\n")
    assert document.tree == {"architecture": {"depth": 3, "down": ["max_pool", {"a": 1}]}}
    assert document.marks == {
        ("architecture",): 2,
        ("architecture", "depth"): 3,
        ("architecture", "down"): 4,
        ("architecture", "down", 0): 5,
        ("architecture", "down", 1): 6,
        ("architecture", "down", 1, "a"): 6,
    }
    assert document.line(("architecture", "down", 0, "kernel_size")) == 5
    assert document.line(()) == 1


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1_000", "1_000"),
        ("on", "on"),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", "0x1F"),
        ("-3", -3),
        ("+.5", 0.5),
        ("5.", 5.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("~", None),
        ("", None),
        ("TRUE", True),
        ("'3'", "3"),
        ('"true"', "true"),
        ("2001-01-01", "2001-01-01"),
        ("=", "="),
        ("0b1", "0b1"),
        ("-0x1F", "-0x1F"),
        ("١", "١"),
    ],
)
def test_scalars_follow_yaml_1_2(text, value, loader):
    tree = build(f"a: {text}", "", loader=loader).tree
    assert tree == {"a": value}
    assert type(tree["a"]) is type(value)


def test_nan_is_read():
    assert math.isnan(parse_document("a: .nan").tree["a"])


def test_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "u.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(tmp_path / "u.yaml").tree == {"a": 1}


def test_all_structural_faults_at_once():
    text = "a: 1\nb: &x [1]\nc: *x\na: 2\n3: x\n? [k]\n: 1\nd: !!int 3\ne: {f: 1, f: 2}\n"
    with pytest.raises(DocumentError) as caught:
        parse_document(text, "u.yaml")
    assert str(caught.value).splitlines() == [
        "u.yaml:2:4, b: anchors and aliases are not allowed, got &x; "
        "fix: write the value out where it is used",
        "u.yaml:3:4, c: anchors and aliases are not allowed, got *x; fix: write the value out",
        "u.yaml:4:1, a: the key 'a' is given twice, first in line 1; fix: delete one of the two",
        "u.yaml:5:1: a key must be text, got 3; fix: quote it: '3'",
        "u.yaml:6:3: a key must be text, got a list",
        "u.yaml:8:4, d: tags are not allowed, got !!int; fix: delete the tag",
        "u.yaml:9:11, e.f: the key 'f' is given twice, first in line 9; fix: delete one of the two",
    ]


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b: c", "u.yaml:1:5: this is not YAML: a ':' stands where none may stand; fix: quote"),
        ("a: [1, 2\nb: 3", "u.yaml:2:2: this is not YAML: the list opened in line 1 needs a ','"),
        ("a: 1\nb: 'x", "u.yaml:2:6: this is not YAML: the quote opened in line 2 is not closed"),
        (
            "a:\n\tb: 1",
            "u.yaml:2:1: this is not YAML: a tab cannot begin a value; fix: write spaces in its pl",
        ),
        ("é: 1\u2028b: @x", "u.yaml:2:4: this is not YAML: @ cannot begin a value; fix: quote the"),
        ("a: `x", "u.yaml:1:4: this is not YAML: ` cannot begin a value; fix: quote the text"),
        ("a: 1\n- b", "u.yaml:2:1: this is not YAML: this does not continue what was begun in li"),
        ("a: 1\nb\nc: 2", "u.yaml:3:1: this is not YAML: a ':' is missing after the key in line 2"),
        ("a: ]", "u.yaml:1:4: this is not YAML: a value must stand here"),
        ("a: 1\n---\nb: 1", "u.yaml:2:1: a file must hold one document, here a second begins"),
    ],
)
def test_syntax_faults_have_line_and_column(text, message, loader):
    with pytest.raises(DocumentError) as caught:
        build(text, "u.yaml", loader=loader)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "u.yaml is empty; fix: begin with a line 'architecture:'"),
        ("# only\n", "u.yaml is empty; fix: begin with a line 'architecture:'"),
        ("- a", "u.yaml:1: a document must be a mapping (lines of 'key: value'), got ['a']"),
        (
            "a: 1\nb: \x07",
            "u.yaml:2:4: must be text without control characters, got U+0007; "
            "fix: delete the character",
        ),
        (
            "a: 1234567890123456789012",
            "u.yaml:1:4, a: an integer must be below 18,446,744,073,709,551,616 in magnitude, "
            "got 1234567890123456789012",
        ),
    ],
)
def test_documents_that_are_none(text, message):
    with pytest.raises(InputError) as caught:
        parse_document(text, "u.yaml")
    assert str(caught.value) == message


HOSTILE = {
    "brackets": "[" * 200_000,
    "braces": "{a: " * 200_000,
    "dashes on one line": "- " * 200_000,
    "question marks": "? " * 200_000,
    "balanced brackets": "a: " + "[" * 200_000 + "]" * 200_000,
    "deep indentation": "".join(" " * i + "b:\n" for i in range(1000)),
    "ten megabytes": "a: 1\n" * 2_000_000,
    "long integer": "a: " + "1" * 900_000,
    "duplicates": "a: 1\n" * 20_000,
    "many values": "a: [" + "1," * 400_000 + "]",
    "aliases": "a: [" + "*a," * 30_000 + "]",
    "alias bomb": "a: &a [x, x]\n" + "".join(f"b{i}: &a [*a, *a]\n" for i in range(100)),
    "many documents": "---\n" * 200_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_refused_at_once(text):
    begin = time.process_time()
    with pytest.raises(InputError) as caught:
        parse_document(text, "u.yaml")
    assert time.process_time() - begin < 2  # of processor time: tests share the machine
    assert len(str(caught.value)) < 10_000


def test_many_faults_are_reported_quickly_and_counted():
    text = "architecture:\n" + "".join(f"  key_{i}: 1\n" for i in range(40_000))
    begin = time.process_time()
    lines = faults_of(text)
    assert time.process_time() - begin < 4
    assert len(lines) == 51
    assert lines[-1] == "… and 250 more faults in u.yaml"


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    (tmp_path / "large.yaml").write_bytes(b"#" * 10_000_000)
    expected = {
        tmp_path: f"{tmp_path} is a directory; fix: name a YAML file in it",
        tmp_path / "latn.yaml": f"{tmp_path}/latn.yaml: there is no such file; "
        f"did you mean {tmp_path}/latin.yaml?",
        tmp_path / "latin.yaml": f"{tmp_path}/latin.yaml:2: must be UTF-8 text, got byte 0xe9 at "
        "offset 11; fix: save the file as UTF-8",
        tmp_path / "large.yaml": f"{tmp_path}/large.yaml is larger than 1 MB, too large for a YAML "
        "file that describes networks",
        "a\0b": "a\\x00b cannot be read: embedded null byte",
        tmp_path / ("x" * 300): f"{tmp_path}/{'x' * 300} cannot be read: file name too long",
    }
    for source, message in expected.items():
        with pytest.raises(InputError) as caught:
            read_document(source)
        assert str(caught.value) == message


def test_only_a_similar_file_is_offered(tmp_path):
    (tmp_path / "base.yaml").touch()
    for name, offer in (("nofile.yaml", ""), ("b.yaml", ""), ("bse.yml", "base.yaml?")):
        with pytest.raises(InputError) as caught:
            read_document(tmp_path / name)
        assert str(caught.value).endswith(offer or "there is no such file")


def test_endless_device_is_refused():
    with pytest.raises(InputError, match="larger than 1 MB"):
        read_document("/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    (tmp_path / "u.yaml").touch(mode=0)
    with pytest.raises(InputError, match="permission denied"):
        read_document(tmp_path / "u.yaml")


# Validating


def test_valid_document():
    document = parse_document("architecture: {depth: 2, down: [max_pool, {type: max_pool}]}")
    model = validate(document, Small, ("architecture",))
    assert model == Small(depth=2, down=(MaxPool(), MaxPool()))


@pytest.mark.parametrize(
    ("field_text", "message"),
    [
        ("depth: three", "depth: must be an integer, got 'three' (text)"),
        ("depth: true", "depth: must be an integer, got true"),
        ("depth: 3.0", "depth: must be an integer, got 3.0; fix: write 3"),
        ("depth: '3'", "depth: must be an integer, got '3' (text); fix: write 3"),
        ("depth:", "depth: must be an integer, got nothing"),
        (
            "depth: [2, 3]",
            "depth: must be an integer, got [2, 3]; fix: for several values write "
            "{choice: [2, 3]} or {int: [2, 3]}",
        ),
        (
            "dropout: [0.2, 0.1]",
            "dropout: must be a number, got [0.2, 0.1]; fix: for several values write "
            "{choice: [0.2, 0.1]}",
        ),
        (
            "dropout: [0, 0.1]",
            "dropout: must be a number, got [0, 0.1]; fix: for several values write "
            "{choice: [0, 0.1]} or {float: [0, 0.1]}",
        ),
        (
            "down: {type: max_pool, kernel_size: [2, 3]}",
            "down.kernel_size: must be an integer, got [2, 3]; fix: for several values write "
            "{choice: [2, 3]} or {int: [2, 3]}",
        ),
        ("depth: [2, 9]", "depth: must be an integer, got [2, 9]"),
        ("depth: [2, 2]", "depth: must be an integer, got [2, 2]"),
        ("depth: 1e99", "depth: must be an integer, got 1e+99"),
        (
            "depth: {choices: [2, 3]}",
            "depth: must be an integer, got a mapping with choices; did you mean 'choice'?",
        ),
        (
            "down: {choices: [max_pool]}",
            "down: must have the key 'type', one of max_pool, strided_conv, got a mapping with "
            "choices; did you mean 'choice'?",
        ),
        ("trian: 3", "trian: unknown key 'trian'; did you mean 'train', the section?"),
        (
            "data: 3",
            "data: unknown key 'data'; fix: data is a section: write it beside the others, at "
            "the left",
        ),
        ("depth: 0", "depth: must be ≥ 1, got 0"),
        ("depth: 9", "depth: must be ≤ 8, got 9"),
        ("width: 1_000", "width: must be an integer, got '1_000' (text); fix: write 1000"),
        ("widht: 8", "widht: unknown key 'widht'; did you mean 'width'?"),
        (
            "zzz: 8",
            "zzz: unknown key 'zzz'; fix: the known keys are depth, width, down, kernel_size, "
            "padding, patch, dropout, bias, title, block",
        ),
        ("bias: yes", "bias: must be true or false, got 'yes' (text); fix: write true"),
        ("title: 3", "title: must be text, got 3; fix: write '3', in quotes"),
        ("dropout: .nan", "dropout: must be a finite number, got .nan"),
        ("dropout: 1", "dropout: must be < 1, got 1"),
        ("dropout: high", "dropout: must be a number, got 'high' (text)"),
        ("block: 3", "block: must be a mapping (lines of 'key: value'), got 3"),
        ("block: {conv: 3}", "block.conv: unknown key 'conv'; did you mean 'convs'?"),
        ("block: {squeeze: 3}", "block.squeeze: must be ≤ convs, got 3"),
        ("kernel_size: [3, 0]", "kernel_size[1]: must be ≥ 1, got 0"),
        ("patch: [3, x]", "patch[1]: must be an integer, got 'x' (text)"),
        ("patch: x", "patch: must be an integer or a list, got 'x' (text)"),
        (
            "padding: sme",
            "padding: must be an integer or one of 'same', 'valid', got 'sme' (text); "
            "did you mean 'same'?",
        ),
        ("padding: -1", "padding: must be ≥ 0 or one of 'same', 'valid', got -1"),
        (
            "down: maxpool",
            "down: must be one of max_pool, strided_conv, or a mapping with the key 'type', "
            "got 'maxpool'; did you mean 'max_pool'?",
        ),
        (
            "down: {type: strided}",
            "down.type: must be one of max_pool, strided_conv, got 'strided'; "
            "did you mean 'strided_conv'?",
        ),
        (
            "down: {kernel_size: 3}",
            "down: must have the key 'type', one of max_pool, strided_conv, "
            "got a mapping with kernel_size",
        ),
        ("down: {type: strided_conv}", "down.kernel_size: must be given, it has no default"),
        (
            "down: strided_conv",
            "down: kernel_size must be given, got 'strided_conv'; "
            "fix: write it as a mapping with the key 'kernel_size'",
        ),
        (
            "down: {type: strided_conv, kernel_size: 3, mode: refelct}",
            "down.mode: must be one of 'zeros', 'reflect', got 'refelct'; did you mean 'reflect'?",
        ),
        ("down: [max_pool]", "down: must have depth = 4 entries, got 1"),
        (
            "down: [max_pool, max_pool, {type: max_pool, kernel_size: 0}, max_pool]",
            "down[2].kernel_size: must be ≥ 1, got 0",
        ),
    ],
)
def test_messages(field_text, message):
    assert fault_of(field_text) == message


def test_all_faults_of_a_file_at_once_in_its_order():
    text = """\
architecture:
  block: {convs: 2, squeeze: 5}
  down:
    - {type: max_pool, kernel_size: 0}
    - maxpool
    - {type: strided_conv, kernel_size: 3, colour: red}
  width: 12
  bias: 3
  bias: true
budgte: {}
"""
    assert faults_of(text) == [
        "u.yaml:2, architecture.block.squeeze: must be ≤ convs, got 5",
        "u.yaml:4, architecture.down[0].kernel_size: must be ≥ 1, got 0",
        "u.yaml:5, architecture.down[1]: must be one of max_pool, strided_conv, or a mapping with "
        "the key 'type', got 'maxpool'; did you mean 'max_pool'?",
        "u.yaml:6, architecture.down[2].colour: unknown key 'colour'; "
        "fix: the known keys are type, kernel_size, mode",
        "u.yaml:7, architecture.width: must be a multiple of 8, got 12",
        "u.yaml:8, architecture.bias: must be true or false, got 3",
        "u.yaml:9:3, architecture.bias: the key 'bias' is given twice, first in line 8; "
        "fix: delete one of the two",
        "u.yaml:10, budgte: unknown section 'budgte'; did you mean 'budget'?",
    ]


def test_consequences_of_cutting_are_not_reported():
    # With the faulty depth cut, its default 4 stands in, and three entries would look wrong.
    text = "architecture:\n  depth: three\n  down: [max_pool, max_pool, max_pool]\n  width: 12\n"
    assert faults_of(text) == [
        "u.yaml:2, architecture.depth: must be an integer, got 'three' (text)",
        "u.yaml:4, architecture.width: must be a multiple of 8, got 12",
    ]
    # A required key that is wrong is not missing as well.
    assert fault_of("down: {type: strided_conv, kernel_size: x}") == (
        "down.kernel_size: must be an integer, got 'x' (text)"
    )


def test_rules_that_name_a_faulty_field_without_saying_so_are_held_back():
    class Loose(Model):
        depth: PositiveInt = 4
        features: tuple[int, ...] = ()

        @model_validator(mode="after")
        def _check(self) -> "Loose":
            if self.features and len(self.features) != self.depth + 1:
                raise ValueError(f"features must have depth + 1 = {self.depth + 1} entries")
            return self

    with pytest.raises(DocumentError) as caught:
        document = parse_document("architecture: {depth: 0, features: [1, 2]}", "u.yaml")
        validate(document, Loose, ("architecture",))
    assert str(caught.value) == "u.yaml:1, architecture.depth: must be ≥ 1, got 0"


def test_unknown_values_are_not_judged():
    assert faults_of("architecture:\n  down: &a max_pool\n  depth: *a\n  kernel_size: !x 3\n") == [
        "u.yaml:2:9, architecture.down: anchors and aliases are not allowed, got &a; "
        "fix: write the value out where it is used",
        "u.yaml:3:10, architecture.depth: anchors and aliases are not allowed, got *a; "
        "fix: write the value out",
        "u.yaml:4:16, architecture.kernel_size: tags are not allowed, got !x; fix: delete the tag",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth: 3", "depth: unknown section 'depth'; fix: indent it under 'architecture:'"),
        ("arch: {}", "arch: unknown section 'arch'; did you mean 'architecture'?"),
        ("data: {}", "architecture: this section must be given"),
        ("architecture:", "architecture: must be a mapping (lines of 'key: value'), got nothing"),
    ],
)
def test_sections(text, message):
    assert faults_of(text) == [f"u.yaml:1, {message}"]


def test_messages_stay_on_one_printable_line():
    text = 'architecture: {"zz\\nz\\e[2J": 1, depth: "x\\r\\ny"}'
    assert faults_of(text) == [
        "u.yaml:1, architecture.depth: must be an integer, got 'x\\r\\ny' (text)",
        "u.yaml:1, architecture['zz\\nz\\x1b[2J']: unknown key 'zz\\nz\\x1b[2J'; "
        "fix: the known keys are depth, width, down, kernel_size, padding, patch, dropout, bias, "
        "title, block",
    ]


def test_render_finds_the_nearest_line():
    document = Document("u.yaml", {"architecture": {}}, {("architecture",): 3})
    fault = Fault(("architecture", "down", 1), "must fit", "5", fix="write 4")
    assert render([fault], document) == (
        "u.yaml:3, architecture.down[1]: must fit, got 5; fix: write 4"
    )


# --set


@pytest.mark.parametrize(
    ("assignment", "tree"),
    [
        ("depth=5", {"depth": 5, "down": ["a", {"k": 1}]}),
        ("architecture.depth=5", {"depth": 5, "down": ["a", {"k": 1}]}),
        ("down[1].k=2", {"depth": 4, "down": ["a", {"k": 2}]}),
        ("down.1.k=2", {"depth": 4, "down": ["a", {"k": 2}]}),
        ("down={type: b}", {"depth": 4, "down": {"type": "b"}}),
        ("a.b.c=1e-3", {"depth": 4, "down": ["a", {"k": 1}], "a": {"b": {"c": 1e-3}}}),
        ("depth=", {"depth": None, "down": ["a", {"k": 1}]}),
    ],
)
def test_set_values(assignment, tree):
    document = parse_document("architecture: {depth: 4, down: [a, {k: 1}]}")
    changed = set_values(document, [assignment])
    assert changed.tree == {"architecture": tree}
    assert document.tree == {"architecture": {"depth": 4, "down": ["a", {"k": 1}]}}


def test_set_outside_the_architecture():
    document = set_values(parse_document("architecture: {}"), ["budget.memory=8GiB"])
    assert document.tree == {"architecture": {}, "budget": {"memory": "8GiB"}}


def test_faults_of_set_values_name_the_option():
    text = "architecture: {depth: 3, width: 12}"
    assert faults_of(text, ["depth=x", "block.convs=0"]) == [
        "u.yaml:1, architecture.width: must be a multiple of 8, got 12",
        "--set block.convs=0, architecture.block.convs: must be ≥ 1, got 0",
        "--set depth=x, architecture.depth: must be an integer, got 'x' (text)",
    ]


def test_set_values_that_lead_nowhere():
    text = "architecture: {down: [max_pool], title: a}"
    assignments = ["depth", "a b=1", "title.x=1", "down[3]=none", "down.x=1", "down[0]=[1,"]
    assert faults_of(text, assignments) == [
        "--set depth: must be path=value, such as depth=4, got 'depth'",
        "--set 'a b=1': must be a path such as depth or down[1].kernel_size, got 'a b'",
        "--set 'down[0]=[1,': this is not YAML: a value must stand here",
        "--set 'down[3]=none', architecture.down: has no entry [3]: its last entry is [0]",
        "--set down.x=1, architecture.down: has no key 'x': it is a list; "
        "fix: name an entry, such as architecture.down[0]",
        "--set title.x=1, architecture.title: has no key 'x': it is one plain value, got 'a'; "
        "fix: set architecture.title as a whole",
    ]


def test_long_paths_are_refused():
    (line,) = faults_of("architecture: {}", ["a" + ".a" * 100_000 + "=1"])
    assert "at most 64 parts, got 100001" in line


# Domains and paths


def test_find_domains():
    text = "architecture: {depth: {int: [3, 5]}, down: [{choice: [a, {choice: [b]}]}, {type: c}]}"
    assert find_domains(parse_document(text).tree) == [
        ("architecture", "depth"),
        ("architecture", "down", 0),
    ]


def test_format_path():
    assert format_path(("a", 0, 1, "b c", "d")) == "a[0][1]['b c'].d"


# Fuzzing

YAML_TEXT = """\
# comment
architecture:
  depth: 3
  down: [max_pool, {type: strided_conv, kernel_size: 3}, "max_pool"]
  kernel_size:
    - 3
    - 0x1F
  title: |
    some
    text
  block: {convs: 2, squeeze: ~}
"""
CHARACTERS = "[]{}:,-?&*!|>%@`'\"#\n\t \\~<.=\x00\x85\u2028\ufeff\ud800"
WORDS = ["---\n", "...\n", "%YAML 1.1\n", "<<: ", "? ", "- ", ": ", "\r\n", "&a ", "*a", "!!int "]
PIECES = st.sampled_from([*CHARACTERS, *WORDS, "[" * 70, '"\\ud800"', "9" * 30])


def read_or_refuse(text: str, loader: Any) -> None:
    try:
        build(text, "u.yaml", loader=loader)
        document = parse_document(text, "u.yaml", keep_faults=True)
        validate(document, Small, ("architecture",))
    except InputError as error:
        assert error.exit_code == 2
        assert "Error" not in str(error) or "Error" in text


@given(st.text(), st.sampled_from(LOADERS))
def test_random_text(text, loader):
    read_or_refuse(text, loader)


@given(st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join), st.sampled_from(LOADERS))
def test_random_yaml(text, loader):
    read_or_refuse(text, loader)


@given(
    st.lists(st.tuples(st.integers(0, len(YAML_TEXT)), st.integers(0, 9), PIECES), max_size=4),
    st.sampled_from(LOADERS),
)
def test_mutated_yaml(changes, loader):
    text = YAML_TEXT
    for place, length, piece in changes:
        text = text[:place] + piece + text[place + length :]
    read_or_refuse(text, loader)


@given(st.binary())
def test_random_bytes(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    file.write_bytes(data)
    with contextlib.suppress(InputError):
        read_document(file)


KEYS = st.sampled_from(
    [*Small.model_fields, "type", "mode", "convs", "squeeze", "one", "stages", "x", "int"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 99)
    | st.floats()
    | st.sampled_from(["max_pool", "strided_conv", "same", "x", ""])
)
TREES = st.recursive(
    SCALARS, lambda tree: st.lists(tree, max_size=4) | st.dictionaries(KEYS, tree), max_leaves=20
)


@given(st.dictionaries(KEYS, TREES))
def test_random_trees_are_valid_or_refused(tree):
    document = Document("u.yaml", {"architecture": tree}, {("architecture",): 1})
    try:
        validate(document, Small, ("architecture",))
    except DocumentError as error:
        assert error.faults
        for fault in error.faults:
            assert fault.path[0] == "architecture"
            assert "Input" not in fault.rule


@given(st.text() | st.lists(PIECES).map("".join))
def test_random_assignments(text):
    document = parse_document("architecture: {depth: 4, down: [a, {k: 1}]}")
    with contextlib.suppress(InputError):
        set_values(document, [text, f"depth={text}", f"down.{text}=1"])

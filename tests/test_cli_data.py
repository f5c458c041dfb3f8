"""``unet-nas data FILE``: what a person sees before a search."""

import json
import subprocess
import sys

import pytest

from unet_nas.cli import main

FILE = """\
architecture: {{depth: {{int: [1, 2]}}, classes: {classes}}}
data:
  source: {{type: synthetic, cases: 10, size: 16}}
"""


@pytest.fixture
def run(tmp_path, capsys):
    def run(text, *arguments):
        path = tmp_path / "a.yaml"
        path.write_text(text)
        code = 0
        try:
            main(["data", str(path), *arguments])
        except SystemExit as exit_:
            code = exit_.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_a_table_of_parts_and_classes(run):
    code, out, err = run(FILE.format(classes=3))
    assert code in (0, None)
    assert not err
    words = [line.split() for line in out.splitlines()]
    assert ["train", "6", "6", "16", "×", "16", "7.5", "KiB"] in words
    assert ["validation", "2", "2", "16", "×", "16", "2.5", "KiB"] in words
    assert any(line[:2] == ["shape", "2"] and line[3] == "%" for line in words)
    assert "note: images are generated" in out


def test_json_has_all_that_the_header_of_a_run_says(run):
    _, out, _ = run(FILE.format(classes=3), "--json", "--set", "data.source.cases=20")
    found = json.loads(out)
    assert found["parts"]["train"]["cases"] == 12
    assert found["class_names"] == ["background", "shape 1", "shape 2"]
    assert abs(sum(found["parts"]["test"]["class_shares"].values()) - 1) < 1e-9


def test_patches_larger_than_every_image_are_told(run):
    def printed(size, *arguments):
        text = f"{FILE.format(classes=3)}train: {{patch_size: {size}}}\n"
        return run(text, *arguments)[1]

    note = (
        "patches of 64x64 are larger than every image (at most 16x16) and are filled by "
        "mirroring, so costs are those of the patch"
    )
    assert f"note: {note}\n" in printed("64x64")
    assert note in json.loads(printed(64, "--json"))["notes"]
    for size in ("16x20", "{choice: [64, 128]}", "64x64x64", "wide"):
        assert "patches of" not in printed(size)


def test_a_network_for_other_data_is_told(run):
    code, out, err = run(FILE.format(classes=2))
    assert code == 2
    assert "validation" in out
    assert err == (
        "unet-nas: the data have 3 classes and the architecture 2 classes; fix: --set classes=3\n"
    )


def test_what_the_file_leaves_out_is_told_and_not_refused(run):
    text = FILE.replace(", classes: {classes}", "").format()
    code, out, err = run(text)
    assert (code in (0, None), err) == (True, "")
    assert out.endswith(
        "the networks take: spatial_dims 2, in_channels 1, classes 3 (search fills in what the "
        "file leaves out; space, audit and train need them written)\n"
    )
    _, out, _ = run(text, "--json")
    json.loads(out)


def test_mistakes_are_one_line_without_a_traceback(run):
    code, _, err = run("data: {source: nowhere}\n")
    assert code == 2
    assert err.startswith("unet-nas: data.source: there is no folder")
    assert err.count("\n") == 1
    code, _, err = run("data:\n  sorce: x\n")
    assert code == 2
    assert "a.yaml:2, data.sorce: unknown key 'sorce'; did you mean 'source'?" in err


def test_loading_data_imports_no_torch(tmp_path):
    (tmp_path / "a.yaml").write_text(FILE.format(classes=3))
    program = (
        "import sys\n"
        "from unet_nas.cli import main\n"
        "try:\n"
        "    main(['data', 'a.yaml'])\n"
        "except SystemExit as exit_:\n"
        "    assert not exit_.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_the_command_space_tells_defaults_that_the_data_will_replace(tmp_path, capsys):
    path = tmp_path / "a.yaml"
    path.write_text("architecture: {depth: {int: [1, 2]}, classes: 3}\ndata: {source: x.npz}\n")
    for text, told in [
        (path.read_text(), "note: the file leaves out spatial_dims, in_channels, so the defaults "),
        (path.read_text().replace("data:", "about:").replace("{source: x.npz}", "b"), ""),
    ]:
        path.write_text(text)
        with pytest.raises(SystemExit):
            main(["space", str(path), "--patch-size", "32", "--batch", "1"])
        err = capsys.readouterr().err
        assert (told in err) if told else ("note" not in err)

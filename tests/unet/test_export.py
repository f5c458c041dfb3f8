"""The command export: what it writes, refuses and never loses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.support.exporting import network, run
from unet_nas import files
from unet_nas.errors import InputError, UnetNasError
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.build import build
from unet_nas.unet.export import export
from unet_nas.unet.load import load_architecture

ROOT = Path(__file__).parents[2]
SMALL = Architecture(width=2, depth=1)


def test_the_command_writes_an_architecture_that_is_the_same_network(tmp_path, capsys):
    assert run("export", "preset:unet-2015", "--to", tmp_path / "new", "--set", "width=4") == 0
    written = [tmp_path / "new" / name for name in ("architecture.yaml", "model.py")]
    assert capsys.readouterr().out.split() == list(map(str, written))
    assert sorted((tmp_path / "new").iterdir()) == written
    wanted = load_architecture("preset:unet-2015", ["width=4"])
    assert load_architecture(written[0]).digest() == wanted.digest()
    assert written[1].read_text("utf-8").startswith('"""unet-2015: a U-Net in plain PyTorch')


def test_a_file_gives_its_name_and_its_text_goes_round(tmp_path):
    source = tmp_path / "mine.yaml"
    source.write_text("architecture: {width: 4, depth: 2}\n", "utf-8")
    assert run("export", source, "--to", tmp_path / "a", "--patch-size", "40x44") == 0
    assert run("export", tmp_path / "a" / "architecture.yaml", "--to", tmp_path / "b") == 0
    first, second = ((tmp_path / d / "architecture.yaml").read_bytes() for d in "ab")
    assert first == second == b"name: mine\narchitecture: {depth: 2, width: 4}\n"
    assert "for one input of 40x44" in (tmp_path / "a" / "model.py").read_text("utf-8")


def test_weights_come_along_under_the_names_of_the_file(tmp_path):
    ours = build(SMALL).eval()
    save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    export(SMALL, tmp_path, weights=tmp_path / "ours.safetensors")
    theirs = network(tmp_path).eval()
    theirs.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    x = torch.randn(1, 1, 16, 16)
    assert torch.equal(ours(x), theirs(x))
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "digest": SMALL.digest()}


def test_weights_of_another_network_are_refused(tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    save_file(build(Architecture(width=4, depth=1)).state_dict(), other)
    with pytest.raises(InputError, match=r"encoder\.stages\.0\.convs\.0\.conv\.weight is 4x1x3x3"):
        export(SMALL, tmp_path / "to", weights=other)
    other.write_bytes(b"no tensors")
    with pytest.raises(InputError, match="cannot read the weights"):
        export(SMALL, tmp_path / "to", weights=other)
    with pytest.raises(InputError, match="cannot read the weights"):
        export(SMALL, tmp_path / "to", weights=tmp_path / "absent.safetensors")
    assert not (tmp_path / "to").exists()


def test_nothing_is_overwritten_unless_told(tmp_path, capsys):
    (tmp_path / "model.py").write_text("mine")
    assert run("export", "preset:phasenet", "--to", tmp_path) == 2
    assert "model.py exists already; --force replaces it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.py"]
    assert (tmp_path / "model.py").read_text() == "mine"
    assert run("export", "preset:phasenet", "--to", tmp_path, "--force") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["architecture.yaml", "model.py"]


def test_no_network_is_put_beside_weights_of_another(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"of another")
    with pytest.raises(InputError, match="may be of another network"):
        export(SMALL, tmp_path, force=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preset:unet-2015", "--patch-size", "100x100"], "needs"),
        (["preset:nothing"], "no preset is called"),
        (["preset:unet-2015", "--set", "width={int: [4, 8]}"], "domain"),
        (["preset:unet-2015", "--set", "padding=same", "--set", "align=strict"], None),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_sentence(tmp_path, capsys, arguments, message):
    assert run("export", *arguments, "--to", tmp_path) == (2 if message else 0)
    errors = capsys.readouterr().err
    assert (message or "") in errors
    assert "Traceback" not in errors


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file.*: "):
        export(SMALL, tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot write to .*file/in"):
        export(SMALL, tmp_path / "file" / "in")


def test_a_full_disk_leaves_the_old_files_whole(tmp_path, monkeypatch):
    export(SMALL, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UnetNasError, match="no space left on device"):
        export(Architecture(width=3, depth=2), tmp_path, force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_files_have_the_permissions_of_new_files(tmp_path):
    (tmp_path / "plain").touch()
    files.write_files(tmp_path, {"written": b""})
    modes = [(tmp_path / name).stat().st_mode for name in ("plain", "written")]
    assert modes[0] == modes[1]


def test_export_does_without_torch(tmp_path):
    code = (
        "import sys; from unet_nas.cli import main\n"
        f"try: main(['export', 'preset:phasenet', '--to', {str(tmp_path)!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr

from pathlib import Path

import pytest
from torch import nn

from unet_nas.errors import InputError
from unet_nas.profile.foreign import in_channels_of, load_foreign
from unet_nas.profile.names import parse_foreign

NETWORKS = """
from torch import nn

number = 3

class Nets:
    @staticmethod
    def make():
        return nn.Conv1d(2, 3, 1)

def good():
    return nn.Conv2d(5, 3, 1)

def needs(width, *, depth):
    return nn.Conv2d(5, width, 1)

def raises():
    raise RuntimeError("no\\nweights")

def leaves():
    raise SystemExit("bye")

def text():
    return "a network"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foreign_nets.py").write_text(NETWORKS)
    (tmp_path / "foreign_broken.py").write_text("import no_such_library")
    (tmp_path / "foreign_raising.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])


@pytest.mark.parametrize(("factory", "kind"), [("good", nn.Conv2d), ("Nets.make", nn.Conv1d)])
def test_a_factory_of_the_current_directory(factory: str, kind: type) -> None:
    assert type(load_foreign(f"python:foreign_nets:{factory}")) is kind


def test_a_class_of_an_installed_package() -> None:
    assert isinstance(load_foreign("python:torch.nn:ReLU"), nn.ReLU)


REFUSED = {
    "python:no_such_package.nets:make": "there is no module 'no_such_package' in ",
    "python:torch.no_such_module:make": "there is no module 'torch.no_such_module' in ",
    "python:foreign_broken:make": "importing foreign_broken raised ModuleNotFoundError: No module "
    "named 'no_such_library'",
    "python:foreign_raising:make": "importing foreign_raising raised ZeroDivisionError: division "
    "by zero",
    "python:foreign_nets:absent": "foreign_nets has no 'absent'",
    "python:foreign_nets:number": "number must be callable, got int",
    "python:foreign_nets:needs": "the factory must be callable without arguments, but takes "
    "(width, *, depth); write a function that fills them in",
    "python:foreign_nets:raises": "the factory raised RuntimeError: no weights",
    "python:foreign_nets:leaves": "the factory raised SystemExit: bye",
    "python:foreign_nets:text": "the factory must return a torch.nn.Module, got str",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said(name: str) -> None:
    with pytest.raises(InputError) as error:
        load_foreign(name)
    assert str(error.value).startswith(f"{name}: {REFUSED[name]}")


@pytest.mark.parametrize("name", ["python:nets", "python::make", "nets:make", "python:a b:c", ""])
def test_a_name_of_another_form(name: str) -> None:
    with pytest.raises(InputError, match=r"must be named python:package.module:factory, got "):
        parse_foreign(name)


def test_channels_are_those_of_the_first_convolution() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Conv3d(7, 2, 1), nn.Conv3d(2, 1, 1))
    assert in_channels_of("python:a:b", net) == 7


@pytest.mark.parametrize("net", [nn.Linear(3, 4), nn.LazyConv2d(3, 1)])
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_without_a_convolution_the_channels_must_be_given(net: nn.Module) -> None:
    with pytest.raises(InputError, match=r"python:a:b: .*give --in-channels"):
        in_channels_of("python:a:b", net)

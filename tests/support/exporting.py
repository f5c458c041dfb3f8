"""The command line, and the networks that it exports."""

from pathlib import Path

import torch

from unet_nas import cli


def run(*arguments: object) -> int:
    """Returns the exit code of the command line."""
    try:
        cli.main(list(map(str, arguments)))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def network(folder: Path) -> torch.nn.Module:
    """Returns the network of an exported folder, with fresh weights."""
    scope: dict = {"__name__": "exported"}
    exec((folder / "model.py").read_text("utf-8"), scope)
    return scope["UNet"]()

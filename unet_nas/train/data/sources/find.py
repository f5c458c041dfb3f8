"""From the field ``source`` to a list of cases."""

from __future__ import annotations

from pathlib import Path

from unet_nas.errors import InputError
from unet_nas.train.data.config import DataConfig
from unet_nas.train.data.paths import resolve
from unet_nas.train.data.raw import Listing
from unet_nas.train.data.sources import folder, function, npz, synthetic
from unet_nas.train.data.sources.options import Builtin, Folder, NnUNet, Npz, Python, Synthetic

__all__ = ["list_source"]


def list_source(config: DataConfig, base: Path) -> Listing:
    """Lists the cases of the source of a section ``data``.

    Raises:
        InputError: if there are none, or they are not as they must be.
    """
    match config.source:
        case Folder() as source if _is_nnunet(source, base):
            return _nnunet(source.path, config, base)
        case Folder() as source if _is_arrays(source, base):
            return npz.list_cases(Npz(path=source.path), config, base)
        case Folder() as source:
            return folder.list_cases(source, config, base)
        case NnUNet() as source:
            return _nnunet(source.path, config, base)
        case Npz() as source:
            return npz.list_cases(source, config, base)
        case Synthetic() as source:
            return synthetic.list_cases(source, config, base)
        case Python() as source:
            return function.list_cases(source, config, base)
        case Builtin() as source:
            from unet_nas.train.data.sources import brain  # noqa: PLC0415 - loads nibabel

            return brain.list_cases(source, config, base)


def _nnunet(path: str, config: DataConfig, base: Path) -> Listing:
    from unet_nas.train.data.sources import nnunet  # noqa: PLC0415

    return nnunet.list_cases(path, config, base)


def _is_nnunet(source: Folder, base: Path) -> bool:
    return (resolve(source.path, base) / "dataset.json").is_file()


def _is_arrays(source: Folder, base: Path) -> bool:
    """Tells whether a folder holds nothing but ``.npz`` files that could be cases."""
    path = resolve(source.path, base)
    if path.is_file():
        raise InputError(
            f"data.source: {path} must be a folder, an .npz file, synthetic, "
            "builtin:mni152_tissue or python:module:function"
        )
    return path.is_dir() and any(path.glob("*.npz")) and not (path / source.images).is_dir()

"""Files that are whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from unet_nas.errors import InputError, UnetNasError


def write_files(folder: Path, files: Mapping[str, bytes], *, force: bool = False) -> list[Path]:
    """Writes files into a folder, which is made if it is not there.

    Nothing is renamed into place before all is on the disk, and whoever reads a file at any
    moment finds the old one or the new one whole.

    Args:
        folder: where to.
        files: content by name.
        force: replace files that are there.

    Returns:
        The paths, in the order given.

    Raises:
        InputError: if one of the files is there and ``force`` is not set, or if the folder
            cannot be made or written to.
        UnetNasError: if writing fails on the way, for want of space say.
    """
    present = [name for name in files if os.path.lexists(folder / name)]
    if present and not force:
        raise InputError(f"{folder / present[0]} exists already; --force replaces it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "no permission to write", str(folder))
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {_reason(error)}") from error
    waiting: dict[Path, Path] = {}
    try:
        for name, content in files.items():
            waiting[_beside(folder / name, content)] = folder / name
        for temporary, path in waiting.items():
            temporary.replace(path)
        _sync(folder)
    except OSError as error:
        raise UnetNasError(f"cannot write to {folder}: {_reason(error)}") from error
    finally:
        for temporary in waiting:
            temporary.unlink(missing_ok=True)
    return list(waiting.values())


def _beside(path: Path, content: bytes) -> Path:
    """Writes a temporary file next to ``path`` and waits until it is on the disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the system can do so."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

"""Files and folders that a section names, looked for beside it first."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from unet_nas.errors import InputError
from unet_nas.train.data.names import listed

__all__ = ["find_file", "find_folder", "resolve"]


def resolve(path: str, base: Path) -> Path:
    """Returns a path as it lies under ``base``, or else under the working directory."""
    given = Path(path).expanduser()
    beside = base / given
    return beside if given.is_absolute() or beside.exists() or not given.exists() else given


def find_folder(path: str, base: Path, field: str) -> Path:
    """Returns a folder that is there.

    Raises:
        InputError: if it is not, with the nearest name that is.
    """
    found = resolve(path, base)
    if found.is_dir():
        return found
    if found.exists():
        raise InputError(f"{field}: {found} must be a folder, and is a file")
    raise InputError(f"{field}: there is no folder {found}{_nearest(found)}")


def find_file(path: str, base: Path, field: str) -> Path:
    """Returns a file that is there.

    Raises:
        InputError: if it is not, with the nearest name that is.
    """
    found = resolve(path, base)
    if found.is_file():
        return found
    if found.is_dir():
        raise InputError(f"{field}: {found} must be a file, and is a folder")
    raise InputError(f"{field}: there is no file {found}{_nearest(found)}")


def _nearest(path: Path) -> str:
    """Says which part of a path is there, and what is nearest to what is not."""
    missing = path
    while not missing.parent.exists() and missing.parent != missing:
        missing = missing.parent
    try:
        there = sorted(p.name for p in missing.parent.iterdir() if not p.name.startswith("."))
    except OSError:
        return ""
    by_case = {name.lower(): name for name in there}
    near = get_close_matches(missing.name.lower(), list(by_case), n=1)
    if near:
        return f"; did you mean {missing.parent / by_case[near[0]]}?"
    return f"; {missing.parent} holds {listed(there, most=5) if there else 'nothing'}"

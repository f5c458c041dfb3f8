"""Names of cases: of files without their endings, and a few of them in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

__all__ = ["ENDINGS", "by", "ending", "listed", "stem"]

ENDINGS = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", ".npz")
"""Of the files that can be read; BMP comes with Pillow."""


def ending(name: str) -> str:
    """Returns the ending of a file that can be read, in lower case, or nothing.

    >>> ending("brain.NII.gz"), ending("notes.txt")
    ('.nii.gz', '')
    """
    return next((known for known in ENDINGS if name.lower().endswith(known)), "")


def stem(name: str) -> str:
    """Returns the name of a file without folder and ending.

    >>> stem("images/a.b.tif"), stem("brain_0000.nii.gz"), stem("patient 1")
    ('a.b', 'brain_0000', 'patient 1')
    """
    short = PurePath(name).name
    return short[: len(short) - len(ending(short))]


def listed(names: Sequence[str], most: int = 3) -> str:
    """Writes the first few names, and how many there are besides.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    if len(names) <= most + 1:
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def by(shape: Sequence[int]) -> str:
    """Writes a shape.

    >>> by((256, 128))
    '256×128'
    """
    return "×".join(map(str, shape))

"""How networks of others are named; no torch here, so that a name can be refused at once."""

from __future__ import annotations

from unet_nas.errors import InputError

PREFIX = "python:"


def is_foreign(name: str) -> bool:
    """Tells whether a name asks for a network of somebody else's."""
    return name.startswith(PREFIX)


def parse_foreign(name: str) -> tuple[str, str]:
    """Splits ``python:package.module:factory`` into module and factory.

    Raises:
        InputError: if the name has another form.

    >>> parse_foreign("python:monai.networks.nets:BasicUNet")
    ('monai.networks.nets', 'BasicUNet')
    """
    module, colon, factory = name.removeprefix(PREFIX).partition(":")
    words = [*module.split("."), *factory.split(".")]
    if not is_foreign(name) or not colon or not all(word.isidentifier() for word in words):
        raise InputError(
            f"a network of Python code must be named python:package.module:factory, got {name!r}"
        )
    return module, factory

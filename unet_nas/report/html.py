"""What a page writes numbers and text with: everything is escaped in one place, by Jinja."""

from __future__ import annotations

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unet_nas.report.quantities import Quantity

__all__ = ["data_uri", "environment", "exact", "number"]


def environment() -> Environment:
    """Returns the templates of the package; what is put into them is escaped."""
    return Environment(
        loader=PackageLoader("unet_nas.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def number(quantity: Quantity, value: float | None) -> Markup:
    """Returns a number for people, with the record's exact value in the element.

    >>> from unet_nas.report.quantities import COSTS
    >>> print(number(COSTS["parameters"], 31030658))
    <data value="31030658" title="parameters: 31,030,658">31.03M</data>
    """
    if value is None:
        return Markup('<span class="none">–</span>')
    unit = "bytes" if quantity.unit == "MiB" else quantity.unit
    said = f"{int(value):,}" if float(value).is_integer() else repr(value)
    title = f"{quantity.title}: {said} {unit}".rstrip()
    return Markup('<data value="{}" title="{}">{}</data>').format(
        exact(value), title, quantity.text(value)
    )


def exact(value: float) -> str:
    """Writes a number so that it is read back as the same.

    >>> exact(31030658.0), exact(0.1)
    ('31030658', '0.1')
    """
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def data_uri(content: bytes, kind: str) -> str:
    """Returns a file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def json_for_script(text: str) -> Markup:
    """Makes JSON safe inside a script element: nothing in it can end the element."""
    safe = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(safe.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))

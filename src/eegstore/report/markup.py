"""HTML and SVG made of elements: whatever is not markup already is escaped, and on one line."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any, Final

from eegstore.wording import printable

VOID: Final = frozenset({"meta", "img", "br", "link", "input"})
MAX_TEXT: Final = 400


class Markup(str):
    """Text that is HTML or SVG; ``element`` and ``joined`` make it, and files of this package."""

    __slots__ = ()


Content = str | float | None | Iterable[Any]


def escaped(text: str) -> str:
    """Text of any origin, as it stands in an element or in a quoted attribute."""
    return html.escape(printable(text), quote=True)


def shortened(text: str, limit: int) -> str:
    """The text, its end replaced by an ellipsis where it is longer than ``limit`` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def coordinate(value: float) -> str:
    """A number of an attribute, to a tenth of a unit of the drawing."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _attribute(name: str, value: Any) -> str:
    shown = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {shown}"
    if isinstance(value, float):
        value = coordinate(value)
    return f' {shown}="{escaped(str(value))}"'


def joined(*contents: Content) -> Markup:
    """Contents one after the other: markup as it is, all else escaped."""
    return Markup("".join(_text(one) for one in contents))


def _text(content: Content) -> str:
    if content is None:
        return ""
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return escaped(content)
    if isinstance(content, int | float):
        return str(content)
    return "".join(_text(one) for one in content)


def element(tag: str, *contents: Content, **attributes: Any) -> Markup:
    """An element of HTML or SVG.

    Parameters
    ----------
    tag
        Its name.
    contents
        What is inside: strings are escaped, ``Markup`` is not; None is nothing.
    attributes
        ``class_`` and ``for_`` lose their underscore, inner ones become hyphens; None and False
        leave the attribute out; floats are rounded to a tenth.
    """
    given = "".join(
        _attribute(name, value)
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in VOID:
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{joined(*contents)}</{tag}>")


def data(text: str, limit: int = MAX_TEXT) -> Markup:
    """Text out of a store: in its own direction, and not endless."""
    return element("bdi", shortened(text, limit), title=text[:2000] if len(text) > limit else None)

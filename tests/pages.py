"""A page of HTML as a tree, parsed strictly: whatever is opened is closed, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input"}
RAW = {"script", "style"}


@dataclass
class Element:
    """An element, its attributes, and what is inside: elements and text."""

    tag: str
    attributes: dict[str, str | None]
    inside: list[Element | str] = field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        """This element and all below it, in order."""
        yield self
        for one in self.inside:
            if isinstance(one, Element):
                yield from one.walk()

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """The elements of a tag with such attributes, ``class_`` being one of the classes."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        found = []
        for one in self.walk():
            values = {name: one.attributes.get(name) for name in wanted}
            if "class" in wanted and wanted["class"] in (values["class"] or "").split():
                values["class"] = wanted["class"]
            if one.tag == tag and values == wanted:
                found.append(one)
        return found

    def one(self, tag: str, **attributes: str) -> Element:
        """The only such element."""
        [found] = self.all(tag, **attributes)
        return found

    def text(self) -> str:
        """All text, without markup."""
        return "".join(one if isinstance(one, str) else one.text() for one in self.inside)

    def rows(self) -> list[list[str]]:
        """The cells of a table, its head first."""
        return [[cell.text() for cell in row.inside if isinstance(cell, Element)]
                for row in self.all("tr")]  # fmt: skip


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        one = Element(tag, dict(attrs))
        self.open[-1].inside.append(one)
        if tag not in VOID:
            self.open.append(one)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, (tag, [one.tag for one in self.open])
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def parse(text: str) -> Element:
    """The page's tree; fails where an element is not closed, or an attribute is there twice."""
    assert text.startswith("<!DOCTYPE html>")
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == [parser.root], [one.tag for one in parser.open]
    return parser.root


def number(text: str) -> float:
    """A number as the page writes it."""
    return float(text.replace("−", "-").replace(",", "").removesuffix("%").strip())

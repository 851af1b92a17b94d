"""A figure: drawings with names, how to read them, and the numbers behind them as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from eegstore.report.markup import Content, Markup, element, joined, shortened
from eegstore.report.scales import counted

WIDTH: Final = 440.0
MAX_SERIES: Final = 6
MAX_LISTED: Final = 200
MAX_CELL: Final = 120
# How the second part of a bar and those after it are hatched, in a legend's swatch.
HATCHES: Final = {
    2: "M10 13L20 3M18 13L28 3M26 13L31 8",
    3: "M8 6H32M8 10H32",
    4: "M10 13L20 3M20 13L30 3M10 3L20 13M20 3L30 13",
    5: "M14 2V14M20 2V14M26 2V14",
    6: "M14 2V14M20 2V14M26 2V14M8 8H32",
}


@dataclass(frozen=True)
class DataTable:
    """The numbers of a figure.

    Parameters
    ----------
    caption
        What the rows are.
    head
        Names of the columns; the first column names its row.
    rows
        Cells, one for each name: text to the left, or markup.
    words
        Columns, by number, that hold text and not numbers.
    left_out
        How many rows more there are, which is said beneath.
    """

    caption: str
    head: Sequence[Content]
    rows: Sequence[Sequence[Content]]
    words: frozenset[int] = field(default=frozenset())
    left_out: int = 0

    def markup(self, key: str) -> Markup:
        """The table inside a box that scrolls where it is wider than the page."""
        caption = element("caption", self.caption, id=f"{key}-caption")
        head = element(
            "tr", *(element("th", one, scope="col", class_=self._kind(number))
                    for number, one in enumerate(self.head)),
        )  # fmt: skip
        body = [self._row(row) for row in self.rows]
        table = element("table", caption, element("thead", head), element("tbody", body))
        box = element(
            "div", table, class_="scroll", role="region", tabindex="0",
            aria_labelledby=f"{key}-caption",
        )  # fmt: skip
        more = f"{counted(self.left_out, 'more row is', 'more rows are')} not listed."
        return joined(box, element("p", more, class_="small-print") if self.left_out else None)

    def _row(self, row: Sequence[Content]) -> Markup:
        cells = [
            element(
                "td" if number else "th",
                shortened(cell, MAX_CELL)
                if isinstance(cell, str) and not isinstance(cell, Markup) else cell,
                scope=None if number else "row",
                class_=self._kind(number),
            )
            for number, cell in enumerate(row)
        ]  # fmt: skip
        return element("tr", cells)

    def _kind(self, number: int) -> str | None:
        return "w" if number == 0 or number in self.words else None


def listed(
    caption: str, head: Sequence[Content], rows: Iterable[Sequence[Content]], n_rows: int
) -> DataTable:
    """A table of as many of the rows, of which there are ``n_rows``, as a page lists."""
    shown = list(islice(rows, MAX_LISTED))
    return DataTable(caption, head, shown, left_out=n_rows - len(shown))


def drawing(
    key: str, title: str, description: str, *contents: Content,
    width: float = WIDTH, height: float, least: float = 0.0, class_: str | None = None,
) -> Markup:  # fmt: skip
    """An SVG drawing that has a name and a description; it is ``least`` wide, in pixels."""
    no_less = f"min-width:{least:.0f}px;" if least else ""
    return element(
        "svg",
        element("title", title or description, id=f"{key}-title"),
        element("desc", description, id=f"{key}-desc"),
        *contents,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{key}-title",
        aria_describedby=f"{key}-desc",
        class_=class_,
        style=f"{no_less}max-width:{width * 1.15:.0f}px",
    )


def legend(names: Sequence[Content], kind: str = "line") -> Markup:
    """The names of series, each with the mark that the drawings show it by."""
    entries = [
        element("li", _swatch(number, kind), element("span", name))
        for number, name in enumerate(names, 1)
    ]
    return element("ul", entries, class_="legend", aria_label="Legend")


def _swatch(number: int, kind: str) -> Markup:
    if kind == "line":
        mark = element("path", d="M1 8H35", class_=f"line s{number}")
    elif kind == "bar":
        box = element("rect", x="8", y="2", width="24", height="12", class_=f"bar b{number}")
        hatch = (
            element("path", d=HATCHES[number], class_=f"hatch s{number}") if number > 1 else None
        )
        mark = joined(box, hatch)
    else:
        mark = element("path", d=symbol(number, 8, 8, 5), class_=f"dot f{number}")
    width = 16 if kind == "dot" else 36
    return element("svg", mark, viewBox=f"0 0 {width} 16", aria_hidden="true", class_="swatch",
                   style=f"width:{width}px")  # fmt: skip


def symbol(number: int, x: float, y: float, r: float = 3.0) -> str:
    """The outline of a series' mark around a place: they differ in shape as well as in colour."""
    half, third = 0.8 * r, r / 3
    shapes = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - half:.1f} {y - half:.1f}h{2 * half:.1f}v{2 * half:.1f}h{-2 * half:.1f}z",
        f"M{x:.1f} {y - r:.1f}l{r:.1f} {1.8 * r:.1f}h{-2 * r:.1f}z",
        f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f}l{-r:.1f} {r:.1f}l{-r:.1f} {-r:.1f}z",
        f"M{x:.1f} {y + r:.1f}l{r:.1f} {-1.8 * r:.1f}h{-2 * r:.1f}z",
        f"M{x - r:.1f} {y - third:.1f}h{2 * third:.1f}v{-2 * third:.1f}h{2 * third:.1f}"
        f"v{2 * third:.1f}h{2 * third:.1f}v{2 * third:.1f}h{-2 * third:.1f}v{2 * third:.1f}"
        f"h{-2 * third:.1f}v{-2 * third:.1f}h{-2 * third:.1f}z",
    )
    return shapes[(number - 1) % len(shapes)]


def figure(
    key: str, title: str, graphics: Sequence[Markup], caption: Content, table: DataTable | None,
    *, key_of: Content = None, class_: str = "panels",
) -> Markup:  # fmt: skip
    """A figure with its heading, legend, drawings, caption, and the table of its numbers.

    Parameters
    ----------
    key
        Its id, which no other element of the page has.
    title
        Its heading.
    graphics
        Drawings, side by side where there is room.
    caption
        How to read it, from how many trials it is, and what the intervals are.
    table
        The numbers, which whoever sees no drawing reads instead.
    key_of
        The legend.
    class_
        How the drawings are laid out.
    """
    details = None
    if table is not None:
        details = element(
            "details",
            element("summary", "Data table", element("span", f" of {title}", class_="unseen")),
            table.markup(key),
        )
    return element(
        "figure",
        element("h3", title, id=f"{key}-head"),
        key_of,
        element("div", joined(graphics), class_=class_),
        element("figcaption", caption),
        details,
        id=key,
        aria_labelledby=f"{key}-head",
    )

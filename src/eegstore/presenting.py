"""The rows and figures that everything shown in a terminal is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from eegstore.wording import printable

UNITS = ("B", "kB", "MB", "GB", "TB")


def size(n_bytes: float) -> str:
    """Bytes as a person reads them: three digits and a decimal unit."""
    unit = 0
    while n_bytes >= 999.5 and unit < len(UNITS) - 1:
        n_bytes, unit = n_bytes / 1000, unit + 1
    return f"{n_bytes:.3g} {UNITS[unit]}" if unit else f"{n_bytes:.0f} B"


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    irregular = {"stimulus": "stimuli"}.get(noun, f"{noun}s")
    return f"{count:,} {noun if count == 1 else irregular}"


def new_table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table without lines; the columns of ``numbers`` are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    return table


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row; text is shown as it is, never read as markup."""
    table.add_row(*(as_text(cell) if isinstance(cell, str) else cell for cell in cells))


def as_text(text: str, style: str = "") -> Text:
    """A line that is shown as it is; names in data drive no terminal."""
    return Text(printable(text), style=style)


def shape_text(shape: Sequence[int]) -> str:
    """A shape, such as ``400 × 14``."""
    return " × ".join(f"{length:,}" for length in shape)


def titled(title: str, facts: str, notice: str) -> Iterator[RenderableType]:
    """A title with a few facts, and the sentence that every output repeats."""
    yield Text.assemble((printable(title), "bold"), "  ", facts)
    if notice:
        yield as_text(notice, style="yellow")
    yield ""

"""Draws what a search found as one picture: every image in a cell, with its rank and score."""

from __future__ import annotations

import io
import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.errors import InputError, UsageError
from eegstore.images import Images
from eegstore.root import refuse_inside_store
from eegstore.search import Search
from eegstore.store import Store
from eegstore.wording import printable

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

N_COLUMNS: Final = 5
SIDE: Final = 160  # pixels of an image's longer side
GAP: Final = 12
FRAME: Final = 4
LINE: Final = 18
TITLE: Final = 30
PAPER, INK, FAINT, RIGHT = "#ffffff", "#1a1a1a", "#5f5f5f", "#0b7a3b"
SUFFIX: Final = ".png"


@dataclass(frozen=True, eq=False)
class Cell:
    """An image, uint8 (y, x, 3), or why it is missing, with two lines below it.

    ``is_true`` ones have a frame.
    """

    image: NDArray[np.uint8] | str
    first: str
    second: str
    is_true: bool


def check_sheet(out: Path) -> None:
    """Refuse a place that no sheet can be written to, before anything is searched.

    Raises
    ------
    UsageError
        Where the name has another suffix.
    InputError
        Where it lies in a store, or is a folder.
    """
    if out.suffix.lower() != SUFFIX:
        raise UsageError(f"--sheet {out}: expected a name that ends in {SUFFIX}")
    refuse_inside_store(out)
    if out.is_dir():
        raise InputError(f"{out}: a folder, expected a file to write")


def draw_sheet(
    store: Store, found: Search, out: Path, asked: NDArray[np.uint8] | None = None
) -> Path:
    """Write a PNG file: what was asked for first, where it is an image; then the hits in order.

    In the place of an image that cannot be read any more is the reason.

    Parameters
    ----------
    store
        The store that was searched; its images are read from the provider's own files.
    found
        What was found.
    out
        A file whose name ends in ``.png``; one that is there is replaced.
    asked
        uint8, (y, x, 3): the image that was asked for; of a trial, the one that it is paired with.

    Raises
    ------
    UsageError, InputError
        As ``check_sheet``; where the file cannot be written.
    InputError, PluginError
        As ``Store.image``, where none of the images can be read any more.
    """
    check_sheet(out)
    cells, images = [], Images(store)
    if found.true is not None:
        true = found.true
        own = "shown" if found.mark == "true" else found.mark
        cells.append(_cell(images, true.stimulus, own, true.concept, is_true=True))
    elif asked is not None:
        cells.append(Cell(asked, "asked for", "", False))
    for one in found.hits:
        label = f"{one.rank}   {one.score:.3f}" + (f"   {found.mark}" if one.is_true else "")
        cells.append(_cell(images, one.stimulus, label, one.concept, is_true=one.is_true))
    if images.none_read and images.problem is not None:
        raise images.problem
    title = f"{found.asked}: {found.query} in {found.gallery}"
    _write(out, _png(_drawn(cells, title)))
    return out


def _cell(images: Images, stimulus: int, first: str, second: str, *, is_true: bool) -> Cell:
    image = images.read(stimulus)
    shown = str(images.lost[stimulus]) if image is None else image
    return Cell(shown, first, second, is_true)


def image_box(number: int) -> tuple[int, int, int, int]:
    """Where the image of a cell may be: left, top, right, bottom."""
    row, column = divmod(number, N_COLUMNS)
    left = GAP + column * (SIDE + 2 * GAP)
    top = TITLE + GAP + row * (SIDE + 2 * LINE + 2 * GAP)
    return left, top, left + SIDE, top + SIDE


def _drawn(cells: Sequence[Cell], title: str) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    n_rows = -(-len(cells) // N_COLUMNS)
    width = min(len(cells), N_COLUMNS) * (SIDE + 2 * GAP)
    height = TITLE + n_rows * (SIDE + 2 * LINE + 2 * GAP)
    sheet = Image.new("RGB", (max(width, 3 * SIDE), height), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    draw.text((GAP, GAP), _fitting(title, font, sheet.width - 2 * GAP), INK, font)
    for number, cell in enumerate(cells):
        _draw_cell(sheet, draw, font, image_box(number), cell)
    return sheet


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, font: Any, box: tuple[int, int, int, int],
    cell: Cell,
) -> None:  # fmt: skip
    if isinstance(cell.image, str):
        _draw_reason(draw, font, box, cell.image)
    else:
        _paste(sheet, box, cell.image)
    if cell.is_true:
        edges = (box[0] - FRAME, box[1] - FRAME, box[2] + FRAME - 1, box[3] + FRAME - 1)
        draw.rectangle(edges, outline=RIGHT, width=FRAME)
    lines = ((cell.first, RIGHT if cell.is_true else INK), (cell.second, FAINT))
    for number, (text, colour) in enumerate(lines):
        place = (box[0], box[3] + FRAME + 2 + number * LINE)
        draw.text(place, _fitting(text, font, SIDE), colour, font)


def _paste(sheet: Image.Image, box: tuple[int, int, int, int], pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    image = Image.fromarray(pixels)
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(scale * length)) for length in image.size)
    # Pixels of a small image stay squares.
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    left, top = (start + (SIDE - length) // 2 for start, length in zip(box[:2], size, strict=True))
    sheet.paste(image.resize((size[0], size[1]), how), (left, top))


def _draw_reason(
    draw: ImageDraw.ImageDraw, font: Any, box: tuple[int, int, int, int], why: str
) -> None:
    """Why an image is missing, as much of it as its place has room for."""
    draw.rectangle((*box[:2], box[2] - 1, box[3] - 1), outline=FAINT)
    lines = ["no image", *_lines(why, font, SIDE - 2 * FRAME)]
    for number, text in enumerate(islice(lines, SIDE // LINE)):
        draw.text((box[0] + FRAME, box[1] + FRAME + number * LINE), text, FAINT, font)


def _lines(text: str, font: Any, width: int) -> Iterator[str]:
    """The text, broken where a line of the width is full."""
    rest = printable(text)
    while rest:
        length = max(1, _n_fitting(rest, font, width))
        yield rest[:length]
        rest = rest[length:].lstrip()


def _n_fitting(text: str, font: Any, width: int) -> int:
    """How many letters of a text have room in a line of the width."""
    return bisect_right(range(1, len(text) + 1), width, key=lambda n: font.getlength(text[:n]))


def _fitting(text: str, font: Any, width: int) -> str:
    """The text, or as much of its beginning as the width has place for."""
    shown = printable(text)
    if font.getlength(shown) <= width:
        return shown
    while shown and font.getlength(f"{shown}…") > width:
        shown = shown[:-1]
    return f"{shown}…"


def _png(sheet: Image.Image) -> bytes:
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _write(out: Path, content: bytes) -> None:
    """Put the file in its place whole."""
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:40]}-") as folder:
            temporary = Path(folder) / "sheet"
            temporary.write_bytes(content)
            os.replace(temporary, out)  # noqa: PTH105 - of any name
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error

"""Charts of a row each: counts as stacked bars, and estimates with intervals and chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eegstore.report.figures import WIDTH, drawing
from eegstore.report.markup import Markup, element, joined, shortened
from eegstore.report.scales import Axis

NAMES_END: Final = 112.0
END: Final = WIDTH - 64.0
TOP: Final = 24.0
ROW: Final = 24.0
BAR: Final = 14.0
FOOT: Final = 44.0
MAX_NAME: Final = 15


@dataclass(frozen=True)
class Estimate:
    """A measure with its interval and what chance would give."""

    name: str
    value: float
    low: float
    high: float
    chance: float


def patterns(key: str) -> Markup:
    """The hatchings that tell one part of a bar from another without its colour."""
    lines = {
        2: "M-2 2L2 -2M0 8L8 0M6 10L10 6",
        3: "M0 4H8",
        4: "M0 0L8 8M0 8L8 0",
        5: "M4 0V8",
        6: "M0 4H8M4 0V8",
    }
    return element(
        "defs",
        [
            element(
                "pattern", element("path", d=path, class_=f"hatch s{number}"),
                id=f"{key}-p{number}", width="8", height="8", patternUnits="userSpaceOnUse",
            )
            for number, path in lines.items()
        ],
    )  # fmt: skip


def _foot(axis: Axis, height: float) -> Iterator[Markup]:
    """Ticks and the name of the axis that all rows share."""
    for value, label in axis.ticks(5):
        x = float(axis.places(value, NAMES_END, END))
        yield element("path", d=f"M{x:.1f} {TOP - 8:g}V{height - FOOT + 4:g}", class_="grid")
        yield element("text", label, x=x, y=height - FOOT + 18, class_="tick mid")
    yield element("text", axis.label, x=END, y=height - 8, class_="unit end")


def _name(name: str, y: float) -> Markup:
    shown = shortened(name, MAX_NAME)
    return element(
        "text", element("title", name[:400]), shown, x=NAMES_END - 8, y=y + 4, class_="row end"
    )


def stacked_bars(
    key: str, title: str, description: str, names: Sequence[str], counts: NDArray[np.int64],
    label: str,
) -> Markup:  # fmt: skip
    """Counts, int64 (row, part), as one bar a row; its sum stands at its end."""
    height = TOP + ROW * len(names) + FOOT
    totals = counts.sum(axis=1)
    axis = Axis(label, 0.0, float(totals.max(initial=1)))
    rows: list[Markup] = []
    for number, name in enumerate(names):
        y = TOP + ROW * number + ROW / 2
        ends = axis.places(np.concatenate([[0], np.cumsum(counts[number])]), NAMES_END, END)
        rows.append(_name(name, y))
        rows += _parts(key, ends, y)
        rows.append(
            element("text", f"{totals[number]:,}", x=float(ends[-1]) + 6, y=y + 4, class_="tick")
        )
    head = element("text", title, x="0", y="14", class_="head name")
    return drawing(
        key, title, description, patterns(key), head, joined(_foot(axis, height)), rows,
        height=height,
    )  # fmt: skip


def _parts(key: str, ends: NDArray[np.float64], y: float) -> list[Markup]:
    """The parts of one bar: a colour each, and from the second on a hatching."""
    drawn = []
    for part, (start, end) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True), 1):
        if end <= start:
            continue
        place = {"x": start, "y": y - BAR / 2, "width": end - start, "height": BAR}
        fill = None if part == 1 else f"fill:url(#{key}-p{part})"
        drawn.append(element("rect", **place, class_=f"bar b{part}", style=fill))
    return drawn


def estimates(
    key: str, title: str, description: str, rows: Sequence[Estimate], axis: Axis, show: object
) -> Markup:
    """Dots with their intervals, one a row, and a dashed mark where chance is.

    ``show`` turns a value into the text at the end of its row.
    """
    height = TOP + ROW * len(rows) + FOOT
    drawn = [_estimate(one, TOP + ROW * number + ROW / 2, axis, show)
             for number, one in enumerate(rows)]  # fmt: skip
    head = element("text", title, x="0", y="14", class_="head name")
    return drawing(key, title, description, head, joined(_foot(axis, height)), drawn, height=height)


def _estimate(one: Estimate, y: float, axis: Axis, show: object) -> Markup:
    assert callable(show)
    low, value, high, chance = (
        float(axis.places(part, NAMES_END, END))
        for part in (one.low, one.value, one.high, one.chance)
    )
    interval = f"M{low:.1f} {y - 4:g}v8M{low:.1f} {y:g}H{high:.1f}M{high:.1f} {y - 4:g}v8"
    finite = np.isfinite([low, value, high])
    return joined(
        _name(one.name, y),
        element("path", d=f"M{chance:.1f} {y - 10:g}v20", class_="chance")
        if np.isfinite(chance) else None,
        element("path", d=interval, class_="interval") if finite.all() else None,
        element("circle", cx=value, cy=y, r="4.5", class_="estimate") if finite[1] else None,
        element("text", show(one.value), x=END + 8, y=y + 4, class_="tick strong"),
    )  # fmt: skip

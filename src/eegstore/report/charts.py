"""Charts of numbers against numbers: lines with confidence bands, histograms, clouds of points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eegstore.report.figures import WIDTH, drawing, symbol
from eegstore.report.markup import Content, Markup, element, joined
from eegstore.report.scales import Axis

HEIGHT: Final = 250.0
LEFT: Final = 48.0
RIGHT: Final = WIDTH - 12.0
TOP: Final = 30.0
BOTTOM: Final = HEIGHT - 42.0
MAX_POINTS: Final = 240
MANY_POINTS: Final = 200

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A series: its values, and the interval around each where there is one.

    Parameters
    ----------
    name
        What it is.
    x, y
        float64, (point,).
    low, high
        float64, (point,): the ends of the interval.
    series
        The number that its colour, dashes and symbol come with, from 1.
    """

    name: str
    x: Values
    y: Values
    low: Values | None = None
    high: Values | None = None
    series: int = 1


@dataclass(frozen=True)
class Frame:
    """The plane of a chart: two axes and where they lie in the drawing."""

    x: Axis
    y: Axis
    bottom: float = BOTTOM

    def across(self, values: Values | float) -> Values:
        """Horizontal places of values."""
        return self.x.places(values, LEFT, RIGHT)

    def up(self, values: Values | float) -> Values:
        """Vertical places of values."""
        return self.y.places(values, self.bottom, TOP)

    def markup(self, title: str) -> Markup:
        """Grid, ticks and names of the axes."""
        return joined(
            element(
                "text", element("tspan", title, class_="name"),
                element("tspan", self.y.label, class_="unit", dx="8" if title else "0"),
                x="0", y="14", class_="head",
            ),
            self._levels(), self._stops(),
            element("text", self.x.label, x=RIGHT, y=self.bottom + 37, class_="unit end"),
        )  # fmt: skip

    def _levels(self) -> Iterator[Markup]:
        for value, label in self.y.ticks(5):
            y = float(self.up(value))
            yield element("path", d=f"M{LEFT:g} {y:.1f}H{RIGHT:g}",
                          class_="zero" if value == 0 else "grid")  # fmt: skip
            yield element("text", label, x=LEFT - 7, y=y + 4, class_="tick end")

    def _stops(self) -> Iterator[Markup]:
        for value, label in self.x.ticks(7):
            x = float(self.across(value))
            kind = "zero" if value == 0 and self.x.low < 0 else "stop"
            top = TOP if kind == "zero" else self.bottom
            yield element("path", d=f"M{x:.1f} {top:g}V{self.bottom + 5:g}", class_=kind)
            yield element("text", label, x=x, y=self.bottom + 19, class_="tick mid")


def _thinned(n_points: int) -> NDArray[np.int64]:
    """Numbers of the points that are drawn."""
    return np.unique(np.linspace(0, n_points - 1, min(n_points, MAX_POINTS)).astype(np.int64))


def _path(x: Values, y: Values) -> str:
    """A line through points, broken where one is not finite."""
    parts, pen = [], "M"
    for across, up in zip(x.tolist(), y.tolist(), strict=True):
        if np.isfinite(up):
            parts.append(f"{pen}{across:.1f} {up:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _band(x: Values, low: Values, high: Values) -> str:
    """The outline of an interval along a line."""
    at = np.isfinite(low) & np.isfinite(high)
    if not at.any():
        return ""
    there, back = _path(x[at], low[at]), _path(x[at][::-1], high[at][::-1])
    return f"{there}L{back[1:]}Z"


def _series(frame: Frame, line: Line) -> Iterator[Markup]:
    """What is drawn of a series: its interval, then the line over it."""
    at = _thinned(len(line.x))
    x = frame.across(line.x[at])
    if line.low is not None and line.high is not None:
        outline = _band(x, frame.up(line.low[at]), frame.up(line.high[at]))
        yield element("path", d=outline, class_=f"band f{line.series}")
    yield element(
        "path", element("title", line.name), d=_path(x, frame.up(line.y[at])),
        class_=f"line s{line.series}",
    )  # fmt: skip


def line_chart(
    key: str, title: str, description: str, frame: Frame, lines: Sequence[Line],
    behind: Content = None,
) -> Markup:  # fmt: skip
    """Lines over one plane; intervals first, so that no line is hidden by one."""
    drawn = [list(_series(frame, line)) for line in lines]
    return drawing(
        key, title, description, behind, frame.markup(title),
        [parts[:-1] for parts in drawn], [parts[-1] for parts in drawn], height=HEIGHT,
    )  # fmt: skip


def ranges(frame: Frame, named: Sequence[tuple[str, float, float]]) -> Iterator[Markup]:
    """Named ranges of the x axis, every second one shaded."""
    for number, (name, low, high) in enumerate(named):
        start, end = (float(one) for one in frame.across(np.array([low, high])))
        if number % 2 == 0:
            yield element("rect", x=start, y=TOP, width=end - start, height=frame.bottom - TOP,
                          class_="range")  # fmt: skip
        yield element("text", name, x=(start + end) / 2, y=TOP + 11, class_="small mid")


def histogram(
    key: str, title: str, description: str, frame: Frame, edges: Values,
    shares: Sequence[Values],
) -> Markup:  # fmt: skip
    """One or more histograms over the same bins, as steps that are filled down to the axis."""
    x = np.repeat(frame.across(edges), 2)
    drawn = []
    for series, share in enumerate(shares, 1):
        y = np.concatenate([[frame.bottom], np.repeat(frame.up(share), 2), [frame.bottom]])
        outline = _path(x, y)
        drawn.append(element("path", d=f"{outline}Z", class_=f"band f{series}"))
        drawn.append(element("path", d=outline, class_=f"line thin s{series}"))
    return drawing(key, title, description, frame.markup(title), drawn, height=HEIGHT)


def cloud(
    key: str, title: str, description: str, frame: Frame,
    groups: Sequence[tuple[str, Values]],
) -> Markup:  # fmt: skip
    """Points, float64 (point, 2), by named groups that differ in colour and in shape.

    A group without a name comes first, and is drawn small and faint.
    """
    drawn, series = [], 0
    size = 3.0 if sum(len(points) for _, points in groups) > MANY_POINTS else 4.5
    for name, points in groups:
        series += bool(name)
        x, y = frame.across(points[:, 0]).tolist(), frame.up(points[:, 1]).tolist()
        if name:
            marks = "".join(symbol(series, *at, size) for at in zip(x, y, strict=True))
            drawn.append(element("path", element("title", name), d=marks, class_=f"dot f{series}"))
        else:
            marks = "".join(symbol(1, *at, size / 2) for at in zip(x, y, strict=True))
            drawn.append(element("path", d=marks, class_="rest"))
    return drawing(key, title, description, frame.markup(title), drawn, height=HEIGHT)

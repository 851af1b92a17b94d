"""Numbers as a person reads them, and the places that they have on an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

MINUS: Final = "−"
STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


def number(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, with a true minus sign."""
    value = float(value)
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    value = float(f"{value:.{digits - 1}e}")
    places = digits - 1 - math.floor(math.log10(abs(value)))
    if 1e-4 <= abs(value) < 1e15:
        text = f"{value:,.{max(places, 0)}f}"
    else:
        text = f"{value:.{digits - 1}e}"
    return text.replace("-", MINUS)


def percent(share: float) -> str:
    """A share as ``12.3 %``."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else "–"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: ``2,000 trials``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most so many, evenly spaced."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    raw = span / max(most - 1, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(one * unit for one in STEPS if one * unit >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Ticks' numbers, all to the same decimals."""
    step = min(np.diff(values), default=1.0)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    while decimals < 9 and any(abs(round(one, decimals) - one) > step * 1e-6 for one in values):
        decimals += 1
    return [f"{one:,.{decimals}f}".replace("-", MINUS) for one in np.asarray(values) + 0.0]


@dataclass(frozen=True)
class Axis:
    """What an axis shows: from where to where, and in which unit.

    Parameters
    ----------
    label
        What is measured, with its unit in parentheses.
    low, high
        The ends.
    scale
        What the tick labels are multiplied by: 100 shows shares as per cent.
    """

    label: str
    low: float
    high: float
    scale: float = 1.0

    def places(self, values: ArrayLike, start: float, end: float) -> NDArray[np.float64]:
        """float64: where values lie between two coordinates of a drawing."""
        share = (np.asarray(values, np.float64) - self.low) / ((self.high - self.low) or 1.0)
        return start + share * (end - start)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Value and label of each tick."""
        shown = ticks(self.low * self.scale, self.high * self.scale, most)
        return [
            (value / self.scale, label)
            for value, label in zip(shown, tick_labels(shown), strict=True)
        ]


def covering(label: str, *values: ArrayLike, margin: float = 0.05, scale: float = 1.0) -> Axis:
    """An axis that covers all finite values, and a little more."""
    every = np.concatenate([np.ravel(np.asarray(one, np.float64)) for one in values])
    finite = every[np.isfinite(every)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if low == high:
        low, high = low - 1.0, high + 1.0
    reach = (high - low) * margin
    return Axis(label, low - reach, high + reach, scale)

"""Sums in one order of additions, so that numpy and compiled loops give the same bytes."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# To load numba takes as long as numpy takes for some ten million samples.
SAMPLES_BEFORE_LOOPS: Final = 1 << 22


def eighth(n_values: int) -> int:
    """An eighth of a number of values, rounded up to a multiple of 8."""
    return (n_values + 63) // 64 * 8


def eight(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Add eight: the last four to the first four, these in the same way."""
    return ((a + e) + (c + g)) + ((b + f) + (d + h))


def added_eighths(values: Values, width: int) -> Values:
    """Add eight parts of float64 (value, …), padded with zeros to eight times the width."""
    rest = len(values) - 4 * width
    if rest < 0:
        half = np.zeros((4 * width, *values.shape[1:]))
        half[: len(values)] = values
    else:
        half = values[: 4 * width].copy()
        half[:rest] += values[4 * width :]
    half[: 2 * width] += half[2 * width :]
    half[:width] += half[width : 2 * width]
    return half[:width]


def totals(values: Values, width: int) -> Values:
    """Sum float64 (value, …) over its first axis.

    Its eighths are added element by element, in the order of ``eight``; what is left is added from
    first to last. So a sum depends on its own values alone.
    """
    return running(added_eighths(values, width))


def early_totals(values: Values, width: int) -> Values:
    """The same, but for what is left of the eighths: each eighth value is added, then these eight.

    Compiled, these additions wait less for each other: for a mean, which all else waits for.
    """
    left = added_eighths(values, width)
    total: Values = eight(*running(left.reshape(-1, 8, *left.shape[1:])))
    return total


def running(values: Values) -> Values:
    """Sum float64 (value, …) over its first axis, from first to last."""
    total = np.zeros(values.shape[1:])
    for value in values:
        total += value
    return total


def by_fours(values: Values) -> Values:
    """Sum float64 (value, …) over its first axis: each fourth value, and then these four."""
    a, b, c, d = (running(values[at::4]) for at in range(4))
    return (a + b) + (c + d)


@lru_cache(maxsize=1)
def _load_loops() -> ModuleType | None:
    try:
        from eegstore_plugins import loops
    except Exception:  # whatever keeps numba from work: numpy gives the same bytes
        return None
    return loops


class Loops:
    """Whether compiled loops are used: where there is numba, and enough to compute."""

    def __init__(self) -> None:
        self.n_samples = 0

    def for_samples(self, n_samples: int) -> ModuleType | None:
        """The module of compiled loops, once this process has had many samples; else None."""
        self.n_samples += n_samples
        return _load_loops() if self.n_samples > SAMPLES_BEFORE_LOOPS else None


loops: Final = Loops()

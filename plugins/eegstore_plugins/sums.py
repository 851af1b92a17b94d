"""Sums in one order of additions, so that numpy and compiled loops give the same bytes."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# To load numba takes as long as numpy takes for some ten million samples.
SAMPLES_BEFORE_LOOPS: Final = 1 << 22


def eighth(n_values: int) -> int:
    """An eighth of a number of values, rounded up to a multiple of 8."""
    return (n_values + 63) // 64 * 8


def totals(values: Values) -> Values:
    """Sum each row of float64 (row, value) to float64 (row,).

    The values, padded with zeros, are cut into eight parts that are added element by element: the
    last four to the first four, the last two of these to the first two, and the one to the other.
    What is left is added from left to right. So a sum depends on its own row alone.
    """
    n_rows, n_values = values.shape
    width = eighth(n_values)
    if n_values == 0:
        return np.zeros(n_rows)
    if n_values < 8 * width:
        padded = np.zeros((n_rows, 8 * width))
        padded[:, :n_values] = values
        values = padded
    parts = values.reshape(n_rows, 8, width)
    fours = parts[:, :4] + parts[:, 4:]
    twos = fours[:, :2] + fours[:, 2:]
    return running(twos[:, 0] + twos[:, 1])


def running(values: Values) -> Values:
    """Sum each row of float64 (row, value), from left to right, to float64 (row,)."""
    if values.shape[-1] == 0:
        return np.zeros(len(values))
    last: Values = np.add.accumulate(values, axis=-1)[:, -1]
    return last + 0.0  # never -0.0


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

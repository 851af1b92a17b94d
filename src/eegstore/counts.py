"""Signals as they were digitised: whole steps of one size, stored as int16 counts.

The arrays follow the CF conventions (section 8.1, packed data): a value is
``count * scale_factor + add_offset``, and the count ``_FillValue`` stands for NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from eegstore.memory import empty
from eegstore.threads import share

MISSING: Final = -32768
MOST: Final = 32767
KEYS: Final = ("scale_factor", "add_offset", "_FillValue")
MOST_STEPS: Final = 1 << 17  # of a signal in counts of 16 bits, wherever its zero is
Counted = NDArray[np.int16]
Signal = NDArray[np.float32]


@dataclass(frozen=True)
class Counts:
    """What counts stand for: ``float32(count * scale + offset)``, computed in float64.

    Parameters
    ----------
    scale, offset
        The size of a step, and the value of the count 0, in the unit of the signal.
    """

    scale: float
    offset: float = 0.0

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Self | None:
        """Those of an array, by its attributes; None where it holds the values themselves."""
        if KEYS[0] not in attributes:
            return None
        return cls(float(attributes[KEYS[0]]), float(attributes[KEYS[1]]))

    @property
    def attributes(self) -> dict[str, Any]:
        """The array's attributes that say so."""
        return dict(zip(KEYS, (self.scale, self.offset, MISSING), strict=True))

    def decode(self, counts: Counted, out: Signal | None = None) -> Signal:
        """float32, of any shape: the values of contiguous counts, in threads."""
        out = empty(counts.shape, "float32") if out is None else out
        source, target = counts.reshape(-1), out.reshape(-1)
        # The product of a count and a float32 is exact in float64: one rounding, either way.
        is_single = self.offset == 0 and float(np.float32(self.scale)) == self.scale

        def decode(start: int, stop: int) -> None:
            some, values = source[start:stop], target[start:stop]
            if is_single:
                np.multiply(some, np.float32(self.scale), out=values, casting="unsafe")
            else:
                values[...] = some * np.float64(self.scale) + self.offset
            if some.min() == MISSING:
                values[some == MISSING] = np.nan

        share(decode, source.size, 6)
        return out

    def encode(self, values: Signal) -> tuple[Counted, NDArray[np.int64]]:
        """Counts of a signal, and the rows in which not all are exact.

        A value that is NaN, or none of the counts', is missing. The sign of a zero is not kept.

        Parameters
        ----------
        values
            float32, (row, …).

        Returns
        -------
        int16, (row, …); int64, (row,).
        """
        with np.errstate(invalid="ignore", over="ignore"):
            steps = np.rint((values.astype(np.float64) - self.offset) / self.scale)
            counts = np.clip(steps, -MOST, MOST).astype(np.int16)
        is_other = self.decode(counts) != values
        if not is_other.any():
            return counts, np.empty(0, dtype=np.int64)
        counts[is_other] = MISSING
        is_wrong = (is_other & ~np.isnan(values)).reshape(len(values), -1).any(axis=1)
        return counts, np.flatnonzero(is_wrong)


def counts_of(values: Signal) -> Counts | None:
    """The counts of a signal in whole steps, found from some of its values; None if it is not."""
    found = np.unique(values[np.isfinite(values)]).astype(np.float64)
    if not len(found):
        return Counts(1.0)
    if len(found) == 1:
        return Counts(abs(float(found[0])) or 1.0)
    steps = _steps(found)
    if steps is None:
        return None
    centre = 0 if np.abs(steps).max() <= MOST else int(steps[0] + steps[-1]) // 2
    for scale in _scales(found, steps):
        counts = Counts(scale, centre * scale)
        if not len(counts.encode(found.astype(np.float32))[1]):
            return counts
    return None


def _steps(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """How many steps each of some ascending values is from zero; by Euclid's algorithm."""
    gaps = np.diff(values)
    rounding = float(np.spacing(np.float32(np.abs(values).max())))
    step = float(gaps.min())
    while True:
        if (values[-1] - values[0]) / step > MOST_STEPS:
            return None
        counts = np.rint(gaps / step)
        left = np.abs(gaps - counts * step)
        is_more = left > 2 * rounding * (1 + counts)
        if not is_more.any():
            break
        step = float(left[is_more].min())
    from_first = np.concatenate([[0], np.cumsum(counts)])
    step = (values[-1] - values[0]) / from_first[-1]
    found: NDArray[np.float64] = np.rint(values[0] / step) + from_first
    return found


def _scales(values: NDArray[np.float64], steps: NDArray[np.float64]) -> Iterator[float]:
    """Sizes of a step that may give these values, the plainest first."""
    is_some = steps != 0
    values, steps = values[is_some], steps[is_some]
    half = np.spacing(np.abs(values).astype(np.float32)).astype(np.float64) / 2
    low, high = ((np.abs(values) + sign * half) / np.abs(steps) for sign in (-1, 1))
    middle = float(low.max() + high.min()) / 2
    for digits in range(1, 10):
        plain = float(f"{middle:.{digits - 1}e}")
        yield from (float(np.float32(plain)), plain)
    yield from (float(np.float32(middle)), middle)

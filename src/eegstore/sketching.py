"""One pass over the EEG of a store: of each trial a checksum and a sketch, of each part the sums.

A sketch is a few random projections of a trial, each channel without its mean and linear trend.
Random projections keep angles (Johnson and Lindenstrauss 1984), so that trials which are alike but
for gain and offset have sketches of one direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from eegstore.tables import Column
from eegstore.threads import share

BLOCK_BYTES: Final = 1 << 24
N_PROJECTIONS: Final = 64
N_SPATIAL: Final = 8


@dataclass(frozen=True, eq=False)
class Signal:
    """What a pass over the EEG gives.

    Parameters
    ----------
    checksum
        uint32, (row,): CRC-32C of the values; a digest would take as long as all else together,
        and of trials with one checksum the values are compared.
    sketch
        float32, (row, projection): of length 1.
    count, total, square
        int64 (part, 1), float64 (part, channel), float64 (part, channel): samples that are
        recorded, the sum of their values, and of their squares.
    """

    checksum: NDArray[np.uint32]
    sketch: NDArray[np.float32]
    count: NDArray[np.int64]
    total: NDArray[np.float64]
    square: NDArray[np.float64]

    def moments(self, parts: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """float64, (channel,): mean and standard deviation over some of the parts."""
        n = self.count[parts].sum(axis=0)
        mean = self.total[parts].sum(axis=0) / n
        return mean, np.sqrt(np.maximum(self.square[parts].sum(axis=0) / n - mean**2, 0))


@dataclass(frozen=True, eq=False)
class Projections:
    """Draws the sketches; the projections are separable, so that they fit in a cache.

    Parameters
    ----------
    space
        float32, (channel, spatial): orthonormal.
    time
        float32, (time, temporal): orthonormal, and to every straight line.
    """

    space: NDArray[np.float32]
    time: NDArray[np.float32]

    @classmethod
    def of(cls, n_channels: int, n_times: int, seed: int = 0) -> Projections:
        """Projections of trials of that shape."""
        chance = np.random.Generator(np.random.PCG64(seed))
        n_spatial = min(n_channels, N_SPATIAL)
        n_temporal = min(max(1, n_times - 2), -(-N_PROJECTIONS // n_spatial))
        space = np.linalg.qr(chance.standard_normal((n_channels, n_spatial)))[0]
        time = chance.standard_normal((n_times, n_temporal))
        time = np.linalg.qr(without_trend(time.T, lines(n_times)).T)[0]
        # The factorisation of what is a straight line to rounding is of that rounding.
        return cls(space.astype(np.float32), (time * (n_times > 2)).astype(np.float32))

    @property
    def width(self) -> int:
        """Projections of a trial."""
        return int(self.space.shape[1] * self.time.shape[1])

    def sketch(self, eeg: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32, (row, projection): of length 1, or 0 for a trial that has only trends."""
        n_rows, n_channels, n_times = eeg.shape
        in_time = (eeg.reshape(-1, n_times) @ self.time).reshape(n_rows, n_channels, -1)
        sketch = np.matmul(self.space.T, in_time).reshape(n_rows, -1)
        length = np.linalg.norm(sketch, axis=1, keepdims=True)
        units: NDArray[np.float32] = np.zeros_like(sketch)
        np.divide(sketch, length, out=units, where=length > 0)
        return units


def lines(n_times: int) -> NDArray[np.float64]:
    """float64, (time, 2): an orthonormal basis of the straight lines; of one sample, of a value."""
    line = np.stack([np.ones(n_times), np.linspace(-1, 1, n_times)], axis=1)
    return np.linalg.qr(line)[0]


def without_trend(eeg: NDArray[Any], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signals (…, time) without their mean and linear trend, in double precision."""
    values = np.asarray(eeg, dtype=np.float64)
    rest: NDArray[np.float64] = values - (values @ basis) @ basis.T
    return rest


def read_signal(
    eeg: Column, trial: NDArray[np.int64], part: NDArray[np.int64], n_valid: NDArray[np.int64],
    tell: Callable[[str, int, int], None],
) -> Signal:  # fmt: skip
    """Read the EEG once, block by block.

    Parameters
    ----------
    eeg
        float32, (trial, channel, time).
    trial
        int64, (row,): the trials to read, in rising order.
    part
        int64, (row,): the part of each, from 0.
    n_valid
        int64, (row,): samples of each that are recorded.
    tell
        Called with what is done, how many trials are, and of how many.
    """
    n_channels, n_times = eeg.spec.shape
    projections, n_parts = Projections.of(n_channels, n_times), int(part.max(initial=0)) + 1
    checksum = np.empty(len(trial), dtype=np.uint32)
    sketch = np.empty((len(trial), projections.width), dtype=np.float32)
    count = np.zeros((n_parts, 1), dtype=np.int64)
    total, square = np.zeros((2, n_parts, n_channels))
    step = max(1, BLOCK_BYTES // (4 * n_channels * n_times))
    for start in range(0, len(trial), step):
        some = slice(start, min(start + step, len(trial)))
        block = eeg[trial[some]]
        sums = np.empty((2, len(block), n_channels))
        _look(block, n_valid[some], projections, checksum[some], sketch[some], sums)
        np.add.at(count, part[some], n_valid[some, None])
        np.add.at(total, part[some], sums[0])
        np.add.at(square, part[some], sums[1])
        tell("read eeg", some.stop, len(trial))
    return Signal(checksum, sketch, count, total, square)


def _look(
    block: NDArray[np.float32], n_valid: NDArray[np.int64], projections: Projections,
    checksum: NDArray[np.uint32], sketch: NDArray[np.float32], sums: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill in what is kept of the trials of a block, in threads."""

    def look(start: int, stop: int) -> None:
        eeg = block[start:stop]
        checksum[start:stop] = [crc32c(trial) for trial in eeg]
        eeg = _unpadded(eeg, n_valid[start:stop])
        sums[0, start:stop] = eeg.sum(axis=2)
        sums[1, start:stop] = np.einsum("rct,rct->rc", eeg, eeg)
        sketch[start:stop] = projections.sketch(eeg)

    share(look, len(block), block[0].nbytes)


def _unpadded(eeg: NDArray[np.float32], n_valid: NDArray[np.int64]) -> NDArray[np.float32]:
    """The trials, with 0 in place of padding."""
    n_times = eeg.shape[2]
    if (n_valid == n_times).all():
        return eeg
    recorded = np.arange(n_times) < n_valid[:, None]
    return np.where(recorded[:, None], eeg, np.float32(0))

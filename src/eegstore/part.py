"""The part of each row of a column that is read: all of it, or some channels and samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from eegstore.shards import Layout


@dataclass(frozen=True, eq=False)
class Part:
    """The part of each row that is read, without touching the rest of it.

    Parameters
    ----------
    shape
        Of the part of a row.
    starts
        int64, (piece,): bytes from the row's first at which its pieces start.
    piece_bytes
        Bytes of a piece.
    """

    shape: tuple[int, ...]
    starts: NDArray[np.int64]
    piece_bytes: int

    @classmethod
    def whole(cls, layout: Layout) -> Self:
        """All of a row."""
        return cls(layout.row_shape, np.zeros(1, dtype=np.int64), layout.row_bytes)

    @classmethod
    def of(cls, layout: Layout, channels: NDArray[np.int64], times: slice) -> Self:
        """Some channels, and a range of samples, of rows of (channel, time)."""
        n_times, item = layout.row_shape[1], np.dtype(layout.dtype).itemsize
        start, stop, _ = times.indices(n_times)
        starts = (channels * n_times + start) * item
        return cls((len(channels), max(0, stop - start)), starts, max(0, stop - start) * item)

    @property
    def n_bytes(self) -> int:
        """Of all pieces of a row."""
        return len(self.starts) * self.piece_bytes

    def within(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the pieces of rows start, from where the rows do."""
        return (rows[:, np.newaxis] + self.starts).reshape(-1)

    def by_row(self, memory: NDArray[np.uint8], n_rows: int) -> NDArray[np.uint8]:
        """uint8, (row, byte): the bytes at the start of memory that parts of rows are to fill."""
        return memory[: n_rows * self.n_bytes].reshape(n_rows, -1)

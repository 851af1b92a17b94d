"""The rows of a wide column as values, whatever they are stored as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.counts import Counts
from eegstore.disk import Place
from eegstore.memory import empty, target_of
from eegstore.part import Part
from eegstore.reader import ShardedArray
from eegstore.shards import Layout

DECODED_BYTES: Final = 1 << 22  # of mapped counts that are decoded while they are in a cache


@dataclass(frozen=True, eq=False)
class CountedArray:
    """Reads the rows of a wide column of counts as float32; the methods are ``ShardedArray``'s."""

    array: ShardedArray
    counts: Counts

    @property
    def layout(self) -> Layout:
        """Where the rows lie, as counts."""
        return self.array.layout

    def __len__(self) -> int:
        return len(self.array)

    def take(
        self,
        rows: NDArray[np.int64],
        part: Part | None = None,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """The rows of the given numbers, float32; a ``part`` is one of the rows of counts."""
        part = part or Part.whole(self.layout)
        out, _ = target_of(out, (len(rows), *part.shape), "float32")
        is_mapped = self.layout.codec == "raw"
        row_bytes = max(1, part.n_bytes)
        step = max(1, DECODED_BYTES // row_bytes) if is_mapped else max(1, len(rows))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            counts = self.array.take(some, part, empty((len(some), *part.shape), self.layout.dtype))
            self.counts.decode(counts, out[start : start + step])
        return out

    def read(self, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The rows from ``start`` up to ``stop``, float32."""
        return self.take(np.arange(start, max(start, stop)), out=out)

    def row(self, row: int) -> NDArray[Any]:
        """One row, float32."""
        return self.counts.decode(self.array.row(row))


WideArray = ShardedArray | CountedArray


def wide_array(
    folder: Place,
    layout: Layout,
    attributes: Mapping[str, Any],
    shard_sizes: NDArray[np.int64] | None = None,
    key: str | None = None,
) -> WideArray:
    """Reads the values of a wide column; ``attributes`` are its array's, the rest as there."""
    array = ShardedArray(folder, layout, shard_sizes, key)
    counts = Counts.of(attributes)
    return array if counts is None else CountedArray(array, counts)


def values_dtype(layout: Layout, attributes: Mapping[str, Any]) -> str:
    """Numpy's name of the type of the values."""
    return layout.dtype if Counts.of(attributes) is None else "float32"

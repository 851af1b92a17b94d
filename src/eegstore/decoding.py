"""Decoded chunks of a compressed column: room for a few dozen, filled in threads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

KEPT_BYTES: Final = 1 << 26

# Decodes chunks, int64 (chunk,), into the given rows, int64 (chunk,), of uint8 (row, byte).
Decode = Callable[[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]], None]


class DecodedChunks:
    """Room for the chunks that were decoded last.

    Parameters
    ----------
    n_chunks
        Chunks of the column.
    chunk_bytes
        Bytes of a decoded chunk.

    Attributes
    ----------
    memory
        uint8, (slot, byte): the system gives them when they are used.
    n_slots
        How many chunks there is room for.
    places
        int64, (chunk,): addresses of the decoded chunks; 0 where they are not here.
    """

    def __init__(self, n_chunks: int, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self.n_slots = max(1, min(n_chunks, KEPT_BYTES // chunk_bytes))
        self.places = np.zeros(n_chunks, dtype=np.int64)
        self._slot_of = np.full(n_chunks, -1)
        self._chunk_in = np.full(self.n_slots, -1)
        self._last_use = np.zeros(self.n_slots, dtype=np.int64)
        self._n_uses = 0

    @functools.cached_property
    def memory(self) -> NDArray[np.uint8]:
        """The slots' memory."""
        return np.empty((self.n_slots, self._chunk_bytes), dtype=np.uint8)

    def hold(self, chunks: NDArray[np.int64], decode: Decode) -> NDArray[np.int64]:
        """int64, (chunk,): the slots of different chunks, at most ``n_slots``; all are in them.

        Those that were not take the place of those that were used longest ago.
        """
        self._n_uses += 1
        there = self._slot_of[chunks]
        self._last_use[there[there >= 0]] = self._n_uses
        missing = chunks[there < 0]
        if len(missing):
            free = np.argsort(self._last_use, kind="stable")[: len(missing)]
            self._forget(free)
            decode(missing, self.memory, free)
            self._slot_of[missing], self._chunk_in[free] = free, missing
            self.places[missing] = self.memory.ctypes.data + free * self._chunk_bytes
            self._last_use[free] = self._n_uses
        return self._slot_of[chunks]

    def _forget(self, slots: NDArray[np.int64]) -> None:
        before = self._chunk_in[slots]
        self._slot_of[before[before >= 0]] = -1
        self.places[before[before >= 0]] = 0
        self._chunk_in[slots] = -1
        self._last_use[slots] = 0

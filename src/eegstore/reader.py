"""Reads the rows of a wide column from its shards, mapped into memory, as fast as memory allows.

The chunks of an uncompressed column are read where they are mapped; those of a compressed one are
decoded into memory of the reader's own first. Either way a batch is then one gather.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from eegstore.crew import crew_for
from eegstore.decoding import DecodedChunks
from eegstore.disk import Place
from eegstore.errors import DamageError
from eegstore.mapping import gather
from eegstore.memory import target_of
from eegstore.opening import Shards
from eegstore.part import Part
from eegstore.shards import ABSENT, CRC_BYTES, Decompress, Layout, blosc_function, codec_of
from eegstore.threads import share

Rows = NDArray[np.int64]


class ShardedArray:
    """Reads the rows of a wide column.

    Each shard's presence, size and index are checked when it is first touched, and each inner
    chunk's crc32c when that chunk is first touched: damage raises and is never read as data. What
    was checked stays mapped: a shard that a later build replaces or deletes is read on as it was.
    It may be shared by threads, sent to processes, and used after a fork.

    Parameters
    ----------
    folder
        The array's folder.
    layout
        Where its rows lie.
    shard_sizes
        Bytes of each shard, as they were written; None while a build has not committed them.
    key
        Key of the committed column; reading raises once another is in its place.
    """

    def __init__(
        self,
        folder: Place,
        layout: Layout,
        shard_sizes: NDArray[np.int64] | None = None,
        key: str | None = None,
    ) -> None:
        self.layout = layout
        self._shards = Shards(folder, layout, shard_sizes, key)
        self._forget()

    def _forget(self) -> None:
        layout = self.layout
        n_chunks = layout.n_shards * layout.chunks_per_shard
        self._whole = Part.whole(layout)
        self._codec = codec_of(layout)
        self._files = self._shards.files()
        self._has_index = np.zeros(layout.n_shards, dtype=bool)
        self._offsets = np.zeros(n_chunks, dtype=np.int64)
        self._lengths = np.zeros(n_chunks, dtype=np.int64)  # without their checksums
        self._checked = np.zeros(n_chunks, dtype=bool)
        # Addresses of the encoded chunks that were checked and do not move; else 0.
        self._places = np.zeros(n_chunks, dtype=np.int64)
        is_mapped = layout.codec == "raw" and self._files.in_memory
        self._decoded = None if is_mapped else DecodedChunks(n_chunks, layout.chunk_bytes)
        self._locks: dict[int, threading.RLock] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"layout": self.layout, "_shards": self._shards}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        return self.layout.n_rows

    def take(
        self,
        rows: Rows,
        part: Part | None = None,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """The rows of the given numbers (each in 0 … n_rows - 1), in their order.

        Parameters
        ----------
        rows
            int64, (row,).
        part
            What of each row to read; all of it by default.
        out
            A contiguous array of the column's type and of the result's shape, to be filled.

        Raises
        ------
        DamageError
            Where a chunk or a shard is damaged or missing, or was replaced by a later build.
        IndexError
            Where there is no such row.
        ValueError
            Where ``out`` does not fit.
        """
        part = part or self._whole
        rows = np.asarray(rows, np.int64)
        if not rows.flags.carray:
            rows = np.require(rows, requirements=["C", "A"])  # compiled code goes by their address
        out, memory = target_of(out, (len(rows), *part.shape), self.layout.dtype)
        if not out.size:
            return out
        if self._decoded is None:
            self._take_mapped(rows, part, memory)
        elif self.layout.chunk_rows == 1 and part is self._whole:
            self._check(rows)
            self._decode(rows, part.by_row(memory, len(rows)), np.arange(len(rows)))
        else:
            self._check(rows)
            with self._alone():
                self._take_decoded(self._decoded, rows, part, memory)
        return out

    def read(self, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The rows from ``start`` up to ``stop``; ``out`` and errors as in ``take``."""
        layout, n_rows = self.layout, max(0, stop - start)
        if self._decoded is not None:
            return self.take(np.arange(start, start + n_rows), out=out)
        out, memory = target_of(out, (n_rows, *layout.row_shape), layout.dtype)
        if n_rows:
            self._copy(start, self._whole.by_row(memory, n_rows))
        return out

    def _copy(self, start: int, out: NDArray[np.uint8]) -> None:
        """Copy rows that lie one behind the other into uint8 (row, byte), in threads."""
        n_rows, layout = len(out), self.layout
        first = start // layout.chunk_rows
        chunks = np.arange(first, (start + n_rows - 1) // layout.chunk_rows + 1)
        self._touch(chunks)

        def copy(number: int, stop: int) -> None:
            for chunk in chunks[number:stop].tolist():
                here = chunk * layout.chunk_rows - start
                rows = slice(max(0, here), min(here + layout.chunk_rows, n_rows))
                data = self._data(chunk)[(rows.start - here) * layout.row_bytes :]
                target = out[rows].reshape(-1)
                target[...] = np.frombuffer(data, np.uint8, len(target))

        share(copy, len(chunks), layout.chunk_bytes)

    def row(self, row: int) -> NDArray[Any]:
        """One row; without the costs of a batch."""
        if self._decoded is not None:
            found: NDArray[Any] = self.take(np.array([row]))[0]
            return found
        chunk, within = divmod(row, self.layout.chunk_rows)
        n_bytes = self.layout.row_bytes
        data = bytearray(self._data(chunk)[within * n_bytes : (within + 1) * n_bytes])
        return np.frombuffer(data, self.layout.dtype).reshape(self.layout.row_shape)

    def _take_mapped(self, rows: Rows, part: Part, out: NDArray[np.uint8]) -> None:
        """Copy rows into bytes, from where they are mapped."""
        if _copied(self._places, rows, self.layout, part, out):
            return
        self._check(rows)
        chunks, within = np.divmod(rows, self.layout.chunk_rows)
        self._touch(chunks)
        if _copied(self._places, rows, self.layout, part, out):
            return
        shards = np.repeat(chunks // self.layout.chunks_per_shard, len(part.starts))
        starts = part.within(self._offsets[chunks] + within * self.layout.row_bytes)
        pieces = part.by_row(out, len(rows)).reshape(len(starts), -1)
        self._files.gather(shards, starts, pieces)

    def _take_decoded(
        self, decoded: DecodedChunks, rows: Rows, part: Part, out: NDArray[np.uint8]
    ) -> None:
        """Copy rows into bytes, as many chunks at a time as there is room for."""
        if _copied(decoded.places, rows, self.layout, part, out):
            return
        chunks, within = np.divmod(rows, self.layout.chunk_rows)
        wanted = np.unique(chunks)
        for start in range(0, len(wanted), decoded.n_slots):
            some = wanted[start : start + decoded.n_slots]
            slots = decoded.hold(some, self._decode)
            where = np.flatnonzero((chunks >= some[0]) & (chunks <= some[-1]))
            is_all = len(where) == len(chunks)
            target = out if is_all else np.empty(len(where) * part.n_bytes, np.uint8)
            if not _copied(decoded.places, rows[where], self.layout, part, target):
                first = slots[np.searchsorted(some, chunks[where])] * self.layout.chunk_bytes
                starts = part.within(first + within[where] * self.layout.row_bytes)
                pieces = part.by_row(target, len(where)).reshape(len(starts), -1)
                gather(decoded.memory.reshape(-1), starts, pieces)
            if not is_all:
                part.by_row(out, len(rows))[where] = part.by_row(target, len(where))

    def _check(self, rows: Rows) -> None:
        # Chunks are found by address. As an unsigned number a negative row is too large.
        if rows.view(np.uint64).max() >= self.layout.n_rows:
            raise IndexError(f"rows from {rows.min()} to {rows.max()} of {self.layout.n_rows}")

    def _decode(self, chunks: Rows, out: NDArray[np.uint8], targets: Rows) -> None:
        """Decode chunks into rows of uint8 (row, byte), in threads."""
        if not self._decode_in_place(chunks, out, targets):
            share(self._decoder(chunks, out, targets), len(chunks), self.layout.chunk_bytes)

    def _decode_in_place(self, chunks: Rows, out: NDArray[np.uint8], targets: Rows) -> bool:
        """Whether a function of C's has decoded the chunks, from where they stay in memory."""
        is_blosc = self.layout.codec == "fast" and self._files.in_memory
        function = blosc_function() if is_blosc else None
        if function is None:
            return False
        crew = crew_for(len(chunks) * self.layout.chunk_bytes)
        for is_touched in (False, True):
            if crew is None:  # threads would take the interpreter from each other
                failed = _decode_each(function, self._places[chunks], out, targets)
            else:
                what = chunks, self._places, targets, out
                failed = crew.decode_chunks(_address(function), *what)
            if failed < 0:
                return True
            if not is_touched:
                self._touch(chunks)
            elif self._places[chunks[failed]]:
                raise self._not_ours(int(chunks[failed]))
        return False

    def _decoder(
        self, chunks: Rows, out: NDArray[np.uint8], targets: Rows
    ) -> Callable[[int, int], None]:
        """What decodes some of the chunks, of which all bytes were asked for together."""
        self._read_indexes(chunks)
        data = self._files.views(self._ranges(chunks))

        def decode(start: int, stop: int) -> None:
            for number in range(start, stop):
                chunk = int(chunks[number])
                try:
                    self._codec.decode(self._sound(chunk, data[number]), out[int(targets[number])])
                except (ValueError, RuntimeError):  # what the codecs raise
                    raise self._not_ours(chunk) from None

        return decode

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread at a time: decoded chunks are replaced by others."""
        # Of each process its own: who held a parent's is not in a fork. The step is atomic.
        with self._locks.setdefault(os.getpid(), threading.RLock()):
            yield

    def _data(self, chunk: int) -> memoryview:
        """The encoded bytes of an inner chunk, checked; ``chunk`` counts through all shards."""
        if not self._checked[chunk]:
            self._touch(np.array([chunk]))
        start = int(self._offsets[chunk])
        shard = chunk // self.layout.chunks_per_shard
        return self._files.view(shard, start, start + int(self._lengths[chunk]))

    def _touch(self, chunks: Rows) -> None:
        """Check the chunks that have not been."""
        is_unknown = ~self._checked[chunks]
        if not is_unknown.any():
            return
        unknown = np.unique(chunks[is_unknown])
        self._read_indexes(unknown)
        views = self._files.views(self._ranges(unknown))
        for chunk, data in zip(unknown.tolist(), views, strict=True):
            self._sound(chunk, data)

    def _ranges(self, chunks: Rows) -> list[tuple[int, int, int]]:
        """Shard, start and stop of chunks with their checksums."""
        starts = self._offsets[chunks]
        stops = starts + self._lengths[chunks] + CRC_BYTES
        shards = chunks // self.layout.chunks_per_shard
        return list(zip(shards.tolist(), starts.tolist(), stops.tolist(), strict=True))

    def _sound(self, chunk: int, data: memoryview) -> memoryview:
        """An inner chunk without its checksum, which is checked once where it stays in memory."""
        if self._checked[chunk]:
            return data[:-CRC_BYTES]
        if crc32c(data[:-CRC_BYTES]).to_bytes(CRC_BYTES, "little") != data[-CRC_BYTES:]:
            shard, number = divmod(chunk, self.layout.chunks_per_shard)
            raise self._shards.damage(shard, f"inner chunk {number} fails its crc32c")
        if self._codec.says(data[:-CRC_BYTES]) not in (None, self.layout.chunk_bytes):
            raise self._not_ours(chunk)
        if self._files.in_memory:
            where = self._files.address(chunk // self.layout.chunks_per_shard)
            self._places[chunk] = where + self._offsets[chunk] if where else 0
            self._checked[chunk] = True  # last: other threads go by it
        return data[:-CRC_BYTES]

    def _read_indexes(self, chunks: Rows) -> None:
        """Those of the shards that hold the chunks, together."""
        shards = np.unique(chunks // self.layout.chunks_per_shard)
        missing = shards[~self._has_index[shards]].tolist()
        n_bytes = self.layout.index_bytes
        sizes = self._files.sizes(missing)
        ranges = [(shard, size - n_bytes, size) for shard, size in zip(missing, sizes, strict=True)]
        for shard, size, index in zip(missing, sizes, self._files.views(ranges), strict=True):
            self._keep_index(shard, size, index)

    def _keep_index(self, shard: int, size: int, index: memoryview) -> None:
        """Where the chunks of a shard lie, as its index says."""
        if crc32c(index[:-CRC_BYTES]).to_bytes(CRC_BYTES, "little") != index[-CRC_BYTES:]:
            raise self._shards.damage(shard, "the index fails its crc32c")
        start, stop = self.layout.shard_range(shard)
        n_used = -(-(stop - start) // self.layout.chunk_rows)
        used = np.frombuffer(index[:-CRC_BYTES], dtype="<u8").reshape(-1, 2)[:n_used]
        ends = used.sum(axis=1)
        is_outside = (ends > size) | (used[:, 1] < CRC_BYTES)
        if (used == ABSENT).any() or is_outside.any():
            raise self._shards.damage(shard, "the index names chunks that are not there")
        first = shard * self.layout.chunks_per_shard
        self._offsets[first : first + n_used] = used[:, 0]
        self._lengths[first : first + n_used] = used[:, 1] - np.uint64(CRC_BYTES)
        self._has_index[shard] = True

    def _not_ours(self, chunk: int) -> DamageError:
        shard, number = divmod(chunk, self.layout.chunks_per_shard)
        return self._shards.damage(shard, f"inner chunk {number} is not one of this column")


def _copied(places: Rows, rows: Rows, layout: Layout, part: Part, out: NDArray[np.uint8]) -> bool:
    """Whether compiled code has copied the rows, because all of their chunks are in memory.

    ``places`` are the chunks' addresses, int64 (chunk,), and 0 where they are not.
    """
    crew = crew_for(len(out))
    if crew is None:
        return False
    sizes = layout.n_rows, layout.chunk_rows, layout.row_bytes
    return crew.copy_rows(rows, places, *sizes, part.starts, part.piece_bytes, out) < 0


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _decode_each(
    decompress: Decompress, sources: Rows, out: NDArray[np.uint8], targets: Rows
) -> int:
    """Decode what lies at addresses into rows of ``out``; which one failed, or -1."""
    n_bytes = out.shape[1]
    places = out.ctypes.data + targets * n_bytes
    for number, (source, target) in enumerate(zip(sources.tolist(), places.tolist(), strict=True)):
        if source == 0 or decompress(source, target, n_bytes, 1) != n_bytes:
            return number
    return -1

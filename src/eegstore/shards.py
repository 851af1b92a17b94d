"""The bytes of a wide column: sharded along the row axis, each inner chunk with its crc32c.

Follows the Zarr v3 core specification and its sharding codec (``sharding_indexed``, index at the
end): a shard is its inner chunks back to back, then one (offset, length) pair of little-endian
uint64 a chunk, then the crc32c of those pairs. Shards are encoded and decoded here directly:
zarr-python spends most of its time between tasks and threads, one hop a chunk.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import mmap
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from eegstore.errors import DamageError

if TYPE_CHECKING:
    from typing_extensions import Buffer

CHUNK_BYTES: Final = 1 << 20
SHARD_BYTES: Final = 1 << 26
CRC_BYTES: Final = 4
ABSENT: Final = np.uint64(2**64 - 1)
DECODED_CHUNKS_KEPT: Final = 8
MAPPED_SHARDS_KEPT: Final = 128  # each holds a file open, of which many systems allow 1,024
PCODEC_KINDS: Final = frozenset({"f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8"})


def rows_near(n_bytes: int, row_bytes: int) -> int:
    """The power of two of rows that makes about ``n_bytes``; at least one."""
    rows = max(1, n_bytes // max(1, row_bytes))
    return 1 << round(math.log2(rows))


def rows_holding(n_rows: int) -> int:
    """The smallest power of two that is at least ``n_rows``."""
    return 1 << max(0, n_rows - 1).bit_length()


@dataclass(frozen=True)
class Layout:
    """Where each row of a wide column lies.

    Parameters
    ----------
    n_rows
        Rows of the column.
    row_shape, dtype
        Shape and numpy name of the element type of one row.
    shard_rows, chunk_rows
        Rows a shard and an inner chunk; the second divides the first.
    codec
        Codec profile: ``raw``, ``fast``, ``small`` or ``archive``.
    """

    n_rows: int
    row_shape: tuple[int, ...]
    dtype: str
    shard_rows: int
    chunk_rows: int
    codec: str

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return -(-self.n_rows // self.shard_rows)

    @property
    def chunks_per_shard(self) -> int:
        """Inner chunks of a full shard: entries of its index."""
        return self.shard_rows // self.chunk_rows

    @property
    def index_bytes(self) -> int:
        """Bytes of a shard's index with its checksum."""
        return self.chunks_per_shard * 16 + CRC_BYTES

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row."""
        return math.prod(self.row_shape) * np.dtype(self.dtype).itemsize

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Shape of an inner chunk."""
        return (self.chunk_rows, *self.row_shape)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """First row of a shard, and the row after its last."""
        start = shard * self.shard_rows
        return start, min(start + self.shard_rows, self.n_rows)

    def shard_name(self, shard: int) -> str:
        """Path of a shard inside its array (Zarr's default chunk key encoding)."""
        return "/".join(["c", str(shard), *["0"] * len(self.row_shape)])


def fill_value(dtype: str) -> Any:
    """What padding rows hold: NaN for floats, else zero."""
    kind = np.dtype(dtype)
    return kind.type(np.nan) if kind.kind == "f" else kind.type(0)


@dataclass(frozen=True)
class Codec:
    """How the bytes of one inner chunk are made and read, its checksum aside."""

    encode: Callable[[NDArray[Any]], Buffer]
    decode: Callable[[Buffer], Any]


def effective_codec(profile: str, dtype: str) -> str:
    """The profile that a column gets: pcodec knows numbers of 2 to 8 bytes only."""
    if profile == "archive" and np.dtype(dtype).str[1:] not in PCODEC_KINDS:
        return "small"
    return profile


def _codec(profile: str) -> Codec:
    if profile == "raw":
        return Codec(lambda chunk: chunk.data.cast("B"), lambda data: data)
    if profile == "fast":
        from numcodecs import blosc

        blosc.use_threads = False  # tasks are the unit of parallelism
        lz4 = blosc.Blosc(cname="lz4", clevel=5, shuffle=blosc.SHUFFLE)
        return Codec(lz4.encode, lz4.decode)
    if profile == "small":
        from numcodecs.zstd import Zstd

        zstd = Zstd(level=3)
        return Codec(zstd.encode, zstd.decode)
    from numcodecs.pcodec import PCodec

    pcodec = PCodec(level=8)
    return Codec(pcodec.encode, pcodec.decode)


class ShardWriter:
    """Writes one shard, block by block, in one pass: chunks, checksums, index, digest, fsync."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._layout = layout
        self._codec = _codec(layout.codec)
        self._file = path.open("wb", buffering=0)
        self._hasher = hashlib.sha256()
        self._size = 0
        self._index = np.full((layout.chunks_per_shard, 2), ABSENT, dtype="<u8")
        self._n_chunks = 0
        self._pending = np.empty(layout.chunk_shape, dtype=layout.dtype)
        self._n_pending = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Add the next rows; whole chunks are encoded from where they are, without a copy."""
        rows = np.ascontiguousarray(rows, dtype=self._layout.dtype)
        start = 0
        while start < len(rows):
            if not self._n_pending and len(rows) - start >= self._layout.chunk_rows:
                self._write_chunk(rows[start : start + self._layout.chunk_rows])
                start += self._layout.chunk_rows
                continue
            taken = min(self._layout.chunk_rows - self._n_pending, len(rows) - start)
            self._pending[self._n_pending : self._n_pending + taken] = rows[start : start + taken]
            self._n_pending += taken
            start += taken
            if self._n_pending == self._layout.chunk_rows:
                self._write_chunk(self._pending)
                self._n_pending = 0

    def finish(self) -> tuple[int, str]:
        """Pad the last chunk, write the index, sync. Returns the file's size and SHA-256."""
        if self._n_pending:
            self._pending[self._n_pending :] = fill_value(self._layout.dtype)
            self._write_chunk(self._pending)
            self._n_pending = 0
        index = self._index.tobytes()
        self._write(index)
        self._write(crc32c(index).to_bytes(CRC_BYTES, "little"))
        os.fsync(self._file.fileno())
        return self._size, self._hasher.hexdigest()

    def _write_chunk(self, chunk: NDArray[Any]) -> None:
        data = self._codec.encode(chunk)
        start = self._size
        self._write(data)
        self._write(crc32c(data).to_bytes(CRC_BYTES, "little"))
        self._index[self._n_chunks] = start, self._size - start
        self._n_chunks += 1

    def _write(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._hasher.update(view)
        self._size += len(view)
        while len(view):
            view = view[self._file.write(view) or 0 :]


class ShardedArray:
    """Reads the rows of a wide column from its shards, mapped into memory.

    Each shard's presence, size and index are checked when it is first touched, and each inner
    chunk's crc32c when that chunk is first touched: damage raises and is never read as data.

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
        folder: Path,
        layout: Layout,
        shard_sizes: NDArray[np.int64] | None = None,
        key: str | None = None,
    ) -> None:
        self.folder = folder
        self.layout = layout
        self._sizes = shard_sizes
        self._key = key
        self._forget()

    def _forget(self) -> None:
        self._codec = _codec(self.layout.codec)
        self._shards: OrderedDict[int, tuple[mmap.mmap, NDArray[np.uint64]]] = OrderedDict()
        self._checked = np.zeros(self.layout.n_shards * self.layout.chunks_per_shard, dtype=bool)
        self._decoded: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("folder", "layout", "_sizes", "_key")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        return self.layout.n_rows

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The rows of the given numbers (each in 0 … n_rows - 1), in their order."""
        if len(rows) > 1 and (np.diff(rows) == 1).all():
            return self.read(int(rows[0]), int(rows[-1]) + 1)
        out = np.empty((len(rows), *self.layout.row_shape), dtype=self.layout.dtype)
        chunks, within = np.divmod(rows, self.layout.chunk_rows)
        order = np.argsort(chunks, kind="stable")
        starts = np.flatnonzero(np.diff(chunks[order], prepend=-1))
        for start, stop in itertools.pairwise([*starts, len(rows)]):
            where = order[start:stop]
            out[where] = self._chunk(int(chunks[where[0]]))[within[where]]
        return out

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The rows from ``start`` up to ``stop``."""
        out = np.empty((max(0, stop - start), *self.layout.row_shape), dtype=self.layout.dtype)
        row = start
        while row < stop:
            chunk, first = divmod(row, self.layout.chunk_rows)
            taken = min(self.layout.chunk_rows - first, stop - row)
            out[row - start : row - start + taken] = self._chunk(chunk)[first : first + taken]
            row += taken
        return out

    def _chunk(self, chunk: int) -> NDArray[Any]:
        """One inner chunk, decoded and checked; ``chunk`` counts through all shards."""
        if chunk in self._decoded:
            self._decoded.move_to_end(chunk)
            return self._decoded[chunk]
        shard, number = divmod(chunk, self.layout.chunks_per_shard)
        mapped, index = self._shard(shard)
        offset, length = (int(value) for value in index[number])
        data = memoryview(mapped)[offset : offset + length - CRC_BYTES]
        if not self._checked[chunk]:
            stored = mapped[offset + length - CRC_BYTES : offset + length]
            if crc32c(data).to_bytes(CRC_BYTES, "little") != stored:
                raise self._damage(shard, f"inner chunk {number} fails its crc32c")
            self._checked[chunk] = True
        try:
            values = np.frombuffer(self._codec.decode(data), dtype=self.layout.dtype)
            values = values.reshape(self.layout.chunk_shape)
        except (ValueError, RuntimeError):  # what the codecs raise
            raise self._damage(shard, f"inner chunk {number} is not one of this column") from None
        if self.layout.codec != "raw":
            self._decoded[chunk] = values
            if len(self._decoded) > DECODED_CHUNKS_KEPT:
                self._decoded.popitem(last=False)
        return values

    def _shard(self, shard: int) -> tuple[mmap.mmap, NDArray[np.uint64]]:
        """A shard, mapped, and its checked index."""
        if shard not in self._shards:
            self._shards[shard] = self._map(shard)
            if len(self._shards) > MAPPED_SHARDS_KEPT:
                self._shards.popitem(last=False)
        return self._shards[shard]

    def _map(self, shard: int) -> tuple[mmap.mmap, NDArray[np.uint64]]:
        path = self.folder / self.layout.shard_name(shard)
        if not path.is_file():  # a pipe may never answer
            raise self._damage(shard, "is missing")
        try:
            with path.open("rb") as file:
                opened = os.fstat(file.fileno())
                size = opened.st_size
                least = max(size, self.layout.index_bytes)
                expected = least if self._sizes is None else int(self._sizes[shard])
                if size != expected:
                    raise self._damage(shard, f"has {size} bytes, expected {expected}")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise self._damage(shard, "is missing") from None
        # A column's document is there only while its shards are, and no file ever comes back: what
        # still is in its place, after the document was read, was in it then.
        if self._is_replaced() or not _is_at(path, opened):
            raise self._replaced()
        index = mapped[-self.layout.index_bytes : -CRC_BYTES]
        if crc32c(index).to_bytes(CRC_BYTES, "little") != mapped[-CRC_BYTES:]:
            raise self._damage(shard, "the index fails its crc32c")
        entries = np.frombuffer(index, dtype="<u8").reshape(-1, 2)
        start, stop = self.layout.shard_range(shard)
        used = entries[: -(-(stop - start) // self.layout.chunk_rows)]
        if (used == ABSENT).any() or (used.sum(axis=1) > size).any():
            raise self._damage(shard, "the index names chunks that are not there")
        return mapped, entries

    def _key_on_disk(self) -> str | None:
        """The key that the array's document records now; None where there is none."""
        try:
            document = json.loads((self.folder / "zarr.json").read_bytes())
            return str(document["attributes"]["eegstore"]["key"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def _is_replaced(self) -> bool:
        return self._key is not None and self._key != self._key_on_disk()

    def _replaced(self) -> DamageError:
        return DamageError(f"{self.folder}: was replaced by a later build; open the store again")

    def _damage(self, shard: int, problem: str) -> DamageError:
        if self._is_replaced():
            return self._replaced()
        name = self.folder.name + "/" + self.layout.shard_name(shard)
        return DamageError(
            f"{self.folder.parent.name}/{name}: {problem}; 'eegstore verify --deep' shows all "
            "damage, 'eegstore build RECIPE STORE --deep' mends it"
        )


def _is_at(path: Path, opened: os.stat_result) -> bool:
    """Whether a path still names the file that was opened through it, and is open."""
    try:
        return os.path.samestat(path.stat(), opened)
    except OSError:
        return False

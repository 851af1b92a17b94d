"""The bytes of a wide column: sharded along the row axis, each inner chunk with its crc32c.

Follows the Zarr v3 core specification and its sharding codec (``sharding_indexed``, index at the
end): a shard is its inner chunks back to back, then one (offset, length) pair of little-endian
uint64 a chunk, then the crc32c of those pairs. Shards are encoded and decoded here directly:
zarr-python spends most of its time between tasks and threads, one hop a chunk.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import struct
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from eegstore.disk import start_sync
from eegstore.threads import n_threads

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")
Decompress = Callable[[int, int, int, int], int]

CHUNK_BYTES: Final = 1 << 20
SHARD_BYTES: Final = 1 << 26
CRC_BYTES: Final = 4
PART_BYTES: Final = 1 << 18  # of small chunks that are encoded together
STARTED_BYTES: Final = 1 << 23  # after which the disk is asked to begin
MOST_COMING: Final = 3  # parts that are being encoded: what they refer to stays in memory
MOST_UNDIGESTED: Final = 3  # parts besides that are written; helpers encode what was asked before
ABSENT: Final = np.uint64(2**64 - 1)
# Options of each profile's codec, by what they gave on 512 trials of 14 x 256 samples: float32 in
# steps of 0.51 uV; the same z-scored; the steps as int16. Medians of five rounds on one core of a
# busy machine, in MB/s: the ratios are exact, the speeds are not.
#
#   one row a chunk        bytes in for one out       encode               decode
#   lz4 shuffle 5           1.56   1.07   1.63     462   589   640    2380  2940  1480
#   lz4 bitshuffle 5        1.70   1.11   1.69     619   645   604    2140  1870  1260
#   lz4 without, 9          1.32   1.16   1.02     260   228   451    1640  1650  2010
#   lz4hc shuffle 1         1.65   1.10   1.69     145   165   265    2910  2620  1750
#   lz4hc shuffle 5         1.68   1.12   1.75      56    82    74    3510  3510  1970
#   lz4hc bitshuffle 5      1.72   1.13   1.75     112    88    85    2150  1950  1220
#   chunks of 1 MB
#   lz4 shuffle 5           1.62   1.11   1.68    1714  1293  1696    3488  4589  2949
#   lz4 bitshuffle 5        1.72   1.12   1.74    1773  1455  1097    2967  2859  1920
#   zstd 3                  2.57   1.25   1.73     135   116    86    1024   732   480
#   zstd 5                  2.89   1.25   1.77      70    58    62     852   731   793
#   zstd 9                  2.82   1.25   1.77      32    35    34     611   908   468
#   blosc zstd shuffle 5    2.16   1.20   1.86     100   119    98    1895  2486  2276
#   ... bitshuffle 5        1.77   1.18   1.98     326   208   134    2067  1836  1458
#   pcodec 8                3.31   1.74   2.37     132    39    70    1657   895  1076
#   pcodec 10               4.00   1.74   2.38     124    34    57    1663   574   848
#   pcodec 12               4.16   1.75   2.38     100    10    59    1738   716   728
CODECS: Final[dict[str, dict[str, Any]]] = {
    "raw": {},
    "fast": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle"},
    "random": {"cname": "lz4hc", "clevel": 5, "shuffle": "shuffle"},
    "small": {"level": 5},
    "archive": {"level": 10},
}
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

    @functools.cached_property
    def index_bytes(self) -> int:
        """Bytes of a shard's index with its checksum."""
        return self.chunks_per_shard * 16 + CRC_BYTES

    @functools.cached_property
    def row_bytes(self) -> int:
        """Bytes of a decoded row."""
        return math.prod(self.row_shape) * np.dtype(self.dtype).itemsize

    @functools.cached_property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded inner chunk."""
        return self.chunk_rows * self.row_bytes

    @property
    def options(self) -> dict[str, Any]:
        """The options of its codec."""
        single = self.codec == "fast" and self.chunk_rows == 1
        return CODECS["random" if single else self.codec]

    @property
    def most_shard_bytes(self) -> int:
        """Bytes that no shard exceeds: exact for ``raw``, no codec doubles a chunk."""
        most = self.chunk_bytes if self.codec == "raw" else 2 * self.chunk_bytes + 4096
        return self.chunks_per_shard * (most + CRC_BYTES) + self.index_bytes

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
    """How the bytes of one inner chunk are made and read, its checksum aside.

    ``decode`` writes into uint8 (byte,), and raises ValueError or RuntimeError where the data are
    not so many bytes, encoded. ``says`` is how many bytes the data say that they are, where the
    format has that.
    """

    encode: Callable[[NDArray[Any]], Buffer]
    decode: Callable[[Buffer, NDArray[np.uint8]], None]
    says: Callable[[memoryview], int | None] = lambda _: None


def effective_codec(profile: str, dtype: str) -> str:
    """The profile that a column gets: pcodec knows numbers of 2 to 8 bytes only."""
    if profile == "archive" and np.dtype(dtype).str[1:] not in PCODEC_KINDS:
        return "small"
    return profile


def codec_of(layout: Layout) -> Codec:
    """The codec of a layout's profile."""
    profile, options = layout.codec, layout.options
    if profile == "raw":
        return Codec(lambda chunk: chunk.data.cast("B"), _decoded(lambda data: data), len)
    if profile == "fast":
        from numcodecs import blosc

        blosc.use_threads = False  # tasks are the unit of parallelism
        shuffle = getattr(blosc, options["shuffle"].upper())
        lz4 = blosc.Blosc(**options | {"shuffle": shuffle})
        return Codec(lz4.encode, _decoded(lz4.decode), _blosc_bytes)
    if profile == "small":
        from numcodecs.zstd import Zstd

        zstd = Zstd(**options)
        return Codec(zstd.encode, _decoded(zstd.decode))
    from numcodecs.pcodec import PCodec

    pcodec = PCodec(**options)
    return Codec(pcodec.encode, _decoded(pcodec.decode))


def _decoded(decode: Callable[[Buffer], Any]) -> Callable[[Buffer, NDArray[np.uint8]], None]:
    """Decode into an array that must be filled: some codecs fill one in part, and say nothing."""

    def into(data: Buffer, out: NDArray[np.uint8]) -> None:
        values = np.frombuffer(decode(data), dtype=np.uint8)
        if len(values) != len(out):
            raise ValueError(f"{len(values)} bytes, expected {len(out)}")
        out[...] = values

    return into


def _blosc_bytes(data: memoryview) -> int:
    """From the header of a Blosc chunk: version 2, three bytes, then three little-endian uint32.

    c-blosc reads as many bytes as the header says: it is believed where it fits the index alone.
    """
    n_decoded, _, n_encoded = struct.unpack_from("<3I", data, 4) if len(data) >= 16 else (0, 0, -1)
    return int(n_decoded) if n_encoded == len(data) else -1


@functools.cache
def blosc_function() -> Decompress | None:
    """c-blosc's ``blosc_decompress_ctx(source, target, target_bytes, n_threads)``.

    numcodecs' compiled module exports it. A row of 14 KB takes a third of the time that it takes
    through numcodecs, and the interpreter is free meanwhile. None where it is not exported.
    """
    from numcodecs import blosc

    try:
        function = ctypes.CDLL(blosc.__file__).blosc_decompress_ctx
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_int
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    found: Decompress = function
    return found


class Here(Executor):
    """Runs each call at once, in the thread that asks."""

    def submit(self, call: Callable[..., T], /, *arguments: Any, **options: Any) -> Future[T]:
        """Run it."""
        done: Future[T] = Future()
        done.set_result(call(*arguments, **options))
        return done


def writing_threads() -> Executor:
    """Helpers of the writers of a task: one for each processor, since the caller mostly waits.

    Two at least, because one may wait for the disk. A third on two processors takes a tenth longer.
    """
    return ThreadPoolExecutor(max(2, n_threads()))


class ShardWriter:
    """Writes one shard, block by block, in one pass: chunks, checksums, index, digest, fsync.

    Parameters
    ----------
    path
        The file.
    layout
        Of the column.
    helpers
        Threads that encode and digest while the caller goes on; the bytes are the same without.
    """

    def __init__(self, path: Path, layout: Layout, helpers: Executor | None = None) -> None:
        self._layout = layout
        self._codec = codec_of(layout)
        self._helpers = helpers or Here()
        self._file = path.open("wb", buffering=0)
        self._hasher = hashlib.sha256()
        self._size = 0
        self._index = np.full((layout.chunks_per_shard, 2), ABSENT, dtype="<u8")
        self._n_chunks = 0
        self._n_started = 0
        self._coming: deque[Future[list[list[Buffer]]]] = deque()
        self._digesting: Future[None] | None = None
        self._undigested: deque[list[Buffer]] = deque()
        self._pending: NDArray[Any] | None = None
        self._n_pending = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Add the next rows, which must not change until ``finish`` has returned.

        Whole chunks are encoded from where they are, without a copy.
        """
        rows = np.ascontiguousarray(rows, dtype=self._layout.dtype)
        rows = rows[self._fill(rows) :] if self._n_pending else rows
        chunk_rows = self._layout.chunk_rows
        n_whole = len(rows) // chunk_rows * chunk_rows
        step = max(1, PART_BYTES // max(1, self._layout.chunk_bytes)) * chunk_rows
        for start in range(0, n_whole, step):
            self._encode(rows[start : min(start + step, n_whole)])
        if n_whole < len(rows):
            self._fill(rows[n_whole:])

    def finish(self) -> tuple[int, str]:
        """Pad the last chunk, write the index, sync. Returns the file's size and SHA-256."""
        if self._pending is not None:
            self._pending[self._n_pending :] = fill_value(self._layout.dtype)
            self._encode(self._pending)
        while self._coming:
            self._write_next()
        index = self._index.tobytes()
        self._write([index, crc32c(index).to_bytes(CRC_BYTES, "little")])
        if self._digesting is not None:
            self._digesting.result()
        self._digest()  # what came while the last call ended
        os.fsync(self._file.fileno())
        return self._size, self._hasher.hexdigest()

    def _fill(self, rows: NDArray[Any]) -> int:
        """Copy as many rows as the chunk that is not full takes; how many those are."""
        if self._pending is None:
            self._pending = np.empty(self._layout.chunk_shape, dtype=self._layout.dtype)
        taken = min(self._layout.chunk_rows - self._n_pending, len(rows))
        self._pending[self._n_pending : self._n_pending + taken] = rows[:taken]
        self._n_pending += taken
        if self._n_pending == self._layout.chunk_rows:
            self._encode(self._pending)
            self._pending, self._n_pending = None, 0
        return taken

    def _encode(self, rows: NDArray[Any]) -> None:
        """Let whole chunks be encoded, and write those that were asked for before."""
        self._coming.append(self._helpers.submit(self._encoded, rows))
        while len(self._coming) > MOST_COMING:
            self._write_next()

    def _encoded(self, rows: NDArray[Any]) -> list[list[Buffer]]:
        """Of each chunk its encoded bytes and their checksum."""
        encoded: list[list[Buffer]] = []
        for start in range(0, len(rows), self._layout.chunk_rows):
            data = self._codec.encode(rows[start : start + self._layout.chunk_rows])
            encoded.append([data, crc32c(data).to_bytes(CRC_BYTES, "little")])
        return encoded

    def _write_next(self) -> None:
        encoded, start = self._coming.popleft().result(), self._size
        for data, _ in encoded:
            n_bytes = memoryview(data).nbytes + CRC_BYTES
            self._index[self._n_chunks] = start, n_bytes
            self._n_chunks += 1
            start += n_bytes
        pieces = [piece for pair in encoded for piece in pair]
        self._write(pieces if len(encoded) == 1 else [b"".join(pieces)])

    def _write(self, pieces: list[Buffer]) -> None:
        """Write bytes, and let them be digested meanwhile."""
        self._undigested.append(pieces)
        if self._digesting is not None and len(self._undigested) > MOST_UNDIGESTED:
            self._digesting.result()
        if self._digesting is None or self._digesting.done():
            self._digesting = self._helpers.submit(self._digest)
        for piece in pieces:
            view = memoryview(piece).cast("B")
            self._size += len(view)
            while len(view):
                view = view[self._file.write(view) or 0 :]
        if self._size - self._n_started >= STARTED_BYTES:
            started = self._file.fileno(), self._n_started, self._size - self._n_started
            self._helpers.submit(start_sync, *started)
            self._n_started = self._size

    def _digest(self) -> None:
        """Digest what was written, in its order; one thread at a time."""
        while self._undigested:
            for piece in self._undigested.popleft():
                self._hasher.update(piece)

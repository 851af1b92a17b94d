"""Maps the files of an array into memory, one behind the other in one range of addresses.

One range makes a batch of rows one gather, whatever shards they lie in. Where the platform gives
no such range, each file has one of its own.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from eegstore.threads import share

FILES_KEPT: Final = 128  # each holds a file open, of which many systems allow 1,024
MOST_IN_ONE_RANGE: Final = 32_768  # Linux allows a process 65,530 mappings
LARGE_BYTES: Final = 1 << 16  # a copy of these outweighs a step of Python
# Where the cache holds so many bytes of a file as one, and they lie at a multiple of it, they are
# mapped as one: what is read at random waits less for addresses.
LARGE_PAGE_BYTES: Final = 1 << 21
PROT_NONE: Final = 0
MAP_FIXED: Final = 0x10
MAP_NORESERVE: Final = 0x4000
FAILED: Final = ctypes.c_void_p(-1).value

OpenFile = Callable[[int], int]


def gather(memory: NDArray[np.uint8], starts: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """Copy pieces of memory, which start at these bytes, into uint8 (piece, byte), in threads."""
    n_pieces, n_bytes = out.shape
    if not out.size:
        return
    if n_bytes >= LARGE_BYTES:
        share(functools.partial(_copy_each, memory, starts, out), n_pieces, n_bytes)
    else:
        share(functools.partial(_index, *_window(memory, starts, out)), n_pieces, n_bytes)


def _copy_each(
    memory: NDArray[np.uint8],
    starts: NDArray[np.int64],
    out: NDArray[np.uint8],
    first: int,
    stop: int,
) -> None:
    for piece, start in enumerate(starts[first:stop].tolist(), first):
        out[piece] = memory[start : start + out.shape[1]]


def _window(
    memory: NDArray[np.uint8], starts: NDArray[np.int64], out: NDArray[np.uint8]
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any]]:
    """The memory as all of its pieces, of which any two neighbours start one word apart."""
    piece = out.shape[1]
    # Shards and chunks end in a checksum of 4 bytes: wider words would not be aligned.
    width = next(n for n in (4, 2, 1) if piece % n == 0 and not (starts % n).any())
    words = memory[: len(memory) // width * width].view(f"u{width}")
    n_words = piece // width
    window = np.lib.stride_tricks.as_strided(
        words, (len(words) - n_words + 1, n_words), (width, width)
    )
    return window, starts // width, out.view(f"u{width}")


def _index(
    window: NDArray[Any], starts: NDArray[np.int64], out: NDArray[Any], first: int, stop: int
) -> None:
    # So few that what numpy copies once more is in the cache.
    out[first:stop] = window[starts[first:stop]]


class Files(Protocol):
    """Files of which bytes are asked for; each is opened when it is first asked for.

    Attributes
    ----------
    in_memory
        Whether they are mapped, so that what was seen once stays as it was.
    """

    in_memory: bool

    def view(self, file: int, start: int, stop: int) -> memoryview:
        """A range of bytes of a file."""

    def views(self, ranges: Iterable[tuple[int, int, int]]) -> list[memoryview]:
        """Several ranges, each a file, its start and its stop."""

    def sizes(self, files: list[int]) -> list[int]:
        """Bytes of files."""

    def gather(
        self,
        files: NDArray[np.int64],
        starts: NDArray[np.int64],
        out: NDArray[np.uint8],
    ) -> None:
        """Copy pieces, of which each starts at a byte of a file, into uint8 (piece, byte).

        All of the files have been asked for before.
        """

    def address(self, file: int) -> int:
        """Where a file lies that has been asked for before; 0 if it may move."""


class Mapped:
    """Files mapped into memory."""

    in_memory = True

    def view(self, file: int, start: int, stop: int) -> memoryview:
        """A range of bytes of a file, which is not copied."""
        raise NotImplementedError

    def views(self, ranges: Iterable[tuple[int, int, int]]) -> list[memoryview]:
        """Several ranges, which are not copied."""
        return [self.view(*one) for one in ranges]

    def size(self, file: int) -> int:
        """Bytes of a file."""
        raise NotImplementedError

    def sizes(self, files: list[int]) -> list[int]:
        """Bytes of files."""
        return [self.size(file) for file in files]


class OneRange(Mapped):
    """All files in one range of addresses.

    Raises
    ------
    OSError
        Where the system gives no such range.
    """

    def __init__(self, n_files: int, file_bytes: int, open_file: OpenFile) -> None:
        if n_files > MOST_IN_ONE_RANGE:
            raise OSError("too many files for one range")
        self._open = open_file
        is_large = file_bytes >= LARGE_PAGE_BYTES
        page = LARGE_PAGE_BYTES if is_large else mmap.ALLOCATIONGRANULARITY
        self._stride = -(-file_bytes // page) * page
        self._sizes = np.full(n_files, -1)  # of those that are mapped
        size = max(1, n_files) * self._stride
        reserved = size + LARGE_PAGE_BYTES  # wherever it starts, a multiple lies in it
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        start = _mmap(None, reserved, PROT_NONE, flags, -1)
        self._base = -(-start // LARGE_PAGE_BYTES) * LARGE_PAGE_BYTES
        buffer = (ctypes.c_uint8 * size).from_address(self._base)
        # Whatever views the memory holds the buffer, and with it the range.
        unmap = weakref.finalize(buffer, _library().munmap, start, reserved)
        unmap.atexit = False  # a thread may still read while the interpreter ends
        self._memory = np.ctypeslib.as_array(buffer)

    def view(self, file: int, start: int, stop: int) -> memoryview:
        """A range of bytes of a file."""
        self._map(file)
        first = file * self._stride
        return self._memory[first + start : first + stop].data

    def size(self, file: int) -> int:
        """Bytes of a file."""
        self._map(file)
        return int(self._sizes[file])

    def gather(
        self,
        files: NDArray[np.int64],
        starts: NDArray[np.int64],
        out: NDArray[np.uint8],
    ) -> None:
        """Copy pieces of files into ``out`` at once."""
        gather(self._memory, files * self._stride + starts, out)

    def address(self, file: int) -> int:
        """Where a file lies."""
        return self._base + file * self._stride

    def _map(self, file: int) -> None:
        if self._sizes[file] >= 0:
            return
        descriptor = self._open(file)
        try:
            size = os.fstat(descriptor).st_size
            if size > self._stride:
                raise OSError(f"file {file} has {size} bytes, expected at most {self._stride}")
            where = self._base + file * self._stride
            _mmap(where, size, mmap.PROT_READ, mmap.MAP_SHARED | MAP_FIXED, descriptor)
        finally:
            os.close(descriptor)
        self._sizes[file] = size


class OneByOne(Mapped):
    """Each file in a range of its own; those unused for longest are unmapped."""

    def __init__(self, open_file: OpenFile) -> None:
        self._open = open_file
        self._files: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def view(self, file: int, start: int, stop: int) -> memoryview:
        """A range of bytes of a file."""
        return self._map(file)[start:stop].data

    def size(self, file: int) -> int:
        """Bytes of a file."""
        return len(self._map(file))

    def gather(
        self,
        files: NDArray[np.int64],
        starts: NDArray[np.int64],
        out: NDArray[np.uint8],
    ) -> None:
        """Copy pieces into ``out``, file by file."""
        for file in np.unique(files).tolist():
            where = np.flatnonzero(files == file)
            some = np.empty((len(where), out.shape[1]), dtype=np.uint8)
            gather(self._map(file), starts[where], some)
            out[where] = some

    def address(self, file: int) -> int:
        """0: it may be unmapped when the next one is mapped."""
        return 0

    def _map(self, file: int) -> NDArray[np.uint8]:
        with self._lock:
            if file not in self._files:
                descriptor = self._open(file)
                try:
                    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
                finally:
                    os.close(descriptor)
                self._files[file] = np.frombuffer(mapped, dtype=np.uint8)
                if len(self._files) > FILES_KEPT:
                    self._files.popitem(last=False)
            self._files.move_to_end(file)
            return self._files[file]


def mapped(n_files: int, file_bytes: int, open_file: OpenFile) -> Files:
    """Files that are mapped when they are first touched.

    Parameters
    ----------
    n_files
        Number of files.
    file_bytes
        Most bytes that one of them has.
    open_file
        Opens and checks a file; gives its descriptor, which is closed here.
    """
    if sys.platform == "linux":
        try:
            return OneRange(n_files, file_bytes, open_file)
        except OSError:  # a limit on addresses, or more files than may be mapped
            pass
    return OneByOne(open_file)


@functools.lru_cache(maxsize=1)
def _library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.mmap.restype = ctypes.c_void_p
    integers = [ctypes.c_int] * 3
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *integers, ctypes.c_long]
    return library


def _mmap(where: int | None, size: int, protection: int, flags: int, descriptor: int) -> int:
    address: int | None = _library().mmap(where, size, protection, flags, descriptor, 0)
    if address is None or address == FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return address

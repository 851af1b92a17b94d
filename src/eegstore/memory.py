"""Memory for batches, used again once nothing refers to it.

The pages of fresh memory cost more than the copy of a batch into them.
"""

from __future__ import annotations

import contextlib
import functools
import math
import mmap
import os
import sys
import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEAST_BYTES: Final = 1 << 19  # what is smaller comes from memory that the allocator keeps
MOST_BYTES: Final = 1 << 26
KEPT_BYTES: Final = 1 << 27
Block = NDArray[np.uint8]


# Which references are counted differs between interpreters, and a debugger adds its own: those of a
# block that is never given out are counted each time. Where threads count them apart, and where
# there is no anonymous memory, nothing is used again.
IS_KEEPING: Final = (
    hasattr(mmap, "MAP_ANONYMOUS") and getattr(sys, "_is_gil_enabled", lambda: True)()
)


@functools.lru_cache(maxsize=64)
def _block_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Of the block that an array gets, a few sizes for all; 0 where it gets none."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if not IS_KEEPING or not LEAST_BYTES <= n_bytes <= MOST_BYTES:
        return 0
    quarter = 1 << (n_bytes.bit_length() - 3)
    return -(-n_bytes // quarter) * quarter


class Pool:
    """Blocks of memory, of which each is given out while nothing but the pool refers to it.

    Attributes
    ----------
    n_bytes
        Of all blocks.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Keep no block; those that are in use stay as long as they are."""
        self._blocks: dict[int, list[Block]] = {}
        self.n_bytes = 0
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: str) -> tuple[NDArray[Any], Block]:
        """As ``numpy.empty``; and the memory as bytes, of which there may be more."""
        size = _block_bytes(shape, dtype)
        if not size:
            array: NDArray[Any] = np.empty(shape, dtype)
            return array, array.reshape(-1).view(np.uint8)
        with self._lock:
            block = self._unused(size)
            if block is None:
                block = self._new(size)
            # Whatever views the memory, a tensor too, refers to the block.
            return np.ndarray(shape, dtype, block), block

    def _unused(self, size: int) -> Block | None:
        unused = 0
        for block in self._blocks.get(size, ()):
            n_references = sys.getrefcount(block)
            if n_references == unused:
                return block
            unused = unused or n_references  # of the first, which is never given out
        return None

    def _new(self, size: int) -> Block:
        # Not shared with a fork, which is a reader of its own.
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(AttributeError, OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
        block = np.frombuffer(memory, dtype=np.uint8)
        if self.n_bytes + size > KEPT_BYTES:  # what is read now is of other sizes
            self._blocks, self.n_bytes = {}, 0
        self._blocks.setdefault(size, [np.empty(1, dtype=np.uint8)]).append(block)
        self.n_bytes += size
        return block


pool: Final = Pool()
if hasattr(os, "register_at_fork"):  # the lock may be held by a thread that is not in the fork
    os.register_at_fork(after_in_child=pool.forget)


def empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """As ``numpy.empty``, of memory that was used before where there is some."""
    return pool.empty(shape, dtype)[0]


def target_of(
    out: NDArray[Any] | None, shape: tuple[int, ...], dtype: str
) -> tuple[NDArray[Any], Block]:
    """What to fill, a new array or the caller's if it fits; and its bytes, or more than these."""
    if out is None:
        return pool.empty(shape, dtype)
    fits = (out.shape, out.dtype) == (shape, np.dtype(dtype)) and out.flags.c_contiguous
    if not (fits and out.flags.writeable):
        expected = f"contiguous {dtype} {shape} that can be written to"
        raise ValueError(f"out is {out.dtype} {out.shape}, expected {expected}")
    return out, out.reshape(-1).view(np.uint8)

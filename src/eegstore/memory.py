"""Memory for batches, used again once nothing refers to it.

The pages of fresh memory cost more than the copy of a batch into them.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import weakref
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEAST_BYTES: Final = 1 << 19  # what is smaller comes from memory that the allocator keeps
MOST_BYTES: Final = 1 << 26
KEPT_BYTES: Final = 1 << 27

# Size to the blocks of that size that nothing refers to; lists, because their methods are atomic.
_free: dict[int, list[mmap.mmap]] = {}


def empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """As ``numpy.empty``."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if not LEAST_BYTES <= n_bytes <= MOST_BYTES or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.empty(shape, dtype)
    block = _block(n_bytes)
    lease = (ctypes.c_uint8 * n_bytes).from_buffer(block)
    # Whatever views the memory, a tensor too, holds the lease.
    weakref.finalize(lease, _give_back, block).atexit = False
    values: NDArray[Any] = np.frombuffer(memoryview(lease), np.uint8).view(dtype).reshape(shape)
    return values


def _block(n_bytes: int) -> mmap.mmap:
    """Memory of at least so many bytes."""
    quarter = 1 << (n_bytes.bit_length() - 3)
    size = -(-n_bytes // quarter) * quarter
    try:
        return _free[size].pop()
    except LookupError:
        pass
    # Not shared with a fork, which is a reader of its own.
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give_back(block: mmap.mmap) -> None:
    kept = sum(size * len(blocks) for size, blocks in list(_free.items()))
    if kept + len(block) > KEPT_BYTES:
        _free.clear()  # what is read now is of other sizes
    _free.setdefault(len(block), []).append(block)

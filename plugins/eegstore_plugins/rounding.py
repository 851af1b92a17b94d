"""How far the numbers of a file are from the float32 that a signal is stored as."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def rounding_hints(where: str, dtype: DTypeLike, blocks: Iterable[NDArray[Any]]) -> tuple[str, ...]:
    """Say in a line for the user what float32 changes most, or nothing where it holds the numbers.

    Parameters
    ----------
    where
        The file, as the user knows it.
    dtype
        Of the numbers. Where float32 holds all that it can hold, no block is asked for.
    blocks
        Any shape: all numbers, a block at a time. Those that are not finite as float32 are left
        out: such trials are refused one by one.
    """
    if np.can_cast(dtype, np.float32):
        return ()
    error, at = 0.0, 0.0
    for block in blocks:
        with np.errstate(over="ignore", invalid="ignore"):
            change = np.abs(block.astype(np.float32) - block)
        if not np.isfinite(change.max()):
            change[~np.isfinite(change)] = 0
        if change.max() > error:
            error, at = float(change.max()), float(block.flat[change.argmax()])
    if not error:
        return ()
    return (
        f"{where}: {np.dtype(dtype)} is stored as float32, which changes a value by "
        f"{error:.2g} at most (at {at:.3g})",
    )

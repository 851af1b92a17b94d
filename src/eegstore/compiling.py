"""Whether compiled code is used: where there is numba, and enough to copy or decode."""

from __future__ import annotations

import functools
import os
from types import ModuleType
from typing import Final

# numba takes about as long to import as the interpreter does for so many.
BYTES_BEFORE: Final = 1 << 26


class Compiling:
    """How much this process has copied and decoded."""

    def __init__(self) -> None:
        self._n_bytes = 0

    def is_worth(self, n_bytes: int) -> bool:
        """Whether there was much to do, with so many bytes more."""
        self._n_bytes += n_bytes
        return self._n_bytes > BYTES_BEFORE


compiling: Final = Compiling()


@functools.cache
def loaded() -> ModuleType | None:
    """The module of compiled code; None where it cannot be had."""
    if os.name != "posix":  # a call of what the system lacks, such as semaphores, ends the process
        return None
    try:
        from eegstore import compiled
    except Exception:  # whatever keeps numba from work: the bytes are the same without
        return None
    return compiled

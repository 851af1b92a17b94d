"""The threads of a process that share the jobs of compiled code."""

from __future__ import annotations

import functools
import os
import threading
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.compiling import compiling
from eegstore.threads import n_threads

Words = NDArray[np.int64]
WORD: Final = np.dtype(np.int64)


class Crew:
    """Copies and decodes in several threads, without the interpreter.

    Parameters
    ----------
    compiled
        The module of compiled code.
    """

    def __init__(self, compiled: ModuleType) -> None:
        self._compiled = compiled
        wanted = n_threads() - 1
        self._words = np.zeros((wanted + 1) * compiled.HELPER_WORDS, dtype=np.int64)
        self._n_helpers = compiled.assemble(self._words, wanted)
        for number in range(1, self._n_helpers + 1):
            threading.Thread(
                target=compiled.help_out,
                args=(self._words, number),
                name=f"eegstore-crew-{number}",
                daemon=True,
            ).start()

    def copy_rows(self, rows: Words, *what: object) -> int:
        """``compiled.copy_rows``, from its argument ``rows`` on."""
        compiled = self._compiled
        found: int = compiled.copy_rows(self._words, self._n_helpers, compiled.COPY, rows, *what)
        return found

    def decode_chunks(self, function: int, *what: object) -> int:
        """``compiled.decode_chunks``, from its argument ``function`` on."""
        compiled = self._compiled
        found: int = compiled.decode_chunks(
            self._words, self._n_helpers, compiled.DECODE, function, *what
        )
        return found


def picked(values: Words, numbers: NDArray[Any]) -> Words | None:
    """``values[numbers]``, of 0 to its last; None where that is for numpy to do, or to refuse."""
    compiled = compiling.for_bytes(0)
    if compiled is None or numbers.dtype != WORD or numbers.ndim != 1 or not numbers.flags.carray:
        return None
    found: Words = compiled.picked(values, numbers)
    return found if len(found) == len(numbers) else None


def crew_for(n_bytes: int) -> Crew | None:
    """The process' crew, once there was much to copy or decode; else None."""
    compiled = compiling.for_bytes(n_bytes)
    return None if compiled is None else _crew(compiled)


@functools.cache
def _crew(compiled: ModuleType) -> Crew:
    return Crew(compiled)


if hasattr(os, "register_at_fork"):  # the threads of a parent process are not in a fork
    os.register_at_fork(after_in_child=_crew.cache_clear)

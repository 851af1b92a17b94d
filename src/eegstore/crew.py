"""The threads of a process that share the jobs of compiled code."""

from __future__ import annotations

import functools
import os
import threading
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegstore.compiling import compiling, loaded
from eegstore.threads import n_threads

Words = NDArray[np.int64]


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

    def copy_rows(self, *what: object) -> int:
        """``compiled.copy_rows``, from its argument ``rows`` on."""
        compiled = self._compiled
        found: int = compiled.copy_rows(self._words, self._n_helpers, compiled.COPY, *what)
        return found

    def decode_chunks(self, *what: object) -> int:
        """``compiled.decode_chunks``, from its argument ``function`` on."""
        compiled = self._compiled
        found: int = compiled.decode_chunks(self._words, self._n_helpers, compiled.DECODE, *what)
        return found

    def picked(self, values: Words, numbers: NDArray[Any]) -> Words | None:
        """``values[numbers]``, of 0 to its last; None where that is for numpy to do, or refuse."""
        try:
            # Given an array to fill, compiled code is back sooner than with one of its own.
            found = np.empty(len(numbers), np.int64)
            return found if self._compiled.pick(values, numbers, found) else None
        except TypeError:  # no int64 of one axis, one behind the other
            return None


def crew_for(n_bytes: int) -> Crew | None:
    """The process' crew, once there was much to copy or decode; else None."""
    return _crew() if compiling.is_worth(n_bytes) else None


@functools.cache
def _crew() -> Crew | None:
    compiled = loaded()
    return None if compiled is None else Crew(compiled)


if hasattr(os, "register_at_fork"):  # the threads of a parent process are not in a fork
    os.register_at_fork(after_in_child=_crew.cache_clear)

"""Threads that help whoever asks with the parts of one piece of work."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

MOST_THREADS: Final = 16
PART_BYTES: Final = 1 << 18  # takes longer than a thread needs to wake, and stays in a cache


def share(
    call: Callable[[int, int], None], n_items: int, item_bytes: int, part_bytes: int = PART_BYTES
) -> None:
    """Call for ranges that together are 0 … n_items - 1.

    The thread that asks works too, and waits for none that has not begun: where other processes
    keep the processors busy, it does all itself.

    Parameters
    ----------
    call
        Called with the start and the stop of a range; holds no lock that another range needs.
    n_items
        How many there are.
    item_bytes, part_bytes
        Bytes of each, and of a range.
    """
    size = max(1, part_bytes // max(1, item_bytes))
    starts = iter(range(0, n_items, size))

    def work() -> None:
        for start in starts:  # another thread takes the next: an iterator of a range is atomic
            call(start, min(start + size, n_items))

    together(work, -(-n_items // size))


def together(work: Callable[[], None], n_parts: int) -> None:
    """Call in several threads at once what shares its work among those that call it.

    Parameters
    ----------
    work
        Takes what nobody has taken, until nothing is left; holds no lock that another call needs.
    n_parts
        More threads than that would find nothing.
    """
    helpers = [_Helper(work) for _ in range(min(n_threads(), n_parts) - 1)]
    for helper in helpers:
        _queue(os.getpid()).put(helper)
    try:
        work()
    finally:
        for helper in helpers:
            helper.finish()
    for helper in helpers:
        if helper.error is not None:
            raise helper.error


def n_threads() -> int:
    """How many threads this process can run at once."""
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cpus = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(n_cpus, MOST_THREADS)


class _Helper:
    """One thread's help, which is called off where it has not begun in time."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._claims = itertools.count()  # whoever gets the 0 has it; an atomic step
        self._is_working = threading.Lock()
        self._is_working.acquire()
        self.error: BaseException | None = None

    def begin(self) -> None:
        """Work, in the helping thread."""
        if next(self._claims):
            return
        try:
            self._work()
        except BaseException as error:
            self.error = error
        finally:
            self._is_working.release()

    def finish(self) -> None:
        """Wait for the end of the help, in the thread that asked for it."""
        if next(self._claims):
            self._is_working.acquire()


@functools.lru_cache(maxsize=1)
def _queue(_process: int) -> SimpleQueue[_Helper]:
    """What the threads of a process wait for; those of its parent are not in a fork."""
    waiting: SimpleQueue[_Helper] = SimpleQueue()

    def run() -> None:
        while True:
            waiting.get().begin()

    for number in range(n_threads() - 1):
        name = f"eegstore-helper-{number}"
        threading.Thread(target=run, name=name, daemon=True).start()
    return waiting

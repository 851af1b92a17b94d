"""Compares ways of doing one thing, in turn, so that what else the machine does meets them all.

Each round times all, the one that begins changing from round to round, with the garbage collector
off; the result is the median of the rounds' ratios. So is the bound, measured in the same rounds.
Each reader has random rows of its own in each round: with the same rows, whoever comes second finds
them in the processor's caches.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

BATCH = 256
LEAST_S = 0.02  # of one measurement: below it the clock and the scheduler count too much
MOST_CALLS = 64
Rows = NDArray[np.int64]
T = TypeVar("T")


class Row(NamedTuple):
    """A row of the table.

    Attributes
    ----------
    most
        The ratio that the machine gives at most, whoever programs it, measured beside; or NaN.
    """

    what: str
    ratio: float
    limit: str
    most: float = math.nan


@contextmanager
def no_collection() -> Iterator[None]:
    """Without the garbage collector, which would run in whoever happens to reach its threshold."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    with no_collection():
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def in_turn(ways: Sequence[Callable[[], T]], n_rounds: int) -> list[list[T]]:
    """What each way gives in each round; who begins changes, and who comes behind whom."""
    found: list[list[T]] = [[] for _ in ways]
    for number in range(n_rounds):
        order = [place % len(ways) for place in range(number, number + len(ways))]
        for way in order if number // len(ways) % 2 == 0 else reversed(order):
            found[way].append(ways[way]())
    return found


def times_faster(taken: Sequence[Sequence[float]]) -> list[float]:
    """How many times as long the last way took as each other: medians over the rounds."""
    *others, last = np.array(taken)
    return [float(np.median(last / other)) for other in others]


class RandomBatches:
    """Seconds a batch of random rows takes; the rows are new in each call, and drawn untimed.

    Parameters
    ----------
    read
        Reads the rows of a batch.
    n_rows
        How many there are to draw from.
    seed
        Another for each reader.
    """

    def __init__(self, read: Callable[[Rows], Any], n_rows: int, seed: int) -> None:
        self.read, self._n_rows = read, n_rows
        self._rng = np.random.default_rng(seed)
        self._n_calls = 1
        taken = self()  # with what is done once, such as opening
        taken = self() if taken < 10 * LEAST_S else taken
        # The first batches after a pause take longest: how many there are to be only many can tell.
        while self._n_calls < MOST_CALLS and self._n_calls * taken < LEAST_S:
            self._n_calls *= 2
            taken = self()

    def __call__(self) -> float:
        size = min(BATCH, self._n_rows)
        rows = [self._rng.choice(self._n_rows, size, False) for _ in range(self._n_calls)]
        return seconds(lambda: self._read_each(rows)) / self._n_calls

    def _read_each(self, batches: list[Rows]) -> None:
        for rows in batches:
            self.read(rows)


def warm(*folders: Any) -> None:
    """Read all files once: what is measured is a warm page cache."""
    buffer = bytearray(1 << 22)
    for folder in folders:
        for file in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if file.is_file():
                with file.open("rb", buffering=0) as stream:
                    while stream.readinto(buffer):
                        pass

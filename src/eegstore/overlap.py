"""Lets the stages of a task overlap: what comes next is read, and what is done is written."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Self, TypeVar

MOST_WAITING: Final = 2  # calls that have not ended: what they refer to stays in memory
Item = TypeVar("Item")


class Clock:
    """Seconds by stage; of one stage, one thread at a time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, stage: str, items: Iterator[Item]) -> Iterator[Item]:
        """The items, the time that each takes added to a stage."""
        while True:
            start = time.perf_counter()
            item = next(items, None)
            self.seconds[stage] += time.perf_counter() - start
            if item is None:
                return
            yield item

    def call(self, stage: str, call: Any, *arguments: Any) -> Any:
        """A call, its time added to a stage."""
        start = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self.seconds[stage] += time.perf_counter() - start


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each made in another thread while the one before is in use."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


class Later:
    """Runs calls one after the other in another thread, while the caller goes on.

    What a call raises is raised by ``call`` or ``finish``. Left early, it waits for the call that
    runs and drops those that do not.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def call(self, call: Callable[..., None], *arguments: Any) -> None:
        """Ask for a call; what it is given must not change before ``finish`` has returned."""
        while len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(call, *arguments))

    def finish(self) -> None:
        """Wait for all calls."""
        while self._waiting:
            self._waiting.popleft().result()

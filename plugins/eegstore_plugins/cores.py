"""Shares linear algebra among processors: each works on a part of its own, in one thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST: Final = 8  # each has matrices of its own in memory


@lru_cache(maxsize=1)
def _libraries() -> Any:
    """The libraries that multiply matrices, which have to be loaded by now."""
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep each product of matrices to one thread.

    Their bytes then do not depend on how many processors there are, and no thread waits, busily,
    for one that another process keeps from running.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield


def _n_cores() -> int:
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cpus = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(n_cpus, MOST)


def each(call: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """What a call gives for each item; items are computed at the same time."""
    with ThreadPoolExecutor(_n_cores()) as pool:
        return list(pool.map(call, items))


class Background:
    """Calls that run while others are prepared."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_n_cores())
        self._calls: list[Future[Any]] = []

    def call(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Begin a call."""
        self._calls.append(self._pool.submit(call, *arguments))

    def wait(self) -> None:
        """Wait for those that have begun; what one raised is raised here."""
        calls, self._calls = self._calls, []
        for one in calls:
            one.result()

    def close(self) -> None:
        """Begin no more, and let go of the threads."""
        self._pool.shutdown(cancel_futures=True)

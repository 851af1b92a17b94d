"""Executors that run the tasks of a build in another order, as a third party would add them."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

from eegstore import hookimpl

Call = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]
ran: list[int] = []  # numbers of the tasks, in the order in which they ran


def in_place(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def in_a_process_of_its_own(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


class Held(Executor):
    """Holds calls until there are as many as workers, and runs them in an order of its own."""

    def __init__(
        self, n_calls: int, order: Callable[[list[Call]], list[Call]], run: Callable[..., Any]
    ) -> None:
        self._n_calls, self._order, self._run = n_calls, order, run
        self._held: list[Call] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        self._held.append((future, fn, args))
        if len(self._held) == self._n_calls:
            threading.Thread(target=self._run_all, daemon=True).start()
        return future

    def _run_all(self) -> None:
        for future, function, arguments in self._order(self._held):
            try:
                ran.append(arguments[1])
                future.set_result(self._run(function, *arguments))
            except BaseException as error:
                future.set_exception(error)


def shuffled(calls: list[Call]) -> list[Call]:
    return random.Random(3).sample(calls, len(calls))


@dataclass(frozen=True)
class Backwards:
    """The last task first."""

    name: ClassVar[str] = "backwards"
    version: ClassVar[str] = "1"

    def __call__(self, n_workers: int) -> Executor:
        return Held(n_workers, lambda calls: calls[::-1], in_place)


@dataclass(frozen=True)
class Shuffled:
    """Tasks in random order."""

    name: ClassVar[str] = "shuffled"
    version: ClassVar[str] = "1"

    def __call__(self, n_workers: int) -> Executor:
        return Held(n_workers, shuffled, in_place)


@dataclass(frozen=True)
class Alone:
    """Tasks in random order, each in a new process."""

    name: ClassVar[str] = "alone"
    version: ClassVar[str] = "1"

    def __call__(self, n_workers: int) -> Executor:
        return Held(n_workers, shuffled, in_a_process_of_its_own)


@hookimpl
def eegstore_executors() -> list[type[Any]]:
    return [Backwards, Shuffled, Alone]

"""The one loop that hands tasks to an executor, and what it does about lost workers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from pathlib import Path
from typing import Any, Final

from eegstore.errors import PluginError
from eegstore.extract import run_task
from eegstore.head_start import HeadStart
from eegstore.worker import take_notes

MAX_ATTEMPTS: Final = 3
IN_FLIGHT_A_WORKER: Final = 2


def run_tasks(
    factory: Callable[[int], Executor],
    n_workers: int,
    plan_file: str,
    names: Sequence[str],
    begun: HeadStart | None = None,
) -> Generator[dict[str, Any]]:
    """Run all tasks of a plan; yields what each returns, as it ends.

    With ``begun`` the first of them is in the hands of a worker already.

    A task whose worker dies is tried again. After a death the tasks that were in flight run one
    at a time, so that one that kills its worker three times is known by name.

    Raises
    ------
    PluginError
        Where a task has killed its worker three times.
    EegStoreError
        What a task raises; nothing else is started then.
    """
    waiting = deque(range(len(names)))
    suspects: set[int] = set()
    attempts: Counter[int] = Counter()
    running: dict[Future[dict[str, Any]], int] = {}
    executor = begun.executor if begun else factory(n_workers)
    if begun:
        running[begun.first] = waiting.popleft()
    try:
        while waiting or running:
            limit = 1 if suspects else IN_FLIGHT_A_WORKER * n_workers
            lost: list[int] = []
            while waiting and len(running) < limit and not lost:
                number = waiting.popleft()
                try:
                    running[executor.submit(run_task, plan_file, number)] = number
                # A worker died while none of its tasks was waited for, or while it started.
                except (BrokenExecutor, BrokenPipeError):
                    lost.append(number)
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                number = running.pop(future)
                try:
                    result = future.result()
                except BrokenExecutor:
                    lost.append(number)
                    continue
                suspects.discard(number)
                yield result
            if lost:
                lost += running.values()
                running.clear()
                executor.shutdown(wait=False, cancel_futures=True)
                executor = factory(n_workers)
                _suspect(lost, suspects, attempts, names, take_notes(Path(plan_file)))
                waiting.extendleft(sorted(lost, reverse=True))
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def _suspect(
    lost: list[int],
    suspects: set[int],
    attempts: Counter[int],
    names: Sequence[str],
    running: Sequence[str],
) -> None:
    """Count the deaths; a task that was alone in flight has caused its own."""
    suspects.update(lost)
    attempts.update(lost)
    for number in lost:
        if attempts[number] >= MAX_ATTEMPTS and len(lost) == 1:
            where = f" in {' or '.join(running)}" if running else ""
            raise PluginError(
                f"task {names[number]}: its worker died {attempts[number]} times{where} (out of "
                "memory, or a plugin that ends its process); what else was done is kept"
            )

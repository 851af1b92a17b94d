"""Executors that need no other package: the process itself, and a pool of processes."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any, ClassVar, ParamSpec, TypeVar

from eegstore import hookimpl

# malloc.h of glibc; elsewhere mallopt is absent or ignores them.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
KEPT_BYTES = 1 << 26
P = ParamSpec("P")
T = TypeVar("T")


class _InPlace(Executor):
    """Runs each call at once, in the caller's thread."""

    _ended = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._ended:
            raise RuntimeError("cannot submit a call after shutdown")
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._ended = True


@dataclass(frozen=True)
class Serial:
    """One task after the other, in the process that builds."""

    name: ClassVar[str] = "serial"
    version: ClassVar[str] = "1"

    def __call__(self, n_workers: int) -> Executor:
        return _InPlace()


@contextlib.contextmanager
def _fresh() -> Iterator[None]:
    """Keep new processes from importing the caller's script, and modules of the current folder.

    They need nothing of either. A script without the ``__main__`` guard would build in each, and
    a file that is called ``signal.py`` and lies among the data would run.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        with _environment("PYTHONSAFEPATH", "1"):
            yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Let new processes find a variable of the environment with this value."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _start_tracker() -> None:
    """Start the process that removes what one that is killed has left, without a word about it."""
    from multiprocessing import resource_tracker

    given = os.environ.get("PYTHONWARNINGS", "")
    quiet = ",".join(filter(None, [given, "ignore:resource_tracker:UserWarning"]))
    with _fresh(), _environment("PYTHONWARNINGS", quiet):
        resource_tracker.ensure_running()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the new processes are whole.

    One of which this process knows nothing yet could not be killed, and would tell of its broken
    start. From the terminal Ctrl-C comes to all processes; it waits there until it is ignored.
    """
    came: list[int] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    if threading.current_thread() is threading.main_thread():
        given = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
        handlers = {one: handler for one, handler in given.items() if callable(handler)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for one in handlers:
            signal.signal(one, lambda number, _: came.append(number))
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if came:
            handlers[came[0]](came[0], None)


def keep_freed_memory() -> None:
    """Let the C library reuse the memory of a block's arrays for the next block.

    By default glibc maps each array of over 128 kB anew, and the kernel zeroes its pages again.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            mallopt(parameter, KEPT_BYTES)


def _start_worker() -> None:
    """Leave Ctrl-C to the driver, and end when the driver does, however it ends.

    A worker leads a group of its own: what its plugins have started ends with it.
    """
    os.setpgrp()
    atexit.register(_leave)
    for one in (signal.SIGINT, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(one, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    keep_freed_memory()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()


def _leave() -> None:
    """End at once: to take down torch, module by module, takes longer than many a task.

    Whatever else is registered for the end was so later, and has been called.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(0)


def _end(worker: Any) -> None:
    """Kill a worker and its group, which it does not lead yet while it starts."""
    with contextlib.suppress(OSError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.kill()


class _Pool(ProcessPoolExecutor):
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with _undisturbed(), _fresh():
            return super().submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        processes: list[Any] = list((self._processes or {}).values())
        super().shutdown(wait, cancel_futures=cancel_futures)
        if cancel_futures:
            for process in processes:
                _end(process)


@dataclass(frozen=True)
class Processes:
    """A pool of new processes on this machine."""

    name: ClassVar[str] = "processes"
    version: ClassVar[str] = "1"

    def __call__(self, n_workers: int) -> Executor:
        context = multiprocessing.get_context("spawn")
        with _undisturbed():
            _start_tracker()
            return _Pool(n_workers, mp_context=context, initializer=_start_worker)


@hookimpl
def eegstore_executors() -> list[type[Serial] | type[Processes]]:
    """The built-in executors."""
    return [Serial, Processes]

"""What the machine offers to this process: processors, and threads that can be left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, NoReturn, TypeVar

T = TypeVar("T")
LOOK_S: Final = 0.1
EXIT: Final = os._exit


class Overdue(Exception):
    """A call took longer than its limit."""


def n_cpus() -> int:
    """Processors that this process may use, where the platform tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def signals_arrive() -> bool:
    """Whether Ctrl-C can raise KeyboardInterrupt in this thread; in workers it is ignored."""
    handled = callable(signal.getsignal(signal.SIGINT))
    return handled and threading.current_thread() is threading.main_thread()


def in_thread(call: Callable[[], T], limit_s: float | None = None) -> T:
    """Run a call in a thread of its own and wait for what it returns or raises.

    The waiting thread is open to signals, which a C library may swallow, and to the clock.

    Raises
    ------
    Overdue
        After ``limit_s``; the thread is left behind, and does not keep the process.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    end = None if limit_s is None else time.monotonic() + limit_s
    thread.start()
    while thread.is_alive():
        left = LOOK_S if end is None else min(LOOK_S, end - time.monotonic())
        if left <= 0:
            raise Overdue
        thread.join(left)
    if raised:
        raise raised[0]
    return returned[0]


@contextlib.contextmanager
def staying() -> Iterator[None]:
    """Let ``os._exit`` raise SystemExit: a plugin's would end the command without a word.

    In a worker it ends the process, as ever: the driver sees that. So it does in a process that
    is forked meanwhile.
    """
    spawned = sys.modules.get("multiprocessing.process")  # a worker has it
    if spawned is not None and spawned.parent_process() is not None:
        yield
        return
    pid = os.getpid()

    def stay(status: int) -> NoReturn:
        if os.getpid() != pid:
            EXIT(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = stay
    try:
        yield
    finally:
        os._exit = EXIT

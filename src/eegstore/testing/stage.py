"""The process in which a plugin is rehearsed: by name, timed, and kept from taking all memory."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from eegstore import configure
from eegstore.testing.check import told

CALL_LIMIT_S: Final = 20.0
"""A call on a few rows answers within these seconds."""
START_LIMIT_S: Final = 180.0
"""Importing a plugin, ``prepare`` and ``fit`` take at most these seconds: models are loaded."""
PEAK_BYTES: Final = 1 << 29
"""A call on a few rows takes less memory than this beyond what the process has."""
HARD_BYTES: Final = 1 << 31
"""A call that asks for more memory than this is refused it."""
STATUS: Final = Path("/proc/self/status")


class Trouble(Exception):
    """What went wrong in a rehearsal, and the check whose promise it breaks.

    Parameters
    ----------
    check
        Name of the check.
    reason
        What was done, what came, and what was expected.
    fatal
        Whether nothing else can be tried.
    """

    def __init__(self, check: str, reason: str, fatal: bool = True) -> None:
        super().__init__(check, reason, fatal)
        self.check, self.reason, self.fatal = check, reason, fatal


@dataclass(frozen=True)
class Job:
    """A rehearsal: the plugin by the names of its module and class, and what to do with it."""

    module: str
    cls: str
    options: dict[str, Any]
    kind: str
    given: dict[str, Any] = field(default_factory=dict)
    call_limit_s: float = CALL_LIMIT_S
    start_limit_s: float = START_LIMIT_S


class Stage:
    """Calls a plugin under limits, and tells the waiting process what is being called."""

    def __init__(self, job: Job, pipe: Connection) -> None:
        self.job = job
        self._pipe = pipe

    def make(self) -> Any:
        """A new instance of the plugin, as a worker makes it."""
        cls: Any = importlib.import_module(self.job.module)
        for part in self.job.cls.split("."):
            cls = getattr(cls, part)
        return configure(cls, self.job.options, Path(), cls.__name__)

    def call(self, what: str, call: Callable[..., Any], *arguments: Any, check: str) -> Any:
        """A call on a few rows; ``check`` is whose promise it breaks where it raises."""
        self._tell(what, self.job.call_limit_s)
        before = _memory("VmRSS")
        with _memory_limit(HARD_BYTES), _blamed(what, check):
            value = call(*arguments)
        self._refuse_greed(what, _memory("VmHWM") - before)
        return value

    def _refuse_greed(self, what: str, peak: int) -> None:
        """Refuse a call that took too much: nobody's own process is to make it."""
        if peak > PEAK_BYTES:
            came, most = peak >> 20, PEAK_BYTES >> 20
            reason = f"{what} took {came} MiB of memory, expected less than {most} MiB"
            raise Trouble("bounded-memory", reason)

    def start(self, what: str, call: Callable[..., Any], *arguments: Any, check: str) -> Any:
        """A call that may take longer and more memory: models are loaded in it."""
        self._tell(what, self.job.start_limit_s)
        with _blamed(what, check):
            return call(*arguments)

    def _tell(self, what: str, limit_s: float) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        self._pipe.send(("now", (what, limit_s)))


@contextlib.contextmanager
def _blamed(what: str, check: str) -> Iterator[None]:
    """Turn what a plugin raises into the trouble that it is."""
    try:
        yield
    except (Trouble, KeyboardInterrupt):
        raise
    except MemoryError as error:
        reason = f"{what} asked for more than {HARD_BYTES >> 30} GiB of memory ({told(error)})"
        raise Trouble("bounded-memory", reason) from error
    except BaseException as error:
        reason = f"{what} raised {told(error)}"
        if isinstance(error, ValueError) and "read-only" in str(error):
            raise Trouble(
                "input-untouched", f"{reason}: what it is given is not its own"
            ) from error
        raise Trouble(check, reason) from error


def _memory(name: str) -> int:
    """Bytes of an entry of this process' status; 0 where the platform does not tell."""
    if not STATUS.exists():
        return 0
    lines = [line.split() for line in STATUS.read_text().splitlines()]
    return next((int(line[1]) << 10 for line in lines if line[0] == f"{name}:"), 0)


@contextlib.contextmanager
def _memory_limit(more: int) -> Iterator[None]:
    """Refuse this process more than so many bytes beyond what it has, where the platform can."""
    if not STATUS.exists():
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _memory("VmData") + more
    most = min([limit, *(one for one in (soft, hard) if one != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def serve(pipe: Connection, job: Job) -> None:
    """Rehearse a plugin, and send what came: the values, or the trouble."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the waiting process ends this one
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # what a plugin prints is no part of a result
    stage = Stage(job, pipe)
    try:
        plugin = stage.start(
            "importing the plugin by its name", stage.make, check="spawned-process"
        )
        rehearsal = importlib.import_module(f"eegstore.testing.{job.kind}").rehearse
        values = rehearsal(stage, plugin)
        pipe.send(("done", values))
    except Trouble as trouble:
        if trouble.__cause__ is not None:
            traceback.print_exception(trouble.__cause__, file=sys.stderr)
        pipe.send(("trouble", trouble.args))
    except BaseException as error:
        traceback.print_exc()
        pipe.send(("trouble", ("spawned-process", f"the rehearsal failed: {told(error)}", True)))
    pipe.close()

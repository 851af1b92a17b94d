"""How commands speak: results to stdout, progress and errors to stderr, and the exit code."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TextIO

from eegstore.errors import EegStoreError, InterruptedBuildError
from eegstore.machine import EXIT
from eegstore.wording import described, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

P = ParamSpec("P")
MAX_SAID: Final = 16_000
GRACE_S: Final = 3.0
INTERRUPTED: Final = InterruptedBuildError.exit_code
AGAIN: Final = "interrupted; run the same command again"


class Terminal:
    """What a process' commands share: where results go, and whether a signal has come.

    ``told`` is whether the line that says how the command ended is there, and ``said`` is the last.
    """

    results: TextIO = sys.stdout
    interrupted: bool = False
    told: bool = False
    said: str = ""


def reported(command: Callable[P, int | None]) -> Callable[P, None]:
    """Turn what a command raises into a line or two on stderr and the documented exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        code = 0
        try:
            _end_on_signals()
            with contextlib.redirect_stdout(sys.stderr):
                code = command(*args, **kwargs) or 0
        except KeyboardInterrupt:
            code = _tell_interrupted()
        except BaseException as error:
            if kwargs.get("debug"):
                for line in traceback.format_exc().splitlines():
                    _say(line)
            # Where Ctrl-C met an import, an ImportError may come of it.
            ended = Terminal.interrupted and not isinstance(error, InterruptedBuildError)
            code = _tell_interrupted() if ended else _tell(error, bool(kwargs.get("debug")))
        warn_of_broken_plugins(bool(kwargs.get("debug")))
        warn_of_deprecated_use()
        if code:
            leave(code)

    return run


def _tell(error: BaseException, debug: bool) -> int:
    """Print an error; its exit code."""
    if isinstance(error, EegStoreError):
        tell(str(error))
        return error.exit_code
    tell(f"unexpected {described(error)}")
    if not debug:
        _say("this is a defect of eegstore; --debug shows where")
    return 1


def _tell_interrupted() -> int:
    tell(AGAIN)
    return INTERRUPTED


def open_streams() -> None:
    """Keep stdout for results: what a plugin or a C library prints there goes to stderr.

    A stream that the process was started without is the null device: a file that is opened later
    would take its number, and get what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stderr = sys.stderr or os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    own = os.dup(1)
    os.dup2(2, 1)
    # What the encoding lacks is shown escaped, and names that are no text.
    sys.stdout = os.fdopen(own, "w", encoding=encoding, errors="backslashreplace")
    Terminal.results = sys.stdout


def _end_on_signals() -> None:
    """Let Ctrl-C and SIGTERM end the command: in good order if it can, else soon all the same.

    Python's own handler waits until the main thread is back from a C library. The signal's number
    is written to a pipe at once: a second signal, or no end within the grace, ends the process.
    Nothing is lost by that, no more than by SIGKILL.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for one in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, _interrupt)
    sys.unraisablehook, sys.excepthook = _show_unraisable, _show_unhandled
    threading.Thread(target=_end_soon, args=(reader,), daemon=True).start()


def _interrupt(*_: object) -> None:
    if not Terminal.interrupted:  # else the process is about to end
        Terminal.interrupted = True
        raise KeyboardInterrupt


def _show_unraisable(what: sys.UnraisableHookArgs) -> None:
    """Say nothing where Ctrl-C met a destructor: the grace ends the command all the same."""
    if what.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(what)


def _show_unhandled(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say nothing where Ctrl-C met a C library that prints what it cannot raise."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def _end_soon(reader: int) -> None:
    _await_signal(reader, None)
    _await_signal(reader, GRACE_S)
    if not Terminal.told:
        with contextlib.suppress(OSError):
            os.write(2, f"eegstore: {AGAIN}\n".encode())
    if multiprocessing := sys.modules.get("multiprocessing"):
        # A worker that has yet to read what it is for would say so, once this process is gone.
        for child in multiprocessing.active_children():
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            child.kill()
    EXIT(INTERRUPTED)


def _await_signal(reader: int, limit_s: float | None) -> None:
    """Wait for one of the two; the pipe tells of every signal that a handler in Python is for."""
    end = None if limit_s is None else time.monotonic() + limit_s
    while end is None or (limit_s := end - time.monotonic()) > 0:
        ready, _, _ = select.select([reader], [], [], limit_s)
        if ready and os.read(reader, 1)[0] in (signal.SIGINT, signal.SIGTERM):
            return


def leave(code: int) -> NoReturn:
    """End the process at once, whatever threads it still has.

    What failed may have left some behind, in a C library or beside killed workers, and a regular
    exit would wait for them. The semaphores of workers are removed by the process that tracks
    them.
    """
    # A signal that comes now has been heard; Python would end by it while it winds up.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    for stream in (Terminal.results, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    EXIT(code)


def warn_of_broken_plugins(debug: bool) -> None:
    """A line for each plugin that cannot be used, of those that were loaded; its traceback too."""
    registry = sys.modules.get("eegstore.registry")
    for one in registry.broken() if registry else ():
        for line in one.trace.splitlines() if debug else ():
            _say(line)
        if one.status in Terminal.said:  # by the error that ended the command
            continue
        tell(f"plugin {one.name!r} of {one.distribution} is not used: {one.reason}")


def warn_of_deprecated_use() -> None:
    """A line for each hook or member of a plugin that the next plugin API has no more."""
    registry = sys.modules.get("eegstore.registry")
    for note in registry.notes() if registry else ():
        tell(note)


def tell(text: str) -> None:
    """Print a line of ours to stderr; of an endless one both ends."""
    Terminal.told, Terminal.said = True, text
    half = MAX_SAID // 2
    _say(f"eegstore: {text if len(text) <= MAX_SAID else f'{text[:half]} … {text[-half:]}'}")


def _say(line: str) -> None:
    """Print a line to stderr; whether anybody hears it changes nothing."""
    with contextlib.suppress(OSError):
        print(printable(line), file=sys.stderr, flush=True)


def show(renderable: RenderableType, quiet: bool = False) -> None:
    """Print for a person, at the terminal's width (80 columns where there is none)."""
    from rich.console import Console
    from rich.text import Text

    if not quiet:
        text = Text(printable(renderable)) if isinstance(renderable, str) else renderable
        console = Console(file=Terminal.results, highlight=False)
        # rich would end the process with an exit code of its own where the reader has gone.
        with console.capture() as captured:
            console.print(text)
        write(captured.get())


def print_json(value: Any) -> None:
    """Print for a machine."""
    ascii_only = not Terminal.results.encoding.lower().startswith("utf")
    text = json.dumps(value, indent=2, ensure_ascii=ascii_only)
    # What is not printable stands in strings alone, but for the ends of lines.
    write("".join(one if one.isprintable() else _json_escaped(one) for one in f"{text}\n"))


def _json_escaped(one: str) -> str:
    return one if one == "\n" else json.dumps(one)[1:-1]


def write(text: str) -> None:
    """Print a result as it is; a reader that has gone needs no more of it."""
    try:
        Terminal.results.write(text)
        Terminal.results.flush()
    except OSError as error:
        # What is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), Terminal.results.fileno())
        if not isinstance(error, BrokenPipeError):
            raise EegStoreError(f"stdout: {error.strerror}") from error


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on stderr that names the stage; none where that is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(stage: str, done: int, total: int) -> None:
            bar.update(task, description=printable(stage), completed=done, total=total or None)

        yield tell

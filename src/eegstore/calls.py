"""How the host calls a plugin: whatever it does, what comes of it is a value or one line."""

from __future__ import annotations

from typing import Any

import numpy as np

from eegstore import errors
from eegstore.errors import EegStoreError, InputError, PluginError
from eegstore.machine import Overdue, in_thread


def guarded(
    kind: str, plugin: Any, call: Any, *arguments: Any, limit_s: float | None = None
) -> Any:
    """Call a plugin; what it raises unexpectedly is a PluginError that names it, in one line.

    What the system refuses (a file that is gone, a full disk) is an InputError. An error of a
    class of the plugin's own becomes one of ours: it has to reach another process. A call that
    takes longer than ``limit_s`` is left behind in its thread.
    """
    try:
        if limit_s is None:
            return call(*arguments)
        return in_thread(lambda: call(*arguments), limit_s)
    except EegStoreError as error:
        ours = next(cls for cls in type(error).__mro__ if cls.__module__ == errors.__name__)
        if type(error) is ours:
            raise
        raise ours(str(error)) from error
    except Overdue:
        raise PluginError(
            f"{kind} {plugin.name!r}: no answer within timeout_s = {limit_s:g}; what else was "
            "done is kept"
        ) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        raise InputError(f"{kind} {plugin.name!r}: {where}{reason}") from error
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(
            f"{kind} {plugin.name!r} failed: {reason}; --debug shows its traceback"
        ) from error


def repeated(
    kind: str, plugin: Any, call: Any, *arguments: Any, limit_s: float | None = None
) -> Any:
    """Call a plugin twice with the same input, and refuse it where the values differ."""
    first, second = (guarded(kind, plugin, call, *arguments, limit_s=limit_s) for _ in range(2))
    if not _same(first, second):
        raise PluginError(
            f"{kind} {plugin.name!r}: gave other values when it was called again with the same "
            "input (--check-determinism); seed its random numbers and fix its threads"
        )
    return first


def _same(first: Any, second: Any) -> bool:
    """Whether two arrays, or two lists of arrays, are equal bit by bit."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    one, other = np.asarray(first), np.asarray(second)
    return (one.dtype, one.shape) == (other.dtype, other.shape) and one.tobytes() == other.tobytes()

"""How the host calls a plugin: whatever it does, what comes of it is a value or one line."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from eegstore import errors
from eegstore.errors import EegStoreError, InputError, PluginError
from eegstore.machine import Overdue, in_thread, signals_arrive, staying
from eegstore.wording import described, text_of

T = TypeVar("T")


def guarded(
    kind: str, plugin: Any, call: Any, *arguments: Any, limit_s: float | None = None
) -> Any:
    """Call a plugin; what it raises unexpectedly is a PluginError that names it, in one line.

    What the system refuses (a file that is gone, a full disk) is an InputError. An error of a
    class of the plugin's own becomes one of ours: it has to reach another process. A call that
    takes longer than ``limit_s`` is left behind in its thread.
    """
    who = f"{kind} {plugin.name!r}"
    try:
        with staying():
            if limit_s is None:
                return call(*arguments)
            return in_thread(lambda: call(*arguments), limit_s)
    except EegStoreError as error:
        ours = next(cls for cls in type(error).__mro__ if cls.__module__ == errors.__name__)
        if type(error) is ours:
            raise
        raise ours(text_of(error)) from error
    except Overdue:
        raise PluginError(
            f"{who}: no answer within timeout_s = {limit_s:g}; what else was done is kept"
        ) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise InputError(f"{who}: {where}{error.strerror or text_of(error)}") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and signals_arrive():
            raise
        raise PluginError(
            f"{who} failed: {described(error)}; --debug shows its traceback"
        ) from error


def given(kind: str, plugin: Any, call: str, value: Any, cls: type[T]) -> T:
    """What a plugin's call has given, where it is of the class that it must be of."""
    if not isinstance(value, cls):
        raise PluginError(
            f"{kind} {plugin.name!r}: {call} gave {type(value).__name__}, expected a {cls.__name__}"
        )
    return value


def declared(kind: str, plugin: Any, member: str) -> tuple[str, ...]:
    """The names that a class variable, an option or a property lists; none where it is absent."""
    names = guarded(kind, plugin, lambda: getattr(plugin, member, ()))
    if not isinstance(names, tuple) or any(not isinstance(one, str) for one in names):
        raise PluginError(
            f"{kind} {plugin.name!r}: {member} is {names!r:.80}, expected a tuple of names"
        )
    return names


def repeated(
    kind: str, plugin: Any, call: Any, *arguments: Any, limit_s: float | None = None
) -> Any:
    """Call a plugin twice with the same input, and refuse it where the values differ."""
    # The second call may fill the arrays of the first.
    first = _copied(guarded(kind, plugin, call, *arguments, limit_s=limit_s))
    second = guarded(kind, plugin, call, *arguments, limit_s=limit_s)
    if not _same(first, second):
        raise PluginError(
            f"{kind} {plugin.name!r}: gave other values when it was called again with the same "
            "input (--check-determinism); seed its random numbers and fix its threads"
        )
    return first


def _copied(value: Any) -> Any:
    """A plugin's arrays, apart from its own memory."""
    if isinstance(value, list):
        return [_copied(one) for one in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def _same(first: Any, second: Any) -> bool:
    """Whether two arrays, or two lists of arrays, are equal bit by bit."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    one, other = np.asarray(first), np.asarray(second)
    return (one.dtype, one.shape) == (other.dtype, other.shape) and one.tobytes() == other.tobytes()


def check_array(
    kind: str, plugin: Any, what: str, result: Any, shape: tuple[int, ...], dtype: str = "float32"
) -> None:
    """Refuse what a plugin gave where it is not an array of the shape and type it promised."""
    given = getattr(result, "dtype", type(result).__name__), getattr(result, "shape", ())
    if not isinstance(result, np.ndarray) or given != (np.dtype(dtype), shape):
        raise PluginError(
            f"{kind} {plugin.name!r}: {what} gave {given[0]} {given[1]}, expected {dtype} {shape}"
        )

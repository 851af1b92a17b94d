"""How the host calls a plugin: whatever it does, what comes of it is a value or one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from eegstore import errors
from eegstore.errors import EegStoreError, InputError, PluginError
from eegstore.failures import traced
from eegstore.machine import Overdue, in_thread, signals_arrive, staying
from eegstore.tables import Block
from eegstore.wording import text_of

T = TypeVar("T")
READ: Final = {"source": "trials", "stimuli": "stimuli"}


def guarded(
    kind: str, plugin: Any, call: Any, *arguments: Any, limit_s: float | None = None
) -> Any:
    """Call a plugin; what it raises unexpectedly is a PluginError that names it, in one line.

    The line says where in the plugin's code that was, in which rows, and what the usual cause is.

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
        reads = next((one for one in arguments if isinstance(one, Mapping)), None)
        what = traced(error, type(plugin).__module__, _rows(kind, plugin, arguments), reads)
        raise PluginError(f"{who} failed: {what}; --debug shows its traceback") from error


def _rows(kind: str, plugin: Any, arguments: tuple[Any, ...]) -> str:
    """The rows of a table that a call is for, where it is for some."""
    match arguments:
        case (Block() as block,):
            return f" of {plugin.table} {block.start} to {block.stop - 1}"
        case (int() as start, int() as stop) if kind in READ:
            return f" of {READ[kind]} {start} to {stop - 1}"
    return ""


def given(kind: str, plugin: Any, call: str, value: Any, cls: type[T]) -> T:
    """What a plugin's call has given, where it is of the class that it must be of."""
    if not isinstance(value, cls):
        raise PluginError(
            f"{kind} {plugin.name!r}: {call} gave {type(value).__name__}, expected a {cls.__name__}"
        )
    return value


def check_images(plugin: Any, start: int, stop: int, images: Any) -> list[NDArray[np.uint8]]:
    """What a provider's ``read`` has given, where it is an image of each row: uint8, (y, x, 3)."""
    what = f"read({start}, {stop})"
    found = given("stimuli", plugin, what, images, list)
    wrong = sum(not _is_image(one) for one in found)
    if wrong or len(found) != stop - start:
        raise PluginError(
            f"stimuli {plugin.name!r}: {what} gave {len(found)} images, {wrong} of them wrong, "
            f"expected {stop - start}, each uint8 (y, x, 3)"
        )
    return found


def _is_image(value: Any) -> bool:
    """Whether a value is uint8, (y, x, 3), with a pixel at least."""
    array = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.size > 0
    return array and value.ndim == 3 and value.shape[-1] == 3


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
        other = isinstance(result, np.ndarray) and result.dtype.kind in "biuf"
        hint = f"; return it .astype({dtype!r})" if other and given[1] == shape else ""
        raise PluginError(
            f"{kind} {plugin.name!r}: {what} gave {given[0]} {given[1]}, expected {dtype} "
            f"{shape}{hint}"
        )

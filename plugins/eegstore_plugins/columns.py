"""Narrow columns that a recipe names: their names, and values as a store can hold them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Trials
from eegstore_plugins.labels import whole_labels

# Names that splits, the audit and evaluations know; see docs/data.md.
KNOWN: Final = ("subject", "session", "run", "block", "onset", "repetition")
KINDS: Final = "biufSU"  # of numpy's types: bools, numbers and text


def check_names(names: Iterable[str]) -> None:
    """Raise a ValueError where a name is none that a source may give a column."""
    for name in names:
        try:
            _trials_with(name, np.zeros(1, dtype=np.int64))
        except ValueError:
            raise ValueError(
                f"columns has {name!r}, expected a name in lower case that no other column has, "
                "such as 'subject'; labels, keys and splits have options of their own"
            ) from None


def checked_column(where: str, name: str, values: NDArray[Any]) -> NDArray[Any]:
    """The values of a column, text as str.

    Raises
    ------
    InputError
        Where a store cannot hold them; names ``where``.
    """
    found = as_unicode(where, values) if values.dtype.kind in "SU" else values
    try:
        _trials_with(name, found)
    except ValueError as error:
        what = str(error).removeprefix("Trials.")
        raise InputError(f"{where}: {what}; save other values for the column {name!r}") from None
    return found


def checked_keys(where: str, values: NDArray[Any]) -> NDArray[np.str_]:
    """str, (trial,): what was shown, from text or whole numbers; -1 is '', nothing.

    Raises
    ------
    InputError
        Where a value is neither; names ``where`` and the row.
    """
    if values.dtype.kind in "SU":
        return as_unicode(where, values)
    if values.dtype.kind == "b":
        raise InputError(f"{where}: dtype bool, expected text or whole numbers as stimulus keys")
    numbers = whole_labels(where, values)
    return np.where(numbers < 0, "", numbers.astype(np.str_))


def as_unicode(where: str, values: NDArray[Any]) -> NDArray[np.str_]:
    """The text of an array; bytes are UTF-8."""
    try:
        text = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
        "".join(text.tolist()).encode()
    except ValueError:  # bytes that are no UTF-8, half a character, a number that is no character
        raise InputError(f"{where}: has text that is no Unicode; save it as UTF-8 text") from None
    return np.asarray(text).astype(np.str_)


def _trials_with(name: str, values: NDArray[Any]) -> Trials:
    """A table of trials with a column: it checks that the column can be one."""
    return Trials(
        n_trials=len(values),
        ch_names=("ch1",),
        sfreq=1,
        times=np.zeros(1),
        units="1",
        label=np.full(len(values), -1),
        columns={name: values},
    )

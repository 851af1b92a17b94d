"""The checks of an extractor that is fitted on train rows."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import Block
from eegstore.testing import material
from eegstore.testing.check import Check, NotApplicable, Violation, told
from eegstore.testing.common import described_array, same_bytes
from eegstore.testing.stage import Stage, Trouble
from eegstore.testing.subject import Subject
from eegstore.testing.values import given_values, limited, rows_of

TRAIN_ROWS: Final = 5
# What Python itself says where something was never set; it tells an author nothing.
UNCLEAR: Final = (AttributeError, KeyError, NameError, TypeError, IndexError)


class TrainBlocks:
    """Blocks of a plugin's train rows, which can be iterated several times."""

    def __init__(self, plugin: Any) -> None:
        self._plugin, self._rows = plugin, material.train_rows(plugin)
        self._columns = material.fit_columns(plugin)
        self._n_rows = limited(plugin, [TRAIN_ROWS])[-1]

    def __iter__(self) -> Iterator[Block]:
        for start in range(0, len(self._rows), self._n_rows):
            rows = self._rows[start : start + self._n_rows]
            yield material.block(self._plugin.table, self._columns, rows, rows[0])


def is_fitted(plugin: Any) -> bool:
    """Whether a plugin has ``fit``, ``restore`` or both."""
    return hasattr(plugin, "fit") or hasattr(plugin, "restore")


def fitted_state(stage: Stage, plugin: Any) -> Any:
    """The state of a plugin, as it comes back from a file; None where it has none."""
    if not is_fitted(plugin):
        return None
    for name in ("fit", "restore"):
        if not hasattr(plugin, name):
            other = "restore" if name == "fit" else "fit"
            raise Trouble("fit-and-restore", f"it has {other}() and no {name}(), expected both")
    if hasattr(plugin, "prepare"):
        stage.start("prepare()", plugin.prepare, check="answers")
    train = TrainBlocks(plugin)
    state = stage.start("fit() on blocks of train rows", plugin.fit, train, check="answers")
    return _stored(state)


def _stored(state: Any) -> dict[str, NDArray[Any]]:
    """A state after a file without objects has held it."""
    if not isinstance(state, Mapping):
        raise Trouble("state-is-arrays", f"fit() gave {type(state).__name__}, expected a mapping")
    for name, values in state.items():
        sound = isinstance(values, np.ndarray) and values.dtype.kind in "biufU"
        if not isinstance(name, str) or not sound:
            reason = f"fit() gave {described_array(values)} as {name!r}, expected arrays of "
            raise Trouble("state-is-arrays", f"{reason}numbers or strings, named by strings")
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **state)
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _needed(subject: Subject) -> Mapping[str, Any]:
    """The state of the rehearsal, where the plugin has one."""
    if not is_fitted(subject.plugin):
        raise NotApplicable("it is not fitted: it has no fit()")
    state: Mapping[str, Any] = subject.value("state")
    return state


def _sound(subject: Subject) -> None:
    _needed(subject)


def fit_repeats(subject: Subject) -> None:
    """The state follows from the train rows alone, whatever the instance has seen before."""
    expected = _needed(subject)
    runs = []
    for seen in (False, True):
        plugin = subject.new() if seen else subject.prepared()
        if seen:  # rows of no train split pass through it first
            for rows in rows_of(plugin, [TRAIN_ROWS]):
                given_values(subject, plugin, rows)
        runs.append(plugin.fit(TrainBlocks(plugin)))
    again = subject.prepared()
    train = TrainBlocks(again)
    runs += [again.fit(train), again.fit(train)]
    for number, state in enumerate(runs):
        alike = state.keys() == expected.keys()
        if not alike or not all(same_bytes(np.asarray(state[k]), expected[k]) for k in expected):
            when = "after calls on other rows" if number == 1 else "again"
            raise Violation(
                f"fit() on the same train rows {when} gave another state, expected the same: it "
                "may depend on the blocks that it is given alone"
            )


def unfitted_refused(subject: Subject) -> None:
    """A call without ``restore`` before it raises an error that says so."""
    _needed(subject)
    plugin = subject.prepared()
    try:
        given_values(subject, plugin, rows_of(plugin)[0])
    except UNCLEAR as error:
        raise Violation(
            f"a call without restore() raised {told(error)}; expected an error that says that it "
            "is not fitted"
        ) from error
    except Exception as error:
        if not str(error).strip():
            raise Violation("a call without restore() raised an error without a text") from error
        return
    raise Violation("a call without restore() gave values, expected an error")


_check = functools.partial(Check, "extractor")
CHECKS: Final = (
    _check("fit-and-restore", "What has fit() has restore(), and the other way round.", _sound),
    _check("state-is-arrays", "fit() gives arrays of numbers or strings, named by strings.",
           _sound),
    _check("fit-repeats", "fit() depends on the train rows that it is given alone.", fit_repeats),
    _check("state-restored", "restore() takes what a file has held of the state.", _sound),
    _check("unfitted-refused", "A call without restore() before it is refused with a clear error.",
           unfitted_refused),
)  # fmt: skip

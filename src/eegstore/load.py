"""Reads batches of trials for training, the stimuli's columns joined to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eegstore.arrays import row_numbers
from eegstore.errors import InputError
from eegstore.recipe import nearest
from eegstore.split import SKIPPED
from eegstore.store import Store, StoredColumn


class TrialLoader:
    """Some trials of a store, a few columns of them at a time.

    Parameters
    ----------
    store
        An open store.
    split
        Take the trials of this split; all but the skipped ones by default.
    columns
        Columns of ``trials``, and columns of ``stimuli``, which arrive a row a trial without being
        stored so. A name that both tables have means the trials'; ``"stimuli/label"`` the other.
    rows
        Take these trials instead of a split's.

    Trials that are invalid are never among them, nor, where a stimulus' column is asked for,
    trials without a stimulus.

    Attributes
    ----------
    rows
        int64, (trial,): the trials, as rows of the store.
    keys
        Path to key of each column that is read: other keys, other values.

    Raises
    ------
    InputError
        Where the split or a column is unknown; names the nearest.
    """

    def __init__(
        self,
        store: Store,
        split: str | None = None,
        columns: Sequence[str] = ("eeg", "label"),
        rows: ArrayLike | None = None,
    ) -> None:
        self._stimulus = store.trials["stimulus"][:]
        names = [columns] if isinstance(columns, str) else columns
        self._columns = {name: _find(store, name) for name in names}
        self.rows = _rows(store, split, rows)
        used = [store.trials["stimulus"], store.trials["split"]]
        used += [column for column, _ in self._columns.values()]
        self.keys = {column.entry.path: column.entry.key for column in used}
        if any(joined for _, joined in self._columns.values()):
            self.rows = self.rows[self._stimulus[self.rows] >= 0]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, numbers: ArrayLike) -> dict[str, NDArray[Any]]:
        """The columns of some trials, which are counted within this loader.

        Returns
        -------
        Name to array, first axis (trial,) in the order asked for.
        """
        trials = self.rows[row_numbers("the loader's trials", numbers, len(self))]
        return {
            name: column[self._stimulus[trials] if joined else trials]
            for name, (column, joined) in self._columns.items()
        }


def _find(store: Store, name: str) -> tuple[StoredColumn, bool]:
    """The column of a name, and whether it is joined through the stimulus."""
    table, slash, column = name.rpartition("/")
    if name in store.trials or (slash and table == "trials" and column in store.trials):
        return store.trials[column], False
    if column in store.stimuli and table in ("", "stimuli"):
        return store.stimuli[column], True
    hint = nearest(column, [*store.trials, *store.stimuli])
    raise InputError(f"{store.path}: has no column {name!r}; {hint}")


def _rows(store: Store, split: str | None, rows: ArrayLike | None) -> NDArray[np.int64]:
    """The trials to read, in trial order or as given."""
    names = store.trials["split"][:]
    if rows is not None:
        chosen = row_numbers("trials", rows, len(names))
        return np.asarray(chosen[names[chosen] != SKIPPED])
    if split is None:
        return np.flatnonzero(names != SKIPPED)
    if split not in store.splits:
        raise InputError(f"{store.path}: has no split {split!r}; {nearest(split, store.splits)}")
    return np.flatnonzero(names == split)

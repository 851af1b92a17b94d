"""Splits by time: train on what came first, test on what came last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Splits, Stimuli, Trials, hookimpl
from eegstore_plugins.names import in_natural_order
from eegstore_plugins.split_options import (
    N_FOLDS,
    TEST_SIZE,
    TRAIN,
    USUAL_TEST_SIZE,
    VAL_SIZE,
    check_sizes,
)

GAP: Final = "gap"


@dataclass(frozen=True)
class ChronologicalSplit:
    """Splits by time: of each subject and session the first trials train and the last ones test.

    Between them are those of ``val``. Trials come in the order of the columns ``run`` and
    ``onset``, where the source has them, else of their rows; text is in natural order, run 10
    after run 2. With ``n_folds`` a fold is a stretch of time. ``gap`` trials at each border, before
    it, are in a split ``gap`` and in no fold, so that slow drifts and overlapping windows do not
    join train and test. Sizes are of the trials that are not in a gap, to the nearest trial.
    """

    name: ClassVar[str] = "chronological"
    version: ClassVar[str] = "2"

    test_size: float | None = field(default=None, metadata=TEST_SIZE)
    val_size: float = field(default=0.0, metadata=VAL_SIZE)
    gap: int = field(
        default=0, metadata={"description": "Trials left out between two parts.", "ge": 0}
    )
    n_folds: int = field(default=0, metadata=N_FOLDS)
    within: tuple[str, ...] = field(
        default=("subject", "session"),
        metadata={
            "description": "Columns of trials, of which those that the source has part it into "
            "recordings; each is split by itself."
        },
    )

    def __post_init__(self) -> None:
        check_sizes(self.test_size, self.val_size, self.n_folds)

    def __call__(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> NDArray[np.str_] | Splits:
        split = np.full(trials.n_trials, GAP, dtype="<U5")
        fold = np.full(trials.n_trials, -1, dtype=np.int64)
        for rows in self._recordings(trials):
            self._place(rows, split, fold)
        return Splits(split, fold) if self.n_folds else split

    def _recordings(self, trials: Trials) -> list[NDArray[np.int64]]:
        """int64, (trial,): the rows of each recording, in the order of time."""
        columns = trials.columns
        onset = columns.get("onset")
        if onset is not None and not _has_times(onset):
            raise InputError(
                "split 'chronological': the column 'onset' has values that are no times, expected "
                "s of each trial; mend it, or leave the column out to go by rows"
            )
        names = [name for name in (*self.within, "run", "onset") if name in columns]
        order = [_places(columns[name]) for name in names]
        rows = np.lexsort(order[::-1]) if order else np.arange(trials.n_trials)
        number = np.zeros(trials.n_trials, dtype=np.int64)
        for name in self.within:
            if name in columns:
                _, codes = np.unique(columns[name], return_inverse=True)
                number = number * (codes.max() + 1) + codes
        starts = np.flatnonzero(np.diff(number[rows])) + 1
        return np.split(rows, starts)

    def _place(
        self, rows: NDArray[np.int64], split: NDArray[np.str_], fold: NDArray[np.int64]
    ) -> None:
        """Put a recording's trials into their splits and folds; what is in no part is a gap."""
        usual = 0.0 if self.n_folds else USUAL_TEST_SIZE
        test_size = usual if self.test_size is None else self.test_size
        n_folds = max(self.n_folds, 1)
        n_parts = n_folds + (self.val_size > 0) + (test_size > 0)
        n_kept = len(rows) - self.gap * (n_parts - 1)
        if n_kept < n_parts:
            raise InputError(
                f"split 'chronological': a recording has {len(rows)} trials, expected at least "
                f"{self.gap * (n_parts - 1) + n_parts}: {n_parts} parts with gaps of {self.gap}"
            )
        held_out = [
            max(1, round(n_kept * size)) if size else 0 for size in (self.val_size, test_size)
        ]
        n_train = n_kept - sum(held_out)
        if n_train < n_folds:
            raise InputError(
                f"split 'chronological': a recording has {len(rows)} trials, of which val_size and "
                f"test_size leave {max(0, n_train)} to train on, expected at least {n_folds}: "
                f"{n_parts} parts with gaps of {self.gap}; set smaller sizes"
            )
        folds = np.diff(np.arange(n_folds + 1) * n_train // n_folds)
        start = 0
        names = [TRAIN] * len(folds) + ["val", "test"]
        for number, (name, size) in enumerate(zip(names, [*folds, *held_out], strict=True)):
            part = rows[start : start + size]
            split[part] = name
            if self.n_folds and name == TRAIN:
                fold[part] = number
            start += size + self.gap if size else 0


def _places(values: NDArray[Any]) -> NDArray[Any]:
    """(trial,): what sorts a column by value; text by its place in natural order."""
    if values.dtype.kind != "U":
        return values
    names, which = np.unique(values, return_inverse=True)
    place = {name: number for number, name in enumerate(in_natural_order(names.tolist()))}
    places = np.array([place[name] for name in names.tolist()], dtype=np.int64)
    return places[which.ravel()]


def _has_times(onset: NDArray[np.generic]) -> bool:
    return onset.dtype.kind in "iuf" and bool(np.isfinite(onset.astype(np.float64)).all())


@hookimpl
def eegstore_splits() -> list[type[ChronologicalSplit]]:
    """The split of this module."""
    return [ChronologicalSplit]

"""Options that several splits have, and what is said where a trial lacks what they go by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Trials

TRAIN: Final = "train"
USUAL_TEST_SIZE: Final = 0.2
# Of trials that belong to no other split, so that nobody trains or tests with them unawares.
UNPAIRED: Final = "unpaired"
GIVEN_BY: Final[Mapping[str, str]] = {
    "run": ", mne by itself",
    "onset": ", mne by itself",
    "block": ", synthetic by itself",
    "repetition": ", synthetic by itself",
}

TEST_SIZE: Final[Mapping[str, Any]] = {
    "description": "Share of the trials in 'test'; 0.2 by default, but none beside folds.",
    "gt": 0,
    "lt": 1,
}
VAL_SIZE: Final[Mapping[str, Any]] = {
    "description": "Share of the trials in 'val'.", "ge": 0, "lt": 1
}  # fmt: skip
SEED: Final[Mapping[str, Any]] = {"description": "Seed of the draw.", "ge": 0}
N_FOLDS: Final[Mapping[str, Any]] = {
    "description": "Folds of a cross-validation, in the column 'fold'; 0 for none.", "ge": 0
}  # fmt: skip


def check_sizes(test_size: float | None, val_size: float, n_folds: int) -> None:
    """Raise a ValueError where options contradict each other."""
    held_out = (test_size or 0.0) + val_size
    if held_out >= 1:
        raise ValueError(
            f"test_size + val_size is {held_out}, expected less than 1: the rest is 'train'"
        )
    if n_folds == 1:
        raise ValueError("n_folds is 1, expected 2 or more, or 0 for none")


def column_of(split: str, trials: Trials, name: str) -> NDArray[Any]:
    """A narrow column of the source.

    Raises
    ------
    InputError
        Where it has none; says who gives it.
    """
    if name not in trials.columns:
        there = ", ".join(trials.columns) or "none"
        raise InputError(
            f"split {split!r}: the source's trials have no column {name!r} (they have {there}); "
            f"npy and hdf5 give it by their option columns{GIVEN_BY.get(name, '')}, and so does "
            "a source of your own"
        )
    return trials.columns[name]


def as_text(values: NDArray[Any]) -> NDArray[np.str_]:
    """str, (row,): the values as a recipe would name them; 2.0 is 2."""
    if values.dtype.kind == "f" and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    return values.astype(np.str_)

"""What a pairing and a split answer, and the names of the columns that they may give or not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FURTHER: Final = re.compile(r"(stimulus|score)_([2-9]|[1-9][0-9]+)")


@dataclass(frozen=True, eq=False)
class Pairs:
    """A pairing's answer.

    Parameters
    ----------
    stimulus
        int64, (trial,): the row of ``stimuli``, -1 where the trial stays unpaired.
    score
        float32, (trial,): how good the pair is, NaN where the trial stays unpaired.
    more
        int64, (trial, further): further stimuli of each trial, the best first and none twice; -1
        where there are fewer. None where a trial has one stimulus at most.
    more_score
        float32, (trial, further): how good those pairs are, NaN where there is none.
    """

    stimulus: NDArray[np.int64]
    score: NDArray[np.float32]
    more: NDArray[np.int64] | None = None
    more_score: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Splits:
    """The answer of a split that makes folds too.

    Parameters
    ----------
    split
        str, (trial,): the split's name.
    fold
        int64, (trial,): the fold, from 0, -1 where the trial is in none. In cross-validation each
        fold is the test once: then the trials of all others whose split is ``train`` are trained
        on, so that without another test all trials are ``train``.
    """

    split: NDArray[np.str_]
    fold: NDArray[np.int64]


def further(name: str, number: int) -> str:
    """Name of the column of trials with the stimuli, or the scores, of a number from 2."""
    return f"{name}_{number}"


def comes_with(name: str) -> str:
    """The column of trials that an optional one is answered with; empty where it is none."""
    found = FURTHER.fullmatch(name)
    return found[1] if found else "split" if name == "fold" else ""

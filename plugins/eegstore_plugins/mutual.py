"""Pairs trials and stimuli that are each other's nearest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from eegstore import Column, Pairs, Stimuli, Trials, hookimpl
from eegstore_plugins.nearness import (
    Choice,
    ComparedPairing,
    Numbers,
    Space,
    Values,
    best,
    space,
)


def nearest_trials(shared: Space, n_trials: int) -> Numbers:
    """int64, (known, trial): the trials nearest to each stimulus; of equals the lowest row."""
    kept: Values = np.empty((len(shared.stimuli), 0))
    trials: Numbers = np.empty((len(shared.stimuli), 0), dtype=np.int64)
    for rows, block in shared.blocks():
        places = best(block.T, n_trials)
        kept = np.concatenate([kept, np.take_along_axis(block.T, places, axis=1)], axis=1)
        trials = np.concatenate([trials, rows[places]], axis=1)
        # Earlier blocks come first, and have the lower rows.
        order = np.argsort(-kept, axis=1, kind="stable")[:, :n_trials]
        kept = np.take_along_axis(kept, order, axis=1)
        trials = np.take_along_axis(trials, order, axis=1)
    return trials


@dataclass(frozen=True)
class MutualPairing(ComparedPairing):
    """Pairs a trial and a stimulus that are each other's nearest; all others stay unpaired.

    The score is their similarity. With ``n_trials`` above 1 a stimulus keeps so many of its
    nearest trials, each of which has to have it as its nearest: for stimuli that were shown
    repeatedly. Of equally similar rows the lowest is nearest; similarities that differ by less
    than 1e-10 are equal. Rows with NaN or Inf (for the cosine, of zeros) stay unpaired. It holds
    the gallery and a block of similarities, never all.
    """

    name: ClassVar[str] = "mutual"
    version: ClassVar[str] = "1"

    n_trials: int = field(
        default=1,
        metadata={"description": "Nearest trials of a stimulus that count.", "ge": 1, "le": 1000},
    )

    @property
    def cardinality(self) -> Literal["one", "one-to-one"]:
        """How many stimuli a trial has, and trials a stimulus."""
        return "one-to-one" if self.n_trials == 1 else "one"

    def __call__(self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Column]) -> Pairs:
        shared = space(columns, self.query, self.gallery, self.metric)
        kept = nearest_trials(shared, self.n_trials)
        chosen = Choice.none(trials.n_trials, 1)
        for rows, similar in shared.blocks():
            places = best(similar, 1)
            mutual = (kept[places[:, 0]] == rows[:, np.newaxis]).any(axis=1)
            scores = np.take_along_axis(similar, places, axis=1)
            chosen.put(rows[mutual], shared.stimuli[places[mutual]], scores[mutual])
        return chosen.pairs()


@hookimpl
def eegstore_pairings() -> list[type[MutualPairing]]:
    """The pairing of this module."""
    return [MutualPairing]

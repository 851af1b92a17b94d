"""Pairs a trial with the stimulus that is most like it, in a space that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

import numpy as np

from eegstore import Column, Pairs, Stimuli, Trials, hookimpl
from eegstore_plugins.coupling import MAX_VALUES, assignment, capacity_of, sinkhorn
from eegstore_plugins.nearness import (
    Choice,
    ComparedPairing,
    Numbers,
    Space,
    Values,
    best,
    space,
)

Cardinality = Literal["one", "one-to-one", "many"]
ADVICE: Final = 'set method = "nearest" or "csls", which work block by block'


def hubness(shared: Space, neighbours: int) -> Values:
    """float64, (known,): each stimulus' mean similarity to its nearest trials."""
    nearest = np.full((len(shared.stimuli), 0), -np.inf)
    for _, block in shared.blocks():
        merged = np.concatenate([nearest, block.T], axis=1)
        most = min(neighbours, merged.shape[1])
        nearest = np.partition(merged, -most, axis=1)[:, -most:]
    if not nearest.shape[1]:
        return np.zeros(len(shared.stimuli))
    mean: Values = nearest.mean(axis=1)
    return mean


@dataclass(frozen=True)
class SimilarityPairing(ComparedPairing):
    """Pairs each trial with the stimulus that is most similar to it in a space that they share.

    The score is what was largest: of ``nearest`` and ``assignment`` the similarity, of ``csls``
    the corrected one, of ``sinkhorn`` the probability. A trial whose row has NaN or Inf (or for
    the cosine is all 0) stays unpaired, and such a stimulus is never chosen. Of equally similar
    stimuli the lowest row is taken; similarities that differ by less than 1e-10 are equal.

    Notes
    -----
    - ``nearest``: the stimulus of the largest similarity
    - ``csls``: that less the mean similarity of trial and stimulus to their ``neighbours``
      nearest, so that no stimulus is near to all: 2 s(x, y) - r(x) - r(y) (Conneau et al. 2018,
      Word translation without parallel data)
    - ``sinkhorn``: the most probable stimulus in the coupling that uses all stimuli alike and has
      the most entropy (Cuturi 2013, Sinkhorn distances)
    - ``assignment``: the pairs of the largest sum of similarities in which no stimulus has more
      than ``capacity`` trials (Crouse 2016); of several such sums, one

    ``nearest`` and ``csls`` hold the gallery and a block of similarities; the other two hold all
    similarities, and refuse more than 134 million.
    """

    name: ClassVar[str] = "similarity"
    version: ClassVar[str] = "1"

    method: Literal["nearest", "csls", "sinkhorn", "assignment"] = field(
        default="nearest", metadata={"description": "How the stimulus follows from similarities."}
    )
    k: int = field(
        default=1,
        metadata={
            "description": "Stimuli of a trial, best first; 1 for an assignment.",
            "ge": 1,
            "le": 1000,
        },
    )
    neighbours: int = field(
        default=10, metadata={"description": "Nearest rows that csls averages.", "ge": 1}
    )
    temperature: float = field(
        default=0.05,
        metadata={
            "description": "Of sinkhorn: similarities are divided by it; the smaller, the nearer "
            "to an assignment. In units of the metric.",
            "gt": 0,
            "allow_inf_nan": False,
        },
    )
    capacity: int = field(
        default=0,
        metadata={
            "description": "Of an assignment: most trials of a stimulus. 1 pairs one to one, and "
            "trials beyond stay unpaired; 0: as few as leave no trial unpaired.",
            "ge": 0,
        },
    )

    def __post_init__(self) -> None:
        if self.k > 1 and self.method == "assignment":
            raise ValueError(f"k is {self.k}, expected 1: an assignment gives one stimulus")

    @property
    def cardinality(self) -> Cardinality:
        """How many stimuli a trial has, and trials a stimulus."""
        if self.k > 1:
            return "many"
        return "one-to-one" if (self.method, self.capacity) == ("assignment", 1) else "one"

    def __call__(self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Column]) -> Pairs:
        shared = space(columns, self.query, self.gallery, self.metric)
        chosen = Choice.none(trials.n_trials, self.k)
        if self.method == "assignment":
            self._assign(shared, chosen)
        elif self.method == "sinkhorn":
            rows, similar = shared.matrix(MAX_VALUES, ADVICE)
            if len(rows):
                self._take(shared, chosen, rows, sinkhorn(similar, self.temperature))
        else:
            self._nearest(shared, chosen)
        return chosen.pairs()

    def _nearest(self, shared: Space, chosen: Choice) -> None:
        is_csls = self.method == "csls"
        of_stimulus = hubness(shared, self.neighbours) if is_csls else np.zeros(1)
        for rows, similar in shared.blocks():
            scores = similar
            if is_csls:
                most = min(self.neighbours, similar.shape[1])
                nearest = np.partition(similar, -most, axis=1)[:, -most:]
                scores = 2 * similar - nearest.mean(axis=1, keepdims=True) - of_stimulus
            self._take(shared, chosen, rows, scores)

    def _take(self, shared: Space, chosen: Choice, rows: Numbers, scores: Values) -> None:
        """Give trials the stimuli of the largest scores."""
        places = best(scores, self.k)
        chosen.put(rows, shared.stimuli[places], np.take_along_axis(scores, places, axis=1))

    def _assign(self, shared: Space, chosen: Choice) -> None:
        n_stimuli = len(shared.stimuli)
        most = self.capacity or capacity_of(shared.n_trials, n_stimuli)
        rows, similar = shared.matrix(MAX_VALUES // most, ADVICE)
        # Of the trials that can be compared, which may be fewer.
        capacity = self.capacity or capacity_of(max(len(rows), 1), n_stimuli)
        places = assignment(similar, capacity)
        paired = np.flatnonzero(places >= 0)
        scores = similar[paired, places[paired]]
        chosen.put(rows[paired], shared.stimuli[places[paired], None], scores[:, None])


@hookimpl
def eegstore_pairings() -> list[type[SimilarityPairing]]:
    """The pairing of this module."""
    return [SimilarityPairing]

"""Pairs trials with stimuli by chance, so that all stimuli are used alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Column, Pairs, Stimuli, Trials, hookimpl
from eegstore_plugins.good_trials import MIN_QUALITY, QUALITY, good_trials, reads_of
from eegstore_plugins.label import UNMATCHED, StimuliOfLabels, refuse_unlabelled


def dealt(
    group: NDArray[np.int64], n_stimuli: NDArray[np.int64], chance: np.random.Generator
) -> NDArray[np.int64]:
    """int64, (trial,): which of its group's stimuli each trial gets, dealt like cards.

    Round after round a group's stimuli go to its trials, in an order that is drawn, so that two
    stimuli are used equally often, or one once more.
    """
    shuffled = chance.permutation(len(group))
    order = shuffled[np.argsort(group[shuffled], kind="stable")]
    _, first, counts = np.unique(group[order], return_index=True, return_counts=True)
    place = np.arange(len(group)) - np.repeat(first, counts)
    # Which stimuli are used once more is drawn too: the group's first card is any of them.
    start = np.repeat(
        (chance.random(len(first)) * n_stimuli[order[first]]).astype(np.int64), counts
    )
    turn = np.empty(len(group), dtype=np.int64)
    turn[order] = (start + place) % n_stimuli[order]
    return turn


@dataclass(frozen=True)
class BalancedPairing:
    """Pairs trials with stimuli by chance, so that each stimulus has as many trials as any other.

    ``label``: a trial gets a stimulus of its label, and of one label no stimulus is used more than
    once more than another; a trial of label -1 stays unpaired. The score is 1 / n where the label
    has n stimuli. ``all``: a trial gets any stimulus, whatever its label, with the same promise
    over all stimuli; the score is 1 / n of all. A trial of less ``quality`` than ``min_quality``
    stays unpaired. There is no relation between such pairs: they are
    what chance looks like, to compare others with.
    """

    name: ClassVar[str] = "balanced"
    version: ClassVar[str] = "1"
    cardinality: ClassVar[Literal["one"]] = "one"

    within: Literal["label", "all"] = field(
        default="label", metadata={"description": "Which stimuli a trial can get."}
    )
    seed: int = field(default=0, metadata={"description": "Seed of the draw.", "ge": 0})
    unmatched: Literal["error", "keep"] = field(default="error", metadata=UNMATCHED)
    quality: str = field(default="", metadata=QUALITY)
    min_quality: float = field(default=0.5, metadata=MIN_QUALITY)

    @property
    def reads(self) -> tuple[str, ...]:
        """The wide column of the quality."""
        return reads_of(self.quality)

    @property
    def made_from(self) -> tuple[str, ...]:
        """What decides the pairs, beside chance."""
        return ("label",) if self.within == "label" else ()

    def __call__(self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Column]) -> Pairs:
        chance = np.random.Generator(np.random.PCG64(self.seed))
        good = good_trials(self.quality, self.min_quality, columns, trials.n_trials)
        if self.within == "all":
            return self._of_all(good, stimuli.n_stimuli, chance)
        label = np.where(good, trials.label, -1)
        found = StimuliOfLabels(label, stimuli)
        if self.unmatched == "error":
            refuse_unlabelled(self.name, trials)
            found.refuse_missing(self.name)
        return found.pairs(dealt(label, found.n_stimuli, chance), 1)

    def _of_all(
        self, good: NDArray[np.bool_], n_stimuli: int, chance: np.random.Generator
    ) -> Pairs:
        """Pairs of the good trials with any of the stimuli."""
        everyone = np.zeros(int(good.sum()), dtype=np.int64)
        turn = dealt(everyone, np.full(len(everyone), n_stimuli), chance)
        stimulus = np.full(len(good), -1, dtype=np.int64)
        stimulus[good] = chance.permutation(n_stimuli)[turn]
        return Pairs(stimulus, np.where(good, 1 / n_stimuli, np.nan).astype(np.float32))


@hookimpl
def eegstore_pairings() -> list[type[BalancedPairing]]:
    """The pairing of this module."""
    return [BalancedPairing]

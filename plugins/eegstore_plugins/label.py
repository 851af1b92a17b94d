"""Pairs a trial with a stimulus of the same label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Column, InputError, Pairs, Stimuli, Trials, hookimpl
from eegstore_plugins.good_trials import MIN_QUALITY, QUALITY, good_trials, reads_of


def _occurrence(values: NDArray[Any]) -> NDArray[np.int64]:
    """int64, (trial,): how many earlier trials have the trial's value."""
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    occurrence = np.empty(len(values), dtype=np.int64)
    occurrence[order] = np.arange(len(values)) - np.repeat(first, counts)
    return occurrence


class StimuliOfLabels:
    """The rows of stimuli by their label.

    Parameters
    ----------
    label
        int64, (trial,): the trials' labels; one of label -1 has no stimuli.
    stimuli
        The stimuli.

    Attributes
    ----------
    paired
        bool, (trial,): whether the trial's label has stimuli.
    n_stimuli
        int64, (trial,): how many it has; of a trial that is not paired, any number above 0.
    """

    def __init__(self, label: NDArray[np.int64], stimuli: Stimuli) -> None:
        self._label = label
        self._order = np.argsort(stimuli.label, kind="stable")
        self._labels, first, counts = np.unique(
            stimuli.label[self._order], return_index=True, return_counts=True
        )
        at = np.minimum(np.searchsorted(self._labels, label), len(self._labels) - 1)
        self.paired = (self._labels[at] == label) & (label >= 0)
        self._first, self.n_stimuli = first[at], counts[at]

    def rows(self, turn: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        """int64, (trial, k): the stimulus of a turn, and those of the turns after it.

        -1 where the trial is not paired, and beyond its label's last stimulus.
        """
        turns = np.arange(k)
        places = self._first[:, None] + (turn[:, None] + turns) % self.n_stimuli[:, None]
        there = self.paired[:, None] & (turns < self.n_stimuli[:, None])
        return np.where(there, self._order[places], -1)

    def pairs(self, turn: NDArray[np.int64], k: int) -> Pairs:
        """The pairs of these rows, each of the score 1 / n where a label has n stimuli."""
        rows = self.rows(turn, k)
        score = np.where(rows >= 0, 1 / self.n_stimuli[:, None], np.nan).astype(np.float32)
        if k == 1:
            return Pairs(stimulus=rows[:, 0], score=score[:, 0])
        return Pairs(rows[:, 0], score[:, 0], rows[:, 1:], score[:, 1:])

    def refuse_missing(self, pairing: str) -> None:
        """Raise an InputError where a label of trials has no stimulus."""
        missing = self._label[~self.paired & (self._label >= 0)]
        if not len(missing):
            return
        counts = [
            f"{label} ({n} trials)" for label, n in zip(*np.unique_counts(missing), strict=True)
        ]
        known = self._labels[self._labels >= 0]
        have = f"{len(known)} labels, {known[0]} to {known[-1]}" if len(known) else "no labels"
        raise InputError(
            f"pairing {pairing!r}: no stimulus has label {', '.join(counts[:5])}"
            f"{', …' * (len(counts) > 5)}; the stimuli have {have}; "
            'add the stimuli or set unmatched = "keep"'
        )


def refuse_unlabelled(pairing: str, trials: Trials) -> None:
    """Raise an InputError where no trial has a label: none would be paired."""
    if not (trials.label >= 0).any():
        raise InputError(
            f"pairing {pairing!r}: no trial has a label; give the source labels, pair by event, "
            'or set unmatched = "keep" to keep all trials unpaired'
        )


UNMATCHED: Final[Mapping[str, Any]] = {
    "description": "A label without stimulus: reject the build, or keep the trial unpaired."
}
K: Final[Mapping[str, Any]] = {
    "description": "Stimuli of a trial: with its own, those of its label that come next.",
    "ge": 1,
    "le": 1000,
}


@dataclass(frozen=True)
class LabelPairing:
    """Pairs each trial with a stimulus of its label; a trial of label -1 stays unpaired.

    The score is 1 / n where the label has n stimuli: the probability that this one was shown, if
    all that is known is the label. A trial of less ``quality`` than ``min_quality`` stays unpaired.
    """

    name: ClassVar[str] = "label"
    version: ClassVar[str] = "1"
    made_from: ClassVar[tuple[str, ...]] = ("label",)

    choose: Literal["first", "cycle", "random"] = field(
        default="first",
        metadata={
            "description": "Of several stimuli of one label: always the first; the k-th for the "
            "label's k-th trial, starting over after the last; or a random one for each trial."
        },
    )
    seed: int = field(default=0, metadata={"description": "Seed of choose = 'random'.", "ge": 0})
    unmatched: Literal["error", "keep"] = field(default="error", metadata=UNMATCHED)
    k: int = field(default=1, metadata=K)
    quality: str = field(default="", metadata=QUALITY)
    min_quality: float = field(default=0.5, metadata=MIN_QUALITY)

    @property
    def reads(self) -> tuple[str, ...]:
        """The wide column of the quality."""
        return reads_of(self.quality)

    @property
    def cardinality(self) -> Literal["one", "many"]:
        """How many stimuli a trial has."""
        return "one" if self.k == 1 else "many"

    def __call__(self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Column]) -> Pairs:
        good = good_trials(self.quality, self.min_quality, columns, trials.n_trials)
        label = np.where(good, trials.label, -1)
        found = StimuliOfLabels(label, stimuli)
        if self.unmatched == "error":
            refuse_unlabelled(self.name, trials)
            found.refuse_missing(self.name)
        return found.pairs(self._turn(label, found.n_stimuli), self.k)

    def _turn(self, label: NDArray[np.int64], n_stimuli: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64, (trial,): which of its label's stimuli each trial takes."""
        if self.choose == "cycle":
            return _occurrence(label) % n_stimuli
        if self.choose == "random":
            draw = np.random.Generator(np.random.PCG64(self.seed)).random(len(label))
            return (draw * n_stimuli).astype(np.int64)
        return np.zeros(len(label), dtype=np.int64)


@hookimpl
def eegstore_pairings() -> list[type[LabelPairing]]:
    """The pairing of this module."""
    return [LabelPairing]

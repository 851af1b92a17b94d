"""Pairs a trial with a stimulus of the same label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Column, InputError, Pairs, Stimuli, Trials, hookimpl


def _occurrence(values: NDArray[Any]) -> NDArray[np.int64]:
    """int64, (trial,): how many earlier trials have the trial's value."""
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    occurrence = np.empty(len(values), dtype=np.int64)
    occurrence[order] = np.arange(len(values)) - np.repeat(first, counts)
    return occurrence


@dataclass(frozen=True)
class LabelPairing:
    """Pairs each trial with a stimulus of its label; a trial of label -1 stays unpaired.

    The score is 1 / n where the label has n stimuli: the probability that this one was shown, if
    all that is known is the label.
    """

    name: ClassVar[str] = "label"
    version: ClassVar[str] = "1"

    choose: Literal["first", "cycle", "random"] = field(
        default="first",
        metadata={
            "description": "Of several stimuli of one label: always the first; the k-th for the "
            "label's k-th trial, starting over after the last; or a random one for each trial."
        },
    )
    seed: int = field(default=0, metadata={"description": "Seed of choose = 'random'.", "ge": 0})
    unmatched: Literal["error", "keep"] = field(
        default="error",
        metadata={
            "description": "A label without stimulus: reject the build, or keep the trial unpaired."
        },
    )

    def __call__(self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Column]) -> Pairs:
        order = np.argsort(stimuli.label, kind="stable")
        labels, first, counts = np.unique(
            stimuli.label[order], return_index=True, return_counts=True
        )
        at = np.minimum(np.searchsorted(labels, trials.label), len(labels) - 1)
        paired = (labels[at] == trials.label) & (trials.label >= 0)
        if self.unmatched == "error":
            self._refuse_missing(trials.label[~paired & (trials.label >= 0)], labels)
        chosen = order[first[at] + self._turn(trials.label, counts[at])]
        return Pairs(
            stimulus=np.where(paired, chosen, -1),
            score=np.where(paired, 1 / counts[at], np.nan).astype(np.float32),
        )

    def _turn(self, label: NDArray[np.int64], n_stimuli: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64, (trial,): which of its label's stimuli each trial takes."""
        if self.choose == "cycle":
            return _occurrence(label) % n_stimuli
        if self.choose == "random":
            draw = np.random.Generator(np.random.PCG64(self.seed)).random(len(label))
            return (draw * n_stimuli).astype(np.int64)
        return np.zeros(len(label), dtype=np.int64)

    def _refuse_missing(self, missing: NDArray[np.int64], known: NDArray[np.int64]) -> None:
        if not len(missing):
            return
        counts = [
            f"{label} ({n} trials)" for label, n in zip(*np.unique_counts(missing), strict=True)
        ]
        known = known[known >= 0]
        have = f"{len(known)} labels, {known[0]} to {known[-1]}" if len(known) else "no labels"
        raise InputError(
            f"pairing 'label': no stimulus has label {', '.join(counts[:5])}"
            f"{', …' * (len(counts) > 5)}; the stimuli have {have}; "
            'add the stimuli or set unmatched = "keep"'
        )


@hookimpl
def eegstore_pairings() -> list[type[LabelPairing]]:
    """The pairing of this module."""
    return [LabelPairing]

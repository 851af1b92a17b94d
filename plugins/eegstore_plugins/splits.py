"""Splits: the source's own, and a stratified random one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Stimuli, Trials, hookimpl

SPLITS: Final = np.array(["train", "val", "test"])


@dataclass(frozen=True)
class SourceSplit:
    """The splits that the source itself gives."""

    name: ClassVar[str] = "source"
    version: ClassVar[str] = "1"

    def __call__(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> NDArray[np.str_]:
        if trials.split is None:
            raise InputError(
                "split 'source': the source has no splits of its own; "
                'use [split] plugin = "random"'
            )
        empty = np.flatnonzero(trials.split == "")
        if len(empty):
            raise InputError(
                f"split 'source': trial {empty[0]} has no split ({len(empty)} such trials), "
                "expected one for every trial"
            )
        return trials.split


def _stratify(
    n_trials: NDArray[np.int64], sizes: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Share labels out among splits, each share less than one trial off, or one, from proportion.

    Every share is rounded down first. What is left of each label, less trials than splits, goes to
    different splits: the ones that lack most. This meets the sizes exactly in any order of the
    labels (Gale 1957; Ryser 1957), so the order can be drawn.

    Parameters
    ----------
    n_trials
        int64, (label,): trials of each label.
    sizes
        int64, (split,): trials of each split; the same sum.
    order
        int64, (label,): in which order the labels give away what is left of them.

    Returns
    -------
    int64, (label, split): trials of a label in a split.
    """
    shares: NDArray[np.int64] = n_trials[:, None] * sizes // sizes.sum()
    lacking = sizes - shares.sum(axis=0)
    left = n_trials - shares.sum(axis=1)
    for label in order:
        takers = np.argsort(-lacking, kind="stable")[: left[label]]
        shares[label, takers] += 1
        lacking[takers] -= 1
    return shares


@dataclass(frozen=True)
class RandomSplit:
    """Random splits ``train``, ``val`` and ``test`` of exact sizes, stratified by label.

    In each split a label has as many trials as its proportion says, or at most one more or less;
    where a label has too few for that, chance says where they go. Only the labels and the seed
    matter. Trials of one stimulus or one recording block can fall into different splits.
    """

    name: ClassVar[str] = "random"
    version: ClassVar[str] = "1"

    test_size: float = field(
        default=0.2, metadata={"description": "Share of the trials in 'test'.", "gt": 0, "lt": 1}
    )
    val_size: float = field(
        default=0.0, metadata={"description": "Share of the trials in 'val'.", "ge": 0, "lt": 1}
    )
    seed: int = field(default=0, metadata={"description": "Seed of the draw.", "ge": 0})

    def __post_init__(self) -> None:
        if self.test_size + self.val_size >= 1:
            raise ValueError(
                f"test_size + val_size is {self.test_size + self.val_size}, "
                "expected less than 1: the rest is 'train'"
            )

    def __call__(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> NDArray[np.str_]:
        n_val, n_test = (round(trials.n_trials * size) for size in (self.val_size, self.test_size))
        sizes = np.array([trials.n_trials - n_val - n_test, n_val, n_test])
        chance = np.random.Generator(np.random.PCG64(self.seed))
        shuffled = chance.permutation(trials.n_trials)
        by_label = shuffled[np.argsort(trials.label[shuffled], kind="stable")]
        labels, counts = np.unique(trials.label, return_counts=True)
        shares = _stratify(counts, sizes, chance.permutation(len(labels)))
        splits = np.empty(trials.n_trials, dtype=SPLITS.dtype)
        splits[by_label] = np.repeat(np.tile(SPLITS, len(labels)), shares.ravel())
        return splits


@hookimpl
def eegstore_splits() -> list[type[SourceSplit] | type[RandomSplit]]:
    """The splits of this module."""
    return [SourceSplit, RandomSplit]

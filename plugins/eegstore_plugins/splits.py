"""Splits: the source's own, and a stratified random one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Splits, Stimuli, Trials, hookimpl
from eegstore_plugins.split_options import (
    N_FOLDS,
    SEED,
    TEST_SIZE,
    TRAIN,
    USUAL_TEST_SIZE,
    VAL_SIZE,
    check_sizes,
)

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


def _drawn(
    label: NDArray[np.int64], sizes: NDArray[np.int64], chance: np.random.Generator
) -> NDArray[np.int64]:
    """int64, (trial,): the number of a part of the given sizes, drawn and stratified by label."""
    shuffled = chance.permutation(len(label))
    by_label = shuffled[np.argsort(label[shuffled], kind="stable")]
    labels, counts = np.unique(label, return_counts=True)
    shares = _stratify(counts, sizes, chance.permutation(len(labels)))
    parts = np.empty(len(label), dtype=np.int64)
    parts[by_label] = np.repeat(np.tile(np.arange(len(sizes)), len(labels)), shares.ravel())
    return parts


@dataclass(frozen=True)
class RandomSplit:
    """Random splits ``train``, ``val`` and ``test`` of exact sizes, stratified by label.

    In each split, and in each fold, a label has as many trials as its proportion says, or at most
    one more or less; where a label has too few for that, chance says where they go. Only the
    labels and the seed matter. Trials of one stimulus or one recording block can fall into
    different splits.
    """

    name: ClassVar[str] = "random"
    version: ClassVar[str] = "1"

    test_size: float | None = field(default=None, metadata=TEST_SIZE)
    val_size: float = field(default=0.0, metadata=VAL_SIZE)
    seed: int = field(default=0, metadata=SEED)
    n_folds: int = field(default=0, metadata=N_FOLDS)

    def __post_init__(self) -> None:
        check_sizes(self.test_size, self.val_size, self.n_folds)

    def __call__(
        self, trials: Trials, stimulus: NDArray[np.int64], stimuli: Stimuli | None
    ) -> NDArray[np.str_] | Splits:
        usual = 0.0 if self.n_folds else USUAL_TEST_SIZE
        shares = (self.val_size, usual if self.test_size is None else self.test_size)
        n_val, n_test = (round(trials.n_trials * share) for share in shares)
        sizes = np.array([trials.n_trials - n_val - n_test, n_val, n_test])
        chance = np.random.Generator(np.random.PCG64(self.seed))
        splits = SPLITS[_drawn(trials.label, sizes, chance)]
        if not self.n_folds:
            return splits
        train = np.flatnonzero(splits == TRAIN)
        if len(train) < self.n_folds:
            raise InputError(
                f"split 'random': {len(train)} trials are not held out, expected {self.n_folds} or "
                "more: one at least in each fold"
            )
        sizes = np.diff(np.arange(self.n_folds + 1) * len(train) // self.n_folds)
        fold = np.full(trials.n_trials, -1, dtype=np.int64)
        fold[train] = _drawn(trials.label[train], sizes, chance)
        return Splits(splits, fold)


@hookimpl
def eegstore_splits() -> list[type[SourceSplit] | type[RandomSplit]]:
    """The splits of this module."""
    return [SourceSplit, RandomSplit]

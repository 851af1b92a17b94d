"""How near trials and stimuli are in a space that they share, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Column, InputError, Pairs

Metric = Literal["cosine", "euclidean"]
Numbers = NDArray[np.int64]
Values = NDArray[np.float64]

BLOCK_VALUES: Final = 1 << 23
MAX_BLOCK_ROWS: Final = 4096
# Similarities that differ less are equal, or the library that multiplies would decide a tie.
DECIMALS: Final = 10
# Squared distances likewise: this share of the squared lengths that they are made of.
SMALLEST_STEP: Final = 2.0**-40
MAX_PASSES: Final = 8

QUERY: Final[Mapping[str, Any]] = {
    "description": "Column of trials that is compared, such as 'trials/NAME'; none that is fitted, "
    "because fitting waits for the pairs.",
    "pattern": "^trials/[a-z][a-z0-9_]*$",
    "examples": ["trials/eeg_embedding"],
}
GALLERY: Final[Mapping[str, Any]] = {
    "description": "Column of stimuli that it is compared with, in the same space.",
    "pattern": "^stimuli/[a-z][a-z0-9_]*$",
}
METRIC: Final[Mapping[str, Any]] = {
    "description": "How similar two rows are: their cosine, or minus their Euclidean distance."
}


@dataclass(frozen=True)
class ComparedPairing:
    """A pairing of trials and stimuli by two columns in a space that they share."""

    query: str = field(metadata=QUERY)
    gallery: str = field(default="stimuli/clip_image", metadata=GALLERY)
    metric: Metric = field(default="cosine", metadata=METRIC)

    @property
    def reads(self) -> tuple[str, ...]:
        """The wide columns that are compared."""
        return self.query, self.gallery

    @property
    def made_from(self) -> tuple[str, ...]:
        """What decides the pairs."""
        return self.reads


@dataclass(frozen=True, eq=False)
class Space:
    """Trials and stimuli as vectors of one space; rows that are no use are left out.

    Such rows have a value that is not finite or, for the cosine, are all 0.

    Parameters
    ----------
    query
        The trials' column, read a block at a time.
    stimuli
        int64, (known,): the rows of stimuli that can be compared.
    gallery
        float64, (known, feature): their vectors, for the cosine of length 1.
    metric
        How similar two vectors are.
    """

    query: Column
    stimuli: Numbers
    gallery: Values
    metric: Metric

    @property
    def n_trials(self) -> int:
        """Number of rows of trials."""
        return len(self.query)

    @property
    def block_rows(self) -> int:
        """Trials whose similarities to all stimuli are held at once."""
        return max(1, min(MAX_BLOCK_ROWS, BLOCK_VALUES // len(self.stimuli)))

    def vectors(self) -> Iterator[tuple[Numbers, Values]]:
        """Some trials that can be compared, and their vectors, float64 (trial, feature)."""
        for start in range(0, self.n_trials, self.block_rows):
            stop = min(start + self.block_rows, self.n_trials)
            vectors = _vectors(self.query[start:stop])
            known = _comparable(vectors, self.metric)
            if known.any():
                yield start + np.flatnonzero(known), _scaled(vectors[known], self.metric)

    def blocks(self) -> Iterator[tuple[Numbers, Values]]:
        """Some trials that can be compared, and their similarity, float64 (trial, known)."""
        for trials, vectors in self.vectors():
            yield trials, similarity(vectors, self.gallery, self.metric)

    def matrix(self, most: int, advice: str) -> tuple[Numbers, Values]:
        """All of it at once, where that is no more than ``most`` values."""
        n_values = self.n_trials * len(self.stimuli)
        if n_values > most:
            raise InputError(
                f"{self.n_trials:,} trials x {len(self.stimuli):,} stimuli are {n_values:,} "
                f"similarities, expected at most {most:,} at once; {advice}"
            )
        parts = list(self.blocks())
        if not parts:
            return np.empty(0, np.int64), np.empty((0, len(self.stimuli)))
        return (np.concatenate([trials for trials, _ in parts]),
                np.concatenate([block for _, block in parts]))  # fmt: skip


def space(columns: Mapping[str, Column], query: str, gallery: str, metric: Metric) -> Space:
    """The space of two columns, named ``table/column``.

    Raises
    ------
    InputError
        Where their rows are of different width, or no stimulus can be compared.
    """
    vectors = _vectors(columns[gallery][:])
    widths = {path: _width(columns[path]) for path in (query, gallery)}
    if len(set(widths.values())) > 1:
        raise InputError(
            f"[pairing] {query} has {widths[query]} numbers a row and {gallery} {widths[gallery]}, "
            "expected columns of one space; name a query that was made for that gallery"
        )
    known = _comparable(vectors, metric)
    if not known.any():
        raise InputError(f"[pairing] {gallery}: no row can be compared: all are NaN, Inf or zeros")
    return Space(columns[query], np.flatnonzero(known), _scaled(vectors[known], metric), metric)


def _width(column: Column) -> int:
    return int(np.prod(column.spec.shape, dtype=np.int64))


def _vectors(rows: NDArray[Any]) -> Values:
    """float64, (row, feature); more axes than one are laid end to end."""
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)


def _comparable(vectors: Values, metric: Metric) -> NDArray[np.bool_]:
    """bool, (row,): whether a similarity can be told."""
    known = np.isfinite(vectors)
    if metric == "cosine":
        known &= (vectors != 0).any(axis=1, keepdims=True)
    return np.asarray(known.all(axis=1))


def _scaled(vectors: Values, metric: Metric) -> Values:
    """For the cosine, vectors of length 1; the largest value goes first, lest a square overflow."""
    if metric == "euclidean":
        return vectors
    vectors = vectors / np.abs(vectors).max(axis=1, keepdims=True)
    scaled: Values = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def similarity(queries: Values, gallery: Values, metric: Metric) -> Values:
    """float64, (query, row): the cosine of vectors of length 1, or minus the distance."""
    products: Values = queries @ gallery.T
    if metric == "cosine":
        rounded: Values = np.round(products, DECIMALS, out=products)
        return rounded
    squared = np.square(queries).sum(axis=1)[:, np.newaxis]
    lengths = np.square(gallery).sum(axis=1)
    step = np.maximum(SMALLEST_STEP * (squared + lengths.max()), np.finfo(np.float64).tiny)
    steps = np.rint((squared + lengths - 2 * products) / step)
    distance: Values = np.sqrt(np.maximum(steps, 0) * step)
    return -distance


def best(scores: Values, k: int) -> Numbers:
    """int64, (row, k): the places of a row's largest scores, best first; of equals the lowest."""
    k = min(k, scores.shape[1])
    if k == 1:
        return np.asarray(scores.argmax(axis=1)[:, np.newaxis])
    if k > MAX_PASSES:
        return np.asarray(np.argsort(-scores, axis=1, kind="stable")[:, :k])
    left, rows = scores.copy(), np.arange(len(scores))
    places = np.empty((len(scores), k), dtype=np.int64)
    for turn in range(k):
        places[:, turn] = left.argmax(axis=1)
        left[rows, places[:, turn]] = -np.inf
    return places


@dataclass(frozen=True, eq=False)
class Choice:
    """Stimuli and scores of all trials, filled in by blocks; unpaired to begin with."""

    stimulus: Numbers
    score: Values

    @classmethod
    def none(cls, n_trials: int, k: int) -> Choice:
        """No trial has a stimulus yet."""
        return cls(np.full((n_trials, k), -1, dtype=np.int64), np.full((n_trials, k), np.nan))

    def put(self, trials: Numbers, stimuli: Numbers, scores: Values) -> None:
        """Give trials their stimuli, int64 (trial, found), best first; there may be fewer."""
        width = stimuli.shape[1]
        self.stimulus[trials, :width] = stimuli
        self.score[trials, :width] = scores

    def pairs(self) -> Pairs:
        """As a pairing answers."""
        score = self.score.astype(np.float32)
        if self.stimulus.shape[1] == 1:
            return Pairs(self.stimulus[:, 0], score[:, 0])
        return Pairs(self.stimulus[:, 0], score[:, 0], self.stimulus[:, 1:], score[:, 1:])

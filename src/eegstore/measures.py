"""What retrieval measures, query by query: ties in expectation, chance in closed form."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.retrieval import k_way

TOP: Final = (1, 3, 5, 10)
WAYS: Final = (2, 4, 10, 50, 100, 200)
EQUAL: Final = 1e-12  # sums of probabilities nearer than this are the same
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class RightItems(NamedTuple):
    """Where the right items of queries stand in their gallery: one entry a right item.

    Attributes
    ----------
    query
        int64, (entry,): the query, from 0.
    n_better
        int64, (entry,): items of a higher score, right or wrong.
    n_tied
        int64, (entry,): other items of the same score, right or wrong.
    """

    query: Integers
    n_better: Integers
    n_tied: Integers


class _Entries(NamedTuple):
    """Right items with the best of each query first; numbers count items of the gallery."""

    query: Integers
    better: Integers  # of a higher score
    tied: Integers  # of the same score, itself included
    right_better: Integers  # right items among those
    right_tied: Integers
    is_first: NDArray[np.bool_]

    def first(self) -> tuple[Integers, Integers, Integers]:
        """Of each query's best right item: items better, items tied, right ones among these."""
        return self.better[self.is_first], self.tied[self.is_first], self.right_tied[self.is_first]


def names_of(ways: Sequence[int]) -> list[str]:
    """Names of the measures that ``measures`` gives."""
    return [*(f"top{k}" for k in TOP), "mrr", "rank", "map", *map(str, ways)]


def measures(
    right: RightItems, n_gallery: int, ways: Sequence[int] = WAYS
) -> dict[str, NDArray[np.float64]]:
    """Each measure of each query, in expectation over a random order of tied items.

    ``top1``, ``top3``, ``top5``, ``top10``: whether a right item is among the first. ``rank``: the
    place of the first right item, from 1. ``mrr``: the reciprocal of that place. ``map``: the mean
    over the right items of the precision at their places; ties as in McSherry & Najork (2008),
    Computing information retrieval performance measures efficiently in the presence of ties.
    ``2``, ``4``, …: how often a right item beats k - 1 wrong ones drawn at random, in the mean over
    the right items.

    Parameters
    ----------
    right
        At least one entry of each query.
    n_gallery
        Items in the gallery.
    ways
        The k of k-way identification.

    Returns
    -------
    float64, (query,), by name.
    """
    entries = _entries(right)
    n_right = np.bincount(entries.query)
    harmonic = _harmonic(n_gallery)
    found: dict[str, Floats] = {f"top{k}": _top(entries, k) for k in TOP}
    found["mrr"] = _reciprocal_rank(entries, harmonic)
    better, tied, right_tied = entries.first()
    found["rank"] = better + (tied + 1) / (right_tied + 1)
    found["map"] = np.bincount(entries.query, _precision(entries, harmonic)) / n_right
    for k in ways:
        found[str(k)] = _k_way(entries, n_right, n_gallery, k)
    return found


def _entries(right: RightItems) -> _Entries:
    order = np.lexsort((right.n_better, right.query))
    query, better, other = (values[order] for values in right)
    places = np.arange(len(query))
    is_first = np.concatenate([[True], query[1:] != query[:-1]])
    opens = is_first | np.concatenate([[True], better[1:] != better[:-1]])
    first = np.maximum.accumulate(np.where(is_first, places, 0))
    opened = np.maximum.accumulate(np.where(opens, places, 0))
    group = np.cumsum(opens) - 1
    right_tied = np.bincount(group)[group]
    return _Entries(query, better, other + 1, opened - first, right_tied, is_first)


@functools.lru_cache(maxsize=8)
def _harmonic(n: int) -> Floats:
    """float64, (n + 1,): the harmonic numbers, from that of 0."""
    sums: Floats = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])
    return sums


def _top(entries: _Entries, k: int) -> Floats:
    """float64, (query,): the probability that a right item is among the first ``k``."""
    better, tied, right_tied = entries.first()
    missed = np.ones(len(better))
    for drawn in range(k):
        wrong = np.maximum(tied - right_tied - drawn, 0) / np.maximum(tied - drawn, 1)
        missed *= np.where(better + drawn < k, wrong, 1)
    return 1 - missed


def _reciprocal_rank(entries: _Entries, harmonic: Floats) -> Floats:
    """float64, (query,): the expected reciprocal of the first right item's place."""
    better, tied, right_tied = entries.first()
    found: Floats = (harmonic[better + tied] - harmonic[better]) / tied
    several = right_tied > 1
    if several.any():
        found[several] = _first_of_several(*(values[several] for values in entries.first()))
    return found


def _first_of_several(better: Integers, tied: Integers, right_tied: Integers) -> Floats:
    """The same where several right items are tied, place by place."""
    found, missed = np.zeros(len(better)), np.ones(len(better))
    for drawn in range(int((tied - right_tied).max()) + 1):
        left = np.maximum(tied - drawn, 1)
        wrong = np.maximum(tied - right_tied - drawn, 0) / left
        found += missed * (1 - wrong) / (better + drawn + 1)
        missed *= wrong
    return found


def _precision(entries: _Entries, harmonic: Floats) -> Floats:
    """float64, (entry,): the expected precision at the place of each right item."""
    better, tied = entries.better, entries.tied
    reciprocals = harmonic[better + tied] - harmonic[better]
    # Of the tied items before it, this share is right.
    share = (entries.right_tied - 1) / np.maximum(tied - 1, 1)
    right_before = (entries.right_better + 1) * reciprocals
    precision: Floats = (right_before + share * (tied - (better + 1) * reciprocals)) / tied
    return precision


def _k_way(entries: _Entries, n_right: Integers, n_gallery: int, k: int) -> Floats:
    """float64, (query,): mean over the right items, each among wrong ones alone."""
    better = entries.better - entries.right_better
    tied = entries.tied - entries.right_tied
    accuracy = np.empty(len(better))
    n_right_of = n_right[entries.query]
    for count in np.unique(n_right_of):
        same = n_right_of == count
        n_items = n_gallery - int(count) + 1
        accuracy[same] = k_way(better[same], tied[same], n_items, k)
    found: Floats = np.bincount(entries.query, accuracy) / n_right
    return found


@functools.lru_cache(maxsize=4096)
def _missed(n_gallery: int, n_right: int) -> Floats:
    """float64, (place + 1,): that no right item is among the first 0, 1, … of a random order."""
    drawn = np.arange(n_gallery - n_right + 1)
    left = np.cumprod((n_gallery - n_right - drawn) / (n_gallery - drawn))
    missed: Floats = np.concatenate([[1.0], left])
    return missed


def chance(n_gallery: int, n_right: int) -> dict[str, float]:
    """What a random order of the gallery gives, by measure.

    With one right item of n: k / n, H(n) / n (H the harmonic number) for ``mrr`` and ``map``. With
    more, the first right item's place is negative hypergeometric; the mean average precision is
    that of Bestgen (2015), Exact expected average precision of the random baseline for system
    evaluation.

    Parameters
    ----------
    n_gallery
        Items in the gallery.
    n_right
        Right ones among them.
    """
    missed = _missed(n_gallery, n_right)
    found = {f"top{k}": 1 - float(missed[min(k, len(missed) - 1)]) for k in TOP}
    found["mrr"] = float(np.sum(-np.diff(missed) / np.arange(1, len(missed))))
    harmonic = float(_harmonic(n_gallery)[-1])
    share = (n_right - 1) / max(n_gallery - 1, 1)
    found["map"] = (harmonic + share * (n_gallery - harmonic)) / n_gallery
    return found


def chances(n_gallery: Integers, n_right: Integers) -> dict[str, NDArray[np.float64]]:
    """float64, (query,): what a random order gives each query, by measure; see ``chance``."""
    kinds, which = np.unique(np.stack([n_gallery, n_right]), axis=1, return_inverse=True)
    each = [chance(int(n), int(right)) for n, right in kinds.T]
    return {name: np.array([one[name] for one in each])[which.ravel()] for name in each[0]}


def chance_median(n_gallery: Integers, n_right: Integers) -> float:
    """The median of the first right item's place over queries whose order is random.

    It is (n + 1) / 2 where each query has one right item of n.
    """
    kinds, counts = np.unique(np.stack([n_gallery, n_right]), axis=1, return_counts=True)
    below = np.zeros(int(n_gallery.max()) + 1)
    for (n, right), count in zip(kinds.T, counts, strict=True):
        found = 1 - _missed(int(n), int(right))
        below[: len(found)] += found * count
        below[len(found) :] += count
    below /= counts.sum()
    lower, upper = np.argmax(below >= 0.5 - EQUAL), np.argmax(below > 0.5 + EQUAL)
    return float(lower + upper) / 2


def possible_ways(n_gallery: Integers, n_right: Integers) -> tuple[int, ...]:
    """The k for which every query has wrong items enough."""
    most = int((n_gallery - n_right).min()) + 1
    return tuple(k for k in WAYS if k <= most)


def joined(parts: Sequence[Mapping[str, Floats]]) -> dict[str, NDArray[np.float64]]:
    """Measures of several rounds of queries, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

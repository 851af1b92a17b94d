"""How sure a measure is: bootstrap over clusters of queries, and permutations of what is right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 0.95
MEDIAN: Final = "rank"  # of this measure the median is told, of all others the mean
CHUNK_VALUES: Final = 1 << 22
SAME: Final = 1e-9  # sums of reciprocal ranks nearer than this are equal, however they were added
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Interval(NamedTuple):
    """A measure over all queries, with the ends of its interval; NaN where there is none."""

    value: float
    low: float
    high: float


def shuffles(
    n_groups: int, n_perm: int, rng: np.random.Generator, *, whole: bool = True
) -> NDArray[np.int32]:
    """int32, (permutation, group): for each group, the group whose right answer it is given.

    Parameters
    ----------
    n_groups
        How many are permuted.
    n_perm
        How many permutations are drawn.
    whole
        Give all permutations but that which changes nothing, where those are no more than
        ``n_perm``: a p-value is then exact.
    """
    if whole and n_groups < 20 and math.factorial(n_groups) - 1 <= n_perm:
        every = itertools.islice(itertools.permutations(range(n_groups)), 1, None)
        return np.array(list(every), dtype=np.int32).reshape(-1, n_groups)
    drawn = np.tile(np.arange(n_groups, dtype=np.int32), (n_perm, 1))
    return rng.permuted(drawn, axis=1, out=drawn)


def p_value(observed: float, permuted: Floats) -> float | None:
    """How often chance does as well: (1 + b) / (1 + m), of m permutations b as good or better.

    Phipson & Smyth (2010), Permutation p-values should never be zero. None without permutations.
    """
    if not len(permuted):
        return None
    n_as_good = int(np.sum(permuted >= observed - SAME))
    return (1 + n_as_good) / (1 + len(permuted))


def bootstrap(
    values: Mapping[str, Floats], cluster: Integers, n_boot: int, rng: np.random.Generator
) -> dict[str, Interval]:
    """Mean over the queries of each measure (of ``rank`` the median) and its 95 % interval.

    Whole clusters are drawn with replacement, and the interval is that of percentiles (Efron &
    Tibshirani 1993, An introduction to the bootstrap, chapter 13). A query counts as often as its
    cluster is drawn, so that no query is ever copied. One cluster alone has no interval.

    Parameters
    ----------
    values
        float64, (query,), by measure.
    cluster
        Integers, (query,): what is drawn, such as the stimulus.
    n_boot
        How many draws.
    rng
        Draws them.
    """
    told = {
        name: float(np.median(one) if name == MEDIAN else one.mean())
        for name, one in values.items()
    }
    clusters, which = np.unique(cluster, return_inverse=True)
    if len(clusters) < 2 or not n_boot:
        return {name: Interval(value, math.nan, math.nan) for name, value in told.items()}
    drawn = _draws(values, which.ravel(), len(clusters), n_boot, rng)
    ends = 100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2
    found = {name: np.percentile(one, ends) for name, one in drawn.items()}
    return {
        name: Interval(told[name], float(low), float(high)) for name, (low, high) in found.items()
    }


def _draws(
    values: Mapping[str, Floats], which: Integers, n_clusters: int, n_boot: int,
    rng: np.random.Generator,
) -> dict[str, Floats]:  # fmt: skip
    """float64, (draw,): each measure of each draw of clusters."""
    means = [name for name in values if name != MEDIAN]
    sums = np.stack([np.bincount(which, values[name]) for name in means], axis=1)
    sizes = np.bincount(which).astype(np.float64)
    order = np.argsort(values[MEDIAN], kind="stable") if MEDIAN in values else None
    parts = []
    size = max(1, CHUNK_VALUES // len(which))
    for start in range(0, n_boot, size):
        n_drawn = min(size, n_boot - start)
        counts = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), n_drawn)
        found = dict(zip(means, ((counts @ sums) / (counts @ sizes)[:, None]).T, strict=True))
        if order is not None:
            found[MEDIAN] = _medians(values[MEDIAN][order], counts[:, which[order]])
        parts.append(found)
    return {name: np.concatenate([part[name] for part in parts]) for name in values}


def _medians(ordered: Floats, counts: Integers) -> Floats:
    """float64, (draw,): median of ascending values, of which each comes ``counts`` times."""
    n_up_to = np.cumsum(counts, axis=1)
    total = n_up_to[:, -1:]
    lower = np.argmax(n_up_to > (total - 1) // 2, axis=1)
    upper = np.argmax(n_up_to > total // 2, axis=1)
    medians: Floats = (ordered[lower] + ordered[upper]) / 2
    return medians

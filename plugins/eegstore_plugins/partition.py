"""Draws groups of trials for splits and folds, each group whole, as near to a size as can be."""

from __future__ import annotations

import heapq
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

# Of so many groups every sum is tried; of more, so many of the last ones that are drawn.
EXACT_GROUPS: Final = 256


def nearest_subset(
    sizes: Numbers, target: int, chance: np.random.Generator, n_left: int = 1
) -> NDArray[np.bool_]:
    """Draw groups whose sizes' sum is as near to a target as can be.

    It is the nearest of all sums where there are at most 256 groups. Of more, the first ones that
    are drawn are taken while they are within their share of the target, and the last 256 make up
    for it. Some group is always taken, and ``n_left`` groups are left.

    Parameters
    ----------
    sizes
        int64, (group,): trials of each group, 1 or more.
    target
        Trials to take, less than there are.
    chance
        What draws.
    n_left
        Groups that have to be left; there is at least one more.

    Returns
    -------
    bool, (group,): the groups that are taken.
    """
    order = chance.permutation(len(sizes))
    head, tail = order[:-EXACT_GROUPS], order[-EXACT_GROUPS:]
    within = np.cumsum(sizes[head]) <= target * sizes[head].sum() / sizes.sum()
    first = head[within]
    need = max(int(target - sizes[first].sum()), 0)
    last = tail[_exact(sizes[tail], need, chance, bool(len(first)))]
    taken = np.zeros(len(sizes), dtype=np.bool_)
    taken[first] = taken[last] = True
    too_many = max(int(taken.sum()) + n_left - len(sizes), 0)
    small = np.flatnonzero(taken)
    taken[small[np.argsort(sizes[small], kind="stable")[:too_many]]] = False
    return taken


def _exact(
    sizes: Numbers, need: int, chance: np.random.Generator, may_be_empty: bool
) -> NDArray[np.bool_]:
    """bool, (group,): the groups of the sum that is nearest to what is needed, but not all.

    Bit s of a number says whether a sum of s can be made of the groups from one on.
    """
    values = sizes.tolist()
    limit = (1 << (2 * need + max(values) + 1)) - 1
    sums = [1]
    for size in reversed(values):
        sums.append((sums[-1] | sums[-1] << size) & limit)
    sums.reverse()
    within = np.frombuffer(sums[0].to_bytes(sums[0].bit_length() // 8 + 1, "little"), np.uint8)
    possible = np.flatnonzero(np.unpackbits(within, bitorder="little"))
    possible = possible[(possible > 0) | may_be_empty]
    if not may_be_empty and len(values) > 1:
        possible = possible[possible < sum(values)]
    left = int(possible[np.argmin(np.abs(possible - need))])
    taken, total = np.zeros(len(values), dtype=np.bool_), sum(values)
    for place, size in enumerate(values):
        others = sums[place + 1]
        can_take = left >= size and others >> (left - size) & 1
        can_leave = others >> left & 1
        # As in a draw without replacement, where both lead to the sum.
        taken[place] = can_take and not (can_leave and chance.random() * total >= left)
        left -= size * int(taken[place])
        total -= size
    return taken


def deal(sizes: Numbers, n_folds: int, chance: np.random.Generator) -> Numbers:
    """int64, (group,): the fold of each group; the folds differ by less than the largest group.

    The largest group goes first, each to the fold that has least: Graham 1969, Bounds on
    multiprocessing timing anomalies. Groups of one size go in an order that is drawn.
    """
    shuffled = chance.permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    heap = [(0, fold) for fold in range(n_folds)]
    folds = np.empty(len(sizes), dtype=np.int64)
    for group, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        total, fold = heapq.heappop(heap)
        folds[group] = fold
        heapq.heappush(heap, (total + size, fold))
    return folds

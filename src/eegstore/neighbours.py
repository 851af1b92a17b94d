"""Finds the rows of a sketch that are nearly alike, in time that grows with the rows.

A forest of random projection trees (Dasgupta and Freund 2008): each level of a tree parts every
node at the median of a random projection, until a leaf is small enough to compare all its rows with
each other. Rows that are alike are on one side of most medians, so that some tree has them in one
leaf.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAF_ROWS: Final = 256
N_TREES: Final = 12

Rows = NDArray[np.int64]


class Partners(NamedTuple):
    """The row most alike to each row, -1 where none is alike enough; int64, (row,)."""

    elsewhere: Rows
    here: Rows


def partners(
    sketch: NDArray[np.float32], part: Rows, least: float, *, n_trees: int = N_TREES, seed: int = 0
) -> Partners:
    """For each row the one most alike in another part, and in its own.

    Parameters
    ----------
    sketch
        float32, (row, projection): vectors of length 1, or of 0 where a row is like none.
    part
        int64, (row,): the part of each row.
    least
        Cosine from which on two rows are alike.
    n_trees
        Trees that are grown: each finds two rows of cosine c with a probability of about
        ``(1 - arccos(c) / pi)`` to the power of a tree's depth.
    seed
        Seed of the projections.
    """
    chance = np.random.Generator(np.random.PCG64(seed))
    found = np.full((2, len(sketch)), -1, dtype=np.int64)
    best = np.full((2, len(sketch)), least, dtype=np.float32)
    rows = np.flatnonzero((sketch != 0).any(axis=1))
    n_needed = n_trees if len(rows) > LEAF_ROWS else min(1, len(rows))
    for _ in range(n_needed):
        for leaf in _leaves(sketch, rows, chance):
            _compare(sketch, part, leaf, found, best)
    return Partners(*found)


def _leaves(sketch: NDArray[np.float32], rows: Rows, chance: np.random.Generator) -> Iterator[Rows]:
    """The rows of each leaf of a tree; all leaves are of one size, or one row more."""
    depth = max(0, math.ceil(math.log2(len(rows) / LEAF_ROWS)))
    node = np.zeros(len(rows), dtype=np.int64)
    for _ in range(depth):
        direction = chance.standard_normal((sketch.shape[1], 1)).astype(np.float32)
        projected = (sketch[rows] @ direction)[:, 0]
        order = np.lexsort((projected, node))
        n_rows = np.bincount(node)
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
        node[order] = 2 * node[order] + (rank >= np.repeat(n_rows // 2, n_rows))
    order = np.argsort(node, kind="stable")
    yield from np.split(rows[order], np.cumsum(np.bincount(node))[:-1])


def _compare(
    sketch: NDArray[np.float32], part: Rows, leaf: Rows,
    found: NDArray[np.int64], best: NDArray[np.float32],
) -> None:  # fmt: skip
    """Compare the rows of a leaf, and keep of each the best that has been met."""
    alike = sketch[leaf] @ sketch[leaf].T
    np.fill_diagonal(alike, -1)
    if not len(leaf) or alike.max(initial=-1) < best[:, leaf].min():
        return
    same = part[leaf][:, None] == part[leaf]
    for kind, wanted in enumerate((~same, same)):
        scores = np.where(wanted, alike, -1)
        place = scores.argmax(axis=1)
        score = scores[np.arange(len(leaf)), place]
        better = score > best[kind, leaf]
        best[kind, leaf[better]] = score[better]
        found[kind, leaf[better]] = leaf[place[better]]

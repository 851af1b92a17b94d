"""Retrieval by nearest vectors, block by block: no matrix of all scores is ever in memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eegstore.errors import InputError, UsageError
from eegstore.products import BLOCK_VALUES, GROUP, Block, Metric, Products, Rows, exact

if TYPE_CHECKING:
    import torch

ROW_MASK: Final = (1 << 32) - 1
# Products in double precision nearer than this, of vectors of length 1, are the same score.
TIE: Final = 2.0**-36
SMALLEST: Final = float(np.finfo(np.float32).tiny)  # what is below it may be lost
# Unit roundoff of the factors, by torch.get_float32_matmul_precision().
ROUNDOFF: Final = {"highest": 2.0**-24, "high": 2.0**-10, "medium": 2.0**-7}


class Ranks(NamedTuple):
    """How each query's target stands among the gallery's rows.

    Attributes
    ----------
    n_better
        int64, (query,): rows of a higher score than the target's.
    n_tied
        int64, (query,): other rows of the target's score. A target that was put among its ties
        at random would have, on average, the rank ``1 + n_better + n_tied / 2``.
    """

    n_better: NDArray[np.int64]
    n_tied: NDArray[np.int64]


def top_k(
    queries: Rows,
    gallery: Rows,
    k: int,
    *,
    metric: Metric = "cosine",
    device: str = "cpu",
    block_rows: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``k`` rows of the gallery that are nearest to each query (needs torch).

    Parameters
    ----------
    queries
        Numbers, (query, feature): an array, a memory map or a ``StoredColumn``; compared in
        single precision. More axes than one of features are laid end to end.
    gallery
        Numbers, (row, feature), likewise.
    k
        How many, at most the rows of the gallery.
    metric
        ``cosine``, or ``dot`` for the plain product. The cosine with a vector of zeros is 0.
    device
        Where torch computes.
    block_rows
        Most rows of either that are read at a time; by default what a processor does well with.

    Returns
    -------
    indices
        int64, (query, k): rows of the gallery, best first. Of equal scores the lower row is first.
    scores
        float32, (query, k). Their last digits depend on the library that multiplies the matrices.

    Raises
    ------
    InputError
        Where a row is not finite, the widths differ, or torch is missing.
    UsageError
        Where ``k``, ``metric``, ``device`` or ``block_rows`` is out of range.
    """
    products = Products(queries, gallery, metric, device, block_rows)
    import torch

    if not 1 <= k <= len(gallery):
        raise UsageError(f"k is {k}; the gallery has {len(gallery):,} rows")
    lowest = torch.iinfo(torch.int64).min
    best = torch.full((len(queries), k), lowest, dtype=torch.int64, device=products.device)
    for query, block, scores in products.scores():
        kept = best[query.start : query.stop]
        found = _best_keys(scores, k, block.start)
        kept.copy_(torch.cat([kept, found], dim=1).topk(k).values)
    return _decoded(best)


def ranks(
    queries: Rows,
    gallery: Rows,
    targets: ArrayLike,
    *,
    metric: Metric = "cosine",
    device: str = "cpu",
    block_rows: int | None = None,
) -> Ranks:
    """Where each query's true row of the gallery stands (needs torch).

    Scores that single precision cannot tell from the target's are compared in double precision,
    so that neither the device nor the blocks change a count: a second copy of the target is tied
    with it. The band in which they lie is that of Higham & Mary (2019), A new approach to
    probabilistic rounding error analysis.

    Parameters
    ----------
    queries, gallery, metric, device, block_rows
        As in ``top_k``.
    targets
        Integers, (query,): the true row. Or (query, positive): several true rows, of which the
        best counts and no other does; -1 fills up where a query has fewer.

    Raises
    ------
    InputError
        Where a row is not finite, the widths differ, torch is missing, or a target is no row.
    UsageError
        Where ``metric``, ``device`` or ``block_rows`` is out of range.
    """
    products = Products(queries, gallery, metric, device, block_rows)
    import torch

    positives = _positives(targets, len(queries), len(gallery))
    own = _own_scores(products, positives)
    counts = torch.zeros((2, len(queries)), dtype=torch.int64, device=products.device)
    for query, block, scores in products.scores():
        rows = slice(query.start, query.stop)
        counts[:, rows] += _standing(query, block, scores, own.rows(rows))
    n_better, n_tied = counts.cpu().numpy()
    return Ranks(n_better, n_tied - own.n_best.cpu().numpy())


def k_way(n_better: ArrayLike, n_tied: ArrayLike, n_gallery: int, k: int) -> NDArray[np.float64]:
    """Accuracy of naming the target among ``k`` rows: it and ``k - 1`` others drawn at random.

    It is the expectation over all draws without replacement, and over the order of ties, in closed
    form: no draw is made. With N rows in all, b better and t tied, and M = N - 1 - b, it is
    ``(C(M + 1, k) - C(M - t, k)) / ((t + 1) C(N - 1, k - 1))``, computed without cancellation.

    Parameters
    ----------
    n_better, n_tied
        Integers, (query,): as from ``ranks``.
    n_gallery
        Rows of the gallery, the target among them.
    k
        From 2 to ``n_gallery``.

    Returns
    -------
    numpy.ndarray
        float64, (query,): from 0 to 1.

    Raises
    ------
    UsageError
        Where ``k`` is out of range, or the counts are not of so many rows.
    """
    better, tied = np.asarray(n_better, np.int64), np.asarray(n_tied, np.int64)
    if not 2 <= k <= n_gallery:
        raise UsageError(f"k is {k}; it is from 2 to the gallery's {n_gallery:,} rows")
    if (better < 0).any() or (tied < 0).any() or (better + tied >= n_gallery).any():
        raise UsageError(f"n_better and n_tied count more than the other {n_gallery - 1:,} rows")
    others = n_gallery - 1
    below = others - better
    none_better = np.ones(np.shape(below))
    no_ties = np.zeros(np.shape(below))
    with np.errstate(divide="ignore"):  # log of 0: more are drawn than there are
        for drawn in range(k):
            if drawn < k - 1:
                none_better *= np.maximum(below - drawn, 0) / (others - drawn)
            left = np.maximum(below + 1 - drawn, 1)
            no_ties += np.log1p(-np.minimum((tied + 1) / left, 1))
    return np.asarray(none_better * (below + 1) / (k * (tied + 1)) * -np.expm1(no_ties))


class _Own(NamedTuple):
    """What each query's target scores, and how far from it a score may lie that is not."""

    best: torch.Tensor  # float64, (query,): in double precision
    margin: torch.Tensor  # float64, (query,): scores in double precision are tied within it
    band: torch.Tensor  # float64, (query,): scores in single precision may be off by it
    n_best: torch.Tensor  # int64, (query,): positives that are tied with the best

    def rows(self, rows: slice) -> _Own:
        """Those of some queries."""
        return _Own(*(values[rows] for values in self))


def _keys(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """int64: ordered as the scores are, and a lower row above a higher one of the same score."""
    import torch

    bits = (scores + 0.0).view(torch.int32)  # adding makes -0.0 the same as 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(torch.int64) << 32) | (ROW_MASK - rows)


def _decoded(keys: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows and scores of keys."""
    values = keys.cpu().numpy()
    ordered = (values >> 32).astype(np.int32)
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return ROW_MASK - (values & ROW_MASK), bits.view(np.float32)


def _best_keys(scores: torch.Tensor, k: int, start: int) -> torch.Tensor:
    """int64, (query, k at most): keys of the best of a block, in no order.

    An entry among the best k is in one of the k groups whose largest entries are the best:
    each of those would otherwise hold an entry that is better than it.
    """
    import torch

    n_queries, n_rows = scores.shape
    columns = torch.arange(n_rows, device=scores.device)
    if k * GROUP >= n_rows:
        return _keys(scores, columns + start).topk(min(k, n_rows)).values
    groups = scores.view(n_queries, -1, GROUP)
    chosen = _best_places(groups.amax(2), columns[: groups.shape[1]], k)
    candidates = (chosen[:, :, None] * GROUP + columns[:GROUP]).view(n_queries, -1)
    found = scores.gather(1, candidates)
    places = _best_places(found, candidates, k)
    return _keys(found.gather(1, places), candidates.gather(1, places) + start)


def _best_places(scores: torch.Tensor, rows: torch.Tensor, k: int) -> torch.Tensor:
    """int64, (query, k): where the best are, in no order; of equal scores those of lower rows."""
    best = scores.topk(k + 1)
    if (best.values[:, k - 1] > best.values[:, k]).all():
        return best.indices[:, :k]
    return _keys(scores, rows).topk(k).indices


def _positives(targets: ArrayLike, n_queries: int, n_rows: int) -> NDArray[np.int64]:
    """int64, (query, positive): distinct rows in each, -1 where there are fewer."""
    given = np.asarray(targets)
    if (given.dtype.kind not in "iu" and given.size) or given.ndim not in (1, 2):
        raise InputError(f"targets: takes integers, (query,), not {given.dtype}")
    if len(given) != n_queries:
        raise InputError(f"targets: there are {len(given):,}, and {n_queries:,} queries")
    rows = np.sort(given.reshape(n_queries, *given.shape[1:] or (1,)).astype(np.int64), axis=1)
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
    wrong = (rows < -1).any(1) | (rows >= n_rows).any(1) | (rows < 0).all(1)
    if wrong.any():
        query = int(np.argmax(wrong))
        raise InputError(
            f"targets: query {query} has {given[query]}; the gallery has rows 0 to {n_rows - 1:,}"
        )
    return rows


def _own_scores(products: Products, positives: NDArray[np.int64]) -> _Own:
    """What the targets score in double precision."""
    import torch

    scores = torch.full(positives.shape, -torch.inf, dtype=torch.float64, device=products.device)
    reach = torch.zeros(len(positives), dtype=torch.float64, device=products.device)
    longest, size = 0.0, products.sizes["queries"]
    for block in products.blocks("gallery"):
        longest = max(longest, float(block.lengths.max()))
        here = (positives >= block.start) & (positives < block.stop)
        for start in np.unique(np.nonzero(here)[0] // size) * size:
            query = products.block("queries", int(start))
            which, place = np.nonzero(here[start : start + size])
            columns = positives[start + which, place] - block.start
            pairs = torch.from_numpy(np.stack([which, columns])).to(products.device)
            scores[start + which, place] = exact(query, block, pairs)
            reach[query.start : query.stop] = query.lengths
    reach *= longest
    best, margin = scores.amax(1), TIE * reach
    n_best = (scores >= (best - margin)[:, None]).sum(1)
    band = _roundoff(products.width) * reach + products.width * SMALLEST
    return _Own(best, margin, band, n_best)


def _roundoff(width: int) -> float:
    """How far off a product in single precision is at most, of vectors of length 1."""
    import torch

    unit = ROUNDOFF[torch.get_float32_matmul_precision()]
    return 2 * unit + (min(width, 8 * math.sqrt(width)) + 8) * ROUNDOFF["highest"]


def _standing(query: Block, block: Block, scores: torch.Tensor, own: _Own) -> torch.Tensor:
    """int64, (2, query): rows of a block that score better than the target, and like it.

    Comparisons are counted eight to a word: adding them up one by one takes as long as they do.
    """
    import torch

    single = torch.float32
    above = (scores > (own.best + own.band).to(single)[:, None]).view(torch.int64)
    unsure = (scores >= (own.best - own.band).to(single)[:, None]).view(torch.int64) ^ above
    n_unsure = int(_n_set(unsure).sum())
    if n_unsure > scores.numel() // 16:
        return _standing_exactly(query, block, own)
    pairs = _places(unsure)
    counts = torch.zeros((2, len(query.rows)), dtype=torch.int64, device=scores.device)
    counts[0] = _n_set(above)
    if n_unsure:
        counts += _compared(exact(query, block, pairs), pairs[0], own)
    return counts


def _compared(scores: torch.Tensor, which: torch.Tensor, own: _Own) -> torch.Tensor:
    """int64, (2, query): how many pairs of each query score better, and like, its target."""
    import torch

    best, margin = own.best[which], own.margin[which]
    kinds = (scores > best + margin, (scores - best).abs() <= margin)
    counts = [torch.bincount(which[kind], minlength=len(own.best)) for kind in kinds]
    return torch.stack(counts)


def _standing_exactly(query: Block, block: Block, own: _Own) -> torch.Tensor:
    """As ``_standing``, all of it in double precision: where the scores are much alike."""
    import torch

    counts = torch.zeros((2, len(query.rows)), dtype=torch.int64, device=query.rows.device)
    vectors = query.rows.to(torch.float64) / query.norms[:, None]
    best, margin = own.best[:, None], own.margin[:, None]
    size = max(1, BLOCK_VALUES // 4 // max(vectors.shape))
    for start in range(0, len(block.rows), size):
        part = slice(start, start + size)
        scores = vectors @ (block.rows[part].to(torch.float64) / block.norms[part, None]).T
        counts[0] += (scores > best + margin).sum(1)
        counts[1] += ((scores - best).abs() <= margin).sum(1)
    return counts


def _n_set(words: torch.Tensor) -> torch.Tensor:
    """int64, (query,): bytes that are 1 in int64 (query, word)."""
    import torch

    sums = words.view(len(words), 8, -1).sum(1)  # no byte overflows
    return sums.view(torch.uint8).sum(1)


def _places(words: torch.Tensor) -> torch.Tensor:
    """int64, (2, pair): query and column of the bytes that are 1 in int64 (query, word)."""
    import torch

    which, word = words.nonzero(as_tuple=True)
    number, byte = words[which, word].view(torch.uint8).view(-1, 8).nonzero(as_tuple=True)
    return torch.stack([which[number], word[number] * 8 + byte])

"""Where the right items of a round stand, and where others' would: one pass over the scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.measures import RightItems, measures, names_of
from eegstore.products import Metric, Products
from eegstore.retrieval import TIE
from eegstore.rounds import Round

if TYPE_CHECKING:
    import torch

# Of scores of a part of the queries with the whole gallery, and of the permutations' ranks.
PART_VALUES: Final = 1 << 21


@dataclass(frozen=True, eq=False)
class Standing:
    """What a round has given.

    Attributes
    ----------
    values
        float64, (query,), by measure; see ``measures``.
    best
        int64, (query,): the item of the highest score; of equal scores the lower.
    observed
        Sum over the groups of their mean reciprocal rank, which permutations are compared by.
    permuted
        float64, (permutation,): the same, had each group the right answer of another.
    """

    values: dict[str, NDArray[np.float64]]
    best: NDArray[np.int64]
    observed: float
    permuted: NDArray[np.float64]


class _Scores(NamedTuple):
    """Scores of some queries with the whole gallery, in double precision."""

    start: int  # the first query
    given: torch.Tensor  # (query, item)
    ordered: torch.Tensor  # (query, place): ascending
    margin: torch.Tensor  # (query, 1): scores within it are tied
    has_ties: bool

    def standing(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """int64, (query, score): how many items score better than an item, and how many as it."""
        import torch

        n_items = self.ordered.shape[1]
        above = torch.searchsorted(self.ordered, scores + self.margin, right=True)
        if not self.has_ties:
            return n_items - above, torch.ones_like(above)
        from_here = torch.searchsorted(self.ordered, scores - self.margin)
        return n_items - above, above - from_here

    def best(self) -> NDArray[np.int64]:
        """int64, (query,): the item of the highest score; of tied ones the lowest row."""
        import torch

        rows = torch.arange(self.given.shape[1], device=self.given.device)
        is_best = self.given >= self.ordered[:, -1:] - self.margin
        best: NDArray[np.int64] = torch.where(is_best, rows, len(rows)).amin(1).cpu().numpy()
        return best


def standing(
    asked: Round,
    shuffled: NDArray[np.int32],
    ways: tuple[int, ...],
    *,
    metric: Metric = "cosine",
    device: str = "cpu",
) -> Standing:
    """Rank the gallery for every query, in double precision (needs torch).

    Scores nearer than ``retrieval.TIE`` are tied. The queries are ranked some at a time, each
    against the whole gallery, so that memory grows with queries plus items, not their product.

    A permutation gives each group of queries the class that is right for another group. Compared
    is the sum of the groups' mean reciprocal ranks; where a class has several items, that of the
    best. Every group counts the same: what all queries give to a class, such as a model that
    prefers what is frequent, is then the same in every permutation. Were each query counted, large
    groups would be better off with the answers that are preferred.

    Parameters
    ----------
    asked
        The queries, the gallery, and what is right.
    shuffled
        int32, (permutation, group): see ``resampling.shuffles``.
    ways
        The k of k-way identification.
    metric, device
        As in ``retrieval.top_k``.
    """
    products = Products(asked.queries, asked.gallery, metric, device, None)
    ranking = _Ranking(products, asked, shuffled)
    # All at once: small arrays that stay, made between large ones that go, would keep their memory.
    values = {name: np.empty(len(asked.queries)) for name in names_of(ways)}
    best = np.empty(len(asked.queries), dtype=np.int64)
    for scores in ranking.scores():
        part = slice(scores.start, scores.start + len(scores.given))
        right = ranking.right_items(scores)
        for name, found in measures(right, len(asked.gallery), ways).items():
            values[name][part] = found
        best[part] = scores.best()
        ranking.add(scores)
    observed, permuted = float(ranking.sums[0]), ranking.sums[1:].cpu().numpy()
    return Standing(values, best, observed, permuted)


class _Ranking:
    """A round on a device: the gallery's vectors, and the sums over queries."""

    def __init__(self, products: Products, asked: Round, shuffled: NDArray[np.int32]) -> None:
        import torch

        self._products, self._asked = products, asked
        device = products.device
        blocks = list(products.blocks("gallery"))
        self._gallery = torch.cat([one.rows.double() / one.norms[:, None] for one in blocks])
        self._longest = max(float(one.lengths.max()) for one in blocks)
        self._class = torch.from_numpy(asked.item_class).to(device)
        self._n_classes = int(asked.item_class.max()) + 1
        items = len(self._gallery)
        counts = torch.arange(1, items + 1, dtype=torch.float64, device=device)
        zero = torch.zeros(1, dtype=torch.float64, device=device)
        self._harmonic = torch.cat([zero, (1 / counts).cumsum(0)])
        own = np.arange(len(asked.group_class), dtype=np.int32)
        # What is observed is summed as what is permuted, so that equal sums are equal.
        classes = asked.group_class[np.concatenate([own[None], shuffled])].astype(np.int32)
        self._classes = torch.from_numpy(classes).to(device)
        self.sums = torch.zeros(len(classes), dtype=torch.float64, device=device)
        sizes = np.bincount(asked.group, minlength=len(asked.group_class))
        self._weight = torch.from_numpy(1 / np.maximum(sizes, 1)).to(device)  # (group,)
        self._part_rows = max(1, PART_VALUES // max(items, len(classes)))

    def scores(self) -> Iterator[_Scores]:
        """Some queries at a time."""
        for block in self._products.blocks("queries"):
            vectors = block.rows.double() / block.norms[:, None]
            for start in range(0, len(vectors), self._part_rows):
                part = slice(start, start + self._part_rows)
                scores = vectors[part] @ self._gallery.T
                margin = TIE * self._longest * block.lengths[part, None]
                ordered = _ordered(scores)
                has_ties = bool((ordered.diff(dim=1) <= 2 * margin).any())
                yield _Scores(block.start + start, scores, ordered, margin, has_ties)

    def right_items(self, scores: _Scores) -> RightItems:
        """The right items of these queries."""
        import torch

        answers = torch.from_numpy(self._asked.right[scores.start :][: len(scores.given)])
        answers = answers.to(self._class.device)
        shape = (len(answers), self._n_classes + 1)  # the last class is that of no answer
        is_right = torch.zeros(shape, dtype=torch.bool, device=answers.device)
        is_right.scatter_(1, answers.where(answers >= 0, self._n_classes), True)
        of_item = is_right[:, self._class]
        # As many columns as the query of the most right items has; those of others come last.
        most = int(of_item.sum(1).max())
        own, item = scores.given.where(of_item, -torch.inf).topk(most)
        query, place = of_item.gather(1, item).nonzero(as_tuple=True)
        better, tied = (one[query, place] for one in scores.standing(own))
        return RightItems(*(one.cpu().numpy() for one in (query, better, tied - 1)))

    def add(self, scores: _Scores) -> None:
        """Add the reciprocal ranks of what is right, and of what each permutation makes right."""
        import torch

        group = torch.from_numpy(self._asked.group[scores.start :][: len(scores.given)])
        group = group.to(self._classes.device)
        wanted = self._classes[:, group].T.long()
        shape = (len(wanted), self._n_classes)
        best = torch.full(shape, -torch.inf, dtype=torch.float64, device=wanted.device)
        best.scatter_reduce_(1, self._class.expand(len(wanted), -1), scores.given, "amax")
        if self._n_classes < wanted.shape[1]:
            reciprocal = self._reciprocal(scores, best).gather(1, wanted)
        else:
            reciprocal = self._reciprocal(scores, best.gather(1, wanted))
        self.sums += self._weight[group] @ reciprocal

    def _reciprocal(self, scores: _Scores, own: torch.Tensor) -> torch.Tensor:
        """float64, (query, score): the expected reciprocal rank of an item of each score."""
        better, tied = scores.standing(own)
        return (self._harmonic[better + tied] - self._harmonic[better]) / tied


def _ordered(scores: torch.Tensor) -> torch.Tensor:
    """The scores of each query, ascending; numpy sorts them several times as fast as torch."""
    import torch

    if scores.device.type != "cpu":
        return scores.sort(dim=1).values
    return torch.from_numpy(np.sort(scores.numpy(), axis=1))

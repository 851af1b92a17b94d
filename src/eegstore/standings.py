"""Where the right items of a round stand, and where others' would: one pass over the scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.measures import RightItems, joined, measures
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
        Sum over the queries of the reciprocal rank, which is what permutations are compared by.
    permuted
        float64, (permutation,): the same, had each group the right answer of another.
    """

    values: dict[str, NDArray[np.float64]]
    best: NDArray[np.int64]
    observed: float
    permuted: NDArray[np.float64]


class _Places(NamedTuple):
    """Where every item stands for each query of a part; (query, item)."""

    better: torch.Tensor  # int64: items of a higher score
    tied: torch.Tensor  # int64: items of the same score, itself included
    best: torch.Tensor  # int64, (query,)


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
    is the sum of reciprocal ranks; where a class has several items, that of the best.

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
    values, best = [], []
    for places, start in ranking.places():
        right = ranking.right_items(places, start)
        values.append(measures(right, len(asked.gallery), ways))
        best.append(places.best.cpu().numpy())
        ranking.add(places, start)
    return Standing(
        joined(values),
        np.concatenate(best),
        float(ranking.sums[0]),
        ranking.sums[1:].cpu().numpy(),
    )


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
        self._part_rows = max(1, PART_VALUES // max(items, len(classes)))

    def places(self) -> Iterator[tuple[_Places, int]]:
        """Some queries at a time, with the number of the first."""
        for block in self._products.blocks("queries"):
            vectors = block.rows.double() / block.norms[:, None]
            for start in range(0, len(vectors), self._part_rows):
                part = slice(start, start + self._part_rows)
                scores = vectors[part] @ self._gallery.T
                margin = TIE * self._longest * block.lengths[part]
                yield _places(scores, margin[:, None]), block.start + start

    def right_items(self, places: _Places, start: int) -> RightItems:
        """The right items of these queries."""
        import torch

        answers = torch.from_numpy(self._asked.right[start : start + len(places.best)])
        answers = answers.to(self._class.device)
        shape = (len(answers), self._n_classes + 1)  # the last class is that of no answer
        is_right = torch.zeros(shape, dtype=torch.bool, device=answers.device)
        is_right.scatter_(1, answers.where(answers >= 0, self._n_classes), True)
        query, item = is_right[:, self._class].nonzero(as_tuple=True)
        found = query, places.better[query, item], places.tied[query, item] - 1
        return RightItems(*(one.cpu().numpy() for one in found))

    def add(self, places: _Places, start: int) -> None:
        """Add the reciprocal ranks of what is right, and of what each permutation makes right."""
        import torch

        reciprocal = self._harmonic[places.better + places.tied] - self._harmonic[places.better]
        reciprocal /= places.tied
        if self._n_classes < len(self._gallery):
            shape = (len(reciprocal), self._n_classes)
            best = torch.zeros(shape, dtype=torch.float64, device=reciprocal.device)
            which = self._class.expand(len(reciprocal), -1)
            reciprocal = best.scatter_reduce_(1, which, reciprocal, "amax")
        else:
            reciprocal = reciprocal[:, self._class.argsort()]
        group = torch.from_numpy(self._asked.group[start : start + len(reciprocal)])
        wanted = self._classes[:, group.to(self._classes.device)].T.long()
        self.sums += reciprocal.gather(1, wanted).sum(0)


def _places(scores: torch.Tensor, margin: torch.Tensor) -> _Places:
    """The standing of every item from float64 (query, item), ties within a margin."""
    import torch

    ordered, order = scores.sort(dim=1, descending=True, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    falls = ordered[:, :-1] - ordered[:, 1:] > margin
    better, tied = torch.empty_like(order), torch.ones_like(order)
    if falls.all():
        # A copy: the view would keep all of the order in memory.
        return _Places(better.scatter_(1, order, places), tied, order[:, 0].clone())
    edge = torch.ones_like(falls[:, :1])
    first = places.where(torch.cat([edge, falls], 1), 0).cummax(1).values
    after = places.where(torch.cat([falls, edge], 1), scores.shape[1]).flip(1)
    last = after.cummin(1).values.flip(1)
    better.scatter_(1, order, first)
    tied.scatter_(1, order, last - first + 1)
    best = torch.where(better == 0, places, scores.shape[1]).amin(1)
    return _Places(better, tied, best)

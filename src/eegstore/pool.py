"""The queries of all rounds together: their measures, with intervals, by concept and by subject."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.errors import InputError
from eegstore.measures import chance_median, chances, joined, possible_ways
from eegstore.products import Metric
from eegstore.resampling import MEDIAN, bootstrap, shuffles
from eegstore.rounds import By, Round, concepts, subjects
from eegstore.standings import standing
from eegstore.store import Store

MAX_CONFUSED: Final = 50
BY_PART: Final = ("top1", "top5")
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """One measure: its value, the ends of its interval, and what chance gives; NaN for none."""

    value: float
    low: float
    high: float
    chance: float

    def document(self) -> dict[str, float | None]:
        """As JSON; null where there is no number."""
        numbers = dataclasses.asdict(self)
        return {name: None if math.isnan(one) else one for name, one in numbers.items()}


@dataclass(frozen=True)
class Part:
    """``top1`` and ``top5`` of some queries: those of a concept, a subject or a fold."""

    name: str
    n_query: int
    scores: Mapping[str, Score]

    def document(self, key: str) -> dict[str, Any]:
        """As JSON; ``key`` says what the name is."""
        scores = {name: one.document() for name, one in self.scores.items()}
        return {key: self.name, "n": self.n_query, **scores}


@dataclass(frozen=True, eq=False)
class Pool:
    """What every query has given, whatever round it was in.

    Attributes
    ----------
    values
        float64, (query,), by measure; see ``measures``.
    ways
        The k of k-way identification that every query allows.
    n_gallery, n_right
        int64, (query,): items, and right ones among them.
    trial, stimulus, best
        int64, (query,): its row of ``trials``, that of ``stimuli``, and that of the best item.
    fold
        int64, (query,): the number of its round.
    observed, permuted
        Mean over the stimuli of their queries' mean reciprocal rank, and float64, (permutation,):
        that of each permutation.
    """

    store: Store
    rounds: Sequence[Round]
    values: Mapping[str, Floats]
    ways: tuple[int, ...]
    n_gallery: Integers
    n_right: Integers
    trial: Integers
    stimulus: Integers
    best: Integers
    fold: Integers
    observed: float
    permuted: Floats

    @classmethod
    def of(
        cls, store: Store, rounds: Sequence[Round], n_perm: int, seed: int, metric: Metric,
        device: str,
    ) -> Pool:  # fmt: skip
        """Rank the gallery of each round for each of its queries, and permute within rounds."""
        lengths = [len(one.queries) for one in rounds]
        n_gallery = np.repeat([len(one.items) for one in rounds], lengths)
        n_right = np.concatenate([one.n_right for one in rounds])
        ways = possible_ways(n_gallery, n_right)
        rng = np.random.default_rng([seed, 0])
        if all(len(one.group_class) == 1 for one in rounds):
            n_perm = 0
        n_groups, found = sum(len(one.group_class) for one in rounds), []
        for one in rounds:
            shuffled = shuffles(len(one.group_class), n_perm, rng, whole=len(rounds) == 1)
            found.append(standing(one, shuffled, ways, metric=metric, device=device))
        return cls(
            store, rounds, joined([one.values for one in found]), ways, n_gallery, n_right,
            trial=np.concatenate([one.trial for one in rounds]),
            stimulus=np.concatenate([one.stimulus for one in rounds]),
            best=np.concatenate(
                [asked.items[one.best] for asked, one in zip(rounds, found, strict=True)]
            ),
            fold=np.repeat(np.arange(len(rounds)), lengths),
            observed=sum(one.observed for one in found) / n_groups,
            permuted=np.sum([one.permuted for one in found], axis=0) / n_groups,
        )  # fmt: skip

    @functools.cached_property
    def chance(self) -> dict[str, Floats]:
        """float64, (query,): what a random order gives, by measure."""
        return chances(self.n_gallery, self.n_right)

    def clusters(self, by: By) -> Integers:
        """int64, (query,): what the bootstrap draws.

        Raises
        ------
        InputError
            Where the store does not know the subjects.
        """
        if by == "stimulus":
            return self.stimulus
        names, which = subjects(self.store)
        if not names:
            raise InputError(
                f"{self.store.path}: its trials have no column 'subject' to draw by; the source "
                "does not name subjects"
            )
        return which[self.trial]

    def scores(self, by: By, n_boot: int, rng: np.random.Generator) -> dict[str, Score]:
        """Every measure over all queries."""
        found = bootstrap(self.values, self.clusters(by), n_boot, rng)
        by_chance = {name: float(one.mean()) for name, one in self.chance.items()}
        by_chance |= {str(k): 1 / k for k in self.ways}
        by_chance[MEDIAN] = chance_median(self.n_gallery, self.n_right)
        return {name: Score(*one, by_chance[name]) for name, one in found.items()}

    def by_fold(self, n_boot: int, rng: np.random.Generator) -> list[Part]:
        """Each fold's scores; none where there are no folds."""
        names = [one.name for one in self.rounds]
        if len(names) == 1:
            return []
        return self._parts(names, self.fold, self.stimulus, n_boot, rng)

    def by_subject(self, n_boot: int, rng: np.random.Generator) -> list[Part]:
        """Each subject's scores; none where the store does not know the subjects."""
        names, which = subjects(self.store)
        if not names:
            return []
        return self._parts(names, which[self.trial], self.stimulus, n_boot, rng)

    def by_concept(self, by: By, n_boot: int, rng: np.random.Generator) -> list[Part]:
        """Each concept's scores; none where the stimuli have no concepts."""
        names, which = concepts(self.store)
        return self._parts(names, which[self.stimulus], self.clusters(by), n_boot, rng)

    def _parts(
        self, names: Sequence[str], which: Integers, clusters: Integers, n_boot: int,
        rng: np.random.Generator,
    ) -> list[Part]:  # fmt: skip
        """``top1`` and ``top5`` of the queries of each name that there are."""
        found = []
        order = np.argsort(which, kind="stable")
        present, first = np.unique(which[order], return_index=True)
        for number, rows in zip(present, np.split(order, first[1:]), strict=True):
            if number < 0:
                continue
            values = {name: self.values[name][rows] for name in BY_PART}
            drawn = bootstrap(values, clusters[rows], n_boot, rng)
            scores = {
                name: Score(*drawn[name], float(self.chance[name][rows].mean())) for name in BY_PART
            }
            found.append(Part(names[number], len(rows), scores))
        return found

    def confusion(self) -> tuple[dict[str, Any] | None, str]:
        """How often each concept was found for each, at the first place; or why it is left out."""
        names, which = concepts(self.store)
        pairs = np.stack([which[self.stimulus], which[self.best]])
        pairs = pairs[:, (pairs >= 0).all(axis=0)]
        present, places = np.unique(pairs, return_inverse=True)
        if len(present) > MAX_CONFUSED:
            return None, (
                f"the confusion of {len(present):,} concepts is left out; it is told of "
                f"{MAX_CONFUSED} at most"
            )
        if not len(present):
            return None, "the stimuli have no concepts to be confused"
        counts = np.zeros((len(present), len(present)), dtype=np.int64)
        np.add.at(counts, tuple(places.reshape(pairs.shape)), 1)
        return {"concepts": [names[one] for one in present], "counts": counts.tolist()}, ""


def documents(parts: Iterable[Part], key: str) -> list[dict[str, Any]]:
    """A table as JSON."""
    return [one.document(key) for one in parts]

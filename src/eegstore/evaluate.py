"""Evaluates retrieval: how well a column finds the stimulus, with intervals, chance and p-value."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np

from eegstore.errors import InputError, UsageError
from eegstore.hints import swapped
from eegstore.limits import (
    EMPTY,
    Smallest,
    below_chance,
    few_concepts,
    is_empty,
    smallest_p,
    too_few,
)
from eegstore.pool import Part, Pool, Score, documents
from eegstore.products import Metric, check_torch
from eegstore.resampling import MEDIAN, p_value
from eegstore.rounds import FOLDS, Asker, Average, By, Candidates, Target, find_column, rounds
from eegstore.store import Store
from eegstore.tautology import doubts, fitted_doubts, is_doubt, tautology

ALPHA: Final = 0.05
FEW_CLUSTERS: Final = 10
CHOICES: Final = {
    "target": Target, "candidates": Candidates, "average": Average, "by": By, "metric": Metric,
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What was asked of a store: see ``evaluate``."""

    query: str
    gallery: str
    split: str
    target: Target
    candidates: Candidates
    average: Average
    by: By
    metric: Metric
    n_boot: int
    n_perm: int
    seed: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well a column finds what was shown.

    Attributes
    ----------
    store, digest, notice
        The store, its content's digest, and the sentence that every output repeats.
    asked
        The arguments: paths of the columns, and ``split`` is ``folds`` where each fold was asked.
    n_query, n_gallery, n_trials, n_clusters
        How many asked; among how many (in the mean over the folds); of how many trials; and of how
        many stimuli or subjects, which the bootstrap draws.
    scores
        ``top1``, ``top3``, ``top5``, ``top10``, ``mrr``, ``median_rank``, ``map``.
    kway
        Identification among k, by k.
    p_value
        Of the permutation test; None where nothing could be permuted.
    smallest
        The smallest p-value that it could be; above 0.05 the test can show nothing.
    is_empty
        Whether all candidates are right, so that nothing is asked.
    per_concept, per_subject, folds
        ``top1`` and ``top5`` of each.
    confusion
        ``concepts``, and ``counts`` (true, found at the first place); None for too many concepts.
    tautology
        Why the pairs hold by construction; empty as a rule.
    warnings, notes
        What a reader must know, and what was left out.
    """

    store: str
    digest: str
    notice: str
    asked: Asked
    n_query: int
    n_gallery: int
    n_trials: int
    n_clusters: int
    scores: Mapping[str, Score]
    kway: Mapping[str, Score]
    p_value: float | None
    smallest: Smallest | None
    is_empty: bool
    per_concept: Sequence[Part]
    per_subject: Sequence[Part]
    folds: Sequence[Part]
    confusion: dict[str, Any] | None
    tautology: str
    warnings: Sequence[str]
    notes: Sequence[str]

    @property
    def is_too_small(self) -> bool:
        """Whether no result could have a p-value of 0.05."""
        return self.smallest is not None and self.smallest.p > ALPHA

    @property
    def doubtful(self) -> bool:
        """Whether a warning says that the score can be had without decoding."""
        return any(map(is_doubt, self.warnings))

    @property
    def verdict(self) -> str:
        """What the permutation test says, in a sentence."""
        if self.tautology:
            return f"this shows nothing: {self.tautology}"
        if self.is_empty:
            return f"the question is empty: {EMPTY}"
        if self.p_value is None or self.smallest is None:
            return "whether this is above chance was not tested"
        if self.is_too_small:
            return too_few(self.smallest, self.asked.target)
        tested = f"(p = {self.p_value:.2g})"
        if self.p_value <= ALPHA:
            return f"above chance {tested}"
        what = "decoding" if self.asked.query.startswith("trials/") else "a match"
        return f"no evidence of {what} {tested}"

    def document(self) -> dict[str, Any]:
        """The evaluation as a JSON value, which ``eegstore evaluate --json`` prints."""
        return {
            "store": self.store,
            "digest": self.digest,
            "notice": self.notice,
            **dataclasses.asdict(self.asked),
            "warnings": list(self.warnings),
            "verdict": self.verdict,
            "p_value": self.p_value,
            "smallest_p": self.smallest and self.smallest.p,
            "is_empty": self.is_empty,
            "doubtful": self.doubtful,
            "n_query": self.n_query,
            "n_gallery": self.n_gallery,
            "n_trials": self.n_trials,
            "n_clusters": self.n_clusters,
            **{name: one.document() for name, one in self.scores.items()},
            "kway": {name: one.document() for name, one in self.kway.items()},
            "folds": documents(self.folds, "fold"),
            "per_subject": documents(self.per_subject, "subject"),
            "per_concept": documents(self.per_concept, "concept"),
            "confusion": self.confusion,
            "tautology": self.tautology,
            "notes": list(self.notes),
        }

    def summary(self) -> dict[str, Any]:
        """The document without what grows with the concepts, which a store's history keeps."""
        large = ("store", "per_concept", "confusion")
        return {name: one for name, one in self.document().items() if name not in large}


def evaluate(
    store: Store,
    query: str,
    gallery: str,
    *,
    split: str | None = None,
    target: Target = "stimulus",
    candidates: Candidates = "split",
    average: Average = "none",
    by: By = "stimulus",
    metric: Metric = "cosine",
    n_boot: int = 1000,
    n_perm: int = 1000,
    seed: int = 0,
    tautology_ok: bool = False,
    device: str = "cpu",
) -> Evaluation:
    """How well the query column of a trial finds, in the gallery, what the trial is paired with.

    Every paired trial of a split is a query, and the stimuli that the split shows are the gallery,
    each image once. docs/evaluate.md has the formulas and their sources.

    Parameters
    ----------
    store
        The store.
    query, gallery
        Columns of vectors of one width, ``NAME`` or ``TABLE/NAME``: of trials, and of stimuli. A
        query that is a column of stimuli is that of the paired stimulus.
    split
        ``test`` by default. A store that has folds and no such split is cross-validated: the
        trials of each fold are asked against that fold's stimuli, and the results pooled.
        ``folds`` does so in any store that has them.
    target
        ``stimulus``: the very one is to be found. ``concept``: any of its concept.
    candidates
        ``split``: the gallery is the stimuli that the split's trials are paired with. ``all``: all
        stimuli of the store.
    average
        ``stimulus``: the vectors of one stimulus are averaged first, those of each subject apart.
    by
        What the bootstrap draws, with all its queries: ``stimulus`` or ``subject``.
    metric
        ``cosine``, or ``dot`` for the plain product.
    n_boot, n_perm, seed
        Draws of the bootstrap, permutations, and the seed of both; 0 leaves one out.
    tautology_ok
        Evaluate pairs that hold by construction too, and say so.
    device
        Where torch computes.

    Raises
    ------
    InputError
        Where the pairs were made from what is to find them; where the columns cannot be compared,
        or there is nothing to ask; where torch is missing.
    UsageError
        Where a column, a split or an argument is not one that there is.
    """
    given = {"target": target, "candidates": candidates, "average": average, "by": by}
    _check(given | {"metric": metric}, n_boot=n_boot, n_perm=n_perm, seed=seed)
    asker = _asker(store, query, gallery, target, candidates, average)
    reason = tautology(store, asker.query, asker.gallery, target)
    if reason and not tautology_ok:
        raise InputError(
            f"{store.path}: not evaluated: {reason}; choose other columns or another pairing, or "
            "pass --tautology-ok to see the number all the same"
        )
    check_torch()
    asked, left_out = rounds(asker, split)
    pool = Pool.of(store, asked, n_perm, seed, metric, device)
    found = Asked(
        asker.query.entry.path, asker.gallery.entry.path,
        asked[0].name if len(asked) == 1 else FOLDS,
        target, candidates, average, by, metric, n_boot, len(pool.permuted), seed,
    )  # fmt: skip
    warnings = [f"tautology: {reason}"] if reason else []
    warnings += doubts(store, asker.query, asker.gallery)
    warned, notes = fitted_doubts(store, asked, (asker.query, asker.gallery))
    warnings += [*warned, *_weaknesses(pool, found, left_out)]
    return _evaluation(pool, found, reason, warnings, notes)


def _check(given: Mapping[str, str], **numbers: int) -> None:
    """Refuse arguments that are none of the choices, or negative."""
    for name, value in given.items():
        choices = get_args(CHOICES[name])
        if value not in choices:
            raise UsageError(f"{name} is {value!r:.80}; it is one of {', '.join(choices)}")
    for name, number in numbers.items():
        if number < 0:
            raise UsageError(f"{name} is {number}; it is 0 or more")


def _asker(
    store: Store, query: str, gallery: str, target: Target, candidates: Candidates, average: Average
) -> Asker:
    """The columns, which hold vectors of one width."""
    if not store.stimuli.n_rows:
        raise InputError(f"{store.path}: has no stimuli, so there is nothing to find")
    if hint := swapped(store, query, gallery):
        raise UsageError(f"{store.path}: {hint}")
    asks = find_column(store, query, "trials")
    answers = find_column(store, gallery, "stimuli")
    if answers.entry.table != "stimuli":
        raise UsageError(
            f"{store.path}: the gallery is {answers.entry.path}, expected a column of stimuli"
        )
    widths = [int(np.prod(one.spec.shape)) for one in (asks, answers)]
    if widths[0] != widths[1]:
        raise InputError(
            f"{store.path}: {asks.entry.path} has {widths[0]:,} numbers a row and "
            f"{answers.entry.path} {widths[1]:,}; expected a column that was learnt to be like the "
            "other, in the same space"
        )
    return Asker(store, asks, answers, target, candidates, average)


def _weaknesses(pool: Pool, asked: Asked, left_out: int) -> Iterator[str]:
    """What makes the numbers less sure than they look."""
    if is_empty(pool.rounds, asked.target):
        yield f"{EMPTY}: ask for the stimulus, or among more candidates"
    if left_out:
        yield f"{left_out:,} trials were left out: their {asked.query} is not finite"
    n_clusters = len(np.unique(pool.clusters(asked.by)))
    drawn = "stimuli" if asked.by == "stimulus" else "subjects"
    if n_clusters < 2:
        yield f"all queries are of one of the {drawn}, so there are no intervals"
    elif n_clusters < FEW_CLUSTERS:
        yield f"the intervals come from {n_clusters} {drawn} alone, so they are rough"
    yield from few_concepts(pool.store, pool.rounds)


def _evaluation(
    pool: Pool, asked: Asked, reason: str, warnings: Sequence[str], notes: Sequence[str]
) -> Evaluation:
    rng = np.random.default_rng([asked.seed, 1])
    scores = pool.scores(asked.by, asked.n_boot, rng)
    scores["median_rank"] = scores.pop(MEDIAN)
    notes = [*below_chance(scores), *notes]
    kway = {str(k): scores.pop(str(k)) for k in pool.ways}
    confusion, why_none = pool.confusion()
    return Evaluation(
        str(pool.store.path), pool.store.digest, pool.store.notice, asked,
        n_query=len(pool.trial),
        n_gallery=round(np.mean([len(one.items) for one in pool.rounds])),
        n_trials=sum(one.n_trials for one in pool.rounds),
        n_clusters=len(np.unique(pool.clusters(asked.by))),
        scores=scores,
        kway=kway,
        p_value=p_value(pool.observed, pool.permuted),
        smallest=smallest_p(pool.rounds, len(pool.permuted)),
        is_empty=is_empty(pool.rounds, asked.target),
        folds=pool.by_fold(asked.n_boot, rng),
        per_subject=pool.by_subject(asked.n_boot, rng),
        per_concept=pool.by_concept(asked.by, asked.n_boot, rng),
        confusion=confusion,
        tautology=reason,
        warnings=warnings,
        notes=[*notes, why_none] if why_none else notes,
    )  # fmt: skip

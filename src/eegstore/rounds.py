"""What retrieval is asked: which trials ask, among which stimuli, and what is right."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore.errors import InputError, UsageError
from eegstore.hints import no_column, no_split
from eegstore.products import Rows
from eegstore.store import Store, StoredColumn
from eegstore.tables import Table

Target = Literal["stimulus", "concept"]
Candidates = Literal["split", "all"]
Average = Literal["none", "stimulus"]
By = Literal["stimulus", "subject"]
TEST: Final = "test"
FOLDS: Final = "folds"
FURTHER: Final = re.compile(r"stimulus_([2-9]|[1-9]\d+)")
READ_VALUES: Final = 1 << 24
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Vectors:
    """Some rows of a column as vectors, read where they are sliced."""

    column: StoredColumn
    rows: Integers

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        values = self.column.take(self.rows[part])
        return values.reshape(len(values), -1)

    def blocks(self) -> list[slice]:
        """Slices that are read one at a time."""
        size = max(1, READ_VALUES // max(1, math.prod(self.column.spec.shape)))
        return [slice(start, start + size) for start in range(0, len(self), size)]

    def finite(self) -> NDArray[np.bool_]:
        """bool, (row,): whether single precision holds the vector."""
        with np.errstate(over="ignore"):
            parts = [np.isfinite(self[one].astype(np.float32)).all(axis=1) for one in self.blocks()]
        return np.concatenate([np.ones(0, dtype=np.bool_), *parts])


@dataclass(frozen=True, eq=False)
class Round:
    """One gallery, and all who are asked to find their own in it.

    Attributes
    ----------
    name
        The split, or ``fold 0``.
    queries, gallery
        (query, feature) and (item, feature).
    items
        int64, (item,): the rows of ``stimuli``.
    right
        int64, (query, answer): the classes that are right, -1 fills up.
    item_class
        int64, (item,): the class of each item; itself, or its concept.
    group
        int64, (query,): queries of one stimulus are a group, which is permuted as one.
    group_class
        int64, (group,): the class that is right for a group.
    trial, stimulus
        int64, (query,): the row of ``trials`` (the first, of an average) and that of ``stimuli``.
    n_trials
        How many trials ask; more than queries where these are averages.
    """

    name: str
    queries: Rows
    gallery: Vectors
    items: Integers
    right: Integers
    item_class: Integers
    group: Integers
    group_class: Integers
    trial: Integers
    stimulus: Integers
    n_trials: int

    @property
    def n_right(self) -> Integers:
        """int64, (query,): how many items are right."""
        sizes = np.append(np.bincount(self.item_class), 0)  # -1 is the class of none
        answers = np.sort(self.right, axis=1)
        answers[:, 1:][answers[:, 1:] == answers[:, :-1]] = -1
        counts: Integers = sizes[answers].sum(axis=1)
        return counts


def find_column(store: Store, name: str, usual: Table) -> StoredColumn:
    """A column of vectors, named ``NAME`` or ``TABLE/NAME``.

    Raises
    ------
    UsageError
        Where there is none of the name, or it does not hold numbers; names the nearest.
    """
    table, _, column = name.rpartition("/")
    views = {"trials": store.trials, "stimuli": store.stimuli}
    view = views.get(table or usual)
    if view is None or column not in view:
        raise UsageError(f"{store.path}: {no_column(store, table or usual, column)}")
    found = view[column]
    if found.entry.kind != "wide" or not found.spec.shape:
        raise UsageError(f"{store.path}: {found.entry.path} holds no vectors; name one that does")
    return found


def first_of_content(store: Store) -> Integers:
    """int64, (stimulus,): the first row of the same ``content_id``: the same image is one item."""
    content = store.stimuli["content_id"][:]
    own = np.arange(len(content))
    _, first, which = np.unique(content, return_index=True, return_inverse=True)
    return np.where(content == "", own, first[which.ravel()])


def concepts(store: Store) -> tuple[list[str], Integers]:
    """Names of the concepts, and int64, (stimulus,): which of them each stimulus is; -1 if none.

    They are those of the column ``concept``; where all of it is empty, the labels.
    """
    names, labels = store.stimuli["concept"][:], store.stimuli["label"][:]
    if (names == "").all():
        names = np.where(labels >= 0, np.char.add("label ", labels.astype(np.str_)), "")
    found, which = np.unique(names, return_inverse=True)
    which = which.ravel().astype(np.int64)
    return ([str(one) for one in found if one], which - 1) if found[0] == "" else (
        found.tolist(), which
    )  # fmt: skip


def subjects(store: Store) -> tuple[list[str], Integers]:
    """Names of the subjects, and int64, (trial,): whose each trial is; none without the column."""
    if "subject" not in store.trials:
        return [], np.zeros(store.trials.n_rows, dtype=np.int64)
    found, which = np.unique(store.trials["subject"][:], return_inverse=True)
    return [str(one) for one in found], which.ravel().astype(np.int64)


def pairs_of(store: Store) -> Integers:
    """int64, (trial, stimulus): rows of the paired stimuli, best first; -1 where there is none."""
    further = [name for name in store.trials if FURTHER.fullmatch(name)]
    names = ["stimulus", *sorted(further, key=lambda name: int(name.rpartition("_")[2]))]
    return np.stack([store.trials[name][:] for name in names], axis=1).astype(np.int64)


def shown(store: Store) -> Integers:
    """int64, (trial, stimulus): as ``pairs_of``; one row a ``content_id``, its first."""
    pairs = pairs_of(store)
    if not store.stimuli.n_rows:
        return pairs
    return np.where(pairs >= 0, first_of_content(store)[pairs], -1)


def parts(store: Store, split: str | None) -> list[tuple[str, Integers]]:
    """What is evaluated: one split, or each fold. Name and rows of the paired trials of each.

    Raises
    ------
    UsageError
        Where there is no such split; where none is named and there is neither ``test`` nor a fold.
    InputError
        Where nothing in it is paired.
    """
    names, paired = store.trials["split"][:], store.trials["stimulus"][:] >= 0
    paired &= store.trials["valid"][:]
    folds = store.trials["fold"][:] if "fold" in store.trials else np.full(len(names), -1)
    numbers = np.unique(folds[(folds >= 0) & paired])
    by_fold = split == FOLDS and FOLDS not in store.splits
    if by_fold or (split is None and TEST not in store.splits and len(numbers) > 1):
        if len(numbers) < 2:
            raise UsageError(f"{store.path}: has no folds; name a split: {_splits(store)}")
        return [(f"fold {one}", np.flatnonzero((folds == one) & paired)) for one in numbers]
    split = TEST if split is None else split
    if split not in store.splits:
        raise UsageError(f"{store.path}: {no_split(store, split)}")
    rows = np.flatnonzero((names == split) & paired)
    if not len(rows):
        raise InputError(f"{store.path}: no trial of the split {split!r} is paired with a stimulus")
    return [(split, rows)]


def _splits(store: Store) -> str:
    return ", ".join(store.splits)


@dataclass(frozen=True, eq=False)
class Asker:
    """Makes the rounds of a store.

    Attributes
    ----------
    query, gallery
        The two columns; ``query`` may be one of stimuli, which is joined through the pairs.
    target
        What is to be found: the stimulus, or any of its concept.
    candidates
        ``split``: the stimuli that the round's trials are paired with; ``all``: of the table.
    average
        ``stimulus``: the vectors of one stimulus are averaged, those of each subject apart.
    """

    store: Store
    query: StoredColumn
    gallery: StoredColumn
    target: Target
    candidates: Candidates
    average: Average

    def ask(self, name: str, rows: Integers) -> Round:
        """A round of some trials; all are paired.

        Raises
        ------
        InputError
            Where there are fewer than two stimuli to choose from, or one's vector is not finite.
        """
        pairs = shown(self.store)[rows]
        items = self._items(pairs)
        if len(items) < 2:
            raise InputError(
                f"{self.store.path}: there is one stimulus alone to choose from in {name!r}; "
                "choose another split, or all candidates"
            )
        gallery = Vectors(self.gallery, items)
        if not (finite := gallery.finite()).all():
            row = int(items[np.argmin(finite)])
            raise InputError(
                f"{self.store.path}: {self.gallery.entry.path}: the row {row} is not finite, so it "
                "cannot be ranked"
            )
        n_trials = len(rows)
        queries, place = self._queries(rows, pairs)
        rows, pairs = rows[place], pairs[place]
        item_class, classes = self._classes(items)
        right = np.where(pairs >= 0, classes[pairs], -1)
        if self.target == "concept":  # one image may be of two concepts: either is right
            own = pairs_of(self.store)[rows]
            right = np.concatenate([right, np.where(own >= 0, classes[own], -1)], axis=1)
        groups, group = np.unique(pairs[:, 0], return_inverse=True)
        return Round(
            name, queries, gallery, items,
            right=right,
            item_class=item_class,
            group=group.ravel().astype(np.int64),
            group_class=classes[groups],
            trial=rows,
            stimulus=pairs[:, 0],
            n_trials=n_trials,
        )  # fmt: skip

    def vectors(self, rows: Integers) -> Vectors:
        """The query of each trial."""
        if self.query.entry.table == "trials":
            return Vectors(self.query, rows)
        return Vectors(self.query, self.store.trials["stimulus"][:][rows])

    def _items(self, pairs: Integers) -> Integers:
        if self.candidates == "all":
            return np.unique(first_of_content(self.store))
        return np.unique(pairs[pairs >= 0])

    def _classes(self, items: Integers) -> tuple[Integers, Integers]:
        """Class of each item, from 0 without gaps, and of each row of ``stimuli``."""
        of_stimulus = np.full(self.store.stimuli.n_rows, -1, dtype=np.int64)
        if self.target == "stimulus":
            of_stimulus[items] = np.arange(len(items))
            return of_stimulus[items], of_stimulus
        concept = concepts(self.store)[1]
        if (concept[items] < 0).any():
            row = int(items[np.argmin(concept[items])])
            named = (self.store.stimuli["concept"][:] != "").any()
            lack = "no concept, though others have" if named else "neither concept nor label"
            raise InputError(
                f"{self.store.path}: stimulus {row} has {lack}; only the stimulus itself can be "
                "the target"
            )
        found, which = np.unique(concept[items], return_inverse=True)
        is_there = np.isin(concept, found)
        of_stimulus[is_there] = np.searchsorted(found, concept[is_there])
        return which.ravel().astype(np.int64), of_stimulus

    def _queries(self, rows: Integers, pairs: Integers) -> tuple[Rows, Integers]:
        """The queries, and the place in ``rows`` of the (first) trial of each.

        Raises
        ------
        InputError
            Where trials that are averaged have different answers.
        """
        vectors = self.vectors(rows)
        if self.average == "none":
            return vectors, np.arange(len(rows))
        keys = np.stack([subjects(self.store)[1][rows], pairs[:, 0]])
        _, first, which = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        which = which.ravel()
        if (pairs != pairs[first][which]).any():
            raise InputError(
                f"{self.store.path}: trials of one stimulus differ in their further stimuli, so "
                "their average has no one answer; evaluate single trials"
            )
        sums = np.zeros((len(first), math.prod(self.query.spec.shape)))
        for part in vectors.blocks():
            np.add.at(sums, which[part], vectors[part])
        return sums / np.bincount(which)[:, None], first


def rounds(asker: Asker, split: str | None) -> tuple[list[Round], int]:
    """The rounds of a split or of the folds, and how many trials were left out: not finite.

    Raises
    ------
    UsageError, InputError
        As ``parts`` and ``Asker.ask``.
    """
    found, left_out = [], 0
    for name, rows in parts(asker.store, split):
        finite = asker.vectors(rows).finite()
        left_out += int(np.sum(~finite))
        if not finite.any():
            raise InputError(
                f"{asker.store.path}: {asker.query.entry.path} is finite in no trial of {name!r}"
            )
        found.append(asker.ask(name, rows[finite]))
    return found, left_out

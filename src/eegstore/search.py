"""Finds the stimuli that are nearest to a trial, a text or an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.embed import Reads, embed, maker_of
from eegstore.errors import InputError, UsageError
from eegstore.hints import no_split, swapped
from eegstore.rounds import Vectors, find_column, first_of_content, shown
from eegstore.store import Store, StoredColumn
from eegstore.tautology import tells_shown
from eegstore.wording import plural

SHORTEST: Final = 2.0**-100  # as in ``products``: shorter vectors count as zeros


@dataclass(frozen=True)
class Hit:
    """A stimulus that was found; ``rank`` is from 1, ``is_true``: the trial is paired with it."""

    rank: int
    stimulus: int
    score: float
    concept: str
    image_path: str
    is_true: bool

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Search:
    """What was found.

    Attributes
    ----------
    store, notice
        The store, and the sentence that every output repeats.
    asked
        What was searched for, such as ``trial 3``.
    query, gallery
        The columns that were compared.
    n_gallery
        How many stimuli were compared: each image once.
    hits
        The nearest, best first.
    true
        The stimulus that the trial is paired with, wherever it stands; None for none.
    mark
        What that is called: ``true``; ``paired`` where the pairs do not say what was shown.
    notes
        What a reader must know.
    """

    store: str
    notice: str
    asked: str
    query: str
    gallery: str
    n_gallery: int
    hits: Sequence[Hit]
    true: Hit | None
    mark: str
    notes: Sequence[str]

    def document(self) -> dict[str, Any]:
        """The search as a JSON value, which ``eegstore search --json`` prints."""
        return {
            **vars(self),
            "hits": [one.document() for one in self.hits],
            "true": self.true.document() if self.true else None,
            "notes": list(self.notes),
        }


class Gallery:
    """The stimuli of a store by one column, held in memory: a query takes milliseconds.

    Every image is there once: rows of one ``content_id`` are told by the first of them.

    Parameters
    ----------
    store
        The store.
    column
        A column of stimuli, ``NAME`` or ``stimuli/NAME``.
    split
        Only the stimuli that trials of this split are paired with; all by default.

    Raises
    ------
    UsageError
        Where there is no such column or split.
    InputError
        Where there is no stimulus, or one's vector is not finite.
    """

    def __init__(self, store: Store, column: str, split: str | None = None) -> None:
        if not store.stimuli.n_rows:
            raise InputError(f"{store.path}: has no stimuli, so there is nothing to find")
        self.store, self.column = store, find_column(store, column, "stimuli")
        if self.column.entry.table != "stimuli":
            path = self.column.entry.path
            raise UsageError(f"{store.path}: the gallery is {path}, expected a column of stimuli")
        self.items = _items(store, split)
        self._first = first_of_content(store)
        vectors = Vectors(self.column, self.items)
        if not (finite := vectors.finite()).all():
            row = int(self.items[np.argmin(finite)])
            raise InputError(f"{store.path}: {self.column.entry.path}: row {row} is not finite")
        parts = [_unit(vectors[part]) for part in vectors.blocks()]
        self._unit = np.concatenate(parts)
        self._concepts = store.stimuli["concept"][:]
        self._paths = store.stimuli["image_path"][:]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self._unit.shape[1])

    def nearest(
        self, vector: NDArray[Any], k: int, true: Sequence[int] = ()
    ) -> tuple[list[Hit], Hit | None]:
        """The nearest by cosine, best first; of equal scores the lower row first.

        Parameters
        ----------
        vector
            Numbers, (feature,), finite.
        k
            How many, or as many as there are.
        true
            Rows of ``stimuli`` that are right.

        Returns
        -------
        The nearest, and the best right one, wherever it stands; None where none is in the gallery.
        """
        if vector.size != self.width:
            raise InputError(
                f"{self.column.entry.path} has {self.width:,} numbers a row, and the query "
                f"{vector.size:,}; expected a column in the same space"
            )
        scores = self._unit @ _unit(vector.reshape(1, -1))[0]
        right = np.isin(self.items, self._first[list(true)] if len(true) else [])
        places = _best(scores, min(k, len(scores)))
        hits = [self._hit(scores, right, rank, int(one)) for rank, one in enumerate(places, 1)]
        if not right.any():
            return hits, None
        best = int(np.argmax(np.where(right, scores, -np.inf)))
        ahead = (scores > scores[best]) | ((scores == scores[best]) & (self._places() < best))
        return hits, self._hit(scores, right, int(ahead.sum()) + 1, best)

    def _places(self) -> NDArray[np.int64]:
        return np.arange(len(self.items))

    def _hit(
        self, scores: NDArray[np.float32], right: NDArray[np.bool_], rank: int, place: int
    ) -> Hit:
        row = int(self.items[place])
        return Hit(
            rank, row, float(scores[place]), str(self._concepts[row]), str(self._paths[row]),
            bool(right[place]),
        )  # fmt: skip


def mark(store: Store) -> str:
    """What the stimulus is called that a trial is paired with: the true one, if it was shown."""
    return "true" if tells_shown(store) else "paired"


def _items(store: Store, split: str | None) -> NDArray[np.int64]:
    """int64, (item,): rows of ``stimuli``."""
    if split is None:
        return np.unique(first_of_content(store))
    if split not in store.splits:
        raise UsageError(f"{store.path}: {no_split(store, split)}")
    pairs = shown(store)[store.trials["split"][:] == split]
    if not (pairs >= 0).any():
        raise InputError(f"{store.path}: no trial of the split {split!r} is paired")
    return np.unique(pairs[pairs >= 0])


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """float32, (row, feature): of length 1; zeros stay zeros."""
    values = vectors.astype(np.float32)
    lengths = np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.where(
        lengths < SHORTEST, 0, values / np.maximum(lengths, SHORTEST)
    ).astype(np.float32)
    return unit


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """int64, (k,): where the best are, best first; of equal ones the first come first."""
    lowest = np.partition(scores, len(scores) - k)[len(scores) - k]
    found = np.flatnonzero(scores >= lowest)
    order: NDArray[np.int64] = found[np.argsort(-scores[found], kind="stable")][:k]
    return order


def search_trial(
    store: Store, trial: int, query: str, gallery: str, k: int = 10, split: str | None = None
) -> Search:
    """The stimuli nearest to a trial.

    Parameters
    ----------
    store
        The store.
    trial
        A row of ``trials``.
    query, gallery
        Columns of vectors of one width: of trials, and of stimuli.
    k
        How many.
    split
        Search the stimuli of this split alone.

    Raises
    ------
    UsageError, InputError
        Where there is no such trial, column or split; where the columns cannot be compared.
    """
    _check_k(k)
    if not 0 <= trial < store.trials.n_rows:
        raise UsageError(f"--trial {trial}: the store has trials 0 to {store.trials.n_rows - 1:,}")
    if hint := swapped(store, query, gallery):
        raise UsageError(f"{store.path}: {hint}")
    column, found = find_column(store, query, "trials"), Gallery(store, gallery, split)
    row = trial
    if column.entry.table == "stimuli":
        row = int(store.trials["stimulus"][trial])
        if row < 0:
            raise InputError(f"{store.path}: trial {trial} is paired with no stimulus")
    vector = column[row].reshape(-1)
    if not np.isfinite(vector).all():
        raise InputError(
            f"{store.path}: {column.entry.path} is not finite in trial {trial}; choose another"
        )
    pairs = shown(store)[trial]
    hits, true = found.nearest(vector, k, pairs[pairs >= 0].tolist())
    return _search(found, f"trial {trial}", column, hits, true, k)


def search_text(
    store: Store, text: str, query: str | None, gallery: str, k: int = 10, split: str | None = None
) -> Search:
    """The stimuli nearest to a text, by the extractor that made a column of captions.

    Parameters
    ----------
    store, gallery, k, split
        As in ``search_trial``.
    text
        It passes the extractor as a caption does, to the letter.
    query
        The column; by default the one that is made from captions.

    Raises
    ------
    UsageError, InputError, PluginError
        Where there is no such column, or its extractor or model is no longer the one that made it.
    """
    if not text.strip():
        raise UsageError("--text is empty, expected words")
    return _search_by(store, "caption", text, f"text {text!r}", query, gallery, k, split)


def search_image(
    store: Store, image: NDArray[np.uint8], name: str, query: str | None, gallery: str,
    k: int = 10, split: str | None = None,
) -> Search:  # fmt: skip
    """The stimuli nearest to an image, by the extractor that made a column of images.

    Parameters
    ----------
    store, gallery, k, split
        As in ``search_trial``.
    image, name
        uint8, (y, x, 3), see ``embed.read_image``; and what it is called.
    query
        The column; by default the gallery where it is made from images.

    Raises
    ------
    UsageError, InputError, PluginError
        As in ``search_text``.
    """
    return _search_by(store, "image", image, f"image {name}", query, gallery, k, split)


def _search_by(
    store: Store, reads: Reads, item: Any, asked: str, query: str | None, gallery: str, k: int,
    split: str | None,
) -> Search:  # fmt: skip
    _check_k(k)
    found = Gallery(store, gallery, split)
    column = maker_of(store, reads, query, found.column)
    hits, true = found.nearest(embed(store, column, reads, item), k)
    return _search(found, asked, column, hits, true, k)


def _search(
    found: Gallery, asked: str, column: StoredColumn, hits: Sequence[Hit], true: Hit | None, k: int
) -> Search:
    store, gallery, count = found.store, found.column.entry.path, len(found)
    all_told = f"the gallery has {plural(count, 'stimulus')}, fewer than -k {k:,}: all are told"
    return Search(
        str(store.path), store.notice, asked, column.entry.path, gallery, count, hits, true,
        mark(store), [all_told] if k > count else [],
    )  # fmt: skip


def _check_k(k: int) -> None:
    if k < 1:
        raise UsageError(f"-k {k}: expected 1 or more")

"""Whether a score would be that of the pairing itself: what the pairs were made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.provenance import facts_of
from eegstore.rounds import Round, Target, shown
from eegstore.store import Store, StoredColumn

# What the pairings decided by that were built in before stores recorded it.
BUILT_IN: Final = {"label": ("label",), "event": ("stimulus_key",)}
LABELS: Final = frozenset(
    {"label", "trials/label", "stimuli/label", "trials/concept", "stimuli/concept"}
)
TRAIN: Final = "train"


def made_from(store: Store) -> tuple[str, ...]:
    """What decided the pairs of a store; empty where nothing records it.

    ``stimulus_key``, ``label``, or a column as ``trials/NAME`` or ``stimuli/NAME``.
    """
    facts = facts_of(store, "trials/stimulus")
    recorded: Sequence[str] = facts.get("made_from") or ()
    return tuple(recorded) or BUILT_IN.get(_pairing(facts), ())


def _pairing(facts: dict[str, Any]) -> str:
    return str((facts.get("producer") or {}).get("name", ""))


def tautology(store: Store, query: StoredColumn, gallery: StoredColumn, target: Target) -> str:
    """Why the pairs hold by construction, in one line; empty where they do not."""
    asks, answers, made = query.entry.path, gallery.entry.path, made_from(store)
    if asks == answers:
        return f"{asks} is compared with itself"
    for path in (asks, answers):
        if path in made:
            return f"the pairs were made from {path}, so finding them by it shows nothing"
    if not LABELS.intersection(made):
        return ""
    if query.entry.table == "stimuli":
        return (
            f"{asks} is joined through pairs that were made from the label, so it was the label "
            "that chose both sides"
        )
    if target == "stimulus":
        return (
            "the pairs were made from the label, so which stimulus of the label is the right one "
            "is the pairing's choice, not what was shown; the target 'concept' can be evaluated"
        )
    return ""


def doubts(store: Store, query: StoredColumn, gallery: StoredColumn) -> list[str]:
    """What else a reader of the score must know of the columns, a sentence each."""
    found, made = [], made_from(store)
    if not made:
        name = _pairing(facts_of(store, "trials/stimulus")) or "unknown"
        found.append(
            f"the pairing {name!r} does not record what it made the pairs from, so whether the "
            "score follows from that cannot be told"
        )
    if query.entry.table == "stimuli":
        found.append(f"{query.entry.path} is a column of stimuli: no EEG is in this score")
    for column in (query, gallery):
        through = sorted(set(made) & _ancestors(store, column.entry.path))
        if through:
            found.append(
                f"{column.entry.path} is computed from {through[0]}, which the pairs were made from"
            )
    return found


def fitted_doubts(
    store: Store, asked: Sequence[Round], columns: Sequence[StoredColumn]
) -> list[str]:
    """What is learnt from rows that are asked here, or from stimuli that are."""
    learnt, blind = list[str](), False
    for column in columns:
        path = column.entry.path
        facts = [facts_of(store, one) for one in (path, *_ancestors(store, path))]
        fitted = [one for one in facts if "fitted" in one]
        learnt += [path] * bool(fitted)
        blind |= any("fold" not in one.get("inputs", {}) for one in fitted)
    if not learnt:
        return []
    paths, by_fold = " and ".join(learnt), len(asked) > 1
    names = store.trials["split"][:]
    is_train = (names[np.concatenate([one.trial for one in asked])] == TRAIN).any()
    if is_train and (blind or not by_fold):
        return [
            f"{paths} was fitted on the split 'train', which is asked here: that is sound only "
            "where its values are out of fold"
        ]
    own = np.unique(np.concatenate([one.stimulus for one in asked]))
    n_seen = _n_in_several(asked) if by_fold else int(np.isin(own, _train_stimuli(store)).sum())
    if not n_seen:
        return []
    where = "in several folds" if by_fold else "in the split 'train' too"
    return [
        f"{n_seen:,} of the {len(own):,} stimuli are {where}, so {paths} was fitted on trials of "
        "them: this says nothing of stimuli that are new"
    ]


def _n_in_several(asked: Sequence[Round]) -> int:
    """How many stimuli are in more than one fold."""
    stimuli = np.concatenate([np.unique(one.stimulus) for one in asked])
    return int((np.unique(stimuli, return_counts=True)[1] > 1).sum())


def _train_stimuli(store: Store) -> NDArray[np.int64]:
    """int64: the stimuli of the train trials, each told by the first row of its content."""
    pairs = shown(store)[store.trials["split"][:] == TRAIN]
    return np.unique(pairs[pairs >= 0])


def _ancestors(store: Store, path: str) -> set[str]:
    """Paths of the columns that a column is computed from, or was fitted to."""
    there = {entry.path for entry in store.attributes.columns}
    found, waiting = set[str](), [path]
    while waiting:
        current = waiting.pop()
        table, facts = current.partition("/")[0], facts_of(store, current)
        for name in (*facts.get("inputs", {}), *facts.get("fitted", {}).get("inputs", {})):
            one = name if "/" in name else f"{table}/{name}"
            if one in there and one not in found:
                found.add(one)
                waiting.append(one)
    return found - {path}

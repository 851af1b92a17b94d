"""Whether a score would be that of the pairing itself: what the pairs were made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import registry
from eegstore.provenance import facts_of
from eegstore.rounds import Round, Target, shown
from eegstore.store import Store, StoredColumn

# What the pairings decided by that were built in before stores recorded it.
BUILT_IN: Final = {"label": ("label",), "event": ("stimulus_key",)}
LABELS: Final = frozenset(
    {"label", "trials/label", "stimuli/label", "trials/concept", "stimuli/concept"}
)
AS_COLUMNS: Final = {
    "label": ("trials/label", "stimuli/label"),
    "stimulus_key": ("trials/stimulus_key",),
}
TRAIN: Final = "train"
# What says of a score that it can be had without decoding; an older record has no more than that.
NOT_RECORDED: Final = "does not record what it made the pairs from"
NO_EEG: Final = "no EEG is in this score"
CIRCULAR: Final = "which the pairs were made from"
IN_SAMPLE: Final = f"was fitted on the split '{TRAIN}', which is asked here"


def made_from(store: Store) -> tuple[str, ...]:
    """What decided the pairs of a store; empty where nothing did, or nothing records it.

    ``stimulus_key``, ``label``, or a column as ``trials/NAME`` or ``stimuli/NAME``.
    """
    facts = facts_of(store, "trials/stimulus")
    recorded: Sequence[str] = facts.get("made_from") or ()
    return tuple(recorded) or BUILT_IN.get(_pairing(facts), ())


def tells_shown(store: Store) -> bool | None:
    """Whether a trial's pair is what it was shown; None where nothing records what made it."""
    made = made_from(store)
    return "stimulus_key" in made if made or _is_recorded(store) else None


def _is_recorded(store: Store) -> bool:
    """Whether the pairing said what decided its pairs; that may be nothing but chance."""
    return facts_of(store, "trials/stimulus").get("made_from") is not None


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
    """Why the score of the columns can be had without decoding, a sentence each."""
    found, made = [], made_from(store)
    if not made and not _is_recorded(store):
        name = _pairing(facts_of(store, "trials/stimulus")) or "unknown"
        found.append(
            f"the pairing {name!r} {NOT_RECORDED}, so whether the score follows from that cannot "
            "be told"
        )
    if query.entry.table == "stimuli":
        found.append(f"{query.entry.path} is a column of stimuli: {NO_EEG}")
    columns_made_from = {path for name in made for path in AS_COLUMNS.get(name, (name,))}
    for column in (query, gallery):
        through = sorted(columns_made_from & _ancestors(store, column.entry.path))
        if through:
            found.append(f"{column.entry.path} is computed from {through[0]}, {CIRCULAR}")
    return found


def is_doubt(warning: str) -> bool:
    """Whether a warning, of whatever version, says that a score can be had without decoding."""
    return any(one in warning for one in (NOT_RECORDED, NO_EEG, CIRCULAR, IN_SAMPLE))


def fitted_doubts(
    store: Store, asked: Sequence[Round], columns: Sequence[StoredColumn]
) -> tuple[list[str], list[str]]:
    """What is learnt from rows that are asked here, or from stimuli that are.

    Returns
    -------
    Warnings, and notes.
    """
    learnt, blind, own_folds = list[str](), False, True
    for column in columns:
        path = column.entry.path
        facts = [facts_of(store, one) for one in (path, *_ancestors(store, path))]
        fitted = [one for one in facts if "fitted" in one]
        learnt += [path] * bool(fitted)
        blind |= any("fold" not in one.get("inputs", {}) for one in fitted)
        own_folds &= all(_is_out_of_fold(one) for one in fitted)
    if not learnt:
        return [], []
    paths, by_fold, notes = " and ".join(learnt), len(asked) > 1, list[str]()
    names = store.trials["split"][:]
    is_train = (names[np.concatenate([one.trial for one in asked])] == TRAIN).any()
    if is_train and (blind or not by_fold):
        if not own_folds:
            return [f"{paths} {IN_SAMPLE}: that is sound only where its values are out of fold"], []
        notes = [f"{paths} was fitted on 'train', but its values for train trials are out of fold"]
    own = np.unique(np.concatenate([one.stimulus for one in asked]))
    in_folds = by_fold or bool(notes)
    if in_folds:
        n_seen = n_in_several(_stimuli_of_folds(store, asked))
    else:
        n_seen = int(np.isin(own, train_stimuli(store)).sum())
    if not n_seen:
        return [], notes
    where = "in several folds" if in_folds else "in the split 'train' too"
    return [
        f"{n_seen:,} of the {len(own):,} stimuli are {where}, so {paths} was fitted on trials of "
        "them: this says nothing of stimuli that are new"
    ], notes


def _is_out_of_fold(facts: dict[str, Any]) -> bool:
    """Whether the extractor that made a column says that its values for train are out of fold.

    Only the very one that made it is believed: of the same distribution and version.
    """
    made = facts.get("producer") or {}
    wanted = (made.get("distribution"), made.get("version"))
    named = registry.named(str(made.get("kind", "")), str(made.get("name", "")))
    found = [one for one in named if (one.distribution, one.version) == wanted]
    return any(getattr(one.cls, "out_of_fold", False) is True for one in found)


def _stimuli_of_folds(store: Store, asked: Sequence[Round]) -> list[NDArray[np.int64]]:
    """The stimuli of each fold that is asked, or of each that the trials of a split are in."""
    if len(asked) > 1 or "fold" not in store.trials:
        return [np.unique(one.stimulus) for one in asked]
    fold, stimulus = store.trials["fold"][:][asked[0].trial], asked[0].stimulus
    return [np.unique(stimulus[fold == one]) for one in np.unique(fold)]


def n_in_several(parts: Sequence[NDArray[np.int64]]) -> int:
    """How many values are in more than one of some parts, each without repetition."""
    return int((np.unique(np.concatenate(parts), return_counts=True)[1] > 1).sum())


def train_stimuli(store: Store) -> NDArray[np.int64]:
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

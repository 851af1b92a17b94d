"""Checks of what predicts the label without any EEG: the time of a trial, and who was recorded.

Whatever such a baseline scores, a decoder can score too without decoding anything (Li et al. 2021,
Varoquaux et al. 2017). Trials are no independent draws: those that are predicted from one thing are
permuted together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.audit_rows import RECORDING, SITTING, HeldOut, Rows
from eegstore.chance import Score, clusters, score
from eegstore.findings import Finding, NotCheckedError, Severity, few

P_VALUE: Final = 1e-3
LEAST: Final = 0.05  # of the way from chance to 1
MUCH: Final = 0.25
SURE: Final = 0.9
NOTHING: Final = -2  # a label that no trial has
Codes = NDArray[np.int64]


class Predicted(NamedTuple):
    """Rows that are scored, the label that a baseline predicts, and what is predicted as one.

    ``origin`` is the row that a prediction is taken from, or the first of those that go together.
    """

    row: Codes
    label: Codes
    origin: Codes


def time_baseline(rows: Rows) -> Iterator[Finding]:
    """Predict a label by that of the train trial nearest in time, in the recording or in another.

    Predictions are permuted within recordings: what tells of the recording is the other baseline's.
    """
    time, is_onset = _times(rows)
    tried = ((pair.is_fold, _nearest(rows, pair, time)) for pair in _scored(rows))
    found, result = _best(rows, tried, rows.recording)
    if result.above < LEAST or result.p_value >= P_VALUE:
        return
    right = np.flatnonzero(found.label == rows.label[found.row])
    examples = few(
        f"{rows.where(found.row[one])} has the label of {rows.where(found.origin[one])}, "
        f"{_apart(rows, time, found.row[one], found.origin[one], is_onset)}"
        for one in right.tolist()
    )
    doubt = "" if is_onset else "; there is no onset, so the rows were taken in their order"
    yield Finding(
        "time-baseline",
        _severity(result) if is_onset else "warning",
        len(right),
        f"the label of the train trial nearest in time is right for {_told(result)}{doubt}",
        examples,
        'Split with [split] plugin = "block" or "session"; where blocks show one label each, no '
        "split mends it: the order of the recording has to be random.",
    )


def _times(rows: Rows) -> tuple[NDArray[np.float64], bool]:
    """float64, (row,): when each trial began, else its row; and whether that is in seconds."""
    try:
        return rows.onset, True
    except NotCheckedError:
        return rows.trial.astype(np.float64), False


def _apart(rows: Rows, time: NDArray[np.float64], row: int, origin: int, is_onset: bool) -> str:
    if rows.recording[row] != rows.recording[origin]:
        return "at the same time of another recording"
    distance = abs(time[row] - time[origin])
    return f"{distance:.3g} s apart" if is_onset else f"{distance:.0f} rows apart"


def _scored(rows: Rows) -> list[HeldOut]:
    """What is trained on and scored, of the trials whose labels train has too.

    Raises
    ------
    NotCheckedError
        Where there are none: a label that train does not have cannot be predicted.
    """
    label, pairs = rows.label, []
    for train, test, is_fold in rows.held_out:
        known = train[label[train] >= 0]
        pairs.append(HeldOut(known, test[np.isin(label[test], label[known])], is_fold))
    pairs = [pair for pair in pairs if len(pair.test)]
    if not pairs:
        raise NotCheckedError("no trial that is scored has a label that is in train")
    several = [pair for pair in pairs if len(np.unique(label[pair.test])) > 1]
    if not several:
        raise NotCheckedError("the trials that are scored have one label")
    return several


def _best(
    rows: Rows, tried: Iterable[tuple[bool, Predicted]], stratum: Codes
) -> tuple[Predicted, Score]:
    """What is predicted and its score: of the test, or of a fold where folds can be predicted.

    Of several folds it is the one whose p-value is in the middle: all folds together are all
    trials, whose chance unevenness each fold's train rows share.
    """
    of_folds, of_test = list[tuple[Predicted, Score]](), list[tuple[Predicted, Score]]()
    for is_fold, one in tried:
        by = clusters(rows.label[one.row], one.label, stratum[one.row], one.origin)
        (of_folds if is_fold else of_test).append((one, score(by, LEAST)))
    of_folds.sort(key=_rarity)
    return min([*of_folds[len(of_folds) // 2 :][:1], *of_test], key=_rarity)


def _rarity(found: tuple[Predicted, Score]) -> tuple[float, float]:
    """The least for what is least like chance."""
    return found[1].p_value, -found[1].above


def _nearest(rows: Rows, pair: HeldOut, time: NDArray[np.float64]) -> Predicted:
    """By the nearest train trial; of a recording without one, nearest in time from its start."""
    origin = np.full(len(pair.test), -1, dtype=np.int64)
    recording = rows.recording
    of_train = np.split(*_by_group(pair.train, recording))
    train_of = {int(recording[one[0]]): one for one in of_train}
    for code in np.unique(recording[pair.test]).tolist():
        at = np.flatnonzero(recording[pair.test] == code)
        if code in train_of:
            origin[at] = _closest(train_of[code], pair.test[at], time)
    left = origin < 0
    if left.any():
        start = np.full(recording.max() + 1, np.inf)
        np.minimum.at(start, recording, time)
        origin[left] = _closest(pair.train, pair.test[left], time - start[recording])
    return Predicted(pair.test, rows.label[origin], origin)


def _by_group(row: Codes, group: Codes) -> tuple[Codes, Codes]:
    """The rows in the order of their groups, and where a group starts, the first aside."""
    ordered = row[np.argsort(group[row], kind="stable")]
    return ordered, np.flatnonzero(np.diff(group[ordered])) + 1


def _closest(train: Codes, test: Codes, time: NDArray[np.float64]) -> Codes:
    """int64, (test row,): the train row nearest in time."""
    ordered = train[np.argsort(time[train], kind="stable")]
    after = np.searchsorted(time[ordered], time[test])
    before, after = np.maximum(after - 1, 0), np.minimum(after, len(ordered) - 1)
    is_before = abs(time[ordered[before]] - time[test]) <= abs(time[ordered[after]] - time[test])
    nearest: Codes = ordered[np.where(is_before, before, after)]
    return nearest


def identity_baseline(rows: Rows) -> Iterator[Finding]:
    """Predict a label by the one most frequent, in train, of the subject and the session."""
    sitting, subject = rows.groups(SITTING), rows.groups(("subject",))
    if sitting.max(initial=0) == 0:
        names = " and ".join(f"one {name}" for name in SITTING if rows.has(name))
        raise NotCheckedError(
            f"all trials are of {names}" if names else "trials have no column 'subject' or "
            "'session'"
        )  # fmt: skip
    tried = ((pair.is_fold, _usual(rows, pair, sitting, subject)) for pair in _scored(rows))
    found, result = _best(rows, tried, np.zeros(len(rows), dtype=np.int64))
    # With few subjects no permutation is rare, however plain it is that each has one label.
    is_sure = result.above > SURE and len(np.unique(sitting[found.row])) > 1
    if result.above < LEAST or (result.p_value >= P_VALUE and not is_sure):
        return
    right = found.label == rows.label[found.row]
    _, first, code = np.unique(sitting[found.row], return_index=True, return_inverse=True)
    share = np.bincount(code, weights=right) / np.bincount(code)
    examples = few(
        f"{rows.place(found.row[first[one]], SITTING)}: "
        f"{rows.label_name(int(found.label[first[one]]))} is right for {share[one]:.0%}"
        for one in np.argsort(-share, kind="stable").tolist()
    )
    yield Finding(
        "identity-baseline",
        _severity(result),
        int(right.sum()),
        f"the label usual for the subject and session is right for {_told(result)}",
        examples,
        'Split with [split] plugin = "subject", so that no one who is scored is in train, or '
        "balance the labels within each subject and session.",
    )


def _usual(rows: Rows, pair: HeldOut, sitting: Codes, subject: Codes) -> Predicted:
    """By the session's most frequent label; of a session without train trials, the subject's."""
    label = np.full(len(pair.test), NOTHING, dtype=np.int64)
    for group in (subject, sitting):
        usual = _most_frequent(rows.label[pair.train], group[pair.train], int(group.max()) + 1)
        label = np.where(usual[group[pair.test]] >= 0, usual[group[pair.test]], label)
    return Predicted(pair.test, label, _together(rows, pair.test))


def _most_frequent(label: Codes, group: Codes, n_groups: int) -> Codes:
    """int64, (group,): the label that most of a group have, NOTHING of an empty one."""
    pairs, counts = np.unique(np.stack([group, label], axis=1), axis=0, return_counts=True)
    usual = np.full(n_groups, NOTHING, dtype=np.int64)
    order = np.argsort(counts, kind="stable")  # the most frequent is written last
    usual[pairs[order, 0]] = pairs[order, 1]
    return usual


def _together(rows: Rows, test: Codes) -> Codes:
    """int64, (test row,): the first row of those that are not independent of each other.

    That is a block; where there are none, what follows on each other in a recording without a train
    trial between, or with one label.
    """
    if rows.has("block"):
        block = rows.groups((*RECORDING, "block"))[test]
        _, first, code = np.unique(block, return_index=True, return_inverse=True)
        return test[first[code.reshape(-1)]]
    order = np.lexsort((_times(rows)[0], rows.recording))
    rank = np.empty(len(rows), dtype=np.int64)
    rank[order] = np.arange(len(rows))
    sequence = test[np.argsort(rank[test])]
    apart = (np.diff(rank[sequence]) > 1) & (np.diff(rows.label[sequence]) != 0)
    starts = np.r_[True, apart | (np.diff(rows.recording[sequence]) != 0)]
    together = np.empty(len(rows), dtype=np.int64)
    together[sequence] = sequence[starts][np.cumsum(starts) - 1]
    return together[test]


def _severity(result: Score) -> Severity:
    return "error" if result.above >= MUCH else "warning"


def _told(result: Score) -> str:
    p_value = f"p = {result.p_value:.2g}" if result.p_value >= P_VALUE else f"p < {P_VALUE}"
    return (
        f"{result.accuracy:.1%} of the trials that are scored, by chance for "
        f"{result.chance:.1%} ({p_value})"
    )

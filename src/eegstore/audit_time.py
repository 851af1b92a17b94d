"""The check that no two splits share samples of one recording."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eegstore.audit_rows import Rows
from eegstore.findings import Finding, few
from eegstore.wording import plural


def overlapping_windows(rows: Rows) -> Iterator[Finding]:
    """Trials cut so close to each other that they share samples, in different splits."""
    rows.need_parts()
    sfreq = float(rows.store.trials["eeg"].spec.attrs["sfreq"])
    span = (rows.n_valid - 1) / sfreq
    at = np.flatnonzero(span >= 0)
    order = at[np.lexsort((rows.onset[at], rows.recording[at]))]
    onset, span = rows.onset[order], span[order]
    # Trials that share their last and first sample are as far apart as the first is long.
    pairs = overlapping(onset, onset + span + 0.5 / sfreq, rows.recording[order], rows.part[order])
    if len(pairs):
        n_trials = len(np.unique(pairs))
        examples = (
            f"{rows.where(order[one])} and {rows.where(order[other])}: "
            f"{onset[other] - onset[one]:.3g} s apart, {span[one]:.3g} s long"
            for one, other in pairs.tolist()
        )
        yield Finding(
            "overlapping-windows",
            "error",
            n_trials,
            f"{plural(n_trials, 'trial')} that share samples with a trial of another split",
            few(examples),
            'Split with [split] plugin = "block" or "session", or cut shorter trials.',
        )


def overlapping(
    onset: NDArray[np.float64],
    end: NDArray[np.float64],
    recording: NDArray[np.int64],
    part: NDArray[np.int64],
) -> NDArray[np.int64]:
    """int64, (pair, 2): trials of two parts, the first of which ends after the second's onset.

    Every trial that has such a partner is in a pair. The arguments are (trial,), in the order of
    their recordings and there of their onsets. With a later trial each is asked of the next that is
    of another part, with an earlier one of the one of another part that ends last.
    """
    place = np.arange(len(onset))
    new = np.flatnonzero((np.diff(part) != 0) | (np.diff(recording) != 0)) + 1
    after = np.concatenate([new, [-1]])[np.searchsorted(new, place, side="right")]
    before = np.full(len(onset), -1)
    for one in np.unique(part).tolist():
        last = _last_to_end(end, recording, part == one)
        ends = np.where(last >= 0, end[last], -np.inf)
        is_later = (part != one) & (ends > np.where(before >= 0, end[before], -np.inf))
        before[is_later] = last[is_later]
    pairs = np.concatenate([np.stack([place, after], 1), np.stack([before, place], 1)])
    pairs = pairs[(pairs >= 0).all(axis=1)]
    first, second = pairs.T
    is_shared = (recording[first] == recording[second]) & (onset[second] < end[first])
    shared: NDArray[np.int64] = np.unique(pairs[is_shared], axis=0)
    return shared


def _last_to_end(
    end: NDArray[np.float64], recording: NDArray[np.int64], is_one: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """int64, (trial,): which of some trials, up to here, ends last in the recording; or -1."""
    place = np.full(len(end), -1)
    for _, of_one in itertools.groupby(np.flatnonzero(is_one).tolist(), recording.__getitem__):
        rows = np.array(list(of_one))
        is_last = end[rows] == np.maximum.accumulate(end[rows])
        place[rows] = rows[np.maximum.accumulate(np.where(is_last, np.arange(len(rows)), 0))]
    # What comes between takes that of the nearest before it.
    nearest = np.maximum.accumulate(np.where(is_one, np.arange(len(end)), -1))
    return np.where((nearest >= 0) & (recording[nearest] == recording), place[nearest], -1)

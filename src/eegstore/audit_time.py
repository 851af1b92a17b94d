"""The check that no two splits share samples of one recording."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from eegstore.audit_rows import Rows
from eegstore.findings import Finding, few
from eegstore.wording import plural


def overlapping_windows(rows: Rows) -> Iterator[Finding]:
    """Trials cut so close to each other that they share samples, in different splits."""
    rows.need_parts()
    onset, recording = rows.onset, rows.recording
    spec = rows.store.trials["eeg"].spec
    times = np.asarray(spec.coords["time"], dtype=np.float64)
    # Trials that share their last and first sample are as far apart as they are long.
    reach = times[-1] - times[0] + 0.5 / float(spec.attrs["sfreq"])
    order = np.lexsort((onset, recording))
    gap, other = _nearest_of_others(onset[order], recording[order], rows.part[order])
    at = np.flatnonzero(gap < reach)
    if len(at):
        examples = (
            f"{rows.where(order[one])} and {rows.where(order[other[one]])}: "
            f"{gap[one]:.3g} s apart, {times[-1] - times[0]:.3g} s long"
            for one in at[other[at] > at].tolist()
        )
        yield Finding(
            "overlapping-windows",
            "error",
            len(at),
            f"{plural(len(at), 'trial')} that share samples with a trial of another split",
            few(examples),
            'Split with [split] plugin = "block" or "session", or cut shorter trials.',
        )


def _nearest_of_others(
    onset: NDArray[np.float64], recording: NDArray[np.int64], part: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Seconds to the nearest trial of another part in the recording, and its place; in order.

    In the order of time that is the end of the stretch of one part before, or the start of the
    next: two trials of any two parts that overlap have such a pair between them.
    """
    n = len(onset)
    new = np.flatnonzero((np.diff(part) != 0) | (np.diff(recording) != 0)) + 1
    stretch = np.searchsorted(new, np.arange(n), side="right")
    before = np.concatenate([[-1], new - 1])[stretch]
    after = np.concatenate([new, [-1]])[stretch]
    gap, place = np.full(n, np.inf), np.full(n, -1, dtype=np.int64)
    for other in (before, after):
        there = (other >= 0) & (recording[other] == recording)
        distance = np.where(there, abs(onset[other] - onset), np.inf)
        place = np.where(distance < gap, other, place)
        gap = np.minimum(gap, distance)
    return gap, place

"""Channels that look wrong: what a look at a few trials of each shard finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

VOLTS: Final = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "µV": 1e-6, "μV": 1e-6, "nV": 1e-9}
PLAUSIBLE_V: Final = (1e-7, 1e-3)  # standard deviation over a trial: scalp EEG has some 1e-5
CLIPPED_SHARE: Final = 0.01
SHOWN: Final = 8
REMARKS: Final = {
    "flat": "flat (one value a trial)",
    "clipped": "clipped (held at the largest or smallest value)",
    "scale": "implausibly scaled for EEG in the unit given (0.1 to 1,000 µV are usual)",
}


def doubts(
    eeg: NDArray[np.float32], n_valid: NDArray[np.int64], units: str
) -> dict[str, list[int]]:
    """Channels that look wrong in some trials, by what is wrong.

    Parameters
    ----------
    eeg
        float32, (trial, channel, time): finite.
    n_valid
        int64, (trial,): samples that are recorded; the rest is padding.
    units
        Unit of the signal.
    """
    signal = eeg[:, :, : int(n_valid.min(initial=eeg.shape[-1]))]
    if signal.shape[0] == 0 or signal.shape[-1] < 2:
        return {}
    flat = (signal == signal[..., :1]).all(axis=(0, 2))
    found = {
        "flat": flat,
        "clipped": ~flat & (_held(signal, np.max) | _held(signal, np.min)),
        "scale": ~flat & _implausible(signal, units),
    }
    return {what: np.flatnonzero(at).tolist() for what, at in found.items() if at.any()}


def _held(signal: NDArray[np.float32], extreme: Any) -> NDArray[np.bool_]:
    """bool, (channel,): whether the signal stays at its extreme value from sample to sample."""
    at = signal == extreme(signal, axis=(0, 2), keepdims=True)
    held: NDArray[np.bool_] = (at[..., 1:] & at[..., :-1]).mean(axis=(0, 2)) > CLIPPED_SHARE
    return held


def _implausible(signal: NDArray[np.float32], units: str) -> NDArray[np.bool_]:
    """bool, (channel,): whether the signal varies less or more than EEG does in that unit."""
    if units not in VOLTS:
        return np.zeros(signal.shape[1], dtype=np.bool_)
    least, most = PLAUSIBLE_V
    volts = np.median(signal.std(axis=-1, dtype=np.float64), axis=0) * VOLTS[units]
    outside: NDArray[np.bool_] = (volts < least) | (volts > most)
    return outside


def hints(found: Iterable[Mapping[str, Sequence[int]]], ch_names: Sequence[str]) -> Iterator[str]:
    """A line for each thing that is wrong, over what was found in every shard."""
    shards = list(found)
    for what, remark in REMARKS.items():
        counts = Counter(channel for shard in shards for channel in shard.get(what, ()))
        if not counts:
            continue
        names = [ch_names[channel] for channel in sorted(counts)]
        most = max(counts.values())
        yield (
            f"{_shown(names, len(ch_names))}: {remark} in the first trials of {most} of "
            f"{len(shards)} shards"
        )


def _shown(names: Sequence[str], n_channels: int) -> str:
    if len(names) == n_channels:
        return "all channels"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"channel{'s'[: len(names) - 1]} {', '.join(names[:SHOWN])}{more}"

"""What the features of single channels share: the recorded samples, and the column's shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec
from eegstore_plugins.sums import early_totals, eighth

Signals = NDArray[np.float32]

INNER_BYTES: Final = 1 << 20
FLOAT32_MAX: Final = np.finfo(np.float32).max


def over_valid_samples(
    block: Block, n_features: int, compute: Callable[[Signals], NDArray[np.float64]]
) -> NDArray[np.float32]:
    """Compute features of each channel from the samples that were recorded, without the padding.

    Parameters
    ----------
    block
        Trials; those of equal ``n_valid`` are computed together, as many as the cache holds.
    n_features
        Number of features a signal.
    compute
        From signals, float32 (signal, time), to features, float64 (feature, signal), where each
        signal's features are the same bytes whatever signals come with it.

    Returns
    -------
    float32, (trial, channel, feature). A trial without samples has 0; a magnitude that float32
    cannot hold is its largest.
    """
    eeg = block["eeg"]
    n_trials, n_channels, _ = eeg.shape
    result = np.zeros((n_trials, n_channels, n_features), dtype=np.float32)
    for some, n_valid in _equally_long(block.n_valid, 4 * n_channels):
        signals = eeg[some, :, :n_valid]
        flags = signals.flags
        if not (flags.c_contiguous and flags.aligned and signals.dtype == np.float32):
            signals = np.require(signals, np.float32, ["C", "A"])  # as compiled loops take them
        # NaN and Inf give NaN, without a warning; what is too large becomes Inf first.
        with np.errstate(invalid="ignore", over="ignore"):
            features = compute(signals.reshape(-1, n_valid))
            result[some] = features.T.reshape(-1, n_channels, n_features)
    return result.clip(-FLOAT32_MAX, FLOAT32_MAX, out=result)


def _equally_long(
    n_valid: NDArray[np.int64], sample_bytes: int
) -> Iterator[tuple[slice | NDArray[np.int64], int]]:
    """Trials with as many samples, as many as the cache holds, and how many samples they have."""
    lengths = set(n_valid.tolist())
    for length in sorted(lengths - {0}):
        step = max(1, INNER_BYTES // (sample_bytes * length))
        if len(lengths) == 1:  # a slice copies nothing
            for start in range(0, len(n_valid), step):
                yield slice(start, start + step), length
        else:
            trials = np.flatnonzero(n_valid == length)
            for start in range(0, len(trials), step):
                yield trials[start : start + step], length


def means(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each signal, from float64 (time, signal)."""
    return early_totals(samples, eighth(len(samples))) / len(samples)


def features_spec(eeg: ColumnSpec, units: Mapping[str, str]) -> ColumnSpec:
    """Describe a column of features of each channel, ``units`` giving their names and units."""
    return ColumnSpec(
        dims=("channel", "feature"),
        shape=(eeg.shape[0], len(units)),
        dtype="float32",
        coords={"channel": eeg.coords["channel"], "feature": list(units)},
        attrs={"feature_units": list(units.values())},
    )


def power_of_unit(unit: str, exponent: int) -> str:
    """A signal's unit raised to 0, 1 or 2, ``"1"`` being none: ``uV`` and 2 give ``uV^2``."""
    if exponent == 0 or unit in ("", "1"):
        return "1"
    return unit if exponent == 1 else f"{unit}^{exponent}"

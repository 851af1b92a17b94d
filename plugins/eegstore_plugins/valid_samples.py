"""What the features of single channels share: the recorded samples, and the column's shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec
from eegstore_plugins.sums import early_totals, eighth

Signals = NDArray[np.float32]

INNER_BYTES: Final = 1 << 20
FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


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
    lengths = set(block.n_valid.tolist())
    for n_valid in sorted(lengths - {0}):
        trials = np.flatnonzero(block.n_valid == n_valid)
        step = max(1, INNER_BYTES // (4 * n_channels * n_valid))
        for start in range(0, len(trials), step):
            some: Any = trials[start : start + step]
            if len(lengths) == 1:  # a slice copies nothing
                some = slice(start, start + step)
            signals = np.require(eeg[some, :, :n_valid], np.float32, ["C", "A"])
            with np.errstate(invalid="ignore"):  # NaN and Inf give NaN, without a warning
                features = compute(signals.reshape(-1, n_valid))
                np.clip(features, -FLOAT32_MAX, FLOAT32_MAX, out=features)
                result[some] = features.T.reshape(-1, n_channels, n_features)
    return result


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

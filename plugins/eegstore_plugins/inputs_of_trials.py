"""A trial's input as one vector, or as channels of samples, without its padding."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, RecipeError

EEG: Final = "eeg"
USUAL_FEATURES: Final = 2048
MOST_FEATURES: Final = 8192
MOST_BINS: Final = 64


def n_bins_of(n_channels: int, n_times: int, n_bins: int | None) -> int:
    """How many means over time a channel has; by default some, so that the features are few."""
    if n_bins is not None:
        return min(n_bins, n_times)
    return max(1, min(MOST_BINS, n_times, USUAL_FEATURES // n_channels))


def window(times: NDArray[np.float64], tmin: float | None, tmax: float | None) -> slice:
    """The samples from ``tmin`` up to, and without, ``tmax``, both in s from stimulus onset."""
    start = 0 if tmin is None else int(np.searchsorted(times, tmin))
    stop = len(times) if tmax is None else int(np.searchsorted(times, tmax))
    return slice(start, stop)


def checked_window(
    name: str, spec: ColumnSpec, tmin: float | None, tmax: float | None
) -> tuple[int, int]:
    """Channels and samples of the EEG within a window.

    Raises
    ------
    RecipeError
        Where no sample is within it.
    """
    times = np.asarray(spec.coords["time"], np.float64)
    n_times = len(times[window(times, tmin, tmax)])
    if not n_times:
        raise RecipeError(
            f"extractor {name!r}: no sample is within tmin = {tmin} and tmax = {tmax}; the trials "
            f"last from {times[0]:g} to {times[-1]:g} s"
        )
    return spec.shape[0], n_times


def n_features(
    name: str, column: str, spec: ColumnSpec, tmin: float | None, tmax: float | None,
    n_bins: int | None,
) -> int:  # fmt: skip
    """How many features a trial has.

    Raises
    ------
    RecipeError
        Where they are more than a matrix of all their products should have.
    """
    if column == EEG:
        n_channels, n_times = checked_window(name, spec, tmin, tmax)
        count = n_channels * n_bins_of(n_channels, n_times, n_bins)
        advice = "take fewer n_bins"
    else:
        count, advice = math.prod(spec.shape), "take an input of fewer"
    if count > MOST_FEATURES:
        raise RecipeError(
            f"extractor {name!r}: {column} has {count:,} features a trial, expected at most "
            f"{MOST_FEATURES:,}; {advice}"
        )
    return count


def features(
    block: Block, column: str, tmin: float | None, tmax: float | None, n_bins: int | None
) -> NDArray[np.float32]:
    """float32, (row, feature): the EEG's means over bins of time, channel by channel.

    The bins are of equal length to a sample. Padding counts as 0. Any other column is laid out
    as it is.
    """
    if column != EEG:
        values: NDArray[np.float32] = np.asarray(block[column], np.float32)
        return values.reshape(block.n_rows, -1)
    eeg = samples(block, column, tmin, tmax)
    n_rows, n_channels, n_times = eeg.shape
    means = eeg.reshape(-1, n_times) @ _averaging(n_times, n_bins_of(n_channels, n_times, n_bins))
    return means.reshape(n_rows, -1)


def samples(
    block: Block, column: str, tmin: float | None, tmax: float | None
) -> NDArray[np.float32]:
    """float32, (row, channel, time): a column of two axes; the EEG within a window, padding 0."""
    values: NDArray[np.float32] = np.asarray(block[column], np.float32)
    if column != EEG:
        return values
    some = window(block.times, tmin, tmax)
    padding = np.arange(len(block.times))[some] >= block.n_valid[:, np.newaxis]
    values = values[:, :, some]
    if padding.any():
        return np.where(padding[:, np.newaxis], np.float32(0), values)
    return values


@lru_cache(maxsize=16)
def _averaging(n_times: int, n_bins: int) -> NDArray[np.float32]:
    """float32, (time, bin): its product with a signal is the mean of each bin."""
    bin_of = np.arange(n_times) * n_bins // n_times
    member = bin_of[:, np.newaxis] == np.arange(n_bins)
    weights: NDArray[np.float64] = member / member.sum(axis=0)
    return weights.astype(np.float32)

"""Averages over trials with confidence intervals: evoked responses and power spectra."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore.report.material import Material, Rows

CONFIDENCE: Final = 0.95
MAX_HZ: Final = 70.0
MIN_SAMPLES: Final = 16
SHORT_SHARE: Final = 0.05

Values = NDArray[np.float64]


class Average(NamedTuple):
    """A mean over trials.

    Attributes
    ----------
    n_trials
        int64: trials that are in it, at each place.
    mean
        float64: NaN where no trial is.
    margin
        float64: half the width of the 95 % confidence interval by Student's t, trials being
        independent; NaN where there is one trial or none.
    """

    n_trials: NDArray[np.int64]
    mean: Values
    margin: Values


class _Sums:
    """Count, sum and sum of squares of what is finite, by group."""

    def __init__(self, n_groups: int, shape: tuple[int, ...]) -> None:
        self.count = np.zeros((n_groups, *shape), dtype=np.int64)
        self.total = np.zeros((n_groups, *shape))
        self.squares = np.zeros((n_groups, *shape))

    def add(self, values: Values, group: NDArray[np.int64]) -> None:
        """Add rows of values, each to its group."""
        for one in np.unique(group).tolist():
            rows = values[group == one]
            known = np.isfinite(rows)
            rows = np.where(known, rows, 0.0)
            self.count[one] += known.sum(axis=0)
            self.total[one] += rows.sum(axis=0)
            self.squares[one] += np.square(rows).sum(axis=0)

    def average(self) -> Average:
        """Mean and margin."""
        from scipy.special import stdtrit

        n = self.count
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.total / n
            variance = np.maximum(self.squares - n * np.square(mean), 0.0) / (n - 1)
            margin = stdtrit(np.maximum(n - 1, 1), (1 + CONFIDENCE) / 2) * np.sqrt(variance / n)
        return Average(n, mean, np.where(n > 1, margin, np.nan))


def evoked(material: Material, rows: Rows, group: NDArray[np.int64], n_groups: int) -> Average:
    """The average response of each group: (group, channel, time), in the unit that is shown."""
    sums = _Sums(n_groups, (len(material.channels), len(material.times)))
    for part, eeg in material.signals(rows):
        sums.add(eeg, group[part])
    return sums.average()


class Spectra(NamedTuple):
    """Power of each group by frequency.

    Attributes
    ----------
    frequencies
        float64, (frequency,), in Hz.
    power
        (group, frequency), in dB of the squared unit a Hz: of each trial the density averaged
        over channels, then its logarithm averaged over trials.
    n_samples
        Samples of each trial that are used.
    """

    frequencies: Values
    power: Average
    n_samples: int


def spectra(
    material: Material, rows: Rows, group: NDArray[np.int64], n_groups: int
) -> Spectra | None:
    """Power spectral densities by Welch's method; None where the trials are too short.

    Segments are a second long, or the trial where that is shorter, half overlapping, with a Hann
    window, their means removed. Trials shorter than most are left out. Follows Welch (1967),
    https://doi.org/10.1109/TAU.1967.1161901.
    """
    n_samples = _usual_length(material, rows)
    if n_samples < MIN_SAMPLES:
        return None
    frequencies = _frequencies(material, n_samples)
    if len(frequencies) < 2:
        return None
    sums = _Sums(n_groups, (len(frequencies),))
    for part, eeg in material.signals(rows):
        sums.add(_decibels(material, eeg[..., :n_samples], len(frequencies)), group[part])
    return Spectra(frequencies, sums.average(), n_samples)


def _usual_length(material: Material, rows: Rows) -> int:
    """A length, in samples, that nearly every trial has."""
    lengths = material.narrow("n_samples")
    if lengths is None or not len(rows):
        return len(material.times)
    shortest = np.quantile(lengths[rows], SHORT_SHARE, method="lower")
    return int(min(shortest, len(material.times)))


def _segment(material: Material, n_samples: int) -> int:
    return min(n_samples, max(MIN_SAMPLES, round(material.sfreq)))


def _frequencies(material: Material, n_samples: int) -> Values:
    """Those that are shown: above 0, below half the sampling rate, and to 70 Hz at most."""
    segment = _segment(material, n_samples)
    every = np.arange(1, segment // 2 + 1, dtype=np.float64) * material.sfreq / segment
    return every[(every <= MAX_HZ) & (every < material.sfreq / 2 - 1e-9)]


def _decibels(material: Material, eeg: Values, n_frequencies: int) -> Values:
    """float64, (trial, frequency): NaN where a trial is not whole, or has no power."""
    from scipy.signal import welch

    segment = _segment(material, eeg.shape[-1])
    _, density = welch(eeg, material.sfreq, nperseg=segment, detrend="constant")
    with np.errstate(divide="ignore"):
        power = 10 * np.log10(density.mean(axis=1)[:, 1 : n_frequencies + 1])
    return np.asarray(np.where(np.isfinite(power), power, np.nan), dtype=np.float64)

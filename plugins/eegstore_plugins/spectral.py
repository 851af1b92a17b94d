"""Features of each channel in the frequency domain, all from one Fourier transform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, InputError, hookimpl
from eegstore_plugins.logarithms import log
from eegstore_plugins.sums import by_fours, eighth, loops, totals
from eegstore_plugins.valid_samples import (
    Signals,
    features_spec,
    means,
    over_valid_samples,
    power_of_unit,
)

Band = tuple[float, float]
WindowName = Literal["hann", "hamming", "blackman", "boxcar"]

BANDS_HZ: Final[Mapping[str, Band]] = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 45.0),
}
# A periodic window is the sum of (-1)^k a_k cos(2 pi k t / n) over its coefficients a_k.
WINDOWS: Final[Mapping[WindowName, tuple[float, ...]]] = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "boxcar": (1.0,),
}
# Units after those of the bands; "" follows the signal.
SHAPE_UNITS: Final[Mapping[str, str]] = {
    "entropy": "1",
    "peak_hz": "Hz",
    "edge95_hz": "Hz",
    "aperiodic_slope": "1",
}
EDGE: Final = 0.95
SIGNALS_AT_ONCE: Final = 256
# The samples are float32: power this far below a signal's total is their rounding.
ROUNDING: Final = float(np.finfo(np.float32).eps) ** 2


def _window(name: WindowName, n_times: int) -> NDArray[np.float64]:
    angle = 2 * np.pi * np.arange(n_times) / n_times
    terms = [(-1) ** k * a * np.cos(k * angle) for k, a in enumerate(WINDOWS[name])]
    window: NDArray[np.float64] = np.sum(terms, axis=0)
    return window


@dataclass(frozen=True, eq=False)
class _Grid:
    """What the options come to at one trial length.

    Parameters
    ----------
    taper
        float64, (time,): the window, scaled so that a bin of the transform has its power as
        squared magnitude, in the signal's unit squared.
    bins
        The bins of the transform within the range.
    bands
        int64, (band, 2): the first bin of each band and the one after its last, counted within
        the range.
    freqs
        float64, (bin,): frequencies within the range, in Hz.
    slope_weights
        float64, (bin,): their product with log power is the slope of its least-squares line on
        log frequency.
    most_entropy
        That of a flat spectrum, in nats.
    """

    taper: NDArray[np.float64]
    bins: slice
    bands: NDArray[np.int64]
    freqs: NDArray[np.float64]
    slope_weights: NDArray[np.float64]
    most_entropy: float

    @property
    def n_features(self) -> int:
        """Features of a signal."""
        return 2 * len(self.bands) + len(SHAPE_UNITS)


@lru_cache(maxsize=1024)
def _grid(window: WindowName, bands_hz: tuple[Band, ...], n_times: int, sfreq: float) -> _Grid:
    freqs = np.arange(n_times // 2 + 1) * sfreq / n_times
    edges = np.searchsorted(freqs, bands_hz).astype(np.int64)
    first, last = int(edges.min()), int(edges.max())
    taper = _window(window, n_times)
    energy = np.square(taper).sum() or 1.0
    log_freqs = np.log(freqs[first:last])
    centred = log_freqs - log_freqs.sum() / max(len(log_freqs), 1)
    return _Grid(
        taper=taper * np.sqrt(2 / (n_times * energy)),
        bins=slice(first, last),
        bands=edges - first,
        freqs=freqs[first:last],
        slope_weights=centred / (np.square(centred).sum() or 1.0),
        most_entropy=float(np.log(max(last - first, 2))),
    )


def _tapered(signals: Signals, taper: NDArray[np.float64]) -> NDArray[np.float64]:
    samples = np.array(signals.T, dtype=np.float64, order="C")
    tapered: NDArray[np.float64] = (signals - means(samples)[:, np.newaxis]) * taper
    return tapered


def _power(spectrum: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Power of each bin, float64 (bin, signal)."""
    power: NDArray[np.float64] = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    return np.ascontiguousarray(power.T)


def _scale(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """What power is divided by: its total, but for that of a flat signal."""
    return np.where(total == 0, 1.0, total)


def _below(power: NDArray[np.float64], edge: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many bins, but for the last, have less power up to them than the edge, int64 (signal,).

    Four bins are added at a time, and one by one where the edge lies among them.
    """
    n_bins, n_signals = power.shape
    signal = np.arange(n_signals)
    a, b, c, d = power[: n_bins // 4 * 4].reshape(-1, 4, n_signals).transpose(1, 0, 2)
    up_to = np.add.accumulate((a + b) + (c + d), axis=0)
    fours = np.count_nonzero(np.logical_and.accumulate(up_to < edge, axis=0), axis=0)
    before = np.vstack([np.zeros(n_signals), up_to])[fours, signal]
    padded = np.vstack([power, np.zeros((4, n_signals))])
    among = padded[4 * fours + np.arange(4)[:, np.newaxis], signal]
    up_to = np.add.accumulate(np.vstack([before, among]), axis=0)[1:]
    ones = np.count_nonzero(np.logical_and.accumulate(up_to < edge, axis=0), axis=0)
    below: NDArray[np.int64] = np.minimum(4 * fours + ones, n_bins - 1)
    return below


def _power_totals(power: NDArray[np.float64], grid: _Grid) -> NDArray[np.float64]:
    """Sum over each band, total, and the bins of the peak and the edge: float64 (sum, signal)."""
    total = totals(power, eighth(len(power)))
    below = _below(power, EDGE * total)
    bands = [by_fours(power[low:high]) for low, high in grid.bands]
    return np.stack([*bands, total, power.argmax(axis=0), below])


def _log_totals(
    power: NDArray[np.float64], logs: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sums of power times its logarithm, and of the logarithm times weights."""
    width = eighth(len(power))
    terms = power * logs, weights[:, np.newaxis] * logs
    return np.stack([totals(term, width) for term in terms])


def _sums(signals: Signals, grid: _Grid) -> NDArray[np.float64]:
    """What the features are made of, float64 (sum, signal)."""
    # numpy's transform takes one signal at a time: no result depends on its neighbours.
    spectrum = np.fft.rfft(_tapered(signals, grid.taper), axis=-1)
    power = _power(spectrum[:, grid.bins])
    of_power = _power_totals(power, grid)
    scale = _scale(of_power[len(grid.bands)])
    logs = log(np.maximum(power, ROUNDING * scale))
    of_logs = _log_totals(power, logs, grid.slope_weights)
    return np.concatenate([of_power, log(scale)[np.newaxis], of_logs])


def _compiled_features(signals: Signals, grid: _Grid, compiled: ModuleType) -> NDArray[np.float64]:
    """float64 (signal, feature), by compiled loops, of as many signals at once as a cache holds."""
    n_signals, n_times = signals.shape
    features = np.empty((n_signals, grid.n_features))
    tapered = np.empty((SIGNALS_AT_ONCE, n_times))
    spectrum = np.empty((SIGNALS_AT_ONCE, n_times // 2 + 1), np.complex128)
    for start in range(0, n_signals, SIGNALS_AT_ONCE):
        some = slice(start, start + SIGNALS_AT_ONCE)
        n = len(signals[some])
        compiled.centred_and_tapered(signals[some], grid.taper, tapered[:n])
        np.fft.rfft(tapered[:n], axis=-1, out=spectrum[:n])
        compiled.spectral_features(
            spectrum[:n], grid.bins.start, grid.bands, grid.freqs, grid.slope_weights,
            grid.most_entropy, EDGE, ROUNDING, features[some],
        )  # fmt: skip
    return features


def _features(signals: Signals, grid: _Grid) -> NDArray[np.float64]:
    """All features, float64 (feature, signal), in the order of ``Spectral.describe``."""
    if not len(grid.freqs):
        return np.zeros((grid.n_features, len(signals)))
    compiled = loops.for_samples(signals.size)
    if compiled is not None:
        return _compiled_features(signals, grid, compiled).T
    sums, n_bands = _sums(signals, grid), len(grid.bands)
    bands, (total, peak, edge, log_scale, power_log, slope) = sums[:n_bands], sums[n_bands:]
    scale = _scale(total)
    entropy = (log_scale - power_log / scale) / grid.most_entropy
    peak_hz, edge_hz = grid.freqs[np.stack([peak, edge]).astype(np.int64)]
    shape = np.stack([entropy, peak_hz, edge_hz, slope])
    return np.concatenate([bands, bands / scale, shape * np.sign(total)])


@dataclass(frozen=True)
class Spectral:
    """Power of each channel in frequency bands, and the shape of its spectrum.

    Parameters
    ----------
    bands_hz
        Name of a band to its edges; a band has the bins from ``low`` up to, not with, ``high``.
        The range of the features that belong to no band is from the lowest to the highest edge.
    window
        Window over the recorded samples, whose mean is removed first.

    Notes
    -----
    The spectrum is the modified periodogram (one-sided, periodic window) of a trial's n recorded
    samples: bins of sfreq / n, density times bin width, in float64. Then, with P the power of the
    bins in range and K their number:

    - ``{band}_power``, in the signal's unit squared: sum of P over the band;
      ``{band}_relative``: the same divided by the sum over the range
    - ``entropy``: -sum p log p / log K with p = P / sum P: 0 for a line, 1 for a flat spectrum
      (Inouye et al. 1991)
    - ``peak_hz``: the bin of most power, the lowest of equals
    - ``edge95_hz``: the lowest bin up to which 95 % of the range's power lies
    - ``aperiodic_slope``: least-squares slope of log P on log frequency over all bins of the
      range, near -1 for pink noise; P below the rounding of float32 samples counts as that

    All are 0 for a flat signal, and where a trial has too few samples for a bin in range; NaN where
    a sample is NaN or infinite.
    """

    name: ClassVar[str] = "spectral"
    version: ClassVar[str] = "4"
    table: ClassVar[Literal["trials", "stimuli"]] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)

    bands_hz: Mapping[str, Band] = field(
        default_factory=lambda: dict(BANDS_HZ),
        metadata={
            "description": "Frequency bands: name = [low, high].",
            "min_length": 1,
            "json_schema_extra": {"unit": "Hz"},
        },
    )
    window: WindowName = field(
        default="hann", metadata={"description": "Window over the recorded samples of a trial."}
    )

    def __post_init__(self) -> None:
        for band, (low, high) in self.bands_hz.items():
            if not 0 < low < high:
                raise ValueError(
                    f"bands_hz: band {band!r} is [{low:g}, {high:g}] Hz, expected 0 < low < high"
                )

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        eeg = inputs["eeg"]
        nyquist = eeg.attrs["sfreq"] / 2
        for band, (_, high) in self.bands_hz.items():
            if high > nyquist:
                raise InputError(
                    f"spectral: band {band!r} ends at {high:g} Hz, expected at most the Nyquist "
                    f"frequency of the recording, {nyquist:g} Hz; set bands_hz"
                )
        units = {f"{band}_power": power_of_unit(eeg.units, 2) for band in self.bands_hz}
        units |= {f"{band}_relative": "1" for band in self.bands_hz}
        return features_spec(eeg, units | dict(SHAPE_UNITS))

    def __call__(self, block: Block) -> NDArray[np.float32]:
        """Compute the features: float32, (trial, channel, feature)."""
        bands_hz = tuple(self.bands_hz.values())

        def features(signals: Signals) -> NDArray[np.float64]:
            grid = _grid(self.window, bands_hz, signals.shape[-1], block.sfreq)
            return _features(signals, grid)

        return over_valid_samples(block, 2 * len(bands_hz) + len(SHAPE_UNITS), features)


@hookimpl
def eegstore_extractors() -> list[type[Spectral]]:
    """The extractor of this module."""
    return [Spectral]

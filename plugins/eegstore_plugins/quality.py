"""How good the signal of each trial is, in parts and as one score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, hookimpl
from eegstore_plugins.valid_samples import Signals, over_valid_samples

Values = NDArray[np.float64]
Numbers = NDArray[np.int64]

# What a signal's unit is in uV; others say nothing of the amplitude.
MICROVOLTS: Final[Mapping[str, float]] = {
    "V": 1e6, "mV": 1e3, "uV": 1.0, "\u00b5V": 1.0, "\u03bcV": 1.0, "nV": 1e-3
}  # fmt: skip
PARTS: Final = (
    *("flat", "clipped", "line_noise", "amplitude", "kurtosis", "emg", "autocorrelation"),
)
CLIPPED_STEPS: Final = 0.02
FLAT_STEPS: Final = 0.5
SIGNALS_AT_ONCE: Final = 256  # as many as the cache holds
LOWEST_HZ: Final = 1.0
EMG_HZ: Final = (30.0, 100.0)
# Half widths in Hz, or in bins where those are wider: what a line's power spreads over, where it
# has ended, and how far its neighbours reach. A window of Hann spreads a line over two bins.
LINE: Final = (1.0, 1.5)
CLEAR: Final = (2.0, 2.5)
AROUND: Final = (6.0, 6.5)


def _bounded(description: str, unit: str, **bounds: float) -> dict[str, Any]:
    return {"description": description, "json_schema_extra": {"unit": unit}, **bounds}


class Bins(NamedTuple):
    """The bins of a transform that the parts look at, each bool (bin,).

    Attributes
    ----------
    lines
        Of each mains frequency below the Nyquist frequency: its own bins and its neighbours.
    muscle, whole
        Those of muscles, and all that they are compared with; mains left out.
    """

    lines: tuple[tuple[NDArray[np.bool_], NDArray[np.bool_]], ...]
    muscle: NDArray[np.bool_]
    whole: NDArray[np.bool_]


@lru_cache(maxsize=1024)
def bins_of(line_hz: tuple[float, ...], n_times: int, sfreq: float) -> Bins:
    """The bins at one trial length."""
    step = sfreq / n_times
    freqs = np.arange(n_times // 2 + 1) * step
    line, clear, around = (max(hz, n_bins * step) for hz, n_bins in (LINE, CLEAR, AROUND))
    lines, mains = [], np.zeros(len(freqs), dtype=np.bool_)
    for mains_hz in line_hz:
        away = np.abs(freqs - mains_hz)
        own, near = away <= line, (away > clear) & (away <= around) & (freqs >= LOWEST_HZ)
        if mains_hz < sfreq / 2 and own.any() and near.any():
            lines.append((own, near))
            mains |= away <= clear
    whole = (freqs >= LOWEST_HZ) & (freqs < EMG_HZ[1]) & ~mains
    return Bins(tuple(lines), whole & (freqs >= EMG_HZ[0]), whole)


def _ratio(numerator: Values, denominator: Values) -> Values:
    """The quotient, 0 where the denominator is 0."""
    known = denominator != 0
    ratio: Values = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=known)
    return ratio


def _line_noise(power: Values, bins: Bins) -> Values:
    """float64, (signal,): power at the mains' frequency against its neighbours', in dB."""
    found = np.zeros(len(power))
    for own, near in bins.lines:
        ratio = _ratio(power[:, own].mean(axis=1), power[:, near].mean(axis=1))
        found = np.fmax(found, 10 * np.log10(np.maximum(ratio, 1.0)))
    noise: Values = found + 0 * power.sum(axis=1)  # NaN stays NaN
    return noise


def _still(signals: Signals) -> tuple[Values, Values]:
    """float64, (signal,): shares of the steps between samples that are 0, and 0 at an extreme."""
    still = signals[:, 1:] == signals[:, :-1]
    lowest, highest = signals.min(axis=1, keepdims=True), signals.max(axis=1, keepdims=True)
    at_end = still & ((signals[:, 1:] == lowest) | (signals[:, 1:] == highest))
    n_steps = max(signals.shape[1] - 1, 1)
    return still.sum(axis=1) / n_steps, at_end.sum(axis=1) / n_steps


def measured(signals: Signals, bins: Bins, flat_below: float) -> Values:
    """The parts of each channel, float64 (part, signal), in the signal's unit.

    Parameters
    ----------
    signals
        float32, (signal, time).
    bins
        Bins at this length.
    flat_below
        Peak to peak that is too small for a signal.
    """
    n_times = signals.shape[1]
    x = signals.astype(np.float64)
    y = x - x.mean(axis=1, keepdims=True)
    squares = y * y
    energy = squares.sum(axis=1)
    still, at_end = _still(signals)
    span = x.max(axis=1) - x.min(axis=1)
    flat = (span <= flat_below) | (still > FLAT_STEPS)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_times) / n_times)
    spectrum = np.fft.rfft(y * taper, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    kurtosis = _ratio((squares * squares).sum(axis=1) * n_times, energy * energy)
    return np.stack([
        flat,
        (at_end >= CLIPPED_STEPS) & ~flat,
        _line_noise(power, bins),
        span,
        np.where(energy == 0, 0.0, kurtosis - 3),
        _ratio(power[:, bins.muscle].sum(axis=1), power[:, bins.whole].sum(axis=1)),
        _ratio((y[:, 1:] * y[:, :-1]).sum(axis=1), energy),
    ])  # fmt: skip


def _median(values: Values, used: NDArray[np.bool_]) -> Values:
    """float64, (trial,): the median over the channels that are used, 0 where none is."""
    n_used = np.count_nonzero(used, axis=1)
    ordered = np.sort(np.where(used, values, np.inf), axis=1)
    at = np.stack([(np.maximum(n_used, 1) - 1) // 2, n_used // 2], axis=1)
    middle = np.take_along_axis(ordered, np.minimum(at, values.shape[1] - 1), axis=1)
    return np.where(n_used == 0, 0.0, np.where(n_used[:, None] == 0, 0.0, middle).mean(axis=1))


@dataclass(frozen=True)
class Quality:
    """How good the signal of each trial is: seven parts, and a score from 0 (useless) to 1.

    Of all channels and of the recorded samples alone; all other parts than the first two are of the
    channels that are not flat, and 0 where all are.

    Notes
    -----
    - ``flat``: share of the channels that span no more than ``flat_uv``, or stand still for more
      than half of the steps from sample to sample
    - ``clipped``: share of the channels that stand still at their largest or smallest value for 2 %
      of the steps or more, and are not flat
    - ``line_noise``: mean power within 1 Hz of a mains frequency against that of its neighbours 2
      to 6 Hz away, in dB, at least 0; the worse one of ``line_hz``, median of the channels
    - ``amplitude``: median of the channels' peak to peak, in uV
    - ``kurtosis``: excess kurtosis, 0 for a Gaussian; mean of the channels
    - ``emg``: share of the power from 30 Hz on in that from 1 Hz on, both up to 100 Hz or the
      Nyquist frequency and without the mains; median of the channels. Muscles are strongest there
      (Goncharova et al. 2003, EMG contamination of EEG)
    - ``autocorrelation``: of neighbouring samples; median of the channels. EEG is smooth, noise of
      muscles and electrodes is not; it is nearer to 1 at a higher sampling rate
    - ``score``: the product of what the parts are worth. A part that has a ``max_`` is worth 1 up
      to that, 0 from twice that on, and falls evenly in between; the autocorrelation is worth 1
      from ``min_autocorrelation`` on, and falls evenly to 0 at 0

    Spectra are of the samples less their mean, in a window of Hann. In a unit that is no voltage
    only a channel that stands still is flat, and the amplitude, in that unit, counts for nothing.
    """

    name: ClassVar[str] = "quality"
    version: ClassVar[str] = "1"
    table: ClassVar[Literal["trials", "stimuli"]] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)

    line_hz: tuple[float, ...] = field(
        default=(50.0, 60.0),
        metadata={
            "description": "Frequencies of the mains; those above the Nyquist frequency are left "
            "out.",
            "json_schema_extra": {"unit": "Hz"},
        },
    )
    flat_uv: float = field(
        default=0.5, metadata=_bounded("Peak to peak of a flat channel.", "uV", ge=0)
    )
    max_flat: float = field(
        default=0.25, metadata=_bounded("Share of flat channels that is fine.", "1", gt=0)
    )
    max_clipped: float = field(
        default=0.1, metadata=_bounded("Share of clipped channels that is fine.", "1", gt=0)
    )
    max_line_noise_db: float = field(
        default=20.0, metadata=_bounded("Line noise that is fine.", "dB", gt=0)
    )
    max_amplitude_uv: float = field(
        default=200.0, metadata=_bounded("Median peak to peak that is fine.", "uV", gt=0)
    )
    max_kurtosis: float = field(
        default=5.0, metadata=_bounded("Excess kurtosis that is fine.", "1", gt=0)
    )
    max_emg: float = field(
        default=0.35, metadata=_bounded("Share of power from 30 Hz on that is fine.", "1", gt=0)
    )
    min_autocorrelation: float = field(
        default=0.3, metadata=_bounded("Autocorrelation that is fine.", "1", gt=0, le=1)
    )

    def __post_init__(self) -> None:
        if any(one <= 0 for one in self.line_hz):
            raise ValueError(f"line_hz is {list(self.line_hz)}, expected frequencies above 0")

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        unit = inputs["eeg"].units
        units = ["1", "1", "dB", "uV" if unit in MICROVOLTS else unit, "1", "1", "1", "1"]
        return ColumnSpec(
            dims=("feature",),
            shape=(len(PARTS) + 1,),
            dtype="float32",
            coords={"feature": [*PARTS, "score"]},
            attrs={"feature_units": units},
        )

    def __call__(self, block: Block) -> NDArray[np.float32]:
        """The parts and the score: float32, (trial, feature)."""
        in_uv = MICROVOLTS.get(block.units)
        flat_below = self.flat_uv / in_uv if in_uv else 0.0

        def of_channels(signals: Signals) -> Values:
            bins = bins_of(self.line_hz, signals.shape[1], block.sfreq)
            starts = range(0, len(signals), SIGNALS_AT_ONCE)
            some = [signals[start : start + SIGNALS_AT_ONCE] for start in starts]
            return np.hstack([measured(one, bins, flat_below) for one in some])

        parts = over_valid_samples(block, len(PARTS), of_channels).astype(np.float64)
        parts[..., PARTS.index("amplitude")] *= in_uv or 1.0
        found = self._over_channels(parts)
        found[block.n_valid == 0] = [1.0, *[0.0] * (len(PARTS) - 1)]
        score = self._worth(found, bool(in_uv)).prod(axis=1)
        return np.concatenate([found, score[:, np.newaxis]], axis=1).astype(np.float32)

    def _over_channels(self, parts: Values) -> Values:
        """float64, (trial, part), from that of each channel."""
        flat, clipped, *others = np.moveaxis(parts, -1, 0)
        used = flat == 0
        of_trial = {name: _median(one, used) for name, one in zip(PARTS[2:], others, strict=True)}
        kurtosis = np.where(used, others[PARTS.index("kurtosis") - 2], 0).sum(axis=1)
        of_trial["kurtosis"] = kurtosis / np.maximum(np.count_nonzero(used, axis=1), 1)
        found = np.stack([flat.mean(axis=1), clipped.mean(axis=1), *of_trial.values()], axis=1)
        found[~np.isfinite(parts).all(axis=(1, 2))] = np.nan
        return found

    def _worth(self, parts: Values, is_voltage: bool) -> Values:
        """float64, (trial, part): what each part is worth, from 0 to 1."""
        most = np.array([
            self.max_flat, self.max_clipped, self.max_line_noise_db,
            self.max_amplitude_uv if is_voltage else np.inf, self.max_kurtosis, self.max_emg,
        ])  # fmt: skip
        worth = np.empty_like(parts)
        worth[:, :-1] = 2 - parts[:, :-1] / most
        worth[:, -1] = parts[:, -1] / self.min_autocorrelation
        return np.clip(worth, 0, 1)


@hookimpl
def eegstore_extractors() -> list[type[Quality]]:
    """The extractor of this module."""
    return [Quality]

"""Makes EEG up from a seed: noise, an alpha rhythm, and a response that depends on the label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import Trials, hookimpl

EPOC: Final = (
    *("AF3", "F7", "F3", "FC5", "T7", "P7", "O1"),
    *("O2", "P8", "T8", "FC6", "F4", "F8", "AF4"),
)
POSTERIOR: Final = ("P7", "O1", "O2", "P8")
BACKGROUND_UV: Final = 20.0
ALPHA_HZ: Final = 10.0
ALPHA_WIDTH_HZ: Final = 1.0
ALPHA: Final = 1.5
POSTERIOR_ALPHA: Final = 4.0
PEAK_S: Final = (0.1, 0.5)
PEAK_WIDTH_S: Final = 0.04
TRIALS_A_BLOCK: Final = 50
GROUP_SAMPLES: Final = 1 << 18
MAX_VALUES: Final = 1 << 26


@dataclass(frozen=True)
class Synthetic:
    """EEG of an EPOC-like headset, made up from a seed; no one was recorded.

    A trial is 1/f noise with an alpha rhythm at 10 Hz, strongest over the back of the head, of
    20 uV standard deviation in each channel; and the evoked response of its label, which peaks at
    ``effect`` standard deviations in the strongest channel. Trial i depends on the options and i
    alone, so a source of any length costs no memory. Labels go round from 0 to ``n_classes - 1``.
    """

    name: ClassVar[str] = "synthetic"
    version: ClassVar[str] = "1"

    n_trials: int = field(
        default=200, metadata={"description": "Number of trials.", "ge": 1, "le": 10**7}
    )
    n_channels: int = field(
        default=14,
        metadata={
            "description": "Number of channels; 14 are named as EPOC's.",
            "ge": 1,
            "le": 10**5,
        },
    )
    n_times: int = field(
        default=256,
        metadata={
            "description": "Samples a trial.",
            "ge": 2,
            "le": 10**7,
            "json_schema_extra": {"unit": "sample"},
        },
    )
    sfreq: float = field(
        default=128.0,
        metadata={
            "description": "Sampling rate.",
            "gt": 0,
            "le": 1e6,
            "json_schema_extra": {"unit": "Hz"},
        },
    )
    n_classes: int = field(
        default=10, metadata={"description": "Number of labels.", "ge": 1, "le": 10**6}
    )
    effect: float = field(
        default=1.0,
        metadata={
            "description": "Peak of the evoked response, in standard deviations of the background.",
            "ge": 0,
            "le": 1e6,
            "json_schema_extra": {"unit": "1"},
        },
    )
    seed: int = field(default=0, metadata={"description": "Seed of every value.", "ge": 0})

    def __post_init__(self) -> None:
        held = self.n_channels * self.n_times, self.n_classes * (self.n_channels + self.n_times)
        if max(held) > MAX_VALUES:
            raise ValueError(
                f"{self.n_channels} channels of {self.n_times} samples for {self.n_classes} labels "
                f"are more than {MAX_VALUES} values at once; take fewer"
            )

    def scan(self) -> Trials:
        trial = np.arange(self.n_trials)
        return Trials(
            n_trials=self.n_trials,
            ch_names=self._ch_names,
            sfreq=self.sfreq,
            times=self._times,
            units="uV",
            label=trial % self.n_classes,
            columns={"repetition": trial // self.n_classes, "block": trial // TRIALS_A_BLOCK},
            notice="synthetic EEG: generated from a seed, not recorded from anyone",
        )

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        topography, waveform = self._evoked
        label = np.arange(start, stop) % self.n_classes
        eeg = topography[label, :, None] * waveform[label, None, :]
        for first, background in self._backgrounds(start, stop):
            low, high = max(start, first), min(stop, first + len(background))
            eeg[low - start : high - start] += background[low - first : high - first]
        return eeg

    def _backgrounds(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Noise and rhythm, in uV, by groups of trials that cover a range; with each its first."""
        # A group is drawn whole, from a generator of its own: fast, and the same for any range.
        n_trials = max(1, min(64, GROUP_SAMPLES // (self.n_channels * self.n_times)))
        for group in range(start // n_trials, -(-stop // n_trials)):
            shape = (n_trials, *self._spectrum.shape, 2)
            # Uniform, five times as fast as normal: the transform sums them to as good a noise.
            white = self._generator(1, group).random(shape, dtype=np.float32) - np.float32(0.5)
            shaped = white.view(np.complex64)[..., 0] * self._spectrum
            background = np.fft.irfft(shaped, n=self.n_times)
            yield group * n_trials, background.astype(np.float32, copy=False)

    def _generator(self, *key: int) -> np.random.Generator:
        sequence = np.random.SeedSequence(self.seed, spawn_key=key)
        return np.random.Generator(np.random.SFC64(sequence))

    @property
    def _ch_names(self) -> tuple[str, ...]:
        if self.n_channels == len(EPOC):
            return EPOC
        return tuple(f"ch{number}" for number in range(1, self.n_channels + 1))

    @property
    def _times(self) -> NDArray[np.float64]:
        return np.arange(self.n_times) / self.sfreq

    @cached_property
    def _spectrum(self) -> NDArray[np.float32]:
        """float32, (channel, frequency): the amplitudes that make white noise a background."""
        frequency = np.fft.rfftfreq(self.n_times, 1 / self.sfreq)
        bump = np.exp(-0.5 * ((frequency - ALPHA_HZ) / ALPHA_WIDTH_HZ) ** 2)
        gain = np.where(np.isin(self._ch_names, POSTERIOR), POSTERIOR_ALPHA, ALPHA)
        # A trial's mean drifts like its slowest wave: without, it would give the label away.
        amplitude = (1 + gain[:, None] * bump) / np.sqrt(np.maximum(frequency, frequency[1]))
        # Parseval: waves have two parts and a conjugate, the mean and Nyquist's wave neither.
        wave = np.arange(len(frequency))
        share = np.where((wave > 0) & (2 * wave < self.n_times), 4, 1)
        variance = (share * amplitude**2).sum(axis=1, keepdims=True) / 12 / self.n_times**2
        scaled: NDArray[np.float64] = amplitude * BACKGROUND_UV / np.sqrt(variance)
        return scaled.astype(np.float32)

    @cached_property
    def _evoked(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The labels' responses: topography in uV, (label, channel); waveform, (label, time)."""
        generator = self._generator(0)
        topography = generator.standard_normal((self.n_classes, self.n_channels))
        topography *= self.effect * BACKGROUND_UV / abs(topography).max(axis=1, keepdims=True)
        # In a trial of less than a second the response is squeezed to fit.
        time = self._times / min(1.0, self.n_times / self.sfreq)
        peak = generator.uniform(*PEAK_S, (self.n_classes, 1))
        waveform = np.exp(-0.5 * ((time - peak) / PEAK_WIDTH_S) ** 2)
        return topography.astype(np.float32), waveform.astype(np.float32)


@hookimpl
def eegstore_sources() -> list[type[Synthetic]]:
    """Offer the source."""
    return [Synthetic]

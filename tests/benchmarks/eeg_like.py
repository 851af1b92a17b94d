"""Trials to measure with: noise of 1/f power and an alpha rhythm, quantised as recorders do.

What compresses depends on it: white noise, or values of all mantissas, would flatter no codec.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SFREQ: Final = 128.0
STEP_UV: Final = 0.51  # of an EPOC's converter
OFFSET_UV: Final = 4200.0
BLOCK: Final = 1024
N_STIMULI: Final = 200


def eeg_like(n_trials: int, n_channels: int, n_times: int, seed: int = 0) -> NDArray[np.float32]:
    """float32, (trial, channel, time), in microvolts."""
    rng = np.random.default_rng(seed)
    frequency = np.fft.rfftfreq(n_times, 1 / SFREQ)
    amplitude = np.where(frequency > 45, 0.15, 1.0) / np.sqrt(np.maximum(frequency, 0.5))
    amplitude[frequency < 0.5] = 0
    shape = (n_trials, 10, len(frequency))
    spectrum = rng.standard_normal(shape, "f4") + 1j * rng.standard_normal(shape, "f4")
    sources = np.fft.irfft(spectrum * amplitude.astype("f4"), n_times).astype("f4")
    sources[:, :2] += _alpha(n_trials, n_times, rng) * sources.std()
    weights = rng.standard_normal((n_channels, 10), "f4") * np.linspace(1, 0.3, 10, dtype="f4")
    mixed = weights @ sources
    mixed *= 20 / mixed.std() * np.exp(rng.normal(0, 0.3, (n_trials, 1, 1))).astype("f4")
    mixed += rng.standard_normal(mixed.shape, "f4") * np.float32(1.5)
    mixed += (OFFSET_UV + rng.normal(0, 30, (n_trials, n_channels, 1))).astype("f4")
    return np.round(mixed / np.float32(STEP_UV)) * np.float32(STEP_UV)


def _alpha(n_trials: int, n_times: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A rhythm near 10 Hz of another strength and phase in each trial."""
    each = (n_trials, 1, 1)
    phase = 2 * np.pi * rng.uniform(9, 11, each) * np.arange(n_times) / SFREQ
    wave = np.sin(phase + rng.uniform(0, 2 * np.pi, each)) * rng.gamma(2, 0.4, each)
    return wave.astype("f4")


def write_eeg(file: Path, n_trials: int, n_channels: int, n_times: int) -> NDArray[Any]:
    """Write trials to an ``.npy`` file, a block at a time; the file, mapped."""
    shape = (n_trials, n_channels, n_times)
    target = np.lib.format.open_memmap(file, "w+", np.float32, shape)
    for start in range(0, n_trials, BLOCK):
        n_rows = min(BLOCK, n_trials - start)
        target[start : start + n_rows] = eeg_like(n_rows, n_channels, n_times, seed=start)
    target.flush()
    return np.load(file, mmap_mode="r")


def labels_of(n_trials: int) -> NDArray[np.int64]:
    """int64, (trial,): which image each trial showed."""
    return np.random.default_rng(1).integers(0, N_STIMULI, n_trials)

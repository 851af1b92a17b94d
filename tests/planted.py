"""Trials in which the stimulus' embedding is planted, and what extractors are given of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec

SFREQ = 100.0


@dataclass(frozen=True)
class Planted:
    """EEG that is a random linear map of an embedding, spread over time, plus 1/f noise.

    ``ratio`` is the variance of the signal over that of the noise, in each channel. Each of the
    test stimuli is shown once, and is of a concept of its own; no train trial shows it.
    """

    ratio: float
    n_train: int = 300
    n_test: int = 200
    repetitions: int = 4
    n_channels: int = 12
    n_times: int = 64
    width: int = 16
    seed: int = 0

    @property
    def n_stimuli(self) -> int:
        return self.n_train + self.n_test

    @cached_property
    def stimulus(self) -> NDArray[np.int64]:
        """int64, (trial,): train trials by repetition, then the test trials."""
        train = np.tile(np.arange(self.n_train), self.repetitions)
        return np.concatenate([train, np.arange(self.n_train, self.n_stimuli)])

    @cached_property
    def split(self) -> NDArray[np.str_]:
        return np.where(self.stimulus < self.n_train, "train", "test")

    @cached_property
    def embeddings(self) -> NDArray[np.float32]:
        """float32, (stimulus, embedding): with a mean, as those of CLIP have."""
        rng = np.random.default_rng([self.seed, 1])
        values = rng.standard_normal((self.n_stimuli, self.width)) + 0.5
        return values.astype(np.float32)

    @cached_property
    def eeg(self) -> NDArray[np.float32]:
        """float32, (trial, channel, time), in uV."""
        rng = np.random.default_rng([self.seed, 2])
        n_trials, n_freqs = len(self.stimulus), self.n_times // 2 + 1
        amplitude = 1 / np.sqrt(np.maximum(np.arange(n_freqs), 1))
        waves = rng.standard_normal((n_trials, self.n_channels, n_freqs, 2)) @ [1, 1j]
        noise = np.fft.irfft(waves * amplitude, n=self.n_times)
        noise /= noise.std()
        topography = rng.standard_normal((self.width, self.n_channels))
        # Each dimension has a topography and a smooth waveform of its own.
        peak = rng.uniform(0.1, 0.9, (self.width, 1)) * self.times[-1]
        waveform = np.exp(-0.5 * ((self.times - peak) / 0.05) ** 2)
        signal = np.einsum("se,ec,et->sct", self.embeddings, topography, waveform)
        signal *= np.sqrt(self.ratio) / signal.std()
        return (20 * (signal[self.stimulus] + noise)).astype(np.float32)

    @property
    def times(self) -> NDArray[np.float64]:
        return np.arange(self.n_times) / SFREQ

    @property
    def ch_names(self) -> tuple[str, ...]:
        return tuple(f"ch{number}" for number in range(self.n_channels))

    def specs(self) -> dict[str, ColumnSpec]:
        """What the extractor describes its column from."""
        eeg = ColumnSpec(
            ("channel", "time"), (self.n_channels, self.n_times), "float32",
            {"channel": self.ch_names, "time": self.times.tolist()}, "uV",
            {"sfreq": SFREQ, "ch_types": ["eeg"] * self.n_channels},
        )  # fmt: skip
        narrow = {name: ColumnSpec((), (), "int64") for name in ("stimulus", "fold")}
        target = ColumnSpec(("feature",), (self.width,), "float32", units="1")
        split = ColumnSpec((), (), "str")
        return {"eeg": eeg, **narrow, "split": split, "stimuli/clip_image": target}

    def block(self, rows: NDArray[np.int64], fold: NDArray[np.int64] | None = None) -> Block:
        """Some trials, with all that ``fit`` reads."""
        stimulus = self.stimulus[rows]
        columns = {
            "eeg": self.eeg[rows],
            "stimulus": stimulus,
            "split": self.split[rows],
            "fold": np.full(len(rows), -1) if fold is None else fold[rows],
            "stimuli/clip_image": self.embeddings[stimulus],
            "stimuli/content_id": np.array([f"{one:064x}" for one in stimulus]),
        }
        return Block(columns, 0, len(rows), sfreq=SFREQ, times=self.times, ch_names=self.ch_names)

    def blocks(self, rows: NDArray[np.int64], n_rows: int = 50) -> Iterator[Block]:
        for start in range(0, len(rows), n_rows):
            yield self.block(rows[start : start + n_rows])

    @property
    def train(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.split == "train")

    @property
    def test(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.split == "test")


def top_5(predicted: NDArray[np.float32], gallery: NDArray[np.float32], truth: NDArray) -> float:
    """The share of rows whose own vector is among the 5 of the gallery that are nearest."""
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (predicted, gallery)]
    scores = unit[0] @ unit[1].T
    own = scores[np.arange(len(truth)), truth]
    return float(((scores > own[:, np.newaxis]).sum(axis=1) < 5).mean())

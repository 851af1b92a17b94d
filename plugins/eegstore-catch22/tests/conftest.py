"""Blocks of trials, as the host would hand them over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from eegstore import Block, ColumnSpec

CH_NAMES = ("Fz", "Cz", "Pz")


@pytest.fixture
def eeg() -> np.ndarray:
    """float32, (trial, channel, time): 9 trials of random walks, in microvolts."""
    steps = np.random.default_rng(3).standard_normal((9, 3, 200))
    return (steps.cumsum(axis=2) + 20).astype(np.float32)


@pytest.fixture
def block() -> Callable[..., Block]:
    """Make a block of some trials, of which all samples are recorded unless said otherwise."""

    def make(eeg: np.ndarray, n_valid: list[int] | None = None) -> Block:
        lengths = [eeg.shape[2]] * len(eeg) if n_valid is None else n_valid
        return Block(
            {"eeg": eeg}, 0, len(eeg), n_valid=np.array(lengths), sfreq=128.0,
            times=np.arange(eeg.shape[2]) / 128, ch_names=CH_NAMES,
        )  # fmt: skip

    return make


@pytest.fixture
def inputs() -> dict[str, ColumnSpec]:
    """What the trials' EEG is described as."""
    coords = {"channel": list(CH_NAMES), "time": (np.arange(200) / 128).tolist()}
    spec = ColumnSpec(("channel", "time"), (3, 200), "float32", coords, "uV", {"sfreq": 128.0})
    return {"eeg": spec}

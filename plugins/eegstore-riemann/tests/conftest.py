"""Blocks of trials, as the host would hand them over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from eegstore import Block, ColumnSpec

CH_NAMES = ("Fz", "Cz", "Pz", "Oz")


@pytest.fixture
def eeg() -> np.ndarray:
    """float32, (trial, channel, time): 12 trials of mixed sources, in microvolts."""
    chance = np.random.default_rng(5)
    mixing = chance.standard_normal((12, 4, 4)) + 3 * np.eye(4)
    return (10 * mixing @ chance.standard_normal((12, 4, 128)) + 4).astype(np.float32)


@pytest.fixture
def block() -> Callable[..., Block]:
    """Make a block of some trials, of which all samples are recorded unless said otherwise."""

    def make(eeg: np.ndarray, n_valid: list[int] | None = None, start: int = 0) -> Block:
        lengths = [eeg.shape[2]] * len(eeg) if n_valid is None else n_valid
        return Block(
            {"eeg": eeg}, start, start + len(eeg), n_valid=np.array(lengths), sfreq=128.0,
            times=np.arange(eeg.shape[2]) / 128, ch_names=CH_NAMES,
        )  # fmt: skip

    return make


@pytest.fixture
def inputs() -> dict[str, ColumnSpec]:
    """What the trials' EEG is described as."""
    coords = {"channel": list(CH_NAMES), "time": (np.arange(128) / 128).tolist()}
    spec = ColumnSpec(("channel", "time"), (4, 128), "float32", coords, "uV", {"sfreq": 128.0})
    return {"eeg": spec}

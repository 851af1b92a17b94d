"""Channels that look wrong are told, by name, and nothing is said of sound ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import eegstore
from eegstore.quality import doubts, hints
from samples import recipe, write_npy

CHANNELS = ("F3", "P7", "O1", "Cz")


def noise(microvolts: float = 10.0) -> NDArray[np.float32]:
    signal = np.random.default_rng(0).standard_normal((20, 4, 128)) * microvolts
    return signal.astype(np.float32)


def looked_at(eeg: NDArray[np.float32], units: str = "uV") -> dict[str, list[int]]:
    return doubts(eeg, np.full(len(eeg), eeg.shape[-1]), units)


@pytest.mark.parametrize("units", ["uV", "µV", "1"])
def test_noise_of_ten_microvolts_is_sound(units: str) -> None:
    assert looked_at(noise(), units) == {}
    assert looked_at(noise() * np.float32(1e-6), "V") == {}


def test_an_offset_does_not_matter() -> None:
    assert looked_at(noise() + np.float32(4300)) == {}


def test_a_channel_of_one_value_a_trial_is_flat() -> None:
    eeg = noise()
    eeg[:, 1] = np.arange(20)[:, None]
    assert looked_at(eeg) == {"flat": [1]}
    eeg[3, 1, 5] += 1
    assert "flat" not in looked_at(eeg)


def test_a_channel_cut_at_its_range_is_clipped() -> None:
    eeg = noise()
    eeg[:, 2] = np.clip(eeg[:, 2], -100, 8)
    assert looked_at(eeg) == {"clipped": [2]}
    low = noise()
    low[:, 0] = np.clip(low[:, 0], -8, 100)
    assert looked_at(low) == {"clipped": [0]}


def test_integers_of_a_fine_enough_step_are_not_clipped() -> None:
    assert looked_at(np.round(noise())) == {}


@pytest.mark.parametrize(("factor", "units"), [(1e6, "uV"), (1e-4, "uV"), (1, "V"), (1, "nV")])
def test_a_scale_that_no_scalp_gives_is_implausible(factor: float, units: str) -> None:
    assert looked_at(noise() * np.float32(factor), units) == {"scale": [0, 1, 2, 3]}


def test_of_a_unit_unknown_no_scale_is_implausible() -> None:
    assert looked_at(noise(1e9), "1") == {}


def test_padding_and_no_trials_at_all_are_not_looked_at() -> None:
    eeg = noise()
    eeg[:, :, 64:] = np.nan
    n_valid = np.full(20, 64)
    assert doubts(eeg, n_valid, "uV") == {}
    assert doubts(eeg[:0], n_valid[:0], "uV") == {}
    assert doubts(eeg, np.zeros(20, dtype=np.int64), "uV") == {}


def test_hints_name_channels_and_how_often() -> None:
    found = [{"flat": [1]}, {"flat": [1, 2]}, {}, {"scale": [0, 1, 2, 3]}]
    assert list(hints(found, CHANNELS)) == [
        "channels P7, O1: flat (one value a trial) in the first trials of 2 of 4 shards",
        "all channels: implausibly scaled for EEG in the unit given (0.1 to 1,000 µV are usual) "
        "in the first trials of 1 of 4 shards",
    ]
    many = tuple(f"E{number}" for number in range(128))
    [line] = hints([{"clipped": list(range(10))}], many)
    assert line.startswith("channels E0, E1, E2, E3, E4, E5, E6, E7 and 2 more: clipped (held at")
    [one] = hints([{"flat": [3]}], CHANNELS)
    assert one.startswith("channel Cz: flat")


def test_a_build_tells_of_wrong_channels_and_of_resumed_ones(tmp_path: Path) -> None:
    eeg = noise(1e-5)
    eeg[:, 3] = 0
    eeg[7, 0, 0] = np.nan
    folder = write_npy(tmp_path / "in", train_data=eeg, train_labels=np.arange(20) % 10)
    source: dict[str, Any] = {
        "plugin": "npy", "path": str(folder), "sfreq": 128, "units": "V", "allow_skips": True,
        "ch_names": list(CHANNELS),
    }  # fmt: skip
    made = recipe(source=source, extract=[])
    told = eegstore.build(made, tmp_path / "a.zarr").hints
    assert any(
        "channel Cz: flat (one value a trial) in the first trials of 1 of 1" in h for h in told
    )
    assert not any("clipped" in hint or "scaled" in hint for hint in told)
    sound = eegstore.build(made | {"source": {"plugin": "synthetic"}}, tmp_path / "b.zarr").hints
    assert sound == ()

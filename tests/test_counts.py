"""Signals in whole steps are stored as counts, and read as the very values that were given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import eegstore
from eegstore import InputError, scan
from eegstore.counts import MISSING, MOST, Counts, counts_of
from eegstore.load import TrialLoader
from eegstore.wide import CountedArray

N_TRIALS, N_CHANNELS, N_TIMES = 48, 3, 32
CODECS = ["raw", "fast", "small", "archive"]


def steps(seed: int = 0) -> NDArray[np.int64]:
    shape = (N_TRIALS, N_CHANNELS, N_TIMES)
    return 8200 + np.random.default_rng(seed).integers(-300, 300, shape)


def write_recording(folder: Path, eeg: NDArray[np.float32]) -> dict[str, Any]:
    """A recording as the source ``npy`` reads it; the recipe of its store."""
    (folder / "in").mkdir()
    np.save(folder / "in" / "train_eeg_data.npy", eeg)
    np.save(folder / "in" / "train_labels.npy", np.arange(len(eeg)) % 3)
    source = {"plugin": "npy", "path": str(folder / "in"), "sfreq": 128.0, "units": "uV"}
    source |= {"data": {"train": "train_eeg_data.npy"}}
    return {"name": "steps", "source": source, "store": {"dtype": "int16"}}


@settings(deadline=None, max_examples=60)
@given(
    scale=st.one_of(
        st.sampled_from([0.51, 0.5, 1.0, 0.1e-6, 400 / 8192, 1682 / 1023, 0.298, 24.0]),
        st.floats(1e-9, 1e3),
    ),
    is_single=st.booleans(),
    centre=st.integers(-40_000, 40_000),
    width=st.integers(1, 5_000),
    seed=st.integers(0, 99),
)
def test_the_steps_of_any_digitised_signal_are_found(
    scale: float, is_single: bool, centre: int, width: int, seed: int
) -> None:
    numbers = np.random.default_rng(seed).integers(centre - width, centre + width + 1, (40, 99))
    numbers[0, :2] = centre, centre + 1  # neighbours are in any recording
    factor = np.float64(np.float32(scale) if is_single else scale)
    values = (numbers * factor).astype(np.float32)
    counts = counts_of(values)
    assert counts is not None
    stored, inexact = counts.encode(values)
    assert not len(inexact)
    np.testing.assert_array_equal(counts.decode(stored), values)


@pytest.mark.parametrize("scale", [float(np.float32(0.51)), 0.51])
@pytest.mark.parametrize("offset", [0.0, 100.3])
def test_a_value_is_the_float32_of_its_count_in_float64(scale: float, offset: float) -> None:
    counts = np.arange(-MOST, MOST + 1, dtype=np.int16)
    expected = (counts.astype(np.float64) * scale + offset).astype(np.float32)
    np.testing.assert_array_equal(Counts(scale, offset).decode(counts), expected)


def test_what_is_no_count_is_missing_and_told() -> None:
    values = np.array([[1, 2], [np.nan, 0], [0.5, 1], [np.inf, 1], [40_000, 1]], dtype=np.float32)
    stored, inexact = Counts(1.0).encode(values)
    assert stored.tolist() == [[1, 2], [MISSING, 0], [MISSING, 1], [MISSING, 1], [MISSING, 1]]
    assert inexact.tolist() == [2, 3, 4]


@pytest.mark.parametrize("constant", [0.0, -3.25])
def test_a_signal_of_one_value_has_counts(constant: float) -> None:
    values = np.full((3, 4), constant, dtype=np.float32)
    counts = counts_of(values)
    assert counts is not None
    np.testing.assert_array_equal(counts.decode(counts.encode(values)[0]), values)


def test_a_signal_that_was_scaled_has_no_counts() -> None:
    values = np.random.default_rng(0).standard_normal((20, 50)).astype(np.float32)
    assert counts_of(values) is None


@pytest.mark.parametrize("codec", CODECS)
def test_counts_are_read_as_the_values_that_the_source_gave(tmp_path: Path, codec: str) -> None:
    eeg = (steps() * np.float32(0.51)).astype(np.float32)
    recipe = write_recording(tmp_path, eeg)
    recipe["store"]["codec"] = codec
    recipe["extract"] = [{"plugin": "temporal"}]
    eegstore.build(recipe, tmp_path / "s.zarr")
    recipe["store"].pop("dtype")
    eegstore.build(recipe, tmp_path / "f.zarr")
    store = eegstore.open_store(tmp_path / "s.zarr")
    column = store.trials["eeg"]
    assert isinstance(column.values, CountedArray)
    assert column.layout is not None
    assert (column.layout.dtype, column.spec.dtype, column.entry.dtype) == (
        "int16", "float32", "float32",
    )  # fmt: skip
    assert not {"scale_factor", "add_offset", "_FillValue"} & {*column.attrs, *column.spec.attrs}
    rows = np.array([40, 3, 3, 0])
    for found, expected in (
        (column[:], eeg), (column[5:11], eeg[5:11]), (column[::7], eeg[::7]),
        (column[rows], eeg[rows]), (column[17], eeg[17]), (column[4:4], eeg[4:4]),
    ):  # fmt: skip
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    out = np.empty((4, N_CHANNELS, N_TIMES), dtype=np.float32)
    assert column.take(rows, out=out) is out
    np.testing.assert_array_equal(out, eeg[rows])
    floats = eegstore.open_store(tmp_path / "f.zarr")
    np.testing.assert_array_equal(store.trials["temporal"][:], floats.trials["temporal"][:])
    assert eegstore.verify(tmp_path / "s.zarr", deep=True) == []


def test_a_window_of_some_channels_is_read_from_counts(tmp_path: Path) -> None:
    eeg = (steps() * np.float32(0.51)).astype(np.float32)
    eegstore.build(write_recording(tmp_path, eeg), tmp_path / "s.zarr")
    store = eegstore.open_store(tmp_path / "s.zarr")
    times = np.array(store.trials.coords["time"])
    loader = TrialLoader(store, columns="eeg", tmin=times[4], tmax=times[19], channels=[2, 0])
    np.testing.assert_array_equal(loader.batch([7, 1])["eeg"], eeg[[7, 1]][:, [2, 0], 4:20])


def test_xarray_decodes_counts_to_the_same_float32(tmp_path: Path) -> None:
    """In float64, which is what the attributes of Zarr are; rounded once, it is the same."""
    eeg = (steps() * 0.51).astype(np.float32)
    eeg[5, 1, 7:] = np.nan
    recipe = write_recording(tmp_path, eeg)
    recipe["source"]["allow_skips"] = True
    eegstore.build(recipe, tmp_path / "s.zarr")
    found = xarray.open_zarr(tmp_path / "s.zarr", group="trials")["eeg"]
    assert found.attrs["units"] == "uV"
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found.values.astype(np.float32), eeg)
    np.testing.assert_array_equal(eegstore.open_store(tmp_path / "s.zarr").trials["eeg"][:], eeg)


@pytest.mark.parametrize("sampled", [1, 8])
@pytest.mark.parametrize("trial", [0, 13, 47])
def test_a_trial_that_is_not_in_steps_is_refused_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: int, sampled: int
) -> None:
    monkeypatch.setattr(scan, "SAMPLED_ROWS", sampled)
    eeg = (steps() * np.float32(0.51)).astype(np.float32)
    eeg[trial, 1, 3] += np.float32(0.2)
    with pytest.raises(InputError, match=rf"trial {trial} \(.*whole steps.*leave dtype out") as one:
        eegstore.build(write_recording(tmp_path, eeg), tmp_path / "s.zarr")
    assert "\n" not in str(one.value)
    assert one.value.exit_code == 3


def test_an_invalid_trial_keeps_its_row_and_what_is_no_count_is_nan(tmp_path: Path) -> None:
    eeg = (steps() * np.float32(0.51)).astype(np.float32)
    eeg[9, 0, 0], eeg[9, 1, 1], eeg[9, 2, 2] = np.inf, np.nan, 0.1
    recipe = write_recording(tmp_path, eeg)
    with pytest.raises(InputError, match="NaN or Inf in trials 9"):
        eegstore.build(recipe, tmp_path / "s.zarr")
    recipe["source"]["allow_skips"] = True
    eegstore.build(recipe, tmp_path / "s.zarr")
    store = eegstore.open_store(tmp_path / "s.zarr")
    assert np.flatnonzero(~store.trials["valid"][:]).tolist() == [9]
    expected = eeg.copy()
    expected[9, [0, 1, 2], [0, 1, 2]] = np.nan
    np.testing.assert_array_equal(store.trials["eeg"][:], expected)


def test_an_extractor_that_is_added_reads_values_from_counts(tmp_path: Path) -> None:
    eeg = (steps() * np.float32(0.51)).astype(np.float32)
    recipe = write_recording(tmp_path, eeg)
    eegstore.build(recipe, tmp_path / "s.zarr")
    recipe["extract"] = [{"plugin": "temporal"}]
    report = eegstore.build(recipe, tmp_path / "s.zarr")
    assert report.history is not None
    assert report.history.computed == ["trials/temporal"]
    eegstore.build(recipe, tmp_path / "new.zarr")
    found, expected = (eegstore.open_store(tmp_path / name) for name in ("s.zarr", "new.zarr"))
    assert found.digest == expected.digest

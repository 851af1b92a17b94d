"""The features are catch22's, of the recorded samples alone."""

from __future__ import annotations

import itertools

import numpy as np
import pycatch22
import pytest

from eegstore_catch22.catch22 import Catch22


def direct(signal: np.ndarray, catch24: bool = False) -> list[float]:
    """What the library itself gives for one signal."""
    return pycatch22.catch22_all(signal.tolist(), catch24=catch24)["values"]


@pytest.mark.parametrize("catch24", [False, True])
def test_values_are_pycatch22s(eeg, block, catch24):
    found = Catch22(catch24)(block(eeg))
    expected = [[direct(signal, catch24) for signal in trial] for trial in eeg]
    assert found.dtype == np.float32
    assert found.shape == (9, 3, 24 if catch24 else 22)
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_features_mean_what_their_names_say(inputs, eeg, block):
    """Against definitions of our own, where they are short; the sine has a period of 20 samples."""
    sine = np.sin(2 * np.pi * np.arange(200) / 20 + 0.1)
    signals = np.stack([eeg[0, 0], eeg[1, 1], sine.astype(np.float32)])
    features = Catch22(catch24=True).describe(inputs).attrs["short_names"]
    rows = Catch22(catch24=True)(block(signals[np.newaxis]))[0]
    named = [dict(zip(features, row.tolist(), strict=True)) for row in rows]
    for signal, found in zip(signals.astype(np.float64), named, strict=True):
        assert found["mean"] == pytest.approx(signal.mean(), rel=1e-6, abs=1e-7)
        assert found["std"] == pytest.approx(signal.std(ddof=1), rel=1e-6)
        runs = [len(list(run)) for above, run in itertools.groupby(signal > signal.mean()) if above]
        assert found["stretch_high"] == max(runs)
        scaled = np.diff(signal) / signal.std(ddof=1)
        assert found["high_fluctuation"] == pytest.approx((np.abs(scaled) > 0.04).mean(), abs=0.01)
        assert found["trev"] == pytest.approx((scaled**3).mean(), rel=1e-3, abs=1e-6)
    assert named[2]["acf_first_min"] == 10
    assert named[2]["median_freq"] == pytest.approx(2 * np.pi / 20, rel=0.03)


@pytest.mark.parametrize("catch24", [False, True])
def test_padding_does_not_count(eeg, block, catch24):
    padded = eeg.copy()
    padded[1, :, 150:] = np.nan
    padded[2, :, 40:] = 1e9
    found = Catch22(catch24)(block(padded, [200, 150, 40, *[200] * 6]))
    for row, length in ((0, 200), (1, 150), (2, 40)):
        expected = [direct(signal[:length], catch24) for signal in eeg[row]]
        np.testing.assert_array_equal(found[row], np.array(expected, np.float32))


def test_a_flat_signal_is_finite_and_the_same_at_any_level(eeg, block):
    odd = eeg.copy()
    odd[0, 0], odd[0, 1], odd[0, 2] = 0, 5, -0.1
    found = Catch22()(block(odd))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0, 1], found[0, 0])
    np.testing.assert_array_equal(found[0, 2], found[0, 0])
    np.testing.assert_array_equal(found[0, 0], np.array(direct(np.zeros(200)), np.float32))
    np.testing.assert_array_equal(Catch22(catch24=True)(block(odd))[0, 1, 22:], [5, 0])


@pytest.mark.parametrize("n_valid", [1, 2, 3, 4, 5, 8, 12])
def test_short_trials_are_finite(eeg, block, n_valid):
    found = Catch22(catch24=True)(block(eeg, [n_valid] * 9))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[..., 22], eeg[..., :n_valid].mean(axis=2), rtol=1e-5)
    if n_valid == 1:
        np.testing.assert_array_equal(found[..., 23], 0)


def test_a_trial_without_samples_has_zeros(eeg, block):
    found = Catch22()(block(eeg, [0, *[200] * 8]))
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_array_equal(found[1:], Catch22()(block(eeg))[1:])


def test_a_channel_that_is_not_finite_is_nan_alone(eeg, block):
    broken = eeg.copy()
    broken[2, 1, 7], broken[4, 0, 0] = np.nan, np.inf
    found = Catch22()(block(broken))
    usual = Catch22()(block(eeg))
    wrong = np.zeros((9, 3), bool)
    wrong[2, 1] = wrong[4, 0] = True
    assert np.isnan(found[wrong]).all()
    np.testing.assert_array_equal(found[~wrong], usual[~wrong])


def test_unit_and_offset_do_not_matter(eeg, block):
    usual = Catch22()(block(eeg))
    np.testing.assert_allclose(Catch22()(block(eeg * np.float32(2.0**-60))), usual, rtol=1e-5)
    np.testing.assert_allclose(Catch22()(block(eeg * np.float32(2.0**100))), usual, rtol=1e-5)
    largest = np.where(eeg > 20, np.float32(3.4e38), np.float32(-3.4e38))
    assert np.isfinite(Catch22(catch24=True)(block(largest))).all()


def test_a_row_is_the_same_in_any_block(eeg, block):
    whole = Catch22()(block(eeg))
    for n_rows in (1, 2, 7):
        parts = [Catch22()(block(eeg[at : at + n_rows])) for at in range(0, 9, n_rows)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_features_are_named_with_their_units(inputs):
    spec = Catch22(catch24=True).describe(inputs)
    names = pycatch22.catch22_all([0.0, 1.0, 0.5], catch24=True, short_names=True)
    assert (spec.dims, spec.shape, spec.dtype) == (("channel", "feature"), (3, 24), "float32")
    assert list(spec.coords["feature"]) == names["names"]
    assert spec.attrs["short_names"] == names["short_names"]
    units = dict(zip(names["short_names"], spec.attrs["feature_units"], strict=True))
    assert units["mean"] == units["std"] == "uV"
    assert units["acf_timescale"] == units["periodicity"] == "sample"
    assert units["median_freq"] == "rad/sample"
    assert units["dfa"] == units["trev"] == "1"
    # All that has a unit is known to the library by that name.
    assert sum(unit != "1" for unit in units.values()) == 9
    assert list(Catch22().describe(inputs).coords["feature"]) == names["names"][:22]

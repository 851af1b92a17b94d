"""The time-domain features against numpy, mne-features and antropy."""

from __future__ import annotations

import antropy
import mne_features.univariate as mne_features
import numpy as np
import pytest

from eegstore import Block, ColumnSpec
from eegstore_plugins.temporal import Temporal

SFREQ = 128.0


def temporal_of(eeg, n_valid=None):
    """Feature name to float32 (trial, channel), through the plugin's two methods."""
    eeg = np.asarray(eeg, dtype=np.float32)
    if n_valid is not None:
        n_valid = np.asarray(n_valid, dtype=np.int64)
    times = np.arange(eeg.shape[-1]) / SFREQ
    block = Block({"eeg": eeg}, 0, len(eeg), n_valid=n_valid, sfreq=SFREQ, times=times)
    names = describe(eeg).coords["feature"]
    values = Temporal()(block)
    assert values.shape == (*eeg.shape[:2], len(names))
    return dict(zip(names, np.moveaxis(values, -1, 0), strict=True))


def describe(eeg, units="uV"):
    n_channels, n_times = eeg.shape[1:]
    channels = [f"C{i}" for i in range(n_channels)]
    spec = ColumnSpec(
        dims=("channel", "time"),
        shape=(n_channels, n_times),
        dtype="float32",
        coords={"channel": channels, "time": np.arange(n_times) / SFREQ},
        units=units,
        attrs={"sfreq": SFREQ},
    )
    return Temporal().describe({"eeg": spec})


def centred(x):
    return x - x.mean(axis=-1, keepdims=True)


# Each from float64 (channel, time) to (channel,).
REFERENCES = {
    "mean": mne_features.compute_mean,
    "std": lambda x: np.std(x, axis=-1),
    "rms": mne_features.compute_rms,
    "ptp": mne_features.compute_ptp_amp,
    "skewness": mne_features.compute_skewness,
    "kurtosis": mne_features.compute_kurtosis,
    "line_length": mne_features.compute_line_length,
    "zero_crossings": lambda x: mne_features.compute_zero_crossings(centred(x)),
    "hjorth_mobility": lambda x: antropy.hjorth_params(x, axis=-1)[0],
    "hjorth_complexity": lambda x: antropy.hjorth_params(x, axis=-1)[1],
    "mad": lambda x: np.mean(np.abs(centred(x)), axis=-1),
    "teager_kaiser": lambda x: mne_features._tk_energy(centred(x)).mean(axis=-1),
}


def assert_matches_reference(feature, eeg):
    expected = [REFERENCES[feature](trial.astype(np.float64)) for trial in eeg]
    np.testing.assert_allclose(temporal_of(eeg)[feature], expected, rtol=2e-6, atol=1e-7)


def test_every_feature_has_a_reference():
    assert list(REFERENCES) == describe(np.zeros((1, 1, 8))).coords["feature"]


@pytest.mark.parametrize("n_times", [5, 64, 257])
@pytest.mark.parametrize("feature", REFERENCES)
def test_feature_matches_its_reference_on_random_signals(feature, n_times):
    rng = np.random.default_rng(n_times)
    noise = rng.gamma(2.0, size=(6, 3, n_times)) + rng.normal(size=(6, 3, n_times)).cumsum(-1)
    assert_matches_reference(feature, noise.astype(np.float32))


@pytest.mark.shared_data
@pytest.mark.parametrize("feature", REFERENCES)
def test_feature_matches_its_reference_on_real_signals(feature, shared_data):
    text = (shared_data / "epoc-derived" / "EP_derived_eyestate.txt").read_text()
    rows = [line.split("\t")[6].split(",") for line in text.splitlines()]
    eeg = np.array(rows, dtype=np.float32).reshape(57, 14, 260)
    assert eeg.max() > 700_000  # the spikes are in it
    assert_matches_reference(feature, eeg)


@pytest.mark.parametrize("feature", REFERENCES)
def test_feature_keeps_its_accuracy_beside_a_large_offset(feature):
    signal = 4300 + np.random.default_rng(3).normal(size=(4, 2, 256))
    assert_matches_reference(feature, signal.astype(np.float32))


def test_a_sine_has_the_values_of_its_formulas():
    n_times, amplitude, step = 256, 3.0, 2 * np.pi * 10 / SFREQ
    sine = amplitude * np.sin(step * np.arange(n_times) + 0.1)
    of = {name: values[0, 0] for name, values in temporal_of(sine[None, None]).items()}
    assert of["std"] == pytest.approx(amplitude / np.sqrt(2))
    assert of["mean"] == pytest.approx(0, abs=1e-6)
    assert of["kurtosis"] == pytest.approx(1.5)
    assert of["zero_crossings"] == 39
    assert of["teager_kaiser"] == pytest.approx((amplitude * np.sin(step)) ** 2)
    assert of["hjorth_mobility"] == pytest.approx(2 * np.sin(step / 2), rel=1e-2)
    assert of["hjorth_complexity"] == pytest.approx(1, rel=1e-2)


def test_a_flat_signal_and_a_straight_line_have_no_shape():
    flat = np.full(100, 4300.3)
    line = np.arange(100.0) - 7
    values = temporal_of([[flat, line]])
    assert values["mean"][0].tolist() == pytest.approx([4300.3, 42.5])
    spread = ["std", "ptp", "line_length", "mad", "teager_kaiser", "skewness", "kurtosis"]
    for name in [*spread, "zero_crossings", "hjorth_mobility", "hjorth_complexity"]:
        assert values[name][0, 0] == 0, name
    assert values["hjorth_mobility"][0, 1] == 0
    assert values["hjorth_complexity"][0, 1] == 0
    assert values["line_length"][0, 1] == 1


def test_features_that_need_more_samples_than_there_are_are_zero():
    nan = np.nan
    trials = [[nan] * 4, [5, nan, nan, nan], [5, 9, nan, nan], [5, 9, 7, nan]]
    values = temporal_of(np.array(trials)[:, np.newaxis], n_valid=[0, 1, 2, 3])
    expected = {
        "mean": [0, 5, 7, 7],
        "ptp": [0, 0, 4, 4],
        "line_length": [0, 0, 4, 3],
        "zero_crossings": [0, 0, 1, 1],
        "kurtosis": [0, 0, 1, 1.5],
        "hjorth_complexity": [0, 0, 0, 0],
        "teager_kaiser": [0, 0, 0, 4],
    }
    for name, column in expected.items():
        np.testing.assert_allclose(values[name][:, 0], column, err_msg=name)
    assert values["hjorth_mobility"][:3, 0].tolist() == [0, 0, 0]


def test_column_names_each_feature_with_its_unit():
    spec = describe(np.zeros((1, 3, 8)))
    assert spec.dims == ("channel", "feature")
    assert spec.shape == (3, 12)
    assert spec.coords["channel"] == ["C0", "C1", "C2"]
    unit_of = dict(zip(spec.coords["feature"], spec.attrs["feature_units"], strict=True))
    assert unit_of["mean"] == unit_of["mad"] == "uV"
    assert unit_of["teager_kaiser"] == "uV^2"
    assert unit_of["kurtosis"] == unit_of["zero_crossings"] == "1"


def test_a_signal_without_unit_gives_features_without_unit():
    assert set(describe(np.zeros((1, 1, 8)), units="").attrs["feature_units"]) == {"1"}

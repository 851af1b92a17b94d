"""The extractor ``quality``: each of its parts with a planted fault, and on real EEG."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import eegstore
from eegstore import Block, ColumnSpec, RecipeError, registry
from eegstore_plugins.quality import Quality

SFREQ = 250.0
N_CHANNELS, N_TIMES = 8, 500
NAMES = [
    *("flat", "clipped", "line_noise", "amplitude", "kurtosis", "emg", "autocorrelation", "score"),
]


def quality_of(eeg, *, sfreq=SFREQ, units="uV", n_valid=None, **options):
    """Name of a part to float32 (trial,), through the plugin's two methods."""
    eeg = np.asarray(eeg, dtype=np.float32)
    n_trials, _, n_times = eeg.shape
    spec = ColumnSpec(("channel", "time"), eeg.shape[1:], "float32", units=units)
    plugin = Quality(**options)
    described = plugin.describe({"eeg": spec})
    times = np.arange(n_times) / sfreq
    block = Block(
        {"eeg": eeg}, 0, n_trials, n_valid=n_valid, sfreq=sfreq, times=times, units=units
    )  # fmt: skip
    values = plugin(block)
    assert values.shape == (n_trials, *described.shape)
    assert values.dtype == np.float32
    assert described.coords["feature"] == NAMES
    return dict(zip(NAMES, values.T, strict=True))


def brain(n_trials=6, n_channels=N_CHANNELS, n_times=N_TIMES, seed=0):
    """float32 (trial, channel, time), in uV: 1/f noise of 15 uV with an alpha rhythm."""
    rng = np.random.default_rng(seed)
    freqs = np.fft.rfftfreq(n_times, 1 / SFREQ)
    spectrum = rng.standard_normal((n_trials, n_channels, len(freqs), 2)).view(np.complex128)
    noise = np.fft.irfft(spectrum[..., 0] / np.maximum(freqs, 1.0), n=n_times)
    noise *= 15 / noise.std(axis=-1, keepdims=True)
    phase = rng.uniform(0, 2 * np.pi, (n_trials, n_channels, 1))
    return noise + 8 * np.sin(2 * np.pi * 10 * np.arange(n_times) / SFREQ + phase)


def test_a_clean_trial_is_worth_nearly_everything_and_has_no_fault():
    found = quality_of(brain())
    assert (found["flat"] == 0).all()
    assert (found["clipped"] == 0).all()
    assert (found["line_noise"] < 3).all()
    assert (found["kurtosis"] < 1).all()
    assert (found["emg"] < 0.1).all()
    assert (found["autocorrelation"] > 0.9).all()
    assert (found["score"] == 1).all()


def test_flat_channels_are_counted_and_the_others_looked_at_alone():
    eeg = brain()
    eeg[0, :2] = 3.0
    eeg[1, :2] += 1e-9 * np.arange(N_TIMES)  # not flat
    eeg[2, 0, 200:] = eeg[2, 0, 200]  # an electrode that fell off
    eeg[3, :, :] = -7.0
    found = quality_of(eeg)
    np.testing.assert_array_equal(found["flat"], np.float32([0.25, 0, 0.125, 1, 0, 0]))
    whole = quality_of(eeg[:1, 2:])
    for name in ("amplitude", "kurtosis", "emg", "autocorrelation", "line_noise"):
        np.testing.assert_allclose(found[name][0], whole[name][0], rtol=1e-5)
        assert found[name][3] == 0
    assert found["score"][3] == 0
    assert (found["score"][[0, 1, 2]] == 1).all()
    assert quality_of(eeg, max_flat=0.2)["score"][0] == pytest.approx(0.75, abs=1e-6)


def test_a_channel_of_little_span_is_flat_in_any_unit_of_voltage():
    eeg = brain()
    eeg[:, 0] *= 0.3 / np.ptp(eeg[:, 0], axis=-1, keepdims=True)
    for units, scale in {"uV": 1, "V": 1e-6, "mV": 1e-3, "nV": 1e3}.items():
        found = quality_of(eeg * scale, units=units)
        np.testing.assert_array_equal(found["flat"], np.float32([0.125] * 6))
        spans = np.median(np.ptp(eeg[:, 1:], axis=-1), axis=1)
        np.testing.assert_allclose(found["amplitude"], spans, rtol=1e-5)
    assert (quality_of(eeg, flat_uv=0.1)["flat"] == 0).all()
    # Of an unknown unit nothing is said that needs one.
    unknown = quality_of(1e6 * eeg, units="1")
    assert (unknown["flat"] == 0).all()
    assert (unknown["score"] == 1).all()


def test_clipped_channels_stand_still_at_their_extremes():
    eeg = brain()
    eeg[0, :4] = np.clip(eeg[0, :4], -12, 12)
    eeg[1, 0] = np.minimum(eeg[1, 0], 8)
    eeg[2, 0, 100] = 500.0  # a spike touches its extreme once
    eeg[3] = np.round(eeg[3])  # coarse steps stand still, seldom at an extreme
    found = quality_of(eeg)
    np.testing.assert_array_equal(found["clipped"], np.float32([0.5, 0.125, 0, 0, 0, 0]))
    assert found["score"][0] == 0
    assert found["score"][1] == pytest.approx(0.75)


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_line_noise_is_in_decibels_over_its_neighbours(mains):
    eeg = brain()
    hum = np.sin(2 * np.pi * mains * np.arange(N_TIMES) / SFREQ)
    loud = quality_of(eeg + 20 * hum)
    quiet = quality_of(eeg + 2 * hum)
    # Ten times the amplitude is 20 dB.
    np.testing.assert_allclose(loud["line_noise"] - quiet["line_noise"], 20, atol=1.5)
    assert (quiet["line_noise"] > 10).all()
    assert (loud["score"] < 0.5).all()
    other = quality_of(eeg + 20 * hum, line_hz=(110.0 - mains,))
    assert (other["line_noise"] < 3).all()
    # Mains do not pass for muscles.
    np.testing.assert_allclose(loud["emg"], quality_of(eeg)["emg"], atol=0.02)


def test_line_noise_matches_scipys_spectrum():
    eeg = brain() + 3 * np.sin(2 * np.pi * 50 * np.arange(N_TIMES) / SFREQ)
    freqs, power = scipy.signal.periodogram(eeg, SFREQ, "hann", detrend="constant")
    away = np.abs(freqs - 50)
    ratio = power[..., away <= 1].mean(-1) / power[..., (away > 2) & (away <= 6)].mean(-1)
    expected = np.median(10 * np.log10(ratio), axis=1)
    found = quality_of(eeg, line_hz=(50.0,))["line_noise"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_muscles_show_in_their_band_and_in_the_autocorrelation():
    eeg, rng = brain(), np.random.default_rng(1)
    sos = scipy.signal.butter(4, [30, 100], "band", fs=SFREQ, output="sos")
    muscle = scipy.signal.sosfilt(sos, rng.standard_normal(eeg.shape), axis=-1)
    found = quality_of(eeg + 60 * muscle)
    assert (found["emg"] > 0.6).all()
    assert (found["score"] < 0.3).all()
    assert (found["autocorrelation"] < quality_of(eeg)["autocorrelation"] - 0.2).all()
    white = quality_of(rng.standard_normal(eeg.shape) * 20)
    assert (abs(white["autocorrelation"]) < 0.1).all()
    assert (white["score"] < 0.2).all()


def test_amplitude_kurtosis_and_autocorrelation_match_plain_definitions():
    eeg = brain(seed=3)
    eeg[1, 3, 250] += 900.0
    found = quality_of(eeg)
    np.testing.assert_allclose(
        found["amplitude"], np.median(np.ptp(eeg, axis=-1), axis=1), rtol=1e-5
    )  # fmt: skip
    np.testing.assert_allclose(
        found["kurtosis"], scipy.stats.kurtosis(eeg, axis=-1).mean(axis=1), rtol=1e-4, atol=1e-5
    )
    y = eeg - eeg.mean(axis=-1, keepdims=True)
    lagged = (y[..., 1:] * y[..., :-1]).sum(-1) / (y * y).sum(-1)
    np.testing.assert_allclose(found["autocorrelation"], np.median(lagged, axis=1), rtol=1e-5)
    assert found["kurtosis"][1] > 10
    assert found["score"][1] == 0


def test_a_large_amplitude_counts_from_its_threshold_to_twice_that():
    eeg = brain()
    span = np.median(np.ptp(eeg, axis=-1), axis=1)
    for wanted, worth in {150: 1.0, 300: 0.5, 399: 0.005, 500: 0.0}.items():
        score = quality_of(eeg * (wanted / span)[:, None, None])["score"]
        np.testing.assert_allclose(score, worth, atol=1e-5)


def test_only_recorded_samples_count():
    eeg = brain()
    padded = np.concatenate([eeg, np.full_like(eeg, 1e5)], axis=-1)
    padded[2, :, 300:] = np.nan
    n_valid = np.array([N_TIMES, N_TIMES, 300, 0, N_TIMES, 1])
    found = quality_of(padded, n_valid=n_valid)
    alone = quality_of(eeg)
    short = quality_of(eeg[..., :300])
    for name in NAMES:
        np.testing.assert_array_equal(found[name][[0, 1, 4]], alone[name][[0, 1, 4]])
        np.testing.assert_array_equal(found[name][2], short[name][2])
    for row in (3, 5):  # of no sample, or one, nothing is known
        assert [found[name][row] for name in ("flat", "amplitude", "score")] == [1, 0, 0]


def test_a_signal_with_nan_has_no_quality_and_harms_no_other():
    eeg = brain()
    expected = quality_of(eeg)
    eeg[2, 1, 7] = np.nan
    found = quality_of(eeg)
    for name in NAMES:
        assert np.isnan(found[name][2])
        np.testing.assert_array_equal(np.delete(found[name], 2), np.delete(expected[name], 2))


@given(
    seed=st.integers(0, 1000),
    n_times=st.integers(1, 80),
    sfreq=st.floats(1, 2000),
    scale=st.sampled_from([0.0, 1e-30, 1.0, 1e4, 1e30]),
    line_hz=st.sampled_from([(50.0, 60.0), (50.0,), ()]),
)
def test_every_part_is_finite_and_the_score_between_0_and_1(seed, n_times, sfreq, scale, line_hz):
    eeg = np.random.default_rng(seed).standard_normal((3, 2, n_times)) * scale
    found = quality_of(eeg, sfreq=sfreq, line_hz=line_hz)
    for name, values in found.items():
        assert np.isfinite(values).all(), name
    assert (found["score"] >= 0).all()
    assert (found["score"] <= 1).all()
    for name in ("flat", "clipped", "emg"):
        assert (found[name] >= 0).all()
        assert (found[name] <= 1 + 1e-6).all()


def test_the_score_never_rises_with_a_fault():
    eeg = brain()
    hum = np.sin(2 * np.pi * 50 * np.arange(N_TIMES) / SFREQ)
    scores = [quality_of(eeg + size * hum)["score"] for size in (0, 1, 3, 10, 30, 100, 300)]
    assert (np.diff(scores, axis=0) <= 1e-6).all()
    assert (scores[0] == 1).all()
    assert (scores[-1] == 0).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"line_hz": [0.0]}, "line_hz is \\[0.0\\], expected frequencies above 0"),
        ({"max_emg": 0}, "max_emg: got 0"),
        ({"min_autocorrelation": 2}, "min_autocorrelation: got 2"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, said):
    with pytest.raises(RecipeError, match=said):
        registry.create("extractor", "quality", options, tmp_path)


def test_a_store_has_the_quality_with_its_names_and_units(tmp_path):
    recipe = {
        "source": {"plugin": "synthetic", "n_trials": 12, "n_channels": 4},
        "extract": [{"plugin": "quality"}],
    }
    eegstore.build(recipe, tmp_path / "a.zarr", executor="serial")
    column = eegstore.open_store(tmp_path / "a.zarr").trials["quality"]
    assert column.spec.coords["quality_feature"] == NAMES
    assert column.spec.attrs["feature_units"] == ["1", "1", "dB", "uV", "1", "1", "1", "1"]
    values = column[:]
    assert (values[:, NAMES.index("amplitude")] > 40).all()  # in uV: the block knew its unit
    assert (values[:, -1] > 0.9).all()


@pytest.mark.shared_data
def test_real_epochs_are_good_but_for_the_mains_that_they_have(shared_data):
    mne = pytest.importorskip("mne")
    path = shared_data / "eeglab-epochs" / "eeglab_data_epochs_ica.set"
    epochs = mne.io.read_epochs_eeglab(path, verbose="ERROR")
    found = quality_of(epochs.get_data(), sfreq=epochs.info["sfreq"], units="V")
    assert (found["flat"] == 0).all()
    assert (found["clipped"] == 0).all()
    assert 80 < np.median(found["amplitude"]) < 130
    assert np.median(found["line_noise"]) > 18  # recorded in the United States: 60 Hz
    europe = quality_of(epochs.get_data(), sfreq=128.0, units="V", line_hz=(50.0,))
    assert np.median(europe["line_noise"]) < 3
    assert (europe["score"] > 0.9).mean() > 0.95


@pytest.mark.shared_data
def test_real_windows_with_spikes_are_told_from_those_without(shared_data):
    text = (shared_data / "epoc-derived" / "EP_derived_eyestate.txt").read_text()
    rows = [line.split("\t")[6].split(",") for line in text.splitlines()]
    eeg = np.array(rows, dtype=np.float32).reshape(57, 14, 260)
    score = quality_of(eeg, sfreq=128.0)["score"]
    spiked = np.ptp(eeg, axis=-1).max(axis=1) > 2000
    assert spiked.sum() == 4
    assert (score[spiked] == 0).all()
    assert (score[~spiked] > 0.5).mean() > 0.95

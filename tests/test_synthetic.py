"""The source ``synthetic``: the same from any side, and what its description says it is."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from eegstore.registry import create
from eegstore_plugins.synthetic import EPOC, Synthetic


def power(source: Synthetic, n_trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz, and the mean power spectrum (channel, frequency), without the mean."""
    spectrum = np.abs(np.fft.rfft(source.read(0, n_trials).astype(np.float64))) ** 2
    frequency = np.fft.rfftfreq(source.n_times, 1 / source.sfreq)
    return frequency[1:-1], spectrum.mean(axis=0)[:, 1:-1]


def test_the_defaults_are_an_epoc(tmp_path: object) -> None:
    source = create("source", "synthetic", {}, tmp_path)
    trials = source.scan()
    assert trials.n_trials == 200
    assert trials.ch_names == EPOC
    assert len(set(EPOC)) == 14
    assert (trials.sfreq, trials.n_times, trials.units) == (128.0, 256, "uV")
    assert trials.notice == "synthetic EEG: generated from a seed, not recorded from anyone"
    assert trials.label[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert trials.columns["repetition"][[0, 9, 10, 199]].tolist() == [0, 0, 1, 19]
    assert trials.columns["block"][[0, 49, 50, 199]].tolist() == [0, 0, 1, 3]
    np.testing.assert_allclose(trials.times[[0, 1, -1]], [0, 1 / 128, 255 / 128])
    eeg = source.read(0, 200)
    assert eeg.dtype == np.float32
    assert eeg.shape == (200, 14, 256)


def test_other_channels_are_numbered() -> None:
    assert Synthetic(n_channels=3).scan().ch_names == ("ch1", "ch2", "ch3")


@settings(deadline=None, max_examples=80)
@given(
    start=st.integers(0, 299),
    length=st.integers(1, 150),
    n_channels=st.integers(1, 15),
    n_times=st.sampled_from([2, 3, 16, 33]),
    seed=st.integers(0, 2**70),
)
def test_a_trial_is_the_same_in_any_range_of_any_source(
    start: int, length: int, n_channels: int, n_times: int, seed: int
) -> None:
    options = {"n_channels": n_channels, "n_times": n_times, "seed": seed}
    whole = Synthetic(n_trials=450, **options).read(0, 450)
    part = Synthetic(n_trials=start + length, **options).read(start, start + length)
    np.testing.assert_array_equal(part, whole[start : start + length])


def test_trials_channels_and_seeds_differ() -> None:
    eeg = Synthetic(effect=0.0).read(0, 200)
    rows = eeg.reshape(-1, 256)
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert abs(np.corrcoef(eeg[:130, 0].ravel(), eeg[64:194, 0].ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(eeg[:, 0].ravel(), eeg[:, 1].ravel())[0, 1]) < 0.1
    other = Synthetic(effect=0.0, seed=1).read(0, 200)
    assert abs(np.corrcoef(eeg.ravel(), other.ravel())[0, 1]) < 0.1


def test_values_stay_what_this_version_made() -> None:
    eeg = Synthetic(seed=3).read(70, 72)
    pinned = [[12.96205, 16.77849, -2.330388], [54.61354, 37.61496, 3.090341]]
    np.testing.assert_allclose(eeg[1, [0, 6], 100:103], pinned, rtol=1e-3)


@pytest.mark.parametrize(("n_channels", "n_times"), [(14, 256), (2, 255), (1, 3), (1, 2)])
def test_the_background_deviates_by_20_uv_in_each_channel(n_channels: int, n_times: int) -> None:
    source = Synthetic(n_channels=n_channels, n_times=n_times, effect=0.0)
    eeg = source.read(0, 4096)
    np.testing.assert_allclose(eeg.std(axis=(0, 2)), 20.0, rtol=0.05)
    np.testing.assert_allclose(eeg.mean(axis=(0, 2)), 0.0, atol=2.0)


def test_power_falls_as_one_over_the_frequency() -> None:
    frequency, spectrum = power(Synthetic(effect=0.0, n_times=512), 1024)
    noise = (frequency < 6) | (frequency > 15)
    for channel in spectrum:
        slope, _ = np.polyfit(np.log(frequency[noise]), np.log(channel[noise]), 1)
        assert slope == pytest.approx(-1.0, abs=0.05)


def test_alpha_stands_out_most_over_the_back_of_the_head() -> None:
    frequency, spectrum = power(Synthetic(effect=0.0), 1024)
    whitened = spectrum * frequency
    elsewhere = whitened[:, (frequency < 6) | (frequency > 15)].mean(axis=1)
    ratio = dict(zip(EPOC, whitened[:, frequency == 10.0][:, 0] / elsewhere, strict=True))
    np.testing.assert_allclose([ratio[name] for name in ("O1", "O2", "P7", "P8")], 25.0, rtol=0.15)
    np.testing.assert_allclose([ratio[name] for name in ("AF3", "F4", "T7")], 6.25, rtol=0.15)
    assert (frequency[whitened.argmax(axis=1)] == 10.0).all()


@pytest.mark.parametrize(("n_times", "sfreq", "squeeze"), [(256, 128.0, 1.0), (64, 128.0, 0.5)])
def test_the_evoked_response_is_the_labels_own(n_times: int, sfreq: float, squeeze: float) -> None:
    options = {"n_times": n_times, "sfreq": sfreq, "n_classes": 5}
    noise = Synthetic(effect=0.0, **options).read(0, 100)
    evoked = Synthetic(effect=1.0, **options).read(0, 100) - noise
    label = Synthetic(n_trials=100, **options).scan().label
    for one in range(5):
        same = evoked[label == one]
        np.testing.assert_allclose(same, np.broadcast_to(same[0], same.shape), atol=1e-4)
        channel, sample = np.unravel_index(np.abs(same[0]).argmax(), same[0].shape)
        assert abs(same[0, channel, sample]) == pytest.approx(20.0, rel=0.03)
        assert 0.09 * squeeze < sample / sfreq < 0.51 * squeeze
    first = evoked[:5].reshape(5, -1)
    similarity = np.corrcoef(first) - np.eye(5)
    assert np.abs(similarity).max() < 0.9
    half = Synthetic(effect=0.5, **options).read(0, 100) - noise
    np.testing.assert_allclose(half, evoked / 2, atol=1e-4)


def test_labels_can_be_told_from_the_signal_only_where_there_is_an_effect() -> None:
    def accuracy(effect: float) -> float:
        source = Synthetic(n_trials=600, effect=effect)
        eeg, label = source.read(0, 600), source.scan().label
        features = eeg[:, :, :80].reshape(600, 14, 10, 8).mean(axis=-1).reshape(600, -1)
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        return model.fit(features[:300], label[:300]).score(features[300:], label[300:])

    assert accuracy(1.0) > 0.35
    assert 0.04 < accuracy(0.0) < 0.17


def test_the_mean_of_a_trial_does_not_give_the_label_away() -> None:
    source = Synthetic(n_trials=600)
    means, label = source.read(0, 600).mean(axis=-1), source.scan().label
    model = LinearDiscriminantAnalysis().fit(means[:300], label[:300])
    assert model.score(means[300:], label[300:]) < 0.25


def test_ten_million_trials_cost_no_signal() -> None:
    source = Synthetic(n_trials=10_000_000)
    tracemalloc.start()
    trials = source.scan()
    last = source.read(9_999_999, 10_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert trials.n_trials == 10_000_000
    assert trials.label[-1] == 9
    assert peak < 8 * 8 * 10_000_000
    np.testing.assert_array_equal(last, Synthetic().read(9_999_990, 10_000_000)[-1:])


def test_large_trials_are_drawn_one_at_a_time() -> None:
    source = Synthetic(n_channels=128, n_times=4096)
    tracemalloc.start()
    eeg = source.read(5, 6)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * eeg.nbytes

"""The spectral features against scipy, mne-features and antropy."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import antropy
import mne_features.univariate as mne_features
import numpy as np
import pytest
import scipy.signal
import scipy.stats

from eegstore import Block, ColumnSpec, InputError, RecipeError, registry
from eegstore_plugins.spectral import BANDS_HZ, Spectral, WindowName

SFREQ = 128.0
WHOLE = {"whole": (0.1, SFREQ / 2)}


def describe(spectral, n_channels, n_times, sfreq=SFREQ):
    spec = ColumnSpec(
        dims=("channel", "time"),
        shape=(n_channels, n_times),
        dtype="float32",
        coords={"channel": [f"C{i}" for i in range(n_channels)]},
        units="uV",
        attrs={"sfreq": sfreq},
    )
    return spectral.describe({"eeg": spec})


def spectral_of(eeg, spectral=None, sfreq=SFREQ, n_valid=None):
    """Feature name to float32 (trial, channel), through the plugin's two methods."""
    spectral = spectral or Spectral()
    eeg = np.asarray(eeg, dtype=np.float32)
    n_trials, n_channels, n_times = eeg.shape
    if n_valid is not None:
        n_valid = np.asarray(n_valid, dtype=np.int64)
    times = np.arange(n_times) / sfreq
    block = Block({"eeg": eeg}, 0, n_trials, n_valid=n_valid, sfreq=sfreq, times=times)
    names = describe(spectral, n_channels, n_times, sfreq).coords["feature"]
    values = spectral(block)
    assert values.shape == (n_trials, n_channels, len(names))
    return dict(zip(names, np.moveaxis(values, -1, 0), strict=True))


@pytest.fixture(scope="session")
def epoc(shared_data):
    """float32 (trial, channel, time), real EPOC windows with their offset and their spikes."""
    text = (shared_data / "epoc-derived" / "EP_derived_eyestate.txt").read_text()
    rows = [line.split("\t")[6].split(",") for line in text.splitlines()]
    eeg = np.array(rows, dtype=np.float32).reshape(57, 14, 260)
    assert eeg.max() > 700_000
    return eeg


def noise(n_times, seed=0):
    """float32 (trial, channel, time): random walks plus noise, beside a large offset."""
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=(5, 3, n_times)).cumsum(-1) + rng.normal(size=(5, 3, n_times))
    return (walk + 4300).astype(np.float32)


def periodogram(x, window):
    """Frequencies in range, and the power of each bin, from scipy's density."""
    freqs, density = scipy.signal.periodogram(x, SFREQ, window, detrend="constant")
    in_range = (freqs >= 1) & (freqs < 45)
    return freqs[in_range], density[..., in_range] * (freqs[1] - freqs[0])


def band_power(band, relative=False):
    low, high = BANDS_HZ[band]

    def reference(freqs, power):
        in_band = power[..., (freqs >= low) & (freqs < high)].sum(-1)
        return in_band / power.sum(-1) if relative else in_band

    return reference


def slope(freqs, power):
    lines = np.polyfit(np.log10(freqs), np.log10(power.reshape(-1, len(freqs))).T, 1)
    return lines[0].reshape(power.shape[:-1])


def entropy(freqs, power):
    return scipy.stats.entropy(power, axis=-1) / np.log(len(freqs))


def edge(freqs, power):
    cumulative = np.cumsum(power / power.sum(-1, keepdims=True), axis=-1)
    return freqs[np.argmax(cumulative >= 0.95, axis=-1)]


# Each from frequencies and bin powers in range, float64 (trial, channel, bin).
SCIPY_REFERENCES = {
    **{f"{band}_power": band_power(band) for band in BANDS_HZ},
    **{f"{band}_relative": band_power(band, relative=True) for band in BANDS_HZ},
    "entropy": entropy,
    "peak_hz": lambda freqs, power: freqs[power.argmax(-1)],
    "edge95_hz": edge,
    "aperiodic_slope": slope,
}


def assert_matches_scipy(feature, eeg, window="hann"):
    expected = SCIPY_REFERENCES[feature](*periodogram(eeg.astype(np.float64), window))
    values = spectral_of(eeg, Spectral(window=window))[feature]
    np.testing.assert_allclose(values, expected, rtol=2e-6, atol=1e-9)


def test_every_feature_has_a_reference():
    assert list(SCIPY_REFERENCES) == describe(Spectral(), 1, 8).coords["feature"]


@pytest.mark.parametrize("n_times", [64, 255, 256])
@pytest.mark.parametrize("feature", SCIPY_REFERENCES)
def test_feature_matches_scipy_on_random_signals(feature, n_times):
    assert_matches_scipy(feature, noise(n_times))


@pytest.mark.parametrize("window", get_args(WindowName))
def test_window_is_that_of_scipy(window):
    assert_matches_scipy("beta_power", noise(256), window)


@pytest.mark.shared_data
@pytest.mark.parametrize("feature", SCIPY_REFERENCES)
def test_feature_matches_scipy_on_real_signals(feature, epoc):
    assert_matches_scipy(feature, epoc)


# mne-features' "fft" spectrum has no window, and its bands hold their upper edge: at 255 samples
# no bin is at an edge. Its entropy and edge are over all frequencies.
MNE_FEATURES = [
    (
        f"{band}_power",
        BANDS_HZ,
        lambda x, edges=edges: mne_features.compute_pow_freq_bands(
            SFREQ, x, np.array([edges]), normalize=False, psd_method="fft"
        ),
    )
    for band, edges in BANDS_HZ.items()
] + [
    (
        "entropy",
        WHOLE,
        lambda x: mne_features.compute_spect_entropy(SFREQ, x, psd_method="fft") / np.log2(127),
    ),
    (
        "entropy",
        WHOLE,
        lambda x: (
            antropy.spectral_entropy(x, SFREQ, "fft", normalize=True) * np.log2(128) / np.log2(127)
        ),
    ),
    (
        "edge95_hz",
        WHOLE,
        lambda x: mne_features.compute_spect_edge_freq(
            SFREQ, x, ref_freq=63.7, edge=[0.95], psd_method="fft"
        ),
    ),
]


def assert_matches_mne_features(feature, bands_hz, reference, eeg):
    values = spectral_of(eeg, Spectral(bands_hz=bands_hz, window="boxcar"))[feature]
    expected = [reference(trial.astype(np.float64)) for trial in eeg]
    np.testing.assert_allclose(values, expected, rtol=2e-6)


@pytest.mark.parametrize(("feature", "bands_hz", "reference"), MNE_FEATURES)
def test_feature_matches_mne_features_on_random_signals(feature, bands_hz, reference):
    assert_matches_mne_features(feature, bands_hz, reference, noise(255))


@pytest.mark.shared_data
@pytest.mark.parametrize(("feature", "bands_hz", "reference"), MNE_FEATURES)
def test_feature_matches_mne_features_on_real_signals(feature, bands_hz, reference, epoc):
    assert_matches_mne_features(feature, bands_hz, reference, epoc[:, :, :255])


def test_a_10_hz_sine_has_its_power_in_alpha():
    sine = 3 * np.sin(2 * np.pi * 10 * np.arange(256) / SFREQ)
    of = {name: values[0, 0] for name, values in spectral_of(sine[None, None]).items()}
    assert of["alpha_power"] == pytest.approx(3**2 / 2)
    assert of["alpha_relative"] == pytest.approx(1)
    assert max(of[f"{band}_power"] for band in BANDS_HZ if band != "alpha") < 1e-9
    assert of["peak_hz"] == 10
    # Hann's window spreads a line over three bins: 1/6, 4/6 and 1/6 of its power.
    assert of["edge95_hz"] == 10.5
    spread = np.array([1, 4, 1]) / 6
    assert of["entropy"] == pytest.approx(-(spread * np.log(spread)).sum() / np.log(88))


def test_powers_of_all_frequencies_add_up_to_the_variance():
    eeg = noise(255)
    values = spectral_of(eeg, Spectral(bands_hz=WHOLE, window="boxcar"))
    np.testing.assert_allclose(values["whole_power"], eeg.astype(np.float64).var(-1), rtol=1e-6)


@pytest.mark.parametrize("exponent", [0.0, -1.0, -2.5])
def test_slope_is_the_exponent_of_a_power_law(exponent):
    rng = np.random.default_rng(1)
    freqs = np.fft.rfftfreq(256, 1 / SFREQ)[1:]
    spectrum = freqs ** (exponent / 2) * np.exp(2j * np.pi * rng.random(128))
    signal = np.fft.irfft(np.concatenate([[0], spectrum]))
    values = spectral_of(signal[None, None], Spectral(window="boxcar"))
    assert values["aperiodic_slope"][0, 0] == pytest.approx(exponent, abs=1e-5)


def test_a_flat_signal_has_no_spectrum():
    for name, values in spectral_of(np.full((2, 3, 256), 4300.3)).items():
        assert not values.any(), name


@pytest.mark.parametrize("sample", [np.nan, np.inf])
def test_a_signal_with_what_is_no_number_has_no_feature_but_its_neighbours_have(sample):
    eeg = noise(256)
    expected = spectral_of(eeg)
    eeg[1, 2, 77] = sample
    for name, values in spectral_of(eeg).items():
        assert np.isnan(values[1, 2]), name
        expected[name][1, 2] = np.nan
        np.testing.assert_array_equal(values, expected[name], name)


@pytest.mark.parametrize("n_valid", [0, 1, 2])
def test_a_trial_too_short_for_a_bin_in_range_has_zeros(n_valid):
    eeg = np.full((1, 2, 256), np.nan)
    eeg[..., :n_valid] = [[3.0, -5.0][:n_valid], [1.0, 2.0][:n_valid]]
    for name, values in spectral_of(eeg, n_valid=[n_valid]).items():
        assert values.tolist() == [[0, 0]], name


def test_a_band_without_a_bin_has_no_power():
    # 12 samples at 128 Hz: bins at 10.7, 21.3, 32 and 42.7 Hz.
    values = spectral_of(noise(12))
    assert not values["delta_power"].any()
    assert not values["theta_relative"].any()
    assert (values["alpha_power"] > 0).all()


def test_one_bin_in_range_is_a_line():
    # 3 samples at 128 Hz: the one bin below 45 Hz is at 42.7 Hz.
    values = spectral_of(noise(3))
    np.testing.assert_allclose(values["gamma_relative"], 1)
    np.testing.assert_allclose(values["peak_hz"], 128 / 3)
    np.testing.assert_allclose(values["entropy"], 0, atol=1e-9)
    np.testing.assert_allclose(values["aperiodic_slope"], 0, atol=1e-9)


def test_bands_share_an_edge_without_sharing_its_bin():
    # 220 Hz and 440 samples, as Muse records: bins of exactly 0.5 Hz, one at 8 Hz.
    eeg = np.random.default_rng(2).normal(size=(1, 1, 440))
    both = Spectral(bands_hz={"low": (4.0, 8.0), "high": (8.0, 13.0)})
    one = Spectral(bands_hz={"both": (4.0, 13.0)})
    halves = spectral_of(eeg, both, sfreq=220.0)
    total = spectral_of(eeg, one, sfreq=220.0)["both_power"]
    np.testing.assert_allclose(halves["low_power"] + halves["high_power"], total, rtol=1e-6)


def test_bands_may_overlap():
    eeg = noise(256)
    bands = {"alpha": (8.0, 13.0), "mu": (8.0, 12.0), "wide": (1.0, 45.0)}
    values = spectral_of(eeg, Spectral(bands_hz=bands))
    assert (values["mu_power"] < values["alpha_power"]).all()
    np.testing.assert_array_equal(values["alpha_power"], spectral_of(eeg)["alpha_power"])
    np.testing.assert_allclose(values["wide_relative"], 1, rtol=1e-6)


def test_column_names_each_feature_with_its_unit():
    spec = describe(Spectral(bands_hz={"mu": (8.0, 12.0)}), 3, 256)
    assert spec.dims == ("channel", "feature")
    assert spec.shape == (3, 6)
    assert spec.coords["channel"] == ["C0", "C1", "C2"]
    unit_of = dict(zip(spec.coords["feature"], spec.attrs["feature_units"], strict=True))
    assert unit_of == {
        "mu_power": "uV^2",
        "mu_relative": "1",
        "entropy": "1",
        "peak_hz": "Hz",
        "edge95_hz": "Hz",
        "aperiodic_slope": "1",
    }


def test_a_band_above_the_nyquist_frequency_is_refused_by_name():
    with pytest.raises(InputError) as caught:
        describe(Spectral(), 3, 256, sfreq=80.0)
    message = str(caught.value)
    assert "'gamma' ends at 45 Hz" in message
    assert "Nyquist frequency of the recording, 40 Hz" in message
    assert "\n" not in message


def test_a_band_may_end_at_the_nyquist_frequency():
    assert describe(Spectral(), 3, 256, sfreq=90.0).shape == (3, 14)


@pytest.mark.parametrize("edges", [(13.0, 8.0), (8.0, 8.0), (0.0, 4.0), (float("nan"), 4.0)])
def test_a_band_whose_edges_are_not_ordered_is_refused_by_name(edges):
    with pytest.raises(ValueError, match=r"band 'odd' is \[.*\] Hz, expected 0 < low < high"):
        Spectral(bands_hz={"odd": edges})


def create(**options):
    return registry.create("extractor", "spectral", options, Path())


def test_recipe_options_reach_the_extractor():
    spectral = create(bands_hz={"mu": [8, 12.5]}, window="boxcar")
    assert spectral == Spectral(bands_hz={"mu": (8.0, 12.5)}, window="boxcar")
    assert create() == Spectral()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"window": "han"}, "window"),
        ({"bands_hz": {}}, "bands_hz"),
        ({"bands_hz": {"mu": [8]}}, "mu"),
        ({"bands_hz": {"mu": [12, 8]}}, "'mu' is \\[12, 8\\]"),
    ],
)
def test_a_recipe_with_wrong_options_is_refused(options, named):
    with pytest.raises(RecipeError, match=named):
        create(**options)

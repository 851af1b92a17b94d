"""What both kinds of channel features promise: one trial alone decides its row."""

from __future__ import annotations

import itertools
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eegstore import Block
from eegstore_plugins import valid_samples
from eegstore_plugins.spectral import Spectral
from eegstore_plugins.temporal import Temporal

EXTRACTORS = pytest.mark.parametrize(
    "extractor", [Spectral(), Temporal()], ids=lambda one: one.name
)


def extract(extractor, eeg, n_valid=None, rows=slice(None)):
    """The features of some rows, given to the extractor as one block."""
    eeg = eeg[rows]
    n_valid = None if n_valid is None else n_valid[rows]
    times = np.arange(eeg.shape[-1]) / 128
    return extractor(Block({"eeg": eeg}, 0, len(eeg), n_valid=n_valid, sfreq=128.0, times=times))


def in_blocks(extractor, eeg, n_valid, cuts):
    edges = [0, *cuts, len(eeg)]
    ranges = [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]
    return np.concatenate([extract(extractor, eeg, n_valid, rows) for rows in ranges])


def trials(seed, n_trials, n_channels, n_times):
    rng = np.random.default_rng(seed)
    eeg = rng.normal(size=(n_trials, n_channels, n_times)).cumsum(-1) + 4300
    return eeg.astype(np.float32)


@EXTRACTORS
@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_bytes_do_not_depend_on_the_size_of_a_block(extractor, size):
    eeg = trials(0, 130, 14, 256)
    n_valid = np.resize([256, 256, 200, 256, 17, 255], 130)
    whole = extract(extractor, eeg, n_valid)
    cut = in_blocks(extractor, eeg, n_valid, range(size, 130, size))
    assert whole.tobytes() == cut.tobytes()


@EXTRACTORS
@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 17), st.integers(1, 300)),
    seed=st.integers(0, 1000),
    inner_bytes=st.sampled_from([1, 10_000, 1 << 20]),
    data=st.data(),
)
def test_bytes_do_not_depend_on_where_blocks_are_cut(extractor, shape, seed, inner_bytes, data):
    eeg = trials(seed, *shape)
    lengths = st.sampled_from([shape[2], shape[2] // 2, *range(min(shape[2], 5))])
    n_valid = np.array(data.draw(st.lists(lengths, min_size=shape[0], max_size=shape[0])))
    cuts = sorted(data.draw(st.sets(st.integers(1, shape[0]), max_size=6)))
    whole = extract(extractor, eeg, n_valid)
    with mock.patch.object(valid_samples, "INNER_BYTES", inner_bytes):
        cut = in_blocks(extractor, eeg, n_valid, cuts)
    assert np.isfinite(whole).all()
    assert whole.tobytes() == cut.tobytes()


def float64_features(extractor, eeg):
    """Features before they are rounded, (feature, signal), by the function that is handed on."""
    module = sys.modules[type(extractor).__module__]
    signals = eeg.reshape(-1, eeg.shape[-1])
    with mock.patch.object(module, "over_valid_samples", lambda _, __, compute: compute(signals)):
        return extract(extractor, eeg)


@EXTRACTORS
@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 20), st.integers(1, 15), st.integers(1, 300)),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_no_bit_depends_on_the_other_trials_even_before_rounding(extractor, shape, seed, data):
    # float32 results hide most differences in the order of summation; float64 ones do not.
    eeg = trials(seed, *shape)
    cut = data.draw(st.integers(1, shape[0] - 1))
    whole = float64_features(extractor, eeg)
    parts = [float64_features(extractor, part) for part in (eeg[:cut], eeg[cut:])]
    assert whole.tobytes() == np.concatenate(parts, axis=-1).tobytes()


@EXTRACTORS
@pytest.mark.parametrize("padding", [np.nan, np.inf, 1e9])
def test_padding_changes_nothing(extractor, padding):
    eeg = trials(1, 6, 4, 300)
    padded = eeg.copy()
    padded[:, :, 220:] = padding
    values = extract(extractor, padded, np.full(6, 220))
    np.testing.assert_array_equal(values, extract(extractor, eeg[:, :, :220].copy()))


@EXTRACTORS
@settings(max_examples=200, deadline=None)
@given(
    samples=st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40
    )
)
def test_finite_samples_have_finite_features(extractor, samples):
    eeg = np.array(samples, dtype=np.float32)[np.newaxis, np.newaxis]
    assert np.isfinite(extract(extractor, eeg)).all()


@EXTRACTORS
def test_features_scale_with_the_signal_over_thirty_orders_of_magnitude(extractor):
    eeg = trials(2, 3, 2, 256)
    # Powers of two change no digit; a feature in units to the power k grows by 2^(k m).
    values = extract(extractor, eeg)
    for exponent in (-50, 50):
        ratio = extract(extractor, eeg * np.float32(2.0**exponent)) / values
        steps = np.log2(ratio) / exponent
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
        assert set(np.unique(np.round(steps))) <= {0, 1, 2}


@EXTRACTORS
def test_a_value_beyond_float32_is_its_largest(extractor):
    eeg = np.zeros((1, 1, 256), dtype=np.float32)
    eeg[..., ::2] = 3e30
    eeg[..., ::13] = -3e30
    largest = np.finfo(np.float32).max
    values = extract(extractor, eeg)
    assert np.isfinite(values).all()
    assert (np.abs(values) == largest).any()


@EXTRACTORS
@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_a_trial_with_nan_or_inf_spoils_no_other(extractor, damage):
    eeg = trials(3, 5, 3, 256)
    spoiled = eeg.copy()
    spoiled[2, 1, 100] = damage
    values, clean = extract(extractor, spoiled), extract(extractor, eeg)
    assert np.isnan(values[2, 1]).any()
    others = np.ones((5, 3), dtype=bool)
    others[2, 1] = False
    np.testing.assert_array_equal(values[others], clean[others])

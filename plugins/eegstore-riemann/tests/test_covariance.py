"""The covariances are pyriemann's, of the recorded samples alone."""

from __future__ import annotations

import numpy as np
import pytest
from pyriemann.geometry.covariance import covariances

from eegstore_riemann.covariance import RiemannCovariance

ESTIMATORS = ["oas", "lwf", "scm", "cov"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_values_are_pyriemanns(eeg, block, estimator):
    found = RiemannCovariance(estimator)(block(eeg))
    expected = covariances(eeg.astype(np.float64), estimator)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1))


def test_two_sources_have_the_covariance_that_they_were_mixed_with(block):
    """A sine and a cosine of whole periods, uncorrelated, of amplitude 2 and 6."""
    angle = 2 * np.pi * 4 * np.arange(256) / 256
    first, second = 2 * np.sin(angle), 6 * np.cos(angle)
    eeg = np.stack([first, second, first + second, np.zeros(256)])[np.newaxis]
    expected = [[2, 0, 2, 0], [0, 18, 18, 0], [2, 18, 20, 0], [0, 0, 0, 0]]
    found = RiemannCovariance("scm")(block(eeg.astype(np.float32)))
    np.testing.assert_allclose(found, [expected], atol=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_padding_does_not_count(eeg, block, estimator):
    padded = eeg.copy()
    padded[1, :, 100:] = np.nan
    padded[2, :, 70:] = 1e9
    lengths = [128, 100, 70, *[128] * 9]
    found = RiemannCovariance(estimator)(block(padded, lengths))
    for row in (0, 1, 2):
        expected = covariances(eeg[row, :, : lengths[row]].astype(np.float64), estimator)
        np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_odd_trials_have_zeros_and_not_finite_ones_nan(eeg, block, estimator):
    odd = eeg.copy()
    odd[0] = 0.1  # flat, and its mean is rounded
    odd[3, 1] = 0
    odd[4, 2, 7] = np.nan
    odd[5, 0, 0] = np.inf
    lengths = [128, 1, 0, *[128] * 9]
    found = RiemannCovariance(estimator)(block(odd, lengths))
    np.testing.assert_array_equal(found[:3], 0)
    assert np.isnan(found[4:6]).all()
    assert np.isfinite(found[3]).all()
    assert np.isfinite(found[6:]).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_huge_and_tiny_signals_keep_their_scale(eeg, block, estimator):
    found = RiemannCovariance(estimator)(block(eeg))
    for scale in (1e-30, 2.0**100):
        scaled = RiemannCovariance(estimator)(block(eeg * np.float32(scale)))
        np.testing.assert_allclose(scaled / scale**2, found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_row_is_the_same_in_any_block(eeg, block, estimator):
    extractor = RiemannCovariance(estimator)
    whole = extractor(block(eeg))
    for n_rows in (1, 2, 7):
        parts = [extractor(block(eeg[at : at + n_rows])) for at in range(0, 12, n_rows)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_one_channel_has_its_variance(eeg, block):
    found = RiemannCovariance("cov")(block(eeg[:, :1]))
    expected = eeg[:, 0].astype(np.float64).var(axis=1, ddof=1)
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-12)


def test_both_axes_are_named_by_channels(inputs):
    spec = RiemannCovariance().describe(inputs)
    assert (spec.dims, spec.shape, spec.dtype) == (("channel", "other_channel"), (4, 4), "float64")
    assert spec.coords["channel"] == spec.coords["other_channel"] == ["Fz", "Cz", "Pz", "Oz"]
    assert spec.units == "uV^2"

"""The vectors are pyriemann's, at the mean of those trials that fit was given."""

from __future__ import annotations

import numpy as np
import pytest
from pyriemann.geometry.covariance import covariances
from pyriemann.geometry.distance import distance
from pyriemann.geometry.mean import gmean
from pyriemann.geometry.tangentspace import tangent_space

from eegstore import InputError, PluginError
from eegstore_riemann.tangent import RiemannTangent

METRICS = ["riemann", "logeuclid", "euclid"]
SHARE = 1e-5


def fitted(extractor: RiemannTangent, *blocks) -> RiemannTangent:
    """The extractor as a worker has it: made anew, with the state that another one found."""
    another = RiemannTangent(extractor.estimator, extractor.metric, extractor.regularisation)
    another.restore(extractor.fit(blocks))
    return another


def regularised(eeg: np.ndarray, train: np.ndarray, estimator: str) -> np.ndarray:
    """As the documentation says it, in other words."""
    found, known = (covariances(some.astype(np.float64), estimator) for some in (eeg, train))
    usual = np.median([np.diag(one).mean() for one in known])
    return np.stack([one + SHARE * (np.diag(one).mean() + usual) * np.eye(4) for one in found])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("estimator", ["oas", "scm"])
def test_values_are_pyriemanns_at_the_mean_of_the_train_trials(eeg, block, estimator, metric):
    train = eeg[:8]
    extractor = RiemannTangent(estimator, metric, SHARE)
    state = extractor.fit([block(train[:5]), block(train[5:], start=5)])
    reference = gmean(regularised(train, train, estimator), metric=metric)
    np.testing.assert_allclose(state["reference"], reference, rtol=1e-9)
    found = fitted(extractor, block(train))(block(eeg))
    expected = tangent_space(regularised(eeg, train, estimator), reference, metric=metric)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


def test_the_train_trials_are_centred_and_lengths_are_distances(eeg, block):
    """The mean of a Riemannian mean's own tangent vectors is 0 (Pennec et al. 2006)."""
    extractor = fitted(RiemannTangent("scm"), block(eeg))
    vectors = extractor(block(eeg))
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-6)
    matrices = regularised(eeg, eeg, "scm")
    reference = gmean(matrices, metric="riemann")
    expected = distance(matrices, reference, metric="riemann").ravel()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), expected, rtol=1e-5)


def test_a_trial_that_is_the_mean_has_zeros(eeg, block):
    one = fitted(RiemannTangent(), block(eeg[:1]))
    np.testing.assert_allclose(one(block(eeg[:1])), 0, atol=1e-7)
    louder = one(block(2 * eeg[:1]))[0]
    diagonal = np.array([0, 4, 7, 9])
    np.testing.assert_allclose(louder[diagonal], np.log(4), rtol=1e-4)
    np.testing.assert_allclose(np.delete(louder, diagonal), 0, atol=1e-4)


def test_only_the_blocks_that_fit_saw_matter_and_not_how_they_were_cut(eeg, block):
    extractor = RiemannTangent()
    state = extractor.fit([block(eeg[:8])])
    for cut in (1, 3, 7):
        again = extractor.fit([block(eeg[:cut]), block(eeg[cut:8], start=cut)])
        np.testing.assert_array_equal(again["reference"], state["reference"])
    other = extractor.fit([block(eeg)])
    assert np.abs(other["reference"] / state["reference"] - 1).max() > 1e-3


def test_the_unit_does_not_matter_to_the_riemannian_metric(eeg, block):
    in_uv = fitted(RiemannTangent(), block(eeg[:8]))(block(eeg))
    volts = (eeg / 1e6).astype(np.float32)
    in_v = fitted(RiemannTangent(), block(volts[:8]))(block(volts))
    np.testing.assert_allclose(in_v, in_uv, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("estimator", ["oas", "lwf", "scm", "cov"])
def test_what_has_no_full_rank_stays_finite(eeg, block, estimator, metric):
    referenced = eeg - eeg.mean(axis=1, keepdims=True)
    extractor = fitted(RiemannTangent(estimator, metric), block(referenced[:8]))
    odd = referenced.copy()
    odd[0] = 0.1
    odd[1, 2] = 0
    odd[4] *= np.float32(1e30)
    odd[5] *= np.float32(1e-30)
    vectors = extractor(block(odd, [128, 128, 1, 0, *[128] * 8]))
    assert np.isfinite(vectors).all()
    usual = extractor(block(referenced))
    np.testing.assert_array_equal(vectors[6:], usual[6:])
    np.testing.assert_array_equal(vectors[0], vectors[2])
    # A trial of fewer samples than channels, as short trials are.
    assert np.isfinite(extractor(block(referenced, [3] * 12))).all()


@pytest.mark.parametrize("share", [1e-6, 1e-4])
def test_one_source_after_training_on_another_stays_finite(block, share):
    """The worst that rank can be: nothing of the trial is where the train trials are."""
    chance = np.random.default_rng(8)
    first, second = chance.standard_normal((2, 32, 1)) * chance.standard_normal((2, 1, 100))
    extractor = RiemannTangent("scm", "riemann", share)
    extractor = fitted(extractor, block(first[np.newaxis].astype(np.float32)))
    vectors = extractor(block(second[np.newaxis].astype(np.float32)))
    assert np.isfinite(vectors).all()
    # Of the two directions of either, one has grown and the other shrunk by the share.
    assert np.linalg.norm(vectors) > -np.log(32 * share)


def test_flat_trials_do_not_move_the_mean(eeg, block):
    flat = np.concatenate([eeg[:8], np.full((4, 4, 128), 7, np.float32)])
    extractor = RiemannTangent()
    expected = extractor.fit([block(eeg[:8])])
    for name, value in extractor.fit([block(flat)]).items():
        np.testing.assert_array_equal(value, expected[name])


def test_fit_refuses_trials_that_are_all_flat(block):
    with pytest.raises(InputError, match="all train trials are flat"):
        RiemannTangent().fit([block(np.ones((3, 4, 128), np.float32))])


@pytest.mark.parametrize("metric", METRICS)
def test_a_row_is_the_same_in_any_block(eeg, block, metric):
    extractor = fitted(RiemannTangent(metric=metric), block(eeg[:8]))
    whole = extractor(block(eeg))
    for n_rows in (1, 2, 7):
        parts = [extractor(block(eeg[at : at + n_rows])) for at in range(0, 12, n_rows)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    order = np.random.default_rng(1).permutation(12)
    np.testing.assert_array_equal(extractor(block(eeg[order])), whole[order])


def test_a_row_that_is_not_finite_is_nan_alone(eeg, block):
    extractor = fitted(RiemannTangent(), block(eeg[:8]))
    broken = eeg.copy()
    broken[3, 0, 5] = np.nan
    vectors = extractor(block(broken))
    assert np.isnan(vectors[3]).all()
    usual = extractor(block(eeg))
    np.testing.assert_array_equal(np.delete(vectors, 3, axis=0), np.delete(usual, 3, axis=0))


def test_nothing_is_computed_before_restore(eeg, block):
    with pytest.raises(PluginError, match=r"before restore\(\)"):
        RiemannTangent()(block(eeg))


def test_a_feature_is_named_by_its_channels(inputs):
    spec = RiemannTangent().describe(inputs)
    assert (spec.dims, spec.shape, spec.dtype) == (("feature",), (10,), "float32")
    assert spec.coords["feature"] == [
        "Fz:Fz", "Fz:Cz", "Fz:Pz", "Fz:Oz", "Cz:Cz", "Cz:Pz", "Cz:Oz", "Pz:Pz", "Pz:Oz", "Oz:Oz",
    ]  # fmt: skip
    assert spec.units == "1"
    assert RiemannTangent(metric="euclid").describe(inputs).units == "uV^2"
    assert RiemannTangent(metric="logeuclid").describe(inputs).units == "uV^2"

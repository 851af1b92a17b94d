"""Pairing by similarity: nearest, CSLS, Sinkhorn, assignment, mutual, in stages."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

import eegstore
from eegstore import InputError, RecipeError
from eegstore.registry import create
from eegstore.testing.pairing import HeldColumn
from eegstore_plugins import coupling, nearness
from eegstore_plugins.multi_stage import MultiStagePairing
from eegstore_plugins.mutual import MutualPairing
from eegstore_plugins.similarity import SimilarityPairing
from test_pairing import make_stimuli, make_trials

QUERY, GALLERY = "trials/brain", "stimuli/image"
METHODS = ("nearest", "csls", "sinkhorn", "assignment")


def held(values):
    values = np.asarray(values, dtype=np.float32)
    dims = tuple(f"d{axis}" for axis in range(values.ndim - 1))
    return HeldColumn(eegstore.ColumnSpec(dims, values.shape[1:], "float32"), values)


def pair(plugin, query, gallery, *, label=None, stimulus_label=None, quality=None):
    columns = {QUERY: held(query), GALLERY: held(gallery)}
    if quality is not None:
        columns["trials/quality"] = held(quality)
    trials = make_trials([0] * len(query) if label is None else label)
    stimuli = make_stimuli([0] * len(gallery) if stimulus_label is None else stimulus_label)
    return plugin(trials, stimuli, columns)


def similar(query, gallery, cls=SimilarityPairing, **options):
    return pair(cls(QUERY, GALLERY, **options), query, gallery)


def cosines(query, gallery):
    query, gallery = np.asarray(query, np.float64), np.asarray(gallery, np.float64)
    query = query / np.linalg.norm(query, axis=1, keepdims=True)
    return query @ (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).T


def vectors(n_rows, width=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n_rows, width)).astype(np.float32)


@pytest.fixture
def small_blocks(monkeypatch):
    """A few trials a block."""
    monkeypatch.setattr(nearness, "BLOCK_VALUES", 100)


def every_stimulus(pairs):
    return np.column_stack([pairs.stimulus, pairs.more])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [2, 12])
def test_nearest_is_that_of_scikit_learn(metric, k):
    query, gallery = vectors(50), vectors(20, seed=1)
    pairs = similar(query, gallery, metric=metric, k=k)
    neighbours = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute")
    away, rows = neighbours.fit(gallery.astype(np.float64)).kneighbors(query.astype(np.float64))
    np.testing.assert_array_equal(every_stimulus(pairs), rows)
    scores = np.column_stack([pairs.score, pairs.more_score])
    np.testing.assert_allclose(scores, (1 - away) if metric == "cosine" else -away, atol=1e-5)
    assert pairs.stimulus.dtype == np.int64
    assert pairs.score.dtype == np.float32


@pytest.mark.usefixtures("small_blocks")
def test_csls_is_that_of_the_formula():
    query, gallery = vectors(50), vectors(20, seed=1)
    s = cosines(query, gallery)
    of_query = np.sort(s, axis=1)[:, -10:].mean(axis=1)
    of_gallery = np.sort(s, axis=0)[-10:].mean(axis=0)
    scores = 2 * s - of_query[:, None] - of_gallery
    pairs = similar(query, gallery, method="csls")
    np.testing.assert_array_equal(pairs.stimulus, scores.argmax(axis=1))
    np.testing.assert_allclose(pairs.score, scores.max(axis=1), atol=1e-5)
    assert (pairs.stimulus != s.argmax(axis=1)).any()


def test_csls_of_fewer_rows_than_neighbours_takes_all():
    query, gallery = vectors(4), vectors(3, seed=1)
    s = cosines(query, gallery)
    scores = 2 * s - s.mean(axis=1, keepdims=True) - s.mean(axis=0)
    pairs = similar(query, gallery, method="csls")
    np.testing.assert_array_equal(pairs.stimulus, scores.argmax(axis=1))


def hub_and_others():
    """Every trial has its own stimulus, and there is one that is nearer to nearly all."""
    own = np.eye(12, dtype=np.float32)
    gallery = np.vstack([own, np.full((1, 12), 0.5)])
    query = own + 0.6
    return query, gallery


def test_csls_and_sinkhorn_are_not_drawn_to_a_hub():
    query, gallery = hub_and_others()
    assert (similar(query, gallery).stimulus == 12).all()
    for method in ("csls", "sinkhorn"):
        chosen = similar(query, gallery, method=method).stimulus
        np.testing.assert_array_equal(chosen, np.arange(12), err_msg=method)
    assert (similar(query, gallery, method="assignment").stimulus == 12).sum() == 1


def test_sinkhorn_normalises_both_ways():
    similarity = cosines(vectors(30), vectors(12, seed=1))
    coupled = coupling.sinkhorn(similarity.copy(), 0.1)
    np.testing.assert_allclose(coupled.sum(axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(coupled.sum(axis=0), 30 / 12, rtol=1e-3)
    # It has the form of the optimum: the kernel with its rows and columns scaled.
    ratio = np.log(coupled) - similarity / 0.1
    centred = ratio - ratio.mean(axis=0) - ratio.mean(axis=1, keepdims=True) + ratio.mean()
    np.testing.assert_allclose(centred, 0, atol=1e-8)


def test_sinkhorn_writes_the_probability_of_the_pair():
    query, gallery = vectors(30), vectors(12, seed=1)
    expected = coupling.sinkhorn(cosines(query, gallery), 0.1)
    pairs = similar(query, gallery, method="sinkhorn", temperature=0.1, k=2)
    np.testing.assert_array_equal(pairs.stimulus, expected.argmax(axis=1))
    np.testing.assert_allclose(pairs.score, expected.max(axis=1), rtol=1e-4)
    assert (pairs.more_score[:, 0] <= pairs.score).all()


def test_sinkhorn_that_does_not_settle_names_the_temperature(monkeypatch):
    monkeypatch.setattr(coupling, "MAX_ROUNDS", 3)
    with pytest.raises(InputError, match=r"still \d+% off after 3 rounds.*raise temperature"):
        similar(vectors(30), vectors(12, seed=1), method="sinkhorn", temperature=0.01)


@pytest.mark.parametrize(("n_trials", "n_stimuli", "most"), [(9, 14, 1), (14, 14, 1), (31, 9, 4)])
def test_an_assignment_is_the_best_that_spares_stimuli(n_trials, n_stimuli, most):
    query, gallery = vectors(n_trials), vectors(n_stimuli, seed=1)
    pairs = similar(query, gallery, method="assignment")
    s = cosines(query, gallery)
    rows, columns = scipy.optimize.linear_sum_assignment(-np.repeat(s, most, axis=1))
    assert len(rows) == n_trials
    assert s[np.arange(n_trials), pairs.stimulus].sum() == pytest.approx(
        np.repeat(s, most, axis=1)[rows, columns].sum()
    )
    assert np.bincount(pairs.stimulus).max() <= most
    np.testing.assert_allclose(pairs.score, s[np.arange(n_trials), pairs.stimulus], atol=1e-6)


def test_an_assignment_one_to_one_leaves_trials_beyond_unpaired():
    query, gallery = vectors(12), vectors(5, seed=1)
    pairs = similar(query, gallery, method="assignment", capacity=1)
    assert sorted(pairs.stimulus.tolist()) == [-1] * 7 + list(range(5))
    assert np.isnan(pairs.score[pairs.stimulus < 0]).all()
    assert SimilarityPairing(QUERY, method="assignment", capacity=1).cardinality == "one-to-one"


def test_what_needs_all_similarities_is_refused_where_they_are_too_many(monkeypatch):
    monkeypatch.setattr("eegstore_plugins.similarity.MAX_VALUES", 100)
    message = r"25 trials x 10 stimuli are 250 similarities, expected at most 100 at once; set met"
    with pytest.raises(InputError, match=message):
        similar(vectors(25), vectors(10), method="sinkhorn")
    with pytest.raises(InputError, match=r"expected at most 33 at once"):
        similar(vectors(25), vectors(10), method="assignment")
    similar(vectors(25), vectors(10), method="csls")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("method", METHODS)
def test_rows_that_cannot_be_compared_are_never_paired(metric, method):
    query, gallery = vectors(40), vectors(15, seed=1)
    query[[3, 39], 0] = np.nan, np.inf
    gallery[[0, 14], 1] = np.nan, -np.inf
    if metric == "cosine":
        query[7] = gallery[5] = 0
    pairs = similar(query, gallery, metric=metric, method=method)
    out = [3, 7, 39] if metric == "cosine" else [3, 39]
    assert np.flatnonzero(pairs.stimulus < 0).tolist() == out
    assert np.flatnonzero(np.isnan(pairs.score)).tolist() == out
    assert not np.isin(pairs.stimulus, [0, 14, *([5] if metric == "cosine" else [])]).any()
    left = np.delete(query, out, axis=0)
    same = similar(left, gallery, metric=metric, method=method)
    np.testing.assert_array_equal(same.stimulus, np.delete(pairs.stimulus, out))


def test_a_gallery_without_a_row_to_compare_is_refused():
    with pytest.raises(InputError, match="stimuli/image: no row can be compared"):
        similar(vectors(3), np.zeros((4, 8)))
    assert similar(np.zeros((3, 8)), vectors(4), method="sinkhorn").stimulus.tolist() == [-1] * 3
    assert similar(np.zeros((3, 8)), vectors(4), method="csls").stimulus.tolist() == [-1] * 3
    assert similar(np.zeros((3, 8)), vectors(4), method="assignment").stimulus.max() == -1


def test_columns_of_different_width_are_refused():
    message = r"trials/brain has 8 numbers a row and stimuli/image 6, expected columns of one space"
    with pytest.raises(InputError, match=message):
        similar(vectors(3), vectors(4, 6))


def test_more_axes_are_laid_end_to_end():
    query, gallery = vectors(9, 12), vectors(5, 12, seed=1)
    flat = similar(query, gallery)
    folded = similar(query.reshape(9, 3, 4), gallery)
    np.testing.assert_array_equal(flat.stimulus, folded.stimulus)


@given(data=st.data(), metric=st.sampled_from(["cosine", "euclidean"]), k=st.integers(1, 10))
def test_of_equals_the_lowest_row_is_taken_in_blocks_of_any_size(data, metric, k):
    """Few different vectors, of whole numbers: many are alike."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    query, gallery = (rng.integers(-1, 2, (n, 3)) for n in (17, 11))
    gallery[0] = 1
    scale = rng.choice([1.0, 0.1, 3e4], 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearness, "BLOCK_VALUES", data.draw(st.sampled_from([1, 40, 10**6])))
        pairs = similar(query * scale, gallery * scale, metric=metric, k=k)
    chosen = every_stimulus(pairs) if k > 1 else pairs.stimulus[:, None]
    known = [row for row in range(11) if metric == "euclidean" or gallery[row].any()]
    for trial, vector in enumerate(query.tolist()):
        if metric == "cosine" and not any(vector):
            assert (chosen[trial] == -1).all()
            continue

        def exact(row, vector=vector):
            """A number that orders rows as the similarity does, without rounding."""
            other = gallery[row].tolist()
            if metric == "euclidean":
                return sum((a - b) ** 2 for a, b in zip(vector, other, strict=True))
            product = sum(a * b for a, b in zip(vector, other, strict=True))
            return -np.sign(product) * product**2 * 12 // sum(b * b for b in other)

        expected = sorted(known, key=lambda row: (exact(row), row))[:k]
        assert chosen[trial].tolist() == expected + [-1] * (k - len(expected))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n_trials", [1, 3])
def test_mutual_keeps_those_that_are_each_others_nearest(n_trials):
    query, gallery = vectors(60), vectors(20, seed=1)
    s = cosines(query, gallery)
    nearest = s.argmax(axis=1)
    kept = np.argsort(-s, axis=0, kind="stable")[:n_trials]
    expected = [
        stimulus if trial in kept[:, stimulus] else -1 for trial, stimulus in enumerate(nearest)
    ]
    pairs = similar(query, gallery, MutualPairing, n_trials=n_trials)
    assert pairs.stimulus.tolist() == expected
    assert -1 in expected
    paired = pairs.stimulus >= 0
    assert np.bincount(pairs.stimulus[paired]).max() <= n_trials
    np.testing.assert_allclose(pairs.score[paired], s.max(axis=1)[paired], atol=1e-6)
    assert np.isnan(pairs.score[~paired]).all()


@pytest.mark.usefixtures("small_blocks")
def test_mutual_pairs_of_equals_are_the_lowest_rows():
    query, gallery = np.ones((30, 4)), np.ones((9, 4))
    assert similar(query, gallery, MutualPairing).stimulus.tolist() == [0] + [-1] * 29
    pairs = similar(query, gallery, MutualPairing, n_trials=3)
    assert pairs.stimulus.tolist() == [0, 0, 0] + [-1] * 27


def staged(query, gallery, label, stimulus_label, measured=None, **options):
    plugin = MultiStagePairing(QUERY, GALLERY, **options)
    return pair(
        plugin, query, gallery, label=label, stimulus_label=stimulus_label, quality=measured
    )  # fmt: skip


@pytest.mark.usefixtures("small_blocks")
@given(seed=st.integers(0, 1000), k=st.integers(1, 4))
def test_multi_stage_takes_the_most_similar_of_the_label(seed, k):
    rng = np.random.default_rng(seed)
    label, of_stimulus = rng.integers(-1, 4, 30), rng.integers(-1, 4, 12)
    query, gallery = vectors(30, seed=seed), vectors(12, seed=seed + 1)
    pairs = staged(query, gallery, label, of_stimulus, k=k, unmatched="keep")
    chosen = every_stimulus(pairs) if k > 1 else pairs.stimulus[:, None]
    s = cosines(query, gallery)
    for trial, one in enumerate(label.tolist()):
        candidates = np.flatnonzero(of_stimulus == one) if one >= 0 else []
        order = sorted(candidates, key=lambda row: -s[trial, row])[:k]
        assert chosen[trial].tolist() == order + [-1] * (k - len(order))
        if order:
            powers = np.exp(s[trial, candidates] / 0.05)
            assert pairs.score[trial] == pytest.approx(powers.max() / powers.sum(), rel=1e-3)


def test_a_single_candidate_is_certain_and_doubt_leaves_a_trial_unpaired():
    gallery = np.array([[1, 0], [0.99, 0.1], [0, 1]])
    query = np.array([[1, 0.05], [0, 1], [1, 0]])
    pairs = staged(query, gallery, [0, 1, 0], [0, 0, 1], min_confidence=0.6, temperature=0.05)
    assert pairs.stimulus.tolist() == [-1, 2, -1]
    assert pairs.score[1] == 1
    sharper = staged(query, gallery, [0, 1, 0], [0, 0, 1], min_confidence=0.6, temperature=0.001)
    assert sharper.stimulus.tolist() == [-1, 2, 0]


def test_trials_of_poor_quality_stay_unpaired():
    quality = np.array([[0.1, 0.9], [0.9, 0.2], [0.9, np.nan], [0.5, 0.5]])
    query, gallery = vectors(4), vectors(2)
    options = {"quality": "trials/quality", "min_quality": 0.5}
    pairs = staged(query, gallery, [0] * 4, [0, 0], quality, **options)
    assert (pairs.stimulus >= 0).tolist() == [True, False, False, True]


def test_stages_go_by_any_narrow_column():
    trials = eegstore.Trials(
        n_trials=4, ch_names=["Cz"], sfreq=1.0, times=np.zeros(1), units="V",
        label=np.full(4, -1), columns={"category": np.array(["b", "a", "", "b"])},
    )  # fmt: skip
    stimuli = make_stimuli([0, 1, 2], concept=["a", "b", "b"])
    columns = {QUERY: held(np.eye(4)), GALLERY: held([[1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]])}
    plugin = MultiStagePairing(QUERY, GALLERY, coarse="category", coarse_stimuli="concept")
    assert plugin(trials, stimuli, columns).stimulus.tolist() == [2, 0, -1, 1]
    assert plugin.made_from == ("trials/category", "stimuli/concept", QUERY, GALLERY)
    everyone = MultiStagePairing(QUERY, GALLERY, coarse="")
    assert everyone(trials, stimuli, columns).stimulus.tolist() == [0, 0, 0, 1]
    unknown = MultiStagePairing(QUERY, GALLERY, coarse="categories")
    with pytest.raises(InputError, match=r"trials have no column 'categories'.*'category'"):
        unknown(trials, stimuli, columns)


def test_a_label_without_candidates_is_refused_with_its_trials():
    message = r"no stimulus has the label 5 \(2 trials\), 7 \(1 trials\); add .* unmatched"
    with pytest.raises(InputError, match=message):
        staged(vectors(5), vectors(2), [0, 5, 5, 7, -1], [0, 1])


@pytest.mark.parametrize("plugin", [
    SimilarityPairing(QUERY, GALLERY), MutualPairing(QUERY, GALLERY),
    MultiStagePairing(QUERY, GALLERY, quality="trials/quality"),
], ids=lambda one: one.name)  # fmt: skip
def test_it_says_what_it_reads_and_what_its_pairs_are_made_from(plugin):
    assert plugin.reads[:2] == (QUERY, GALLERY)
    label = ("label",) if plugin.name == "multi-stage" else ()
    assert plugin.made_from == (*label, QUERY, GALLERY)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("similarity", {}, "query: "),
        ("similarity", {"query": "brain"}, "query: got 'brain'"),
        ("similarity", {"query": QUERY, "gallery": QUERY}, "gallery: got "),
        ("similarity", {"query": QUERY, "k": 0}, "k: got 0"),
        ("similarity", {"query": QUERY, "k": 2, "method": "assignment"}, "k is 2, expected 1"),
        ("similarity", {"query": QUERY, "temperature": 0}, "temperature: got 0"),
        ("mutual", {"query": QUERY, "k": 3}, "k: unknown key"),
        ("multi-stage", {"query": QUERY, "coarse": "", "coarse_stimuli": "a"}, "coarse is empty"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, name, options, said):
    with pytest.raises(RecipeError, match=said):
        create("pairing", name, options, tmp_path)


def recipe_of(pairing, *extract):
    return {
        "source": {"plugin": "synthetic", "n_trials": 20, "n_channels": 2},
        "stimuli": {"plugin": "digits"},
        "pairing": {"query": QUERY, "gallery": GALLERY} | pairing,
        "extract": list(extract),
    }


def test_a_pairing_by_a_column_that_is_not_made_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="similarity reads trials/brain, which the recipe does"):
        eegstore.build(recipe_of({"plugin": "similarity"}), tmp_path / "a.zarr", executor="serial")


def test_a_store_is_paired_by_what_its_columns_say(tmp_path):
    """The demo's temporal features, as wide as a small histogram of gradients."""
    extract = [
        {"plugin": "temporal", "as": "brain"},
        {"plugin": "hog", "as": "gradients", "size": 16, "orientations": 6, "cells_per_block": 2},
    ]
    pairing = {"plugin": "similarity", "gallery": "stimuli/gradients", "k": 3, "method": "csls"}
    recipe = recipe_of(pairing, *extract)
    eegstore.build(recipe, tmp_path / "a.zarr", executor="serial")
    store = eegstore.open_store(tmp_path / "a.zarr")
    columns = {
        QUERY: held(store.trials["brain"][:]),
        "stimuli/gradients": held(store.stimuli["gradients"][:]),
    }
    plugin = SimilarityPairing(QUERY, "stimuli/gradients", k=3, method="csls")
    expected = plugin(make_trials([0] * 20), make_stimuli([0] * 10), columns)
    np.testing.assert_array_equal(store.trials["stimulus"][:], expected.stimulus)
    np.testing.assert_array_equal(store.trials["stimulus_3"][:], expected.more[:, 1])
    np.testing.assert_allclose(store.trials["score_2"][:], expected.more_score[:, 0], rtol=1e-5)
    made_from = store.trials["stimulus"].attrs["eegstore"]["made_from"]
    assert made_from == [QUERY, "stimuli/gradients"]

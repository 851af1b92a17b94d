"""Retrieval: the nearest rows, ranks and k-way identification, against plain definitions."""

from __future__ import annotations

import itertools
import subprocess
import sys
from fractions import Fraction
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eegstore import InputError, UsageError, build, open_store
from eegstore.retrieval import k_way, ranks, top_k

pytest.importorskip("torch")


def whole(low=-3, high=3, rows=40):
    """Two arrays of small whole numbers, of one width: their products are exact."""
    sizes = st.tuples(st.integers(1, 9), st.integers(1, rows), st.integers(1, 5))
    return sizes.flatmap(
        lambda size: st.tuples(
            hnp.arrays(np.float32, (size[0], size[2]), elements=st.integers(low, high)),
            hnp.arrays(np.float32, (size[1], size[2]), elements=st.integers(low, high)),
        )
    )


def plain_top_k(scores, k):
    """Best first; of equal scores the lower row first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def vectors(rows, width, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def unit(values):
    return values.astype(np.float64) / np.linalg.norm(values.astype(np.float64), axis=1)[:, None]


@settings(deadline=None)
@given(whole(), st.data())
def test_top_k_is_that_of_a_stable_sort_of_all_products(pair, data):
    queries, gallery = pair
    k = data.draw(st.integers(1, len(gallery)))
    block_rows = data.draw(st.sampled_from([None, 1, 2, 7, 64]))
    indices, scores = top_k(queries, gallery, k, metric="dot", block_rows=block_rows)
    expected = queries @ gallery.T
    np.testing.assert_array_equal(indices, plain_top_k(expected, k))
    np.testing.assert_array_equal(scores, np.take_along_axis(expected, indices, 1))
    assert (indices.dtype, scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("block_rows", [None, 1000, 137])
@pytest.mark.parametrize("k", [1, 10, 70])
def test_ties_among_thousands_of_rows_go_to_the_lower_row(k, block_rows):
    rng = np.random.default_rng(k)
    queries = rng.integers(-1, 2, (60, 4)).astype(np.float32)
    gallery = rng.integers(-1, 2, (5000, 4)).astype(np.float32)
    indices, _ = top_k(queries, gallery, k, metric="dot", block_rows=block_rows)
    np.testing.assert_array_equal(indices, plain_top_k(queries @ gallery.T, k))


def test_top_k_agrees_with_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    queries, gallery = vectors(200, 32), vectors(3000, 32, seed=1)
    found = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(gallery)
    distances, expected = found.kneighbors(queries)
    indices, scores = top_k(queries, gallery, 10)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(scores, 1 - distances, atol=1e-6)


def test_top_k_agrees_with_faiss():
    faiss = pytest.importorskip("faiss")
    queries, gallery = vectors(200, 32), vectors(3000, 32, seed=1)
    index = faiss.IndexFlatIP(32)
    index.add(unit(gallery).astype(np.float32))
    expected_scores, expected = index.search(unit(queries).astype(np.float32), 10)
    indices, scores = top_k(queries, gallery, 10)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


def test_the_cosine_with_zeros_or_nearly_zeros_is_zero():
    gallery = np.array([[-1, 0], [0, 0], [1e-40, 0], [2, 0]], np.float32)
    indices, scores = top_k(np.array([[3, 0], [0, 0]]), gallery, 4)
    assert indices.tolist() == [[3, 1, 2, 0], [0, 1, 2, 3]]
    assert scores.tolist() == [[1, 0, 0, -1], [0, 0, 0, 0]]


def test_the_cosine_is_of_vectors_of_any_length():
    gallery = np.array([[0, 1e-25], [1e25, 1e25], [1e30, 0]])
    indices, scores = top_k(np.array([[1e-20, 0]]), gallery, 3)
    assert indices.tolist() == [[2, 1, 0]]
    np.testing.assert_allclose(scores, [[1, 0.5**0.5, 0]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", ">f4"])
def test_any_numbers_are_taken(dtype):
    gallery = np.array([[1, 2], [3, 1], [0, 5]], dtype)
    indices, scores = top_k(gallery[:1], gallery, 2, metric="dot")
    assert (indices.tolist(), scores.tolist()) == ([[2, 0]], [[10, 5]])


def test_no_queries_give_no_rows():
    indices, scores = top_k(np.empty((0, 3)), np.ones((5, 3)), 2)
    assert (indices.shape, scores.shape) == ((0, 2), (0, 2))
    assert ranks(np.empty((0, 3)), np.ones((5, 3)), []).n_better.shape == (0,)


@pytest.mark.parametrize(
    ("change", "error", "line"),
    [
        ({"k": 5}, UsageError, "k is 5; the gallery has 4 rows"),
        ({"k": 0}, UsageError, "k is 0; the gallery has 4 rows"),
        ({"metric": "l2"}, UsageError, "metric is 'l2'; it is one of cosine, dot"),
        ({"block_rows": 0}, UsageError, "block_rows is 0; it is 1 or more"),
        ({"device": "abacus"}, UsageError, "device 'abacus': "),
        (
            {"queries": [[0, 0], [0, np.nan]]},
            InputError,
            "queries: row 1 is not finite in single precision; leave it out",
        ),
        (
            {"gallery": [[0, 0], [0, 1e39], [0, 0], [0, 0]]},
            InputError,
            "gallery: row 1 is not finite in single precision; leave it out",
        ),
        (
            {"queries": [[1e30, 0]], "gallery": [[1e30, 0]], "k": 1, "metric": "dot"},
            InputError,
            "the products are too large for single precision; scale the vectors",
        ),
        (
            {"queries": [[1, 2, 3]]},
            InputError,
            "queries have 3 features and the gallery 2; they are compared one by one",
        ),
        (
            {"gallery": [["a", "b"]]},
            InputError,
            "gallery: takes numbers, (row, feature), not <U1 of shape (1, 2)",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(change, error, line):
    arguments = {"queries": np.ones((2, 2)), "gallery": np.ones((4, 2)), "k": 2} | change
    arguments |= {name: np.array(arguments[name]) for name in ("queries", "gallery")}
    with pytest.raises(error) as caught:
        top_k(**arguments)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'eegstore\[train\]'"):
        top_k(np.ones((1, 2)), np.ones((1, 2)), 1)


@settings(deadline=None)
@given(whole(), st.data())
def test_ranks_count_what_is_better_and_what_is_tied(pair, data):
    queries, gallery = pair
    row = st.integers(0, len(gallery) - 1)
    targets = np.array([data.draw(row) for _ in queries])
    block_rows = data.draw(st.sampled_from([None, 1, 2, 7, 64]))
    found = ranks(queries, gallery, targets, metric="dot", block_rows=block_rows)
    scores = queries @ gallery.T
    own = np.take_along_axis(scores, targets[:, None], 1)
    np.testing.assert_array_equal(found.n_better, (scores > own).sum(1))
    np.testing.assert_array_equal(found.n_tied, (scores == own).sum(1) - 1)


@settings(deadline=None)
@given(whole(), st.data())
def test_the_best_of_several_positives_counts(pair, data):
    queries, gallery = pair
    row = st.integers(-1, len(gallery) - 1)
    rest = hnp.arrays(np.int64, (len(queries), 2), elements=row)
    first = hnp.arrays(np.int64, (len(queries), 1), elements=st.integers(0, len(gallery) - 1))
    targets = np.concatenate([data.draw(rest), data.draw(first)], axis=1)
    found = ranks(queries, gallery, targets, metric="dot", block_rows=7)
    for query, scores in enumerate(queries @ gallery.T):
        positives = {row for row in targets[query] if row >= 0}
        best = max(scores[row] for row in positives)
        others = [score for row, score in enumerate(scores) if row not in positives]
        assert found.n_better[query] == sum(score > best for score in others)
        assert found.n_tied[query] == sum(score == best for score in others)


@pytest.mark.parametrize("block_rows", [None, 999])
def test_ranks_are_those_of_double_precision(block_rows):
    queries, gallery = vectors(600, 96), vectors(5000, 96, seed=1)
    gallery[4000:] = gallery[:1000]  # copies: tied with what they were copied from
    targets = np.random.default_rng(2).integers(0, 5000, 600)
    found = ranks(queries, gallery, targets, block_rows=block_rows)
    scores = unit(queries) @ unit(gallery).T
    own = np.take_along_axis(scores, targets[:, None], 1)
    np.testing.assert_array_equal(found.n_better, (scores > own + 1e-12).sum(1))
    np.testing.assert_array_equal(found.n_tied, (targets < 1000) | (targets >= 4000))


def test_vectors_of_one_direction_are_tied():
    gallery = np.round(9 * vectors(1, 64)) * np.arange(1, 201, dtype=np.float32)[:, None]
    found = ranks(vectors(3, 64, seed=1), gallery, [0, 7, 199])
    assert found.n_better.tolist() == [0, 0, 0]
    assert found.n_tied.tolist() == [199, 199, 199]


def test_vectors_nearly_alike_are_told_apart():
    gallery = np.ones((300, 8), np.float32)
    gallery[:, 0] += np.arange(300) * np.float32(2.0**-20)
    found = ranks(np.eye(1, 8), gallery, [150])
    assert (found.n_better.tolist(), found.n_tied.tolist()) == ([149], [0])


def test_a_query_of_zeros_ties_with_everything():
    found = ranks(np.zeros((2, 4)), vectors(5000, 4), [3, 4999])
    assert (found.n_better.tolist(), found.n_tied.tolist()) == ([0, 0], [4999, 4999])


def test_tiny_products_are_not_lost():
    found = ranks(np.full((1, 2), 1e-25), [[0, 0], [1e-25, 0], [0, 3e-25]], [1], metric="dot")
    assert (found.n_better.tolist(), found.n_tied.tolist()) == ([1], [0])


@pytest.mark.parametrize(
    ("targets", "line"),
    [
        ([0, 4], "targets: query 1 has 4; the gallery has rows 0 to 3"),
        ([0, -1], "targets: query 1 has -1; the gallery has rows 0 to 3"),
        ([[0, 1], [-2, 1]], r"targets: query 1 has \[-2  1\]; the gallery has rows 0 to 3"),
        ([0], "targets: there are 1, and 2 queries"),
        ([0.5, 1], r"targets: takes integers, \(query,\), not float64"),
    ],
)
def test_targets_that_are_no_rows_are_refused(targets, line):
    with pytest.raises(InputError, match=f"^{line}$"):
        ranks(np.ones((2, 2)), np.ones((4, 2)), targets)


def drawn_accuracy(n_better, n_tied, n_gallery, k):
    """Mean over every draw of distractors, ties shared out evenly."""
    kinds = ["better"] * n_better + ["tied"] * n_tied
    kinds += ["worse"] * (n_gallery - 1 - len(kinds))
    draws = list(itertools.combinations(kinds, k - 1))
    shares = [Fraction(1, draw.count("tied") + 1) for draw in draws if "better" not in draw]
    return float(sum(shares, Fraction()) / len(draws))


def test_k_way_is_the_mean_over_every_draw():
    for n_gallery in range(2, 9):
        for n_better in range(n_gallery):
            for n_tied in range(n_gallery - n_better):
                for k in range(2, n_gallery + 1):
                    expected = drawn_accuracy(n_better, n_tied, n_gallery, k)
                    found = k_way([n_better], [n_tied], n_gallery, k)
                    np.testing.assert_allclose(found, [expected], rtol=1e-12, atol=1e-15)


@given(st.data())
def test_k_way_holds_for_large_galleries(data):
    n_gallery = data.draw(st.integers(200, 1_000_000))
    k = data.draw(st.integers(2, 200))
    better = data.draw(st.integers(0, n_gallery - 1))
    tied = data.draw(st.integers(0, n_gallery - 1 - better))
    below = n_gallery - 1 - better
    favourable = comb(below + 1, k) - comb(below - tied, k)
    expected = float(Fraction(favourable, (tied + 1) * comb(n_gallery - 1, k - 1)))
    np.testing.assert_allclose(k_way([better], [tied], n_gallery, k), [expected], rtol=1e-10)


def test_k_way_of_a_model_that_knows_nothing_is_chance():
    np.testing.assert_allclose(k_way([0, 0], [999, 999], 1000, 50), [1 / 50, 1 / 50], rtol=1e-12)


@pytest.mark.parametrize(("k", "tied"), [(1, 0), (11, 0), (2, 9), (2, -1)])
def test_k_way_refuses_counts_that_cannot_be(k, tied):
    with pytest.raises(UsageError):
        k_way([1], [tied], 10, k)


def test_a_column_and_a_memory_map_are_read_by_slices(tmp_path):
    store = tmp_path / "out.zarr"
    source = {"plugin": "synthetic", "n_trials": 40, "n_channels": 2, "n_times": 64}
    build({"name": "few", "source": source, "extract": [{"plugin": "spectral"}]}, store)
    column = open_store(store).trials["spectral"]
    values = column[:].reshape(len(column), -1)
    np.save(tmp_path / "gallery.npy", values)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    expected = top_k(values, values, 5, block_rows=16)
    for found in (top_k(column, mapped, 5, block_rows=16), top_k(mapped, column, 5, block_rows=16)):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    assert ranks(column, column, np.arange(40)).n_better.tolist() == [0] * 40


GROWTH = """
import sys
from pathlib import Path
import numpy as np
import torch
from eegstore.retrieval import ranks, top_k

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

torch.set_num_threads(1)
vectors = np.random.default_rng(0).normal(size=(int(sys.argv[1]), 8)).astype(np.float32)
top_k(vectors[:512], vectors, 10)
before = peak()
top_k(vectors, vectors, 10)
ranks(vectors, vectors, np.arange(len(vectors)))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts memory as Linux does")
def test_memory_stays_flat():
    n = 16_000
    run = subprocess.run(
        [sys.executable, "-c", GROWTH, str(n)], check=True, capture_output=True, text=True
    )
    assert int(run.stdout) < n * n * 4 / 4  # the matrix of scores would be 1 GB

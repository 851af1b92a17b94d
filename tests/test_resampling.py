"""How sure a measure is: intervals that cover, and p-values that are uniform where nothing is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eegstore.resampling import MEDIAN, bootstrap, p_value, shuffles


def generator(seed=0):
    return np.random.default_rng(seed)


def test_the_bootstrap_is_that_of_copied_queries():
    rng = generator()
    cluster = rng.integers(0, 12, 50)
    values = {"top1": rng.random(50), MEDIAN: rng.integers(1, 30, 50).astype(float)}
    found = bootstrap(values, cluster, 200, generator(1))
    names, again = np.unique(cluster), generator(1)
    drawn = {"top1": [], MEDIAN: []}
    for counts in again.multinomial(len(names), np.full(len(names), 1 / len(names)), 200):
        rows = np.repeat(np.arange(50), counts[np.searchsorted(names, cluster)])
        drawn["top1"].append(values["top1"][rows].mean())
        drawn[MEDIAN].append(np.median(values[MEDIAN][rows]))
    for name, one in found.items():
        np.testing.assert_allclose((one.low, one.high), np.percentile(drawn[name], (2.5, 97.5)))
    assert found["top1"].value == pytest.approx(values["top1"].mean())
    assert found[MEDIAN].value == np.median(values[MEDIAN])


def test_draws_in_parts_are_the_draws_in_one(monkeypatch):
    values = {"mrr": generator().random(40), MEDIAN: generator(1).random(40)}
    cluster = np.arange(40)
    whole = bootstrap(values, cluster, 100, generator(2))
    monkeypatch.setattr("eegstore.resampling.CHUNK_VALUES", 400)
    assert bootstrap(values, cluster, 100, generator(2)) == whole


def test_intervals_cover_the_truth_as_often_as_they_say_where_queries_hang_together():
    rng, covered, plain = generator(3), 0, 0
    for _ in range(100):
        truth = rng.normal(size=60)  # one value a stimulus, which its ten trials share
        values = {"mrr": np.repeat(truth, 10) + 0.1 * rng.normal(size=600)}
        by_stimulus = bootstrap(values, np.arange(600) // 10, 150, rng)["mrr"]
        by_trial = bootstrap(values, np.arange(600), 150, rng)["mrr"]
        covered += by_stimulus.low < 0 < by_stimulus.high
        plain += by_trial.low < 0 < by_trial.high
    assert 0.85 <= covered / 100 <= 0.99
    assert plain / 100 < 0.7  # what ignoring the clusters would claim


@pytest.mark.parametrize(("cluster", "n_boot"), [(np.zeros(9), 100), (np.arange(9), 0)])
def test_one_cluster_or_no_draw_has_no_interval(cluster, n_boot):
    found = bootstrap({"top1": np.arange(9.0)}, cluster, n_boot, generator())["top1"]
    assert (found.value, math.isnan(found.low), math.isnan(found.high)) == (4, True, True)


@given(st.integers(1, 4))
def test_few_groups_have_every_permutation_but_that_which_changes_nothing(n_groups):
    found = {tuple(one) for one in shuffles(n_groups, 1000, generator()).tolist()}
    assert found == set(itertools.permutations(range(n_groups))) - {tuple(range(n_groups))}
    assert len(found) == math.factorial(n_groups) - 1


def test_of_many_groups_as_many_permutations_are_drawn_as_asked_for():
    found = shuffles(50, 300, generator())
    assert found.shape == (300, 50)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(50), (300, 1)))
    # Each group gets each other's answer as often.
    assert stats.chisquare(np.bincount(found[:, 7], minlength=50)).pvalue > 0.001
    np.testing.assert_array_equal(found, shuffles(50, 300, generator()))


def test_a_p_value_is_never_zero_and_equal_sums_count():
    assert p_value(3.0, np.array([1.0, 2.0, 2.5])) == 1 / 4
    assert p_value(3.0, np.array([3.0 - 1e-15, 4.0, 1.0])) == 3 / 4
    assert p_value(3.0, np.array([])) is None

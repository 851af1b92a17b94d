"""The pass over the scores: against plain definitions, ``ranks``, and every permutation."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from eegstore.resampling import p_value, shuffles
from eegstore.retrieval import ranks, top_k

pytest.importorskip("torch")
from eegstore.standings import standing


def none(one):
    """No permutation."""
    return np.empty((0, len(one.group_class)), np.int32)


def asked(queries, gallery, right, item_class=None, group=None, group_class=None):
    """A round of arrays; every right answer is a group of its own unless it is said."""
    right = np.asarray(right).reshape(len(queries), -1)
    item_class = np.arange(len(gallery)) if item_class is None else item_class
    if group is None:
        group_class, group = np.unique(right[:, 0], return_inverse=True)
    return SimpleNamespace(
        queries=queries, gallery=gallery, right=right, item_class=item_class,
        group=group, group_class=group_class,
    )  # fmt: skip


def vectors(rows, width, seed):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def unit(values):
    return values.astype(np.float64) / np.linalg.norm(values.astype(np.float64), axis=1)[:, None]


@pytest.mark.parametrize("part_values", [1 << 21, 700])
def test_the_standings_are_those_of_ranks_and_top_k(monkeypatch, part_values):
    monkeypatch.setattr("eegstore.standings.PART_VALUES", part_values)
    queries, gallery = vectors(300, 24, 0), vectors(150, 24, 1)
    gallery[100:] = gallery[:50]  # tied
    targets = np.random.default_rng(2).integers(0, 150, 300)
    one = asked(queries, gallery, targets)
    found = standing(one, none(one), (2, 10))
    expected = ranks(queries, gallery, targets)
    np.testing.assert_allclose(found.values["rank"], 1 + expected.n_better + expected.n_tied / 2)
    np.testing.assert_array_equal(found.best, top_k(queries, gallery, 1)[0][:, 0])


def test_several_answers_and_classes_of_items_are_right():
    rng = np.random.default_rng(3)
    queries, gallery = vectors(40, 8, 4), vectors(30, 8, 5)
    item_class = rng.permutation(30) % 7
    right = np.stack([rng.integers(0, 7, 40), np.where(rng.random(40) < 0.5, -1, 3)], axis=1)
    one = asked(queries, gallery, right, item_class, np.zeros(40, int), np.zeros(1, int))
    found = standing(one, none(one), (2,))
    order = np.argsort(-(unit(queries) @ unit(gallery).T), axis=1)
    for query in range(40):
        is_right = np.isin(item_class[order[query]], right[query][right[query] >= 0])
        places = np.flatnonzero(is_right) + 1
        assert found.values["rank"][query] == places[0]
        precision = np.mean(np.arange(1, len(places) + 1) / places)
        assert found.values["map"][query] == pytest.approx(precision)


def reciprocal_ranks(queries, gallery, item_class):
    """float64, (query, class): of the best item of each class."""
    scores = unit(queries) @ unit(gallery).T
    best = np.stack([scores[:, item_class == one].max(1) for one in range(item_class.max() + 1)], 1)
    return 1 / (1 + (scores[:, None, :] > best[:, :, None]).sum(-1))


def over_groups(reciprocal, wanted, group):
    """The sum over groups of the mean of their queries, each of which wants a class."""
    own = reciprocal[np.arange(len(wanted)), wanted]
    return sum(own[group == one].mean() for one in np.unique(group))


@pytest.mark.parametrize("part_values", [1 << 21, 700])
@pytest.mark.parametrize("n_perm", [5, 30])
def test_permuted_sums_are_those_of_permuted_targets(monkeypatch, part_values, n_perm):
    monkeypatch.setattr("eegstore.standings.PART_VALUES", part_values)
    queries, gallery = vectors(60, 6, 6), vectors(20, 6, 7)
    targets = np.random.default_rng(8).integers(0, 20, 60)
    one = asked(queries, gallery, targets)
    shuffled = shuffles(len(one.group_class), n_perm, np.random.default_rng(9))
    found = standing(one, shuffled, (2,))
    reciprocal = reciprocal_ranks(queries, gallery, np.arange(20))
    wanted = [one.group_class[turn][one.group] for turn in shuffled]
    expected = [over_groups(reciprocal, some, one.group) for some in wanted]
    np.testing.assert_allclose(found.permuted, expected, atol=1e-12)
    assert found.observed == pytest.approx(over_groups(reciprocal, targets, one.group))


def test_the_permuted_right_item_of_a_class_is_its_best():
    queries, gallery = vectors(12, 5, 10), vectors(12, 5, 11)
    item_class = np.arange(12) // 3
    right = item_class[np.arange(12)]
    one = asked(queries, gallery, right, item_class, np.arange(12), right)
    shuffled = shuffles(12, 5, np.random.default_rng(0))
    found = standing(one, shuffled, (2,))
    reciprocal = reciprocal_ranks(queries, gallery, item_class)
    for turn, total in zip(shuffled, found.permuted, strict=True):
        assert total == pytest.approx(over_groups(reciprocal, right[turn], np.arange(12)))


def test_a_p_value_of_few_groups_is_that_of_every_permutation():
    queries = vectors(15, 4, 12)
    gallery = unit(vectors(5, 4, 13))
    targets = np.repeat(np.arange(5), 3)
    queries = (queries + 0.8 * gallery[targets]).astype(np.float32)
    one = asked(queries, gallery, targets)
    found = standing(one, shuffles(5, 1000, np.random.default_rng(0)), (2,))
    reciprocal = reciprocal_ranks(queries, gallery, np.arange(5))
    turns = [np.array(turn)[targets] for turn in itertools.permutations(range(5))]
    sums = [over_groups(reciprocal, turn, targets) for turn in turns]
    expected = np.mean(np.array(sums) >= sums[0] - 1e-9)
    assert p_value(found.observed, found.permuted) == pytest.approx(expected)
    assert 1 / 120 <= expected < 0.5


def test_p_values_are_uniform_where_queries_know_nothing():
    found = []
    for seed in range(200):
        rng = np.random.default_rng([14, seed])
        # Trials of one stimulus are alike, and so are stimuli: only groups may be permuted.
        targets = np.repeat(np.arange(12), 3)
        queries = 3 * vectors(12, 6, [15, seed])[targets] + vectors(36, 6, [16, seed])
        one = asked(queries, vectors(12, 6, [17, seed]) + 1, targets)
        result = standing(one, shuffles(12, 99, rng), ())
        # A p-value is on a grid of 100; within its step any is as likely.
        found.append(p_value(result.observed, result.permuted) - rng.random() / 100)
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) < 0.1


def counted(n_trials, seed, knows):
    """Queries that prefer what is frequent: one vector, ``knows`` of their own, and noise."""
    targets = np.repeat(np.arange(len(n_trials)), n_trials)
    gallery = np.eye(len(n_trials), dtype=np.float32)
    usual = np.asarray(n_trials, np.float32) / max(n_trials)
    noise = 0.3 * vectors(len(targets), len(n_trials), [26, seed])
    return asked(usual + knows * gallery[targets] + noise, gallery, targets)


def test_a_model_that_answers_with_what_is_frequent_knows_nothing():
    frequent = np.array([50, 40, 30, 20, 10], np.float32)
    targets = np.repeat(np.arange(5), frequent.astype(int))
    one = asked(np.tile(frequent, (150, 1)), np.eye(5, dtype=np.float32), targets)
    found = standing(one, shuffles(5, 1000, np.random.default_rng(0)), ())
    assert found.values["mrr"].mean() > 0.5  # a random order has 0.46
    assert p_value(found.observed, found.permuted) == 1


def test_p_values_are_no_smaller_than_they_say_where_groups_differ_and_the_large_are_preferred():
    n_trials, found = np.arange(1, 13), []
    for seed in range(200):
        rng = np.random.default_rng([27, seed])
        result = standing(counted(n_trials, seed, 0.0), shuffles(12, 99, rng), ())
        found.append(p_value(result.observed, result.permuted))
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= level) < level + 2.5 * np.sqrt(level / 200)
    knows = counted(n_trials, 0, 0.5)
    result = standing(knows, shuffles(12, 999, np.random.default_rng(0)), ())
    assert p_value(result.observed, result.permuted) <= 2 / 1000


def test_p_values_are_small_where_queries_know():
    rng = np.random.default_rng(18)
    gallery, targets = vectors(12, 6, 19), np.repeat(np.arange(12), 3)
    one = asked(gallery[targets] + vectors(36, 6, 20), gallery, targets)
    result = standing(one, shuffles(12, 999, rng), (2,))
    assert p_value(result.observed, result.permuted) == 1 / 1000


def test_a_model_that_has_collapsed_is_at_chance():
    direction = np.round(9 * vectors(1, 16, 21))  # whole numbers: their multiples are exact
    gallery = np.arange(1, 41, dtype=np.float32)[:, None] * direction
    one = asked(vectors(80, 16, 22), gallery, np.arange(80) % 40)
    result = standing(one, shuffles(40, 99, np.random.default_rng(0)), (2, 10))
    np.testing.assert_allclose(result.values["top5"], 5 / 40)
    np.testing.assert_allclose(result.values["10"], 1 / 10)
    assert p_value(result.observed, result.permuted) == 1


def test_the_plain_product_is_ranked_too():
    queries, gallery = vectors(50, 8, 23), vectors(30, 8, 24) * np.arange(1, 31)[:, None]
    one = asked(queries, gallery, np.arange(50) % 30)
    found = standing(one, none(one), (2,), metric="dot")
    better = ranks(queries, gallery, np.arange(50) % 30, metric="dot").n_better
    np.testing.assert_array_equal(found.values["rank"], 1 + better)


GROWTH = """
import sys
from types import SimpleNamespace
from pathlib import Path
import numpy as np
import torch
from eegstore import standings
from eegstore.resampling import shuffles

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

def one(n):
    vectors = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    rows = np.arange(n)
    asked = SimpleNamespace(queries=vectors, gallery=vectors, right=rows[:, None], item_class=rows,
                            group=rows, group_class=rows)
    standings.standing(asked, shuffles(n, 20, np.random.default_rng(0)), (2,))

torch.set_num_threads(1)
standings.PART_VALUES = 1 << 16
one(300)
before = peak()
one(int(sys.argv[1]))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts memory as Linux does")
def test_memory_stays_flat():
    n = 2000
    run = subprocess.run(
        [sys.executable, "-c", GROWTH, str(n)], check=True, capture_output=True, text=True
    )
    assert int(run.stdout) < n * n * 8 / 3  # the matrix of scores would be 32 MB

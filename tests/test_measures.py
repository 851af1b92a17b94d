"""What retrieval measures: against every order of ties, every draw, and other libraries."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eegstore.measures import (
    TOP,
    RightItems,
    chance,
    chance_median,
    chances,
    measures,
    possible_ways,
)

EVERY = ("top1", "top3", "top5", "top10", "mrr", "rank", "map")


def right_items(scores, right, query=0):
    """Entries of the right items of one query."""
    places = np.flatnonzero(right)
    better = np.array([(scores > scores[place]).sum() for place in places])
    tied = np.array([(scores == scores[place]).sum() - 1 for place in places])
    return RightItems(np.full(len(places), query), better, tied)


def in_every_order(scores, right):
    """The mean of each measure over every order of the items that the scores allow."""
    found = []
    for turn in itertools.permutations(range(len(scores))):
        order = sorted(range(len(scores)), key=lambda item: (-scores[item], turn[item]))
        places = [place for place, item in enumerate(order, 1) if right[item]]
        one = {f"top{k}": float(places[0] <= k) for k in TOP}
        one |= {"mrr": 1 / places[0], "rank": places[0]}
        one["map"] = np.mean([number / place for number, place in enumerate(places, 1)])
        found.append(one)
    return {name: np.mean([one[name] for one in found]) for name in EVERY}


def small():
    """Scores of few values, and which items are right."""
    lists = st.integers(2, 6).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(0, 2), min_size=n, max_size=n),
            st.lists(st.booleans(), min_size=n, max_size=n),
        )
    )
    return lists.filter(lambda pair: any(pair[1])).map(lambda pair: tuple(map(np.array, pair)))


@settings(deadline=None, max_examples=60)
@given(small())
def test_a_measure_is_its_mean_over_every_order_of_ties(pair):
    scores, right = pair
    found, expected = measures(right_items(scores, right), len(scores), ()), in_every_order(*pair)
    for name in EVERY:
        np.testing.assert_allclose(found[name], [expected[name]], rtol=1e-12, err_msg=name)


@settings(deadline=None, max_examples=60)
@given(small(), st.integers(2, 4))
def test_k_way_is_the_mean_over_right_items_and_every_draw_of_wrong_ones(pair, k):
    scores, right = pair
    wrong = scores[~right]
    assume(len(wrong) >= k - 1)
    shares = []
    for own in scores[right]:
        for draw in itertools.combinations(wrong, k - 1):
            ties = sum(one == own for one in draw)
            shares.append(0 if max(draw) > own else 1 / (1 + ties))
    found = measures(right_items(scores, right), len(scores), (k,))
    np.testing.assert_allclose(found[str(k)], [np.mean(shares)], rtol=1e-12)


def test_queries_are_measured_apart_whatever_the_order_of_their_items():
    rng = np.random.default_rng(0)
    scores, right = rng.integers(0, 4, (5, 30)), rng.random((5, 30)) < 0.2
    right[:, 0] = True
    each = [right_items(scores[query], right[query], query) for query in range(5)]
    alone = [measures(one._replace(query=one.query * 0), 30, (2, 4, 10)) for one in each]
    entries = RightItems(*(np.concatenate(values) for values in zip(*each, strict=True)))
    shuffled = rng.permutation(len(entries.query))
    found = measures(RightItems(*(values[shuffled] for values in entries)), 30, (2, 4, 10))
    for name in (*EVERY, "2", "4", "10"):
        np.testing.assert_allclose(found[name], [one[name][0] for one in alone], rtol=1e-12)


@pytest.mark.parametrize(("n", "n_right"), [(2, 1), (5, 1), (5, 2), (6, 3), (6, 6), (1, 1)])
def test_chance_is_what_equal_scores_give(n, n_right):
    scores, right = np.zeros(n), np.arange(n) < n_right
    expected = in_every_order(scores, right)
    for name, value in chance(n, n_right).items():
        assert value == pytest.approx(expected[name], rel=1e-12), name
    constant = measures(right_items(scores, right), n, ())
    for name, value in chances(np.array([n]), np.array([n_right])).items():
        np.testing.assert_allclose(constant[name], value, rtol=1e-12)


def test_chance_of_one_right_item_is_the_known_formula():
    found = chance(200, 1)
    harmonic = sum(1 / place for place in range(1, 201))
    assert [found[f"top{k}"] for k in TOP] == pytest.approx([k / 200 for k in TOP])
    assert found["mrr"] == pytest.approx(harmonic / 200)
    assert found["map"] == pytest.approx(harmonic / 200)


@pytest.mark.parametrize("kinds", [[(200, 1)], [(7, 1)], [(7, 2)], [(9, 3), (4, 1), (4, 1)]])
def test_the_median_rank_of_chance_is_that_of_every_order(kinds):
    weight = np.lcm.reduce([len(list(itertools.combinations(range(n), r))) for n, r in kinds])
    places = []
    for n, n_right in kinds:
        firsts = [draw[0] + 1 for draw in itertools.combinations(range(n), n_right)]
        places += firsts * (weight // len(firsts))
    n_gallery, n_right = np.array(kinds).T
    assert chance_median(n_gallery, n_right) == np.median(places)


def test_a_k_is_possible_where_every_query_has_wrong_items_enough():
    assert possible_ways(np.array([200, 60]), np.array([1, 1])) == (2, 4, 10, 50)
    assert possible_ways(np.array([200]), np.array([1])) == (2, 4, 10, 50, 100, 200)
    assert possible_ways(np.array([12]), np.array([4])) == (2, 4)

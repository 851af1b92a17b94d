"""Splits: the source's own, and the stratified random one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eegstore import InputError, RecipeError, Trials
from eegstore.registry import create
from eegstore_plugins.splits import RandomSplit, SourceSplit

LABELS = st.lists(st.integers(-1, 12), min_size=1, max_size=300)
NAMES = ("train", "val", "test")


def make_trials(label, split=None) -> Trials:
    return Trials(
        n_trials=len(label),
        ch_names=["Cz"],
        sfreq=128.0,
        times=np.arange(4) / 128,
        units="V",
        label=np.array(label, dtype=np.int64),
        split=None if split is None else np.array(split),
    )


def splits_of(plugin, label, split=None) -> np.ndarray:
    return plugin(make_trials(label, split), np.full(len(label), -1), None)


def test_source_split_is_the_sources_own():
    given_splits = ["train", "test", "train", "dev"]
    assert splits_of(SourceSplit(), [0, 0, 1, 1], given_splits).tolist() == given_splits


def test_source_split_names_the_alternative_where_the_source_has_none():
    with pytest.raises(InputError, match=r"the source has no splits of its own; .*\"random\""):
        splits_of(SourceSplit(), [0, 1])


def test_source_split_names_a_trial_without_split():
    with pytest.raises(InputError, match=r"trial 2 has no split \(2 such trials\)"):
        splits_of(SourceSplit(), [0, 0, 0, 0], ["train", "test", "", ""])


@given(
    label=LABELS,
    test_size=st.floats(0.001, 0.999),
    val_share=st.floats(0, 0.999),
    seed=st.integers(0, 2**63),
)
def test_random_split_sizes_are_exact_and_each_label_is_within_one(
    label, test_size, val_share, seed
):
    val_size = (1 - test_size) * val_share
    splits = splits_of(RandomSplit(test_size, val_size, seed), label)
    assert set(splits) <= set(NAMES)
    n = len(label)
    sizes = {name: int((splits == name).sum()) for name in NAMES}
    assert sum(sizes.values()) == n
    assert abs(sizes["test"] - n * test_size) <= 0.5
    assert abs(sizes["val"] - n * val_size) <= 0.5
    for one in set(label):
        of_label = splits[np.array(label) == one]
        for name, size in sizes.items():
            assert abs((of_label == name).sum() - len(of_label) * size / n) <= 1


@given(label=LABELS, seed=st.integers(0, 5))
def test_random_split_depends_on_labels_and_seed_alone(label, seed):
    plugin = RandomSplit(0.3, 0.2, seed)
    trials = make_trials(label)
    other = make_trials(label, ["train"] * len(label))
    paired = np.arange(len(label))
    np.testing.assert_array_equal(
        plugin(trials, np.full(len(label), -1), None), plugin(other, paired, None)
    )


def test_random_split_changes_with_the_seed():
    label = np.arange(200) % 10
    one, same, other = (splits_of(RandomSplit(seed=seed), label) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_random_split_is_the_same_on_every_platform():
    # Drawn once. Where this changes, the plugin's version must change.
    splits = splits_of(RandomSplit(0.3, 0.2, seed=7), np.arange(20) % 3)
    assert "".join(name[1] for name in splits.tolist()) == "aaererrarererrrrraee"


def test_random_split_gives_every_trial_the_same_chance():
    label = [0] * 30 + [1, 2, 3, 4, 5]
    held_out = sum(splits_of(RandomSplit(0.2, 0.2, seed), label) == "test" for seed in range(1000))
    assert np.abs(np.asarray(held_out) - 200).max() < 60  # more than four standard deviations


def test_random_split_does_not_follow_the_order_of_trials_in_a_label():
    splits = splits_of(RandomSplit(0.5), [0] * 1000)
    halves = (splits[:500] == "test").sum()
    assert 200 < halves < 300


@pytest.mark.parametrize(
    ("test_size", "n_trials", "n_test"), [(0.999, 10, 10), (0.001, 10, 0), (0.5, 1, 0), (0.9, 1, 1)]
)
def test_random_split_of_extreme_sizes_rounds(test_size, n_trials, n_test):
    splits = splits_of(RandomSplit(test_size), [0] * n_trials)
    assert (splits == "test").sum() == n_test
    assert (splits == "train").sum() == n_trials - n_test


def test_random_split_of_labels_with_one_trial_each_has_exact_sizes():
    splits = splits_of(RandomSplit(0.2, 0.1, seed=3), np.arange(1000))
    assert [(splits == name).sum() for name in NAMES] == [700, 100, 200]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_size": 0}, "test_size: got 0"),
        ({"test_size": 1}, "test_size: got 1"),
        ({"val_size": -0.1}, "val_size: got -0.1"),
        ({"seed": -1}, "seed: got -1"),
        ({"by": "stimulus"}, "by: unknown key"),
        ({"test_size": 0.5, "val_size": 0.5}, "test_size \\+ val_size is 1.0, expected less"),
    ],
)
def test_random_split_refuses_options_out_of_range(tmp_path, options, message):
    with pytest.raises(RecipeError, match=message):
        create("split", "random", options, tmp_path)

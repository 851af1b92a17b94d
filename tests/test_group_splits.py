"""Splits and folds that keep groups whole: subjects, sessions, blocks, concepts, stimuli."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eegstore
from eegstore import InputError, RecipeError, Splits, Trials
from eegstore.registry import create
from eegstore_plugins.group_splits import (
    BlockSplit,
    ConceptSplit,
    SessionSplit,
    StimulusSplit,
    SubjectSplit,
)
from eegstore_plugins.partition import deal, nearest_subset
from eegstore_plugins.splits import RandomSplit
from test_pairing import make_stimuli

SEEDS = st.integers(0, 2**40)


def make_trials(label=None, **columns) -> Trials:
    n_trials = len(next(iter(columns.values()))) if columns else len(label)
    return Trials(
        n_trials=n_trials, ch_names=["Cz"], sfreq=1.0, times=np.zeros(1), units="V",
        label=np.full(n_trials, -1) if label is None else np.asarray(label),
        columns={name: np.asarray(values) for name, values in columns.items()},
    )  # fmt: skip


def answer(plugin, trials, stimulus=None, stimuli=None):
    none = np.full(trials.n_trials, -1)
    return plugin(trials, none if stimulus is None else np.asarray(stimulus), stimuli)


def sizes_of(groups, split):
    """Trials of each group in each split: a dict of Counters would hide a group that is cut."""
    return {name: set(np.asarray(groups)[split == name].tolist()) for name in np.unique(split)}


def assert_whole(groups, *parts):
    """No group has two values in any of the parts."""
    for part in parts:
        for group in np.unique(groups):
            assert len(np.unique(part[np.asarray(groups) == group])) == 1


@given(seed=SEEDS, n_groups=st.integers(2, 9), share=st.floats(0.01, 0.99))
def test_a_subset_is_the_nearest_of_all_that_are_not_empty_or_everything(seed, n_groups, share):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, n_groups)
    target = min(round(share * sizes.sum()), sizes.sum() - 1)
    taken = nearest_subset(sizes, target, rng)
    possible = [
        sum(some)
        for n in range(1, n_groups)
        for some in itertools.combinations(sizes.tolist(), n)
    ]  # fmt: skip
    assert 0 < taken.sum() < n_groups
    assert abs(sizes[taken].sum() - target) == min(abs(one - target) for one in possible)


@pytest.mark.parametrize("n_groups", [257, 2_000, 20_000])
def test_of_many_groups_the_size_is_met_exactly(n_groups):
    rng = np.random.default_rng(n_groups)
    sizes = rng.integers(1, 9, n_groups)
    for target in (3, sizes.sum() // 5, sizes.sum() - 40):
        assert sizes[nearest_subset(sizes, target, rng)].sum() == target


def test_every_group_has_a_chance_of_its_size_alone():
    sizes = np.array([3] * 10 + [6] * 5)
    drawn = np.mean(
        [nearest_subset(sizes, 12, np.random.default_rng(seed)) for seed in range(3000)], axis=0
    )
    assert np.ptp(drawn[:10]) < 0.06
    assert np.ptp(drawn[10:]) < 0.06
    assert drawn.min() > 0.1


@given(seed=SEEDS, n_folds=st.integers(2, 6))
def test_folds_differ_by_no_more_than_a_group(seed, n_folds):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 20, n_folds + rng.integers(0, 30))
    fold = deal(sizes, n_folds, rng)
    totals = np.bincount(fold, weights=sizes, minlength=n_folds)
    assert (totals > 0).all()
    assert np.ptp(totals) <= sizes.max()


@given(seed=SEEDS, n_groups=st.integers(3, 12))
def test_no_subject_is_cut_and_the_split_follows_the_subject_in_any_order_of_rows(seed, n_groups):
    rng = np.random.default_rng(seed)
    subject = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, 60)])
    options = {"val_size": 0.2, "test_size": 0.3, "seed": seed}
    plugin = SubjectSplit(**options)
    split = answer(plugin, make_trials(subject=subject))
    assert set(split) == {"train", "val", "test"}
    assert_whole(subject, split)
    order = rng.permutation(len(subject))
    other = answer(plugin, make_trials(subject=subject[order]))
    np.testing.assert_array_equal(other, split[order])
    np.testing.assert_array_equal(
        answer(SubjectSplit(**options), make_trials(subject=subject)), split
    )


def test_a_subject_split_meets_its_sizes_and_is_drawn_by_its_seed():
    subject = np.repeat([f"sub-{number:02d}" for number in range(10)], 30)
    splits = [
        answer(SubjectSplit(val_size=0.1, seed=seed), make_trials(subject=subject))
        for seed in range(20)
    ]
    for split in splits:
        assert [(split == name).sum() for name in ("train", "val", "test")] == [210, 30, 60]
    assert len({tuple(split) for split in splits}) > 10


@given(seed=SEEDS, n_folds=st.integers(2, 4))
def test_folds_keep_subjects_whole_and_nothing_is_held_out(seed, n_folds):
    rng = np.random.default_rng(seed)
    subject = np.concatenate([np.arange(5), rng.integers(0, 5, 40)])
    given_splits = answer(SubjectSplit(n_folds=n_folds, seed=seed), make_trials(subject=subject))
    assert isinstance(given_splits, Splits)
    assert set(given_splits.split) == {"train"}
    assert set(given_splits.fold) == set(range(n_folds))
    assert_whole(subject, given_splits.fold)
    order = rng.permutation(len(subject))
    other = answer(SubjectSplit(n_folds=n_folds, seed=seed), make_trials(subject=subject[order]))
    np.testing.assert_array_equal(other.fold, given_splits.fold[order])


def test_folds_beside_a_held_out_test_are_of_the_train_trials():
    subject = np.repeat(np.arange(10), 4)
    found = answer(SubjectSplit(test_size=0.2, n_folds=4), make_trials(subject=subject))
    assert_whole(subject, found.split, found.fold)
    assert (found.split == "test").sum() == 8
    np.testing.assert_array_equal(found.fold < 0, found.split == "test")
    assert np.bincount(found.fold[found.fold >= 0]).tolist() == [8, 8, 8, 8]


def test_leave_one_out_has_a_fold_a_subject_in_their_order():
    subject = np.array([10, 2, 2, 7, 10])
    found = answer(SubjectSplit(leave_one_out=True), make_trials(subject=subject))
    assert found.fold.tolist() == [2, 0, 0, 1, 2]
    named = answer(SubjectSplit(leave_one_out=True, test=(7,)), make_trials(subject=subject))
    assert named.fold.tolist() == [1, 0, 0, -1, 1]
    assert named.split.tolist() == ["train", "train", "train", "test", "train"]


def test_named_subjects_are_the_test_and_nothing_is_drawn():
    trials = make_trials(subject=["s1", "s2", "s3", "s1", "s4"])
    split = answer(SubjectSplit(test=("s1",), val=("s3",)), trials)
    assert split.tolist() == ["test", "train", "val", "test", "train"]
    numbers = make_trials(subject=np.array([1.0, 2.0, 3.0]))
    for value in (2, "2"):
        assert answer(SubjectSplit(test=(value,)), numbers).tolist() == ["train", "test", "train"]


def test_a_value_that_no_trial_has_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"'subject': test names 's5', which is none of the 3 sub"):
        answer(SubjectSplit(test=("s5",)), make_trials(subject=["s1", "s2", "s3"]))


def test_too_few_groups_are_refused():
    message = r"1 subjects, expected 2 or more: one at least in each of train, test"
    with pytest.raises(InputError, match=message):
        answer(SubjectSplit(), make_trials(subject=["a", "a"]))
    with pytest.raises(InputError, match=r"2 subjects, expected 3 or more: .* train, val, test"):
        answer(SubjectSplit(val_size=0.1), make_trials(subject=["a", "b"]))
    message = r"2 subjects are not held out, expected 3 or more: one at least in each fold"
    with pytest.raises(InputError, match=message):
        answer(SubjectSplit(n_folds=3), make_trials(subject=["a", "b"]))
    with pytest.raises(InputError, match=r"0 subjects that test and val do not name, expected 1"):
        answer(SubjectSplit(test=("a", "b")), make_trials(subject=["a", "b"]))


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (
            SubjectSplit(),
            r"split 'subject': .* no column 'subject' \(they have n_samples\); npy and hdf5 g",
        ),
        (SessionSplit(), r"split 'session': .* no column 'session'"),
        (BlockSplit(), r"split 'block': .* 'block' \(.*\); npy .* option columns, synthetic by"),
        (BlockSplit(column="run"), r"no column 'run' \(.*\); npy .* option columns, mne by itself"),
    ],
)
def test_a_column_that_the_source_lacks_is_named_with_who_gives_it(plugin, said):
    with pytest.raises(InputError, match=said):
        answer(plugin, make_trials(n_samples=[1, 1]))


def test_sessions_of_two_subjects_are_different_ones():
    subject = np.repeat(["a", "b", "c"], 8)
    session = np.tile(np.repeat([1, 2, 3, 4], 2), 3)
    trials = make_trials(subject=subject, session=session)
    both = np.char.add(subject, session.astype(str))
    splits = [answer(SessionSplit(test_size=0.25, seed=seed), trials) for seed in range(20)]
    for split in splits:
        assert_whole(both, split)
        assert (split == "test").sum() == 6
    assert any(len(set(session[split == "test"])) > 1 for split in splits)
    named = answer(SessionSplit(test=(4,)), trials)
    np.testing.assert_array_equal(named == "test", session == 4)


def test_per_subject_every_subject_is_in_every_split_and_fold():
    subject = np.repeat(["a", "b", "c"], 8)
    session = np.tile(np.repeat([1, 2, 3, 4], 2), 3)
    trials = make_trials(subject=subject, session=session)
    split = answer(SessionSplit(test_size=0.25, per_subject=True), trials)
    found = answer(SessionSplit(n_folds=4, per_subject=True), trials)
    for one in "abc":
        assert (split[subject == one] == "test").sum() == 2
        assert np.bincount(found.fold[subject == one]).tolist() == [2] * 4
    with pytest.raises(InputError, match="no column 'subject'"):
        answer(SessionSplit(per_subject=True), make_trials(session=session))


def test_blocks_of_two_runs_are_different_ones():
    trials = make_trials(run=[0, 0, 1, 1], block=[0, 1, 0, 1])
    assert answer(BlockSplit(leave_one_out=True), trials).fold.tolist() == [0, 2, 1, 3]
    assert (
        answer(BlockSplit(column="run", test=(1,)), trials).tolist() == ["train"] * 2 + ["test"] * 2
    )


@given(seed=SEEDS)
def test_no_concept_is_in_two_splits_and_unpaired_trials_are_apart(seed):
    rng = np.random.default_rng(seed)
    stimuli = make_stimuli(np.arange(24) // 2, concept=[f"c{row // 3}" for row in range(24)])
    stimulus = np.concatenate([np.arange(24), rng.integers(-1, 24, 40), [-1]])
    split = answer(ConceptSplit(seed=seed), make_trials(stimulus % 7), stimulus, stimuli)
    concept = stimuli.concept[stimulus]
    paired = stimulus >= 0
    assert_whole(concept[paired], split[paired])
    assert set(split[paired]) == {"train", "test"}
    assert set(split[~paired]) == {"unpaired"}
    kept = ConceptSplit(seed=seed, unpaired="train", n_folds=3)
    found = answer(kept, make_trials(stimulus % 7), stimulus, stimuli)
    assert set(found.split) == {"train"}
    assert set(found.fold[~paired]) == {-1}
    assert_whole(concept[paired], found.fold[paired])


def test_a_concept_without_a_name_is_the_label():
    stimuli = make_stimuli([5, 5, 6, -1], concept=["", "", "", ""])
    stimulus = [0, 1, 2, 3, 0]
    split = answer(ConceptSplit(test=(5,)), make_trials([1] * 5), stimulus, stimuli)
    assert split.tolist() == ["test", "test", "train", "unpaired", "test"]
    labels = answer(ConceptSplit(test=(1,)), make_trials([0, 1, -1, 1]))
    assert labels.tolist() == ["train", "test", "unpaired", "test"]
    with pytest.raises(InputError, match="split 'concept': no trial has a label, expected some"):
        answer(ConceptSplit(), make_trials([-1, -1]))


@given(seed=SEEDS)
def test_copies_of_an_image_are_never_in_two_splits(seed):
    rng = np.random.default_rng(seed)
    content = rng.permutation(np.concatenate([np.arange(6), rng.integers(0, 6, 14)]))
    stimuli = eegstore.Stimuli(
        image_path=np.array([f"{row}.png" for row in range(20)]), label=np.zeros(20, np.int64),
        concept=np.array([""] * 20), caption=np.array([""] * 20),
        content_id=content.astype(str),
    )  # fmt: skip
    stimulus = np.concatenate([np.arange(20), [-1, 3, 3]])
    trials = make_trials(np.zeros(23, np.int64))
    found = answer(StimulusSplit(seed=seed, test_size=0.3, n_folds=2), trials, stimulus, stimuli)
    paired = stimulus >= 0
    assert_whole(content[stimulus[paired]], found.split[paired], found.fold[paired])
    assert found.split[20] == "unpaired"
    first = f"{np.flatnonzero(content == content[7])[0]}.png"
    named = answer(StimulusSplit(test=(first,)), trials, stimulus, stimuli)
    expected = paired & (content[stimulus] == content[7])
    np.testing.assert_array_equal(named == "test", expected)


def test_a_stimulus_split_needs_pairs():
    with pytest.raises(InputError, match=r"there are no stimuli; add \[stimuli\] to the recipe"):
        answer(StimulusSplit(), make_trials([0, 0]))
    with pytest.raises(InputError, match=r"no trial is paired, expected some; look at \[pairing\]"):
        answer(StimulusSplit(), make_trials([0, 0]), [-1, -1], make_stimuli([0, 1]))


@given(seed=SEEDS, n_folds=st.integers(2, 6), test_size=st.sampled_from([None, 0.25]))
def test_random_folds_are_stratified_and_equal(seed, n_folds, test_size):
    rng = np.random.default_rng(seed)
    label = rng.integers(-1, 4, rng.integers(10, 120))
    plugin = RandomSplit(test_size=test_size, n_folds=n_folds, seed=seed)
    found = answer(plugin, make_trials(label))
    held_out = found.split == "test"
    assert held_out.sum() == round(len(label) * (test_size or 0))
    np.testing.assert_array_equal(found.fold < 0, held_out)
    folds, n_train = found.fold[~held_out], (~held_out).sum()
    sizes = np.bincount(folds, minlength=n_folds)
    assert np.ptp(sizes) <= 1
    for one in np.unique(label):
        of_label = np.bincount(folds[label[~held_out] == one], minlength=n_folds)
        assert (abs(of_label - of_label.sum() * sizes / n_train) <= 1).all()


def test_drawn_splits_are_the_same_on_every_platform():
    # Drawn once. Where this changes, the plugin's version must change.
    subject = np.arange(12)
    split = answer(
        SubjectSplit(test_size=0.25, val_size=0.25, seed=7), make_trials(subject=subject)
    )
    assert "".join(name[1] for name in split.tolist()) == "errerrraraae"
    folds = answer(SubjectSplit(n_folds=3, seed=7), make_trials(subject=subject)).fold
    assert "".join(map(str, folds.tolist())) == "012200110122"
    folds = answer(RandomSplit(n_folds=3, seed=7), make_trials(subject % 2)).fold
    assert "".join(map(str, folds.tolist())) == "122001112200"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("subject", {"test": ["a"], "test_size": 0.2}, "test and test_size are both given"),
        ("subject", {"val": ["a"], "val_size": 0.2}, "val and val_size are both given"),
        ("subject", {"test": ["a", "b"], "val": ["b"]}, "'b' is in test and in val"),
        ("session", {"n_folds": 2, "leave_one_out": True}, "n_folds and leave_one_out are both"),
        ("concept", {"n_folds": 1}, "n_folds is 1, expected 2 or more"),
        ("random", {"n_folds": 1}, "n_folds is 1, expected 2 or more"),
        ("stimulus", {"test_size": 0.5, "val_size": 0.5}, r"test_size \+ val_size is 1.0"),
        ("block", {"seed": -1}, "seed: got -1"),
        ("subject", {"test": [True]}, "test"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, name, options, said):
    with pytest.raises(RecipeError, match=said):
        create("split", name, options, tmp_path)


def test_a_store_has_folds_that_keep_its_concepts_whole(tmp_path):
    recipe = {
        "source": {"plugin": "synthetic", "n_trials": 60, "n_channels": 2, "n_times": 32},
        "stimuli": {"plugin": "digits"},
        "split": {"plugin": "concept", "n_folds": 5, "test": ["3", "7"]},
    }
    eegstore.build(recipe, tmp_path / "a.zarr", executor="serial")
    store = eegstore.open_store(tmp_path / "a.zarr")
    label, split, fold = (store.trials[name][:] for name in ("label", "split", "fold"))
    np.testing.assert_array_equal(split == "test", np.isin(label, [3, 7]))
    assert_whole(label, fold)
    assert sorted(np.bincount(fold[fold >= 0]).tolist()) == [6, 6, 12, 12, 12]

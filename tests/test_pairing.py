"""Pairing by label, and by what the source says was shown."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eegstore import InputError, Stimuli, Trials
from eegstore_plugins.event import EventPairing
from eegstore_plugins.label import LabelPairing


def make_trials(label, stimulus_key=None) -> Trials:
    return Trials(
        n_trials=len(label),
        ch_names=["Cz"],
        sfreq=128.0,
        times=np.arange(4) / 128,
        units="V",
        label=np.array(label, dtype=np.int64),
        stimulus_key=None if stimulus_key is None else np.array(stimulus_key, dtype=np.str_),
    )


def make_stimuli(label, image_path=None, concept=None) -> Stimuli:
    paths = [f"{row}.png" for row in range(len(label))] if image_path is None else image_path
    return Stimuli(
        image_path=np.array(paths),
        label=np.array(label, dtype=np.int64),
        concept=np.array([f"concept {one}" for one in label] if concept is None else concept),
        caption=np.array([""] * len(label)),
        content_id=np.array(paths),
    )


def pair_labels(trial_labels, stimulus_labels, **options):
    return LabelPairing(**options)(make_trials(trial_labels), make_stimuli(stimulus_labels), {})


def pair_keys(keys, paths, *, label=None, concept=None, **options):
    stimuli = make_stimuli(range(len(paths)) if label is None else label, paths, concept)
    return EventPairing(**options)(make_trials([-1] * len(keys), keys), stimuli, {})


def test_label_pairs_by_label_and_not_by_place():
    pairs = pair_labels([2, 0, 7, 2], [7, 2, 0])
    assert pairs.stimulus.tolist() == [1, 2, 0, 1]
    assert pairs.stimulus.dtype == np.int64
    assert pairs.score.tolist() == [1, 1, 1, 1]
    assert pairs.score.dtype == np.float32


def test_label_minus_one_is_unpaired_even_where_a_stimulus_has_no_label():
    pairs = pair_labels([-1, 0, -1], [-1, 0, -1])
    assert pairs.stimulus.tolist() == [-1, 1, -1]
    assert np.isnan(pairs.score).tolist() == [True, False, True]


def test_label_without_stimulus_is_named_with_its_trials():
    message = r"no stimulus has label 5 \(2 trials\), 9 \(1 trials\); the stimuli have 2 labels, 0 "
    with pytest.raises(InputError, match=message + r"to 7; .* unmatched = \"keep\""):
        pair_labels([0, 5, 9, 5, -1], [0, 7, -1])


def test_label_says_where_no_stimulus_has_a_label():
    with pytest.raises(InputError, match="the stimuli have no labels"):
        pair_labels([0], [-1])


def test_label_kept_without_stimulus_does_not_shift_later_ones():
    pairs = pair_labels([0, 1, 2, 3], [0, 2, 3], unmatched="keep")
    assert pairs.stimulus.tolist() == [0, -1, 1, 2]
    assert np.isnan(pairs.score).tolist() == [False, True, False, False]


def test_label_choices_of_several_stimuli():
    trials, stimuli = [4, 4, 1, 4, 4], [4, 1, 4, 4]
    first = pair_labels(trials, stimuli, choose="first")
    assert first.stimulus.tolist() == [0, 0, 1, 0, 0]
    cycle = pair_labels(trials, stimuli, choose="cycle")
    assert cycle.stimulus.tolist() == [0, 2, 1, 3, 0]
    np.testing.assert_array_equal(cycle.score, np.float32([1 / 3, 1 / 3, 1, 1 / 3, 1 / 3]))


def test_label_random_is_seeded_and_even():
    trials, stimuli = [0] * 3000 + [1], [0, 0, 0, 1]
    one = pair_labels(trials, stimuli, choose="random", seed=1)
    same = pair_labels(trials, stimuli, choose="random", seed=1)
    other = pair_labels(trials, stimuli, choose="random", seed=2)
    np.testing.assert_array_equal(one.stimulus, same.stimulus)
    assert (one.stimulus != other.stimulus).any()
    assert one.stimulus[-1] == 3
    counts = np.bincount(one.stimulus[:-1], minlength=3)
    assert np.abs(counts - 1000).max() < 120  # more than four standard deviations


def test_label_random_draw_of_a_trial_does_not_depend_on_the_other_labels():
    one = pair_labels([0, 1, 0, 2], [0, 0, 0, 1, 2], choose="random")
    other = pair_labels([0, -1, 0, 7], [0, 0, 0, 1, 2], choose="random", unmatched="keep")
    np.testing.assert_array_equal(one.stimulus[[0, 2]], other.stimulus[[0, 2]])


@given(
    trials=st.lists(st.integers(-1, 6), min_size=1, max_size=60),
    stimuli=st.lists(st.integers(-1, 6), min_size=1, max_size=20),
    choose=st.sampled_from(["first", "cycle", "random"]),
)
def test_label_pairs_as_a_plain_loop_does(trials, stimuli, choose):
    pairs = pair_labels(trials, stimuli, choose=choose, unmatched="keep")
    seen: dict[int, int] = {}
    for label, row, score in zip(trials, pairs.stimulus.tolist(), pairs.score, strict=True):
        rows = [at for at, one in enumerate(stimuli) if one == label and label >= 0]
        turn = seen.get(label, 0)
        seen[label] = turn + 1
        if not rows:
            assert row == -1
            assert np.isnan(score)
            continue
        allowed = {"first": rows[:1], "cycle": [rows[turn % len(rows)]], "random": rows}
        assert row in allowed[choose]
        assert score == np.float32(1 / len(rows))


PATHS = ["00001_aardvark/aardvark_01b.jpg", "00002_abacus/abacus_02s.jpg"]


@pytest.mark.parametrize(
    "key",
    [
        "00002_abacus/abacus_02s.jpg",
        "abacus_02s.jpg",
        "/home/lab/things/00002_abacus/abacus_02s.jpg",
        "things\\00002_abacus\\abacus_02s.jpg",
        "./00002_abacus/abacus_02s.jpg",
    ],
)
def test_event_finds_a_path_by_its_end(key):
    pairs = pair_keys([key, ""], PATHS, match="path")
    assert pairs.stimulus.tolist() == [1, -1]
    assert pairs.score[0] == 1
    assert np.isnan(pairs.score[1])


def test_event_path_ends_at_a_separator_only():
    pairs = pair_keys(["02s.jpg", "us_02s.jpg"], PATHS, match="path", unmatched="keep")
    assert pairs.stimulus.tolist() == [-1, -1]


def test_event_prefers_the_whole_path_and_then_the_longest_end():
    paths = ["a.jpg", "x/a.jpg"]
    pairs = pair_keys(["a.jpg", "x/a.jpg", "y/x/a.jpg", "y/a.jpg"], paths, match="path")
    assert pairs.stimulus.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("key", ["abacus_02s.jpg", "abacus_02s", "abacus"])
def test_event_finds_a_file_name_a_stem_or_a_concept(key):
    pairs = pair_keys([key], PATHS, concept=["aardvark", "abacus"], match="name")
    assert pairs.stimulus.tolist() == [1]


@pytest.mark.parametrize("key", ["caf\xe9.png", "cafe\u0301.png", "caf\xe9", "x/cafe\u0301.png"])
@pytest.mark.parametrize("file", ["caf\xe9.png", "cafe\u0301.png"])
def test_event_finds_a_name_in_any_unicode_form(key, file):
    assert pair_keys([key, "cafe.png"], [file, "cafe.png"]).stimulus.tolist() == [0, 1]


def test_event_id_is_the_label_where_labels_are_unique_and_the_row_else():
    paths = ["1.png", "5.png", "7.png"]
    keys = ["7", "1", "5"]
    assert pair_keys(keys, paths, label=[1, 5, 7], match="id").stimulus.tolist() == [2, 0, 1]
    keys = ["2", "0", "01"]
    assert pair_keys(keys, paths, label=[1, 5, 5], match="id").stimulus.tolist() == [2, 0, 1]


def test_event_auto_takes_the_match_that_fits_most_keys():
    ids = [f"{number}.png" for number in range(12)]
    assert pair_keys(["11", "2", ""], ids).stimulus.tolist() == [11, 2, -1]
    assert pair_keys(["aardvark_01b.jpg"], PATHS).stimulus.tolist() == [0]
    assert pair_keys(["1", "0"], PATHS).stimulus.tolist() == [1, 0]
    by_concept = pair_keys(["abacus"], PATHS, concept=["aardvark", "abacus"])
    assert by_concept.stimulus.tolist() == [1]


def test_event_names_both_stimuli_of_an_ambiguous_key():
    message = r"the key 'a.jpg' \(2 trials\) fits two stimuli, 'x/a.jpg' and 'y/a.jpg'"
    with pytest.raises(InputError, match=message):
        pair_keys(["a.jpg", "a.jpg"], ["x/a.jpg", "y/a.jpg"])
    with pytest.raises(InputError, match=r"'cat' \(1 trials\) fits two stimuli, 'cat.jpg' and"):
        pair_keys(["cat"], ["cat.jpg", "cat.png"], unmatched="keep")


def test_event_names_a_key_without_stimulus():
    message = r"no stimulus fits the key 'tab\\tle.jpg' \(1 trials\), expected one like '00001_"
    with pytest.raises(InputError, match=message):
        pair_keys([PATHS[0], "tab\tle.jpg"], PATHS)


def test_event_keeps_unmatched_trials_where_allowed():
    pairs = pair_keys(["nowhere.jpg", PATHS[1], "", PATHS[0]], PATHS, unmatched="keep")
    assert pairs.stimulus.tolist() == [-1, 1, -1, 0]
    assert np.isnan(pairs.score).tolist() == [True, False, True, False]


def test_event_pairs_no_empty_key_with_a_stimulus_without_concept():
    pairs = pair_keys(["", "abacus_02s"], PATHS, concept=["", "abacus"], match="name")
    assert pairs.stimulus.tolist() == [-1, 1]


def test_event_without_keys_names_the_pairing_to_use():
    with pytest.raises(
        InputError, match=r'no stimulus_key.*npy: stimulus_keys, hdf5: .*plugin = "label"'
    ):
        EventPairing()(make_trials([0]), make_stimuli([0]), {})


def test_a_million_trials_are_paired_in_seconds():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 16_540, 1_000_000)
    paths = np.array([f"{row // 10:05d}_concept/image_{row:05d}.jpg" for row in range(16_540)])
    trials = make_trials(rows, paths[rows])
    stimuli = make_stimuli(range(16_540), paths)
    for pairing in (LabelPairing(choose="cycle"), EventPairing()):
        started = time.monotonic()
        pairs = pairing(trials, stimuli, {})
        assert time.monotonic() - started < 8  # about one second on an idle machine
        np.testing.assert_array_equal(pairs.stimulus, rows)

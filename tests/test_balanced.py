"""Pairing by chance with equal use of the stimuli, and several stimuli of a label."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eegstore
from eegstore import ColumnSpec, InputError, RecipeError, registry
from eegstore.testing.pairing import HeldColumn
from eegstore_plugins.balanced import BalancedPairing
from eegstore_plugins.event import EventPairing
from eegstore_plugins.label import LabelPairing
from test_pairing import make_stimuli, make_trials, pair_labels

SEEDS = st.integers(0, 2**40)


def labels(seed):
    """Labels of up to 60 trials, and of up to 20 stimuli; some are -1, some have no stimulus."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-1, 5, rng.integers(1, most)).tolist() for most in (61, 21)]


def balanced(trials, stimuli, **options):
    return BalancedPairing(**options)(make_trials(trials), make_stimuli(stimuli), {})


@given(seed=SEEDS)
def test_stimuli_of_a_label_are_used_equally_often_or_once_more(seed):
    trials, stimuli = labels(seed)
    pairs = balanced(trials, stimuli, seed=seed, unmatched="keep")
    used = np.bincount(pairs.stimulus[pairs.stimulus >= 0], minlength=len(stimuli))
    for label in set(trials):
        rows = [row for row, one in enumerate(stimuli) if one == label and label >= 0]
        of_label = pairs.stimulus[np.array(trials) == label]
        scores = pairs.score[np.array(trials) == label]
        if not rows:
            assert (of_label == -1).all()
            assert np.isnan(scores).all()
            continue
        assert np.isin(of_label, rows).all()
        assert np.ptp(used[rows]) <= 1
        np.testing.assert_array_equal(scores, np.float32(1 / len(rows)))


@given(seed=SEEDS)
def test_of_all_stimuli_none_is_used_more_than_once_more(seed):
    trials, stimuli = labels(seed)
    pairs = balanced(trials, stimuli, seed=seed, within="all")
    assert np.ptp(np.bincount(pairs.stimulus, minlength=len(stimuli))) <= 1
    np.testing.assert_array_equal(pairs.score, np.float32(1 / len(stimuli)))


@pytest.mark.parametrize("within", ["label", "all"])
def test_the_seed_decides_and_every_stimulus_has_the_same_chance(within):
    trials, stimuli = [0] * 7, [0] * 3
    drawn = [balanced(trials, stimuli, seed=seed, within=within).stimulus for seed in range(900)]
    again = balanced(trials, stimuli, seed=5, within=within).stimulus
    np.testing.assert_array_equal(drawn[5], again)
    assert any((drawn[0] != one).any() for one in drawn)
    counts = np.stack([np.bincount(column, minlength=3) for column in np.stack(drawn).T])
    assert abs(counts - 300).max() < 75  # five standard deviations


def test_balanced_pairs_are_the_same_on_every_platform():
    # Drawn once. Where this changes, the plugin's version must change.
    pairs = balanced([0, 1] * 6, [0, 0, 1, 1, 1], seed=7)
    assert pairs.stimulus.tolist() == [0, 4, 0, 2, 1, 4, 0, 3, 1, 2, 1, 3]


def test_balanced_refuses_a_label_without_stimulus():
    with pytest.raises(InputError, match=r"pairing 'balanced': no stimulus has label 5 \(2 trial"):
        balanced([0, 5, 5], [0])


@given(seed=SEEDS, choose=st.sampled_from(["first", "cycle", "random"]), k=st.integers(2, 5))
def test_several_stimuli_of_a_label_are_its_next_ones_and_none_twice(seed, choose, k):
    trials, stimuli = labels(seed)
    pairs = pair_labels(trials, stimuli, choose=choose, k=k, unmatched="keep")
    one = pair_labels(trials, stimuli, choose=choose, unmatched="keep")
    np.testing.assert_array_equal(pairs.stimulus, one.stimulus)
    assert pairs.more.shape == (len(trials), k - 1)
    assert pairs.more_score.dtype == np.float32
    for trial, label in enumerate(trials):
        rows = [row for row, of in enumerate(stimuli) if of == label and label >= 0]
        given_rows = [pairs.stimulus[trial], *pairs.more[trial]]
        n_given = min(k, len(rows))
        at = rows.index(given_rows[0]) if rows else 0
        expected = [rows[(at + turn) % len(rows)] for turn in range(n_given)]
        assert given_rows == expected + [-1] * (k - n_given)
        np.testing.assert_array_equal(np.isnan(pairs.more_score[trial]), pairs.more[trial] < 0)


def test_each_pairing_says_what_its_pairs_are_made_from():
    assert LabelPairing().made_from == BalancedPairing().made_from == ("label",)
    assert EventPairing().made_from == ("stimulus_key",)
    assert BalancedPairing(within="all").made_from == ()
    assert (LabelPairing().cardinality, LabelPairing(k=2).cardinality) == ("one", "many")


@pytest.mark.parametrize(
    "plugin",
    [LabelPairing, EventPairing, BalancedPairing, functools.partial(BalancedPairing, within="all")],
)
def test_trials_of_poor_quality_stay_unpaired_and_count_for_no_balance(plugin):
    measured = np.array([[0.9, 0.2], [0.1, 0.5], [0.9, np.nan], [0.1, 0.9], [0.9, 0.1]])
    spec = ColumnSpec(("feature",), (2,), "float32")
    columns = {"trials/quality": HeldColumn(spec, measured.astype(np.float32))}
    # The key and the label of a poor trial may have no stimulus.
    trials = make_trials([7, 0, 7, 0, 7], ["?", "0.png", "?", "1.png", "?"])
    made = plugin(quality="trials/quality")
    assert made.reads == ("trials/quality",)
    pairs = made(trials, make_stimuli([0, 0]), columns)
    assert np.flatnonzero(pairs.stimulus >= 0).tolist() == [1, 3]
    assert np.flatnonzero(~np.isnan(pairs.score)).tolist() == [1, 3]
    if plugin is not LabelPairing:
        assert sorted(pairs.stimulus[[1, 3]].tolist()) == [0, 1]


@pytest.mark.parametrize("plugin", ["event", "label", "balanced", "multi-stage"])
@pytest.mark.parametrize("least", [0.99, 0.5])  # 0.5 is the default
def test_a_least_quality_without_a_quality_is_refused(plugin, least):
    options = {"query": "trials/a", "gallery": "stimuli/b"} if plugin == "multi-stage" else {}

    def made(**more):
        return registry.create("pairing", plugin, options | more, Path(), "[pairing]")

    line = r'^\[pairing\]: min_quality does nothing without quality; say quality = "trials/q.*"$'
    with pytest.raises(RecipeError, match=line):
        made(min_quality=least)
    assert made(min_quality=least, quality="trials/quality").min_quality == least
    assert made().min_quality == 0.5
    assert made(**eegstore.options_of(made())) == made()  # as a store records them


@pytest.mark.parametrize("plugin", [LabelPairing, BalancedPairing])
def test_a_pairing_by_label_where_no_trial_has_one_says_what_to_do(plugin):
    trials, stimuli = make_trials([-1, -1]), make_stimuli([0, 1])
    line = rf"^pairing '{plugin.name}': no trial has a label; give the source labels, pair by event"
    with pytest.raises(InputError, match=line):
        plugin()(trials, stimuli, {})
    assert plugin(unmatched="keep")(trials, stimuli, {}).stimulus.tolist() == [-1, -1]


def test_any_stimulus_is_drawn_for_trials_without_labels():
    pairs = BalancedPairing(within="all")(make_trials([-1, -1]), make_stimuli([0, 1]), {})
    assert sorted(pairs.stimulus.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("pairing", "said"),
    [
        ({"choose": "first"}, ["10 of 20 stimuli are shown by no trial"]),
        ({"choose": "cycle"}, []),
        ({"k": 2}, []),
    ],
)
def test_a_build_tells_how_many_stimuli_no_trial_shows(tmp_path, pairing, said):
    recipe = {
        "source": {"plugin": "synthetic", "n_trials": 20, "n_channels": 1},
        "stimuli": {"plugin": "digits", "per_label": 2},
        "pairing": {"plugin": "label", **pairing},
    }
    done = eegstore.build(recipe, tmp_path / "a.zarr", executor="serial")
    assert [one for one in done.hints if "stimuli" in one] == said


def test_a_store_leaves_poor_trials_unpaired(tmp_path):
    recipe = {
        "source": {"plugin": "synthetic", "n_trials": 20, "n_channels": 3},
        "stimuli": {"plugin": "digits"},
        "pairing": {"plugin": "label", "quality": "trials/quality", "min_quality": 0.9},
        "extract": [{"plugin": "quality", "max_amplitude_uv": 100.0}],
    }
    eegstore.build(recipe, tmp_path / "a.zarr", executor="serial")
    trials = eegstore.open_store(tmp_path / "a.zarr").trials
    good = trials["quality"][:][:, -1] >= 0.9
    assert 0 < good.sum() < 20
    np.testing.assert_array_equal(trials["stimulus"][:] >= 0, good)

"""Reading a part of each trial, averaged and normalised: the values of doing it to all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegstore
from eegstore import InputError, open_store
from eegstore.load import TrialLoader
from eegstore.store import Store
from samples import recipe, write_npy

N_TRIALS, CHANNELS, N_TIMES = 96, ["Fz", "Cz", "O1", "Oz"], 40


@pytest.fixture(scope="module", params=["raw", "small"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two subjects, twelve digits, in two splits; a digit is seen several times."""
    folder: Path = tmp_path_factory.mktemp("options")
    generator = np.random.default_rng(0)
    eeg = generator.standard_normal((N_TRIALS, 4, N_TIMES)).astype(np.float32)
    eeg = (eeg * [[1], [5], [20], [0.1]] + [[0], [100], [-3], [0]]).astype(np.float32)
    labels = np.arange(N_TRIALS) % 10
    write_npy(
        folder / "npy", train_data=eeg[:72], train_labels=labels[:72],
        test_data=eeg[72:], test_labels=labels[72:],
    )  # fmt: skip
    source = {
        "plugin": "npy", "path": str(folder / "npy"), "sfreq": 20.0, "tmin": -0.5,
        "ch_names": CHANNELS,
    }  # fmt: skip
    given = recipe(source=source, split={"plugin": "source"}, extract=[{"plugin": "hog"}])
    given["extract"] = [{"plugin": "hog"}, {"plugin": "temporal"}]
    given["store"] = {"codec": request.param}
    eegstore.build(given, folder / "s.zarr")
    return open_store(folder / "s.zarr")


def eeg_of(store: Store, split: str | None = None) -> Any:
    names = store.trials["split"][:]
    return store.trials["eeg"][:][slice(None) if split is None else names == split]


def test_a_window_of_time_is_that_between_both_ends(store: Store) -> None:
    loader = TrialLoader(store, tmin=0.0, tmax=0.3)
    np.testing.assert_allclose(loader.times, np.arange(7) / 20, atol=1e-12)
    found = loader.batch([5, 0])["eeg"]
    np.testing.assert_array_equal(found, eeg_of(store)[[5, 0], :, 10:17])
    assert TrialLoader(store, tmax=-0.5).batch([0])["eeg"].shape == (1, 4, 1)
    assert len(TrialLoader(store, tmin=-0.5).times) == N_TIMES


def test_channels_arrive_in_the_order_asked_for(store: Store) -> None:
    loader = TrialLoader(store, "test", ["label", "eeg"], channels=["Oz", 0], tmin=1.0)
    assert loader.ch_names == ["Oz", "Fz"]
    found = loader.batch(np.arange(len(loader)))
    assert list(found) == ["label", "eeg"]
    np.testing.assert_array_equal(found["eeg"], eeg_of(store, "test")[:, [3, 0], 30:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ["O1", "FZz"]}, "has no channel 'FZz'; did you mean 'Fz'?"),
        ({"channels": [4]}, "has no channel 4; expected names, or numbers from 0 to 3, of "),
        ({"channels": [True, False]}, "has no channel True; expected names, or numbers"),
        ({"channels": np.ones(4, dtype=bool)}, "; expected names, or numbers from 0 to 3"),
        ({"channels": [1.0]}, "has no channel 1.0; expected names, or numbers"),
        ({"channels": []}, "channels has none, expected at least one name or number"),
        ({"channels": slice(0, 3)}, "has no channel slice(0, 3, None); expected names, or numbers"),
        ({"channels": "Ozz"}, "has no channel 'Ozz'; did you mean 'Oz'?"),
        ({"columns": None}, "columns has no name, expected at least one, such as 'eeg'"),
        ({"columns": [1]}, "columns has 1, expected names, such as 'eeg'"),
        ({"split": ["train", "test"]}, "split is ['train', 'test'], expected one of"),
        ({"split": "train", "rows": [1]}, "rows are given and split 'train'; give one of them"),
        ({"tmin": "0"}, "tmin is '0', expected seconds from stimulus onset"),
        (
            {"tmin": 2.0},
            "no sample from tmin 2.0 to tmax None; the trials last from -0.5 to 1.45 s",
        ),
        ({"tmin": 0.2, "tmax": 0.1}, "no sample from tmin 0.2 to tmax 0.1"),
        ({"normalize": "z"}, "normalize is 'z', expected 'trial', 'train' or a scale"),
        ({"average": "stimulus"}, "average is 'stimulus', expected 'repetition'"),
    ],
)
def test_what_cannot_be_read_is_refused(
    store: Store, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as raised:
        TrialLoader(store, **options)
    assert message in str(raised.value)


def test_trials_are_normalised_over_what_is_read(store: Store) -> None:
    loader = TrialLoader(store, channels=["Cz", "O1"], tmin=0.0, normalize="trial")
    part = eeg_of(store)[[3, 9]][:, 1:3, 10:].astype(np.float64)
    expected = (part - part.mean(-1, keepdims=True)) / part.std(-1, keepdims=True)
    np.testing.assert_allclose(loader.batch([3, 9])["eeg"], expected, atol=1e-5)


def test_every_split_is_normalised_by_train_alone(store: Store) -> None:
    train = eeg_of(store, "train").astype(np.float64)
    mean = train.mean((0, 2))[:, None]
    std = train.std((0, 2))[:, None]
    for split in ("train", "test"):
        loader = TrialLoader(store, split, normalize="train")
        found = loader.batch(np.arange(len(loader)))["eeg"]
        np.testing.assert_allclose(found, (eeg_of(store, split) - mean) / std, atol=1e-4)
    scale = TrialLoader(store, "test", normalize="train").scale
    assert scale is not None
    given = TrialLoader(store, "test", normalize=scale)
    np.testing.assert_array_equal(given.batch([1])["eeg"], found[[1]])


def test_repetitions_are_averaged_within_a_split(store: Store) -> None:
    stimulus, split = store.trials["stimulus"][:], store.trials["split"][:]
    loader = TrialLoader(
        store, columns=["eeg", "temporal", "stimulus", "hog"], average="repetition"
    )
    assert len(loader) == sum(len(np.unique(stimulus[split == name])) for name in store.splits)
    found = loader.batch(np.arange(len(loader)))
    for number, row in enumerate(loader.rows):
        same = (stimulus == stimulus[row]) & (split == split[row])
        assert row == np.flatnonzero(same)[0]
        assert found["stimulus"][number] == stimulus[row]
        for name in ("eeg", "temporal"):
            mean = store.trials[name][same].astype(np.float64).mean(0)
            np.testing.assert_allclose(found[name][number], mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found["hog"], store.stimuli["hog"][found["stimulus"]])
    again = loader.batch([7, 0])
    np.testing.assert_array_equal(again["eeg"], found["eeg"][[7, 0]])


def test_averages_are_normalised_by_the_averages_of_train(store: Store) -> None:
    plain = TrialLoader(store, "train", average="repetition")
    values = plain.batch(np.arange(len(plain)))["eeg"].astype(np.float64)
    loader = TrialLoader(store, "test", average="repetition", normalize="train")
    assert loader.scale is not None
    np.testing.assert_allclose(loader.scale.mean, values.mean((0, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loader.scale.std, values.std((0, 2)), rtol=1e-4)


def test_all_values_of_a_column_are_those_of_the_loaders_trials(store: Store) -> None:
    loader = TrialLoader(store, "test")
    np.testing.assert_array_equal(loader.values("label"), store.trials["label"][loader.rows])
    concept = store.stimuli["concept"][store.trials["stimulus"][loader.rows]]
    assert loader.values("concept").tolist() == concept.tolist()


def test_one_channel_needs_no_list(store: Store) -> None:
    for one in ("Oz", np.int64(3), 3):
        assert (
            TrialLoader(store, channels=one).ch_names == TrialLoader(store, channels=[3]).ch_names
        )


def test_a_scale_is_taken_for_the_channels_that_it_was_fitted_on(store: Store) -> None:
    scale = TrialLoader(store, "train", channels=["Oz", "Fz"], normalize="train").scale
    same = TrialLoader(store, "test", channels=["Oz", "Fz"], normalize=scale)
    assert same.batch([0])["eeg"].shape[1] == 2
    for others in (["Fz", "Oz"], ["O1", "Cz"], ["Oz"], None):
        with pytest.raises(InputError, match="the scale is of the channels Oz, Fz, and the chan"):
            TrialLoader(store, "test", channels=others, normalize=scale)

"""The loader of trials: the split that is asked for, stimuli joined, nothing that is not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import eegstore
from eegstore import InputError, open_store
from eegstore.load import TrialLoader
from eegstore.store import Store
from samples import EEG, recipe, write_npy

N_TRIALS = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of which the trials of labels 10 and 11 have no digit."""
    path = tmp_path_factory.mktemp("load") / "s.zarr"
    some_unpaired = recipe(
        source=EEG | {"n_classes": 12}, pairing={"plugin": "label", "unmatched": "keep"}
    )
    eegstore.build(some_unpaired, path)
    return open_store(path)


@pytest.fixture(scope="module")
def with_skipped(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of twelve trials of which 2 and 7 are not finite."""
    folder = tmp_path_factory.mktemp("skipped")
    eeg = np.random.default_rng(0).standard_normal((12, 2, 8)).astype(np.float32)
    eeg[2, 1, 3] = np.nan
    eeg[7, 0, 0] = np.inf
    write_npy(folder / "npy", train_data=eeg, train_labels=np.arange(12) % 10)
    source = {"plugin": "npy", "path": str(folder / "npy"), "sfreq": 8.0, "allow_skips": True}
    eegstore.build(recipe(source=source, split=None, extract=[]), folder / "s.zarr")
    return open_store(folder / "s.zarr")


def test_a_split_holds_its_trials_in_order(store: Store) -> None:
    names = store.trials["split"][:]
    loaders = {split: TrialLoader(store, split) for split in ("train", "test")}
    for split, loader in loaders.items():
        np.testing.assert_array_equal(loader.rows, np.flatnonzero(names == split))
        assert len(loader) == store.splits[split]
        batch = loader.batch(np.arange(len(loader)))
        assert list(batch) == ["eeg", "label"]
        np.testing.assert_array_equal(batch["eeg"], store.trials["eeg"][:][names == split])
        np.testing.assert_array_equal(batch["label"], store.trials["label"][:][names == split])
    everything = TrialLoader(store)
    assert everything.rows.tolist() == list(range(N_TRIALS))
    assert sum(map(len, loaders.values())) == N_TRIALS


def test_a_batch_keeps_the_order_asked_for(store: Store) -> None:
    loader = TrialLoader(store, "train", ["eeg", "split", "valid"])
    numbers = [5, 0, 5, len(loader) - 1]
    batch = loader.batch(numbers)
    np.testing.assert_array_equal(batch["eeg"], store.trials["eeg"][:][loader.rows[numbers]])
    assert batch["eeg"].dtype == np.float32
    assert batch["split"].tolist() == ["train"] * 4
    assert batch["valid"].tolist() == [True] * 4
    empty = loader.batch([])
    assert empty["eeg"].shape == (0, 4, 128)


def test_columns_of_the_stimuli_arrive_a_row_a_trial(store: Store) -> None:
    columns = ["hog", "caption", "stimuli/label", "label", "trials/label", "stimulus", "trials/eeg"]
    loader = TrialLoader(store, "train", columns)
    batch = loader.batch(np.arange(len(loader))[::-1])
    rows = loader.rows[::-1]
    stimulus = store.trials["stimulus"][rows]
    assert list(batch) == columns
    np.testing.assert_array_equal(batch["stimulus"], stimulus)
    np.testing.assert_array_equal(batch["hog"], store.stimuli["hog"][:][stimulus])
    np.testing.assert_array_equal(batch["stimuli/label"], store.stimuli["label"][:][stimulus])
    np.testing.assert_array_equal(batch["stimuli/label"], batch["label"])
    np.testing.assert_array_equal(batch["trials/label"], batch["label"])
    np.testing.assert_array_equal(batch["trials/eeg"], store.trials["eeg"][rows])
    assert batch["caption"].tolist() == [
        f"This picture is digit {label}" for label in batch["label"]
    ]


def test_trials_without_a_stimulus_are_left_out_where_one_is_asked_for(store: Store) -> None:
    label = store.trials["label"][:]
    assert np.count_nonzero(label >= 10) == 10
    assert len(TrialLoader(store, columns=["eeg", "label", "stimulus"])) == N_TRIALS
    joined = TrialLoader(store, columns=["eeg", "hog"])
    np.testing.assert_array_equal(joined.rows, np.flatnonzero(label < 10))
    some = TrialLoader(store, columns=["concept"], rows=[11, 3, 10, 3])
    assert some.rows.tolist() == [3, 3]
    assert some.batch([0, 1])["concept"].tolist() == ["3", "3"]


@pytest.mark.parametrize("column", ["concept", "hog"])
def test_a_trial_without_a_stimulus_never_has_the_last_ones_value(
    store: Store, column: str
) -> None:
    loader = TrialLoader(store, rows=[3, 10])
    assert loader.values("stimulus").tolist()[1] == -1
    with pytest.raises(IndexError, match=f"^stimuli/{column}: row -1 of 10; "):
        loader.values(column)


def test_skipped_trials_are_in_no_loader(with_skipped: Store) -> None:
    assert with_skipped.splits == {"skipped": 2, "train": 10}
    good = [0, 1, 3, 4, 5, 6, 8, 9, 10, 11]
    for loader in (TrialLoader(with_skipped), TrialLoader(with_skipped, "train")):
        assert loader.rows.tolist() == good
        assert np.isfinite(loader.batch(np.arange(10))["eeg"]).all()
    assert TrialLoader(with_skipped, rows=[7, 1, 2, 0]).rows.tolist() == [1, 0]


def test_rows_are_taken_as_given(store: Store) -> None:
    assert TrialLoader(store, rows=[9, 3, 3]).rows.tolist() == [9, 3, 3]
    mask = store.trials["label"][:] == 7
    assert TrialLoader(store, rows=mask).rows.tolist() == [7, 19, 31, 43, 55]
    assert len(TrialLoader(store, rows=[])) == 0
    loader = TrialLoader(store, rows=[9, 3])
    np.testing.assert_array_equal(loader.batch([1])["eeg"], store.trials["eeg"][[3]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, -1], "trials: row -1 of 60"),
        ([60], "trials: row 60 of 60"),
        ([0.5], "trials: rows must be integers"),
        (np.ones(59, dtype=bool), r"trials: a mask of \(59,\) for 60 rows"),
    ],
)
def test_rows_that_are_not_there_are_refused(store: Store, rows: Any, message: str) -> None:
    with pytest.raises(IndexError, match=f"^{message}"):
        TrialLoader(store, rows=rows)


@pytest.mark.parametrize("number", [-1, 10])
def test_a_batch_of_trials_that_are_not_there_is_refused(store: Store, number: int) -> None:
    loader = TrialLoader(store, rows=np.arange(10))
    with pytest.raises(IndexError, match=f"row {number} of 10"):
        loader.batch([0, number])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("hgo", "has no column 'hgo'; did you mean 'hog'?"),
        ("spectra", "has no column 'spectra'; did you mean 'spectral'?"),
        ("trials/hog", "has no column 'trials/hog'; did you mean 'hog'?"),
        ("stimuli/eeg", "has no column 'stimuli/eeg'; did you mean 'eeg'?"),
        ("images/hog", "has no column 'images/hog'; did you mean 'hog'?"),
        ("/eeg", "has no column '/eeg'; did you mean 'eeg'?"),
    ],
)
def test_an_unknown_column_is_refused_with_the_nearest(
    store: Store, column: str, message: str
) -> None:
    with pytest.raises(InputError) as refused:
        TrialLoader(store, columns=["eeg", column])
    assert str(refused.value) == f"{store.path}: {message}"


def test_an_unknown_split_is_refused_with_the_nearest(store: Store) -> None:
    with pytest.raises(InputError) as refused:
        TrialLoader(store, "trian")
    assert str(refused.value) == f"{store.path}: has no split 'trian'; did you mean 'train'?"

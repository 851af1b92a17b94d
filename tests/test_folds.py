"""Splits that make folds: the column they are stored as, and who is held out."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import eegstore
from eegstore import InputError, PluginError, Splits, Store, builder, registry, render
from eegstore.load import TrialLoader
from eegstore.torch import Dataset
from samples import modified, recipe, write_npy

N_TRIALS = 23


@dataclass(frozen=True)
class Folds:
    """Trial i is in fold i modulo n; trials from 20 on are in none, and a test."""

    name: ClassVar[str] = "folds"
    version: ClassVar[str] = "1"
    n: int = field(default=4, metadata={"description": "Folds; 0 for names alone.", "ge": 0})

    def __call__(self, trials: Any, stimulus: Any, stimuli: Any) -> Any:
        row = np.arange(trials.n_trials)
        split = np.where(row >= 20, "test", "train")
        return Splits(split, np.where(row >= 20, -1, row % self.n)) if self.n else split


@pytest.fixture(autouse=True, scope="module")
def _installed() -> Any:
    found = registry.plugins()
    mine = registry.Plugin("split", "folds", "1", "theirs", "1.0", "ok", Folds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "plugins", lambda: (*found, mine))
        yield


def folded(folder: Path, n: int = 4) -> dict[str, Any]:
    """Trials of which 5 is not finite; each signal is its row's number and noise."""
    rng = np.random.default_rng(0)
    eeg = rng.standard_normal((N_TRIALS, 2, 8)).astype(np.float32)
    eeg += np.arange(N_TRIALS, dtype=np.float32)[:, None, None]
    eeg[5, 1, 3] = np.nan
    write_npy(folder, train_data=eeg, train_labels=np.arange(N_TRIALS) % 10)
    source = {"plugin": "npy", "path": str(folder), "sfreq": 8.0, "allow_skips": True}
    return recipe(source=source, split={"plugin": "folds", "n": n}, extract=[])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    eegstore.build(folded(folder / "npy"), folder / "s.zarr")
    return folder / "s.zarr"


@pytest.fixture(scope="module")
def store(path: Path) -> Store:
    return eegstore.open_store(path)


def test_folds_are_a_column_in_which_a_skipped_trial_has_none(store: Store) -> None:
    row = np.arange(N_TRIALS)
    expected = np.where((row >= 20) | (row == 5), -1, row % 4)
    fold = store.trials["fold"]
    np.testing.assert_array_equal(fold[:], expected)
    assert fold[:].dtype == np.int64
    assert fold.attrs["eegstore"]["producer"]["name"] == "folds"
    assert list(fold.attrs["eegstore"]["inputs"]) == ["trials/stimulus"]
    assert store.trials["split"][5] == "skipped"
    assert store.folds == {0: 5, 1: 4, 2: 5, 3: 5}
    names = [one.path for one in store.attributes.columns]
    assert names[names.index("trials/split") + 1] == "trials/fold"


def test_a_store_whose_split_makes_none_has_no_such_column(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    eegstore.build(folded(tmp_path / "npy"), path)
    assert builder.plan(folded(tmp_path / "npy"), path).up_to_date
    before = modified(path)
    eegstore.build(folded(tmp_path / "npy", n=0), path)
    opened = eegstore.open_store(path)
    assert "fold" not in opened.trials
    assert opened.folds == {}
    assert not (path / "trials/fold").exists()
    after = modified(path)
    eeg = [name for name in before if name.startswith(("trials/eeg", "trials/stimulus"))]
    assert {name: after[name] for name in eeg} == {name: before[name] for name in eeg}
    with pytest.raises(InputError, match=r"has no folds; build it with a \[split\] that makes"):
        TrialLoader(opened, "train", fold=0)


@pytest.mark.parametrize("fold", range(4))
def test_a_fold_is_held_out_of_the_training_and_is_the_test(store: Store, fold: int) -> None:
    folds, split = store.trials["fold"][:], store.trials["split"][:]
    train, test = TrialLoader(store, "train", fold=fold), TrialLoader(store, "test", fold=fold)
    np.testing.assert_array_equal(test.rows, np.flatnonzero(folds == fold))
    np.testing.assert_array_equal(train.rows, np.flatnonzero((split == "train") & (folds != fold)))
    assert len(train) + len(test) == 19
    assert test.keys["trials/fold"] == store.trials["fold"].entry.key
    assert TrialLoader(store, "test").rows.tolist() == [20, 21, 22]


def test_a_held_out_fold_is_not_in_what_the_signal_is_normalised_by(store: Store) -> None:
    test = TrialLoader(store, "test", "eeg", fold=1, normalize="train")
    train = TrialLoader(store, "train", "eeg", fold=1)
    signal = train.batch(np.arange(len(train)))["eeg"].astype(np.float64)
    mean, std = signal.mean(axis=(0, 2)), signal.std(axis=(0, 2))
    raw = TrialLoader(store, "test", "eeg", fold=1).batch([0, 1])["eeg"]
    expected = (raw - mean[:, None]) / std[:, None]
    np.testing.assert_allclose(test.batch([0, 1])["eeg"], expected, rtol=1e-4, atol=1e-5)
    whole = TrialLoader(store, "train", "eeg").batch(np.arange(19))["eeg"]
    assert abs(whole.mean() - signal.mean()) > 1e-2


def test_a_data_set_takes_a_fold_and_keeps_it_in_other_processes(path: Path) -> None:
    dataset = Dataset(path, "test", fold=3)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.trials.rows.tolist() == dataset.trials.rows.tolist() == [3, 7, 11, 15, 19]
    assert len(Dataset(path, "train", fold=3)) == 14


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train", "fold": 4}, "has no fold 4; it has 0, 1, 2, 3"),
        ({"split": "test", "fold": -1}, "has no fold -1; it has 0, 1, 2, 3"),
        ({"split": "test", "fold": [0]}, r"has no fold \[0\]; it has 0, 1, 2, 3"),
        ({"split": "test", "fold": True}, "has no fold True; it has 0, 1, 2, 3"),
        ({"fold": 1}, "fold is 1 with split None; it goes with split 'train' or 'test' alone"),
        ({"split": "val", "fold": 1}, "fold is 1 with split 'val'; it goes with"),
        ({"split": "test", "rows": [1], "fold": 1}, "fold is 1 with rows; it goes with"),
    ],
)
def test_a_fold_that_is_not_there_and_one_of_no_use_are_refused(
    store: Store, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TrialLoader(store, **arguments)


Given = Callable[[int], Any]


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (lambda n: np.zeros(n - 1, dtype=np.int64), r"gave folds int64 \(22,\), expected int64"),
        (np.zeros, r"gave folds float64 \(23,\), expected int64 \(23,\)"),
        (lambda n: np.arange(n) - 2, "trial 0 is in fold -2, expected 0 or more, or -1 for none"),
    ],
)
def test_what_is_no_fold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold: Given, message: str
) -> None:
    def answers(self: Any, trials: Any, stimulus: Any, stimuli: Any) -> Splits:
        return Splits(np.full(trials.n_trials, "train"), fold(trials.n_trials))

    monkeypatch.setattr(Folds, "__call__", answers)
    with pytest.raises(PluginError, match=f"^split 'folds': {message}"):
        eegstore.build(folded(tmp_path / "npy"), tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_names_beside_folds_are_checked_as_names_alone_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(self: Any, trials: Any, stimulus: Any, stimuli: Any) -> Splits:
        return Splits(np.full(trials.n_trials, "a b"), np.zeros(trials.n_trials, dtype=np.int64))

    monkeypatch.setattr(Folds, "__call__", answers)
    with pytest.raises(InputError, match="a split is called 'a b'"):
        eegstore.build(folded(tmp_path / "npy"), tmp_path / "s.zarr")


def test_info_counts_the_folds(store: Store) -> None:
    document = render.store_document(store)
    assert document["folds"] == {"0": 5, "1": 4, "2": 5, "3": 5}
    from rich.console import Console

    console = Console(width=100)
    with console.capture() as shown:
        console.print(render.store(store))
    assert "splits skipped 1, test 3, train 19; 4 folds\n" in shown.get()


@pytest.mark.parametrize("format_", ["npy", "hdf5"])
def test_an_export_of_a_store_with_folds_is_by_its_splits(
    path: Path, tmp_path: Path, format_: str
) -> None:
    out = eegstore.export(path, tmp_path / "out", format_)
    if format_ == "npy":
        assert len(np.load(out / "train_labels.npy")) == 19
        assert len(np.load(out / "test_labels.npy")) == 3
        assert not [one for one in out.rglob("*") if "fold" in one.name]
    else:
        import h5py

        with h5py.File(out) as file:
            assert file["trials/fold"][:].tolist() == open_folds(path)


def open_folds(path: Path) -> list[int]:
    folds: list[int] = eegstore.open_store(path).trials["fold"][:].tolist()
    return folds

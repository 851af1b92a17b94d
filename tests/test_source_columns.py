"""Stimulus keys and further columns of the sources ``npy`` and ``hdf5``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from eegstore import InputError, RecipeError
from eegstore.registry import create

EEG = np.arange(24, dtype=np.float32).reshape(4, 2, 3)


def npy(folder: Path, **options: Any) -> Any:
    return create(
        "source", "npy", {"path": str(folder), "sfreq": 100} | options, folder, "[source]"
    )


def hdf5(path: Path, **options: Any) -> Any:
    return create(
        "source", "hdf5", {"path": str(path), "sfreq": 100} | options, path.parent, "[source]"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One split of four trials, without labels."""
    np.save(tmp_path / "all_data.npy", EEG)
    np.save(tmp_path / "keys.npy", np.array(["a.png", "b.png", "", "é.png"]))
    return tmp_path


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Two splits, of one and of three trials, with labels, keys and subjects."""
    for name, rows in (("test", slice(0, 1)), ("train", slice(1, 4))):
        np.save(tmp_path / f"{name}_data.npy", EEG[rows])
        np.save(tmp_path / f"{name}_labels.npy", np.arange(4)[rows])
        np.save(tmp_path / f"{name}_keys.npy", np.array([5, -1, 7, 10])[rows])
        np.save(tmp_path / f"{name}_subject.npy", np.array(["s1", "s22", "s1", "s333"])[rows])
    return tmp_path


def refused(source: Any) -> str:
    with pytest.raises(InputError) as caught:
        source.scan()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_npy_keys_are_read_and_labels_may_then_be_absent(folder: Path) -> None:
    trials = npy(folder, stimulus_keys="keys.npy").scan()
    assert trials.stimulus_key.tolist() == ["a.png", "b.png", "", "é.png"]
    assert trials.label.tolist() == [-1] * 4
    assert "all_labels.npy: no such file" in refused(npy(folder))
    missing = npy(folder, stimulus_keys="keys.npy", labels={"all": "y.npy"})
    assert "y.npy: no such file" in refused(missing)
    np.save(folder / "all_labels.npy", np.arange(4))
    assert npy(folder, stimulus_keys="keys.npy").scan().label.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "files", ["{split}_keys.npy", {"train": "train_keys.npy", "test": "test_keys.npy"}]
)
def test_npy_files_of_several_splits_follow_the_order_of_the_trials(
    parts: Path, files: Any
) -> None:
    trials = npy(parts, stimulus_keys=files, columns={"subject": "{split}_subject.npy"}).scan()
    assert trials.split.tolist() == ["train"] * 3 + ["test"]
    assert trials.stimulus_key.tolist() == ["", "7", "10", "5"]
    assert trials.columns["subject"].tolist() == ["s22", "s1", "s333", "s1"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([1, 2, 3, 4], ">i2"), [1, 2, 3, 4]),
        (np.array([0.5, np.nan, 1, 2], ">f4"), [0.5, np.nan, 1.0, 2.0]),
        (np.array([True, False, True, True]), [True, False, True, True]),
        (np.array(["a", "bb", "", "é"], ">U2"), ["a", "bb", "", "é"]),
        (np.array(["a", "é", "", "c"]).astype("U").tolist(), ["a", "é", "", "c"]),
        (np.array(["é".encode(), b"b", b"", b"c"]), ["é", "b", "", "c"]),
    ],
)
def test_npy_columns_may_be_of_any_narrow_kind(folder: Path, values: Any, expected: Any) -> None:
    np.save(folder / "x.npy", values)
    trials = npy(folder, stimulus_keys="keys.npy", columns={"x": "x.npy"}).scan()
    np.testing.assert_array_equal(trials.columns["x"], np.array(expected))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.arange(3), "x.npy: 3 values for the 4 trials of all_data.npy; expected one a trial"),
        (np.zeros((4, 1)), "x.npy: shape (4, 1), expected (trial,)"),
        (np.zeros(4, complex), "x.npy: dtype complex128, expected text, numbers or bools"),
        (np.array(["a"] * 4, object), "x.npy: a pickled object array, which can run code"),
        (np.array([b"\xff"] * 4), "x.npy: has text that is no Unicode"),
        (np.array(["\ud800"] * 4), "x.npy: has text that is no Unicode"),
        (np.full(4, 2**63, np.uint64), "expected at most 2**63 - 1"),
    ],
)
def test_npy_columns_that_cannot_be_are_refused(folder: Path, values: Any, said: str) -> None:
    np.save(folder / "x.npy", values, allow_pickle=True)
    assert said in refused(npy(folder, stimulus_keys="keys.npy", columns={"x": "x.npy"}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([1, 0.5, 2, 3]), "keys.npy: row 1 is 0.5, expected a whole number"),
        (np.array([True] * 4), "keys.npy: dtype bool, expected text or whole numbers"),
        (np.array(["a"] * 5), "keys.npy: 5 values for the 4 trials of all_data.npy"),
    ],
)
def test_npy_keys_that_cannot_be_are_refused(folder: Path, values: Any, said: str) -> None:
    np.save(folder / "keys.npy", values)
    assert said in refused(npy(folder, stimulus_keys="keys.npy"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stimulus_keys": "keys.npy"}, "stimulus_keys is 'keys.npy', one file for the splits"),
        ({"columns": {"age": "age.npy"}}, "columns.age is 'age.npy', one file for the splits"),
        ({"columns": {"age": {"train": "a.npy"}}}, "columns.age names no file of the split 'test'"),
        ({"stimulus_keys": {"tset": "a.npy"}}, "stimulus_keys names the split 'tset'"),
        ({"columns": {"age": "{split}_age.npy"}}, "train_age.npy: no such file"),
    ],
)
def test_npy_files_of_other_splits_are_refused(parts: Path, options: Any, said: str) -> None:
    message = refused(npy(parts, **options))
    assert said in message


def test_npy_columns_of_two_kinds_are_refused(parts: Path) -> None:
    np.save(parts / "test_subject.npy", np.array([1]))
    message = refused(npy(parts, columns={"subject": "{split}_subject.npy"}))
    assert "test_subject.npy: int64, train_subject.npy has <U4; save the column" in message


@pytest.mark.parametrize("name", ["label", "split", "eeg", "score_2", "fold", "Age", "a b", ""])
def test_names_that_are_taken_or_none_are_refused(folder: Path, name: str) -> None:
    for make in (npy, hdf5):
        with pytest.raises(
            RecipeError, match=rf"\[source\]: columns has '{name}', expected a name"
        ):
            make(folder, columns={name: "x.npy"})


def test_the_fingerprint_of_npy_follows_keys_and_columns(folder: Path) -> None:
    def now() -> str:
        return str(npy(folder, stimulus_keys="keys.npy", columns={"x": "x.npy"}).fingerprint())

    np.save(folder / "x.npy", np.arange(4))
    found = [now(), now()]
    np.save(folder / "x.npy", np.arange(4)[::-1])
    found.append(now())
    np.save(folder / "keys.npy", np.array(["a.png", "b.png", "", "e.png"]))
    found.append(now())
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "lab.h5", "w") as file:
        file["trials/eeg"] = EEG
        file["trials/subject"] = ["s1", "s1", "é", "s2"]
        file["trials/onset"] = np.array([0, 1.5, 0, 2], ">f4")
        file["trials/big"] = np.full(4, 2**63, np.uint64)
    return tmp_path / "lab.h5"


def test_hdf5_reads_the_columns_that_the_recipe_names(lab: Path) -> None:
    columns = {"subject": "trials/subject", "onset": "trials/onset"}
    trials = hdf5(lab, columns=columns).scan()
    assert trials.columns["subject"].tolist() == ["s1", "s1", "é", "s2"]
    assert trials.columns["onset"].tolist() == [0, 1.5, 0, 2]
    assert trials.hints == ()


def test_hdf5_names_the_known_columns_that_it_leaves_out(lab: Path) -> None:
    trials = hdf5(lab).scan()
    assert dict(trials.columns) == {}
    assert trials.hints == (
        "lab.h5: trials/eeg: beside it lie subject, onset, which are not read; name them under "
        '[source]: columns = {subject = "trials/subject"}',
    )


def test_hdf5_columns_that_cannot_be_are_refused(lab: Path) -> None:
    assert "lab.h5: trials/eeg: shape (4, 2, 3), expected (4,)" in refused(
        hdf5(lab, columns={"x": "trials/eeg"})
    )
    assert "lab.h5: trials/big: x has 9223372036854775808" in refused(
        hdf5(lab, columns={"x": "trials/big"})
    )
    assert "trials/subjects: no such dataset; nearest: trials/subject" in refused(
        hdf5(lab, columns={"subject": "trials/subjects"})
    )

"""The source ``npy``, against arrays that numpy itself wrote."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from eegstore import InputError
from eegstore.registry import create
from eegstore_plugins.npy import NpyFolder

SEED = 7


def signal(n_trials: int, n_channels: int = 3, n_times: int = 5, seed: int = SEED) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n_trials, n_channels, n_times)).astype(np.float32)


def save(folder: Path, split: str, eeg: np.ndarray, labels: np.ndarray | None = None) -> None:
    np.save(folder / f"{split}_data.npy", eeg)
    labels = np.arange(len(eeg)) % 4 if labels is None else labels
    np.save(folder / f"{split}_labels.npy", labels)


def refused(folder: Path, file: str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        NpyFolder(folder, 100.0, **options).scan()
    message = str(caught.value)
    assert "\n" not in message
    assert file in message
    return message


def test_splits_come_from_file_names_with_train_first(tmp_path: Path) -> None:
    parts = {name: signal(n, seed=n) for name, n in (("extra", 2), ("test", 3), ("train", 4))}
    for name, eeg in parts.items():
        save(tmp_path, name, eeg, np.arange(len(eeg)) + 10 * len(eeg))
    source = NpyFolder(tmp_path, 100.0)
    trials = source.scan()
    assert trials.n_trials == 9
    assert trials.split is not None
    assert trials.split.tolist() == ["train"] * 4 + ["extra"] * 2 + ["test"] * 3
    assert trials.label.tolist() == [40, 41, 42, 43, 20, 21, 30, 31, 32]
    whole = np.concatenate([parts["train"], parts["extra"], parts["test"]])
    np.testing.assert_array_equal(source.read(0, 9), whole)
    np.testing.assert_array_equal(source.read(3, 7), whole[3:7])


def test_one_split_and_the_defaults(tmp_path: Path) -> None:
    save(tmp_path, "test", signal(2))
    trials = NpyFolder(tmp_path, 250.0).scan()
    assert trials.split is not None
    assert trials.split.tolist() == ["test", "test"]
    assert trials.ch_names == ("ch1", "ch2", "ch3")
    assert trials.units == "1"
    assert trials.sfreq == 250.0
    assert trials.hints == ()
    np.testing.assert_allclose(trials.times, [0, 0.004, 0.008, 0.012, 0.016], rtol=1e-12)


def test_a_recipe_gives_names_times_units_and_files(tmp_path: Path) -> None:
    eeg = signal(3)
    np.save(tmp_path / "a.npy", eeg[:2])
    np.save(tmp_path / "b.npy", eeg[2:])
    np.save(tmp_path / "a_y.npy", np.array([5, -1]))
    np.save(tmp_path / "valid_labels.npy", np.array([6]))
    options = {
        "path": ".",
        "sfreq": 100,
        "data": {"valid": "b.npy", "train": "a.npy"},
        "labels": {"train": "a_y.npy"},
        "ch_names": ["Fz", "Cz", "Pz"],
        "tmin": -0.2,
        "units": "uV",
    }
    source = create("source", "npy", options, tmp_path)
    trials = source.scan()
    assert trials.ch_names == ("Fz", "Cz", "Pz")
    assert trials.units == "uV"
    np.testing.assert_allclose(trials.times, [-0.2, -0.19, -0.18, -0.17, -0.16], rtol=1e-12)
    assert trials.label.tolist() == [5, -1, 6]
    assert trials.split.tolist() == ["train", "train", "valid"]
    np.testing.assert_array_equal(source.read(0, 3), eeg)


def test_npy_reads_fortran_order_by_ranges(tmp_path: Path) -> None:
    eeg = signal(6)
    save(tmp_path, "train", np.asfortranarray(eeg))
    assert b"'fortran_order': True" in (tmp_path / "train_data.npy").read_bytes()[:128]
    source = NpyFolder(tmp_path, 100.0)
    np.testing.assert_array_equal(source.read(2, 5), eeg[2:5])


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize(
    "dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "i1", "u1", "<i2", ">i2", "<i8", ">u4"]
)
def test_any_number_comes_out_as_native_float32(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.abs(signal(4) * 40).astype(dtype, order=order)
    save(tmp_path, "train", values)
    eeg = NpyFolder(tmp_path, 100.0).read(1, 3)
    assert eeg.dtype == np.dtype(np.float32)
    assert eeg.dtype.isnative
    np.testing.assert_array_equal(eeg, values[1:3].astype(np.float32))
    assert eeg.any()


def test_a_value_beyond_float32_is_left_to_the_host_as_infinite(tmp_path: Path) -> None:
    save(tmp_path, "train", np.full((1, 1, 2), [1e39, 1.0]))
    assert NpyFolder(tmp_path, 100.0).read(0, 1).tolist() == [[[np.inf, 1.0]]]


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_both_versions_of_the_format_are_read(tmp_path: Path, version: tuple[int, int]) -> None:
    eeg = signal(3)
    save(tmp_path, "train", eeg)
    with (tmp_path / "train_data.npy").open("wb") as file:
        np.lib.format.write_array(file, eeg, version=version)
    np.testing.assert_array_equal(NpyFolder(tmp_path, 100.0).read(0, 3), eeg)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_range_is_the_slice_of_all(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    parts = []
    for name, length in zip(("train", "a", "b"), lengths, strict=False):
        dtype = data.draw(st.sampled_from(["<f4", ">f4", "<f8", "<i2"]))
        order = data.draw(st.sampled_from("CF"))
        part = data.draw(npst.arrays(dtype, (length, 2, 3), elements=st.integers(-999, 999)))
        save(folder, name, np.asarray(part, order=order))
        parts.append(part.astype(np.float32))
    whole = np.concatenate(parts)
    start = data.draw(st.integers(0, len(whole) - 1))
    stop = data.draw(st.integers(start + 1, len(whole)))
    np.testing.assert_array_equal(NpyFolder(folder, 100.0).read(start, stop), whole[start:stop])


@pytest.mark.parametrize("order", "CF")
def test_a_range_costs_memory_for_the_range_alone(tmp_path: Path, order: str) -> None:
    save(tmp_path, "train", np.zeros((4000, 8, 64), dtype=np.float32, order=order))
    source = NpyFolder(tmp_path, 100.0)
    source.scan()
    tracemalloc.start()
    source.read(2000, 2064)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 64 * 8 * 64 * 4


@pytest.mark.parametrize("dtype", ["int8", "uint8", ">i4", "int64", "uint64", "float32", ">f8"])
def test_labels_of_any_whole_number_are_int64(tmp_path: Path, dtype: str) -> None:
    save(tmp_path, "train", signal(3), np.array([9, 0, 3]).astype(dtype))
    label = NpyFolder(tmp_path, 100.0).scan().label
    assert label.dtype == np.int64
    assert label.tolist() == [9, 0, 3]


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (np.array([1.0, 2.5, 3.0]), "row 1 is 2.5"),
        (np.array([1.0, np.nan, 3.0]), "row 1 is nan"),
        (np.array([1.0, 2.0, np.inf]), "row 2 is inf"),
        (np.array([-2, 0, 0]), "row 0 is -2"),
        (np.array([0, 0, 2**64 - 1], dtype=np.uint64), "row 2 is 18446744073709551615"),
    ],
)
def test_labels_that_are_no_labels_are_refused_by_row(
    tmp_path: Path, labels: np.ndarray, shown: str
) -> None:
    save(tmp_path, "train", signal(3), labels)
    assert shown in refused(tmp_path, "train_labels.npy")


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (np.arange(2), "2 labels for the 3 trials of train_data.npy"),
        (np.arange(4), "4 labels for the 3 trials of train_data.npy"),
        (np.zeros((3, 1), int), "shape (3, 1), expected (trial,)"),
        (np.array(["a", "b", "c"]), "dtype <U1, expected floats or integers"),
        (np.array([True, False, True]), "dtype bool, expected floats or integers"),
        (np.array([1j, 2j, 3j]), "dtype complex128"),
    ],
)
def test_labels_of_another_shape_or_kind_are_refused(
    tmp_path: Path, labels: np.ndarray, shown: str
) -> None:
    save(tmp_path, "train", signal(3), labels)
    assert shown in refused(tmp_path, "train_labels.npy")


@pytest.mark.parametrize(
    ("eeg", "shown"),
    [
        (np.zeros((3, 5), np.float32), "shape (3, 5), expected (trial, channel, time)"),
        (np.zeros((0, 2, 5), np.float32), "shape (0, 2, 5), expected (trial, channel, time) with"),
        (np.zeros((3, 2, 0), np.float32), "with no empty axis"),
        (np.zeros((3, 2, 5), [("x", "f4")]), "expected floats or integers"),
        (np.zeros((3, 2, 5), "M8[s]"), "dtype datetime64[s], expected floats or integers"),
    ],
)
def test_a_signal_of_another_shape_or_kind_is_refused(
    tmp_path: Path, eeg: np.ndarray, shown: str
) -> None:
    save(tmp_path, "train", eeg)
    assert shown in refused(tmp_path, "train_data.npy")


def test_splits_that_disagree_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "train", signal(3, 3, 5))
    save(tmp_path, "test", signal(3, 3, 6))
    message = refused(tmp_path, "test_data.npy")
    assert "trials of (3, 6) (channel, time), train_data.npy has (3, 5)" in message


def test_a_file_cut_after_the_scan_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "train", signal(3))
    source = NpyFolder(tmp_path, 100.0)
    source.scan()
    os.truncate(tmp_path / "train_data.npy", 200)
    with pytest.raises(InputError, match=r"train_data\.npy: ends at byte 200; it was cut"):
        source.read(0, 3)


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["train_data.npy", "train_labels.npy"])
def test_an_object_array_is_refused_and_never_unpickled(tmp_path: Path, name: str) -> None:
    save(tmp_path, "train", signal(2))
    objects = np.empty(2, dtype=object)
    objects[:] = [Bomb(tmp_path / "exploded"), 1]
    np.save(tmp_path / name, objects, allow_pickle=True)
    message = refused(tmp_path, name)
    assert "a pickled object array, as THINGS-EEG2's preprocessed_eeg_*.npy are" in message
    assert not (tmp_path / "exploded").exists()
    np.load(tmp_path / name, allow_pickle=True)
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_named_npy_is_refused_and_never_unpickled(tmp_path: Path, protocol: int) -> None:
    save(tmp_path, "train", signal(2))
    content = pickle.dumps(Bomb(tmp_path / "exploded"), protocol)
    (tmp_path / "train_data.npy").write_bytes(content)
    message = refused(tmp_path, "train_data.npy")
    assert "a pickle under the name .npy" in message
    assert not (tmp_path / "exploded").exists()


def test_a_metadata_pickle_is_not_opened_but_named(tmp_path: Path) -> None:
    save(tmp_path, "train", signal(2))
    (tmp_path / "metadata.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    (hint,) = NpyFolder(tmp_path, 100.0).scan().hints
    for word in ("metadata.pkl", "sfreq", "ch_names", "tmin", "units"):
        assert word in hint
    assert not (tmp_path / "exploded").exists()


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert "no folder" in refused(tmp_path / "absent", "absent")
    assert "holds no *_data.npy" in refused(tmp_path, tmp_path.name)
    np.save(tmp_path / "train_data.npy", signal(2))
    assert "no such file" in refused(tmp_path, "train_labels.npy")
    assert "no such file" in refused(tmp_path, "b.npy", data={"test": "b.npy"})
    assert "no folder" in refused(tmp_path / "train_data.npy", "train_data.npy")
    message = refused(tmp_path, tmp_path.name, labels={"tset": "y.npy"})
    assert "labels names the split 'tset', the data are of train" in message


def test_channel_names_must_fit(tmp_path: Path) -> None:
    save(tmp_path, "train", signal(2))
    message = refused(tmp_path, "train_data.npy", ch_names=("Fz", "Cz"))
    assert "has 3 channels, ch_names has 2" in message
    with pytest.raises(ValueError, match="ch_names holds a name twice"):
        NpyFolder(tmp_path, 100.0, ch_names=("Fz", "Fz"))


def test_fingerprint_follows_content_and_splits_and_not_the_place(tmp_path: Path) -> None:
    def fingerprint(folder: str, split: str, seed: int, labels: int = 0) -> str:
        path = tmp_path / folder
        path.mkdir()
        save(path, split, signal(3, seed=seed), np.full(3, labels))
        return NpyFolder(path, 100.0).fingerprint()

    first = fingerprint("here", "train", 1)
    assert first == fingerprint("there", "train", 1)
    others = [
        fingerprint("a", "train", 2),
        fingerprint("b", "test", 1),
        fingerprint("c", "train", 1, 5),
    ]
    assert len({first, *others}) == 4

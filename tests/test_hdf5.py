"""The HDF5 source and exporter, against h5py itself and against each other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eegstore
from eegstore import ColumnSpec, InputError, RecipeError, registry

RNG = np.random.default_rng(5)
EEG = RNG.normal(size=(6, 3, 8))


def source(path, **options):
    return registry.create("source", "hdf5", {"path": str(path)} | options, Path("/"))


def exporter(**options):
    return registry.create("exporter", "hdf5", options, Path("/"))


def build(folder, document):
    eegstore.build(document, folder)
    return eegstore.open_store(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A real store with both tables, features, two splits and a notice."""
    document = {
        "name": "small",
        "source": {"plugin": "synthetic", "n_trials": 40, "n_channels": 4, "n_times": 64},
        "stimuli": {"plugin": "digits"},
        "split": {"plugin": "random", "test_size": 0.25, "seed": 1},
        "extract": [{"plugin": "spectral"}, {"plugin": "hog"}],
    }
    return build(tmp_path_factory.mktemp("hdf5") / "small.zarr", document)


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "small.h5"
    exporter()(store, out)
    return out


@pytest.fixture
def foreign(tmp_path):
    """A file as another lab might write it."""
    path = tmp_path / "lab.h5"
    with h5py.File(path, "w") as file:
        file["data/x"] = EEG.astype(">f8")
        file["data/y"] = np.array([3, 1, 2, -1, 0, 3], dtype=np.int16)
        file["data/image"] = ["a.png", "é.png", "", "c", "d", "e"]
        file["data/part"] = np.array([b"train"] * 4 + [b"test"] * 2)
        file["montage/labels"] = ["Fz", "Cz", "Pz"]
        file["t"] = np.arange(8) / 100 - 0.02
    return path


def lab_source(path, **options):
    return source(path, **({"eeg": "data/x", "sfreq": 100.0} | options))


def test_source_reads_any_file_by_the_paths_of_its_arrays(foreign):
    one = lab_source(
        foreign, labels="data/y", stimulus_key="data/image", split="data/part",
        ch_names="montage/labels", times="t", units="uV",
    )  # fmt: skip
    trials = one.scan()
    assert trials.label.tolist() == [3, 1, 2, -1, 0, 3]
    assert trials.stimulus_key.tolist() == ["a.png", "é.png", "", "c", "d", "e"]
    assert trials.split.tolist() == ["train"] * 4 + ["test"] * 2
    assert trials.ch_names == ("Fz", "Cz", "Pz")
    assert trials.units == "uV"
    assert trials.sfreq == 100.0
    np.testing.assert_allclose(trials.times, np.arange(-2, 6) / 100)
    eeg = one.read(0, 6)
    assert eeg.dtype == np.float32
    assert np.array_equal(eeg, EEG.astype(np.float32))


def test_source_without_names_numbers_channels_and_counts_times_from_tmin(foreign):
    trials = lab_source(foreign, tmin=-0.5).scan()
    assert trials.ch_names == ("ch1", "ch2", "ch3")
    np.testing.assert_allclose(trials.times, -0.5 + np.arange(8) / 100)
    assert trials.units == "1"
    assert trials.label.tolist() == [-1] * 6
    assert trials.split is None
    assert trials.stimulus_key is None


def test_channel_names_may_come_from_the_recipe(foreign):
    assert lab_source(foreign, ch_names=["A", "B", "C"]).scan().ch_names == ("A", "B", "C")


@given(
    dtype=st.sampled_from(["<f2", ">f4", "<f8", "|i1", ">i2", "<u4", "<i8"]),
    chunked=st.booleans(),
    bounds=st.tuples(st.integers(0, 10), st.integers(0, 10)),
)
@settings(max_examples=30, deadline=None)
def test_any_range_of_any_numbers_equals_the_slice_of_everything(
    tmp_path_factory, dtype, chunked, bounds
):
    path = tmp_path_factory.mktemp("any") / "any.h5"
    values = np.arange(11 * 2 * 3).reshape(11, 2, 3).astype(dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, chunks=(4, 2, 3) if chunked else None)
    start, stop = min(bounds), max(bounds) + 1
    got = source(path, eeg="x").read(start, stop)
    assert np.array_equal(got, values[start:stop].astype(np.float32))


def test_export_holds_every_column_of_both_tables(store, exported):
    with h5py.File(exported) as file:
        for table in ("trials", "stimuli"):
            for name, column in getattr(store, table).items():
                dataset, values = file[table][name], column[:]
                found = dataset.asstr()[:] if values.dtype.kind == "U" else dataset[:]
                np.testing.assert_array_equal(found, values, err_msg=name)
                assert dataset.dims[0].label == {"trials": "trial", "stimuli": "stimulus"}[table]
        assert next(iter(file["trials"])) == "eeg"
        assert len(file["stimuli/hog"]) == 10


def test_export_attaches_coordinates_as_dimension_scales(store, exported):
    with h5py.File(exported) as file:
        eeg = file["trials/eeg"]
        assert [dim.label for dim in eeg.dims] == ["trial", "channel", "time"]
        assert eeg.dims[1][0].name == "/trials/channel"
        spec = store.trials["eeg"].spec
        assert eeg.dims[1][0].asstr()[:].tolist() == spec.coords["channel"]
        np.testing.assert_array_equal(eeg.dims[2]["time"][:], spec.coords["time"])
        assert file["trials/time"].attrs["units"] == "s"
        spectral = file["trials/spectral"]
        assert spectral.dims[1][0] == file["trials/channel"]
        assert spectral.dims[2].label == "spectral_feature"
        assert spectral.dims[2][0].asstr()[0] == "delta_power"


def test_export_records_where_it_comes_from(store, exported):
    with h5py.File(exported) as file:
        assert file.attrs["digest"] == store.digest
        assert file.attrs["eegstore_version"] == eegstore.__version__
        assert json.loads(file.attrs["recipe"]) == store.recipe
        assert "synthetic" in file.attrs["notice"].lower()
        assert file.attrs["notice"] == store.notice
        eeg = file["trials/eeg"].attrs
        assert eeg["sfreq"] == store.trials["eeg"].spec.attrs["sfreq"]
        assert eeg["units"] == store.trials["eeg"].spec.units
        assert eeg["ch_types"].tolist() == ["eeg"] * 4
        assert json.loads(eeg["producer"])["name"] == "synthetic"
        hog = json.loads(file["stimuli/hog"].attrs["producer"])
        assert (hog["kind"], hog["name"]) == ("extractor", "hog")


def test_export_is_chunked_and_compressed_as_asked(store, exported, tmp_path):
    with h5py.File(exported) as file:
        eeg = file["trials/eeg"]
        assert (eeg.shuffle, eeg.compression, eeg.compression_opts) == (True, "gzip", 4)
        assert eeg.chunks == (40, 4, 64)
    exporter(compression="none")(store, tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5") as file:
        assert file["trials/eeg"].compression is None
        assert file["trials/eeg"].chunks == (40, 4, 64)
    for options in ({"level": 0}, {"level": 10}, {"compression": "lzf"}):
        with pytest.raises(RecipeError):
            exporter(**options)


def test_export_repeats_byte_for_byte(store, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exporter()(store, Path("again.h5"))
    assert Path("again.h5").read_bytes() == exported.read_bytes()


def test_export_reads_back_as_the_same_trials(store, exported, tmp_path):
    trials = source(exported).scan()
    assert trials.notice == store.notice
    assert trials.split.tolist() == store.trials["split"][:].tolist()
    assert set(trials.split.tolist()) == {"train", "test"}
    back = build(
        tmp_path / "back.zarr",
        {
            "source": {"plugin": "hdf5", "path": str(exported)},
            "stimuli": {"plugin": "digits"},
            "extract": [{"plugin": "spectral"}, {"plugin": "hog"}],
        },
    )
    for table in ("trials", "stimuli"):
        assert list(getattr(back, table)) == list(getattr(store, table))
        for name, column in getattr(store, table).items():
            np.testing.assert_array_equal(getattr(back, table)[name][:], column[:], err_msg=name)
    assert back.digest == store.digest
    found, expected = back.trials["eeg"].spec, store.trials["eeg"].spec
    assert (found.coords, found.units) == (expected.coords, expected.units)
    assert found.attrs["sfreq"] == expected.attrs["sfreq"]


@pytest.mark.shared_data
def test_export_of_a_padded_recording_reads_back_with_its_lengths(shared_data, tmp_path):
    recipe = {
        "source": {
            "plugin": "mindbigdata",
            "path": str(shared_data / "mindbigdata-raw" / "MU_excerpt.txt"),
            "n_times": 480,
        }
    }
    store = build(tmp_path / "muse.zarr", recipe)
    exporter()(store, tmp_path / "muse.h5")
    back = build(
        tmp_path / "back.zarr", {"source": {"plugin": "hdf5", "path": str(tmp_path / "muse.h5")}}
    )
    assert back.digest == store.digest
    assert back.trials["n_samples"][:].tolist() == store.trials["n_samples"][:].tolist()
    assert np.isnan(store.trials["eeg"][:]).any()
    np.testing.assert_array_equal(back.trials["eeg"][:], store.trials["eeg"][:])


class BigColumn:
    """12,000 rows of 2 KiB that remember how many were asked for at once."""

    spec = ColumnSpec(dims=("channel", "time"), shape=(4, 128), dtype="float32")

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 12_000

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(len(self))
        self.asked.append(stop - start)
        first = np.arange(start, stop, dtype=np.float32)
        return np.broadcast_to(first[:, None, None], (stop - start, 4, 128))


def test_export_copies_in_blocks_of_bounded_size(tmp_path):
    column = BigColumn()
    store = SimpleNamespace(
        trials={"eeg": column}, stimuli={}, digest="d", name="", notice="", recipe={}
    )
    exporter()(store, tmp_path / "big.h5")
    assert sum(column.asked) == 12_000
    assert max(column.asked) * column.spec.row_bytes == 1 << 22
    with h5py.File(tmp_path / "big.h5") as file:
        assert file["trials/eeg"].chunks == (512, 4, 128)
        np.testing.assert_array_equal(file["trials/eeg"][:, 3, 127], np.arange(12_000))


def test_export_keeps_a_recipe_longer_than_an_old_attribute_may_be(tmp_path):
    recipe = {"event_id": {f"concept {n}": n for n in range(9000)}}
    store = SimpleNamespace(trials={}, stimuli={}, digest="", name="", notice="", recipe=recipe)
    exporter()(store, tmp_path / "long.h5")
    with h5py.File(tmp_path / "long.h5") as file:
        assert len(file.attrs["recipe"]) > 1 << 16
        assert json.loads(file.attrs["recipe"]) == recipe


def test_fingerprint_follows_the_content_alone(foreign, tmp_path):
    moved = tmp_path / "moved.h5"
    moved.write_bytes(foreign.read_bytes())
    assert lab_source(moved).fingerprint() == lab_source(foreign).fingerprint()
    with h5py.File(moved, "a") as file:
        file["data/y"][0] = 2
    assert lab_source(moved).fingerprint() != lab_source(foreign).fingerprint()


def refused(message, one):
    with pytest.raises(InputError, match=message) as caught:
        one.scan()
    assert "\n" not in str(caught.value)


def test_missing_and_damaged_files_are_refused_by_name(tmp_path, foreign):
    refused(r"absent\.h5: no such file", source(tmp_path / "absent.h5"))
    refused(r": a folder, expected an HDF5 file", source(tmp_path))
    os.mkfifo(tmp_path / "pipe.h5")
    refused(r"pipe\.h5: a pipe, a socket or a device", source(tmp_path / "pipe.h5"))
    (tmp_path / "text.h5").write_text("not HDF5")
    refused(r"text\.h5: not readable as HDF5 trials: ", source(tmp_path / "text.h5"))
    cut = tmp_path / "cut.h5"
    cut.write_bytes(foreign.read_bytes()[:-1500])
    refused(r"cut\.h5: not readable as HDF5 trials: ", lab_source(cut))


def test_a_missing_dataset_is_refused_with_the_nearest(foreign):
    refused(r"lab\.h5: data/z: no such dataset; nearest: data/[xy]", source(foreign, eeg="data/z"))
    refused(r"lab\.h5: trials/eeg: no such dataset; nearest: ", source(foreign))
    refused(r"lab\.h5: data: a group, expected a dataset", source(foreign, eeg="data"))
    refused(
        r"lab\.h5: montage/label: no such dataset; nearest: montage/labels",
        lab_source(foreign, ch_names="montage/label"),
    )
    refused(r"data/x/y: no such dataset", source(foreign, eeg="data/x/y"))


def test_arrays_of_another_shape_or_type_are_refused_with_both_values(foreign):
    with h5py.File(foreign, "a") as file:
        file["flat"] = EEG[0]
        file["none"] = EEG[:0]
        file["complex"] = EEG.astype(np.complex64)
        file["short"] = [1, 2]
        file["words"] = list("abcdefgh")
        file["half"] = [0.0, 1.0, 2.5, 0, 0, 0]
        file["low"] = [0, 1, -2, 0, 0, 0]
    refused(r"flat: shape \(3, 8\), expected \(trial, channel, time\)", source(foreign, eeg="flat"))
    refused(r"none: shape \(0, 3, 8\)", source(foreign, eeg="none"))
    refused(r"complex: dtype complex64, expected floats", source(foreign, eeg="complex"))
    refused(r"short: shape \(2,\), expected \(6,\)", lab_source(foreign, labels="short"))
    refused(r"half: row 2 is 2\.5, expected a whole number", lab_source(foreign, labels="half"))
    refused(r"low: row 2 is -2, expected a whole number", lab_source(foreign, labels="low"))
    refused(r"data/image: dtype object, expected whole", lab_source(foreign, labels="data/image"))
    refused(r"montage/labels: shape \(3,\)", lab_source(foreign, times="montage/labels"))
    refused(r"words: dtype object, expected seconds", lab_source(foreign, times="words"))
    refused(r"data/x: has no attribute sfreq; give sfreq", source(foreign, eeg="data/x"))
    refused(
        r"data/x: has 3 channels, ch_names has 2 different names",
        lab_source(foreign, ch_names=["A", "A", "B"]),
    )


def test_parts_that_were_never_written_are_refused_and_not_read_as_zeros(foreign):
    with h5py.File(foreign, "a") as file:
        chunked = file.create_dataset("chunked", shape=(6, 3, 8), dtype="f4", chunks=(2, 2, 8))
        chunked[:4] = 1
        file.create_dataset("never", shape=(6, 3, 8), dtype="f4")
        file.create_dataset("label", shape=(6,), dtype="i8")
    refused(
        r"lab\.h5: chunked: of its shape \(6, 3, 8\) 2 of 6 parts were never written",
        lab_source(foreign, eeg="chunked"),
    )
    refused(r"never: .* 1 of 1 parts were never written", lab_source(foreign, eeg="never"))
    refused(r"label: .* 1 of 1 parts were never written", lab_source(foreign, labels="label"))
    with h5py.File(foreign, "a") as file:
        file["chunked"][4:] = 2
    one = lab_source(foreign, eeg="chunked")
    assert one.scan().n_trials == 6
    assert one.read(0, 6)[:, 2, 7].tolist() == [1, 1, 1, 1, 2, 2]


def test_attributes_may_be_strings_of_fixed_length(foreign):
    with h5py.File(foreign, "a") as file:
        attributes = file["data/x"].attrs
        attributes["units"] = np.bytes_("µV".encode())
        attributes["ch_types"] = np.array([b"eeg", b"eeg", b"eog"])
    trials = lab_source(foreign).scan()
    assert trials.units == "µV"
    assert trials.ch_types == ("eeg", "eeg", "eog")


def test_data_outside_the_file_are_refused_unread(foreign, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = EEG
    layout = h5py.VirtualLayout(shape=EEG.shape, dtype=EEG.dtype)
    layout[...] = h5py.VirtualSource(other, "x", shape=EEG.shape)
    with h5py.File(foreign, "a") as file:
        file["away"] = h5py.ExternalLink(str(other), "x")
        file["group"] = h5py.ExternalLink(str(other), "/")
        file["soft"] = h5py.SoftLink("/away")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset(
            "raw",
            shape=EEG.shape,
            dtype="f8",
            external=[(str(tmp_path / "raw.bin"), 0, EEG.nbytes)],
        )
    refused(r"away: 'away' is a link to 'x'", lab_source(foreign, eeg="away"))
    refused(r"group/x: 'group' is a link to '/'", lab_source(foreign, eeg="group/x"))
    refused(r"soft: 'soft' is a link to '/away'", lab_source(foreign, eeg="soft"))
    refused(r"virtual: its values lie in other files", lab_source(foreign, eeg="virtual"))
    refused(r"raw: its values lie in other files", lab_source(foreign, eeg="raw"))

"""A store's documents: other Zarr readers open it labelled, whole and without a warning."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr

import eegstore
from eegstore.scan import eeg_spec
from eegstore.store import Store
from eegstore_plugins.digits import Digits
from eegstore_plugins.spectral import Spectral
from eegstore_plugins.synthetic import Synthetic
from eegstore_plugins.temporal import Temporal
from samples import DIGITS, recipe

N_TRIALS = 40
OPTIONS = {"n_trials": N_TRIALS, "n_channels": 4, "n_times": 64, "seed": 5}
RECIPE = recipe(
    source={"plugin": "synthetic", **OPTIONS},
    extract=[{"plugin": "spectral"}, {"plugin": "temporal"}, {"plugin": "hog"}],
)
WIDE = {"trials": ["eeg", "spectral", "temporal"], "stimuli": ["hog"]}
VERSIONS = {"spectral": "4", "temporal": "3"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("documents") / "s.zarr"
    eegstore.build(RECIPE, store)
    return store


@pytest.fixture(scope="module")
def store(path: Path) -> Store:
    return eegstore.open_store(path)


def documents_of(path: Path) -> dict[str, dict[str, Any]]:
    """Every metadata document of a store, by the folder it is in."""
    return {
        file.parent.relative_to(path).as_posix(): json.loads(file.read_bytes())
        for file in path.rglob("zarr.json")
    }


@pytest.mark.parametrize("table", ["trials", "stimuli"])
def test_xarray_opens_each_table_with_the_stores_values(
    path: Path, store: Store, table: str
) -> None:
    view = getattr(store, table)
    for opened in (
        xarray.open_zarr(path, group=table),
        xarray.open_dataset(path, engine="zarr", group=table),
        view.to_xarray(),
    ):
        assert {*opened.data_vars} == {*view}
        for name, column in view.items():
            values = opened[name].values
            # An int64 that equals the fill value 0 stays a number, and does not become NaN.
            assert values.dtype.kind in (column[:].dtype.kind, "T")
            np.testing.assert_array_equal(values, column[:])


def test_xarray_opens_the_trials_labelled(path: Path) -> None:
    trials = xarray.open_zarr(path, group="trials")
    assert trials["eeg"].dims == ("trial", "channel", "time")
    assert trials["spectral"].dims == ("trial", "channel", "spectral_feature")
    assert trials["temporal"].dims == ("trial", "channel", "temporal_feature")
    assert trials["label"].dims == ("trial",)
    assert {*trials.coords} == {"channel", "time", "spectral_feature", "temporal_feature"}
    assert trials["channel"].values.tolist() == ["ch1", "ch2", "ch3", "ch4"]
    np.testing.assert_array_equal(trials["time"], np.arange(64) / 128)
    assert trials["time"].attrs["units"] == "s"
    assert trials["eeg"].attrs["units"] == "uV"
    assert trials["eeg"].attrs["sfreq"] == 128.0
    eeg = eeg_spec(Synthetic(**OPTIONS).scan())
    for name, plugin in (("spectral", Spectral()), ("temporal", Temporal())):
        features = plugin.describe({"eeg": eeg}).coords["feature"]
        assert trials[f"{name}_feature"].values.tolist() == list(features)
    alpha = trials["spectral"].sel(channel="ch2", spectral_feature="alpha_power")
    row = trials["spectral_feature"].values.tolist().index("alpha_power")
    np.testing.assert_array_equal(alpha, trials["spectral"].values[:, 1, row])


def test_xarray_opens_the_whole_tree(path: Path, store: Store) -> None:
    tree = xarray.open_datatree(path, engine="zarr")
    assert {*tree.children} == {"trials", "stimuli", "digests"}
    np.testing.assert_array_equal(tree["trials/eeg"].values, store.trials["eeg"][:])
    np.testing.assert_array_equal(tree["stimuli/hog"].values, store.stimuli["hog"][:])
    assert tree["stimuli/hog"].dims == ("stimulus", "hog_feature")


def test_zarr_opens_every_array(path: Path, store: Store) -> None:
    group = zarr.open_group(path, mode="r")
    for table in ("trials", "stimuli"):
        for name, column in getattr(store, table).items():
            array = group[f"{table}/{name}"]
            np.testing.assert_array_equal(array[...], column[:])
            np.testing.assert_array_equal(zarr.open_array(path / table / name)[...], column[:])


@pytest.mark.parametrize("codec", ["fast", "small", "archive"])
def test_compressed_values_are_the_same_to_every_reader(
    tmp_path: Path, store: Store, codec: str
) -> None:
    eegstore.build(RECIPE | {"store": {"codec": codec}}, tmp_path / "s.zarr")
    packed = eegstore.open_store(tmp_path / "s.zarr")
    with warnings.catch_warnings():
        if codec == "archive":
            # That pcodec has no Zarr v3 specification is documented with the profile.
            warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3")
        trials = xarray.open_zarr(tmp_path / "s.zarr", group="trials").load()
    for name in WIDE["trials"]:
        np.testing.assert_array_equal(packed.trials[name][:], store.trials[name][:])
        np.testing.assert_array_equal(trials[name].values, store.trials[name][:])


def test_eeg_is_what_the_source_reads(path: Path) -> None:
    eeg = xarray.open_zarr(path, group="trials")["eeg"]
    assert eeg.dtype == np.float32
    np.testing.assert_array_equal(eeg.values, Synthetic(**OPTIONS).read(0, N_TRIALS))


def test_narrow_columns_are_what_the_plugins_found(path: Path) -> None:
    trials = xarray.open_zarr(path, group="trials")
    stimuli = xarray.open_zarr(path, group="stimuli")
    found, images = Synthetic(**OPTIONS).scan(), Digits(caption=DIGITS["caption"]).scan()
    np.testing.assert_array_equal(trials["label"], found.label)
    for name, values in found.columns.items():
        np.testing.assert_array_equal(trials[name], values)
    for name in ("image_path", "label", "concept", "caption", "content_id"):
        np.testing.assert_array_equal(stimuli[name], getattr(images, name))
    np.testing.assert_array_equal(stimuli["label"].values[trials["stimulus"].values], found.label)
    assert trials["valid"].values.all()
    assert trials["valid"].dtype == bool
    assert {*trials["split"].values.tolist()} == {"train", "test"}


def test_every_chunk_of_every_array_ends_in_crc32c(path: Path) -> None:
    arrays = {name: one for name, one in documents_of(path).items() if one["node_type"] == "array"}
    sharded = set()
    for name, document in arrays.items():
        codecs = document["codecs"]
        if codecs[0]["name"] == "sharding_indexed":
            sharded.add(name)
            assert len(codecs) == 1
            codecs = codecs[0]["configuration"]["codecs"]
            index = document["codecs"][0]["configuration"]["index_codecs"]
            assert [codec["name"] for codec in index] == ["bytes", "crc32c"]
        assert codecs[-1] == {"name": "crc32c"}, name
    assert sharded == {f"{table}/{name}" for table, names in WIDE.items() for name in names}
    assert len(arrays) == 24


def test_every_array_names_its_axes_and_floats_are_filled_with_nan(path: Path) -> None:
    for name, document in documents_of(path).items():
        if document["node_type"] == "group":
            continue
        dims = document["dimension_names"]
        assert len(dims) == len(document["shape"]) > 0, name
        assert all(dims), name
        fill = {"float32": "NaN", "float64": "NaN", "string": "", "bool": False}
        assert document["fill_value"] == fill.get(document["data_type"], 0), name


def test_shards_of_a_table_hold_the_same_rows_and_divide_along_rows_alone(path: Path) -> None:
    documents = documents_of(path)
    for table, names in WIDE.items():
        rows = set()
        for name in names:
            document = documents[f"{table}/{name}"]
            shard = document["chunk_grid"]["configuration"]["chunk_shape"]
            chunk = document["codecs"][0]["configuration"]["chunk_shape"]
            assert shard[1:] == chunk[1:] == document["shape"][1:]
            assert shard[0] % chunk[0] == 0
            rows.add(shard[0])
        assert len(rows) == 1


def test_attributes_say_who_made_a_column_of_what(path: Path, store: Store) -> None:
    documents = documents_of(path)
    keys = {entry.path: entry.key for entry in store.attributes.columns}
    for name, key in keys.items():
        facts = documents[name]["attributes"]["eegstore"]
        assert facts["key"] == key, name
        producer = facts["producer"]
        assert producer["distribution"] == "eegstore", name
        assert producer["distribution_version"] == eegstore.__version__, name
        assert producer["version"] == VERSIONS.get(producer["name"], "1"), name
    assert len({keys[f"{table}/{name}"] for table, names in WIDE.items() for name in names}) == 4

    eeg = documents["trials/eeg"]["attributes"]["eegstore"]
    assert (eeg["producer"]["kind"], eeg["producer"]["name"]) == ("source", "synthetic")
    assert eeg["producer"]["options"] == {**OPTIONS, "sfreq": 128.0, "n_classes": 10, "effect": 1.0}
    assert eeg["inputs"] == {}
    spectral = documents["trials/spectral"]["attributes"]["eegstore"]
    assert spectral["producer"]["name"] == "spectral"
    assert spectral["inputs"] == {"eeg": keys["trials/eeg"]}
    hog = documents["stimuli/hog"]["attributes"]["eegstore"]
    assert list(hog["inputs"]) == ["image"]
    made_by = {
        name: documents[f"trials/{name}"]["attributes"]["eegstore"]["producer"]["kind"]
        for name in ("label", "stimulus", "split")
    }
    assert made_by == {"label": "source", "stimulus": "pairing", "split": "split"}


def test_the_root_holds_one_key_and_every_document(path: Path) -> None:
    documents = documents_of(path)
    root = documents.pop(".")
    assert list(root["attributes"]) == ["eegstore"]
    assert root["attributes"]["eegstore"]["format"] == 2
    consolidated = root["consolidated_metadata"]["metadata"]
    assert {*consolidated} == {*documents}
    for name, document in documents.items():
        inside = {key: value for key, value in consolidated[name].items() if key in document}
        assert inside == document, name


def test_an_embedding_is_stored_once_a_stimulus(tmp_path: Path, path: Path) -> None:
    longer = RECIPE | {"source": {**RECIPE["source"], "n_trials": 400}}
    eegstore.build(longer, tmp_path / "s.zarr")
    once, again = (
        sum(file.stat().st_size for file in (store / "stimuli").rglob("*") if file.is_file())
        for store in (path, tmp_path / "s.zarr")
    )
    assert once == again
    shard = path / "stimuli/hog/c/0/0"
    # Ten rows of 1764 float32, padded to sixteen; the chunk's checksum; the index and its own.
    assert shard.stat().st_size == 16 * 1764 * 4 + 4 + 16 + 4
    assert documents_of(path)["stimuli/hog"]["shape"] == [10, 1764]


def test_an_interrupted_build_is_no_store_to_any_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eegstore import commit

    out = tmp_path / "s.zarr"
    put = commit.put

    def stop_at_the_root(content: bytes, final: Path, temporary: Path) -> None:
        if final == out / "zarr.json":
            raise KeyboardInterrupt
        put(content, final, temporary)

    with monkeypatch.context() as patch:
        patch.setattr(commit, "put", stop_at_the_root)
        with pytest.raises(eegstore.InterruptedBuildError):
            eegstore.build(RECIPE, out)
    assert (out / "trials" / "zarr.json").is_file()
    with pytest.raises(FileNotFoundError):
        zarr.open_group(out, mode="r")
    with pytest.raises(FileNotFoundError):
        xarray.open_datatree(out, engine="zarr")
    with pytest.raises(eegstore.IncompleteError):
        eegstore.open_store(out)
    assert eegstore.build(RECIPE, out).digest == eegstore.open_store(out).digest
    assert eegstore.verify(out, deep=True) == []

"""Stores behind a URL, read from a server that speaks S3."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegstore
from eegstore import DamageError, InputError, open_store
from eegstore.store import Store
from s3 import BUCKET, Bucket, serving
from samples import EEG, recipe

CODECS = ("raw", "fast", "small", "archive")
N_TRIALS = 400


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with serving() as found:
        yield found


@pytest.fixture(scope="module", params=CODECS)
def stores(
    request: pytest.FixtureRequest, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, str]:
    """The same store in a folder and behind a URL."""
    path: Path = tmp_path_factory.mktemp("remote") / "s.zarr"
    given = recipe(source=EEG | {"n_trials": N_TRIALS}) | {"store": {"codec": request.param}}
    eegstore.build(given, path)
    return open_store(path), bucket.upload(path, f"{request.param}.zarr")


def test_the_values_are_those_of_the_folder(stores: tuple[Store, str], bucket: Bucket) -> None:
    local, url = stores
    store = open_store(url, bucket.options)
    assert store.digest == local.digest
    assert str(store.path) == url
    generator = np.random.default_rng(0)
    for table in ("trials", "stimuli"):
        columns = getattr(local, table)
        for name, column in columns.items():
            found, n = getattr(store, table)[name], len(column)
            np.testing.assert_array_equal(found[:], column[:])
            np.testing.assert_array_equal(found[3:9], column[3:9])
            np.testing.assert_array_equal(found[n - 1], column[n - 1])
            rows = generator.integers(0, n, 20)
            np.testing.assert_array_equal(found[rows], column[rows])


def test_a_data_set_behind_a_url_gives_the_same_batches(
    stores: tuple[Store, str], bucket: Bucket
) -> None:
    import torch

    from eegstore.torch import Dataset, loader

    local, url = stores
    options: dict[str, Any] = {"columns": ("eeg", "hog", "label"), "channels": [2, 0], "tmin": 0.2}
    here = Dataset(local.folder, **options)
    there = Dataset(url, **options, storage_options=bucket.options)
    for shuffle in (True, "window"):
        expected = loader(here, 64, shuffle)
        for found, wanted in zip(loader(there, 64, shuffle), expected, strict=True):
            assert torch.equal(found["eeg"], wanted["eeg"])
            assert torch.equal(found["hog"], wanted["hog"])
    again = pickle.loads(pickle.dumps(there))
    assert torch.equal(again.__getitems__([7, 3])["eeg"], here.__getitems__([7, 3])["eeg"])


def test_only_what_is_needed_is_fetched(bucket: Bucket, tmp_path: Path) -> None:
    """Of 4 MB of EEG in shards of 64 MB: the index of the one, and a chunk."""
    path = tmp_path / "s.zarr"
    source = EEG | {"n_trials": 4000, "n_channels": 8}
    eegstore.build(recipe(source=source, extract=[]), path)
    url = bucket.upload(path, "needed.zarr")
    column = open_store(url, bucket.options).trials["eeg"]
    layout = column.layout
    assert layout is not None
    assert column.layout is layout
    bucket.asked.clear()
    expected = open_store(path).trials["eeg"]
    np.testing.assert_array_equal(column[300], expected[300])
    ranges = [found for _, name, found in bucket.asked if name.endswith("eeg/c/0/0/0") and found]
    sizes = [int(end) - int(start) + 1 for start, end in (r[6:].split("-") for r in ranges)]
    assert sizes == [layout.index_bytes, layout.chunk_bytes + 4]
    bucket.asked.clear()
    np.testing.assert_array_equal(column[301], expected[301])  # the chunk is kept
    assert bucket.asked == []


def test_what_is_fetched_damaged_raises_each_time(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    eegstore.build(recipe(), path)
    url = bucket.upload(path, "damaged.zarr")
    content = bytearray((path / "trials/eeg/c/0/0/0").read_bytes())
    content[100] ^= 1
    bucket.put("damaged.zarr/trials/eeg/c/0/0/0", bytes(content))
    column = open_store(url, bucket.options).trials["eeg"]
    for _ in range(2):
        with pytest.raises(DamageError, match="trials/eeg/c/0/0/0: inner chunk 0 fails its crc32c"):
            column[[3, 1]]
    bucket.put("damaged.zarr/trials/eeg/c/0/0/0", bytes(content[:-1]))
    with pytest.raises(DamageError, match=r"eeg/c/0/0/0: has \d+ bytes, expected \d+"):
        open_store(url, bucket.options).trials["eeg"][0]
    bucket.delete("damaged.zarr/trials/eeg/c/0/0/0")
    with pytest.raises(DamageError, match="eeg/c/0/0/0: is missing, or was changed"):
        open_store(url, bucket.options).trials["eeg"][0]
    bucket.put("damaged.zarr/trials/label/c/0", b"1234567890")
    with pytest.raises(DamageError, match="trials/label/c/0 fails its crc32c"):
        open_store(url, bucket.options).trials["label"][0]
    bucket.put("damaged.zarr/trials/eeg/zarr.json", b"{}")
    with pytest.raises(DamageError, match=r"trials/eeg/zarr.json was changed since the commit"):
        open_store(url, bucket.options)


def test_a_column_that_another_build_replaces_is_not_mixed_with_it(
    bucket: Bucket, tmp_path: Path
) -> None:
    path, other = tmp_path / "s.zarr", tmp_path / "other.zarr"
    eegstore.build(recipe(), path)
    eegstore.build(recipe(source=EEG | {"seed": 5}), other)
    url = bucket.upload(path, "replaced.zarr")
    store = open_store(url, bucket.options)
    known: Any = store.trials["eeg"]
    unknown = open_store(url, bucket.options).trials["eeg"]
    assert unknown.layout is not None
    before = known[:3]
    bucket.upload(other, "replaced.zarr")
    np.testing.assert_array_equal(known[:3], before)  # it is in memory
    again = pickle.loads(pickle.dumps(known.values))
    replaced = "was replaced by a later build; open the store again"
    for column in (unknown, again):
        with pytest.raises(DamageError, match=replaced):
            column.take(np.arange(5))
    decoded = known.values._decoded
    decoded._forget(np.arange(decoded.n_slots))  # as if other chunks had taken their places
    with pytest.raises(DamageError, match=replaced):
        known[:3]
    np.testing.assert_array_equal(
        open_store(url, bucket.options).trials["eeg"][:], open_store(other).trials["eeg"][:]
    )


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("s4://x/y", {}, "s4://x/y: cannot be opened"),
        (f"s3://{BUCKET}/none.zarr", None, "not an eegstore store (there is no zarr.json in it)"),
        (f"s3://{BUCKET}/x", {"endpont": "x"}, "'endpont' is not valid"),
    ],
)
def test_what_is_no_store_is_refused(
    bucket: Bucket, url: str, options: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(InputError) as raised:
        open_store(url, bucket.options if options is None else options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_server_that_fails_is_no_damage(tmp_path: Path) -> None:
    eegstore.build(recipe(), tmp_path / "s.zarr")
    with serving() as bucket:
        url = bucket.upload(tmp_path / "s.zarr", "unreachable.zarr")
        options = bucket.options | {"retry_config": {"max_retries": 0}}
        column = open_store(url, options).trials["eeg"]
    for call in (lambda: column[0], lambda: open_store(url, options)):
        with pytest.raises(InputError, match=r"cannot be reached .*; see to the network") as raised:
            call()
        assert str(raised.value).startswith(f"{url}/")
        assert "\n" not in str(raised.value)


def test_what_needs_a_folder_says_so(bucket: Bucket, tmp_path: Path) -> None:
    eegstore.build(recipe(), tmp_path / "s.zarr")
    store = open_store(bucket.upload(tmp_path / "s.zarr", "only-read.zarr"), bucket.options)
    with pytest.raises(InputError, match="a store behind a URL is only read; copy it to a folder"):
        store.trials.to_xarray()

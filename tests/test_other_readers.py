"""Every wide column, of every codec profile, has the same values to other libraries of Zarr."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

import eegstore
from every_kind import PROFILES, build, unpacked, write_input

WIDE = ("trials/eeg", "trials/spectral", "trials/temporal", "stimuli/gradients")
NOT_READ = {
    ("archive", "tensorstore"): "pcodec is in no specification of Zarr, and tensorstore lacks it",
}


def with_zarr(array: Path) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3")
        return np.asarray(zarr.open_array(array, mode="r")[...])


def with_zarrs(array: Path) -> NDArray[Any]:
    pytest.importorskip("zarrs", reason="zarrs has no wheel for this machine")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        return with_zarr(array)


def with_tensorstore(array: Path) -> NDArray[Any]:
    tensorstore = pytest.importorskip("tensorstore", reason="no wheel for this machine")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(array)}}
    return np.asarray(tensorstore.open(spec, read=True).result().read().result())


READERS: dict[str, Callable[[Path], NDArray[Any]]] = {
    "zarr": with_zarr,
    "zarrs": with_zarrs,
    "tensorstore": with_tensorstore,
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The store of a profile, built once."""
    folder, built = tmp_path_factory.mktemp("profiles"), dict[str, Path]()
    write_input(folder)

    def store(profile: str) -> Path:
        if profile not in built:
            built[profile] = build(folder, profile, executor="serial")
        return built[profile]

    return store


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("library", READERS)
def test_another_library_reads_the_values_that_eegstore_reads(
    stores: Callable[[str], Path], profile: str, library: str
) -> None:
    if (profile, library) in NOT_READ:
        pytest.skip(NOT_READ[profile, library])
    store = stores(profile)
    opened = eegstore.open_store(store)
    for path in WIDE:
        table, name = path.split("/")
        expected = getattr(opened, table)[name][:]
        attributes = opened.document(path)["attributes"]
        found = unpacked(READERS[library](store / path), attributes)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)

"""Whoever opens a store while builds run sees committed columns whole, or that there is none."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegstore
import readers
from eegstore import DamageError, IncompleteError, root
from eegstore.commit import Commit
from eegstore.opening import Shards
from samples import recipe

NIGHTLY = [pytest.mark.nightly, pytest.mark.timeout(3600)]
SPECTRAL: dict[str, Any] = {"plugin": "spectral"}
# Each is a commit more than the one before: the first build, then a column added, and another.
EXTRACTS = [
    [{"plugin": "hog"}],
    [{"plugin": "hog"}, {"plugin": "temporal"}],
    [{"plugin": "hog"}, {"plugin": "temporal"}, SPECTRAL],
]
LIBRARIES = ("eegstore", "zarr", "xarray")


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of ``readers``, killed at the end; a warning is an error in it."""
    command = [sys.executable, "-W", "error", readers.__file__, *arguments]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def building(folder: Path, role: str, recipes: list[dict[str, Any]]) -> Iterator[None]:
    """A process that builds until the end, and must not have failed then."""
    with running(folder, role, json.dumps(recipes)) as process:
        yield
        (folder / readers.STOP).touch()
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")


def counts(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a reader counted, once it has ended well."""
    out, errors = process.communicate()
    assert (process.returncode, errors) == (0, ""), errors
    counted: dict[str, Any] = json.loads(out)
    return counted


@pytest.fixture
def built_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process build as those of ``readers`` do."""
    readers.build_often(monkeypatch.setattr)


@pytest.mark.promise("P3")
@pytest.mark.parametrize("n_opens", [40, pytest.param(3_400, marks=NIGHTLY)])
@pytest.mark.usefixtures("built_often")
def test_whoever_opens_a_store_while_it_grows_sees_committed_columns_only(
    tmp_path: Path, figure: Callable[[str, int, int], None], n_opens: int
) -> None:
    recipes = [recipe(extract=extract) for extract in EXTRACTS]
    for number, made in enumerate(recipes):
        eegstore.build(made, tmp_path / f"after-{number}")
    (tmp_path / readers.CURRENT).write_text("0.zarr")
    wanted = ",".join(f"after-{number}" for number in range(len(recipes)))
    with building(tmp_path, "build_anew", recipes), ExitStack() as stack:
        started = {
            library: stack.enter_context(
                running(tmp_path, "open_always", library, wanted, str(n_opens))
            )
            for library in LIBRARIES
        }
        for library, process in started.items():
            counted = counts(process)
            assert counted["refused"] > 0
            assert set(counted["seen"]) == {"0", "1", "2"}
            n_seen = sum(counted["seen"].values())
            figure(f"opens through {library} saw whole columns alone", n_seen, n_seen)


@pytest.mark.promise("P3")
@pytest.mark.parametrize("library", LIBRARIES)
def test_before_the_first_commit_there_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    store = tmp_path / "s.zarr"
    opened = getattr(readers, f"with_{library}")
    found = []
    put_root = Commit.put_root

    def look(*_: Any) -> None:
        found.append(opened(store))

    def put_late(commit: Commit, *arguments: Any) -> Any:
        # All is in place now, every array's document too, but for the root's.
        assert (store / "trials" / "eeg" / "zarr.json").is_file()
        look()
        return put_root(commit, *arguments)

    monkeypatch.setattr(Commit, "put_root", put_late)
    look()
    eegstore.build(recipe(), store, listener=look)
    assert len(found) > 4
    assert all(one is None for one in found)
    assert opened(store).keys() == readers.committed(store).keys()


@pytest.fixture
def windows(tmp_path: Path, built_often: None) -> list[dict[str, Any]]:
    """Two recipes that differ in an option of one column; their finished stores lie beside."""
    made = [
        recipe(stimuli=None, pairing=None, extract=[SPECTRAL | {"window": window}])
        for window in ("hann", "boxcar")
    ]
    values = []
    for number, one in enumerate(made):
        eegstore.build(one, tmp_path / f"with-{number}")
        values.append(eegstore.open_store(tmp_path / f"with-{number}").trials["spectral"][:])
    # No row of one is a row of the other.
    assert (values[0] != values[1]).any(axis=(1, 2)).all()
    return made


@pytest.mark.promise("P3")
@pytest.mark.parametrize("kind", ["store", "dataset"])
@pytest.mark.parametrize("n_reads", [300, pytest.param(5_000, marks=NIGHTLY)])
def test_a_reader_of_a_column_that_is_replaced_reads_one_build_or_raises(
    tmp_path: Path,
    figure: Callable[[str, int, int], None],
    windows: list[dict[str, Any]],
    kind: str,
    n_reads: int,
) -> None:
    eegstore.build(windows[0], tmp_path / "s.zarr")
    with building(tmp_path, "build_in_turn", windows):
        wanted = "with-0,with-1"
        arguments = ("read_always", kind, "spectral", wanted, str(n_reads))
        with running(tmp_path, *arguments) as process:
            counted = counts(process)
    assert counted["raised"] > 0
    assert counted["read"] >= n_reads
    figure(f"reads of a {kind} gave one build's values", counted["read"], counted["read"])


@pytest.mark.promise("P3")
def test_a_shard_that_is_replaced_twice_while_it_is_mapped_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: list[dict[str, Any]]
) -> None:
    store = tmp_path / "s.zarr"
    eegstore.build(windows[0], store)
    column = eegstore.open_store(store).trials["spectral"]
    before = column[:10]
    eegstore.build(windows[1], store, overwrite=True)
    key_on_disk, calls = Shards._key_on_disk, []

    def late(array: Shards) -> str | None:
        calls.append(array)
        if len(calls) > 1:
            return key_on_disk(array)
        # The other build's shard is mapped by now; then the reader's own column comes back.
        eegstore.build(windows[0], store, overwrite=True)
        return key_on_disk(array)

    monkeypatch.setattr(Shards, "_key_on_disk", late)
    with pytest.raises(DamageError, match="was replaced by a later build; open the store again"):
        column[20]
    np.testing.assert_array_equal(column[:10], before)
    expected = eegstore.open_store(tmp_path / "with-0").trials["spectral"][20]
    np.testing.assert_array_equal(column[20], expected)


@pytest.mark.promise("P3")
def test_a_dataset_that_is_sent_to_a_worker_is_of_the_same_build_there(
    tmp_path: Path, windows: list[dict[str, Any]]
) -> None:
    from eegstore.torch import Dataset

    store = tmp_path / "s.zarr"
    eegstore.build(windows[0], store)
    sent = pickle.dumps(Dataset(store, columns=["spectral"]))
    other = pickle.dumps(Dataset(store, columns=["eeg", "label"]))
    expected = pickle.loads(sent)[0]["spectral"].numpy()
    np.testing.assert_array_equal(expected, eegstore.open_store(store).trials["spectral"][:1][0])
    eegstore.build(windows[1], store, overwrite=True)
    with pytest.raises(DamageError, match="spectral was replaced by a later build"):
        pickle.loads(sent)
    assert len(pickle.loads(other)) == 60  # what it reads was not replaced


@pytest.mark.promise("P3")
def test_a_store_that_is_committed_while_it_is_looked_for_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s.zarr"
    missing = root._missing_root

    def late(path: Path) -> Exception:
        eegstore.build(recipe(), store)
        return missing(path)

    monkeypatch.setattr(root, "_missing_root", late)
    assert len(eegstore.open_store(store).trials["eeg"]) == 60


@pytest.mark.promise("P3")
def test_while_a_narrow_column_is_replaced_the_store_is_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s.zarr"
    eegstore.build(recipe(), store)
    put_root, calls = Commit.put_root, []

    def put_late(commit: Commit, *arguments: Any) -> Any:
        calls.append(commit)
        if len(calls) == 1:  # what is to be replaced is not withdrawn yet
            assert eegstore.open_store(store).splits == {"train": 45, "test": 15}
        else:
            with pytest.raises(IncompleteError, match="a build is replacing split"):
                eegstore.open_store(store)
        return put_root(commit, *arguments)

    monkeypatch.setattr(Commit, "put_root", put_late)
    eegstore.build(recipe(split={"plugin": "random", "test_size": 0.5, "seed": 1}), store)
    assert len(calls) == 2
    assert eegstore.open_store(store).splits == {"train": 30, "test": 30}

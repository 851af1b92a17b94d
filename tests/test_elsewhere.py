"""Names in data that lead out of their folder are not followed: nothing is changed there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eegstore
from command import check_build_refused
from eegstore import EegStoreError, InterruptedBuildError, attributes, root
from eegstore.disk import digest_json
from samples import EEG, recipe

RECIPE = recipe(source=EEG | {"n_trials": 8, "n_times": 64}, extract=[{"plugin": "temporal"}])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    eegstore.build(RECIPE, tmp_path / "store.zarr")
    return tmp_path / "store.zarr"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of someone's beside the store."""
    folder = tmp_path / "precious"
    (folder / "deep").mkdir(parents=True)
    for file in (folder / "thesis.txt", folder / "deep" / "data.txt"):
        file.write_text("years of work")
    return folder


def is_untouched(precious: Path) -> bool:
    files = [precious / "thesis.txt", precious / "deep" / "data.txt"]
    return all(file.is_file() and file.read_text() == "years of work" for file in files)


def reseal(store: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """Change a store's root document, and seal it as whoever made the store could."""
    document = json.loads((store / "zarr.json").read_bytes())
    facts = document["attributes"]["eegstore"]
    documents = document["consolidated_metadata"]["metadata"]
    change(facts, documents)
    facts["seal"] = attributes.NO_SEAL
    blank = json.dumps(document, indent=2, ensure_ascii=False).encode()
    sealed = attributes.sealed(blank, root.committed_documents(blank))
    (store / "zarr.json").write_bytes(sealed)


def test_a_store_that_is_sealed_again_opens(store: Path) -> None:
    """So that the next test's store is refused for what it names."""
    reseal(store, lambda facts, documents: facts.update(name="resealed"))
    assert eegstore.open_store(store).name == "resealed"


@pytest.mark.parametrize("kind", ["narrow", "wide", "coordinate"])
@pytest.mark.parametrize("name", ["../../precious", "..", "/precious", "x/../../../precious"])
def test_a_store_that_names_a_column_outside_of_itself_deletes_nothing(
    store: Path, precious: Path, kind: str, name: str
) -> None:
    shutil.copytree(store / "trials" / "label", precious, dirs_exist_ok=True)

    def name_it(facts: dict[str, Any], documents: dict[str, Any]) -> None:
        label = next(one for one in facts["columns"] if one["name"] == "label")
        facts["columns"].append(label | {"name": name, "kind": kind})
        documents[f"trials/{name}"] = documents["trials/label"]

    reseal(store, name_it)
    with pytest.raises(EegStoreError, match=r"store\.zarr: zarr\.json"):
        eegstore.open_store(store)
    for overwrite in (False, True):
        with contextlib.suppress(EegStoreError):
            eegstore.build(RECIPE, store, overwrite=overwrite)
        assert is_untouched(precious)


def test_a_link_in_a_store_is_deleted_and_not_what_it_leads_to(store: Path, precious: Path) -> None:
    links = [store / "trials" / "link", store / "digests" / "link", store / "trials/folder/link"]
    links[2].parent.mkdir()
    for link in links:
        link.symlink_to(precious)
    more = [*RECIPE["extract"], {"plugin": "temporal", "as": "again"}]
    eegstore.build(RECIPE | {"extract": more}, store)
    assert is_untouched(precious)
    assert not any(os.path.lexists(link) for link in links)
    assert eegstore.verify(store) == []


def test_a_link_among_a_builds_files_is_not_followed(tmp_path: Path, precious: Path) -> None:
    folder = tmp_path / "store.zarr.build"
    interrupted_build(tmp_path / "store.zarr")
    for name in ("link", "tmp-link"):
        (folder / name).symlink_to(precious)
    with contextlib.suppress(EegStoreError):
        eegstore.build(RECIPE, tmp_path / "store.zarr")
    assert is_untouched(precious)


def interrupted_build(store: Path) -> None:
    """A build that ends when its tasks are done and nothing is committed."""

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "extract" and done == total:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedBuildError):
        eegstore.build(RECIPE, store, listener=interrupt)


def test_a_receipt_that_names_a_file_elsewhere_writes_nothing_there(tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    interrupted_build(store)
    for path in (tmp_path / "store.zarr.build" / "receipts").iterdir():
        receipt = json.loads(path.read_bytes())
        del receipt["seal"]
        receipt["task"] = f"../../elsewhere-{receipt['task']}"
        path.write_text(json.dumps(receipt | {"seal": digest_json(receipt)}))
    before = set(tmp_path.iterdir())
    eegstore.build(RECIPE, store)
    assert set(tmp_path.iterdir()) <= before
    assert eegstore.verify(store, deep=True) == []


@pytest.mark.promise("P14")
@pytest.mark.parametrize("name", ["../precious/thesis.txt", "/dev/zero"])
def test_a_recording_that_names_a_file_elsewhere_is_refused(
    tmp_path: Path, precious: Path, name: str
) -> None:
    pytest.importorskip("mne")
    folder = tmp_path / "recording"
    folder.mkdir()
    (folder / "rec.vhdr").write_text(f"[Common Infos]\nDataFile={name}\n")
    text = '[source]\nplugin = "mne"\npath = "rec.vhdr"\n'
    check_build_refused(text, folder, 3, "rec.vhdr: names a file outside of its folder", repr(name))

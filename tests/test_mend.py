"""A build on a damaged store makes again exactly what is damaged, and says so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import eegstore
from command import run_command
from eegstore import InputError, InterruptedBuildError, builder, plan, verify
from eegstore.attributes import NO_SEAL, document_bytes, sealed
from samples import data_files, modified, recipe

EEG = "trials/eeg/c/{}/0/0"
LABEL, TIME = "trials/label/zarr.json", "trials/time/zarr.json"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four shards of trials."""
    monkeypatch.setattr(plan, "SHARD_BYTES", 1 << 15)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("clean") / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_BYTES", 1 << 15)
        eegstore.build(recipe(), store, executor="serial")
    return store


@pytest.fixture
def store(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "s.zarr"))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def is_shard(file: str) -> bool:
    return file.startswith(("trials/eeg/c/", "trials/spectral/c/", "stimuli/hog/c/"))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "a bit flipped": flip,
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}
PLACES = [
    [EEG.format(2)],
    [EEG.format(0), EEG.format(3), "trials/spectral/c/1/0/0"],
    ["stimuli/hog/c/0/0"],
    ["trials/label/c/0"],
    ["stimuli/caption/c/0", "trials/time/c/0"],
    ["digests/trials_eeg/c/0/0"],
    ["trials/eeg/zarr.json"],
    ["digests/trials_eeg/zarr.json"],
    ["trials/zarr.json", "digests/zarr.json"],
    ["zarr.json"],
]


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("files", PLACES, ids=lambda files: files[0])
def test_exactly_the_damaged_files_are_made_again(
    clean: Path, store: Path, files: list[str], how: str
) -> None:
    if files == ["zarr.json"] and how == "a folder":
        pytest.skip("a folder there is in the way of a build, and is refused")
    before = modified(store)
    for file in files:
        DAMAGE[how](store / file)
    done = eegstore.build(recipe(), store, executor="serial")
    assert done.history is not None
    assert (sorted(done.history.mended), done.history.computed) == (sorted(files), [])
    assert done.digest == eegstore.open_store(clean).digest
    assert data_files(store) == data_files(clean)
    assert verify(store, deep=True) == []
    assert not builder.build_folder(store).exists()
    written = {file for file, when in modified(store).items() if before.get(file) != when}
    assert {file for file in written if is_shard(file)} == {
        file for file in files if is_shard(file)
    }
    assert eegstore.build(recipe(), store).up_to_date


def test_a_flip_that_left_the_time_alone_is_mended_with_deep(clean: Path, store: Path) -> None:
    shard = store / EEG.format(1)
    when = shard.stat()
    flip(shard)
    os.utime(shard, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert eegstore.build(recipe(), store).up_to_date
    done = eegstore.build(recipe(), store, deep=True)
    assert done.history is not None
    assert done.history.mended == [EEG.format(1)]
    assert data_files(store) == data_files(clean)


def test_damage_and_a_new_option_are_dealt_with_at_once(clean: Path, store: Path) -> None:
    flip(store / EEG.format(3))
    changed = recipe(extract=[{"plugin": "spectral", "window": "boxcar"}, {"plugin": "hog"}])
    done = eegstore.build(changed, store, executor="serial")
    assert done.history is not None
    assert done.history.mended == [EEG.format(3)]
    assert done.history.computed == ["trials/spectral"]
    assert (store / EEG.format(3)).read_bytes() == (clean / EEG.format(3)).read_bytes()


def test_shards_of_lost_records_are_known_by_the_digest_of_all(clean: Path, store: Path) -> None:
    """Of a column whose records are lost, and one shard too, nothing can be trusted."""
    (store / "digests/trials_eeg/c/0/0").unlink()
    (store / EEG.format(1)).unlink()
    before = modified(store)
    done = eegstore.build(recipe(), store, executor="serial")
    assert done.digest == eegstore.open_store(clean).digest
    assert all(before[EEG.format(n)] != modified(store)[EEG.format(n)] for n in (0, 2, 3))


def test_the_root_is_made_again_from_the_columns_that_lie_there(clean: Path, store: Path) -> None:
    (store / "zarr.json").write_text("{}")
    with pytest.raises(InputError, match="not an eegstore store"):
        eegstore.build(recipe(), store)
    (store / "zarr.json").unlink()
    with pytest.raises(eegstore.DamageError, match=r"zarr\.json is missing"):
        eegstore.open_store(store)
    flip(store / EEG.format(0))
    before = modified(store)
    planned = builder.plan(recipe(), store)
    assert [task.shard for task in planned.tasks if task.table == "trials"] == [0]
    eegstore.build(recipe(), store, executor="serial")
    assert data_files(store) == data_files(clean)
    assert before[EEG.format(1)] == modified(store)[EEG.format(1)]


def test_a_lost_root_is_no_leave_to_drop_columns(store: Path) -> None:
    (store / "zarr.json").unlink()
    with pytest.raises(InputError, match=r"would lose spectral: the recipe no longer has"):
        eegstore.build(recipe(extract=[{"plugin": "hog"}]), store)
    assert (store / "trials/spectral/c/0/0/0").is_file()


def test_a_documents_edited_layout_does_not_mislead_the_mending(clean: Path, store: Path) -> None:
    (store / "zarr.json").unlink()
    document = json.loads((store / "trials/eeg/zarr.json").read_bytes())
    document["shape"][0] = 59
    (store / "trials/eeg/zarr.json").write_text(json.dumps(document))
    eegstore.build(recipe(), store, executor="serial")
    assert data_files(store) == data_files(clean)


def test_the_plan_of_a_damaged_store_names_the_damage_and_mends_nothing(store: Path) -> None:
    flip(store / EEG.format(2))
    before = modified(store)
    planned = builder.plan(recipe(), store)
    assert [one.file for one in planned.damage] == [EEG.format(2)]
    assert [(task.table, task.shard, task.columns) for task in planned.tasks] == [
        ("trials", 2, ("eeg",))
    ]
    assert modified(store) == before


@pytest.mark.parametrize("content", [None, b"", b"{", b"[" * 100_000], ids=repr)
def test_a_lost_document_is_mended_beside_a_lost_shard(
    clean: Path, store: Path, content: bytes | None
) -> None:
    """Before the shard is computed the rest is committed, that document not among it."""
    (store / EEG.format(1)).unlink()
    (store / LABEL).unlink()
    if content is not None:
        (store / LABEL).write_bytes(content)
    done = eegstore.build(recipe(), store, executor="serial")
    assert done.history is not None
    assert sorted(done.history.mended) == [EEG.format(1), LABEL]
    assert data_files(store) == data_files(clean)
    assert verify(store, deep=True) == []


def test_an_edited_document_never_becomes_the_committed_one(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a build that is interrupted while it mends something else either."""
    document = json.loads((store / TIME).read_bytes())
    document["attributes"]["units"] = "ms"
    (store / TIME).write_bytes(document_bytes(document))
    shutil.rmtree(store / "trials/spectral/c")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(builder, "_extract", stop)
        with pytest.raises(InterruptedBuildError):
            eegstore.build(recipe(), store)
    eegstore.build(recipe(), store)
    assert json.loads((store / TIME).read_bytes())["attributes"]["units"] == "s"
    assert verify(store, deep=True) == []


@pytest.mark.timeout(60)
def test_a_pipe_in_the_place_of_a_document_is_never_opened(clean: Path, store: Path) -> None:
    for name in ("zarr.json", "trials/spectral/zarr.json", LABEL):
        (store / name).unlink()
    (store / "zarr.json").write_bytes(b"{")
    os.mkfifo(store / "trials/spectral/zarr.json")
    os.mkfifo(store / LABEL)
    eegstore.build(recipe(), store, executor="serial")
    assert data_files(store) == data_files(clean)
    assert verify(store, deep=True) == []


def test_nothing_is_deleted_where_a_linked_group_leads_to(store: Path, tmp_path: Path) -> None:
    (store / "trials").rename(tmp_path / "elsewhere")
    (store / "trials").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/photos").mkdir()
    (tmp_path / "elsewhere/photos/me.jpg").write_bytes(b"theirs")
    changed = recipe(extract=[{"plugin": "spectral", "window": "boxcar"}])
    eegstore.build(changed, store, executor="serial", overwrite=True)
    assert (tmp_path / "elsewhere/photos/me.jpg").read_bytes() == b"theirs"
    assert eegstore.open_store(store).recipe["extract"][0]["window"] == "boxcar"


def test_documents_that_another_zarr_wrote_stay_as_they_are(store: Path) -> None:
    """The seal is over what lies there, not over how this Zarr would write it."""
    root = json.loads((store / "zarr.json").read_bytes())
    documents = root["consolidated_metadata"]["metadata"]
    for document in documents.values():
        document.pop("storage_transformers", None)
    files = {f"{path}/zarr.json": document_bytes(one) for path, one in documents.items()}
    for path, content in files.items():
        (store / path).write_bytes(content)
    root["attributes"]["eegstore"]["seal"] = NO_SEAL
    blank = json.dumps(root, indent=2, ensure_ascii=False).encode()
    (store / "zarr.json").write_bytes(sealed(blank, files))
    assert verify(store, deep=True) == []
    wider = recipe(extract=[*recipe()["extract"], {"plugin": "temporal"}])
    done = eegstore.build(wider, store, executor="serial")
    assert done.history is not None
    assert done.history.computed == ["trials/temporal"]
    assert verify(store, deep=True) == []
    assert (store / "trials/eeg/zarr.json").read_bytes() == files["trials/eeg/zarr.json"]


def test_a_stranger_alone_is_nothing_that_a_build_mends(
    store: Path,
) -> None:
    (store / "trials/eeg/junk").write_bytes(b"x")
    assert [(one.file, one.mendable) for one in verify(store)] == [("trials/eeg/junk", False)]
    done = run_command("verify", "s.zarr", cwd=store.parent)
    assert done.code == 5
    assert done.err == "eegstore: s.zarr: 1 damaged\n"
    (store / EEG.format(0)).unlink()
    done = run_command("verify", "s.zarr", cwd=store.parent)
    assert "2 damaged; 'eegstore build RECIPE STORE --deep' makes again" in done.err

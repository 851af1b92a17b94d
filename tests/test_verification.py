"""Whatever happens to a file of a store, ``verify`` names it and readers refuse it."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eegstore
from eegstore import DamageError, InputError, open_store, plan, verify
from eegstore.verification import Damage
from samples import recipe

ROOT = "zarr.json"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose trials lie in four shards of 16 rows."""
    store = tmp_path_factory.mktemp("clean") / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_BYTES", 1 << 15)
        eegstore.build(recipe(), store, executor="serial")
    return store


@pytest.fixture(scope="module")
def store(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that tests damage and mend again."""
    copy = tmp_path_factory.mktemp("damaged") / "s.zarr"
    shutil.copytree(clean, copy)
    return copy


def files_of(store: Path) -> list[str]:
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())


@contextmanager
def changed(file: Path, content: bytes | None) -> Iterator[None]:
    """The file with other content, or without it (None), while the context lasts."""
    before = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def flip(content: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)


def read_everything(store: Path) -> None:
    opened = open_store(store)
    for table in (opened.trials, opened.stimuli):
        list(table.coords)
        for column in table.values():
            assert len(column[:]) == table.n_rows


def check_found(store: Path, name: str, *, deep: bool) -> None:
    """The damaged file is named, and nothing but it."""
    if name == ROOT:
        # Where it does not name our format, this is no store that could be verified.
        with suppress(InputError):
            assert [one.file for one in verify(store, deep=deep)] == [ROOT]
    else:
        assert [one.file for one in verify(store, deep=deep)] == [name]


SIZE_CHANGES: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda content: None,
    "emptied": lambda content: b"",
    "truncated by a byte": lambda content: content[:-1],
    "cut in half": lambda content: content[: len(content) // 2],
    "appended to": lambda content: content + b"\0",
    "appended a line to": lambda content: content + b"\n",
}


def test_a_clean_store_has_no_damage(clean: Path) -> None:
    assert verify(clean) == []
    assert verify(clean, deep=True) == []
    assert verify(str(clean), deep=True) == []
    shards = [name for name in files_of(clean) if name.startswith("trials/eeg/c/")]
    assert len(shards) == 4
    read_everything(clean)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("change", SIZE_CHANGES)
def test_every_file_whose_size_changed_is_named(store: Path, change: str, deep: bool) -> None:
    for name in files_of(store):
        content = (store / name).read_bytes()
        with changed(store / name, SIZE_CHANGES[change](content)):
            check_found(store, name, deep=deep)
            with pytest.raises((DamageError, InputError)):
                read_everything(store)
    assert verify(store, deep=True) == []


def test_every_file_with_a_flipped_byte_is_named(store: Path) -> None:
    for name in files_of(store):
        content = (store / name).read_bytes()
        for position in (0, len(content) // 2, len(content) - 1):
            with changed(store / name, flip(content, position, 0)):
                check_found(store, name, deep=True)
                with pytest.raises((DamageError, InputError)):
                    read_everything(store)


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_any_flipped_bit_is_named_and_never_read(store: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(files_of(store)))
    content = (store / name).read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    with changed(store / name, flip(content, position, data.draw(st.integers(0, 7)))):
        check_found(store, name, deep=True)
        with pytest.raises((DamageError, InputError)):
            read_everything(store)


def test_files_of_equal_size_that_were_swapped_are_named(store: Path) -> None:
    files = {name: (store / name).read_bytes() for name in files_of(store)}
    pairs = [
        (one, other)
        for one, other in itertools.combinations(files, 2)
        if len(files[one]) == len(files[other]) and files[one] != files[other]
    ]
    assert ("trials/eeg/c/0/0/0", "trials/eeg/c/1/0/0") in pairs
    assert ("trials/label/c/0", "trials/repetition/c/0") in pairs
    for one, other in pairs:
        with changed(store / one, files[other]), changed(store / other, files[one]):
            found = {damage.file for damage in verify(store, deep=True)}
        assert found == {one, other}


def test_any_digit_that_is_edited_in_a_document_is_found(store: Path) -> None:
    for name in files_of(store):
        if not name.endswith(ROOT):
            continue
        text = (store / name).read_text(encoding="utf-8")
        digits = [found.start() for found in re.finditer("[0-9]", text)]
        for position in digits[:: max(1, len(digits) // 25)]:
            digit = str((int(text[position]) + 1) % 10)
            edited = text[:position] + digit + text[position + 1 :]
            with changed(store / name, edited.encode()):
                check_found(store, name, deep=False)


def test_a_document_written_in_another_style_is_found(store: Path) -> None:
    for name in files_of(store):
        if name.endswith(ROOT):
            document = json.loads((store / name).read_bytes())
            with changed(store / name, json.dumps(document).encode()):
                check_found(store, name, deep=False)


def test_without_deep_a_shard_is_not_read(store: Path) -> None:
    shard = store / "trials/eeg/c/2/0/0"
    with changed(shard, flip(shard.read_bytes(), 5, 3)):
        assert verify(store) == []
        assert verify(store, deep=True) == [
            Damage("trials/eeg/c/2/0/0", "is not what was committed (its digest differs)")
        ]


def test_sizes_are_told(store: Path) -> None:
    shard = store / "trials/eeg/c/2/0/0"
    size = shard.stat().st_size
    with changed(shard, shard.read_bytes()[:-3]):
        assert verify(store) == [
            Damage("trials/eeg/c/2/0/0", f"has {size - 3} bytes, expected {size}")
        ]


@pytest.mark.parametrize(
    "name", ["a", ".DS_Store", "trials/eeg/c/4/0/0", "trials/new/zarr.json", "digests/x/c/0", "é\n"]
)
def test_a_file_that_no_build_wrote_is_named(store: Path, name: str) -> None:
    folders = [folder for folder in (store / name).parents if not folder.exists()]
    (store / name).parent.mkdir(parents=True, exist_ok=True)
    (store / name).write_bytes(b"")
    assert verify(store) == [Damage(name, "does not belong to the store; move it away")]
    (store / name).unlink()
    for folder in folders:
        folder.rmdir()
    assert verify(store) == []


def test_a_folder_in_the_place_of_a_file_is_damage(store: Path) -> None:
    for name in files_of(store):
        with changed(store / name, None):
            (store / name).mkdir()
            check_found(store, name, deep=False)
            with pytest.raises((DamageError, InputError)):
                read_everything(store)
            (store / name).rmdir()


def test_all_damage_is_told_at_once(store: Path) -> None:
    names = ["trials/eeg/c/0/0/0", "trials/eeg/c/3/0/0", "trials/label/c/0", "stimuli/hog/c/0/0"]
    with ExitStack() as stack:
        for name, content in zip(names, (None, b"", b"x", None), strict=True):
            stack.enter_context(changed(store / name, content))
        assert sorted(one.file for one in verify(store)) == sorted(names)


def test_the_listener_hears_of_every_data_file(clean: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    verify(clean, listener=lambda file, done, total: heard.append((file, done, total)))
    data = [one for one in files_of(clean) if not one.endswith(ROOT) and "digests" not in one]
    assert sorted(file for file, _, _ in heard) == data
    assert [(done, total) for _, done, total in heard] == [
        (number, len(data)) for number in range(1, len(data) + 1)
    ]


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an eegstore store"):
        verify(tmp_path)


def run_verify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eegstore", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_ends_with_0_for_a_clean_store(clean: Path) -> None:
    done = run_verify(clean, "--deep", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "store": str(clean),
        "deep": True,
        "ok": True,
        "damage": [],
    }


def test_the_command_ends_with_5_for_a_damaged_store(store: Path) -> None:
    shard = store / "trials/eeg/c/2/0/0"
    with changed(shard, flip(shard.read_bytes(), 5, 3)):
        done = run_verify(store, "--deep", "--json")
        assert (done.returncode, done.stderr) == (5, "")
        told = json.loads(done.stdout)
        assert (told["ok"], told["deep"]) == (False, True)
        assert [one["file"] for one in told["damage"]] == ["trials/eeg/c/2/0/0"]
        shown = run_verify(store, "--deep")
        assert shown.returncode == 5
        assert "trials/eeg/c/2/0/0" in shown.stdout
        assert shown.stderr.startswith(f"eegstore: {store}: 1 damaged")
        assert run_verify(store).returncode == 0


def test_the_command_ends_with_3_where_there_is_no_store(tmp_path: Path) -> None:
    done = run_verify(tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "nothing: not an eegstore store" in done.stderr

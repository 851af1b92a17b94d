"""Files that survive a crash: digests, puts that are whole or absent, and the one writer's lock."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eegstore import LockedError, digest_bytes, digest_files
from eegstore.disk import digest_file, digest_json, make_folder, move_into_place, put, writer_lock

HOLDER = """
import sys
from pathlib import Path
from eegstore.disk import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its standard input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@given(st.lists(st.binary()))
def test_digests_are_sha_256_of_the_concatenation(parts: list[bytes]) -> None:
    assert digest_bytes(*parts) == hashlib.sha256(b"".join(parts)).hexdigest()


def test_digest_of_nothing_and_of_abc_are_those_of_fips_180() -> None:
    assert digest_bytes() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest_bytes(b"abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a"
    for content in (b"", b"\x00" * 5_000_001):
        file.write_bytes(content)
        assert digest_file(file) == hashlib.sha256(content).hexdigest()


def test_digest_of_files_depends_on_content_and_order_and_not_on_names(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    a.write_bytes(b"1")
    b.write_bytes(b"23")
    c.write_bytes(b"1")
    assert digest_files([a, b]) == digest_files([c, b])
    assert len({digest_files(files) for files in ([a, b], [b, a], [a], [a, c], [])}) == 5
    # One file's end is not the next one's beginning.
    a.write_bytes(b"12")
    b.write_bytes(b"3")
    assert digest_files([a, b]) != digest_files([c, b])


def test_digest_of_json_ignores_the_order_of_keys_alone() -> None:
    one = digest_json({"a": 1, "b": [1, 2], "é": "\udcff"})
    assert digest_json({"é": "\udcff", "b": [1, 2], "a": 1}) == one
    assert digest_json({"a": 1, "b": [2, 1], "é": "\udcff"}) != one
    assert digest_json({"a": "1", "b": [1, 2], "é": "\udcff"}) != one
    assert digest_json({"a": 1, "b": 2}) == hashlib.sha256(b'{"a":1,"b":2}').hexdigest()


def test_put_creates_folders_and_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.mkdir()
    put(b"one", tmp_path / "s/trials/eeg/zarr.json", build)
    put(b"two", tmp_path / "s/trials/eeg/zarr.json", build)
    assert (tmp_path / "s/trials/eeg/zarr.json").read_bytes() == b"two"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [tmp_path / "s/trials/eeg/zarr.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("before", [None, b"before"])
def test_a_crash_inside_put_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, before: bytes | None
) -> None:
    final, build = tmp_path / "zarr.json", tmp_path / "build"
    build.mkdir()
    if before is not None:
        final.write_bytes(before)

    def crash(*_: object) -> None:
        raise OSError("the machine is gone")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, crash)
        with pytest.raises(OSError, match="the machine is gone"):
            put(b"after", final, build)
    assert (final.read_bytes() if final.exists() else None) == before
    put(b"after", final, build)
    assert final.read_bytes() == b"after"
    assert list(build.iterdir()) == []


def test_put_syncs_the_content_then_renames_then_syncs_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, build = tmp_path / "a" / "b" / "c", tmp_path / "build"
    build.mkdir()
    calls: list[tuple[str, int]] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor: int) -> None:
        calls.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def spy_replace(source: Path, target: Path) -> None:
        assert Path(source).read_bytes() == b"x"
        calls.append(("replace", Path(source).stat().st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    put(b"x", final, build)
    assert calls == [
        ("fsync", final.stat().st_ino),
        ("fsync", tmp_path.stat().st_ino),
        ("fsync", (tmp_path / "a").stat().st_ino),
        ("replace", final.stat().st_ino),
        ("fsync", (tmp_path / "a" / "b").stat().st_ino),
    ]


def test_moving_replaces_and_making_a_folder_twice_is_nothing(tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        (tmp_path / "t").write_bytes(content)
        move_into_place(tmp_path / "t", tmp_path / "x" / "y")
        make_folder(tmp_path / "x")
        assert (tmp_path / "x" / "y").read_bytes() == content
        assert not (tmp_path / "t").exists()


def test_a_second_process_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "s.zarr.lock"
    with holder(lock) as process:
        begin = time.monotonic()
        with pytest.raises(LockedError) as refused, writer_lock(lock):
            pytest.fail("two writers hold the lock")
        assert time.monotonic() - begin < 2
        said = rf"host {socket.gethostname()}, pid {process.pid}, since \d{{4}}-\d\d-\d\dT"
        assert refused.match(f"^{lock}: another writer holds the store .{said}")
        assert "\n" not in str(refused.value)
        assert refused.value.exit_code == 6
        # Being refused does not take the holder's name away.
        assert f"pid {process.pid}," in lock.read_text()


@pytest.mark.parametrize("end", [signal.SIGKILL, None])
def test_the_lock_is_free_once_its_holder_is_gone(
    tmp_path: Path, end: signal.Signals | None
) -> None:
    lock = tmp_path / "s.zarr.lock"
    with holder(lock) as process:
        assert process.stdin is not None
        process.stdin.close() if end is None else process.send_signal(end)
        assert process.wait(timeout=10) == (0 if end is None else -signal.SIGKILL)
        inode = lock.stat().st_ino
        with writer_lock(lock):
            assert lock.read_text().startswith(f"host {socket.gethostname()}, pid {os.getpid()},")
            assert lock.read_text().count("\n") == 1
        # A lock file that was unlinked could have two holders.
        assert lock.stat().st_ino == inode


def test_the_lock_is_freed_by_an_exception_and_can_be_taken_again(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "folder" / "s.zarr.lock"
    with pytest.raises(ZeroDivisionError), writer_lock(lock):
        raise ZeroDivisionError
    with writer_lock(lock), pytest.raises(LockedError), writer_lock(lock):
        pytest.fail("two writers hold the lock")
    with writer_lock(lock):
        assert lock.is_file()


def test_a_build_is_refused_while_another_process_writes(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    with holder(tmp_path / "s.zarr.lock") as process:
        done = subprocess.run(
            [sys.executable, "-m", "eegstore", "build", "demo", str(store)],
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith(f"eegstore: {store}.lock: another writer holds the store (host ")
    assert f"pid {process.pid}, since " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not store.exists()

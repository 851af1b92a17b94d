"""Files that survive a crash: digests, atomic durable puts, and the lock of the one writer."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from eegstore.errors import LockedError

READ_BYTES = 1 << 22


def digest_bytes(*parts: bytes) -> str:
    """SHA-256 of the parts' concatenation, as lower-case hex (FIPS 180-4)."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()


def digest_json(value: object) -> str:
    """SHA-256 of a JSON value in its canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return digest_bytes(text.encode("utf-8", "surrogatepass"))


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the content of several files, in the order given, as lower-case hex."""
    return digest_json([digest_file(path) for path in paths])


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents durably: each new name is synced in its parent."""
    missing = []
    current = folder
    while not current.exists():
        missing.append(current)
        current = current.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        fsync_folder(path.parent)


def move_into_place(temporary: Path, final: Path) -> None:
    """Rename a whole, synced file to its final name, durably."""
    make_folder(final.parent)
    temporary.replace(final)
    fsync_folder(final.parent)


def put(content: bytes, final: Path, temporary_folder: Path) -> None:
    """Write a file so that it is there whole or not at all, whatever happens."""
    temporary = temporary_folder / f"{digest_bytes(os.fsencode(final))[:16]}.tmp"
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    move_into_place(temporary, final)


@contextlib.contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the advisory lock of a store's one writer; a dead holder's lock is free.

    The file is never unlinked: of a lock file that is deleted there can be two holders.

    Raises
    ------
    LockedError
        Where another process holds it; names its host, pid and start.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "just starting"
            raise LockedError(
                f"{path.name}: another writer holds the store ({holder}); wait for it to end"
            ) from None
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        file.truncate(0)
        file.write(f"host {socket.gethostname()}, pid {os.getpid()}, since {now}\n")
        file.flush()
        yield

"""Files that survive a crash: digests, atomic durable puts, and the lock of the one writer."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from io import FileIO
from pathlib import Path
from typing import Final, Protocol, Self

from eegstore.errors import IncompleteError, LockedError

AHEAD_BYTES = 1 << 26
SYNC_FILE_RANGE_WRITE: Final = 2
HOLDER_TRIES = 50
HOLDER_PAUSE_S = 0.01
_NOTES: Final[ContextVar[list[tuple[Path, str]] | None]] = ContextVar("notes", default=None)


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
        _read_ahead(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    notes = _NOTES.get()
    if notes is not None:
        notes.append((path, digest))
    return digest


@contextlib.contextmanager
def noted() -> Iterator[list[tuple[Path, str]]]:
    """Note path and SHA-256 of each file that is digested in here, by this thread."""
    notes: list[tuple[Path, str]] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


class Place(Protocol):
    """Where a file or a folder lies: a ``Path``, or as much of one as reading a store needs."""

    @property
    def name(self) -> str:
        """The last part of the path."""

    @property
    def parent(self) -> Self:
        """The folder that it is in."""

    def __truediv__(self, name: str) -> Self: ...

    def read_bytes(self) -> bytes:
        """All of the file."""


def read_regular(path: Place) -> bytes:
    """A regular file's bytes; a pipe or a device, which may never answer, is not opened."""
    if isinstance(path, Path) and not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such regular file", str(path))
    return path.read_bytes()


def _read_ahead(descriptor: int) -> None:
    """Let the disk read a file while the processor digests it, where the system can be asked."""
    with contextlib.suppress(AttributeError, OSError):
        os.posix_fadvise(descriptor, 0, AHEAD_BYTES, os.POSIX_FADV_WILLNEED)


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the content of several files, in the order given, as lower-case hex."""
    return digest_json([digest_file(path) for path in paths])


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError, TypeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    found: Callable[[int, int, int, int], int] = function
    return found


def start_sync(descriptor: int, start: int, n_bytes: int) -> None:
    """Let the disk write a range of a file already, where the system can be asked.

    Nothing is durable by that: ``fsync`` then has less to wait for.
    """
    function = _sync_file_range()
    if function is not None:
        function(descriptor, start, n_bytes, SYNC_FILE_RANGE_WRITE)


def fsync_path(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folders(folder: Path) -> None:
    """Make the name of a folder and every name below it durable, whoever made them."""
    fsync_path(folder.parent)
    for path, _, _ in os.walk(folder):
        fsync_path(Path(path))


def make_folder(folder: Path) -> None:
    """Create a folder and its parents durably: each new name is synced in its parent."""
    missing = []
    current = folder
    while not current.exists():
        missing.append(current)
        current = current.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        fsync_path(path.parent)


def move_into_place(temporary: Path, final: Path) -> None:
    """Rename a whole, synced file to its final name, durably."""
    make_folder(final.parent)
    temporary.replace(final)
    fsync_path(final.parent)


def put(
    content: bytes, final: Path, temporary_folder: Path, modified_ns: int | None = None
) -> None:
    """Write a file so that it is there whole or not at all, whatever happens.

    ``modified_ns`` is when it shall say that it was written; now by default.
    """
    temporary = temporary_folder / f"{digest_bytes(os.fsencode(final))[:16]}.tmp"
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        if modified_ns is not None:
            os.utime(file.fileno(), ns=(modified_ns, modified_ns))
        os.fsync(file.fileno())
    move_into_place(temporary, final)


@contextlib.contextmanager
def writer_lock(path: Path) -> Iterator[Callable[[], None]]:
    """Hold the advisory lock of a store's one writer; a dead holder's lock is free.

    The file is never unlinked while it is held: of a lock file that is deleted there can be two
    holders. What is yielded raises where somebody deleted it; call it before each commit.

    Raises
    ------
    LockedError
        Where another process holds it; names its host, pid and start.
    IncompleteError
        By what is yielded, where the path no longer names the file that was locked.
    """
    make_folder(path.parent)
    file = _locked(path)

    def check() -> None:
        if not _names(path, file):
            raise IncompleteError(
                f"{path}: deleted while this build held it, so another may have begun; "
                "run the same command again to resume"
            )

    try:
        yield check
    finally:
        with contextlib.suppress(OSError):  # it is closed all the same, and holds nothing of worth
            file.close()


def _locked(path: Path) -> FileIO:
    """A file that this process alone has locked, with its name in it."""
    while True:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("ab+", buffering=0))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockedError(
                    f"{path}: another writer holds the store ({_holder(file)}); wait for it to end"
                ) from None
            if not _names(path, file):  # it was deleted before it was locked
                continue
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            file.truncate(0)
            file.write(f"host {socket.gethostname()}, pid {os.getpid()}, since {now}\n".encode())
            stack.pop_all()
            return file


def _names(path: Path, file: FileIO) -> bool:
    """Whether a path still names an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _holder(file: FileIO) -> str:
    """What the holder of a locked file says of itself; one that has just begun is waited for."""
    for _ in range(HOLDER_TRIES):
        said = os.pread(file.fileno(), 1024, 0).decode(errors="replace").partition("\n")[0]
        if said and not _is_gone(said):
            return said
        time.sleep(HOLDER_PAUSE_S)
    return said or "just starting"


def _is_gone(holder: str) -> bool:
    """Whether a holder's line is that of an earlier one, a dead process of this machine."""
    named = re.match(r"host (.+), pid (\d{1,9}), since ", holder)
    if named is None or named[1] != socket.gethostname():
        return False
    try:
        os.kill(int(named[2]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, and is somebody else's
        pass
    return False

"""Checks that a store is what was committed: every document, every size, every byte."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from eegstore.arrays import layout_of
from eegstore.attributes import DOCUMENT, ColumnEntry, read_shard_record
from eegstore.disk import digest_file
from eegstore.errors import DamageError
from eegstore.machine import n_cpus
from eegstore.root import build_folder, chunk_path, records_path
from eegstore.store import Store, read_store

ALL = -math.inf  # read every file, whenever it was written
NONE = math.inf
STRANGER = "does not belong to the store; move it away"


@dataclass(frozen=True)
class Damage:
    """A file that is not what was committed."""

    file: str
    problem: str

    @property
    def mendable(self) -> bool:
        """Whether a build makes the file again."""
        return self.problem != STRANGER


@dataclass(frozen=True)
class DataFile:
    """A data file as it was committed; ``size`` is None where only the digest is known."""

    file: str
    size: int | None
    digest: str


def verify(
    path: str | Path,
    *,
    deep: bool = False,
    listener: Callable[[str, int, int], None] | None = None,
) -> list[Damage]:
    """Check a store; an empty list means that all is as it was committed.

    Parameters
    ----------
    path
        The store's folder.
    deep
        Read every byte and compare digests, in place of presence and sizes alone.
    listener
        Called with a data file's path, how many files are checked, and of how many.

    Raises
    ------
    InputError
        Where there is no store.
    IncompleteError
        Where a build was interrupted before its first commit, or while it replaced columns.
    """
    while True:
        try:
            store = read_store(Path(path))
        except DamageError as error:
            return [Damage(DOCUMENT, str(error))]
        store.check_complete()
        found = _damage(store, ALL if deep else NONE, listener)
        # What a build has replaced in the meantime is no damage.
        if store.is_current():
            return found


def _damage(
    store: Store, after: float, listener: Callable[[str, int, int], None] | None
) -> list[Damage]:
    found = [Damage(file, problem) for file, problem in store.document_problems()]
    files: list[DataFile] = []
    for entry in store.attributes.columns:
        try:
            files += data_files(store, entry)
        except DamageError:
            found.append(_records_damage(store, entry))
    for number, damage in enumerate(check_files(store, files, after), 1):
        found += [damage] if damage else []
        if listener:
            listener(files[number - 1].file, number, len(files))
    return found + list(_strangers(store))


def check_entry(store: Store, entry: ColumnEntry, after: float) -> list[Damage]:
    """What is damaged of one committed array; reads the files written at or after a time (ns)."""
    try:
        files = data_files(store, entry)
    except DamageError:
        return [_records_damage(store, entry)]
    return [damage for damage in check_files(store, files, after) if damage]


def data_files(store: Store, entry: ColumnEntry) -> list[DataFile]:
    """The data files of one committed array, its shards in their order.

    Raises
    ------
    DamageError
        Where a wide column's own records of its shards are damaged.
    """
    if entry.kind != "wide":
        return [DataFile(chunk_path(entry.path, len(entry.shape)), None, entry.digest)]
    layout, records = layout_of(store.document(entry.path)), store.shard_records(entry)
    return [
        DataFile(f"{entry.path}/{layout.shard_name(shard)}", *read_shard_record(record.tobytes()))
        for shard, record in enumerate(records)
    ]


def check_files(store: Store, files: Iterable[DataFile], after: float) -> Iterator[Damage | None]:
    """What is wrong with each file, in order; several are read at once."""
    with ThreadPoolExecutor(n_cpus()) as pool:
        yield from pool.map(lambda file: _check(store.folder, file, after), files)


def _check(store: Path, committed: DataFile, after: float) -> Damage | None:
    file = store / committed.file
    try:
        facts = file.stat()
    except OSError:
        facts = None
    if facts is None or not stat.S_ISREG(facts.st_mode):
        return Damage(committed.file, "is missing")
    if committed.size not in (None, facts.st_size):
        return Damage(committed.file, f"has {facts.st_size} bytes, expected {committed.size}")
    if committed.size is not None and facts.st_mtime_ns < after:
        return None
    try:
        if digest_file(file) != committed.digest:
            return Damage(committed.file, "is not what was committed (its digest differs)")
    except OSError as error:
        return Damage(committed.file, f"cannot be read ({error.strerror})")
    return None


def _records_file(entry: ColumnEntry) -> str:
    return chunk_path(records_path(entry.table, entry.name), 2)


def _records_damage(store: Store, entry: ColumnEntry) -> Damage:
    file = _records_file(entry)
    there = (store.folder / file).is_file()
    return Damage(file, "is not what was committed" if there else "is missing")


def _strangers(store: Store) -> Iterator[Damage]:
    """Files that no commit has put there, and no unfinished build either."""
    documents = store.document_files()
    arrays = {document.removesuffix(DOCUMENT) for document in documents}
    known = {DOCUMENT, *documents, *_chunk_files(store)}
    folders = {part for name in known for part in accumulate(name.split("/")[:-1], "{}/{}".format)}
    names = sorted(_listing(store.folder))
    building = build_folder(store.folder).is_dir()  # after the listing: a build's files come later
    for name in names:
        array = "/".join(name.split("/")[:2]) + "/"
        unfinished = building and name.startswith(array) and array not in arrays
        linked_folder = name in folders and (store.folder / name).is_dir()
        if name not in known and not unfinished and not linked_folder:
            yield Damage(name, STRANGER)


def _chunk_files(store: Store) -> Iterator[str]:
    """Every file of values that the root document tells of."""
    for entry in store.attributes.columns:
        if entry.kind == "wide":
            layout = layout_of(store.document(entry.path))
            yield from (f"{entry.path}/{layout.shard_name(n)}" for n in range(layout.n_shards))
            yield _records_file(entry)
        else:
            yield chunk_path(entry.path, len(entry.shape))


def _listing(folder: Path) -> Iterator[str]:
    """Path of every file, and of every link to a folder, that lies in a folder."""
    inside = [""]
    while inside:
        prefix = inside.pop()
        with contextlib.suppress(OSError), os.scandir(folder / prefix) as found:
            for one in found:
                if one.is_dir(follow_symlinks=False):
                    inside.append(f"{prefix}{one.name}/")
                else:
                    yield prefix + one.name

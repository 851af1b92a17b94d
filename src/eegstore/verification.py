"""Checks that a store is what was committed: every document, every size, every byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from eegstore.arrays import layout_of
from eegstore.attributes import DOCUMENT, ColumnEntry
from eegstore.disk import digest_file
from eegstore.errors import DamageError
from eegstore.store import DIGEST_BYTES, Store, open_store, records_path


@dataclass(frozen=True)
class Damage:
    """A file that is not what was committed."""

    file: str
    problem: str


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
        Called with the array's path, how many arrays are checked, and of how many.

    Raises
    ------
    InputError
        Where there is no store.
    """
    try:
        store = open_store(path)
    except DamageError as error:
        return [Damage(DOCUMENT, str(error))]
    found: list[Damage] = []
    entries = store.attributes.columns
    for number, entry in enumerate(entries, 1):
        found += check_entry(store, entry, deep)
        if listener:
            listener(entry.path, number, len(entries))
    return found + list(_strangers(store))


def check_entry(store: Store, entry: ColumnEntry, deep: bool = False) -> list[Damage]:
    """What is damaged of one committed array; ``deep`` reads every byte of a wide one."""
    if entry.kind == "wide":
        return list(_check_wide(store, entry, deep))
    return list(_check_narrow(store, entry))


def _narrow_chunk(path: str, n_dims: int) -> str:
    return "/".join([path, "c", *["0"] * n_dims])


def _check_narrow(store: Store, entry: ColumnEntry) -> Iterator[Damage]:
    chunk = _narrow_chunk(entry.path, len(entry.shape))
    if not (store.path / chunk).is_file():
        yield Damage(chunk, "is missing")
    elif digest_file(store.path / chunk) != entry.digest:
        yield Damage(chunk, "is not what was committed (its digest differs)")


def _check_wide(store: Store, entry: ColumnEntry, deep: bool) -> Iterator[Damage]:
    layout = layout_of(store.document(entry.path))
    try:
        records = store.shard_records(entry)
    except DamageError as error:
        yield Damage(_narrow_chunk(records_path(entry.table, entry.name), 2), str(error))
        return
    for shard, record in enumerate(records):
        name = f"{entry.path}/{layout.shard_name(shard)}"
        file = store.path / name
        size = int.from_bytes(record[DIGEST_BYTES:].tobytes(), "little")
        if not file.is_file():
            yield Damage(name, "is missing")
        elif file.stat().st_size != size:
            yield Damage(name, f"has {file.stat().st_size} bytes, expected {size}")
        elif deep and digest_file(file) != record[:DIGEST_BYTES].tobytes().hex():
            yield Damage(name, "is not what was committed (its digest differs)")


def _strangers(store: Store) -> Iterator[Damage]:
    """Files that no commit has put there."""
    known = {DOCUMENT}
    known |= {f"{group}/{DOCUMENT}" for group in ("trials", "stimuli", "digests")}
    for entry in store.attributes.columns:
        known.add(f"{entry.path}/{DOCUMENT}")
        if entry.kind == "wide":
            records = records_path(entry.table, entry.name)
            layout = layout_of(store.document(entry.path))
            known |= {f"{records}/{DOCUMENT}", _narrow_chunk(records, 2)}
            known |= {f"{entry.path}/{layout.shard_name(n)}" for n in range(layout.n_shards)}
        else:
            known.add(_narrow_chunk(entry.path, len(entry.shape)))
    for file in sorted(store.path.rglob("*")):
        name = file.relative_to(store.path).as_posix()
        if not file.is_dir() and name not in known:
            yield Damage(name, "does not belong to the store")

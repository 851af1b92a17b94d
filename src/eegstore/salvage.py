"""Finds what is sound in a damaged store, so that a build makes again exactly what is not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from eegstore.arrays import layout_of, read_narrow
from eegstore.attributes import (
    DOCUMENT,
    FORMAT,
    NO_SEAL,
    VERSION,
    ColumnEntry,
    StoreAttributes,
    shard_record,
)
from eegstore.disk import digest_bytes, digest_file, read_regular
from eegstore.errors import DamageError, IncompleteError
from eegstore.receipts import Receipt, merged
from eegstore.root import records_path
from eegstore.store import Store, read_store
from eegstore.tables import TABLES, Table
from eegstore.verification import ALL, DataFile, check_files, data_files
from eegstore.wide import values_dtype
from eegstore.work import PlannedColumn, Task


def committed_store(path: Path) -> tuple[Store, bool]:
    """The store as it was committed, and whether its root document says so itself.

    Where that document is lost or was changed, the wide columns are known from their own.

    Raises
    ------
    InputError
        Where the folder holds something else, or a store of a later format.
    """
    try:
        return read_store(path), True
    except (DamageError, IncompleteError):
        return _rebuilt_store(path), False


def _rebuilt_store(path: Path) -> Store:
    documents: dict[str, Any] = {}
    columns = []
    for table in TABLES:
        for folder in sorted((path / table).glob("*/")):
            try:
                entry, found = _rebuilt_column(path, table, folder.name)
            except (OSError, LookupError, TypeError, ValueError, RecursionError, DamageError):
                continue
            columns.append(entry)
            documents |= found
    attributes = StoreAttributes(
        format=FORMAT, version=VERSION, name="", notice="", recipe={}, columns=columns,
        history=[], digest="", seal=NO_SEAL,
    )  # fmt: skip
    root = {
        "attributes": {"eegstore": attributes.model_dump(mode="json")},
        "consolidated_metadata": {"metadata": documents},
    }
    return Store(path, json.dumps(root).encode())


def _rebuilt_column(path: Path, table: Table, name: str) -> tuple[ColumnEntry, dict[str, Any]]:
    """A wide column's entry and documents, as its own folders tell them."""
    places = [f"{table}/{name}", records_path(table, name)]
    documents = {place: json.loads(read_regular(path / place / DOCUMENT)) for place in places}
    column, records = documents.values()
    layout = layout_of(column)
    entry = ColumnEntry(
        table=table,
        name=name,
        kind="wide",
        key=column["attributes"]["eegstore"]["key"],
        digest=digest_bytes(read_narrow(path, places[1], records).tobytes()),
        shape=[layout.n_rows, *layout.row_shape],
        dtype=values_dtype(layout, column["attributes"]),
    )
    return entry, documents


def salvaged_receipts(
    store: Store, damaged: Iterable[tuple[PlannedColumn, ColumnEntry]]
) -> list[Receipt]:
    """Receipts for the sound shards of damaged columns; each of their bytes is read."""
    return merged(
        receipt for column, entry in damaged for receipt in _receipts(store, column, entry)
    )


def _receipts(store: Store, column: PlannedColumn, entry: ColumnEntry) -> Iterator[Receipt]:
    if layout_of(store.document(entry.path)) != column.layout:
        return
    for shard, file in _sound_shards(store, entry):
        rows = column.layout.shard_range(shard)
        facts = {"key": entry.key, "size": file.size, "digest": file.digest}
        yield {
            "task": Task(column.table, shard, *rows, ()).name,
            "shard": shard,
            "rows": list(rows),
            "columns": {column.path: facts},
        }


def _sound_shards(store: Store, entry: ColumnEntry) -> Iterator[tuple[int, DataFile]]:
    try:
        files = data_files(store, entry)
    except DamageError:
        files = _files_of_lost_records(store, entry)
    for shard, file, damage in zip(count(), files, check_files(store, files, ALL), strict=False):
        if damage is None:
            yield shard, file


def _files_of_lost_records(store: Store, entry: ColumnEntry) -> list[DataFile]:
    """The shards themselves, where they are what the lost records must have said."""
    layout = layout_of(store.document(entry.path))
    names = [f"{entry.path}/{layout.shard_name(shard)}" for shard in range(layout.n_shards)]
    if not all((store.folder / name).is_file() for name in names):
        return []
    files = [
        DataFile(name, (store.folder / name).stat().st_size, digest_file(store.folder / name))
        for name in names
    ]
    records = [shard_record(file.size or 0, file.digest) for file in files]
    return files if digest_bytes(b"".join(records)) == entry.digest else []

"""Makes a build visible: narrow columns, metadata documents, and the root's document last."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore.answers import Pairs, Splits, comes_with, further
from eegstore.attributes import (
    DOCUMENT,
    FORMAT,
    NO_SEAL,
    ROW_DIMENSION,
    SHARD_RECORD_BYTES,
    VERSION,
    ColumnEntry,
    HistoryEntry,
    StoreAttributes,
    shard_record,
    store_digest,
)
from eegstore.disk import digest_bytes, put, read_regular
from eegstore.plan import row_dims
from eegstore.root import build_folder, chunk_path, records_path
from eegstore.scan import (
    Scan,
    made_from,
    pairing_plugin,
    pairing_reads,
    producer,
    split_plugin,
)
from eegstore.store import Store
from eegstore.tables import TABLES, Table
from eegstore.work import PlannedColumn


@dataclass(frozen=True, eq=False)
class NarrowColumn:
    """A column, a coordinate or a state that is written whole.

    ``inputs`` are the paths of the columns that it follows from; ``facts`` what is recorded with
    it beside these, such as the input's own files.
    """

    table: Table
    name: str
    kind: Literal["narrow", "coordinate", "state"]
    dims: tuple[str, ...]
    values: NDArray[Any]
    producer: Mapping[str, Any]
    units: str = ""
    inputs: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Path of the array in the store."""
        return f"{self.table}/{self.name}"


def narrow_columns(
    found: Scan,
    columns: Iterable[PlannedColumn],
    pairs: Pairs,
    splits: Splits,
    valid: NDArray[np.bool_],
) -> Iterator[NarrowColumn]:
    """Every narrow column and coordinate of a build."""
    trials, recipe = found.trials, found.recipe
    source = producer("source", found.source, recipe.source, found.source_content)
    pairing = producer("pairing", pairing_plugin(found), recipe.pairing) if found.stimuli else {}
    inputs, facts = _inputs(found), _facts(found)
    splitter = split_plugin(found)
    given: list[tuple[Table, str, NDArray[Any], Mapping[str, Any]]] = [
        ("trials", "label", trials.label, source)
    ]
    given += [("trials", name, values, pairing) for name, values in _paired(pairs)]
    splitting = producer("split", splitter, recipe.split) if splitter else {}
    given += [("trials", name, values, splitting) for name, values in _split(splits)]
    given.append(("trials", "valid", valid, source))
    if trials.stimulus_key is not None:
        given.append(("trials", "stimulus_key", trials.stimulus_key, source))
    given += [("trials", name, values, source) for name, values in trials.columns.items()]
    if found.stimuli is not None:
        stimuli, content = found.stimuli, found.provider_content
        provider = producer("stimuli", found.provider, recipe.stimuli, content)
        own = ("image_path", "label", "concept", "caption", "content_id")
        given += [("stimuli", name, getattr(stimuli, name), provider) for name in own]
        given += [("stimuli", name, values, provider) for name, values in stimuli.columns.items()]
    for table, name, values, made_by in given:
        path, dims = f"{table}/{name}", (ROW_DIMENSION[table],)
        follows = inputs.get(f"{table}/{comes_with(name) or name}", ()) if table == "trials" else ()
        yield NarrowColumn(
            table, name, "narrow", dims, values, made_by,
            inputs=follows, facts=facts.get(path, {}),
        )  # fmt: skip
    yield from _coordinates(columns)


def _paired(pairs: Pairs) -> Iterator[tuple[str, NDArray[Any]]]:
    """The columns of trials that a pairing's answer is stored as."""
    yield "stimulus", pairs.stimulus
    yield "score", pairs.score
    if pairs.more is not None and pairs.more_score is not None:
        for number, (more, score) in enumerate(zip(pairs.more.T, pairs.more_score.T, strict=True)):
            yield further("stimulus", number + 2), np.ascontiguousarray(more)
            yield further("score", number + 2), np.ascontiguousarray(score)


def _split(splits: Splits) -> Iterator[tuple[str, NDArray[Any]]]:
    """The columns of trials that a split's answer is stored as."""
    yield "split", splits.split
    if (splits.fold >= 0).any():
        yield "fold", splits.fold


def _inputs(found: Scan) -> dict[str, tuple[str, ...]]:
    """The columns that those which a build itself gives to trials follow from."""
    paired: tuple[str, ...] = ("trials/valid",)
    if found.stimuli is not None:
        paired += ("stimuli/content_id", *pairing_reads(found))
    return {
        "trials/valid": ("trials/eeg",),
        "trials/stimulus": paired,
        "trials/score": paired,
        "trials/split": ("trials/stimulus",),
    }


def _facts(found: Scan) -> dict[str, Mapping[str, Any]]:
    """What is recorded with some columns beside their producers."""
    if found.stimuli is None:
        return {}
    made = made_from(pairing_plugin(found))
    return {
        "stimuli/content_id": {"files": found.provider_content.listed},
        "trials/stimulus": {} if made is None else {"made_from": made},
    }


def _coordinates(columns: Iterable[PlannedColumn]) -> Iterator[NarrowColumn]:
    seen: set[tuple[Table, str]] = set()
    for column in columns:
        made_by = column.attributes["eegstore"]["producer"]
        for dim, given in column.spec.coords.items():
            if (column.table, dim) in seen:
                continue
            seen.add((column.table, dim))
            values = np.asarray(given)
            units = "s" if dim == "time" else ""
            yield NarrowColumn(column.table, dim, "coordinate", (dim,), values, made_by, units)


class Commit:
    """The next state of a store, gathered in memory and then put on the disk in order."""

    def __init__(self, store: Path, reused: Iterable[ColumnEntry]) -> None:
        from eegstore.documents import Documents  # it takes zarr, and that a quarter of a second

        self._store = store
        self._documents = Documents()
        self._chunks: dict[str, bytes] = {}
        self.columns: list[ColumnEntry] = []
        for group in (*TABLES, "digests"):
            self._documents.add_group(group)
        for entry in reused:
            self._keep(entry)

    def _keep(self, entry: ColumnEntry) -> None:
        """A committed array that stays, its documents as they are."""
        paths = [entry.path]
        if entry.kind == "wide":
            paths.append(records_path(entry.table, entry.name))
        for path in paths:
            self._documents.add_copy(path, read_regular(self._store / path / DOCUMENT))
        self.columns.append(entry)

    def add_wide(self, column: PlannedColumn, records: NDArray[np.uint8]) -> None:
        """A wide column whose shards are all in place; ``records`` are their digests and sizes."""
        layout = column.layout
        self._documents.add_wide(column.path, layout, row_dims(column), column.attributes)
        path = records_path(column.table, column.name)
        dims = (f"{column.table}_shard", "byte")
        self._add_chunk(path, self._documents.add_narrow(path, records, dims, {}), 2)
        shape = [layout.n_rows, *layout.row_shape]
        digest = digest_bytes(records.tobytes())
        self.columns.append(
            ColumnEntry(
                table=column.table,
                name=column.name,
                kind="wide",
                key=column.key,
                digest=digest,
                shape=shape,
                dtype=column.spec.dtype,
            )
        )

    def add_narrow(self, column: NarrowColumn, keys: Mapping[str, str]) -> None:
        """What is written whole; ``keys`` are those of all columns, by path."""
        key = keys[column.path]
        inputs = {path: keys[path] for path in column.inputs}
        facts: dict[str, Any] = {"key": key, "producer": column.producer, "inputs": inputs}
        attributes: dict[str, Any] = {"eegstore": facts | dict(column.facts)}
        if column.units:
            attributes["units"] = column.units
        content = self._documents.add_narrow(column.path, column.values, column.dims, attributes)
        self._add_chunk(column.path, content, column.values.ndim)
        dtype = "string" if column.values.dtype.kind == "U" else column.values.dtype.name
        self.columns.append(
            ColumnEntry(
                table=column.table,
                name=column.name,
                kind=column.kind,
                key=key,
                digest=digest_bytes(content),
                shape=list(column.values.shape),
                dtype=dtype,
            )
        )

    def _add_chunk(self, path: str, content: bytes, n_dims: int) -> None:
        self._chunks[chunk_path(path, n_dims)] = content

    def put_arrays(self) -> None:
        """Put all but the root's document on the disk: chunks, arrays' documents, groups'."""
        for path, content in (self._chunks | self._documents.files()).items():
            final = self._store / path
            if not final.is_file() or final.read_bytes() != content:
                put(content, final, build_folder(self._store))

    def put_root(
        self,
        name: str,
        notice: str,
        recipe: dict[str, Any],
        history: Sequence[HistoryEntry],
        order: Sequence[str],
    ) -> StoreAttributes:
        """Put the root's document on the disk, which makes all the rest visible.

        ``order`` is that of the columns' paths. It is the recipe's, whatever was built before: an
        export concatenates features in it.
        """
        columns = sorted(
            self.columns,
            key=lambda entry: (TABLES.index(entry.table), order.index(entry.path)),
        )
        attributes = StoreAttributes(
            format=FORMAT,
            version=VERSION,
            name=name,
            notice=notice,
            recipe=recipe,
            columns=columns,
            history=list(history),
            digest=store_digest(columns),
            seal=NO_SEAL,
        )
        root = self._documents.sealed_root(attributes)
        put(root, self._store / DOCUMENT, build_folder(self._store))
        return attributes


def withdraw(store: Path, committed: Store, entries: Sequence[ColumnEntry]) -> Store:
    """Commit the removal of columns; their files are whoever's who needs them."""
    if not entries:
        return committed
    before = committed.attributes
    kept = [entry for entry in before.columns if entry not in entries]
    commit = Commit(store, kept)
    commit.put_arrays()
    order = [entry.path for entry in kept]
    commit.put_root(before.name, before.notice, before.recipe, before.history, order)
    return Store(store, (store / DOCUMENT).read_bytes())


def delete(store: Path, entries: Iterable[ColumnEntry]) -> None:
    """Delete the files of columns whose removal is committed."""
    for entry in entries:
        for path in (entry.path, records_path(entry.table, entry.name)):
            folder = store / path
            if folder.is_dir() and not (folder.is_symlink() or folder.parent.is_symlink()):
                shutil.rmtree(folder)


def shard_records(
    receipts: Iterable[Mapping[str, Any]], column: PlannedColumn
) -> NDArray[np.uint8]:
    """uint8, (shard, byte): SHA-256 and size of each shard of a column, from the receipts."""
    records = np.zeros((column.layout.n_shards, SHARD_RECORD_BYTES), dtype=np.uint8)
    for receipt in receipts:
        vouched = receipt["columns"].get(column.path)
        if vouched and vouched["key"] == column.key:
            content = shard_record(vouched["size"], vouched["digest"])
            records[receipt["shard"]] = np.frombuffer(content, dtype=np.uint8)
    return records

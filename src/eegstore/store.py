"""A committed store, opened for reading: two tables of columns, checked as they are touched."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from eegstore import registry
from eegstore.arrays import layout_of, read_narrow, row_numbers
from eegstore.attributes import DIGEST_BYTES, DOCUMENT, ColumnEntry, StoreAttributes
from eegstore.calls import check_images, given, guarded
from eegstore.counts import KEYS
from eegstore.disk import Place, digest_bytes, read_regular
from eegstore.errors import DamageError, IncompleteError, InputError
from eegstore.makers import remedied
from eegstore.part import Part
from eegstore.recipe import parse_recipe
from eegstore.remote import location, together
from eegstore.root import REMEDY, committed_documents, read_root, records_path
from eegstore.shards import Layout
from eegstore.tables import ColumnSpec, Stimuli, Table
from eegstore.wide import WideArray, wide_array

if TYPE_CHECKING:
    import xarray

TRIALS_COLUMNS: Final = ("eeg", "label", "stimulus", "score", "split", "valid")


class StoredColumn:
    """One column of a table: an array whose first axis is the row.

    Index it with an integer, a slice, or an array of integers or booleans; each returns numpy
    values. A negative row is refused: an unpaired trial's stimulus is -1, which must not read as
    the last image.
    """

    def __init__(self, store: Store, entry: ColumnEntry) -> None:
        self._store = store
        self.entry = entry
        self._document = store.document(entry.path)

    @property
    def attrs(self) -> dict[str, Any]:
        """The array's attributes: unit, producer, keys of its inputs; not how it is stored."""
        attributes = self._document["attributes"]
        return {key: value for key, value in attributes.items() if key not in KEYS}

    @functools.cached_property
    def spec(self) -> ColumnSpec:
        """What one row is, with its coordinates."""
        dims = tuple(self._document["dimension_names"][1:])
        table = getattr(self._store, self.entry.table)
        return ColumnSpec(
            dims=dims,
            shape=tuple(self.entry.shape[1:]),
            dtype="str" if self.entry.dtype == "string" else self.entry.dtype,
            coords={dim: table.coords[dim] for dim in dims if dim in table.coords},
            units=self.attrs.get("units", ""),
            attrs={key: value for key, value in self.attrs.items() if key != "units"},
        )

    @functools.cached_property
    def values(self) -> WideArray | NDArray[Any]:
        """Where the rows are read from."""
        if self.entry.kind != "wide":
            return read_narrow(self._store.path, self.entry.path, self._document, self.entry.digest)
        sizes = self._store.shard_records(self.entry)[:, DIGEST_BYTES:].copy().view("<i8")[:, 0]
        folder = self._store.path / self.entry.path
        attributes = self._document["attributes"]
        return wide_array(folder, layout_of(self._document), attributes, sizes, self.entry.key)

    @property
    def layout(self) -> Layout | None:
        """Where the rows of a wide column lie; None for a narrow one."""
        values = self.values
        return values.layout if isinstance(values, WideArray) else None

    def __len__(self) -> int:
        return self.entry.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1 and isinstance(self.values, WideArray):
                return self.values.read(start, max(start, stop))
            rows = np.arange(start, stop, step)
        if isinstance(rows, tuple):
            raise IndexError(f"{self.entry.path}: takes one index, of rows; index what it returns")
        if np.ndim(rows) == 0 and not isinstance(rows, (bool, np.bool_)):
            row = self._row_number(rows)
            values = self.values
            return values.row(row) if isinstance(values, WideArray) else values[row]
        return self.take(row_numbers(self.entry.path, np.atleast_1d(rows), len(self)))

    def _row_number(self, row: Any) -> int:
        if isinstance(row, int) and 0 <= row < len(self):
            return row  # the common case, in a fraction of the time
        return int(row_numbers(self.entry.path, np.atleast_1d(row), len(self))[0])

    def take(
        self,
        rows: NDArray[np.int64],
        part: Part | None = None,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """The rows of these numbers, which are not checked; see ``ShardedArray.take``."""
        values = self.values
        if not isinstance(values, np.ndarray):
            return values.take(rows, part, out)
        found = values[rows]
        if out is None:
            return found
        out[...] = found
        return out


class TableView(Mapping[str, StoredColumn]):
    """One table of a store: its columns by name."""

    def __init__(self, store: Store, table: Table) -> None:
        self._store = store
        self._table = table
        self._columns = {
            entry.name: StoredColumn(store, entry)
            for entry in store.attributes.columns
            if entry.table == table and entry.kind in ("wide", "narrow")
        }

    def __getitem__(self, name: str) -> StoredColumn:
        if name not in self._columns:
            raise KeyError(f"{self._table} has no column {name!r}; it has {', '.join(self)}")
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"<{self._table}: {self.n_rows:,} rows of {', '.join(self)}>"

    @property
    def n_rows(self) -> int:
        """Number of rows; 0 for the stimuli of a store without images."""
        return next((len(column) for column in self._columns.values()), 0)

    @functools.cached_property
    def coords(self) -> dict[str, list[Any]]:
        """Coordinate values by axis name."""
        return {
            entry.name: read_narrow(
                self._store.path, entry.path, self._store.document(entry.path), entry.digest
            ).tolist()
            for entry in self._store.attributes.columns
            if entry.table == self._table and entry.kind == "coordinate"
        }

    def to_xarray(self) -> xarray.Dataset:
        """The table as a lazy, labelled ``xarray.Dataset`` (extra ``xarray``)."""
        try:
            import xarray
        except ImportError:
            raise InputError(
                "to_xarray needs xarray; run: pip install 'eegstore[xarray]'"
            ) from None
        table: xarray.Dataset = xarray.open_zarr(self._store.folder, group=self._table)
        return table


class Store:
    """A committed store; see ``open_store``.

    Attributes
    ----------
    path
        The store's folder, or where it is behind a URL.
    attributes
        All that the root document records.
    trials, stimuli
        The two tables.
    """

    def __init__(self, path: Place, root: bytes) -> None:
        self.path = path
        self._root = root
        document = json.loads(root)
        self._documents: dict[str, Any] = document["consolidated_metadata"]["metadata"]
        self.attributes = StoreAttributes.model_validate(document["attributes"]["eegstore"])
        self.trials = TableView(self, "trials")
        self.stimuli = TableView(self, "stimuli")

    def __repr__(self) -> str:
        return f"<eegstore.Store {self.path} {self.digest[:12]}>"

    @property
    def folder(self) -> Path:
        """The store's folder.

        Raises
        ------
        InputError
            Where it lies behind a URL.
        """
        if not isinstance(self.path, Path):
            raise InputError(f"{self.path}: a store behind a URL is only read; copy it to a folder")
        return self.path

    def document(self, path: str) -> dict[str, Any]:
        """The Zarr document of a group or an array."""
        document: dict[str, Any] = self._documents[path]
        return document

    def is_current(self) -> bool:
        """Whether no commit has replaced the root document since the store was opened."""
        try:
            return (self.path / DOCUMENT).read_bytes() == self._root
        except FileNotFoundError:
            return True

    def check_complete(self) -> None:
        """Refuse a store while columns that every store has are being replaced.

        Raises
        ------
        IncompleteError
            Names the columns.
        """
        missing = [name for name in TRIALS_COLUMNS if name not in self.trials]
        if missing:
            raise IncompleteError(
                f"{self.path}: a build is replacing {', '.join(missing)}, or was interrupted in "
                "it; run it again to resume"
            )

    def document_files(self) -> list[str]:
        """The files of all documents but the root's."""
        return [f"{path}/{DOCUMENT}" for path in self._documents]

    def document_problems(self) -> Iterator[tuple[str, str]]:
        """File and problem of each document, the root's aside, that is not as it was committed."""
        committed = committed_documents(self._root)
        problems = together(self.path, self._document_problem, committed.items())
        for file, problem in zip(committed, problems, strict=True):
            if problem:
                yield file, problem

    def _document_problem(self, document: tuple[str, bytes]) -> str | None:
        file, committed = document
        try:
            found = read_regular(self.path / file)
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return None if found == committed else "was changed since the commit"

    def shard_records(self, entry: ColumnEntry) -> NDArray[np.uint8]:
        """uint8, (shard, byte): SHA-256 and size of each shard of a wide column.

        Raises
        ------
        DamageError
            Where the records are not those that the root's digest of the column was made from.
        """
        path = records_path(entry.table, entry.name)
        records = read_narrow(self.path, path, self.document(path))
        if digest_bytes(records.tobytes()) != entry.digest:
            raise DamageError(
                f"{self.path}: {path} is not what was committed; open the store again"
            )
        return records

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.attributes.name

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return self.attributes.digest

    @property
    def recipe(self) -> dict[str, Any]:
        """The whole recipe."""
        return self.attributes.recipe

    @property
    def notice(self) -> str:
        """What every output repeats, such as that the EEG is synthetic."""
        return self.attributes.notice

    @functools.cached_property
    def splits(self) -> dict[str, int]:
        """Number of trials in each split."""
        names, counts = np.unique(self.trials["split"][:], return_counts=True)
        return {str(name): int(count) for name, count in zip(names, counts, strict=True)}

    @functools.cached_property
    def folds(self) -> dict[int, int]:
        """Number of trials in each fold of a cross-validation; empty where there are none."""
        if "fold" not in self.trials:
            return {}
        folds, counts = np.unique(self.trials["fold"][:], return_counts=True)
        found = zip(folds.tolist(), counts.tolist(), strict=True)
        return {fold: count for fold, count in found if fold >= 0}

    @property
    def made_from(self) -> tuple[str, ...]:
        """What the pairing says decided the pairs; empty where nothing did, or it does not say.

        ``stimulus_key``, ``label``, or columns such as ``trials/ridge``.
        """
        facts = self.trials["stimulus"].attrs["eegstore"]
        return tuple(facts.get("made_from", ()))

    @functools.cached_property
    def _provider(self) -> Any:
        recipe = parse_recipe(self.recipe, f"{self.path}: recipe")
        if recipe.stimuli is None:
            raise InputError(f"{self.path}: the store has no stimuli, so no images to read")
        section, folder = recipe.stimuli, Path(self.attributes.history[-1].folder)
        with remedied(lambda: [self.stimuli["content_id"].attrs["eegstore"]["producer"]]):
            provider = registry.create("stimuli", section.plugin, section.options, folder)
        scanned = guarded("stimuli", provider, provider.scan)
        found = given("stimuli", provider, "scan()", scanned, Stimuli)
        if not np.array_equal(found.content_id, self.stimuli["content_id"][:]):
            raise InputError(
                f"{self.path}: the images are not those of the build (read from {folder})"
            )
        return provider

    def image(self, stimulus: int) -> NDArray[np.uint8]:
        """uint8, (y, x, 3): the image of a stimulus row, read from the provider's own files.

        Raises
        ------
        InputError
            Where the files are no longer where the build read them, or have changed; or the plugin
            that reads them is not installed: names the distribution that has it.
        PluginError
            Where the plugin fails, or gives no image.
        """
        provider, row = self._provider, operator.index(stimulus)
        row_numbers("stimuli", [row], self.stimuli.n_rows)
        read = guarded("stimuli", provider, provider.read, row, row + 1)
        return check_images(provider, row, row + 1, read)[0]


def open_store(path: str | Path, storage_options: Mapping[str, Any] | None = None) -> Store:
    """Open a committed store for reading.

    Parameters
    ----------
    path
        The store's folder, or a URL such as ``s3://bucket/s.zarr`` (extra ``remote``).
    storage_options
        How a URL is reached, for ``obstore.store.from_url``; what is not said is taken from the
        environment (``AWS_ACCESS_KEY_ID``, …).

    Raises
    ------
    InputError, IncompleteError, DamageError
        Where it is no store, is not finished, or its metadata is damaged.
    """
    store = location(path, storage_options)
    while True:
        opened = read_store(store)
        problems = list(opened.document_problems())
        if not problems:
            break
        # A commit replaces the root, and only then what the old root named.
        if opened.is_current():
            file, problem = problems[0]
            raise DamageError(f"{store}: {file} {problem}; {REMEDY}")
    opened.check_complete()
    return opened


def read_store(path: Place) -> Store:
    """A store as its root document says that it is; its other documents are not read."""
    try:
        return Store(path, read_root(path))
    except ValidationError as error:
        raise DamageError(f"{path}: {DOCUMENT}: {error.errors()[0]['msg']}; {REMEDY}") from None

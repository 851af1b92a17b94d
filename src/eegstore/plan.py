"""Decides what a build has to compute: columns, their keys and layouts, and the tasks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from eegstore import registry
from eegstore.answers import comes_with
from eegstore.attributes import FORMAT, ROW_DIMENSION
from eegstore.calls import given, guarded
from eegstore.counts import Counts
from eegstore.disk import digest_json
from eegstore.errors import PluginError, RecipeError
from eegstore.narrow import narrow_keys
from eegstore.protocols import Fitted
from eegstore.readable import (
    PAIRED,
    Extraction,
    Known,
    refuse_pixels,
    scanned,
    unreadable,
)
from eegstore.scan import (
    Scan,
    content_of,
    eeg_counts,
    eeg_spec,
    pairing_reads,
    plugin_key,
    producer,
    scanned_columns,
)
from eegstore.shards import (
    CHUNK_BYTES,
    SHARD_BYTES,
    Layout,
    effective_codec,
    rows_holding,
    rows_near,
)
from eegstore.tables import (
    COLUMN_NAME,
    RESERVED_STIMULI,
    RESERVED_TRIALS,
    ColumnSpec,
    Table,
    is_answered,
)
from eegstore.work import PlannedColumn, Task, state_of

# A stimulus' row is small but its image is not: about 64 MB of decoded images a task.
STIMULI_SHARD_ROWS: Final = 512
MAX_ROW_BYTES: Final = 1 << 30
NOT_FITTED: Final[Mapping[str, Any]] = {}
NO_AXES: Final = ColumnSpec(dims=(), shape=(), dtype="str")


def shard_rows(table: Table, found: Scan) -> int:
    """Rows a shard: the same for every wide column of a table, whatever is added later."""
    usual = (
        STIMULI_SHARD_ROWS
        if table == "stimuli"
        else rows_near(SHARD_BYTES, eeg_spec(found.trials).row_bytes)
    )
    return min(usual, rows_holding(found.n_rows[table]))


def _layout(table: Table, spec: ColumnSpec, found: Scan, dtype: str) -> Layout:
    store = found.recipe.store
    rows = shard_rows(table, found)
    row_bytes = math.prod(spec.shape) * np.dtype(dtype).itemsize
    single = store.random and store.codec != "raw"
    return Layout(
        n_rows=found.n_rows[table],
        row_shape=spec.shape,
        dtype=dtype,
        shard_rows=rows,
        chunk_rows=1 if single else min(rows_near(CHUNK_BYTES, row_bytes), rows),
        codec=effective_codec(store.codec, dtype),
    )


def stored_spec(column: str, spec: ColumnSpec, eeg: ColumnSpec) -> ColumnSpec:
    """The spec with axis names that are unique in the table.

    An axis that is the EEG's own keeps its name; any other is prefixed with the column's.
    """
    lengths = dict(zip(eeg.dims, eeg.shape, strict=True))

    def stored_name(dim: str, length: int) -> str:
        given = spec.coords.get(dim)
        same = given is None or list(given) == list(eeg.coords.get(dim, ()))
        return dim if lengths.get(dim) == length and same else f"{column}_{dim}"

    names = {dim: stored_name(dim, n) for dim, n in zip(spec.dims, spec.shape, strict=True)}
    return replace(
        spec,
        dims=tuple(names.values()),
        coords={names[dim]: list(values) for dim, values in spec.coords.items()},
    )


def _planned(
    found: Scan, table: Table, name: str, extract: int, reads: Mapping[str, str],
    spec: ColumnSpec, origin: tuple[dict[str, Any], str], counts: Counts | None = None,
    phase: int = 0, fitted: Mapping[str, Any] = NOT_FITTED,
) -> PlannedColumn:  # fmt: skip
    """A column; ``reads`` maps each input to its key, ``origin`` is its producer and its key.

    ``fitted`` is what it is fitted to, as its attributes record it; empty where it is not.
    """
    dtype = spec.dtype if counts is None else "int16"
    layout = _layout(table, spec, found, dtype)
    store = found.recipe.store
    # Any column of trials follows from the EEG too: which rows there are, and which are invalid.
    rows = found.source_key if table == "trials" else ""
    written = [FORMAT, store.codec, store.random, layout.options, dtype]
    learnt = {"fitted": dict(fitted)} if fitted else {}
    key = digest_json([origin[1], dict(reads), rows, *written, *learnt.values()])
    attributes = {
        **spec.attrs,
        **(counts.attributes if counts else {}),
        "units": spec.units,
        "eegstore": {"key": key, "producer": origin[0], "inputs": dict(reads), **learnt},
    }
    stored = stored_spec(name, spec, eeg_spec(found.trials) if table == "trials" else NO_AXES)
    return PlannedColumn(
        table, name, extract, tuple(reads), stored, key, layout, attributes, phase,
        bool(fitted), tuple(fitted.get("inputs", ())),
    )  # fmt: skip


def plan_columns(found: Scan) -> tuple[PlannedColumn, ...]:
    """Every wide column of the recipe, each after those that it reads.

    Raises
    ------
    RecipeError
        Where a column is named twice, reads what is not there, or reads itself through others.
    """
    eeg = eeg_spec(found.trials)
    made_by = producer("source", found.source, found.recipe.source, found.source_content)
    source = (made_by, found.source_key)
    counts = eeg_counts(found) if found.recipe.store.dtype == "int16" else None
    planned = [_planned(found, "trials", "eeg", -1, {}, eeg, source, counts)]
    planned[0].attributes["eegstore"]["files"] = found.source_content.listed
    known = scanned(found)
    known.add(("trials", "eeg"), eeg, planned[0].key)
    waiting = _extractors(found)
    while waiting:
        ready = [one for one in waiting if known.has_all(one)]
        if not ready:
            raise unreadable(found, waiting, known)
        # What is fitted waits for the split, and that for the columns that the pairing reads.
        ready = [one for one in ready if not known.phase(one)] or ready
        for one in ready:
            column, spec = _extracted(found, one, known, planned)
            planned.append(column)
            known.add((one.table, one.name), spec, column.key, column.phase)
        waiting = [one for one in waiting if one not in ready]
    _refuse_late_pairing(found, planned)
    _refuse_taken_axes(found, planned)
    return tuple(planned)


def _extracted(
    found: Scan, one: Extraction, known: Known, planned: Iterable[PlannedColumn]
) -> tuple[PlannedColumn, ColumnSpec]:
    """The column of an extractor whose inputs are all known, and its spec as it was described."""
    section, phase = found.recipe.extract[one.number], known.phase(one)
    inputs = {name: known.specs[place] for name, place in one.places.items()}
    spec = _described(one.plugin, inputs, section.timeout_s)
    keys = dict(known.keys)
    if phase:  # every column that the pairing may read is planned by now
        narrow = narrow_keys(found, planned)
        keys |= {("trials", name): narrow["trials", _kept_with(name)] for name in PAIRED}
    places, fitted = one.places, dict[str, Any]()
    if one.is_fitted:
        fitted = {"split": "train", "key": keys["trials", "split"]}
        also = {name: keys[places[name]] for name in one.fit_reads}
        fitted |= {"inputs": also} if also else {}
    content = content_of("extractor", one.plugin, section)
    origin = (
        producer("extractor", one.plugin, section, content),
        plugin_key("extractor", one.plugin, section, content),
    )
    reads = {name: keys[places[name]] for name in one.reads}
    column = _planned(
        found, one.table, one.name, one.number, reads, spec, origin, None, phase, fitted
    )
    return column, spec


def _kept_with(name: str) -> str:
    """The column of trials that always has a key, with which the named one is given."""
    return comes_with(name) or name


def _refuse_late_pairing(found: Scan, columns: Iterable[PlannedColumn]) -> None:
    """A pairing cannot read what follows from the split, which follows from the pairing."""
    reads = pairing_reads(found)
    for column in columns:
        if column.phase and column.path in reads:
            why = "is fitted on the split train" if column.is_fitted else "follows from the pairs"
            raise RecipeError(
                f"[pairing] reads {column.path}, which {why}, and the split follows from the "
                "pairing: a cycle; pair by a column that is not fitted"
            )


def _described(plugin: Any, inputs: Mapping[str, ColumnSpec], limit_s: float | None) -> ColumnSpec:
    """An extractor's spec, where it is one that a column can be made of."""
    rows = getattr(plugin, "block_rows", None)
    if rows is not None and (type(rows) is not int or rows < 1):
        raise PluginError(
            f"extractor {plugin.name!r}: block_rows is {rows!r}, expected a whole number of at "
            "least 1, or None"
        )
    spec = guarded("extractor", plugin, plugin.describe, inputs, limit_s=limit_s)
    spec = given("extractor", plugin, "describe()", spec, ColumnSpec)
    if spec.dtype == "str" or 0 in spec.shape or min(spec.shape, default=1) < 0:
        raise PluginError(
            f"extractor {plugin.name!r}: describe() gave {spec.dtype} {spec.shape}, "
            "expected numbers and lengths of at least 1"
        )
    if spec.row_bytes > MAX_ROW_BYTES:
        raise PluginError(
            f"extractor {plugin.name!r}: describe() gave {spec.dtype} {spec.shape}, "
            "expected rows of at most 1 GiB"
        )
    return spec


def _refuse_taken_axes(found: Scan, columns: Iterable[PlannedColumn]) -> None:
    """A coordinate is an array of its table too: it cannot have a column's name."""
    columns = list(columns)
    names = set(scanned_columns(found)) | {(column.table, column.name) for column in columns}
    names |= {(column.table, column.state) for column in columns if column.is_fitted}
    for column in columns:
        for dim in column.spec.coords:
            if (column.table, dim) in names:
                raise RecipeError(
                    f"the axis {dim!r} of {column.path} and a column of {column.table} have one "
                    'name; give the column another with as = "…"'
                )


def _extractors(found: Scan) -> list[Extraction]:
    """What each ``[[extract]]`` section asks for."""
    extractors: list[Extraction] = []
    taken = {"trials": RESERVED_TRIALS, "stimuli": RESERVED_STIMULI}
    for table, name in scanned_columns(found):
        taken[table] = taken[table] | {name}
    for number, section in enumerate(found.recipe.extract):
        where = f"[[extract]] {number} ({section.plugin})"
        plugin = registry.create("extractor", section.plugin, section.options, found.folder, where)
        if plugin.table == "stimuli" and found.stimuli is None:
            raise RecipeError(f"{where}: reads images, but the recipe has no [stimuli]")
        _refuse_missing_device(where, plugin)
        name = section.column
        names = {name, state_of(name)} if isinstance(plugin, Fitted) else {name}
        same = sorted(names & taken[plugin.table])
        same += [name] if is_answered(plugin.table, name) else []
        if same or not COLUMN_NAME.fullmatch(name):
            raise RecipeError(
                f"{where}: {plugin.table} has a column {(same or [name])[0]!r} already; "
                'give this one another name with as = "…"'
            )
        taken[plugin.table] = taken[plugin.table] | names
        extractors.append(Extraction.of(number, name, plugin))
        refuse_pixels(extractors[-1])
    return extractors


def _refuse_missing_device(where: str, plugin: Any) -> None:
    """Refuse an extractor that wants a device which torch does not see, before anything runs."""
    device = getattr(plugin, "device", "cpu")
    if not isinstance(device, str) or not device.startswith("cuda"):
        return
    try:
        import torch

        found = torch.cuda.device_count()
    except ImportError:
        found = 0
    known = ["cuda", *(f"cuda:{number}" for number in range(found))]
    if not found or device not in known:
        raise RecipeError(
            f"{where}: device is {device!r}, but torch sees {found} CUDA devices; "
            'set device = "cpu", or build on a machine that has it'
        )


def make_tasks(
    found: Scan, columns: Iterable[PlannedColumn], receipts: Iterable[Mapping[str, Any]]
) -> tuple[Task, ...]:
    """The row ranges where columns are missing, images first: models take longest to load.

    Parameters
    ----------
    found
        The scan.
    columns
        The columns to compute.
    receipts
        What vouches for the shards that are there.
    """
    done = {(path, receipt["shard"]) for receipt in receipts for path in receipt["columns"]}
    wanted, tasks = list(columns), list[Task]()
    tables: tuple[Table, ...] = ("stimuli", "trials")
    for phase, table in itertools.product(sorted({one.phase for one in wanted}), tables):
        rows, n_rows = shard_rows(table, found), found.n_rows[table]
        for shard in range(-(-n_rows // rows)):
            missing = tuple(
                column.name
                for column in wanted
                if (column.table, column.phase) == (table, phase)
                and (column.path, shard) not in done
            )
            if missing:
                start = shard * rows
                tasks.append(Task(table, shard, start, min(start + rows, n_rows), missing, phase))
    return tuple(tasks)


def row_dims(column: PlannedColumn) -> tuple[str, ...]:
    """Names of all axes of a wide column, the row's first."""
    return (ROW_DIMENSION[column.table], *column.spec.dims)

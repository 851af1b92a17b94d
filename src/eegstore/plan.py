"""Decides what a build has to compute: columns, their keys and layouts, and the tasks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from eegstore import registry
from eegstore.attributes import FORMAT, ROW_DIMENSION
from eegstore.calls import given, guarded
from eegstore.counts import Counts
from eegstore.disk import digest_json
from eegstore.errors import PluginError, RecipeError
from eegstore.protocols import Fitted
from eegstore.recipe import nearest
from eegstore.scan import (
    STIMULI_COLUMNS,
    Scan,
    content_of,
    digest_array,
    digest_rows,
    eeg_counts,
    eeg_spec,
    pairing_plugin,
    plugin_key,
    producer,
    scanned_columns,
    split_plugin,
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
)
from eegstore.work import PlannedColumn, Task, state_of

# A stimulus' row is small but its image is not: about 64 MB of decoded images a task.
STIMULI_SHARD_ROWS: Final = 512
MAX_ROW_BYTES: Final = 1 << 30
IMAGE: Final = ColumnSpec(dims=("y", "x", "rgb"), shape=(-1, -1, 3), dtype="uint8")
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
    phase: int = 0, train_key: str = "",
) -> PlannedColumn:  # fmt: skip
    """A column; ``reads`` maps each input to its key, ``origin`` is its producer and its key.

    ``train_key`` is that of the split on whose train rows it is fitted; empty where it is not.
    """
    dtype = spec.dtype if counts is None else "int16"
    layout = _layout(table, spec, found, dtype)
    store = found.recipe.store
    # Any column of trials follows from the EEG too: which rows there are, and which are invalid.
    rows = found.source_key if table == "trials" else ""
    written = [FORMAT, store.codec, store.random, layout.options, dtype]
    fitted = {"fitted": {"split": "train", "key": train_key}} if train_key else {}
    key = digest_json([origin[1], dict(reads), rows, *written, *fitted.values()])
    attributes = {
        **spec.attrs,
        **(counts.attributes if counts else {}),
        "units": spec.units,
        "eegstore": {"key": key, "producer": origin[0], "inputs": dict(reads), **fitted},
    }
    stored = stored_spec(name, spec, eeg_spec(found.trials) if table == "trials" else NO_AXES)
    return PlannedColumn(
        table, name, extract, tuple(reads), stored, key, layout, attributes, phase, bool(train_key)
    )


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
    planned = {("trials", "eeg"): _planned(found, "trials", "eeg", -1, {}, eeg, source, counts)}
    planned["trials", "eeg"].attributes["eegstore"]["files"] = found.source_content.listed
    raw, keys = _readable(found)
    raw["trials", "eeg"], keys["trials", "eeg"] = eeg, planned["trials", "eeg"].key
    phases = dict.fromkeys(raw, 0)
    waiting = _extractors(found)
    while waiting:
        ready = [one for one in waiting if all((one[2].table, r) in raw for r in one[2].reads)]
        if not ready:
            raise _unreadable(waiting, raw)
        # What is fitted waits for the split, and that for the columns that the pairing reads.
        ready = [one for one in ready if not _phase(one[2], phases)] or ready
        for number, name, plugin in ready:
            table: Table = plugin.table
            inputs = {read: raw[table, read] for read in plugin.reads}
            section = found.recipe.extract[number]
            spec = _described(plugin, inputs, section.timeout_s)
            reads = {read: keys[table, read] for read in plugin.reads}
            content = content_of("extractor", plugin, section)
            origin = (
                producer("extractor", plugin, section, content),
                plugin_key("extractor", plugin, section, content),
            )
            phase, train_key = _phase(plugin, phases), ""
            if _is_fitted(plugin):
                train_key = narrow_keys(found, planned.values())["trials", "split"]
            column = _planned(
                found, table, name, number, reads, spec, origin, None, phase, train_key
            )
            planned[table, name], phases[table, name] = column, phase
            raw[table, name], keys[table, name] = spec, column.key
        waiting = [one for one in waiting if one not in ready]
    _refuse_late_pairing(found, planned.values())
    _refuse_taken_axes(found, planned.values())
    return tuple(planned.values())


def _is_fitted(plugin: Any) -> bool:
    return isinstance(plugin, Fitted)


def _phase(plugin: Any, phases: Mapping[tuple[Table, str], int]) -> int:
    """How many fits what an extractor computes waits for."""
    latest = max((phases[plugin.table, read] for read in plugin.reads), default=0)
    return latest + _is_fitted(plugin)


def _refuse_late_pairing(found: Scan, columns: Iterable[PlannedColumn]) -> None:
    """A pairing cannot read what is fitted on the split, which follows from the pairing."""
    reads = getattr(pairing_plugin(found), "reads", ()) if found.stimuli else ()
    for column in columns:
        if column.phase and column.path in reads:
            raise RecipeError(
                f"[pairing] reads {column.path}, which is fitted on the split train, and the split "
                "follows from the pairing: a cycle; pair by a column that is not fitted"
            )


def _readable(
    found: Scan,
) -> tuple[dict[tuple[Table, str], ColumnSpec], dict[tuple[Table, str], str]]:
    """What extractors may read before any has run: specs and keys of what scanning gives."""
    specs: dict[tuple[Table, str], ColumnSpec] = {}
    keys: dict[tuple[Table, str], str] = {}
    for place, values in scanned_columns(found).items():
        dtype = "str" if values.dtype.kind == "U" else values.dtype.name
        specs[place], keys[place] = ColumnSpec((), (), dtype), digest_array(values)
    if found.stimuli is not None:
        specs["stimuli", "image"], keys["stimuli", "image"] = IMAGE, found.provider_key
    return specs, keys


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


def _extractors(found: Scan) -> list[tuple[int, str, Any]]:
    """Number, column name and plugin of each ``[[extract]]`` section."""
    extractors: list[tuple[int, str, Any]] = []
    taken = {"trials": RESERVED_TRIALS, "stimuli": RESERVED_STIMULI}
    for table, name in scanned_columns(found):
        taken[table] = taken[table] | {name}
    for number, section in enumerate(found.recipe.extract):
        where = f"[[extract]] {number + 1} ({section.plugin})"
        plugin = registry.create("extractor", section.plugin, section.options, found.folder, where)
        if plugin.table == "stimuli" and found.stimuli is None:
            raise RecipeError(f"{where}: reads images, but the recipe has no [stimuli]")
        _refuse_missing_device(where, plugin)
        name = section.column
        names = {name, state_of(name)} if _is_fitted(plugin) else {name}
        same = sorted(names & taken[plugin.table])
        if same or not COLUMN_NAME.fullmatch(name):
            raise RecipeError(
                f"{where}: {plugin.table} has a column {(same or [name])[0]!r} already; "
                'give this one another name with as = "…"'
            )
        taken[plugin.table] = taken[plugin.table] | names
        extractors.append((number, name, plugin))
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


def _unreadable(waiting: list[tuple[int, str, Any]], known: Mapping[Any, Any]) -> RecipeError:
    """Why none of the waiting extractors can run: a cycle, or a column that is not there."""
    coming = {(plugin.table, name) for _, name, plugin in waiting}
    for number, name, plugin in waiting:
        for read in plugin.reads:
            if (plugin.table, read) not in known and (plugin.table, read) not in coming:
                there = [column for table, column in known if table == plugin.table]
                return RecipeError(
                    f"[[extract]] {number + 1} ({name}) reads {plugin.table}/{read}, "
                    f"which is not there; {nearest(read, there)}"
                )
    names = ", ".join(name for _, name, _ in waiting)
    return RecipeError(f"[[extract]]: these columns read each other in a cycle: {names}")


def narrow_keys(found: Scan, columns: Iterable[PlannedColumn]) -> dict[tuple[Table, str], str]:
    """Key of every narrow column and coordinate: what its values follow from."""
    recipe, trials = found.recipe, found.trials
    names = ["label", "channel", "time", *trials.columns]
    names += [] if trials.stimulus_key is None else ["stimulus_key"]
    keys: dict[tuple[Table, str], str] = {("trials", name): found.source_key for name in names}
    keys["trials", "valid"] = digest_json([found.source_key, recipe.source.allow_skips])
    pairing = split = "none"
    if found.stimuli is not None:
        stimuli_key = digest_json([found.provider_key, digest_rows(found.stimuli, STIMULI_COLUMNS)])
        for name in STIMULI_COLUMNS:
            keys["stimuli", name] = stimuli_key
        keys |= {("stimuli", name): stimuli_key for name in found.stimuli.columns}
        plugin = pairing_plugin(found)
        wide = {column.path: column.key for column in columns}
        read = {path: wide.get(path) for path in getattr(plugin, "reads", ())}
        pairing = digest_json([plugin_key("pairing", plugin, recipe.pairing), stimuli_key, read])
    pair_key = digest_json([pairing, keys["trials", "valid"]])
    splitter = split_plugin(found)
    split = plugin_key("split", splitter, recipe.split) if splitter else "train"
    keys["trials", "stimulus"] = keys["trials", "score"] = pair_key
    keys["trials", "split"] = digest_json([split, pair_key])
    for column in columns:
        if column.is_fitted:
            keys[column.table, column.state] = column.key
        for dim in column.spec.coords:
            keys.setdefault((column.table, dim), column.key)
    return keys


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

"""Runs one task: reads a row range once, feeds every extractor, writes shards, then the receipt."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.blocks import parts, stimulus_blocks, trial_block, trials_a_block
from eegstore.calls import check_array
from eegstore.counts import Counts
from eegstore.disk import move_into_place
from eegstore.errors import InputError, PluginError
from eegstore.fit import fit
from eegstore.inputs import check_unchanged
from eegstore.overlap import MOST_WAITING, Clock, Later, ahead
from eegstore.quality import doubts
from eegstore.receipts import read_receipt, receipt_path, write_receipt
from eegstore.scan import no_counts
from eegstore.shards import (
    MOST_COMING,
    MOST_UNDIGESTED,
    ShardWriter,
    fill_value,
    writing_threads,
)
from eegstore.tables import Block
from eegstore.work import PlannedColumn, Task, WorkPlan
from eegstore.worker import Worker, temporary_folder, worker

SHOWN: Final = 8
IDENTITY: Final[dict[tuple[str, ...], str]] = {
    ("image",): "content_id",
    ("caption",): "caption",
}
Write = Callable[[PlannedColumn, NDArray[Any]], None]
STAGE_NAMES: Final = {"eeg": "read eeg", "image": "read images"}
# Blocks that may be in use at once: read ahead, computed from, waiting, encoded, digested.
RECENT: Final = 2 + MOST_WAITING + (MOST_COMING + 1) + (MOST_UNDIGESTED + 1)


def run_task(plan_file: str, number: int) -> dict[str, Any]:
    """Compute and write a task's columns, and then the receipt that vouches for them; or fit one.

    Returns
    -------
    The task's name and its stages: seconds, rows and bytes of each.

    Raises
    ------
    InputError
        Where the signal has NaN or Inf and skips are not allowed, or a read finds damage.
    PluginError
        Where a plugin raises or breaks its promise.
    """
    me = worker(plan_file)
    task = me.plan.tasks[number]
    if task.is_fit:
        return fit(me, task)
    columns = [me.columns[task.table, name] for name in task.columns]
    clock = Clock()
    with ExitStack() as stack:
        helpers = stack.enter_context(writing_threads())
        writers = {
            column.name: stack.enter_context(
                ShardWriter(_temporary(me.plan, task, column), column.layout, helpers)
            )
            for column in columns
        }
        later = stack.enter_context(Later())

        def write(column: PlannedColumn, values: NDArray[Any]) -> None:
            later.call(clock.call, "write", writers[column.name].append, values)

        run = _run_trials if task.table == "trials" else _run_stimuli
        facts = run(me, task, columns, write, clock)
        later.finish()
        written = {name: clock.call("write", writer.finish) for name, writer in writers.items()}
    # What a receipt vouches for goes by the key of the input as it was scanned.
    check_unchanged(me.plan.inputs[task.table])
    clock.call("write", _publish, me.plan, task, columns, written, facts)
    n_bytes = sum(size for size, _ in written.values())
    return {"task": task.name, "stages": list(_stages(task, columns, n_bytes, clock))}


def _temporary(plan: WorkPlan, task: Task, column: PlannedColumn) -> Path:
    return temporary_folder(plan) / f"{task.name}-{column.name}"


def _publish(
    plan: WorkPlan,
    task: Task,
    columns: Sequence[PlannedColumn],
    written: Mapping[str, tuple[int, str]],
    facts: Mapping[str, Any],
) -> None:
    """Rename the shards into the store, and only then write the receipt."""
    for column in columns:
        final = plan.store / column.path / column.layout.shard_name(task.shard)
        move_into_place(_temporary(plan, task, column), final)
    path = receipt_path(plan.store, task.name)
    receipt = {
        "task": task.name,
        "shard": task.shard,
        "rows": [task.start, task.stop],
        **facts,
        "columns": read_receipt(path).get("columns", {}),
    }
    for column in columns:
        size, digest = written[column.name]
        receipt["columns"][column.path] = {"key": column.key, "size": size, "digest": digest}
    # By way of the plan's own folder: a worker that outlives its driver leaves no receipt either.
    write_receipt(path, receipt, temporary_folder(plan))


def _stages(
    task: Task, columns: Sequence[PlannedColumn], n_bytes: int, clock: Clock
) -> Iterator[dict[str, Any]]:
    rows = task.stop - task.start
    sizes = {column.name: rows * column.layout.row_bytes for column in columns}
    sizes["write"] = n_bytes
    names = ("eeg", "image", "write", *(column.name for column in columns))
    for name in dict.fromkeys(names):
        if name not in clock.seconds:
            continue
        seconds, size = clock.seconds[name], sizes.get(name, 0)
        stage = STAGE_NAMES.get(name, name)
        yield {"name": stage, "of": task.table, "seconds": seconds, "rows": rows, "bytes": size}


def _run_trials(
    me: Worker,
    task: Task,
    columns: Sequence[PlannedColumn],
    write: Write,
    clock: Clock,
) -> dict[str, Any]:
    """Block by block: the signal, then each column from those before it.

    Returns
    -------
    ``invalid``: the rows whose signal has NaN or Inf; ``doubts``: the channels that look wrong.
    """
    block_rows = trials_a_block(me)
    eeg_spec, found_invalid, doubted = me.columns["trials", "eeg"].spec, list[int](), None
    for start, stop, eeg in ahead(clock.timed("eeg", _signals(me, task, columns, block_rows))):
        n_valid = me.rows["n_valid"][start:stop]
        invalid = invalid_rows(eeg, n_valid)
        found_invalid += (start + invalid).tolist()
        if len(invalid) and not me.recipe.source.allow_skips:
            raise rejected_trials(me.recipe.source.plugin, start + invalid)
        clean = _zeroed(eeg, invalid)
        if doubted is None:
            sound = np.delete(np.arange(stop - start), invalid)
            doubted = doubts(eeg[sound], n_valid[sound], eeg_spec.units)
        values: dict[str, Any] = {"eeg": clean}
        for column in columns:
            if column.extract < 0:
                write(column, _stored(me, column, start, eeg, invalid))
                continue
            rows = np.arange(start, stop)
            inputs = {
                name: values[name] if name in values else me.stored("trials", name, rows)
                for name in column.reads
            }
            block = trial_block(me, rows, inputs, n_valid)
            result = clock.call(column.name, _extract, me, column, block, invalid)
            values[column.name] = result
            write(column, result.copy())  # the plugin may fill it anew
    return {"invalid": found_invalid, "doubts": doubted or {}}


def _stored(
    me: Worker,
    column: PlannedColumn,
    start: int,
    eeg: NDArray[np.float32],
    invalid: NDArray[np.int64],
) -> NDArray[Any]:
    """The signal as it is stored: itself, or its counts, of which each valid trial is exact."""
    counts = Counts.of(column.attributes)
    if counts is None:
        return eeg
    stored, inexact = counts.encode(eeg)
    wrong = np.setdiff1d(inexact, invalid)
    if len(wrong):
        raise no_counts(me.recipe.source.plugin, start + int(wrong[0]))
    return stored


def _signals(
    me: Worker, task: Task, columns: Sequence[PlannedColumn], block_rows: int
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """The EEG of a task, from the source, or from the store where it is there already."""
    from_source = any(column.extract < 0 for column in columns)
    shape, recent = me.columns["trials", "eeg"].spec.shape, deque[Any](maxlen=RECENT)
    for start in range(task.start, task.stop, block_rows):
        stop = min(start + block_rows, task.stop)
        if from_source:
            eeg = me.call("source", me.source, me.recipe.source, me.source.read, start, stop)
            what = f"read({start}, {stop})"
            check_array("source", me.source, what, eeg, (stop - start, *shape))
            if any(np.may_share_memory(before, eeg) for before in recent):
                raise PluginError(
                    f"source {me.source.name!r}: {what} gave the array of the rows before again, "
                    "which are still in use; expected a new one"
                )
            recent.append(eeg)
        else:
            eeg = me.stored("trials", "eeg", np.arange(start, stop))
        yield start, stop, eeg


def invalid_rows(eeg: NDArray[np.float32], n_valid: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of a block with NaN or Inf among their recorded samples."""
    finite = np.isfinite(eeg)
    if finite.all():
        return np.empty(0, dtype=np.int64)
    padding = np.arange(eeg.shape[-1]) >= n_valid[:, None, None]
    return np.flatnonzero(~(finite | padding).all(axis=(1, 2)))


def _zeroed(eeg: NDArray[np.float32], invalid: NDArray[np.int64]) -> NDArray[np.float32]:
    """The signal with invalid trials set to zero: extractors need not guard against them."""
    if not len(invalid):
        return eeg
    clean = eeg.copy()
    clean[invalid] = 0
    return clean


def rejected_trials(source: str, trials: NDArray[np.int64]) -> InputError:
    """The error that names the trials whose signal is not finite."""
    shown = ", ".join(str(trial) for trial in trials[:SHOWN])
    more = f" and {len(trials) - SHOWN} more" if len(trials) > SHOWN else ""
    return InputError(
        f"[source] {source}: NaN or Inf in trials {shown}{more} (counted from 0; beyond 3.4e38 a "
        "value is Inf as float32); mend them, or set allow_skips = true under [source] to keep "
        "them as invalid rows"
    )


def _extract(
    me: Worker, column: PlannedColumn, block: Block, invalid: NDArray[np.int64]
) -> NDArray[Any]:
    """A column's values for a block, checked against its spec; NaN in invalid rows."""
    plugin = me.extractor(column.extract)
    result = _called(me, column, plugin, block)
    if result.dtype.kind == "f":
        bad = ~np.isfinite(result.reshape(block.n_rows, -1)).all(axis=1)
        bad[invalid] = False
        if bad.any():
            raise PluginError(
                f"extractor {plugin.name!r}: column {column.path} has NaN or Inf for row "
                f"{block.start + int(np.argmax(bad))}, whose input is finite; it is often the "
                "division by the 0 of a flat channel, or the log of 0"
            )
    if len(invalid):
        result = result.copy()
        result[invalid] = fill_value(column.spec.dtype)
    return np.asarray(result)


def _called(me: Worker, column: PlannedColumn, plugin: Any, block: Block) -> NDArray[Any]:
    """What an extractor gives for a block, of which it may want fewer rows at a time."""
    section, results = me.recipe.extract[column.extract], list[NDArray[Any]]()
    for part in parts(plugin, block):
        result = me.call("extractor", plugin, section, plugin, part)
        what = f"column {column.path}, rows {part.start} to {part.stop - 1},"
        shape = (part.n_rows, *column.spec.shape)
        check_array("extractor", plugin, what, result, shape, column.spec.dtype)
        if part is block:
            return np.asarray(result)
        results.append(result.copy())  # the plugin may fill it anew
    return np.concatenate(results)


def _run_stimuli(
    me: Worker,
    task: Task,
    columns: Sequence[PlannedColumn],
    write: Write,
    clock: Clock,
) -> dict[str, Any]:
    """Rows with one content are computed once; columns with one such notion share their input."""
    groups: dict[str, list[PlannedColumn]] = defaultdict(list)
    for column in columns:
        groups[_identity(column.reads) or f"rows of {column.name}"].append(column)
    written: dict[str, NDArray[Any]] = {}
    for identity, members in groups.items():
        first, inverse = _distinct(me, task, identity)
        results: dict[str, list[NDArray[Any]]] = defaultdict(list)
        reads = {name for column in members for name in column.reads} - set(written)
        for rows, inputs in ahead(clock.timed("image", stimulus_blocks(me, first, reads))):
            for column in members:
                known = {
                    name: inputs[name] if name in inputs else written[name][rows - task.start]
                    for name in column.reads
                }
                block = Block(known, int(rows[0]), int(rows[-1]) + 1)
                result = clock.call(column.name, _extract, me, column, block, rows[:0])
                results[column.name].append(result.copy())  # the plugin may fill it anew
        for column in members:
            values = np.concatenate(results[column.name])[inverse]
            written[column.name] = values
            write(column, values)
    return {}


def _identity(reads: Iterable[str]) -> str:
    """The narrow column whose equal values mean equal results; empty where rows stand alone."""
    return IDENTITY.get(tuple(reads), "")


def _distinct(me: Worker, task: Task, identity: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that stand for all others of a task, in row order, and for each row which of them."""
    if identity not in IDENTITY.values():
        rows = np.arange(task.start, task.stop)
        return rows, rows - task.start
    values = me.rows[f"stimuli/{identity}"][task.start : task.stop]
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return task.start + first[order], rank[inverse]

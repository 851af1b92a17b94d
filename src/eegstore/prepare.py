"""Compares a recipe with what a store holds, and lays out what workers need."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.attributes import DOCUMENT, ColumnEntry
from eegstore.disk import fsync_folder, make_folder, put
from eegstore.errors import InputError
from eegstore.plan import (
    PlannedColumn,
    Task,
    WorkPlan,
    make_tasks,
    narrow_keys,
    plan_columns,
)
from eegstore.protocols import Stateful
from eegstore.recipe import Recipe
from eegstore.registry import path_options
from eegstore.scan import Scan, scan, scanned_columns
from eegstore.store import Store, build_folder, read_root
from eegstore.verification import check_entry
from eegstore.worker import ROWS_FILE, read_receipt, temporary_folder

MARKER: Final = "eegstore-build"


@dataclass(frozen=True)
class Plan:
    """What a build would do to a store."""

    store: Path
    recipe: Recipe
    folder: Path
    found: Scan
    columns: tuple[PlannedColumn, ...]
    keys: Mapping[str, str]
    committed: Store | None
    reused: tuple[ColumnEntry, ...]
    lost: tuple[ColumnEntry, ...]
    tasks: tuple[Task, ...]

    @property
    def computed(self) -> tuple[PlannedColumn, ...]:
        """The wide columns that are not committed yet."""
        kept = {entry.path for entry in self.reused}
        return tuple(column for column in self.columns if column.path not in kept)

    @property
    def dropped(self) -> tuple[ColumnEntry, ...]:
        """Wide columns of the store that the recipe no longer has, or whose rows are others."""
        eeg_key = self.keys["trials/eeg"]
        others = any(one.path == "trials/eeg" and one.key != eeg_key for one in self.lost)
        wide = [entry for entry in self.lost if entry.kind == "wide"]
        return tuple(entry for entry in wide if others or entry.path not in self.keys)

    @property
    def resumes(self) -> bool:
        """Whether an unfinished build has left something to build on."""
        return bool(standing_receipts(self.store, self.computed))

    @property
    def bytes_left(self) -> int:
        """Bytes of the values that the tasks still have to write, before compression."""
        layouts = {column.path: column.layout for column in self.computed}
        return sum(
            (task.stop - task.start) * layouts[f"{task.table}/{name}"].row_bytes
            for task in self.tasks
            for name in task.columns
        )

    @property
    def rewritten(self) -> tuple[str, ...]:
        """Narrow columns and coordinates that the commit will write."""
        kept = {entry.path for entry in self.reused} | {column.path for column in self.columns}
        return tuple(path for path in self.keys if path not in kept)

    @property
    def worker_bytes(self) -> int:
        """About the largest arrays that a worker holds at once: a few blocks of each column."""
        return sum(
            3 * column.layout.chunk_rows * column.layout.row_bytes for column in self.computed
        )

    @property
    def moved(self) -> bool:
        """Whether the images are no longer where the store's last build read them."""
        provider = self.found.provider
        if self.committed is None or provider is None or not path_options(type(provider)):
            return False
        return self.committed.attributes.history[-1].folder != str(self.folder)

    @property
    def up_to_date(self) -> bool:
        """Whether the store already is what the recipe asks for."""
        return (
            self.committed is not None
            and not self.moved
            and self.committed.recipe == self.recipe.document()
            and len(self.reused) == len(self.keys)
            and not self.lost
        )


def check_output(store: Path) -> None:
    """Refuse a place that holds something else; nothing of others is ever touched."""
    beside = build_folder(store)
    ours = is_building(store)
    if beside.exists() and not ours and (not beside.is_dir() or any(beside.iterdir())):
        raise InputError(
            f"{beside}: in the way of the build's own files and not eegstore's; nothing was "
            "touched, choose another OUT"
        )
    if not store.exists() or (store / DOCUMENT).is_file() or ours:
        return
    if not store.is_dir() or any(store.iterdir()):
        raise InputError(
            f"{store}: exists and is not an eegstore store; nothing was touched, choose another OUT"
        )


def is_building(store: Path) -> bool:
    """Whether a build of the store has begun and not finished."""
    return os.path.isfile(build_folder(store) / MARKER)  # noqa: PTH113 - of any name, even too long


def open_build_folder(store: Path) -> None:
    """Create the folder of what is not the product, marked as ours."""
    folder = build_folder(store)
    make_folder(folder)
    (folder / MARKER).touch()
    fsync_folder(folder)


def close_build_folder(store: Path) -> None:
    """Delete the folder; the mark goes last, so that what is left is known as ours."""
    folder = build_folder(store)
    if not is_building(store):
        return
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()
    (folder / MARKER).unlink()
    folder.rmdir()


def make_plan(recipe: Recipe, folder: Path, store: Path) -> Plan:
    """Scan the input, compare with what the store holds, and plan the tasks that are left."""
    check_output(store)
    committed = Store(store, read_root(store)) if (store / DOCUMENT).is_file() else None
    found = scan(recipe, folder)
    columns = plan_columns(found)
    keys = {column.path: column.key for column in columns}
    for (table, name), key in narrow_keys(found, columns).items():
        keys[f"{table}/{name}"] = key
    entries = committed.attributes.columns if committed else []
    # A column that has lost a file is made anew; a flipped bit shows in 'verify --deep' alone.
    reused = tuple(
        entry
        for entry in entries
        if keys.get(entry.path) == entry.key and committed and not check_entry(committed, entry)
    )
    lost = tuple(entry for entry in entries if entry not in reused)
    kept = {entry.path for entry in reused}
    missing = [column for column in columns if column.path not in kept]
    tasks = tasks_left(store, found, missing)
    return Plan(store, recipe, folder, found, columns, keys, committed, reused, lost, tasks)


def receipts_folder(store: Path) -> Path:
    """Where a build keeps its tasks' receipts."""
    return build_folder(store) / "receipts"


def standing_receipts(store: Path, columns: Sequence[PlannedColumn]) -> list[dict[str, Any]]:
    """The receipts of earlier, unfinished builds, as far as they vouch for these columns."""
    wanted = {column.path: column for column in columns}
    standing = []
    for path in sorted(receipts_folder(store).glob("*.json")):
        receipt = read_receipt(path)
        vouched = {
            name: facts
            for name, facts in receipt.get("columns", {}).items()
            if name in wanted and _stands(store, wanted[name], receipt, facts)
        }
        if vouched:
            standing.append(receipt | {"columns": vouched})
    return standing


def _stands(
    store: Path, column: PlannedColumn, receipt: Mapping[str, Any], facts: Mapping[str, Any]
) -> bool:
    """Whether a receipt vouches for a shard of this very column, and the shard is there."""
    layout, shard = column.layout, receipt["shard"]
    if facts["key"] != column.key or shard >= layout.n_shards:
        return False
    file = store / column.path / layout.shard_name(shard)
    same_rows = receipt["rows"] == list(layout.shard_range(shard))
    return same_rows and file.is_file() and file.stat().st_size == facts["size"]


def tasks_left(store: Path, found: Scan, columns: Sequence[PlannedColumn]) -> tuple[Task, ...]:
    """The tasks that no receipt makes needless."""
    done = {
        (path, receipt["shard"])
        for receipt in standing_receipts(store, columns)
        for path in receipt["columns"]
    }
    return make_tasks(found, columns, done)


def refuse_loss(plan: Plan, overwrite: bool) -> None:
    """Nothing that is committed is dropped unless the user says so."""
    if not plan.dropped or overwrite:
        return
    names = ", ".join(entry.name for entry in plan.dropped)
    changed = any(entry.path == "trials/eeg" for entry in plan.dropped)
    reason = (
        "it was built from other input or with another [source] or [store]"
        if changed and "trials/eeg" in plan.keys
        else "the recipe no longer has them"
    )
    raise InputError(
        f"{plan.store}: would lose {names}: {reason}; "
        "choose another OUT, or pass --overwrite to drop them"
    )


def check_space(plan: Plan) -> None:
    """Refuse a build that cannot end well: values that are not compressed have a known size."""
    needed = plan.bytes_left
    parent = plan.store.absolute().parent
    free = shutil.disk_usage(parent).free
    if plan.recipe.store.codec == "raw" and needed > free:
        raise InputError(
            f"{parent}: {free / 1e9:.1f} GB free, the build writes {needed / 1e9:.1f} GB; "
            "make room or choose another OUT"
        )


def write_plan(plan: Plan) -> Path:
    """Put what workers need beside the store: the plan, the scans' states, some narrow columns."""
    folder = build_folder(plan.store)
    for old in folder.glob("tmp-*"):
        shutil.rmtree(old)
    for old in folder.glob("plan-*.json"):
        old.unlink()
    trials = plan.found.trials
    work = WorkPlan(
        plan.store.absolute(), plan.folder, plan.recipe.document(), plan.columns, plan.tasks,
        tuple(trials.ch_names), trials.sfreq, tuple(trials.times.tolist()),
        id=f"{os.getpid()}-{time.monotonic_ns()}",
    )  # fmt: skip
    receipts_folder(plan.store).mkdir(exist_ok=True)
    temporary_folder(work).mkdir()
    rows: dict[str, NDArray[Any]] = {"n_valid": trials.n_valid}
    for (table, name), values in scanned_columns(plan.found).items():
        rows[f"{table}/{name}"] = values
    np.savez(folder / ROWS_FILE, **rows)  # type: ignore[arg-type]
    for kind, plugin in (("source", plan.found.source), ("stimuli", plan.found.provider)):
        if isinstance(plugin, Stateful):
            np.savez(folder / f"{kind}.npz", **plugin.state())  # type: ignore[arg-type]
    plan_file = folder / f"plan-{work.id}.json"
    put(work.to_json(), plan_file, folder)
    return plan_file

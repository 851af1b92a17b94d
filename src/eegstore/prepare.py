"""Compares a recipe with what a store holds, and lays out what workers need."""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegstore.attributes import DOCUMENT, ColumnEntry
from eegstore.disk import put
from eegstore.errors import InputError
from eegstore.plan import (
    PlannedColumn,
    Task,
    WorkPlan,
    compare,
    make_tasks,
    narrow_keys,
    plan_columns,
)
from eegstore.protocols import Stateful
from eegstore.recipe import Recipe
from eegstore.scan import Scan, scan
from eegstore.store import Store, build_folder, open_store
from eegstore.worker import ROWS_FILE, read_receipt, temporary_folder


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
        eeg_lost = any(entry.path == "trials/eeg" for entry in self.lost)
        wide = [entry for entry in self.lost if entry.kind == "wide"]
        return tuple(entry for entry in wide if eeg_lost or entry.path not in self.keys)

    @property
    def worker_bytes(self) -> int:
        """About the largest arrays that a worker holds at once: a few blocks of each column."""
        return sum(
            3 * column.layout.chunk_rows * column.layout.row_bytes for column in self.computed
        )

    @property
    def up_to_date(self) -> bool:
        """Whether the store already is what the recipe asks for."""
        return (
            self.committed is not None
            and self.committed.recipe == self.recipe.document()
            and len(self.reused) == len(self.keys)
            and not self.lost
        )


def _check_output(store: Path) -> None:
    """Refuse a place that holds something else; nothing of others is ever touched."""
    if not store.exists() or (store / DOCUMENT).is_file() or build_folder(store).is_dir():
        return
    if not store.is_dir() or any(store.iterdir()):
        raise InputError(
            f"{store}: exists and is not an eegstore store; nothing was touched, choose another OUT"
        )


def make_plan(recipe: Recipe, folder: Path, store: Path) -> Plan:
    """Scan the input, compare with what the store holds, and plan the tasks that are left."""
    _check_output(store)
    committed = open_store(store) if (store / DOCUMENT).is_file() else None
    found = scan(recipe, folder)
    columns = plan_columns(found)
    keys = {column.path: column.key for column in columns}
    for (table, name), key in narrow_keys(found, columns).items():
        keys[f"{table}/{name}"] = key
    changes = compare(committed.attributes.columns if committed else (), keys)
    missing = [column for column in columns if column.path not in changes.reused_paths]
    tasks = make_tasks(found, missing, _vouched(store, missing))
    return Plan(
        store, recipe, folder, found, columns, keys, committed,
        changes.reused, changes.lost, tasks,
    )  # fmt: skip


def read_receipts(store: Path) -> list[dict[str, Any]]:
    """Every valid receipt of a store's build, in the order of the tasks' names."""
    folder = build_folder(store) / "receipts"
    receipts = [read_receipt(path) for path in sorted(folder.glob("*.json"))]
    return [receipt for receipt in receipts if receipt]


def _vouched(store: Path, columns: Sequence[PlannedColumn]) -> dict[tuple[str, int], set[str]]:
    """Keys that valid receipts vouch for, by array and shard; a shard of another size is lost."""
    layouts = {column.path: column.layout for column in columns}
    done: dict[tuple[str, int], set[str]] = defaultdict(set)
    for receipt in read_receipts(store):
        for path, vouched in receipt["columns"].items():
            if path not in layouts:
                continue
            shard = store / path / layouts[path].shard_name(receipt["shard"])
            if shard.is_file() and shard.stat().st_size == vouched["size"]:
                done[path, receipt["shard"]].add(vouched["key"])
    return done


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
    computed = {column.path: column.layout for column in plan.computed}
    needed = sum(
        (task.stop - task.start) * computed[f"{task.table}/{name}"].row_bytes
        for task in plan.tasks
        for name in task.columns
    )
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
    trials, stimuli = plan.found.trials, plan.found.stimuli
    work = WorkPlan(
        plan.store.absolute(), plan.folder, plan.recipe.document(), plan.columns, plan.tasks,
        tuple(trials.ch_names), trials.sfreq, tuple(trials.times.tolist()),
    )  # fmt: skip
    (folder / "receipts").mkdir(parents=True, exist_ok=True)
    temporary_folder(work).mkdir()
    rows: dict[str, NDArray[Any]] = {"n_valid": trials.n_valid}
    if stimuli is not None:
        rows |= {"caption": stimuli.caption, "content_id": stimuli.content_id}
    np.savez(folder / ROWS_FILE, **rows)  # type: ignore[arg-type]
    for kind, plugin in (("source", plan.found.source), ("stimuli", plan.found.provider)):
        if isinstance(plugin, Stateful):
            np.savez(folder / f"{kind}.npz", **plugin.state())  # type: ignore[arg-type]
    plan_file = folder / f"plan-{work.id}-{os.getpid()}-{time.monotonic_ns()}.json"
    put(work.to_json(), plan_file, folder)
    return plan_file

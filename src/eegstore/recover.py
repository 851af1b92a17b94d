"""Brings what earlier, unfinished builds left behind in line with a plan, before any task runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from eegstore.attributes import ColumnEntry
from eegstore.commit import withdraw
from eegstore.disk import fsync_path, make_folder
from eegstore.plan import make_tasks
from eegstore.prepare import Plan
from eegstore.receipts import (
    Receipt,
    read_receipt,
    receipt_path,
    receipts_folder,
    write_receipt,
)
from eegstore.root import build_folder, records_path
from eegstore.tables import TABLES


def recover(plan: Plan) -> Plan:
    """Remove what the plan replaces, and all that neither a commit nor a receipt vouches for.

    Receipts are cut down to what they vouch for under this plan before a task replaces a shard:
    no receipt is ever left that names bytes which are no longer there. The sound shards of a
    damaged column have receipts before its removal is committed.
    """
    receipts = plan.receipts
    _rewrite_receipts(plan.store, {receipt["task"]: receipt for receipt in receipts})
    committed = plan.committed
    if committed is not None:
        committed = withdraw(plan.store, committed, list(_in_the_way(plan)))
    entries = committed.attributes.columns if committed else []
    _delete_strangers(plan, entries, receipts)
    tasks = make_tasks(plan.found, plan.computed, receipts)
    return replace(plan, committed=committed, tasks=tasks)


def _in_the_way(plan: Plan) -> Iterator[ColumnEntry]:
    """Committed columns that tasks will replace; other rows replace everything.

    Other narrow columns stay readable until the commit, which replaces them in a moment; where
    one is damaged, no commit before that may take its document for the committed one.
    """
    computed = {column.path for column in plan.computed}
    damaged = {str(PurePosixPath(one.file).parent) for one in plan.damage}
    in_the_way = [
        entry
        for entry in plan.lost
        if entry.kind == "wide" or "trials/eeg" in computed or entry.path in computed
    ]
    yield from in_the_way
    if in_the_way:
        yield from (one for one in plan.lost if one not in in_the_way and one.path in damaged)


def _rewrite_receipts(store: Path, standing: Mapping[str, Receipt]) -> None:
    folder = receipts_folder(store)
    make_folder(folder)
    for path in folder.iterdir():
        if path.stem not in standing:
            path.unlink()
    for name, receipt in standing.items():
        path = receipt_path(store, name)
        if read_receipt(path) != receipt:
            write_receipt(path, receipt, build_folder(store))
    fsync_path(folder)


def _delete_strangers(
    plan: Plan, entries: Iterable[ColumnEntry], receipts: Iterable[Mapping[str, Any]]
) -> None:
    """Delete what is in the columns' folders and is neither a committed column nor vouched for."""
    layouts = {column.path: column.layout for column in plan.computed}
    kept = {
        plan.store / path / layouts[path].shard_name(receipt["shard"])
        for receipt in receipts
        for path in receipt["columns"]
    }
    committed = {plan.store / entry.path for entry in entries}
    committed |= {plan.store / records_path(one.table, one.name) for one in entries}
    for group in (*TABLES, "digests"):
        if not (plan.store / group).is_symlink():  # what it leads to may be anybody's
            for folder in (plan.store / group).glob("*/"):
                if folder not in committed:
                    _delete_all_but(kept, folder)


def _delete_all_but(kept: set[Path], folder: Path) -> None:
    """Delete the files of a folder that are not kept, and the folders that are empty then.

    A link is deleted itself; what it leads to is not the store's.
    """
    if folder.is_symlink():
        if not any(folder in file.parents for file in kept):
            folder.unlink()
        return
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()

"""Receipts: what a task leaves beside the store once its shards are in it, whole and durable.

A receipt names the task, its rows, which of them are invalid, and for each column that it wrote
the key, the size and the SHA-256 of the shard. A shard without a valid receipt does not exist.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eegstore.disk import digest_file, digest_json, put
from eegstore.root import build_folder
from eegstore.work import PlannedColumn

Receipt = dict[str, Any]


def receipts_folder(store: Path) -> Path:
    """Where a build keeps its tasks' receipts."""
    return build_folder(store) / "receipts"


def receipt_path(store: Path, task_name: str) -> Path:
    """Where a task's receipt lies."""
    return receipts_folder(store) / f"{task_name}.json"


def read_receipt(path: Path) -> Receipt:
    """A receipt, or an empty one where it is absent or not whole."""
    try:
        receipt: Receipt = dict(json.loads(path.read_bytes()))
        seal = receipt.pop("seal")
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return receipt if seal == digest_json(receipt) else {}


def write_receipt(path: Path, receipt: Receipt, temporary_folder: Path) -> None:
    """Write a receipt durably, sealed with a digest of itself."""
    sealed = receipt | {"seal": digest_json(receipt)}
    put(json.dumps(sealed).encode(), path, temporary_folder)


def standing_receipts(
    store: Path, columns: Sequence[PlannedColumn], deep: bool = False
) -> list[Receipt]:
    """The receipts of earlier, unfinished builds, as far as they vouch for these columns.

    A shard that was written after its receipt is read and compared; all are where ``deep``.
    """
    wanted = {column.path: column for column in columns}
    standing = []
    for receipt in _whole_receipts(store):
        after = -1 if deep else receipt_path(store, receipt["task"]).stat().st_mtime_ns
        vouched = {
            path: facts
            for path, facts in receipt["columns"].items()
            if path in wanted and _stands(store, wanted[path], receipt, facts, after)
        }
        if vouched:
            standing.append(receipt | {"columns": vouched})
    return standing


def forsaken(store: Path, columns: Sequence[PlannedColumn]) -> Counter[str]:
    """Shards of each column that earlier, unfinished builds wrote and these columns do not use."""
    keys = {column.path: column.key for column in columns}
    counts: Counter[str] = Counter()
    for receipt in _whole_receipts(store):
        counts.update(
            path for path, facts in receipt["columns"].items() if keys.get(path) != facts["key"]
        )
    return counts


def merged(receipts: Iterable[Receipt]) -> list[Receipt]:
    """One receipt a task; what the earlier ones say of it holds."""
    tasks: dict[str, Receipt] = {}
    for receipt in receipts:
        before = tasks.get(receipt["task"], {})
        columns = receipt["columns"] | before.get("columns", {})
        tasks[receipt["task"]] = receipt | before | {"columns": columns}
    return list(tasks.values())


def _whole_receipts(store: Path) -> Iterator[Receipt]:
    for path in sorted(receipts_folder(store).glob("*.json")):
        receipt = read_receipt(path)
        if receipt.get("task") == path.stem:  # it names the file that it is rewritten to
            yield receipt


def _stands(
    store: Path,
    column: PlannedColumn,
    receipt: Mapping[str, Any],
    facts: Mapping[str, Any],
    after: int,
) -> bool:
    """Whether a receipt vouches for a shard of this very column, and the shard is there.

    One that was written after a time (ns) is read.
    """
    layout, shard = column.layout, receipt["shard"]
    if facts["key"] != column.key or shard >= layout.n_shards:
        return False
    file = store / column.path / layout.shard_name(shard)
    if receipt["rows"] != list(layout.shard_range(shard)) or not file.is_file():
        return False
    found = file.stat()
    if found.st_size != facts["size"]:
        return False
    return found.st_mtime_ns <= after or digest_file(file) == facts["digest"]

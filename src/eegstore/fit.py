"""Runs a task of the other kind: fits an extractor on the train rows, and keeps its state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegstore.blocks import parts, stored_blocks
from eegstore.disk import put
from eegstore.errors import InputError
from eegstore.overlap import Clock
from eegstore.states import encoded, plain_arrays, state_file
from eegstore.tables import Block
from eegstore.work import PlannedColumn, Task
from eegstore.worker import Worker, temporary_folder, train_rows


@dataclass(frozen=True)
class TrainBlocks(Iterable[Block]):
    """The blocks of the train rows; each iteration reads them anew."""

    me: Worker
    column: PlannedColumn
    plugin: Any

    def __iter__(self) -> Iterator[Block]:
        rows = self.me.rows[train_rows(self.column.table)]
        for block in stored_blocks(self.me, self.column, rows):
            yield from parts(self.plugin, block)


def fit(me: Worker, task: Task) -> dict[str, Any]:
    """Fit a column's extractor, and keep its state beside the store.

    Returns
    -------
    The task's name and its stage: seconds, rows and bytes.

    Raises
    ------
    InputError
        Where there are no train rows.
    PluginError
        Where the plugin raises or breaks its promise.
    """
    (name,), clock = task.columns, Clock()
    column = me.columns[task.table, name]
    plugin, n_rows = me.prepared(column.extract), len(me.rows[train_rows(task.table)])
    if not n_rows:
        raise InputError(
            f"extractor {plugin.name!r}: is fitted on the split train, which has no valid rows of "
            f"{task.table}; give the recipe a [split] that has"
        )
    section, stage = me.recipe.extract[column.extract], f"fit {name}"

    def learnt() -> NDArray[np.uint8]:
        state = plugin.fit(TrainBlocks(me, column, plugin))
        return encoded(plain_arrays("extractor", plugin, "fit()", state))

    content = clock.call(stage, me.call, "extractor", plugin, section, learnt)
    put(content.tobytes(), state_file(me.plan.store, column), temporary_folder(me.plan))
    entry = {"name": stage, "of": task.table, "seconds": clock.seconds[stage], "rows": n_rows}
    return {"task": task.name, "stages": [entry | {"bytes": len(content)}]}

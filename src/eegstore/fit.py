"""Runs a task of the other kind: fits an extractor on the train rows, and keeps its state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eegstore.arrays import row_numbers
from eegstore.blocks import parts, stored_block, stored_blocks
from eegstore.disk import make_folder, put
from eegstore.errors import InputError
from eegstore.overlap import Clock
from eegstore.states import encoded, fit_folder, plain_arrays, state_file
from eegstore.tables import Block, frozen
from eegstore.work import PlannedColumn, Task
from eegstore.worker import Worker, temporary_folder, train_rows


@dataclass(frozen=True, eq=False)
class TrainBlocks(Iterable[Block]):
    """The train rows, as blocks; each iteration reads them anew.

    Parameters
    ----------
    me
        The process' view of the build.
    column
        The column that is fitted.
    plugin
        Its extractor.
    rows
        int64, (row,): the rows of its table.
    folder
        Where it may keep files until the build has ended; an interrupted one finds them again.
    """

    me: Worker
    column: PlannedColumn
    plugin: Any
    rows: NDArray[np.int64]
    folder: Path

    def __iter__(self) -> Iterator[Block]:
        for block in stored_blocks(self.me, self.column.table, self._reads, self.rows):
            yield from parts(self.plugin, block)

    @property
    def n_rows(self) -> int:
        """Number of train rows."""
        return len(self.rows)

    def take(self, numbers: ArrayLike) -> Block:
        """One block of any of the rows.

        Parameters
        ----------
        numbers
            int, (row,): which, by their position in ``rows``; in any order, repeated or not.

        Raises
        ------
        IndexError
            Where one is not there.
        """
        chosen = self.rows[row_numbers("the train rows", numbers, self.n_rows)]
        return stored_block(self.me, self.column.table, self._reads, chosen)

    @property
    def _reads(self) -> Iterable[str]:
        return dict.fromkeys((*self.column.reads, *self.column.fit_reads))


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
    plugin, rows = me.prepared(column.extract), _fitted_rows(me, column)
    if not len(rows):
        which = "paired rows" if _is_joined(column) else "valid rows"
        raise InputError(
            f"extractor {plugin.name!r}: is fitted on the split train, which has no {which} of "
            f"{task.table}; give the recipe a [split] that has"
        )
    section, stage = me.recipe.extract[column.extract], f"fit {name}"
    folders = _folders(me, column)

    def learnt() -> NDArray[np.uint8]:
        state = plugin.fit(TrainBlocks(me, column, plugin, frozen(rows), next(folders)))
        return encoded(plain_arrays("extractor", plugin, "fit()", state))

    content = clock.call(stage, me.call, "extractor", plugin, section, learnt)
    put(content.tobytes(), state_file(me.plan.store, column), temporary_folder(me.plan))
    entry = {"name": stage, "of": task.table, "seconds": clock.seconds[stage], "rows": len(rows)}
    return {"task": task.name, "stages": [entry | {"bytes": len(content)}]}


def _is_joined(column: PlannedColumn) -> bool:
    """Whether a fit reads columns of the stimuli that trials are paired with."""
    return any(name.startswith("stimuli/") for name in column.fit_reads)


def _fitted_rows(me: Worker, column: PlannedColumn) -> NDArray[np.int64]:
    """int64, (row,): the train rows; where stimuli are joined to them, the paired ones."""
    rows: NDArray[np.int64] = me.rows[train_rows(column.table)]
    return rows[me.rows["trials/stimulus"][rows] >= 0] if _is_joined(column) else rows


def _folders(me: Worker, column: PlannedColumn) -> Iterator[Path]:
    """The fit's folder; for a call that is to show that it gives the same again, an empty one."""
    folder = fit_folder(me.plan.store, column)
    make_folder(folder)
    yield folder
    again = temporary_folder(me.plan) / folder.name
    make_folder(again)
    yield again

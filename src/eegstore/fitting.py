"""What fitted extractors wait for: pairs, split and train rows; and where their states are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegstore.account import Stages
from eegstore.answers import Pairs, Splits
from eegstore.arrays import read_narrow
from eegstore.commit import NarrowColumn
from eegstore.disk import put
from eegstore.extract import invalid_rows, rejected_trials
from eegstore.pair import WrittenColumn, pair
from eegstore.prepare import Plan
from eegstore.receipts import standing_receipts
from eegstore.root import build_folder
from eegstore.split import EVERYTHING, split
from eegstore.states import is_kept, read_state, state_file
from eegstore.wide import wide_array
from eegstore.work import PlannedColumn, Task
from eegstore.worker import train_rows


@dataclass(frozen=True, eq=False)
class PairedRows:
    """What pairing and splitting made of the trials.

    Parameters
    ----------
    valid
        bool, (trial,): whether the signal is finite.
    pairs
        The stimulus of each trial.
    splits
        The split and the fold of each.
    """

    valid: NDArray[np.bool_]
    pairs: Pairs
    splits: Splits

    @property
    def for_workers(self) -> dict[str, NDArray[Any]]:
        """What workers read of it, by the names of ``ROWS_FILE``.

        (trial,): columns of trials; int64, (row,): the rows that extractors are fitted on.
        """
        train = np.flatnonzero(self.splits.split == EVERYTHING)
        shown = np.unique(self.pairs.stimulus[train])
        return {
            "trials/stimulus": self.pairs.stimulus,
            "trials/score": self.pairs.score,
            "trials/split": self.splits.split,
            "trials/fold": self.splits.fold,
            train_rows("trials"): train,
            train_rows("stimuli"): shown[shown >= 0],
        }


def paired_rows(plan: Plan, stages: Stages) -> PairedRows:
    """Pair and split; the signal and what the pairing reads are written by now."""
    valid = _valid(plan, standing_receipts(plan.store, plan.computed))
    written = {column.path: _written(plan.store, column) for column in plan.columns}
    pairs = stages.run("pair", pair, plan.found, written, valid)
    splits = stages.run("split", split, plan.found, pairs.stimulus, valid)
    return PairedRows(valid, pairs, splits)


def fit_tasks(plan: Plan) -> list[Task]:
    """The fits that are left: not those that the store, or an interrupted build, has."""
    tasks = []
    for column in plan.columns:
        is_wanted = column in plan.computed or column.state_path in plan.rewritten
        if column.is_fitted and is_wanted and not _keep_state(plan, column):
            tasks.append(Task(column.table, 0, 0, 0, (column.name,), column.phase, is_fit=True))
    return tasks


def _keep_state(plan: Plan, column: PlannedColumn) -> bool:
    """Whether there is a state already; one that is committed is put where workers look for it."""
    if is_kept(plan.store, column):
        return True
    path = column.state_path
    entry = next((one for one in plan.reused if one.path == path), None)
    if entry is None or plan.committed is None:
        return False
    document = plan.committed.document(path)
    content = read_narrow(plan.committed.path, path, document, entry.digest)
    put(content.tobytes(), state_file(plan.store, column), build_folder(plan.store))
    return True


def fitted_states(plan: Plan) -> Iterator[NarrowColumn]:
    """The states as arrays of their tables, where they are not committed."""
    kept = {entry.path for entry in plan.reused}
    for column in plan.columns:
        if column.is_fitted and column.state_path not in kept:
            content = read_state(plan.store, column)
            made_by = column.attributes["eegstore"]["producer"]
            dims = (f"{column.state}_byte",)
            yield NarrowColumn(column.table, column.state, "state", dims, content, made_by)


def _valid(plan: Plan, receipts: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """bool, (trial,): whether each trial's signal is finite.

    From the receipts of this build's tasks, else from the store, else from the signal itself
    (where the column is lost or replaced, and the signal is not).
    """
    valid = np.ones(plan.found.trials.n_trials, dtype=np.bool_)
    seen = [one["invalid"] for one in receipts if "trials-" in one["task"] and "invalid" in one]
    eeg = next(column for column in plan.columns if column.path == "trials/eeg")
    if len(seen) == eeg.layout.n_shards:
        for invalid in seen:
            valid[invalid] = False
    elif plan.committed is not None and any(one.path == "trials/valid" for one in plan.reused):
        valid = plan.committed.trials["valid"][:]
    else:
        array, n_valid = _written(plan.store, eeg).array, plan.found.trials.n_valid
        for start in range(0, len(valid), eeg.layout.chunk_rows):
            stop = min(start + eeg.layout.chunk_rows, len(valid))
            bad = invalid_rows(array.read(start, stop), n_valid[start:stop])
            valid[start + bad] = False
    if not valid.all() and not plan.recipe.source.allow_skips:
        raise rejected_trials(plan.recipe.source.plugin, np.flatnonzero(~valid))
    return valid


def _written(store: Path, column: PlannedColumn) -> WrittenColumn:
    array = wide_array(store / column.path, column.layout, column.attributes)
    return WrittenColumn(column.spec, array)

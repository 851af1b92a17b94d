"""What a worker has to know: the columns of a build, and the tasks that compute them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from eegstore.inputs import InputFile
from eegstore.shards import Layout
from eegstore.tables import ColumnSpec, Table


def state_of(column: str) -> str:
    """Name of the array that keeps what a column's extractor was fitted to."""
    return f"{column}_state"


@dataclass(frozen=True)
class PlannedColumn:
    """A wide column: who computes it from what, and how it is stored.

    Parameters
    ----------
    extract
        Its number among the recipe's ``[[extract]]`` sections, -1 for the EEG itself.
    phase
        How many fits, one after the other, it waits for: a column of phase 0 follows from no split.
    is_fitted
        Whether its own extractor is fitted, on train rows.
    fit_reads
        What it reads beside ``reads`` while it is fitted; ``stimuli/NAME`` of the paired stimulus.
    """

    table: Table
    name: str
    extract: int
    reads: tuple[str, ...]
    spec: ColumnSpec
    key: str
    layout: Layout
    attributes: dict[str, Any]
    phase: int = 0
    is_fitted: bool = False
    fit_reads: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Path of the array in the store."""
        return f"{self.table}/{self.name}"

    @property
    def state(self) -> str:
        """Name of the array that keeps what its extractor was fitted to, in its table."""
        return state_of(self.name)

    @property
    def state_path(self) -> str:
        """Path of that array in the store."""
        return f"{self.table}/{self.state}"

    @property
    def n_bytes(self) -> int:
        """Bytes of the values before compression."""
        return self.layout.n_rows * self.layout.row_bytes


@dataclass(frozen=True)
class Task:
    """One row range of one table, and the columns that are missing there.

    Or, where it ``is_fit``, the train rows, and the column whose extractor is fitted on them.
    """

    table: Table
    shard: int
    start: int
    stop: int
    columns: tuple[str, ...]
    phase: int = 0
    is_fit: bool = False

    @property
    def name(self) -> str:
        """Names the task in messages and its receipt's file."""
        if self.is_fit:
            return f"fit-{self.table}-{self.columns[0]}"
        return f"{self.table}-{self.shard:06d}"


@dataclass(frozen=True)
class WorkPlan:
    """What a worker has to know; one file of the build's folder holds it.

    ``id`` differs for every run: no file of another run's worker is taken for one of this.
    """

    store: Path
    folder: Path
    recipe: dict[str, Any]
    columns: tuple[PlannedColumn, ...]
    tasks: tuple[Task, ...]
    ch_names: tuple[str, ...]
    sfreq: float
    times: tuple[float, ...]
    inputs: dict[Table, tuple[InputFile, ...]]
    id: str
    check_determinism: bool = False

    def to_json(self) -> bytes:
        """The plan as its file holds it."""
        # Not by pydantic: the name of a file may be no text.
        facts: object = WORK_PLAN.dump_python(self, mode="json")
        return json.dumps(facts).encode()

    @staticmethod
    def from_json(content: bytes) -> WorkPlan:
        """The plan of a file."""
        return WORK_PLAN.validate_python(json.loads(content))


WORK_PLAN: Final = TypeAdapter(WorkPlan)

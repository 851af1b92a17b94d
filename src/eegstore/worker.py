"""A process' view of a build: the plan's plugins, loaded by name, and where they write."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegstore import registry
from eegstore.calls import guarded, repeated
from eegstore.errors import InputError
from eegstore.protocols import Stateful
from eegstore.recipe import Section, parse_recipe
from eegstore.root import build_folder
from eegstore.scan import source_options
from eegstore.states import decoded, read_state, state_file
from eegstore.tables import Table
from eegstore.wide import WideArray, wide_array
from eegstore.work import WorkPlan

ROWS_FILE = "rows.npz"
NOTE = ".running"


def new_plan_id() -> str:
    """Of a plan to come, unlike any before."""
    return f"{os.getpid()}-{time.monotonic_ns()}"


def plan_path(store: Path, plan_id: str) -> Path:
    """The file that a plan is put into for the workers."""
    return build_folder(store) / f"plan-{plan_id}.json"


def temporary_folder(plan: WorkPlan) -> Path:
    """Where the files of a plan are written before they are renamed into the store.

    It is a folder of the plan's own: a worker that outlives its driver cannot put a file of an
    older plan into the store, because the next build removes the folder first.
    """
    return build_folder(plan.store) / f"tmp-{plan.id}"


def train_rows(table: Table) -> str:
    """Name of the rows of a table, in ``ROWS_FILE``, that extractors are fitted on."""
    return f"train/{table}"


def plan_recipe(store: Path) -> dict[str, Any]:
    """The recipe of an unfinished build; empty where it did not come to its tasks."""
    for path in build_folder(store).glob("plan-*.json"):
        with contextlib.suppress(ValueError, KeyError, OSError):
            recipe: dict[str, Any] = json.loads(path.read_bytes())["recipe"]
            return recipe
    return {}


class Worker:
    """A plan with its plugins, loaded by name; one a process, kept from task to task."""

    def __init__(self, plan_file: Path) -> None:
        self.plan = WorkPlan.from_json(plan_file.read_bytes())
        self._scans = plan_file.parent
        self.recipe = parse_recipe(self.plan.recipe, "the plan's recipe")
        self.columns = {(column.table, column.name): column for column in self.plan.columns}
        self._extractors: dict[int, Any] = {}
        self._arrays: dict[tuple[Table, str], WideArray] = {}

    def _created(self, kind: str, section: Section, options: dict[str, Any]) -> Any:
        """A plugin, of the source that the plan's keys were made of."""
        plugin = registry.create(kind, section.plugin, options, self.plan.folder)
        source = registry.find(kind, section.plugin).source
        for column in self.plan.columns:
            made_by = column.attributes["eegstore"]["producer"]
            same = (made_by["kind"], made_by["name"]) == (kind, section.plugin)
            if same and made_by.get("source", "") != source:
                raise InputError(
                    f"{kind} {section.plugin!r}: the source of {made_by['distribution']} was "
                    "edited while the build ran; run the same command again"
                )
        return plugin

    def _reader(self, kind: str, section: Section, options: dict[str, Any]) -> Any:
        """The source or the provider, with the state of the driver's scan where it keeps one."""
        plugin = self._created(kind, section, options)
        if isinstance(plugin, Stateful):
            with np.load(self._scans / f"{kind}.npz", allow_pickle=False) as state:
                arrays = {name: state[name] for name in state.files}
            guarded(kind, plugin, plugin.restore, arrays, limit_s=section.timeout_s)
        return plugin

    @functools.cached_property
    def source(self) -> Any:
        """The recipe's source."""
        section = self.recipe.source
        return self._reader("source", section, source_options(section))

    @functools.cached_property
    def provider(self) -> Any:
        """The recipe's stimulus provider."""
        section = self.recipe.stimuli
        assert section is not None
        return self._reader("stimuli", section, section.options)

    @functools.cached_property
    def rows(self) -> dict[str, NDArray[Any]]:
        """``n_valid``, and the narrow columns that scanning gave, named ``table/column``."""
        with np.load(self._scans / ROWS_FILE, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def prepared(self, number: int) -> Any:
        """The extractor of a ``[[extract]]`` section, prepared, and not fitted."""
        section = self.recipe.extract[number]
        plugin = self._created("extractor", section, section.options)
        if hasattr(plugin, "prepare"):
            with self._noted("extractor", plugin):
                guarded("extractor", plugin, plugin.prepare, limit_s=section.timeout_s)
        return plugin

    def extractor(self, number: int) -> Any:
        """The extractor of a ``[[extract]]`` section, prepared and restored."""
        if number not in self._extractors:
            plugin, section = self.prepared(number), self.recipe.extract[number]
            column = next(one for one in self.plan.columns if one.extract == number)
            if column.is_fitted:
                where = str(state_file(self.plan.store, column))
                state = decoded(read_state(self.plan.store, column), where)
                guarded("extractor", plugin, plugin.restore, state, limit_s=section.timeout_s)
            self._extractors[number] = plugin
        return self._extractors[number]

    def call(self, kind: str, plugin: Any, section: Section, call: Any, *arguments: Any) -> Any:
        """What a plugin computes for a block; twice where the build checks its determinism."""
        how = repeated if self.plan.check_determinism else guarded
        with self._noted(kind, plugin):
            return how(kind, plugin, call, *arguments, limit_s=section.timeout_s)

    @contextlib.contextmanager
    def _noted(self, kind: str, plugin: Any) -> Iterator[None]:
        """Leave a note of the plugin that runs, for the driver to find if it kills the process."""
        note = temporary_folder(self.plan) / f"{os.getpid()}.{kind}.{plugin.name}{NOTE}"
        note.touch()
        try:
            yield
        finally:
            note.unlink(missing_ok=True)

    def stored(self, table: Table, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of a column that a scan gave, or that an earlier task or build has written."""
        if (table, name) not in self.columns:
            return self.rows[f"{table}/{name}"][rows]
        if (table, name) not in self._arrays:
            column = self.columns[table, name]
            array = wide_array(self.plan.store / column.path, column.layout, column.attributes)
            self._arrays[table, name] = array
        return self._arrays[table, name].take(rows)


def take_notes(plan_file: Path) -> list[str]:
    """The plugins that ran in processes that died since the last call."""
    folder = plan_file.with_name(plan_file.stem.replace("plan-", "tmp-", 1))
    plugins = set()
    for note in folder.glob(f"*{NOTE}"):
        _, kind, name, _ = note.name.split(".")
        plugins.add(f"{kind} {name!r}")
        note.unlink(missing_ok=True)
    return sorted(plugins)


@functools.lru_cache(maxsize=1)
def worker(plan_file: str) -> Worker:
    """The process' worker for a plan."""
    return Worker(Path(plan_file))

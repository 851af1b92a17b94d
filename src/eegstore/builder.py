"""Builds a store: scan, plan, run the tasks, pair, split, commit."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from eegstore import registry
from eegstore.attributes import VERSION, HistoryEntry, StageEntry
from eegstore.commit import Commit, NarrowColumn, narrow_columns, remove, shard_records
from eegstore.disk import writer_lock
from eegstore.driver import run_tasks
from eegstore.errors import (
    EegStoreError,
    IncompleteError,
    InputError,
    InterruptedBuildError,
    RecipeError,
    UsageError,
)
from eegstore.extract import invalid_rows, rejected_trials
from eegstore.pair import WrittenColumn, pair
from eegstore.plan import PlannedColumn
from eegstore.prepare import (
    Plan,
    check_space,
    is_building,
    make_plan,
    open_build_folder,
    refuse_loss,
    standing_receipts,
    write_plan,
)
from eegstore.recipe import Recipe, load_recipe, nearest, parse_recipe
from eegstore.recover import recover
from eegstore.scan import pairing_plugin
from eegstore.shards import ShardedArray
from eegstore.split import split
from eegstore.store import beside, build_folder
from eegstore.tables import Table
from eegstore.worker import worker

LIBRARIES: Final = ("numpy", "scipy", "zarr", "numcodecs", "torch", "transformers", "mne")
WORTH_PROCESSES: Final = 2
BEFORE_TASKS: Final = ("scan",)
AFTER_TASKS: Final = ("pair", "split", "commit")
Listener = Callable[[str, int, int], None]
P = ParamSpec("P")
T = TypeVar("T")


class Stages:
    """What each stage took, summed over tasks."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, Table], list[float]] = {}

    def add(
        self, name: str, seconds: float, rows: int, bytes: int = 0, of: Table = "trials"
    ) -> None:
        """Add to a stage."""
        sums = self._sums.setdefault((name, of), [0.0, 0, 0])
        for number, value in enumerate((seconds, rows, bytes)):
            sums[number] += value

    def run(self, name: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Time a call as a stage."""
        start = time.perf_counter()
        result = call(*args, **kwargs)
        self.add(name, time.perf_counter() - start, 0)
        return result

    def entries(self, n_trials: int) -> list[StageEntry]:
        """The stages in the order of the data flow; the driver's own went through all trials."""
        entries = []
        for (name, of), (seconds, rows, n_bytes) in self._sums.items():
            own = name in (*BEFORE_TASKS, *AFTER_TASKS)
            entries.append(
                StageEntry(
                    name=name,
                    of=of,
                    seconds=seconds,
                    rows=n_trials if own else int(rows),
                    bytes=int(n_bytes),
                )
            )
        return sorted(
            entries,
            key=lambda entry: (
                entry.name not in BEFORE_TASKS,
                entry.name in AFTER_TASKS,
                entry.of == "stimuli",
            ),
        )


def _n_cpus() -> int:
    """Processors that this process may use, where the platform tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@dataclass(frozen=True)
class Run:
    """How a build was started."""

    executor: str
    n_workers: int
    listener: Listener
    started: str
    clock: float

    @classmethod
    def start(
        cls,
        plan: Plan,
        executor: str | None,
        n_workers: int | None,
        listener: Listener,
        begin: float,
    ) -> Self:
        """Choose the executor: processes are worth their start from a few tasks on."""
        workers = _n_cpus() if n_workers is None else n_workers
        if workers < 1:
            raise UsageError(f"--workers {n_workers}: expected a positive number")
        usual = "processes" if len(plan.tasks) > WORTH_PROCESSES and workers > 1 else "serial"
        known = [one.name for one in registry.usable("executor")]
        if executor is not None and executor not in known:
            raise UsageError(f"no executor is called {executor!r}; {nearest(executor, known)}")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(executor or usual, workers, listener, now, begin)

    def history(
        self,
        plan: Plan,
        stages: Stages,
        valid: NDArray[np.bool_],
        stimulus: NDArray[np.int64],
    ) -> HistoryEntry:
        """What the store records of the build."""
        skipped = list(plan.found.trials.skipped)
        return HistoryEntry(
            started=self.started,
            seconds=time.perf_counter() - self.clock,
            eegstore=VERSION,
            libraries=_library_versions(),
            folder=str(plan.folder),
            executor=self.executor,
            n_workers=self.n_workers,
            computed=[column.path for column in plan.computed],
            reused=[entry.path for entry in plan.reused if entry.kind == "wide"],
            dropped=[entry.path for entry in plan.dropped],
            counts={
                "trials": plan.found.n_rows["trials"],
                "stimuli": plan.found.n_rows["stimuli"],
                "invalid": int(np.sum(~valid)),
                "unpaired": int(np.sum(stimulus < 0)),
                "skipped": len(skipped),
            },
            skipped=skipped,
            stages=stages.entries(plan.found.n_rows["trials"]),
        )


@dataclass(frozen=True)
class Report:
    """What a build did; ``history`` is what the store recorded of it, None if nothing was done."""

    store: Path
    digest: str
    n_trials: int
    n_stimuli: int
    notice: str
    hints: tuple[str, ...]
    history: HistoryEntry | None

    @property
    def up_to_date(self) -> bool:
        """Whether there was nothing to do."""
        return self.history is None

    def document(self) -> dict[str, Any]:
        """The report as a JSON value."""
        facts = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        history = self.history.model_dump(mode="json") if self.history else None
        return facts | {
            "store": str(self.store),
            "history": history,
            "up_to_date": self.up_to_date,
        }


def default_store(recipe: Recipe, given: str | Path | Mapping[str, Any]) -> Path:
    """Where a build goes that is not told: the recipe's name in the current folder."""
    name = recipe.name or (Path(given).stem if isinstance(given, str | Path) else "")
    if not name:
        raise RecipeError("the recipe has no name, so the build needs to be told where to write")
    return Path(f"{name}.zarr")


def read_recipe(
    recipe: str | Path | Mapping[str, Any], assignments: Sequence[str] = ()
) -> tuple[Recipe, Path]:
    """A recipe from a file, a shipped name, or a mapping (relative to the current folder)."""
    if isinstance(recipe, Mapping):
        return parse_recipe(recipe, "recipe"), Path.cwd()
    return load_recipe(recipe, assignments)


def _valid(plan: Plan, receipts: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """bool, (trial,): whether each trial's signal is finite.

    From the receipts of this build, else from the store, else from the signal itself (where a
    build was interrupted while it replaced the column).
    """
    valid = np.ones(plan.found.trials.n_trials, dtype=np.bool_)
    seen = {receipt["shard"]: receipt for receipt in receipts if "trials-" in receipt["task"]}
    eeg = next(column for column in plan.columns if column.path == "trials/eeg")
    if len(seen) == eeg.layout.n_shards:
        for receipt in seen.values():
            valid[receipt["invalid"]] = False
    elif plan.committed is not None and "valid" in plan.committed.trials:
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
    return WrittenColumn(column.spec, ShardedArray(store / column.path, column.layout))


def _finish(plan: Plan, stages: Stages, run: Run) -> tuple[str, HistoryEntry]:
    """Pair, split and commit; every shard is in place by now."""
    found, receipts = plan.found, standing_receipts(plan.store, plan.computed)
    run.listener("pair, split and commit", 0, 0)
    valid = _valid(plan, receipts)
    written = {column.path: _written(plan.store, column) for column in plan.columns}
    pairs = stages.run("pair", pair, found, written, valid)
    names = stages.run("split", split, found, pairs.stimulus, valid)
    narrow = list(narrow_columns(found, plan.columns, pairs, names, valid))
    commit = stages.run("commit", _gather, plan, narrow, receipts)
    stages.run("commit", commit.put_arrays)
    entry = run.history(plan, stages, valid, pairs.stimulus)
    before = plan.committed.attributes.history if plan.committed else []
    name = plan.recipe.name or plan.store.stem
    recipe = plan.recipe.document()
    attributes = commit.put_root(name, found.trials.notice, recipe, [*before, entry])
    return attributes.digest, entry


def _gather(
    plan: Plan, narrow: Sequence[NarrowColumn], receipts: Sequence[Mapping[str, Any]]
) -> Commit:
    """The next state of the store; what it replaces is removed first."""
    if plan.committed is not None:
        there = plan.committed.attributes.columns
        remove(plan.store, plan.committed, [entry for entry in plan.lost if entry in there])
    commit = Commit(plan.store, plan.reused)
    for column in plan.computed:
        commit.add_wide(column, shard_records(receipts, column))
    kept = {entry.path for entry in plan.reused}
    for one in narrow:
        if one.path not in kept:
            commit.add_narrow(one, plan.keys[one.path])
    return commit


def plan(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    assignments: Sequence[str] = (),
) -> Plan:
    """What ``build`` would do with the same arguments; nothing is written."""
    loaded, folder = read_recipe(recipe, assignments)
    return make_plan(loaded, folder, default_store(loaded, recipe) if out is None else Path(out))


def build(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    assignments: Sequence[str] = (),
    executor: str | None = None,
    n_workers: int | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Report:
    """Build a store, or bring one up to date: only what changed is computed.

    Parameters
    ----------
    recipe
        A TOML file, the name of a shipped recipe, or a mapping.
    out
        The store's folder; by default the recipe's name in the current folder.
    assignments
        ``a.b=value`` overrides of the recipe.
    executor, n_workers
        Name of an executor plugin (``serial``, ``processes``, …) and its number of workers.
    overwrite
        Drop committed columns where the recipe no longer has them or their rows changed.
    listener
        Called with the stage's name, how many of its tasks are done, and of how many.

    Raises
    ------
    EegStoreError
        Whatever the failure, with the exit code of its class. What was done is kept: building
        again resumes.
    """
    loaded, folder = read_recipe(recipe, assignments)
    store = default_store(loaded, recipe) if out is None else Path(out)
    try:
        with writer_lock(beside(store, ".lock")):
            begin, stages, tell = time.perf_counter(), Stages(), listener or _silence
            tell("scan", 0, 0)
            plan = stages.run("scan", make_plan, loaded, folder, store)
            run = Run.start(plan, executor, n_workers, tell, begin)
            return _build(plan, stages, run, overwrite)
    except KeyboardInterrupt:
        raise InterruptedBuildError(
            f"{store}: interrupted; run the same command again to resume"
        ) from None
    except EegStoreError:
        _log(store)
        raise
    except OSError as error:
        _log(store)
        raise _failed_write(store, error) from error
    finally:
        worker.cache_clear()


def _failed_write(store: Path, error: OSError) -> EegStoreError:
    """What the system refused: the place itself, or, once a build has begun, to go on."""
    reason = f"{store}: {error.strerror or error}" + (
        f": {error.filename}" if error.filename else ""
    )
    if is_building(store):
        return IncompleteError(f"{reason}; mend that and run the same command again to resume")
    return InputError(f"{reason}; choose another OUT")


def _silence(stage: str, done: int, total: int) -> None:
    """Hear nothing."""


def _log(store: Path) -> None:
    """Keep a failure's traceback beside the store, where a build has begun."""
    if is_building(store):
        with (build_folder(store) / "log.txt").open("a", encoding="utf-8") as log:
            log.write(traceback.format_exc())


def _build(plan: Plan, stages: Stages, run: Run, overwrite: bool) -> Report:
    trials, store = plan.found.trials, plan.store
    facts = (trials.n_trials, plan.found.n_rows["stimuli"], trials.notice, tuple(trials.hints))
    if plan.up_to_date and plan.committed is not None:
        shutil.rmtree(build_folder(store), ignore_errors=True)
        return Report(store, plan.committed.digest, *facts, None)
    refuse_loss(plan, overwrite)
    check_space(plan)
    _pair_early(plan)
    open_build_folder(store)
    plan = recover(plan)
    if plan.tasks:
        _extract(plan, stages, run)
    digest, entry = _finish(plan, stages, run)
    shutil.rmtree(build_folder(store))
    return Report(store, digest, *facts, entry)


def _pair_early(plan: Plan) -> None:
    """Let a pairing that reads no column refuse before anything is computed."""
    if plan.found.stimuli is not None and not getattr(pairing_plugin(plan.found), "reads", ()):
        pair(plan.found, {}, np.ones(plan.found.trials.n_trials, dtype=np.bool_))


def _extract(plan: Plan, stages: Stages, run: Run) -> None:
    """Run the tasks; each leaves its shards and its receipt on the disk."""
    factory = registry.create("executor", run.executor, {}, plan.folder)
    plan_file = write_plan(plan)
    names = [task.name for task in plan.tasks]
    run.listener("extract", 0, len(names))
    results = run_tasks(factory, run.n_workers, str(plan_file), names)
    for number, done in enumerate(results, 1):
        for stage in done["stages"]:
            stages.add(**stage)
        run.listener("extract", number, len(names))

"""Builds a store: scan, plan, run the tasks, pair, split, commit."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eegstore import registry
from eegstore.account import Listener, Report, Run, Stages
from eegstore.attributes import HistoryEntry
from eegstore.calls import guarded
from eegstore.commit import (
    Commit,
    NarrowColumn,
    delete,
    narrow_columns,
    shard_records,
    withdraw,
)
from eegstore.disk import sync_folders, writer_lock
from eegstore.driver import run_tasks
from eegstore.errors import (
    EegStoreError,
    IncompleteError,
    InputError,
    InterruptedBuildError,
    RecipeError,
    UsageError,
)
from eegstore.fitting import PairedRows, fit_tasks, fitted_states, paired_rows
from eegstore.head_start import HeadStart, head_start
from eegstore.narrow import with_answered
from eegstore.pair import pair, unused
from eegstore.plan import make_tasks
from eegstore.prepare import (
    Plan,
    check_output,
    check_space,
    close_build_folder,
    make_plan,
    open_build_folder,
    refuse_inside_input,
    refuse_loss,
    write_plan,
)
from eegstore.provenance import maker_named
from eegstore.quality import hints
from eegstore.receipts import Receipt, receipts_folder, standing_receipts
from eegstore.recipe import Recipe, load_recipe, parse_recipe
from eegstore.recover import recover
from eegstore.root import MARKER, beside, build_folder, is_building
from eegstore.scan import pairing_reads
from eegstore.split import split
from eegstore.wording import MAX_TEXT, text_of
from eegstore.work import Task
from eegstore.worker import new_plan_id, worker


def _place(loaded: Recipe, recipe: str | Path | Mapping[str, Any], out: str | Path | None) -> Path:
    """Where a build goes."""
    if out == "":
        raise UsageError("OUT is empty, expected the store to write")
    return default_store(loaded, recipe) if out is None else Path(out)


def default_store(recipe: Recipe, given: str | Path | Mapping[str, Any]) -> Path:
    """Where a build goes that is not told: the recipe's name in the current folder."""
    name = recipe.name or (Path(given).stem if isinstance(given, str | Path) else "")
    if not name:
        raise RecipeError("the recipe has no name, so the build needs to be told where to write")
    if Path(name).name != name or not name.isprintable():
        raise RecipeError(
            f"name: got {name!r:.{MAX_TEXT}}, which names no file in this folder; tell the build "
            "where to write"
        )
    return Path(f"{name}.zarr")


def read_recipe(
    recipe: str | Path | Mapping[str, Any], assignments: Sequence[str] = ()
) -> tuple[Recipe, Path]:
    """A recipe from a file, a shipped name, or a mapping (relative to the current folder)."""
    if isinstance(recipe, Mapping):
        return parse_recipe(recipe, "recipe"), Path.cwd()
    return load_recipe(recipe, assignments)


def _finish(
    plan: Plan, stages: Stages, run: Run, check: Callable[[], None], rows: PairedRows | None
) -> Report:
    """Pair and split, where no fit has asked for it, and commit; every shard is in place by now."""
    found, receipts = plan.found, standing_receipts(plan.store, plan.computed)
    if left := make_tasks(found, plan.computed, receipts):
        raise IncompleteError(
            f"{plan.store}: {len(left)} tasks have ended, but their shards or receipts are not "
            f"there ({left[0].name}); run the same command again to resume"
        )
    run.listener("pair, split and commit", 0, 0)
    rows = rows or paired_rows(plan, stages)
    valid, pairs = rows.valid, rows.pairs
    narrow = list(narrow_columns(found, plan.columns, pairs, rows.splits, valid))
    narrow += fitted_states(plan)
    plan = replace(plan, keys=with_answered(plan.keys, [one.path for one in narrow]))
    check()
    commit = stages.run("commit", _gather, plan, narrow, receipts)
    stages.run("commit", commit.put_arrays)
    entry = run.history(plan, stages, valid, pairs.stimulus)
    before = plan.committed.attributes.history if plan.committed else []
    name = plan.recipe.name or plan.store.stem
    recipe = plan.recipe.document()
    check()
    history, order = [*before, entry], list(plan.keys)
    attributes = commit.put_root(name, found.trials.notice, recipe, history, order)
    return _report(
        plan, attributes.digest, receipts, entry, unused(pairs, plan.found.n_rows["stimuli"])
    )


def _gather(
    plan: Plan, narrow: Sequence[NarrowColumn], receipts: Sequence[Mapping[str, Any]]
) -> Commit:
    """The next state of the store; what it replaces is removed first."""
    if plan.committed is not None:
        lost = [entry for entry in plan.lost if entry in plan.committed.attributes.columns]
        withdraw(plan.store, plan.committed, lost)
        delete(plan.store, lost)
    commit = Commit(plan.store, plan.reused)
    for column in plan.computed:
        commit.add_wide(column, shard_records(receipts, column))
    kept = {entry.path for entry in plan.reused}
    for one in narrow:
        if one.path not in kept:
            commit.add_narrow(one, plan.keys)
    return commit


def plan(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    assignments: Sequence[str] = (),
    deep: bool = False,
) -> Plan:
    """What ``build`` would do with the same arguments; nothing is written."""
    loaded, folder = read_recipe(recipe, assignments)
    store = _place(loaded, recipe, out)
    try:
        check_output(store)
        with maker_named(store):
            refuse_inside_input(loaded, folder, store)
            planned = make_plan(loaded, folder, store, deep)
        _pair_early(planned)
    except OSError as error:
        raise _refused(store, error) from error
    return planned


def build(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    assignments: Sequence[str] = (),
    executor: str | None = None,
    n_workers: int | None = None,
    overwrite: bool = False,
    deep: bool = False,
    check_determinism: bool = False,
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
        Drop committed columns that the recipe no longer has or whose rows are others, and
        finished shards of an interrupted build that this recipe has no use for.
    deep
        Read every byte of what is reused, not only of files written after they were committed.
        Whatever is damaged is made again.
    check_determinism
        Compute every block twice, and refuse a plugin whose values differ.
    listener
        Called with the stage's name, how many of its tasks are done, and of how many.

    Raises
    ------
    EegStoreError
        Whatever the failure, with the exit code of its class. What was done is kept: building
        again resumes.
    """
    loaded, folder = read_recipe(recipe, assignments)
    store = _place(loaded, recipe, out)
    try:
        check_output(store)
        with maker_named(store):
            refuse_inside_input(loaded, folder, store)
        with maker_named(store), writer_lock(beside(store, ".lock")), _opened(store) as check:
            begin, stages, tell = time.perf_counter(), Stages(), listener or _silence
            tell("scan", 0, 0)
            with head_start(loaded, folder, store, executor, n_workers) as begun:
                plan = stages.run("scan", make_plan, loaded, folder, store, deep)
                run = Run.start(plan, executor, n_workers, check_determinism, tell, begin, begun)
                return _build(plan, stages, run, overwrite, check)
    except KeyboardInterrupt:
        raise InterruptedBuildError(
            f"{store}: interrupted; run the same command again to resume"
        ) from None
    except OSError as error:
        raise _refused(store, error) from error
    except MemoryError as error:
        raise IncompleteError(
            f"{store}: out of memory ({text_of(error)}); fewer --workers need less, and the same "
            "command resumes"
        ) from error
    finally:
        worker.cache_clear()


@contextlib.contextmanager
def _opened(store: Path) -> Iterator[Callable[[], None]]:
    """Hold the build's folder too, whoever deletes the lock file; delete it where nothing is left.

    What is yielded raises once somebody has deleted the folder.
    """
    began, held = is_building(store), False
    if began:  # the earlier build may have ended between making a name and syncing it
        for folder in (store, build_folder(store)):
            sync_folders(folder)
    open_build_folder(store)
    try:
        with writer_lock(build_folder(store) / MARKER) as check:
            held = True
            try:
                yield check
            except Exception:
                check()
                if began or _has_begun(store):
                    _log(store)
                raise
    except BaseException:
        if held and not began and not _has_begun(store):
            close_build_folder(store)
        raise
    _close(store)


def _has_begun(store: Path) -> bool:
    """Whether there is more in the build's folder than its marker."""
    return len(list(build_folder(store).glob("*"))) > 1


def _refused(store: Path, error: OSError) -> EegStoreError:
    """What the system refused: the place itself, or, once a build has begun, to go on."""
    where = error.filename2 or error.filename  # of a rename, where to
    reason = f"{store}: {error.strerror or error}" + (f": {where}" if where else "")
    if is_building(store):
        return IncompleteError(f"{reason}; mend that and run the same command again to resume")
    return InputError(f"{reason}; mend that or choose another OUT")


def _silence(stage: str, done: int, total: int) -> None:
    """Hear nothing."""


def _log(store: Path) -> None:
    """Keep a failure's traceback beside the store."""
    # What cannot be logged is told all the same: the disk may be full.
    with contextlib.suppress(OSError):
        log = build_folder(store) / "log.txt"
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(traceback.format_exc())


def _close(store: Path) -> None:
    """Delete the build's folder; the store is whole, whatever becomes of that."""
    try:
        close_build_folder(store)
    except OSError as error:
        where = build_folder(store)
        raise IncompleteError(
            f"{store}: is committed and whole, but {where} cannot be deleted "
            f"({error.strerror or error}); mend that and run the same command again"
        ) from error


def _build(
    plan: Plan, stages: Stages, run: Run, overwrite: bool, check: Callable[[], None]
) -> Report:
    if not overwrite:
        refuse_loss(plan)
    if plan.up_to_date and plan.committed is not None:
        if receipts_folder(plan.store).is_dir():  # what an interrupted build has left
            recover(plan)
        return _report(plan, plan.committed.digest, [], None)
    check_space(plan)
    _pair_early(plan)
    check()
    plan = recover(plan)
    rows = _extract(plan, stages, run)
    return _finish(plan, stages, run, check, rows)


def _report(
    plan: Plan, digest: str, receipts: Sequence[Receipt], entry: HistoryEntry | None,
    more_hints: Sequence[str] = (),
) -> Report:  # fmt: skip
    trials = plan.found.trials
    doubts = [receipt["doubts"] for receipt in receipts if "doubts" in receipt]
    all_hints = (*plan.hints, *hints(doubts, trials.ch_names), *more_hints)
    n_stimuli = plan.found.n_rows["stimuli"]
    return Report(plan.store, digest, trials.n_trials, n_stimuli, trials.notice, all_hints, entry)


def _pair_early(plan: Plan) -> None:
    """Let a pairing that reads no column, and the split after it, refuse before anything runs."""
    found = plan.found
    if not pairing_reads(found):
        valid = np.ones(found.trials.n_trials, dtype=np.bool_)
        split(found, pair(found, {}, valid).stimulus, valid)


def _extract(plan: Plan, stages: Stages, run: Run) -> PairedRows | None:
    """Run the tasks, phase by phase; each leaves its shards and its receipt on the disk.

    Before the tasks of a later phase come the fits that they wait for; those need the split.
    """
    fits = fit_tasks(plan)
    tasks = sorted([*fits, *plan.tasks], key=lambda task: (task.phase, not task.is_fit))
    rows, begun = None, run.begun
    for some in _steps(tasks):
        if some[0].phase:
            rows = rows or paired_rows(plan, stages)
        _run(plan, some, rows, stages, run, begun)
        begun = None
    return rows


def _steps(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Tasks that wait for no other of the same step."""
    for _, some in itertools.groupby(tasks, key=lambda task: (task.phase, task.is_fit)):
        yield list(some)


def _run(
    plan: Plan,
    tasks: Sequence[Task],
    rows: PairedRows | None,
    stages: Stages,
    run: Run,
    begun: HeadStart | None,
) -> None:
    executor = registry.create("executor", run.executor, {}, plan.folder)
    factory = functools.partial(guarded, "executor", executor, executor)
    plan_id = begun.plan_id if begun else new_plan_id()
    paired = rows.for_workers if rows else {}
    plan_file = write_plan(plan, tasks, plan_id, paired, run.check_determinism)
    names = [task.name for task in tasks]
    said = "fit" if tasks[0].is_fit else "extract"
    run.listener(said, 0, len(names))
    # Closed whatever the listener does: no worker goes on once the lock is free.
    results = run_tasks(factory, run.n_workers, str(plan_file), names, begun)
    with contextlib.closing(results):
        for number, done in enumerate(results, 1):
            for stage in done["stages"]:
                stages.add(**stage)
            run.listener(said, number, len(names))

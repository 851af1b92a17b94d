"""Compares a recipe with what a store holds, and lays out what workers need."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegstore.attributes import DOCUMENT, FORMAT, ColumnEntry
from eegstore.calls import guarded
from eegstore.disk import fsync_path, make_folder, put
from eegstore.errors import InputError
from eegstore.inputs import option_paths
from eegstore.narrow import answered, narrow_keys, with_answered
from eegstore.plan import make_tasks, plan_columns
from eegstore.protocols import Stateful
from eegstore.provenance import difference, planned_facts, recipe_changes
from eegstore.receipts import Receipt, forsaken, merged, receipts_folder, standing_receipts
from eegstore.recipe import Recipe
from eegstore.registry import path_options
from eegstore.root import (
    MARKER,
    build_folder,
    has_tables,
    is_building,
    records_path,
    refuse_inside_store,
)
from eegstore.salvage import committed_store, salvaged_receipts
from eegstore.scan import (
    Scan,
    provider_plugin,
    scan,
    scanned_columns,
    source_plugin,
    split_plugin,
)
from eegstore.states import plain_arrays
from eegstore.store import Store
from eegstore.verification import ALL, Damage, check_entry
from eegstore.work import PlannedColumn, Task, WorkPlan
from eegstore.worker import ROWS_FILE, plan_path, plan_recipe, temporary_folder


@dataclass(frozen=True)
class Plan:
    """What a build would do to a store.

    ``receipts`` vouch for the shards that an unfinished build, which this one ``resumes``, has
    left, and for the sound ones of damaged columns.
    """

    store: Path
    recipe: Recipe
    folder: Path
    found: Scan
    columns: tuple[PlannedColumn, ...]
    keys: Mapping[str, str]
    committed: Store | None
    reused: tuple[ColumnEntry, ...]
    lost: tuple[ColumnEntry, ...]
    damage: tuple[Damage, ...]
    receipts: tuple[Receipt, ...]
    resumes: bool
    tasks: tuple[Task, ...]

    @property
    def computed(self) -> tuple[PlannedColumn, ...]:
        """The wide columns that are not committed yet."""
        kept = {entry.path for entry in self.reused}
        return tuple(column for column in self.columns if column.path not in kept)

    @property
    def renewed(self) -> tuple[str, ...]:
        """Paths of the columns that are computed, but for those that are mended."""
        mended = {entry.path for entry in self.lost if entry.key == self.keys.get(entry.path)}
        return tuple(column.path for column in self.computed if column.path not in mended)

    @property
    def dropped(self) -> tuple[ColumnEntry, ...]:
        """Wide columns of the store that the recipe no longer has, or whose rows are others."""
        eeg_key = self.keys["trials/eeg"]
        others = any(one.path == "trials/eeg" and one.key != eeg_key for one in self.lost)
        wide = [entry for entry in self.lost if entry.kind == "wide"]
        return tuple(entry for entry in wide if others or entry.path not in self.keys)

    @property
    def bytes_left(self) -> int:
        """Bytes of the values that the tasks still have to write, before compression."""
        layouts = {column.path: column.layout for column in self.computed}
        return sum(
            (task.stop - task.start) * layouts[f"{task.table}/{name}"].row_bytes
            for task in self.tasks
            for name in task.columns
        )

    @property
    def rewritten(self) -> tuple[str, ...]:
        """Narrow columns and coordinates that the commit will write."""
        kept = {entry.path for entry in self.reused} | {column.path for column in self.columns}
        return tuple(path for path in self.keys if path not in kept)

    @property
    def worker_bytes(self) -> int:
        """About the largest arrays that a worker holds at once: a few blocks of each column."""
        return sum(
            3 * column.layout.chunk_rows * column.layout.row_bytes for column in self.computed
        )

    @property
    def hints(self) -> tuple[str, ...]:
        """What the person who builds should know beforehand; the source's own hints first."""
        everything = split_plugin(self.found) is None
        fitted = [column.path for column in self.columns if column.is_fitted and everything]
        said = f"{', '.join(fitted)}: fitted on all rows, as the recipe has no [split]"
        return (*self.found.trials.hints, *([said] if fitted else []))

    @property
    def moved(self) -> bool:
        """Whether the images are no longer where the store's last build read them."""
        provider = self.found.provider
        if self.committed is None or provider is None or not path_options(type(provider)):
            return False
        history = self.committed.attributes.history
        return not history or history[-1].folder != str(self.folder)

    @property
    def up_to_date(self) -> bool:
        """Whether the store already is what the recipe asks for."""
        return (
            self.committed is not None
            and not self.moved
            and self.committed.recipe == self.recipe.document()
            and len(self.reused) == len(self.keys)
            and not self.lost
            and not self.damage
        )


def check_output(store: Path) -> None:
    """Refuse a place that holds something else; nothing of others is ever touched."""
    beside = build_folder(store)
    ours = is_building(store)
    if beside.exists() and not ours and (not beside.is_dir() or any(beside.iterdir())):
        raise InputError(
            f"{beside}: in the way of the build's own files and not eegstore's; nothing was "
            "touched, choose another OUT"
        )
    if store.is_symlink() and not store.exists():
        raise InputError(f"{store}: a link that leads nowhere; choose another OUT, or delete it")
    refuse_inside_store(store)
    if (store / DOCUMENT).is_dir():
        raise InputError(f"{store / DOCUMENT}: a folder, expected a file; move it away")
    if not store.exists() or has_tables(store) or ours or _holds_store(store):
        return
    if not store.is_dir() or any(store.iterdir()):
        raise InputError(
            f"{store}: exists and is not an eegstore store; nothing was touched, choose another OUT"
        )


def _holds_store(store: Path) -> bool:
    """Whether there is a root document, and it is ours, or what is around a damaged one is."""
    if not (store / DOCUMENT).is_file():
        return False
    committed, own_root = committed_store(store)
    return own_root or bool(committed.attributes.columns)


def open_build_folder(store: Path) -> None:
    """Create the folder of what is not the product, marked as ours."""
    folder = build_folder(store)
    make_folder(folder)
    (folder / MARKER).touch()
    fsync_path(folder)


def close_build_folder(store: Path) -> None:
    """Delete the folder; the mark goes last, so that what is left is known as ours."""
    folder = build_folder(store)
    if is_building(store):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != MARKER:
                path.unlink()
        (folder / MARKER).unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def make_plan(recipe: Recipe, folder: Path, store: Path, deep: bool = False) -> Plan:
    """Scan the input, compare with what the store holds, and plan the tasks that are left.

    A file that is reused is read where it was written after the commit; all are where ``deep``.
    """
    committed, own_root = committed_store(store) if _is_committed(store) else (None, True)
    found = scan(recipe, folder)
    columns = plan_columns(found)
    keys = {column.path: column.key for column in columns}
    for (table, name), key in narrow_keys(found, columns).items():
        keys[f"{table}/{name}"] = key
    entries = committed.attributes.columns if committed else []
    keys = with_answered(keys, answered(entries, keys))
    wanted = [entry for entry in entries if keys.get(entry.path) == entry.key]
    damage = _damage(committed, own_root, wanted, deep) if committed else {}
    reused = tuple(entry for entry in wanted if not damage.get(entry.path) and own_root)
    kept = {entry.path for entry in reused}
    missing = [column for column in columns if column.path not in kept]
    damaged = {entry.path: entry for entry in wanted if entry.path not in kept}
    pairs = [(column, damaged[column.path]) for column in missing if column.path in damaged]
    salvaged = salvaged_receipts(committed, pairs) if committed else []
    standing = standing_receipts(store, missing, deep)
    receipts = merged([*standing, *salvaged])
    return Plan(
        store, recipe, folder, found, columns, keys, committed, reused,
        lost=tuple(entry for entry in entries if entry.path not in kept),
        damage=tuple(one for found_there in damage.values() for one in found_there),
        receipts=tuple(receipts),
        resumes=bool(standing),
        tasks=make_tasks(found, missing, receipts),
    )  # fmt: skip


def _is_committed(store: Path) -> bool:
    """Whether a commit has been there; a lost root document is no first commit to come."""
    begun = receipts_folder(store).is_dir()
    return (store / DOCUMENT).is_file() or (has_tables(store) and not begun)


def _damage(
    committed: Store, own_root: bool, wanted: Iterable[ColumnEntry], deep: bool
) -> dict[str, list[Damage]]:
    """What is damaged of the root, of each group and of each column that the plan wants."""
    if not own_root:
        return {"": [Damage(DOCUMENT, "is missing or was changed since the commit")]}
    after = ALL if deep else (committed.folder / DOCUMENT).stat().st_mtime_ns
    damage: dict[str, list[Damage]] = defaultdict(list)
    owners = {records_path(one.table, one.name): one.path for one in wanted if one.kind == "wide"}
    for file, problem in committed.document_problems():
        folder = file.removesuffix(f"/{DOCUMENT}")
        damage[owners.get(folder, folder)].append(Damage(file, problem))
    for entry in wanted:
        damage[entry.path] += check_entry(committed, entry, after)
    return damage


def refuse_inside_input(recipe: Recipe, folder: Path, store: Path) -> None:
    """A store inside a folder of the input would be input of the next build."""
    place = Path(os.path.realpath(store))
    for plugin in (source_plugin(recipe, folder), provider_plugin(recipe, folder)):
        for name in path_options(type(plugin)) if plugin else ():
            for path in option_paths(plugin, name):
                is_folder = os.path.isdir(path)  # noqa: PTH112 - of any name, even too long
                if is_folder and place.is_relative_to(os.path.realpath(path)):
                    raise InputError(
                        f"{store}: lies inside {path}, which the recipe reads; choose another OUT"
                    )


def refuse_loss(plan: Plan) -> None:
    """Nothing that is committed, or that an unfinished build has done, is dropped without a word.

    Raises
    ------
    InputError
        Names what would be lost and why.
    """
    for loss in losses(plan):
        raise InputError(
            f"{plan.store}: would lose {loss}; choose another OUT, or pass --overwrite to drop that"
        )


def losses(plan: Plan) -> list[str]:
    """What a build drops with ``overwrite`` alone, and why."""
    return [loss for loss in (_dropped(plan), _reshaped(plan), _forsaken(plan)) if loss]


def _dropped(plan: Plan) -> str:
    names = ", ".join(entry.name for entry in plan.dropped)
    reason = "the recipe no longer has them"
    if any(entry.path == "trials/eeg" for entry in plan.dropped) and "trials/eeg" in plan.keys:
        reason = "it was built from other input or with another [source] or [store]"
        if plan.committed is not None and plan.committed.attributes.format < FORMAT:
            reason = f"its format is older than {FORMAT}, which this eegstore writes"
    return f"{names}: {reason}" if names else ""


def _reshaped(plan: Plan) -> str:
    """Committed columns that would come back with rows of another shape, such as a model's."""
    planned = {column.path: column.layout for column in plan.columns}
    shapes = {
        entry.path: (tuple(entry.shape[1:]), planned[entry.path].row_shape)
        for entry in plan.lost
        if entry.kind == "wide" and entry.path in planned
    }
    return "; ".join(
        f"{path}, whose rows are {before}, for rows of {after}"
        for path, (before, after) in shapes.items()
        if before != after
    )


def _forsaken(plan: Plan) -> str:
    """What an unfinished build has done that this one has no use for."""
    counts = forsaken(plan.store, plan.columns)
    shards = ", ".join(f"{path} ({count})" for path, count in sorted(counts.items()))
    if not shards:
        return ""
    before = planned_facts(plan.store)
    reasons = [
        difference(before[column.path], column.attributes["eegstore"])
        for column in plan.columns
        if column.path in counts and column.path in before
    ]
    changed = plan_recipe(plan.store) != plan.recipe.document()
    if changed or not reasons:
        reasons = [recipe_changes(plan_recipe(plan.store), plan.recipe.document())]
    return f"the finished shards of {shards} of an interrupted build: {reasons[0]}"


def check_space(plan: Plan) -> None:
    """Refuse a build that cannot end well: values that are not compressed have a known size."""
    needed = plan.bytes_left
    parent = build_folder(plan.store).parent  # where a link leads to
    free = shutil.disk_usage(parent).free
    if plan.recipe.store.codec == "raw" and needed > free:
        unit, size = ("GB", 1e9) if needed >= 1e9 else ("MB", 1e6)
        raise InputError(
            f"{parent}: {free / size:.1f} {unit} free, the build writes {needed / size:.1f} "
            f"{unit}; make room or choose another OUT"
        )


def write_plan(
    plan: Plan,
    tasks: Sequence[Task],
    plan_id: str,
    paired: Mapping[str, NDArray[Any]],
    check_determinism: bool = False,
) -> Path:
    """Put what workers need beside the store: the plan, the scans' states, some narrow columns.

    ``paired`` is what pairing and splitting have made of the trials, once that is known.
    """
    folder = build_folder(plan.store)
    for old in folder.glob("tmp-*"):
        shutil.rmtree(old)
    for old in folder.glob("plan-*.json"):
        old.unlink()
    trials = plan.found.trials
    work = WorkPlan(
        plan.store.absolute(), plan.folder, plan.recipe.document(), plan.columns, tuple(tasks),
        tuple(trials.ch_names), trials.sfreq, tuple(trials.times.tolist()),
        inputs=dict(plan.found.files), id=plan_id,
        check_determinism=check_determinism,
    )  # fmt: skip
    temporary_folder(work).mkdir()
    rows: dict[str, NDArray[Any]] = {"n_valid": trials.n_valid}
    for (table, name), values in scanned_columns(plan.found).items():
        rows[f"{table}/{name}"] = values
    np.savez(folder / ROWS_FILE, **rows, **paired)  # type: ignore[arg-type]
    sections = {"source": plan.recipe.source, "stimuli": plan.recipe.stimuli}
    for kind, plugin in (("source", plan.found.source), ("stimuli", plan.found.provider)):
        if isinstance(plugin, Stateful) and (section := sections[kind]):
            state = _state(kind, plugin, section.timeout_s)
            np.savez(folder / f"{kind}.npz", **state)  # type: ignore[arg-type]
    plan_file = plan_path(plan.store, work.id)
    put(work.to_json(), plan_file, folder)
    return plan_file


def _state(kind: str, plugin: Any, limit_s: float | None) -> dict[str, NDArray[Any]]:
    """What a source or a provider wants to keep of its scan."""
    state = guarded(kind, plugin, plugin.state, limit_s=limit_s)
    return plain_arrays(kind, plugin, "state()", state)

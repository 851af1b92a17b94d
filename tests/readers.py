"""Processes that build a store and read it, all the time: ``python readers.py ROLE ARGUMENTS``.

They work in the current folder, print what they counted, and end with an assertion where a reader
saw what was never committed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray
import zarr

import eegstore
from eegstore import DamageError, IncompleteError, InputError, plan

TABLES = ("trials", "stimuli")
CURRENT, STOP = Path("current"), Path("stop")
STORES_KEPT = 20
SHARD_BYTES = 1 << 14
Arrays = dict[str, np.ndarray[Any, Any]]


def build_often(patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let the builds of this process write a shard each few trials, and not wait for the disk."""
    patch(plan, "SHARD_BYTES", SHARD_BYTES)
    patch(plan, "CHUNK_BYTES", SHARD_BYTES)
    patch(os, "fsync", lambda _: None)


def committed(path: Path) -> Arrays:
    """Every column and coordinate of a store at rest."""
    found = with_eegstore(path)
    assert found is not None
    return found


def with_eegstore(path: Path) -> Arrays | None:
    """All that our reader finds; None where it says that there is no store yet."""
    try:
        store = eegstore.open_store(path)
    except (InputError, IncompleteError):
        return None
    found = {}
    for table in TABLES:
        view = getattr(store, table)
        found |= {f"{table}/{name}": column[:] for name, column in view.items()}
        found |= {f"{table}/{name}": np.array(values) for name, values in view.coords.items()}
    return found


def with_zarr(path: Path) -> Arrays | None:
    """All that zarr-python finds."""
    try:
        root = zarr.open_group(path, mode="r")
    except FileNotFoundError:
        return None
    groups = {table: root[table] for table in TABLES}
    return {
        f"{table}/{name}": np.asarray(array[...])
        for table, group in groups.items()
        if isinstance(group, zarr.Group)
        for name, array in group.arrays()
    }


def with_xarray(path: Path) -> Arrays | None:
    """All that xarray finds."""
    try:
        tree = xarray.open_datatree(path, engine="zarr")
    except (FileNotFoundError, RuntimeWarning):
        # It looks twice, and warns where the store was there the second time alone.
        return None
    with tree:
        return {
            f"{table}/{name}": variable.values
            for table in TABLES
            for name, variable in tree[table].variables.items()
        }


def _same(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> bool:
    """Whether an array is the expected one, whatever its type of strings."""
    if expected.dtype.kind == "U":
        return found.tolist() == expected.tolist()
    return found.dtype == expected.dtype and np.array_equal(
        found, expected, equal_nan=expected.dtype.kind == "f"
    )


def build_anew(recipes: str) -> None:
    """Build one store after the other, each by several commits, and say which is the current."""
    build_often()
    for number in itertools.count():
        Path("next").write_text(f"{number}.zarr")
        Path("next").replace(CURRENT)
        for recipe in json.loads(recipes):
            eegstore.build(recipe, f"{number}.zarr", executor="serial")
            if STOP.exists():
                return
        shutil.rmtree(f"{number - STORES_KEPT}.zarr", ignore_errors=True)


def open_always(library: str, wanted: str, n_opens: str) -> None:
    """Open the current store; whatever is listed must have its final values.

    ``wanted`` names finished stores, one a commit: those are the columns that can be there.
    """
    opened: Callable[[Path], Arrays | None] = globals()[f"with_{library}"]
    states = [committed(Path(path)) for path in wanted.split(",")]
    seen: Counter[int] = Counter()
    n_refused, state, last = 0, -1, ""
    while seen.total() < int(n_opens) or len(seen) < len(states) or not n_refused:
        name = CURRENT.read_text()
        state, last = (state if name == last else -1), name
        found = opened(Path(name))
        if found is None:
            assert state < 0, f"{name}: was there, and is not"
            n_refused += 1
            time.sleep(0.001)
            continue
        state = _state(found, states, state)
        seen[state] += 1
    print(json.dumps({"refused": n_refused, "seen": seen}))


def _state(found: Arrays, states: list[Arrays], earliest: int) -> int:
    """Which commit an opened store is of; not one before the commit seen last."""
    for number, expected in enumerate(states):
        if found.keys() == expected.keys():
            assert number >= earliest, "a commit was taken back"
            for path, values in expected.items():
                assert _same(found[path], values), f"{path} is partial: {found[path]!r}"
            return number
    raise AssertionError(f"was never committed: {sorted(found)}")


def build_in_turn(recipes: str) -> None:
    """Replace a column of one store by another recipe's, and that again."""
    build_often()
    for recipe in itertools.cycle(json.loads(recipes)):
        eegstore.build(recipe, "s.zarr", executor="serial", overwrite=True)
        if STOP.exists():
            return


def rows_of_store(column: str) -> Iterator[Callable[[int], np.ndarray[Any, Any]]]:
    """Open the store again and again; how to read one of its rows."""
    while True:
        # The column, or a narrow one, may be about to be replaced.
        with suppress(IncompleteError, KeyError):
            yield eegstore.open_store("s.zarr").trials[column].__getitem__


def rows_of_dataset(column: str) -> Iterator[Callable[[int], np.ndarray[Any, Any]]]:
    """Likewise, through the data set of torch."""
    from eegstore.torch import Dataset

    def read(data: Dataset) -> Callable[[int], np.ndarray[Any, Any]]:
        return lambda row: data[row][column].numpy()

    while True:
        with suppress(IncompleteError, InputError, DamageError):
            yield read(Dataset("s.zarr", columns=[column], rows=np.arange(60)))


def read_always(kind: str, column: str, wanted: str, n_reads: str) -> None:
    """Read row by row what was opened at one time: all of it is of one build, or a read raises."""
    builds = [eegstore.open_store(path).trials[column][:] for path in wanted.split(",")]
    opened: Iterator[Callable[[int], np.ndarray[Any, Any]]] = globals()[f"rows_of_{kind}"](column)
    moments = random.Random(kind)
    n_raised, n_read, of = 0, 0, [0] * len(builds)
    while n_read < int(n_reads) or not n_raised or not all(of):
        read, left = next(opened), set(range(len(builds)))
        for row in moments.sample(range(len(builds[0])), len(builds[0])):
            try:
                values = read(row)
            except (DamageError, IncompleteError):
                n_raised += 1
                break
            left &= {number for number, rows in enumerate(builds) if _same(values, rows[row])}
            assert left, f"row {row} is of another build than the rows before it, or of none"
            n_read += 1
            of[min(left)] += 1
            time.sleep(moments.uniform(0, 0.01))
    print(json.dumps({"read": n_read, "raised": n_raised}))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])

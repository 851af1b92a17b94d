"""The crew: rows copied by several threads, whoever asks, and from a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from eegstore import compiling, crew
from eegstore.crew import Crew

CHUNK_ROWS, ROW_BYTES = 8, 4096
WHOLE = np.zeros(1, dtype=np.int64)


@pytest.fixture
def four() -> Iterator[Crew]:
    """A crew of four threads, on however few processors."""
    module = compiling.loaded()
    assert module is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crew, "n_threads", lambda: 4)
        yield Crew(module)


def chunks(n_chunks: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Random bytes, uint8 (row, byte), and the addresses of their chunks."""
    shape = (n_chunks * CHUNK_ROWS, ROW_BYTES)
    rows = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return rows, rows.ctypes.data + np.arange(n_chunks) * CHUNK_ROWS * ROW_BYTES


def copied(team: Crew, wanted: Any, places: Any, out: Any) -> int:
    n_rows = len(places) * CHUNK_ROWS
    sizes, memory = (n_rows, CHUNK_ROWS, ROW_BYTES), out.reshape(-1)
    return team.copy_rows(wanted, places, *sizes, WHOLE, ROW_BYTES, memory)


def test_every_row_is_copied_once_whatever_the_threads_do(four: Crew) -> None:
    rows, places = chunks(64)
    random = np.random.default_rng(1)
    out = np.empty((2000, ROW_BYTES), dtype=np.uint8)
    for _ in range(50):
        wanted = random.integers(0, len(rows), len(out))
        out[:] = 0
        assert copied(four, wanted, places, out) == -1
        np.testing.assert_array_equal(out, rows[wanted])


def test_a_row_that_is_not_there_is_named(four: Crew) -> None:
    rows, places = chunks(64)
    out = np.empty((1000, ROW_BYTES), dtype=np.uint8)
    for bad in (-1, len(rows), 2**40, -(2**62)):
        wanted = np.arange(1000) % len(rows)
        wanted[777] = bad
        assert copied(four, wanted, places, out) == 777
    places[5] = 0
    wanted = np.full(1000, 3)
    wanted[421] = 5 * CHUNK_ROWS
    assert copied(four, wanted, places, out) == 421


def test_numbers_pick_values_or_are_left_to_numpy(four: Crew) -> None:
    values = np.arange(100) * 7
    values.flags.writeable = False
    for numbers in ([], [0], [99, 3, 3, 0], list(range(100))):
        wanted = np.array(numbers, dtype=np.int64)
        found = four.picked(values, wanted)
        assert found is not None
        assert found.dtype == np.int64
        assert found.tolist() == values[wanted].tolist()
    others = ([-1], [0, 100], [5, 2**62], [1.0], [[1, 2]], [True] * 100, 3)
    for given in (*map(np.array, others), np.arange(9)[::2], np.arange(3, dtype=np.int32)):
        assert four.picked(values, given) is None
    assert four.picked(values[:0], np.array([0])) is None


def test_threads_that_ask_at_once_get_their_own_rows(four: Crew) -> None:
    rows, places = chunks(64)
    wrong: list[int] = []

    def ask(seed: int) -> None:
        random, out = np.random.default_rng(seed), np.empty((600, ROW_BYTES), dtype=np.uint8)
        for number in range(60):
            wanted = random.integers(0, len(rows), len(out))
            if copied(four, wanted, places, out) != -1 or (out != rows[wanted]).any():
                wrong.append(number)

    asking = [threading.Thread(target=ask, args=(seed,)) for seed in range(5)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert wrong == []


def test_helpers_that_went_to_sleep_are_woken(four: Crew) -> None:
    rows, places = chunks(64)
    out = np.empty((600, ROW_BYTES), dtype=np.uint8)
    for _ in range(20):
        threading.Event().wait(0.005)  # far longer than they stay awake
        wanted = np.random.default_rng(2).integers(0, len(rows), len(out))
        assert copied(four, wanted, places, out) == -1
        np.testing.assert_array_equal(out, rows[wanted])


def test_a_fork_has_a_crew_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BYTES_BEFORE", -1)
    rows, places = chunks(64)
    wanted, out = np.arange(512), np.empty((512, ROW_BYTES), dtype=np.uint8)
    before = crew.crew_for(1)
    assert before is not None
    assert copied(before, wanted, places, out) == -1
    child = os.fork()
    if not child:
        mine = crew.crew_for(1)
        assert mine is not None
        ok = mine is not before and copied(mine, wanted[::-1].copy(), places, out) == -1
        os._exit(0 if ok and (out == rows[wanted[::-1]]).all() else 1)
    assert os.waitpid(child, 0)[1] == 0

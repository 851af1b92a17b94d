"""Work that threads share, and memory that is used again."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eegstore import memory, threads
from eegstore.threads import share


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "n_threads", lambda: 3)
    threads._queue.cache_clear()
    yield
    threads._queue.cache_clear()


@given(n_items=st.integers(0, 400), item_bytes=st.sampled_from([0, 1, 1 << 14, 1 << 17, 1 << 30]))
def test_every_item_is_had_once(n_items: int, item_bytes: int) -> None:
    had: list[int] = []
    share(lambda start, stop: had.extend(range(start, stop)), n_items, item_bytes)
    assert sorted(had) == list(range(n_items))


def test_parts_are_had_by_several_threads_at_once() -> None:
    together = threading.Barrier(3, timeout=20)
    names = set()

    def call(start: int, stop: int) -> None:
        names.add(threading.current_thread().name)
        together.wait()

    share(call, 3, threads.PART_BYTES)
    assert len(names) == 3


def test_threads_that_are_busy_are_not_waited_for() -> None:
    is_free, n_busy = threading.Event(), threading.Semaphore(0)

    def block(start: int, stop: int) -> None:
        n_busy.release()
        is_free.wait(20)

    other = threading.Thread(target=share, args=(block, 3, threads.PART_BYTES))
    other.start()
    for _ in range(3):
        n_busy.acquire()
    had: list[int] = []
    share(lambda start, stop: had.append(start), 50, threads.PART_BYTES)
    assert had == list(range(50))
    is_free.set()
    other.join()


@pytest.mark.parametrize("bad", [0, 3, 9])
def test_an_error_in_any_thread_reaches_who_asked(bad: int) -> None:
    def call(start: int, stop: int) -> None:
        time.sleep(0.001)
        if start == bad:
            raise ValueError(f"part {start}")

    for _ in range(20):
        with pytest.raises(ValueError, match=f"part {bad}"):
            share(call, 10, threads.PART_BYTES)


def test_a_fork_has_helpers_of_its_own() -> None:
    share(lambda start, stop: None, 9, threads.PART_BYTES)
    child = os.fork()
    if not child:
        had: list[int] = []
        share(lambda start, stop: had.append(start), 9, threads.PART_BYTES)
        os._exit(0 if sorted(had) == list(range(9)) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def nothing_free() -> Iterator[None]:
    memory.pool.forget()
    yield
    memory.pool.forget()


SHAPE = (256, 14, 256)


@pytest.mark.usefixtures("nothing_free")
def test_memory_is_used_again_once_nothing_refers_to_it() -> None:
    first = memory.empty(SHAPE, "float32")
    assert first.shape == SHAPE
    assert first.flags.writeable
    assert first.flags.aligned
    first[...] = 1
    address = first.ctypes.data
    second = memory.empty(SHAPE, "float32")
    assert second.ctypes.data != address
    tensor = torch.from_numpy(first)[3:, 1]
    del first
    assert memory.empty(SHAPE, "float32").ctypes.data not in (address, second.ctypes.data)
    assert float(tensor.sum()) == tensor.numel()
    del tensor
    gc.collect()
    addresses = [array.ctypes.data for array in [memory.empty(SHAPE, "int32") for _ in range(2)]]
    assert address in addresses


@pytest.mark.usefixtures("nothing_free")
def test_no_more_is_kept_than_there_is_room_for() -> None:
    for round_ in range(3):
        held = [memory.empty((20 + round_, 1 << 20), "uint8") for _ in range(9)]
        del held
        assert 0 < memory.pool.n_bytes <= memory.KEPT_BYTES


@pytest.mark.parametrize("shape", [(0,), (3, 0), (5,), (1 << 10, 1 << 10, 100)])
def test_what_is_small_or_huge_is_not_kept(shape: tuple[int, ...]) -> None:
    before = memory.pool.n_bytes
    array = memory.empty(shape, "uint8")
    assert array.shape == shape
    assert memory.pool.n_bytes == before


@pytest.mark.usefixtures("nothing_free")
def test_a_fork_writes_into_memory_of_its_own() -> None:
    array = memory.empty(SHAPE, "float32")
    array[...] = 1
    child = os.fork()
    if not child:
        array[...] = 2
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert np.unique(array).tolist() == [1]

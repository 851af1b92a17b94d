"""Reading where the interpreter ends, is interrupted, or is debugged, and by several threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegstore import compiling, reader
from eegstore.crew import Crew
from eegstore.reader import ShardedArray
from eegstore.shards import Layout
from test_shards import sizes_of, values_of, write

RANDOM = Layout(40, (3, 5), "float32", 16, 1, "fast")


def written(folder: Path, layout: Layout) -> ShardedArray:
    finished = write(folder, layout, values_of(layout))
    return ShardedArray(folder, layout, sizes_of(finished))


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize("bytes_before", [-1, 1 << 62])
def test_row_numbers_may_lie_in_memory_anyhow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_before: int
) -> None:
    monkeypatch.setattr(compiling, "BYTES_BEFORE", bytes_before)
    array, rows = written(tmp_path, RANDOM), np.array([7, 3, 39, 3, 0, 12])
    shifted = np.frombuffer(b"x" + rows.tobytes(), np.int64, offset=1)
    other: tuple[Any, ...] = (rows.astype(np.int32), rows.astype(">i8"), rows.tolist())
    for given in (np.repeat(rows, 2)[::2], rows[::-1][::-1], shifted, *other):
        np.testing.assert_array_equal(array.take(given), values_of(RANDOM)[rows])


@pytest.mark.parametrize("codec", ["raw", "fast"])
def test_what_must_not_be_written_to_is_no_place_for_rows(tmp_path: Path, codec: str) -> None:
    layout = Layout(40, (3, 5), "float32", 16, 1, codec)
    out = np.zeros((2, 3, 5), dtype=np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="that can be written to"):
        written(tmp_path, layout).take(np.array([1, 2]), out=out)
    assert not out.any()


def test_a_chunk_that_another_thread_has_just_checked_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BYTES_BEFORE", 1 << 62)
    array, decode_each = written(tmp_path, RANDOM), reader._decode_each

    def meanwhile(*arguments: Any) -> int:
        failed = decode_each(*arguments)
        array._touch(np.arange(len(array)))
        return failed

    monkeypatch.setattr(reader, "_decode_each", meanwhile)
    np.testing.assert_array_equal(array.take(np.array([5, 6])), values_of(RANDOM)[5:7])


def test_what_is_mapped_is_read_to_the_end_of_the_process(tmp_path: Path) -> None:
    code = """
    import atexit, sys
    @atexit.register  # before all others, so that it runs after them
    def last():
        print(files.view(0, 0, 4).tobytes())
    import os
    from eegstore.mapping import mapped
    files = mapped(1, 4, lambda _: os.open(sys.argv[1], os.O_RDONLY))
    files.view(0, 0, 4)
    """
    (tmp_path / "a").write_bytes(b"abcd")
    assert run(code, str(tmp_path / "a")) == "b'abcd'"


def test_memory_that_is_in_use_is_not_given_out_whatever_a_debugger_did() -> None:
    code = """
    import sys
    def trace(frame, event, argument):
        frame.f_locals  # refers to what is there
        return trace
    sys.settrace(trace)
    from eegstore import memory
    sys.settrace(None)
    first, second = (memory.empty((1 << 20,), "uint8") for _ in range(2))
    first[:], second[:] = 1, 2
    print(first[0], second[0])
    """
    assert run(code) == "1 2"


def test_a_helper_that_a_signal_wakes_sleeps_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    module = compiling.loaded()
    assert module is not None
    monkeypatch.setattr("eegstore.crew.n_threads", lambda: 2)
    before = set(threading.enumerate())
    Crew(module)
    (helper,) = set(threading.enumerate()) - before
    assert helper.ident is not None
    clock = time.pthread_getcpuclockid(helper.ident)
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        time.sleep(0.1)
        signal.pthread_kill(helper.ident, signal.SIGUSR1)
        time.sleep(0.1)
        start = time.clock_gettime(clock)
        time.sleep(0.3)
        assert time.clock_gettime(clock) - start < 0.02
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_compiled_code_is_not_loaded_where_there_are_no_posix_semaphores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        assert compiling.loaded.__wrapped__() is None

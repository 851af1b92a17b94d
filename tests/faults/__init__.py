"""A disk that fails when it is told to, processes that build over it, and what they may leave.

``faults.c`` says what fails; it is compiled when a test needs it.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import eegstore
from eegstore import EegStoreError

HERE = Path(__file__).parent


class State(ctypes.Structure):
    """What the library shares with every process; the struct of ``faults.c``."""

    _fields_ = (
        ("seen", ctypes.c_int64),
        ("fail_at", ctypes.c_int64),
        ("error", ctypes.c_int64),
        ("lasting", ctypes.c_int64),
        ("failed", ctypes.c_int64),
        ("call", ctypes.c_char * 64),
        ("path", ctypes.c_char * 4096),
        ("folder", ctypes.c_char * 4096),
    )


class Disk:
    """The library, and the file through which it is told what to do.

    Attributes
    ----------
    env
        Environment of the processes that it is to stand in.
    """

    def __init__(self, folder: Path) -> None:
        library = _compiled(folder)
        file = folder / "state"
        file.write_bytes(bytes(ctypes.sizeof(State)))
        with file.open("r+b") as opened:
            self._state = State.from_buffer(mmap.mmap(opened.fileno(), 0))
        self.env = {"LD_PRELOAD": str(library), "FAULTS_STATE": str(file)}

    def watch(self, folder: Path, fail_at: int = 0, error: int = 0, lasting: bool = False) -> None:
        """Count the calls that change a folder from now on, and let one of them fail.

        Parameters
        ----------
        folder
            The folder; nothing outside it is counted or fails.
        fail_at
            Number of the call that fails, counted from 1; 0 for none.
        error
            What it fails with, such as ``errno.ENOSPC``.
        lasting
            Whether every later call fails too.
        """
        state = self._state
        state.fail_at = 0  # first: processes of the test before may still end
        state.folder, state.seen, state.failed = os.fsencode(folder.resolve()), 0, 0
        state.error, state.lasting, state.fail_at = error, lasting, fail_at

    @property
    def seen(self) -> int:
        """How many calls were counted."""
        return int(self._state.seen)

    @property
    def failed(self) -> str:
        """The call that failed, and its file; empty where none did."""
        state = self._state
        return f"{state.call.decode()} {os.fsdecode(state.path)}" if state.failed else ""


def _compiled(folder: Path) -> Path:
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler, cc")
    library = folder / "faults.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, HERE / "faults.c", "-ldl"]
    subprocess.run(command, check=True)
    return library


class Commands:
    """A process in which one build or export after the other runs.

    Parameters
    ----------
    env
        What its environment has besides, such as a ``Disk`` that fails.
    enter
        What a command begins with to run elsewhere, such as in a mount namespace.
    """

    def __init__(self, env: Mapping[str, str] | None = None, enter: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*enter, sys.executable, HERE / "commands.py"], env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def build(
        self, made: Mapping[str, Any], out: Path, executor: str = "serial"
    ) -> tuple[int, str]:
        """Build a recipe as the command does: its exit code and its message."""
        self.begin_build(made, out, executor)
        return self.answer()

    def export(self, store: Path, out: Path, name: str) -> tuple[int, str]:
        """Export a store as the command does: its exit code and its message."""
        self._ask("export", str(store), str(out), name)
        return self.answer()

    def begin_build(self, made: Mapping[str, Any], out: Path, executor: str = "serial") -> None:
        """Have a build done after those before it; nothing waits for it."""
        self._ask("build", made, str(out), executor)

    def _ask(self, *command: Any) -> None:
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)

    def answer(self) -> tuple[int, str]:
        """Wait for the next answer: exit code and message."""
        assert self._process.stdout is not None
        code, message = json.loads(self._process.stdout.readline())
        return code, message

    def kill(self) -> list[tuple[int, str]]:
        """End the process and its workers with SIGKILL; what it had answered and nobody read."""
        os.killpg(self._process.pid, signal.SIGKILL)
        lines = self._process.communicate(timeout=60)[0].splitlines()
        return [(code, message) for code, message in map(json.loads, lines)]

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate(timeout=60)


def columns(store: Path) -> set[tuple[str, str, str]]:
    """Path, key and digest of every column that whoever opens a store can read."""
    entries = eegstore.open_store(store).attributes.columns
    return {(entry.path, entry.key, entry.digest) for entry in entries}


def check_between(store: Path, before: set[tuple[str, str, str]], after: Path) -> None:
    """Whoever opens a store reads what a change leaves alone, and nothing that is half done.

    Parameters
    ----------
    store
        The store, of which the change was ended.
    before
        Its columns before; none where there was no store.
    after
        A store in which the change is done.
    """
    if before or (store / "zarr.json").exists():
        whole = columns(after)
        assert before & whole <= columns(store) <= before | whole
        assert eegstore.verify(store, deep=True) == []
    else:
        with pytest.raises(EegStoreError, match=r"has not finished|there is no"):
            eegstore.open_store(store)

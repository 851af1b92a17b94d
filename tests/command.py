"""The command line as a user runs it, in a process of its own, and what became of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import eegstore
from eegstore import EegStoreError

# What DESIGN.md allows a command that refuses its input.
LIMIT_S = 10
LIMIT_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended; ``peak_bytes`` is its largest resident size."""

    code: int
    out: str
    err: str
    peak_bytes: int


def run_command(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, limit_s: float = 60
) -> Outcome:
    """Run ``eegstore`` with arguments; it is killed after ``limit_s``."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "eegstore", *map(os.fspath, arguments)],
            cwd=cwd, env={**os.environ, **(env or {})}, stdout=out, stderr=err,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        timer = _kill_after(process, limit_s)
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8"))
    return Outcome(process.returncode, texts[0], texts[1], usage.ru_maxrss * 1024)


def _kill_after(process: subprocess.Popen[bytes], limit_s: float) -> threading.Timer:
    timer = threading.Timer(limit_s, process.kill)
    timer.daemon = True
    timer.start()
    return timer


def check_refused(outcome: Outcome, code: int, *parts: str) -> None:
    """The documented exit code; one or two lines that hold ``parts``; no traceback; small."""
    assert outcome.code == code, outcome
    lines = outcome.err.splitlines()
    assert 1 <= len(lines) <= 2, outcome.err
    assert lines[0].startswith("eegstore: ")
    assert "Traceback" not in outcome.err
    assert "defect of eegstore" not in outcome.err
    for part in parts:
        assert part in outcome.err
    assert outcome.out == ""
    assert outcome.peak_bytes < LIMIT_BYTES


def check_build_refused(recipe: str, folder: Path, code: int, *parts: str) -> Outcome:
    """Build a recipe's text in a folder: it is refused in time, and nothing looks whole."""
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    outcome = run_command("build", "recipe.toml", "out.zarr", cwd=folder, limit_s=LIMIT_S)
    check_refused(outcome, code, *parts)
    with pytest.raises(EegStoreError):
        eegstore.open_store(folder / "out.zarr")
    return outcome

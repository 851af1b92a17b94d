"""File systems of a test's own, in a mount namespace that ends with the test."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import Outcome


class Mounts:
    """A mount namespace; what is mounted in it is seen by its commands alone.

    Attributes
    ----------
    enter
        What a command begins with to run in it.
    root
        Its root folder, as processes outside reach it.
    """

    def __init__(self, pid: int, user: bool) -> None:
        self.enter = ["nsenter", "--target", str(pid), "--mount", *(["--user"] if user else [])]
        self.root = Path(f"/proc/{pid}/root")

    def run(self, *command: str | Path) -> Outcome:
        """Run a command of absolute paths."""
        done = subprocess.run([*self.enter, *command], capture_output=True, text=True)
        return Outcome(done.returncode, done.stdout, done.stderr, 0)

    def do(self, *command: str | Path) -> None:
        """Run a command that has to succeed."""
        done = self.run(*command)
        assert done.code == 0, done

    def do_or_skip(self, *command: str | Path) -> None:
        """Run a command that some machines do not allow."""
        done = self.run(*command)
        if done.code:
            pytest.skip(f"not allowed here: {done.err.strip()}")

    def eegstore(self, *arguments: str | Path) -> Outcome:
        """Run ``eegstore`` with arguments."""
        return self.run(sys.executable, "-m", "eegstore", *arguments)


@contextlib.contextmanager
def mounts(*, user: bool) -> Iterator[Mounts]:
    """A mount namespace, for any user where ``user``; skips where the system allows none."""
    if sys.platform != "linux" or not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip("needs Linux, unshare and nsenter")
    holder = subprocess.Popen(
        ["unshare", "--mount", *(["--map-root-user"] if user else []), "sh", "-c", "echo; cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    try:
        if not holder.stdout.readline():
            pytest.skip(f"no mount namespace is allowed here: {holder.communicate()[1].strip()}")
        yield Mounts(holder.pid, user)
    finally:
        holder.communicate()

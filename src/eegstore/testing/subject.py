"""A plugin under test: its rehearsal in a process of its own, and new instances of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.connection
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from eegstore import digest_bytes, options_of, path_options
from eegstore.testing import stage
from eegstore.testing.check import NotApplicable, told
from eegstore.testing.stage import Job, Trouble

KEPT: Final = 16
SMALL_BYTES: Final = 1 << 26


@dataclass(frozen=True)
class Rehearsal:
    """What came of a rehearsal: the values by name, or the trouble."""

    values: Mapping[str, Any] = field(default_factory=dict)
    trouble: Trouble | None = None


class Subject:
    """A plugin of a kind, with what its checks share."""

    def __init__(self, plugin: Any, kind: str) -> None:
        self.plugin = plugin
        self.kind = kind
        self.cls: Any = type(plugin)
        # Before anything is called: what a plugin does to its files shows afterwards.
        self.files = files_of(plugin)

    @functools.cached_property
    def rehearsal(self) -> Rehearsal:
        """What a plugin does in a new process; a second one reads with the state of the first."""
        given = {}
        if self.kind == "exporter":
            from eegstore.testing.tiny import tiny_store

            given = {"store": tiny_store()}
        first = rehearse(self.plugin, self.kind, given)
        state = first.values.get("scanned_state")
        if first.trouble or state is None:
            return first
        second = rehearse(self.plugin, self.kind, {"state": state, "table": first.values["table"]})
        return Rehearsal({**first.values, **second.values}, second.trouble)

    def value(self, name: str) -> Any:
        """A value of the rehearsal.

        Raises
        ------
        NotApplicable
            Where the rehearsal did not come to it.
        """
        if name not in self.rehearsal.values:
            trouble = self.rehearsal.trouble
            raise NotApplicable(f"not tried: {trouble.reason if trouble else 'not rehearsed'}")
        return self.rehearsal.values[name]

    def new(self) -> Any:
        """Another instance with the same options, prepared and restored as in a worker."""
        plugin = self.prepared()
        state = self.rehearsal.values.get("state")
        if state is not None:
            plugin.restore(state)
        return plugin

    def prepared(self) -> Any:
        """Another instance with the same options, prepared and not restored."""
        plugin = dataclasses.replace(self.plugin)
        if hasattr(plugin, "prepare"):
            plugin.prepare()
        return plugin

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """What checks have found out about the plugin, for others to use."""
        return {}


_SUBJECTS: dict[tuple[Any, ...], Subject] = {}


def subject_of(plugin: Any, kind: str) -> Subject:
    """The subject of a plugin; plugins of equal options share one, and its rehearsal."""
    try:
        options: Any = repr(sorted(options_of(plugin).items()))
    except Exception:
        options = id(plugin)
    limits = stage.CALL_LIMIT_S, stage.START_LIMIT_S
    key = (type(plugin), kind, options, os.getpid(), Path.cwd(), limits)
    if key not in _SUBJECTS:
        while len(_SUBJECTS) >= KEPT:
            _SUBJECTS.pop(next(iter(_SUBJECTS)))
        _SUBJECTS[key] = Subject(plugin, kind)
    return _SUBJECTS[key]


def rehearse(plugin: Any, kind: str, given: Mapping[str, Any] | None = None) -> Rehearsal:
    """Run the rehearsal of a plugin's kind in a spawned process, and wait for what comes."""
    cls = type(plugin)
    problem = _unreachable(cls)
    if problem:
        return Rehearsal(trouble=Trouble("spawned-process", problem, fatal=False))
    try:
        options = options_of(plugin)
    except Exception as error:
        reason = f"its options cannot be recorded as JSON: {told(error)}"
        return Rehearsal(trouble=Trouble("options-travel", reason))
    limits = stage.CALL_LIMIT_S, stage.START_LIMIT_S
    job = Job(cls.__module__, cls.__qualname__, options, kind, dict(given or {}), *limits)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=stage.serve, args=(sender, job))
    with receiver, _without_main():
        try:
            process.start()
            sender.close()
            return _awaited(receiver, process, job.start_limit_s)
        finally:
            process.join(1.0)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


def _unreachable(cls: type[Any]) -> str:
    """Why a worker could not import a class by its name, or an empty string."""
    if "<locals>" in cls.__qualname__:
        return f"{cls.__qualname__} is defined inside a function; a worker cannot import it"
    if cls.__module__ == "__main__":
        return f"{cls.__qualname__} is defined in a script; a worker cannot import it"
    return ""


def _awaited(receiver: Any, process: Any, limit_s: float) -> Rehearsal:
    """What the process sends last, while each of its calls answers in time."""
    what, end = "starting a process", time.monotonic() + limit_s
    while True:
        left = max(0.0, end - time.monotonic())
        ready = multiprocessing.connection.wait([receiver, process.sentinel], left)
        if not ready:
            reason = f"{what} gave no answer within {limit_s:g} s"
            return Rehearsal(trouble=Trouble("bounded-time", reason))
        try:
            kind, content = receiver.recv()
        except (EOFError, OSError):
            process.join(1.0)
            reason = f"{what} ended the process (exit code {process.exitcode})"
            return Rehearsal(trouble=Trouble("answers", reason))
        if kind == "done":
            return Rehearsal(content)
        if kind == "trouble":
            return Rehearsal(trouble=Trouble(*content))
        what, limit_s = content
        end = time.monotonic() + limit_s


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep a new process from running the caller's script again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def files_of(plugin: Any) -> dict[str, tuple[int, int, str]]:
    """Size, time of change and, of small ones, digest of each file that the options name."""
    try:
        values = [getattr(plugin, name) for name in path_options(type(plugin))]
    except Exception:
        return {}
    paths: list[Path] = []
    for value in values:
        if isinstance(value, str | Path):
            path = Path(value)
            paths += [path, *path.rglob("*")] if path.is_dir() else [path]
    return files_at(paths)


def files_at(paths: list[Path]) -> dict[str, tuple[int, int, str]]:
    """Size, time of change and, of small ones, digest of each of the files that are there."""
    found = {}
    for path in sorted(paths):
        if path.is_file():
            facts = path.stat()
            small = facts.st_size <= SMALL_BYTES
            digest = digest_bytes(path.read_bytes()) if small else ""
            found[os.fspath(path)] = (facts.st_size, facts.st_mtime_ns, digest)
    return found

"""The checks of an exporter."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any, Final

from eegstore import digest_bytes, open_store
from eegstore.testing.check import Check, NotApplicable, Violation
from eegstore.testing.common import common
from eegstore.testing.stage import Stage, Trouble
from eegstore.testing.subject import Subject, files_at
from eegstore.testing.tiny import tiny_store

OUT: Final = "exported"


def rehearse(stage: Stage, plugin: Any) -> dict[str, Any]:
    """Export the tiny store."""
    store = Path(stage.job.given["store"])
    with tempfile.TemporaryDirectory(prefix="eegstore-testing-") as folder:
        out = Path(folder) / OUT
        stage.call("an export", plugin, open_store(store), out, check="answers")
        if not out.exists():
            raise Trouble("writes-out", "an export wrote nothing to OUT, expected a file or folder")
        return {"files": contents(out)}


def contents(out: Path) -> dict[str, str]:
    """Digest of each file of an export, by its path within."""
    paths = [out, *out.rglob("*")] if out.is_dir() else [out]
    return {
        str(path.relative_to(out.parent)): digest_bytes(path.read_bytes())
        for path in sorted(paths)
        if path.is_file()
    }


def _exported(plugin: Any) -> dict[str, str]:
    with tempfile.TemporaryDirectory(prefix="eegstore-testing-") as folder:
        out = Path(folder) / OUT
        plugin(open_store(tiny_store()), out)
        return contents(out)


def writes_out(subject: Subject) -> None:
    """There is a file, or a folder with files, and nothing beside it."""
    with tempfile.TemporaryDirectory(prefix="eegstore-testing-") as folder:
        out = Path(folder) / OUT
        subject.new()(open_store(tiny_store()), out)
        if not contents(out):
            raise Violation("an export made an empty folder, expected files")
        beside = sorted(path.name for path in Path(folder).iterdir() if path != out)
        if beside:
            raise Violation(f"an export left {beside[0]!r} beside OUT, expected OUT alone")


def same_twice(subject: Subject) -> None:
    """Two exports of one store have the same files and bytes."""
    plugin = subject.new()
    first = _exported(plugin)
    for who, one in (("again", plugin), ("by another instance", subject.new())):
        other = _exported(one)
        differing = sorted(name for name in first | other if first.get(name) != other.get(name))
        if differing:
            raise Violation(
                f"an export {who} gave another {differing[0]!r}, expected the same bytes; leave "
                "times and paths out"
            )


def store_untouched(subject: Subject) -> None:
    """The store's files are the same afterwards."""
    store = tiny_store()
    before = files_at(list(store.rglob("*")))
    _exported(subject.new())
    after = files_at(list(store.rglob("*")))
    changed = sorted(name for name in before | after if before.get(name) != after.get(name))
    if changed:
        raise Violation(f"an export changed {Path(changed[0]).name!r} of the store, expected none")


def spawned_process(subject: Subject) -> None:
    """A spawned process imports it by name and writes the same bytes."""
    there, plugin = subject.value("files"), subject.new()
    runs = [_exported(plugin) for _ in range(2)]
    if runs[0] != runs[1]:
        raise NotApplicable("not tried (same-twice): an export again gave other bytes")
    if runs[0] != there:
        raise Violation("a spawned process wrote other bytes, expected the same")


_check = functools.partial(Check, "exporter")
CHECKS: Final = (
    *common("exporter"),
    _check("writes-out", "It writes a file or a folder of files to OUT, and nothing beside it.",
           writes_out),
    _check("same-twice", "Two exports of one store have the same bytes.", same_twice),
    _check("store-untouched", "The store stays as it is.", store_untouched),
    _check("spawned-process", "A spawned process imports it by name and writes the same bytes.",
           spawned_process),
)  # fmt: skip

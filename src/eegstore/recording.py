"""Appends what an evaluation found to the history of a committed store."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eegstore.account import library_versions
from eegstore.attributes import DOCUMENT, NO_SEAL, VERSION, HistoryEntry, sealed
from eegstore.disk import put, writer_lock
from eegstore.errors import InputError
from eegstore.prepare import close_build_folder, open_build_folder
from eegstore.root import (
    beside,
    build_folder,
    committed_documents,
    is_building,
    read_root,
    refuse_inside_store,
)
from eegstore.store import Store


def record_evaluation(
    store: Store, evaluation: dict[str, Any], started: str, seconds: float
) -> HistoryEntry:
    """Append an evaluation to a store's history: in one atomic put, or not at all.

    Columns, digest and all other files stay as they are, so that a reader that has the store open
    goes on.

    Parameters
    ----------
    store
        The store that was evaluated.
    evaluation
        A JSON value.
    started, seconds
        When the evaluation began (ISO 8601, UTC), and how long it took.

    Raises
    ------
    LockedError
        Where a build holds the store.
    InputError
        Where the content is another by now than that which was evaluated, or the store cannot be
        written.
    """
    path = store.folder
    refuse_inside_store(path)
    try:
        with writer_lock(beside(path, ".lock")) as check, _temporary(path):
            root = json.loads(read_root(path))
            attributes = root["attributes"]["eegstore"]
            if attributes["digest"] != store.digest:
                raise InputError(
                    f"{path}: was built anew since it was evaluated; evaluate it again to record"
                )
            last = attributes["history"][-1]
            entry = _entry(last["folder"], evaluation, started, seconds)
            attributes["history"].append(entry.model_dump(mode="json"))
            check()
            _put(path, root)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); nothing was recorded"
        ) from error
    return entry


def _entry(folder: str, evaluation: dict[str, Any], started: str, seconds: float) -> HistoryEntry:
    """What a store records; images are read where the last build read them."""
    return HistoryEntry(
        started=started, seconds=seconds, eegstore=VERSION, libraries=library_versions(),
        folder=folder, executor="serial", n_workers=1, computed=[], reused=[], dropped=[],
        counts={}, skipped=[],
        stages=[], evaluation=evaluation,
    )  # fmt: skip


def _put(path: Path, root: dict[str, Any]) -> None:
    """Seal the root's document and put it in the place of the old."""
    root["attributes"]["eegstore"]["seal"] = NO_SEAL
    blank = json.dumps(root, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")
    # A build reads again what was written after the root was: it shall still find what was written
    # after the commit, not after this.
    written_ns = (path / DOCUMENT).stat().st_mtime_ns
    put(sealed(blank, committed_documents(blank)), path / DOCUMENT, build_folder(path), written_ns)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[None]:
    """The folder beside the store; what an unfinished build has there is left alone."""
    if is_building(path):
        yield
        return
    open_build_folder(path)
    try:
        yield
    finally:
        close_build_folder(path)


def now() -> str:
    """The time as a history records it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

"""Exports a store through a plugin: all of it, under its final name, or nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eegstore import registry
from eegstore.calls import guarded
from eegstore.disk import fsync_path, make_folder
from eegstore.errors import InputError, UsageError
from eegstore.machine import in_thread
from eegstore.recipe import nearest
from eegstore.root import refuse_inside_store
from eegstore.store import Store, open_store


def _sync(path: Path) -> None:
    """Make a file, or a folder and all that is in it, durable."""
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        fsync_path(file)


def export(
    store: str | Path, out: str | Path, format: str, options: Mapping[str, Any] | None = None
) -> Path:
    """Write a store in another format.

    Parameters
    ----------
    store
        The store's folder.
    out
        The file or folder to write; it must not exist, or be an empty folder.
    format
        Name of an exporter plugin, such as ``npy`` or ``hdf5``.
    options
        The exporter's options.

    Returns
    -------
    ``out``, which appears whole, under its final name, once everything is on the disk.

    Raises
    ------
    InputError
        Where ``out`` exists, or the store cannot be opened.
    RecipeError, PluginError
        Where the exporter or an option is unknown, or the exporter fails.
    """
    if out == "":
        raise UsageError("OUT is empty, expected the file or folder to write")
    opened, final = open_store(store), Path(os.path.abspath(out))  # noqa: PTH100
    if not registry.named("exporter", format):
        known = [one.name for one in registry.usable("exporter")]
        raise UsageError(f"no exporter is called {format!r}; {nearest(format, known)}")
    exporter = registry.create("exporter", format, options or {}, Path.cwd())
    refuse_inside_store(final)
    try:
        empty = final.is_dir() and not any(final.iterdir())
        if final.exists() and not empty:
            raise InputError(f"{out}: exists; choose another OUT, or delete it first")
        _write(exporter, opened, final, empty)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error
    except InputError as error:
        if isinstance(error.__cause__, OSError):  # it names the exporter alone
            message = f"{out}: {error}; mend that or choose another OUT"
            raise InputError(message) from error.__cause__
        raise
    return Path(out)


def _write(exporter: Any, store: Store, final: Path, empty: bool) -> None:
    """Let the exporter write beside ``final``, make it durable, and move it there."""
    make_folder(final.parent)
    with tempfile.TemporaryDirectory(
        dir=final.parent, prefix=f".{final.name}-", ignore_cleanup_errors=True
    ) as folder:
        temporary = Path(folder) / final.name
        in_thread(lambda: guarded("exporter", exporter, exporter, store, temporary))
        _sync(temporary)
        if empty:
            final.rmdir()
        temporary.rename(final)
        fsync_path(final.parent)

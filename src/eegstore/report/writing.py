"""Makes a report: asks, audits, draws, and writes the page whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from eegstore.audit import Audit, examine
from eegstore.audit_rows import Listener
from eegstore.disk import put
from eegstore.errors import InputError, UsageError
from eegstore.report import learned
from eegstore.report.material import Material
from eegstore.report.page import page
from eegstore.root import refuse_inside_store
from eegstore.store import Store

MAX_TRIALS: Final = 2000


def report(
    store: Store,
    out: str | Path,
    *,
    evaluations: Sequence[Mapping[str, Any]] | None = None,
    audit: Audit | None = None,
    with_audit: bool = True,
    seed: int = 0,
    max_trials: int = MAX_TRIALS,
    listener: Listener | None = None,
) -> Path:
    """Write one page of HTML that says what a store is, and what was found in it.

    The page needs no network and no other file. The same store gives the same bytes.

    Parameters
    ----------
    store
        The store.
    out
        The file to write; one that is there is replaced.
    evaluations
        Documents of ``evaluate``. By default those that the store's history has of its content;
        where there are none, each column that was learnt from EEG is evaluated.
    audit
        What ``examine`` found; it is made by default.
    with_audit
        Whether to make it: it reads all of the EEG and of the images, the figures a sample.
    seed
        Seed of every sample.
    max_trials
        Most trials that a figure is made from.
    listener
        Called with what is done, how much is, and of how much.

    Returns
    -------
    ``out``, which appears whole.

    Raises
    ------
    InputError
        Where the file cannot be written, its folder is not there, or it lies inside a store.
    UsageError
        Where ``out``, ``seed`` or ``max_trials`` is out of range.
    """
    final = _checked(out, seed, max_trials)
    refused: list[str] = []
    if evaluations is None:
        evaluations, refused = learned.evaluations(store, seed)
    if audit is None and with_audit:
        audit = examine(store, listener=listener)
    material = Material(store, seed, max_trials, list(evaluations), audit, refused)
    _write(page(material), out, final)
    return Path(out)


def _checked(out: str | Path, seed: int, max_trials: int) -> Path:
    if str(out) == "":
        raise UsageError("OUT is empty, expected the file to write")
    if seed < 0 or max_trials < 2:
        raise UsageError(
            f"seed is {seed} and max_trials {max_trials}; expected 0 or more, and 2 or more"
        )
    final = Path(os.path.abspath(out))  # noqa: PTH100 - a link is replaced, not followed
    if final.is_dir():
        raise InputError(f"{out}: is a folder, expected the file to write")
    refuse_inside_store(final)
    if not final.parent.is_dir():
        raise InputError(f"{final.parent}: there is no such folder to write in; make it first")
    return final


def _write(text: str, out: str | Path, final: Path) -> None:
    """Put the page beside its place, make it durable, and move it there."""
    try:
        with tempfile.TemporaryDirectory(
            dir=final.parent, prefix=f".{final.name[:60]}-", ignore_cleanup_errors=True
        ) as folder:
            put(text.encode("utf-8"), final, Path(folder))
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error

"""Makes a report: asks, audits, draws, and writes the page whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from eegstore.disk import make_folder, put
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
    findings: Sequence[Any] | None = None,
    seed: int = 0,
    max_trials: int = MAX_TRIALS,
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
    findings
        Findings of ``audit``, which is made by default.
    seed
        Seed of every sample.
    max_trials
        Most trials that a figure is made from.

    Returns
    -------
    ``out``, which appears whole.

    Raises
    ------
    InputError
        Where the file cannot be written, or lies inside a store.
    UsageError
        Where ``out``, ``seed`` or ``max_trials`` is out of range.
    """
    final = _checked(out, seed, max_trials)
    refused: list[str] = []
    if evaluations is None:
        evaluations, refused = learned.evaluations(store, seed)
    if findings is None:
        findings = _audited(store)
    material = Material(store, seed, max_trials, list(evaluations), findings)
    _write(page(material, refused), out, final)
    return Path(out)


def _audited(store: Store) -> Sequence[Any] | None:
    return None


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
    return final


def _write(text: str, out: str | Path, final: Path) -> None:
    """Put the page beside its place, make it durable, and move it there."""
    try:
        make_folder(final.parent)
        with tempfile.TemporaryDirectory(
            dir=final.parent, prefix=f".{final.name[:60]}-", ignore_cleanup_errors=True
        ) as folder:
            put(text.encode("utf-8"), final, Path(folder))
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error

"""Calls an extractor on rows of the material, and compares what it gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.testing import material
from eegstore.testing.check import NotApplicable
from eegstore.testing.common import same_bytes
from eegstore.testing.subject import Subject

BLOCK_ROWS: Final = (1, 2, 7)
TOLERANCE: Final = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-4}
SMALLEST: Final = 1e-7  # of the largest value of all: what is below is rounding


def limited(plugin: Any, n_rows: Iterable[int]) -> list[int]:
    """Numbers of rows that are no more than the plugin's ``block_rows``."""
    most = getattr(plugin, "block_rows", None) or material.N_ROWS
    return sorted({min(one, most) for one in n_rows})


def rows_of(plugin: Any, n_rows: Sequence[int] = (material.N_ROWS,)) -> list[list[int]]:
    """All rows of the material, in blocks of so many rows, the last of which may be short."""
    size = limited(plugin, n_rows)[-1]
    every = list(range(material.N_ROWS))
    return [every[start : start + size] for start in range(0, len(every), size)]


def given_values(
    subject: Subject, plugin: Any, rows: Sequence[int], start: int | None = None
) -> Any:
    """What a plugin gives for some rows of the material."""
    if "columns" not in subject.facts:
        subject.facts["columns"] = material.columns(subject.plugin)
    first = rows[0] if start is None else start
    return plugin(material.block(subject.cls.table, subject.facts["columns"], rows, first))


def steady(subject: Subject) -> NDArray[Any]:
    """All rows of the material, by two instances that agree, and one of them with itself.

    Raises
    ------
    NotApplicable
        Where they do not agree: then nothing can be said of any other input.
    """
    if "steady" not in subject.facts:
        plugin = subject.new()
        runs = [_all_rows(subject, one) for one in (plugin, plugin, subject.new())]
        if not all(same_bytes(runs[0], run) for run in runs):
            raise NotApplicable("not tried (deterministic): a call again gave other values")
        if len(runs[0]) != material.N_ROWS:
            raise NotApplicable("not tried (described-shape): it gives another number of rows")
        subject.facts["steady"] = runs[0]
    found: NDArray[Any] = subject.facts["steady"]
    return found


def _all_rows(subject: Subject, plugin: Any) -> NDArray[Any]:
    parts = [given_values(subject, plugin, rows) for rows in rows_of(plugin)]
    if not all(isinstance(part, np.ndarray) and part.ndim for part in parts):
        raise NotApplicable("not tried (described-shape): it gives no arrays of rows")
    return np.concatenate([np.array(part) for part in parts])


def close(values: Any, expected: NDArray[Any]) -> str:
    """What differs between values and those expected, beyond the tolerance; empty for nothing."""
    if not isinstance(values, np.ndarray) or values.shape != expected.shape:
        return ""  # the check of the described shape says it
    if expected.dtype.kind != "f":
        return "" if np.array_equal(values, expected) else "the numbers are not equal"
    tolerance = TOLERANCE.get(expected.dtype.name, 1e-4)
    size = np.nan_to_num(np.abs(expected.astype(np.float64)), posinf=0.0)
    scale = np.maximum(size.max(axis=0, initial=0), SMALLEST * size.max(initial=0) / tolerance)
    with np.errstate(invalid="ignore"):
        error = np.abs(values.astype(np.float64) - expected)
    same = (error <= tolerance * scale) | (values == expected)
    same |= np.isnan(values) & np.isnan(expected)
    if same.all():
        return ""
    row = int(np.argmin(same.reshape(len(same), -1).all(axis=1)))
    return f"row {row} differs by {np.nanmax(error[row]):.3g} of {np.nanmax(size):.3g}"

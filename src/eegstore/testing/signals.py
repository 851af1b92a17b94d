"""The checks of an extractor's less usual inputs: NaN, flat and huge ones, and padding."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.testing import material
from eegstore.testing.check import NotApplicable, Violation, told
from eegstore.testing.subject import Subject
from eegstore.testing.values import close, given_values, limited, rows_of, steady

HUGE_UV: Final = 4e9  # beyond any count of 32 bits
SPOILED: Final = 1


def nan_stays(subject: Subject) -> None:
    """NaN in one row leaves the values of the others as they are."""
    floats = [
        name
        for name, values in material.columns(subject.plugin).items()
        if isinstance(values, np.ndarray) and values.dtype.kind == "f"
    ]
    if not floats:
        raise NotApplicable("what it reads holds no floats")
    steady(subject)
    plugin = subject.new()
    rows = rows_of(plugin)[0]
    if len(rows) < 2:
        raise NotApplicable("it takes one row at a time")
    expected = given_values(subject, plugin, rows)
    columns = material.columns(subject.plugin)
    for name in floats:
        columns[name] = columns[name].copy()
        columns[name][SPOILED] = np.nan
    try:
        values = plugin(material.block(subject.cls.table, columns, rows))
    except Exception:
        return  # it refuses NaN, and the host gives it none
    others = [row for row in range(len(rows)) if row != SPOILED]
    if not isinstance(values, np.ndarray) or values.shape != expected.shape:
        raise Violation("with NaN in one row a call gave another shape, expected the same")
    wrong = close(values[others], expected[others])
    if wrong:
        raise Violation(
            f"NaN in row {SPOILED} changed other rows: {wrong}; expected NaN to stay in its row"
        )


def extremes_survive(subject: Subject) -> None:
    """Inputs at the ends of what can come give finite values."""
    if not np.isfinite(steady(subject)).all():
        raise NotApplicable("not tried (finite): usual input gives NaN or Inf")
    plugin, usual = subject.new(), material.columns(subject.plugin)
    size = limited(plugin, [material.N_ROWS])[-1]
    for what, changed in _extremes(usual).items():
        columns = usual | changed
        n_rows = min(size, *(len(values) for values in columns.values()))
        try:
            values = plugin(material.block(subject.cls.table, columns, range(n_rows)))
        except Exception as error:
            raise Violation(f"{what} raised {told(error)}; expected finite values") from error
        if not np.isfinite(np.asarray(values)).all():
            raise Violation(f"{what} gave NaN or Inf, expected finite values")


def _extremes(columns: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if "eeg" in columns:
        eeg = columns["eeg"]
        spike = eeg.copy()
        spike[:, 0, 3] = HUGE_UV
        half = eeg.copy()
        half[:, -1] = 0
        scaled = eeg / np.abs(eeg).max() * np.float32(HUGE_UV)
        found |= {
            "a signal of zeros": {"eeg": np.zeros_like(eeg)},
            "a constant signal": {"eeg": np.full_like(eeg, 7.25)},
            "a flat channel": {"eeg": half},
            f"a signal of {HUGE_UV:g} uV": {"eeg": scaled.astype(np.float32)},
            f"a spike of {HUGE_UV:g} uV": {"eeg": spike},
        }
    if "image" in columns:
        for colour, name in ((0, "black"), (255, "white")):
            found[f"a {name} image"] = {"image": [np.full((32, 32, 3), colour, np.uint8)] * 4}
        found["an image of one pixel"] = {"image": [np.full((1, 1, 3), 9, np.uint8)] * 4}
        found["an image of 2 by 64 pixels"] = {"image": [np.full((2, 64, 3), 9, np.uint8)] * 4}
    if "caption" in columns:
        found["a caption of 5,000 words"] = {"caption": ["word " * 5000] * 4}
        found["a caption of one letter"] = {"caption": ["a"] * 4}
        found["a caption of other scripts"] = {"caption": ["雪の🦉 zażółć"] * 4}
    return found


def padding_accepted(subject: Subject) -> None:
    """Trials of fewer recorded samples, the rest of which is padding, give finite values."""
    if subject.cls.table != "trials":
        raise NotApplicable("stimuli have no padding")
    if not np.isfinite(steady(subject)).all():
        raise NotApplicable("not tried (finite): usual input gives NaN or Inf")
    plugin, columns = subject.new(), material.columns(subject.plugin)
    rows = rows_of(plugin)[0]
    n_valid = _lengths(len(rows))
    if "eeg" in columns:
        padding = np.arange(material.N_TIMES) >= n_valid[:, np.newaxis]
        columns["eeg"] = columns["eeg"][: len(rows)]
        columns["eeg"] = np.where(padding[:, np.newaxis], np.float32(0), columns["eeg"])
    block = material.block("trials", columns, rows, n_valid=n_valid)
    try:
        values = plugin(block)
    except Exception as error:
        raise Violation(
            f"trials of {n_valid.min()} recorded samples of {material.N_TIMES} raised "
            f"{told(error)}; expected values"
        ) from error
    if not np.isfinite(np.asarray(values)).all():
        raise Violation("trials with padding gave NaN or Inf, expected finite values")


def _lengths(n_rows: int) -> NDArray[np.int64]:
    """int64, (row,): from half of the samples to all of them."""
    return np.linspace(material.N_TIMES // 2, material.N_TIMES - 1, n_rows).astype(np.int64)

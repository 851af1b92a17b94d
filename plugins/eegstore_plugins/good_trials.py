"""Which trials are good enough to be paired, by a column of their quality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import Column

QUALITY: Final[Mapping[str, Any]] = {
    "description": "Column of trials whose last feature is their quality, such as "
    "'trials/quality'; none by default.",
    "pattern": "^(trials/[a-z][a-z0-9_]*)?$",
    "examples": ["trials/quality"],
}
MIN_QUALITY: Final[Mapping[str, Any]] = {
    "description": "Least quality of a trial that is paired; it needs quality.",
    "allow_inf_nan": False,
    "json_schema_extra": {"needs": "quality"},
}


def good_trials(
    quality: str, least: float, columns: Mapping[str, Column], n_trials: int
) -> NDArray[np.bool_]:
    """bool, (trial,): whether a trial's quality is no less than the least, NaN being less."""
    if not quality:
        return np.ones(n_trials, dtype=np.bool_)
    values = np.asarray(columns[quality][:], dtype=np.float64)
    return values.reshape(n_trials, -1)[:, -1] >= least


def reads_of(quality: str) -> tuple[str, ...]:
    """What a pairing reads for it."""
    return (quality,) if quality else ()

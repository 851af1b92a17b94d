"""Pairs each trial with a stimulus, by the recipe's plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegstore.calls import given, guarded
from eegstore.errors import PluginError, RecipeError
from eegstore.scan import Scan, pairing_plugin
from eegstore.tables import Column, ColumnSpec, Pairs
from eegstore.wide import WideArray


@dataclass(frozen=True)
class WrittenColumn:
    """A wide column whose shards are written and whose table is not committed yet."""

    spec: ColumnSpec
    array: WideArray

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        numbers = np.arange(len(self.array))[rows]
        values = self.array.take(np.atleast_1d(numbers))
        return values if np.ndim(numbers) else values[0]


def pair(found: Scan, columns: Mapping[str, Column], valid: NDArray[np.bool_]) -> Pairs:
    """The pairs of all trials; an invalid trial is never paired.

    Parameters
    ----------
    found
        The scan.
    columns
        Wide columns by path; the plugin is handed those that its ``reads`` names.
    valid
        bool, (trial,): whether the signal is finite.
    """
    n_trials = found.trials.n_trials
    if found.stimuli is None:
        none = np.full(n_trials, -1, dtype=np.int64)
        return Pairs(none, np.full(n_trials, np.nan, dtype=np.float32))
    plugin, section = pairing_plugin(found), found.recipe.pairing
    reads = getattr(plugin, "reads", ())
    missing = [path for path in reads if path not in columns]
    if missing:
        raise RecipeError(
            f"[pairing] {plugin.name} reads {missing[0]}, which the recipe does not extract"
        )
    read = {path: columns[path] for path in reads}
    limit_s = section.timeout_s if section else None
    arguments = found.trials, found.stimuli, read
    pairs = guarded("pairing", plugin, plugin, *arguments, limit_s=limit_s)
    given("pairing", plugin, "its call", pairs, Pairs)
    stimulus, score = np.asarray(pairs.stimulus), np.asarray(pairs.score)
    if stimulus.shape != (n_trials,) or stimulus.dtype.kind != "i":
        raise PluginError(
            f"pairing {plugin.name!r}: gave {stimulus.dtype} {stimulus.shape}, "
            f"expected int64 ({n_trials},)"
        )
    if score.shape != (n_trials,) or score.dtype.kind not in "iuf":
        raise PluginError(
            f"pairing {plugin.name!r}: gave scores {score.dtype} {score.shape}, "
            f"expected float32 ({n_trials},)"
        )
    outside = (stimulus < -1) | (stimulus >= found.stimuli.n_stimuli)
    if outside.any():
        trial = int(np.argmax(outside))
        raise PluginError(
            f"pairing {plugin.name!r}: trial {trial} got stimulus {stimulus[trial]} "
            f"of {found.stimuli.n_stimuli}"
        )
    paired = valid & (stimulus >= 0)
    return Pairs(
        np.where(paired, stimulus, -1).astype(np.int64),
        np.where(paired, score, np.nan).astype(np.float32),
    )

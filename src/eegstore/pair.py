"""Pairs each trial with a stimulus, by the recipe's plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegstore.answers import Pairs
from eegstore.calls import given, guarded
from eegstore.errors import PluginError, RecipeError
from eegstore.scan import Scan, pairing_plugin, pairing_reads
from eegstore.tables import Column, ColumnSpec
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
    reads = pairing_reads(found)
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
    return _checked(plugin.name, pairs, n_trials, found.stimuli.n_stimuli, valid)


def unused(pairs: Pairs, n_stimuli: int) -> list[str]:
    """A line where stimuli are paired with no trial: keys of another meaning fit but a few."""
    rows = [pairs.stimulus] if pairs.more is None else [pairs.stimulus, pairs.more.ravel()]
    used = np.unique(np.concatenate(rows))
    n_unused = n_stimuli - int(np.count_nonzero(used >= 0))
    return [f"{n_unused:,} of {n_stimuli:,} stimuli are shown by no trial"] if n_unused else []


def _checked(
    name: str, pairs: Pairs, n_trials: int, n_stimuli: int, valid: NDArray[np.bool_]
) -> Pairs:
    """A pairing's answer of the promised types, without the pairs of invalid trials."""
    who = f"pairing {name!r}"
    stimulus, score = np.asarray(pairs.stimulus), np.asarray(pairs.score)
    _refuse_other(who, "", stimulus, score, (n_trials,))
    stimulus, score = stimulus[:, None], score[:, None]
    if pairs.more is not None:
        if pairs.more_score is None:
            raise PluginError(f"{who}: gave more stimuli without more_score, expected both")
        more, more_score = np.asarray(pairs.more), np.asarray(pairs.more_score)
        n_more = more.shape[1] if more.ndim == 2 else 0
        _refuse_other(who, " as more", more, more_score, (n_trials, n_more))
        stimulus, score = np.hstack([stimulus, more]), np.hstack([score, more_score])
    _refuse_outside(who, stimulus, n_stimuli)
    _refuse_unordered(who, stimulus)
    paired = valid[:, None] & (stimulus >= 0)
    rows = np.where(paired, stimulus, -1).astype(np.int64)
    scores = np.where(paired, score, np.nan).astype(np.float32)
    further = (rows[:, 1:], scores[:, 1:]) if pairs.more is not None else (None, None)
    return Pairs(rows[:, 0].copy(), scores[:, 0].copy(), *further)


def _refuse_other(
    who: str, what: str, stimulus: NDArray[Any], score: NDArray[Any], shape: tuple[int, ...]
) -> None:
    """Refuse stimuli and scores of another type or shape."""
    if stimulus.shape != shape or stimulus.dtype.kind != "i":
        raise PluginError(
            f"{who}: gave {stimulus.dtype} {stimulus.shape}{what}, expected int64 {shape}"
        )
    if score.shape != shape or score.dtype.kind not in "iuf":
        raise PluginError(
            f"{who}: gave scores {score.dtype} {score.shape}{what}, expected float32 {shape}"
        )


def _refuse_outside(who: str, stimulus: NDArray[Any], n_stimuli: int) -> None:
    """Refuse rows that are not there."""
    outside = (stimulus < -1) | (stimulus >= n_stimuli)
    if outside.any():
        trial, number = np.argwhere(outside)[0]
        raise PluginError(
            f"{who}: trial {trial} got stimulus {stimulus[trial, number]} of {n_stimuli}"
        )


def _refuse_unordered(who: str, stimulus: NDArray[Any]) -> None:
    """Refuse a stimulus behind none, and one that a trial has twice."""
    behind = (stimulus[:, :-1] < 0) & (stimulus[:, 1:] >= 0)
    if behind.any():
        trial = int(np.argmax(behind.any(axis=1)))
        raise PluginError(
            f"{who}: trial {trial} got stimuli {stimulus[trial].tolist()!s:.80}, expected -1 only "
            "where no further one comes"
        )
    ordered = np.sort(stimulus, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        trial = int(np.argmax(twice.any(axis=1)))
        raise PluginError(
            f"{who}: trial {trial} got stimuli {stimulus[trial].tolist()!s:.80}, expected none "
            "twice"
        )

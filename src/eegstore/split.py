"""Puts each trial into a split, by the recipe's plugin."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore.answers import Splits
from eegstore.calls import guarded
from eegstore.errors import InputError, PluginError
from eegstore.scan import Scan, split_plugin
from eegstore.tables import frozen

SKIPPED: Final = "skipped"
# Exporters name files after splits.
SPLIT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
EVERYTHING: Final = "train"


def split(found: Scan, stimulus: NDArray[np.int64], valid: NDArray[np.bool_]) -> Splits:
    """The split and the fold of each trial; an invalid one is in ``skipped``, and in no fold."""
    n_trials = found.trials.n_trials
    plugin, section = split_plugin(found), found.recipe.split
    names, fold = np.full(n_trials, EVERYTHING), np.full(n_trials, -1, dtype=np.int64)
    if plugin is not None:
        limit_s = section.timeout_s if section else None
        arguments = found.trials, frozen(stimulus), found.stimuli
        given = guarded("split", plugin, plugin, *arguments, limit_s=limit_s)
        if isinstance(given, Splits):
            fold = _folds(plugin.name, given.fold, n_trials)
            given = given.split
        names = _names(plugin.name, given, n_trials)
    return Splits(np.where(valid, names, SKIPPED), np.where(valid, fold, -1).astype(np.int64))


def _names(plugin: str, given: Any, n_trials: int) -> NDArray[np.str_]:
    """The names that a plugin gave, where they are some."""
    names = np.asarray(given).astype(np.str_)
    if names.shape != (n_trials,):
        raise PluginError(
            f"split {plugin!r}: gave {names.shape}, expected a name for each of {n_trials} trials"
        )
    for name in np.unique(names):
        if name == SKIPPED or not SPLIT_NAME.fullmatch(name):
            raise InputError(
                f"[split] {plugin}: a split is called {str(name)!r:.80}; expected "
                f"letters, digits, '_', '-' and '.', and not {SKIPPED!r}"
            )
    return names


def _folds(plugin: str, given: Any, n_trials: int) -> NDArray[np.int64]:
    """The folds that a plugin gave, where they are some."""
    fold = np.asarray(given)
    if fold.shape != (n_trials,) or fold.dtype.kind != "i":
        raise PluginError(
            f"split {plugin!r}: gave folds {fold.dtype} {fold.shape}, expected int64 ({n_trials},)"
        )
    if fold.min(initial=-1) < -1:
        trial = int(np.argmin(fold))
        raise PluginError(
            f"split {plugin!r}: trial {trial} is in fold {fold[trial]}, expected 0 or more, or -1 "
            "for none"
        )
    return fold

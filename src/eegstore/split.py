"""Puts each trial into a split, by the recipe's plugin."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eegstore.calls import guarded
from eegstore.errors import InputError, PluginError
from eegstore.scan import Scan, split_plugin
from eegstore.tables import frozen

SKIPPED: Final = "skipped"
# Exporters name files after splits.
SPLIT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
EVERYTHING: Final = "train"


def split(found: Scan, stimulus: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.str_]:
    """str, (trial,): the split of each trial; an invalid one is in the split ``skipped``."""
    n_trials = found.trials.n_trials
    plugin, section = split_plugin(found), found.recipe.split
    if plugin is None:
        names = np.full(n_trials, EVERYTHING)
    else:
        limit_s = section.timeout_s if section else None
        arguments = found.trials, frozen(stimulus), found.stimuli
        given = guarded("split", plugin, plugin, *arguments, limit_s=limit_s)
        names = np.asarray(given).astype(np.str_)
        if names.shape != (n_trials,):
            raise PluginError(
                f"split {plugin.name!r}: gave {names.shape}, expected a name for each of "
                f"{n_trials} trials"
            )
        for name in np.unique(names):
            if name == SKIPPED or not SPLIT_NAME.fullmatch(name):
                raise InputError(
                    f"[split] {plugin.name}: a split is called {str(name)!r:.80}; expected "
                    f"letters, digits, '_', '-' and '.', and not {SKIPPED!r}"
                )
    return np.where(valid, names, SKIPPED)

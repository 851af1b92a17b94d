"""Parts of the train trials: a model is fitted without each, so that no trial predicts itself."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, InputError

SINGLE: Final = 128
TOGETHER: Final = 16
Numbers = NDArray[np.int64]


class Parts:
    """Deals train trials to parts: by their fold where they have one, else by their stimulus.

    The stimuli take turns in the order in which they come, the first 128 one by one and those
    after them by sixteens: trials that lie together are then mostly of one part, and predicted by
    one model. Rows of one ``content_id`` are one stimulus. A part has the number of its turn, or
    ``n_parts`` plus the number of its fold.
    """

    def __init__(self, n_parts: int) -> None:
        self._n_parts = n_parts
        self._contents: dict[Hashable, int] = {}
        self._turns: dict[int, int] = {}  # of the contents that are in no fold
        self._part_of: dict[int, int] = {}

    def deal(
        self, stimulus: Numbers, names: Sequence[Hashable], fold: Numbers
    ) -> tuple[Numbers, Numbers]:
        """Number the contents of some trials, and find their parts: int64, (row,), of both."""
        contents = self._contents
        content = np.array([contents.setdefault(one, len(contents)) for one in names], np.int64)
        part = self._n_parts + fold
        for row in np.flatnonzero(fold < 0).tolist():
            number = self._turns.setdefault(int(content[row]), len(self._turns))
            turn = number if number < SINGLE else SINGLE + (number - SINGLE) // TOGETHER
            part[row] = self._part_of[int(stimulus[row])] = turn % self._n_parts
        return content, part

    def state(self, used: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Arrays of which ``PartOfRow`` is made; ``used`` are the parts that a model is without."""
        stimuli = sorted(self._part_of)
        return {
            "part": np.array(used, np.int64),
            "n_parts": np.array(self._n_parts, np.int64),
            "stimulus": np.array(stimuli, np.int64),
            "stimulus_part": np.array([self._part_of[one] for one in stimuli], np.int64),
        }


def refuse_unfit(name: str, weights: Mapping[int, float]) -> None:
    """Refuse to fit where nothing would be left without a part, or nothing that counts.

    Parameters
    ----------
    weights
        Of each part, the sum of its trials' weights.

    Raises
    ------
    InputError
        Where there are fewer than two parts, or all but one weigh 0.
    """
    if len(weights) < 2:
        raise InputError(
            f"extractor {name!r}: the paired train trials are {len(weights)} parts, expected at "
            "least 2; it needs two stimuli, or two folds, in the split train"
        )
    total = sum(weights.values())
    if any(total - one <= 0 for one in weights.values()):
        raise InputError(
            f"extractor {name!r}: without one of their {len(weights)} parts the train trials weigh "
            "0 in sum, expected more; look at the column that weighs them, or leave weight out"
        )


@dataclass(frozen=True, eq=False)
class PartOfRow:
    """Which model a trial's result comes from, by that trial's own columns.

    Parameters
    ----------
    part
        int64, (model,): the part that each model has not seen; another model has seen all.
    n_parts
        How many parts stimuli were dealt to.
    stimulus, stimulus_part
        int64, (stimulus,): the stimuli that were dealt, ascending, and the part of each.
    """

    part: Numbers
    n_parts: int
    stimulus: Numbers
    stimulus_part: Numbers

    @classmethod
    def of_state(cls, state: Mapping[str, NDArray[Any]]) -> PartOfRow:
        """From the arrays of ``Parts.state``."""
        return cls(state["part"], int(state["n_parts"]), state["stimulus"], state["stimulus_part"])

    def model(self, block: Block) -> Numbers:
        """int64, (row,): number of the model; ``len(part)`` is the one that has seen all."""
        stimulus = np.asarray(block["stimulus"])
        fold = np.asarray(block.get("fold", np.full(block.n_rows, -1)))
        part = np.where(fold >= 0, self.n_parts + fold, _looked_up(
            stimulus, self.stimulus, self.stimulus_part))  # fmt: skip
        model = _looked_up(part, self.part, np.arange(len(self.part)))
        seen = (np.asarray(block["split"]) == "train") & (stimulus >= 0) & (model >= 0)
        return np.where(seen, model, len(self.part))


def _looked_up(wanted: Numbers, keys: Numbers, values: Numbers) -> Numbers:
    """The value of each key, -1 where it is none of the ascending keys."""
    if not len(keys):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], -1)

"""What extractors share that learn to predict the embedding of the stimulus that was shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, InputError, RecipeError
from eegstore_plugins.parts import Parts

CONTENT: Final = "stimuli/content_id"


class Paired(NamedTuple):
    """The paired trials of a block of train rows.

    Parameters
    ----------
    rows
        int64, (row,): where they are in the block.
    target
        float32, (row, embedding): the embedding of the stimulus of each.
    content
        int64, (row,): which stimulus it is; those of one ``content_id`` are one.
    part
        int64, (row,): the part that each is in.
    weight
        float64, (row,): how much each counts.
    """

    rows: NDArray[np.int64]
    target: NDArray[np.float32]
    content: NDArray[np.int64]
    part: NDArray[np.int64]
    weight: NDArray[np.float64]


@dataclass(frozen=True)
class TargetExtractor:
    """The options of an extractor that predicts a stimulus' embedding, and what it reads.

    It is fitted once to all paired train trials, and once to each part of them left out. A train
    trial's result comes from the model that has not seen its part; any other trial's from the
    first.
    """

    version: ClassVar[str] = "1"
    table: ClassVar[Literal["trials", "stimuli"]] = "trials"
    out_of_fold: ClassVar[bool] = True
    name: ClassVar[str]

    target: str = field(
        default="stimuli/clip_image",
        metadata={"description": "Column of the stimuli whose vectors are predicted."},
    )
    input: str = field(
        default="eeg",
        metadata={"description": "Column of the trials to predict from."},
    )
    n_folds: int = field(
        default=5,
        metadata={
            "description": "Parts of the train trials for out-of-fold results, where the split "
            "gives no folds; all trials of a stimulus are in one.",
            "ge": 2,
            "le": 100,
        },
    )
    weight: str | None = field(
        default=None,
        metadata={
            "description": "Column of the trials whose last feature says how much a trial counts, "
            "such as quality; all count the same by default.",
        },
    )

    def __post_init__(self) -> None:
        if not self.target.startswith("stimuli/"):
            raise ValueError(
                f"target is {self.target!r}, expected a column of the stimuli, as "
                "'stimuli/clip_image'"
            )

    @property
    def reads(self) -> tuple[str, ...]:
        """The input, and what says which model a trial's result comes from."""
        return (self.input, "stimulus", "split", "fold")

    @property
    def fit_reads(self) -> tuple[str, ...]:
        """The target, which stimuli are the same, and the weight."""
        return (self.target, CONTENT, *([self.weight] if self.weight else []))

    def described(self, inputs: Mapping[str, ColumnSpec], attrs: Mapping[str, Any]) -> ColumnSpec:
        """A vector of the target's width, in the target's unit.

        Raises
        ------
        RecipeError
            Where the target is not a vector of floats.
        """
        target = inputs[self.target]
        if len(target.shape) != 1 or not target.dtype.startswith("float"):
            raise RecipeError(
                f"extractor {self.name!r}: target {self.target} is {target.dtype} {target.shape}, "
                "expected one vector of floats a stimulus; name another column"
            )
        return ColumnSpec(
            dims=("embedding",),
            shape=target.shape,
            dtype="float32",
            units=target.units,
            attrs={"target": self.target, "input": self.input, **attrs},
        )

    def paired(self, block: Block, parts: Parts) -> Paired:
        """The paired trials of a block, dealt to parts.

        Raises
        ------
        InputError
            Where a weight is negative, or no number that single precision holds.
        """
        stimulus = np.asarray(block["stimulus"])
        rows = np.flatnonzero(stimulus >= 0)
        fold = np.asarray(block.get("fold", np.full(block.n_rows, -1)))[rows]
        names = block.get(CONTENT)
        names = stimulus[rows] if names is None else np.asarray(names)[rows]
        content, part = parts.deal(stimulus[rows], names.tolist(), fold)
        target = np.asarray(block[self.target][rows], dtype=np.float32)
        return Paired(rows, target, content, part, self._weights(block)[rows])

    def _weights(self, block: Block) -> NDArray[np.float64]:
        if self.weight is None:
            return np.ones(block.n_rows)
        weights = np.asarray(block[self.weight], np.float64).reshape(block.n_rows, -1)[:, -1]
        sound = (weights >= 0) & (weights <= np.finfo(np.float32).max)
        if not sound.all():
            row = int(np.argmin(sound))
            raise InputError(
                f"extractor {self.name!r}: {self.weight} weighs a trial by {weights[row]:g} (train "
                f"trials from {block.start} on), expected a finite number of 0 or more"
            )
        return weights

"""Predicts the embedding of the stimulus from the EEG by ridge regression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import Block, ColumnSpec, PluginError, hookimpl
from eegstore_plugins import inputs_of_trials
from eegstore_plugins.cores import one_thread
from eegstore_plugins.gram import Gram, Sums, Values
from eegstore_plugins.linear import Centred, Linear, fitted, solved
from eegstore_plugins.parts import PartOfRow, Parts, refuse_unfit
from eegstore_plugins.targets import TargetExtractor

SECONDS: Mapping[str, Any] = {"json_schema_extra": {"unit": "s"}}


class Learnt(NamedTuple):
    """The models, and which of them a trial's result comes from."""

    models: Linear
    part_of_row: PartOfRow


@dataclass(frozen=True)
class LinearExtractor(TargetExtractor):
    """What the extractors share whose prediction is linear in the input."""

    version: ClassVar[str] = "2"

    tmin: float | None = field(
        default=None,
        metadata={
            "description": "First time of the EEG that is used, from stimulus onset; by default "
            "the first.",
            **SECONDS,
        },
    )
    tmax: float | None = field(
        default=None,
        metadata={
            "description": "End of the EEG that is used, from stimulus onset; by default all.",
            **SECONDS,
        },
    )
    n_bins: int | None = field(
        default=None,
        metadata={
            "description": "Means over time that stand for a channel of the EEG; by default 64, "
            "or less where channels times bins would be over 2048.",
            "ge": 1,
        },
    )
    penalty: float | None = field(
        default=None,
        metadata={
            "description": "What is added to the variance of each standardised feature; by "
            "default the one of 0.0001, 0.001, … 1000 with the least squared error on parts that "
            "were left out.",
            "gt": 0,
            "le": 1e9,
            "json_schema_extra": {"unit": "1"},
        },
    )
    spread: Literal["matched", "shrunk"] = field(
        default="matched",
        metadata={
            "description": "Predictions vary about their mean as much as the targets do, so that "
            "they are compared as embeddings are; or little, as the least squared error has it."
        },
    )

    # No option: what fit has found, from restore on.
    _learnt: ClassVar[Learnt | None] = None
    _of_targets: ClassVar[bool] = False

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        n_features = inputs_of_trials.n_features(
            self.name, self.input, inputs[self.input], self.tmin, self.tmax, self.n_bins
        )
        return self.described(inputs, {"n_features": n_features})

    def fit(self, blocks: Iterable[Block]) -> Mapping[str, NDArray[Any]]:
        """Fit a model to the paired train trials without each part, and one to all.

        It takes one pass. The memory is, in bytes, ``8 p (p + d)`` a part and some more, for ``p``
        features and ``d`` dimensions; the state is ``4 p d`` a part and once more.

        Raises
        ------
        InputError
            Where there are fewer than two parts that count, or values are not finite.
        """
        parts, matched = Parts(self.n_folds), self.spread == "matched"
        with one_thread():
            with Gram(self._of_targets) as gram:
                for block in blocks:
                    paired = self.paired(block, parts)
                    gram.add(self._features(block)[paired.rows], paired)
            numbers = sorted(gram.parts)
            refuse_unfit(self.name, {number: gram.parts[number].n for number in numbers})
            models = fitted(gram, numbers, self.penalty, matched, self._solved)
        return {**models.state(), **parts.state(numbers)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take the models that ``fit`` found."""
        learnt = Learnt(Linear.of_state(state), PartOfRow.of_state(state))
        object.__setattr__(self, "_learnt", learnt)

    def __call__(self, block: Block) -> NDArray[np.float32]:
        if self._learnt is None:
            raise PluginError(f"extractor {self.name!r}: called before restore()")
        models, part_of_row = self._learnt
        with one_thread():
            return models.predict(self._features(block), part_of_row.model(block))

    def _features(self, block: Block) -> NDArray[np.float32]:
        return inputs_of_trials.features(block, self.input, self.tmin, self.tmax, self.n_bins)

    def _solved(self, products: Centred, sums: Sums, added: float) -> Values:
        """The weights of one fit, float64 (feature, embedding), with a penalty."""
        return solved(products, added)


@dataclass(frozen=True)
class Ridge(LinearExtractor):
    """Each trial's prediction of its stimulus' embedding: float32, (embedding,), in its unit.

    Ridge regression (Hoerl and Kennard 1970) from the EEG's means over bins of time, standardised
    by the train trials, to the target. A train trial is predicted by a model that has not seen
    its part: its fold, or a fifth of the stimuli. All share a penalty, which is chosen by squared
    error on the parts, each predicted by the others.
    """

    name: ClassVar[str] = "ridge"


@hookimpl
def eegstore_extractors() -> list[type[Ridge]]:
    """The extractor of this module."""
    return [Ridge]

"""The conformance kit over extractors that are fitted to stimuli, and pairings by vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from eegstore import Block, ColumnSpec, Pairs, Stimuli, Trials, testing
from test_testing import failed


@dataclass(frozen=True)
class Mapped:
    """The mean of the train trials' embeddings, and the first sample beside it in each feature."""

    name: ClassVar[str] = "mapped-for-the-kit"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    target: str = field(default="stimuli/clip_image", metadata={"description": "Column."})
    gain: float = field(default=1.0, metadata={"description": "Factor.", "gt": 0})

    @property
    def reads(self) -> tuple[str, ...]:
        return ("eeg", "fold")

    @property
    def fit_reads(self) -> tuple[str, ...]:
        return (self.target, "stimulus", "split", "label")

    def describe(self, inputs: Mapping[str, ColumnSpec]) -> ColumnSpec:
        return replace(inputs[self.target], coords={})

    def fit(self, blocks: Iterable[Block]) -> dict[str, Any]:
        found = list(blocks)
        assert all((block["stimulus"] >= 0).all() for block in found)
        assert {split for block in found for split in block["split"]} == {"train"}
        target = np.concatenate([block[self.target] for block in found])
        return {"mean": target.mean(axis=0)}

    def restore(self, state: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_mean", state["mean"])

    def __call__(self, block: Block) -> Any:
        if not hasattr(self, "_mean"):
            raise RuntimeError("is not fitted: restore() was not called")
        first = np.clip(block["eeg"][:, 0, :1], -1e3, 1e3) + block["fold"][:, None]
        return (self._mean + self.gain * np.nan_to_num(first)).astype(np.float32)


class FitsToWhatItIsNotGiven(Mapped):
    def fit(self, blocks: Iterable[Block]) -> dict[str, Any]:
        return {"mean": next(iter(blocks))["stimuli/clip_text"].mean(axis=0)}


@dataclass(frozen=True)
class ByVectors:
    """The stimuli whose vectors are the nearest to a trial's."""

    name: ClassVar[str] = "by-vectors"
    version: ClassVar[str] = "1"
    reads: ClassVar[tuple[str, ...]] = ("trials/ridge", "stimuli/clip_image")
    made_from: ClassVar[tuple[str, ...]] = reads

    def __call__(self, trials: Trials, stimuli: Stimuli, columns: Mapping[str, Any]) -> Pairs:
        query, gallery = (columns[path][:] for path in self.reads)
        score = query @ gallery.T
        order = np.argsort(-score, axis=1, kind="stable")[:, :2]
        best = np.take_along_axis(score, order, axis=1)
        return Pairs(order[:, 0], best[:, 0], order[:, 1:], best[:, 1:])


def test_an_extractor_that_is_fitted_to_stimuli_conforms() -> None:
    outcomes = testing.run(Mapped())
    assert failed(outcomes) == {}
    assert not [one for one in outcomes if one.detail.startswith("not tried")]
    passed = {str(one.check) for one in outcomes if one.passed}
    assert passed >= {"fit-repeats", "column-key", "spawned-process", "describe-is-pure"}


@pytest.mark.nightly
def test_a_fit_to_a_column_that_it_does_not_name_is_seen() -> None:
    found = failed(testing.run(FitsToWhatItIsNotGiven()))
    assert list(found) == ["answers"]
    assert "fit() on blocks of train rows raised KeyError: 'stimuli/clip_text'" in found["answers"]


def test_a_pairing_by_vectors_conforms_though_nothing_computes_them() -> None:
    outcomes = testing.run(ByVectors())
    assert failed(outcomes) == {}
    passed = {str(one.check) for one in outcomes if one.passed}
    assert passed >= {"more-described", "made-from-named", "permuted", "rows-exist"}
    (unlabelled,) = [one for one in outcomes if str(one.check) == "unlabelled-unpaired"]
    assert unlabelled.passed is None

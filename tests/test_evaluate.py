"""``eegstore evaluate``: what can be found is found, what cannot is not, and no leak is scored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from rich.console import Console

import eegstore
from command import check_refused, run_command
from eegstore import (
    ColumnSpec,
    InputError,
    LockedError,
    Pairs,
    Splits,
    UsageError,
    evaluation_pages,
    render,
)
from eegstore.disk import writer_lock
from eegstore.evaluate import evaluate
from eegstore.recording import record_evaluation
from eegstore.retrieval import ranks
from eegstore.root import beside
from eegstore.rounds import Asker, concepts, first_of_content
from handbook import ROOT, commands
from planted_images import HOG, planted, write_images
from samples import recipe

pytest.importorskip("torch")
LABEL = {"plugin": "label", "choose": "cycle"}
QUICK = {"n_boot": 200, "n_perm": 99}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> eegstore.Store:
    """24 images of 8 concepts, each shown 4 times, in EEG that is easily told apart."""
    return planted(tmp_path_factory.mktemp("planted"), noise=2.0)


@pytest.fixture(scope="module")
def by_label(tmp_path_factory: pytest.TempPathFactory) -> eegstore.Store:
    """The same, paired by the label."""
    folder = tmp_path_factory.mktemp("by-label")
    return planted(folder, noise=2.0, pairing=LABEL)


def test_what_is_planted_is_found(store: eegstore.Store) -> None:
    found = evaluate(store, "eeg", "hog")
    assert (found.n_query, found.n_gallery, found.n_trials, found.n_clusters) == (96, 24, 96, 24)
    assert found.p_value == 1 / 1001
    assert found.verdict == "above chance (p = 0.001)"
    assert list(found.warnings) == []
    for name in ("top1", "top5", "mrr"):
        assert found.scores[name].low > 2 * found.scores[name].chance
    assert found.scores["median_rank"].high < 6 < found.scores["median_rank"].chance == 12.5
    assert found.kway["2"].low > 0.7
    assert list(found.kway) == ["2", "4", "10"]


def test_the_numbers_are_those_of_ranks(store: eegstore.Store) -> None:
    trials, stimuli = store.trials, store.stimuli
    queries = trials["eeg"][:].reshape(96, -1)
    better = ranks(queries, stimuli["hog"][:], trials["stimulus"][:]).n_better
    found = evaluate(store, "eeg", "hog", n_boot=0, n_perm=0).scores
    for k in (1, 3, 5, 10):
        assert found[f"top{k}"].value == pytest.approx(np.mean(better < k))
        assert found[f"top{k}"].chance == pytest.approx(k / 24)
    assert found["mrr"].value == found["map"].value == pytest.approx(np.mean(1 / (1 + better)))
    assert found["median_rank"].value == np.median(1 + better)
    assert np.isnan(found["top1"].low)


def test_where_nothing_is_planted_it_says_so(tmp_path: Path) -> None:
    found = evaluate(planted(tmp_path, noise=1e9, seed=4), "eeg", "hog")
    assert found.p_value is not None
    assert found.p_value > 0.05
    assert found.verdict == f"no evidence of decoding (p = {found.p_value:.2g})"
    for name in ("top1", "top5", "top10", "mrr"):
        one = found.scores[name]
        assert one.low <= one.chance <= one.high


def test_the_document_has_the_promised_keys(store: eegstore.Store) -> None:
    found = json.loads(json.dumps(evaluate(store, "eeg", "hog", **QUICK).document()))
    for name in ("top1", "top3", "top5", "top10", "mrr", "median_rank", "map"):
        assert set(found[name]) == {"value", "low", "high", "chance"}
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    assert set(found["kway"]["10"]) == {"value", "low", "high", "chance"}
    assert found["kway"]["10"]["chance"] == 0.1
    assert (found["n_query"], found["n_gallery"], found["split"]) == (96, 24, "test")
    assert (found["query"], found["gallery"]) == ("trials/eeg", "stimuli/hog")
    assert (found["target"], found["folds"], found["tautology"]) == ("stimulus", [], "")
    assert {one["subject"]: one["n"] for one in found["per_subject"]} == {"sub-1": 48, "sub-2": 48}
    assert {one["concept"]: one["n"] for one in found["per_concept"]} == {
        f"c{number}": 12 for number in range(8)
    }
    whole = np.mean([one["top1"]["value"] for one in found["per_concept"]])
    assert found["top1"]["value"] == pytest.approx(whole)
    assert found["digest"] == store.digest


def test_the_same_seed_gives_the_same_numbers(store: eegstore.Store) -> None:
    first, again = (evaluate(store, "eeg", "hog", seed=3, **QUICK).document() for _ in range(2))
    assert first == again
    other = evaluate(store, "eeg", "hog", seed=4, **QUICK).document()
    assert other["top5"]["value"] == first["top5"]["value"]
    assert other["mrr"]["low"] != first["mrr"]["low"]


def test_a_concept_is_found_by_any_of_its_stimuli(store: eegstore.Store) -> None:
    found = evaluate(store, "eeg", "hog", target="concept", **QUICK)
    trials, stimuli = store.trials, store.stimuli
    queries = trials["eeg"][:].reshape(96, -1)
    of_concept = [np.flatnonzero(stimuli["label"][:] == one) for one in range(8)]
    targets = np.stack([of_concept[label] for label in trials["label"][:]])
    better = ranks(queries, stimuli["hog"][:], targets).n_better
    assert found.scores["top5"].value == pytest.approx(np.mean(better < 5))
    missed = 21 / 24 * 20 / 23 * 19 / 22 * 18 / 21 * 17 / 20
    assert found.scores["top5"].chance == pytest.approx(1 - missed)
    assert found.kway["4"].chance == 0.25


def test_confusion_counts_the_concept_at_the_first_place(store: eegstore.Store) -> None:
    found = evaluate(store, "eeg", "hog", target="concept", **QUICK)
    assert found.confusion is not None
    assert found.confusion["concepts"] == [f"c{number}" for number in range(8)]
    counts = np.array(found.confusion["counts"])
    assert counts.sum(axis=1).tolist() == [12] * 8
    assert np.trace(counts) / 96 == pytest.approx(found.scores["top1"].value)


def test_the_confusion_of_many_concepts_is_left_out_with_a_note(tmp_path: Path) -> None:
    found = evaluate(
        planted(tmp_path, noise=1e9, n_concepts=51, per_concept=1, n_repeats=2),
        "eeg",
        "hog",
        **QUICK,
    )
    assert found.confusion is None
    assert found.notes == ["the confusion of 51 concepts is left out; it is told of 50 at most"]


def test_averaged_trials_of_a_stimulus_ask_once_a_subject(store: eegstore.Store) -> None:
    found = evaluate(store, "eeg", "hog", average="stimulus", **QUICK)
    assert (found.n_query, found.n_trials) == (48, 96)
    trials = store.trials
    eeg, stimulus = trials["eeg"][:].reshape(96, -1), trials["stimulus"][:]
    subject = trials["subject"][:]
    pairs = [(one, row) for one in ("sub-1", "sub-2") for row in range(24)]
    means = [eeg[(subject == one) & (stimulus == row)].mean(axis=0) for one, row in pairs]
    better = ranks(np.stack(means), store.stimuli["hog"][:], [row for _, row in pairs]).n_better
    assert found.scores["mrr"].value == pytest.approx(np.mean(1 / (1 + better)))
    assert found.scores["mrr"].value > evaluate(store, "eeg", "hog", **QUICK).scores["mrr"].value


def test_intervals_over_few_subjects_are_told_to_be_rough(store: eegstore.Store) -> None:
    found = evaluate(store, "eeg", "hog", by="subject", **QUICK)
    assert found.n_clusters == 2
    assert found.warnings == ["the intervals come from 2 subjects alone, so they are rough"]


def test_images_of_one_content_are_one_candidate(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 3, 2)
    twin = tmp_path / "images" / paths[4]
    twin.write_bytes((tmp_path / "images" / paths[1]).read_bytes())
    source = {"plugin": "synthetic", "n_trials": 30, "n_channels": 1, "n_times": 36, "n_classes": 3}
    made = recipe(
        source=source, stimuli={"plugin": "image-folder", "path": str(tmp_path / "images")},
        pairing=LABEL, split=None, extract=[HOG],
    )  # fmt: skip
    eegstore.build(made, tmp_path / "s.zarr", executor="serial")
    store = eegstore.open_store(tmp_path / "s.zarr")
    assert first_of_content(store).tolist() == [0, 1, 2, 3, 1, 5]
    found = evaluate(store, "eeg", "hog", split="train", target="concept", **QUICK)
    assert found.n_gallery == 5
    # One image of two concepts: whoever is shown it may find what is of either.
    eeg, hog = store.trials["eeg"], store.stimuli["hog"]
    asker = Asker(store, eeg, hog, "concept", "split", "none")
    n_right = asker.ask("train", np.arange(30)).n_right
    stimulus = store.trials["stimulus"][:]
    assert {row: set(n_right[stimulus == row].tolist()) for row in range(6)} == {
        0: {2}, 1: {2}, 2: {2}, 3: {2}, 4: {3}, 5: {1}
    }  # fmt: skip


@dataclass(frozen=True)
class Turns:
    """Half of the stimuli, or of the subjects, is a fold; the last stimulus is in none."""

    name: ClassVar[str] = "turns"
    version: ClassVar[str] = "1"
    by: str = field(default="stimulus", metadata={"description": "What is whole in a fold."})

    def __call__(self, trials: Any, stimulus: Any, stimuli: Any) -> Any:
        if self.by == "subject":
            fold = (trials.columns["subject"] == "sub-2").astype(np.int64)
            return Splits(np.full(trials.n_trials, "train"), fold)
        fold = np.where(stimulus < 12, 0, 1)
        return Splits(np.full(trials.n_trials, "train"), np.where(stimulus == 23, -1, fold))


@dataclass(frozen=True)
class HeldOut:
    """The last stimuli are the test, and shown in no other split, but for the first of them."""

    name: ClassVar[str] = "held-out"
    version: ClassVar[str] = "1"

    def __call__(self, trials: Any, stimulus: Any, stimuli: Any) -> Any:
        repetition = trials.columns["repetition"]
        return np.where((stimulus >= 16) & ((stimulus > 16) | (repetition > 0)), "test", "train")


@dataclass(frozen=True)
class Likeness:
    """What a trial's signal was in the mean of the train trials, added to it: it is fitted."""

    name: ClassVar[str] = "likeness"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)

    def describe(self, inputs: Any) -> ColumnSpec:
        return ColumnSpec(("feature",), (36,), "float32")

    def fit(self, blocks: Any) -> dict[str, Any]:
        return {"mean": np.concatenate([block["eeg"] for block in blocks]).mean(axis=(0, 1))}

    def restore(self, state: Any) -> None:
        object.__setattr__(self, "_mean", state["mean"])

    def __call__(self, block: Any) -> Any:
        values = block["eeg"][:, 0] - self._mean  # type: ignore[attr-defined]
        return values.astype(np.float32)


@dataclass(frozen=True)
class LikenessByFold(Likeness):
    """The same of a column that is given the folds."""

    name: ClassVar[str] = "likeness-by-fold"
    reads: ClassVar[tuple[str, ...]] = ("eeg", "fold")


@dataclass(frozen=True)
class Twice:
    """Each trial with the stimulus of its key, and the one after it, or another each time."""

    name: ClassVar[str] = "twice"
    version: ClassVar[str] = "1"
    made_from: tuple[str, ...] = field(default=("stimulus_key",), metadata={"description": "-"})
    turning: bool = field(default=False, metadata={"description": "-"})

    def __call__(self, trials: Any, stimuli: Any, columns: Any) -> Any:
        rows = {path: row for row, path in enumerate(stimuli.image_path.tolist())}
        shown = np.array([rows[key] for key in trials.stimulus_key.tolist()])
        turn = np.arange(len(shown)) // len(rows) if self.turning else 0
        after = (shown + 1 + turn) % len(rows)
        ones = np.ones(len(shown), np.float32)
        return Pairs(shown, ones, after[:, None], ones[:, None] / 2)


@dataclass(frozen=True)
class Untold:
    """The same, but it does not say what decides its pairs."""

    name: ClassVar[str] = "untold"
    version: ClassVar[str] = "1"
    turning: ClassVar[bool] = False

    __call__ = Twice.__call__


@pytest.fixture
def _plugins(register: Callable[..., None]) -> None:
    register(Likeness, LikenessByFold)
    register(Turns, HeldOut, kind="split")
    register(Twice, Untold, kind="pairing")


@pytest.mark.usefixtures("_plugins")
def test_folds_are_asked_each_among_its_own_and_pooled(tmp_path: Path) -> None:
    store = planted(tmp_path / "folds", noise=2.0, split={"plugin": "turns"})
    found = evaluate(store, "eeg", "hog", **QUICK)
    trials, hog = store.trials, store.stimuli["hog"][:]
    stimulus, eeg = trials["stimulus"][:], trials["eeg"][:].reshape(96, -1)
    better = []
    for items in (range(12), range(12, 23)):
        rows = np.flatnonzero(np.isin(stimulus, items))
        better.append(ranks(eeg[rows], hog[list(items)], stimulus[rows] - items[0]).n_better)
    pooled = np.concatenate(better)
    assert (found.asked.split, found.n_query, found.n_gallery) == ("folds", 92, 12)
    assert found.scores["top1"].value == pytest.approx(np.mean(pooled < 1))
    assert found.scores["top1"].chance == pytest.approx((48 / 12 + 44 / 11) / 92)
    assert [(one.name, one.n_query) for one in found.folds] == [("fold 0", 48), ("fold 1", 44)]
    assert found.folds[1].scores["top5"].value == pytest.approx(np.mean(better[1] < 5))
    assert found.folds[1].scores["top5"].chance == pytest.approx(5 / 11)
    assert found.p_value == 1 / 100


@pytest.mark.usefixtures("_plugins")
def test_what_is_fitted_without_the_folds_is_doubted_where_they_are_asked(tmp_path: Path) -> None:
    extract = [HOG, {"plugin": "likeness"}, {"plugin": "likeness-by-fold", "as": "fair"}]
    store = planted(tmp_path, noise=2.0, split={"plugin": "turns"}, extract=extract)
    doubted = evaluate(store, "likeness", "hog", **QUICK).warnings
    assert doubted[0].startswith("trials/likeness was fitted on the split 'train', which is asked")
    assert evaluate(store, "fair", "hog", **QUICK).warnings == [
        "the test is zero-shot and of 8 concepts alone, so it says little of other new concepts"
    ]
    # By subject the stimuli are the same in each fold.
    split = {"plugin": "turns", "by": "subject"}
    store = planted(tmp_path / "b", noise=2.0, split=split, extract=extract)
    (seen,) = evaluate(store, "fair", "hog", **QUICK).warnings
    assert seen.startswith("24 of the 24 stimuli are in several folds, so trials/fair was fitted")


@pytest.mark.usefixtures("_plugins")
def test_folds_are_asked_on_request_where_there_is_a_test_split_too(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0, splits={0: "train"})
    with pytest.raises(UsageError, match="has no folds; name a split: test, train"):
        evaluate(store, "eeg", "hog", split="folds")
    assert evaluate(store, "eeg", "hog", **QUICK).asked.split == "test"


@pytest.mark.usefixtures("_plugins")
def test_the_gallery_is_what_the_split_shows_or_all_of_the_stimuli(tmp_path: Path) -> None:
    extract = [HOG, {"plugin": "likeness"}]
    store = planted(tmp_path, noise=2.0, split={"plugin": "held-out"}, extract=extract)
    found = evaluate(store, "eeg", "hog", **QUICK)
    assert (found.n_query, found.n_gallery, found.asked.split) == (31, 8, "test")
    assert found.warnings == ["the intervals come from 8 stimuli alone, so they are rough"]
    among_all = evaluate(store, "eeg", "hog", candidates="all", **QUICK)
    assert (among_all.n_query, among_all.n_gallery) == (31, 24)
    assert among_all.scores["top5"].value < found.scores["top5"].value
    with pytest.raises(UsageError, match=r"there is no split 'val'; name one .*: test, train"):
        evaluate(store, "eeg", "hog", split="val")
    # What is fitted on train rows has seen one of the stimuli, and all of the rows of train.
    seen = evaluate(store, "likeness", "hog", **QUICK).warnings[0]
    assert seen.startswith(
        "1 of the 8 stimuli are in the split 'train' too, so trials/likeness was"
    )
    own = evaluate(store, "likeness", "hog", split="train", **QUICK).warnings[0]
    assert own.startswith("trials/likeness was fitted on the split 'train', which is asked here")


@pytest.mark.usefixtures("_plugins")
def test_of_several_stimuli_of_a_trial_any_is_right(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0, pairing={"plugin": "twice"})
    trials = store.trials
    targets = np.stack([trials["stimulus"][:], trials["stimulus_2"][:]], axis=1)
    queries, hog = trials["eeg"][:].reshape(96, -1), store.stimuli["hog"][:]
    found = evaluate(store, "eeg", "hog", **QUICK)
    better = ranks(queries, hog, targets).n_better
    assert found.scores["top3"].value == pytest.approx(np.mean(better < 3))
    assert found.scores["top1"].chance == pytest.approx(2 / 24)
    first = ranks(queries, hog, targets[:, 0]).n_better
    assert found.scores["mrr"].value > np.mean(1 / (1 + first))


@pytest.mark.usefixtures("_plugins")
@pytest.mark.parametrize("column", ["trials/eeg", "stimuli/hog"])
def test_pairs_are_not_scored_by_what_they_were_made_from(tmp_path: Path, column: str) -> None:
    store = planted(tmp_path, noise=2.0, pairing={"plugin": "twice", "made_from": [column]})
    with pytest.raises(InputError, match=f"the pairs were made from {column}, .*--tautology-ok"):
        evaluate(store, "eeg", "hog")
    found = evaluate(store, "eeg", "hog", tautology_ok=True, **QUICK)
    assert found.warnings[0].startswith(f"tautology: the pairs were made from {column}")
    assert found.verdict.startswith("this shows nothing: the pairs were made from")


@pytest.mark.usefixtures("_plugins")
def test_what_lies_behind_a_column_is_told(tmp_path: Path) -> None:
    pairing = {"plugin": "twice", "made_from": ["trials/eeg"]}
    extract, splits = [HOG, {"plugin": "likeness"}], {0: "train"}
    store = planted(tmp_path, noise=2.0, splits=splits, pairing=pairing, extract=extract)
    found = evaluate(store, "likeness", "hog", **QUICK)
    told = "trials/likeness is computed from trials/eeg, which the pairs were made from"
    assert told in found.warnings


@pytest.mark.usefixtures("_plugins")
def test_what_lies_behind_pairs_by_label_is_told(tmp_path: Path) -> None:
    """A ridge regression of the label finds the concept, and no EEG is in it."""
    ridge = {"plugin": "ridge", "target": "stimuli/hog", "input": "label"}
    store = planted(
        tmp_path, noise=2.0, splits={0: "train"}, pairing=LABEL, extract=[HOG, ridge],
    )  # fmt: skip
    found = evaluate(store, "ridge", "hog", target="concept", **QUICK)
    told = "trials/ridge is computed from trials/label, which the pairs were made from"
    assert told in found.warnings
    plain = planted(
        tmp_path / "eeg", noise=2.0, splits={0: "train"}, pairing=LABEL,
        extract=[HOG, {"plugin": "ridge", "target": "stimuli/hog"}],
    )  # fmt: skip
    found = evaluate(plain, "ridge", "hog", target="concept", **QUICK)
    assert not [one for one in found.warnings if "is computed from" in one]


@pytest.mark.usefixtures("_plugins")
def test_an_average_of_trials_with_other_stimuli_besides_is_refused(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0, pairing={"plugin": "twice"})
    assert evaluate(store, "eeg", "hog", average="stimulus", **QUICK).n_query == 48
    turning = {"plugin": "twice", "turning": True}
    store = planted(tmp_path / "turning", noise=2.0, pairing=turning)
    with pytest.raises(InputError, match="differ in their further stimuli"):
        evaluate(store, "eeg", "hog", average="stimulus", **QUICK)


@pytest.mark.usefixtures("_plugins")
def test_a_pairing_that_says_nothing_is_doubted(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0, pairing={"plugin": "untold"})
    told = evaluate(store, "eeg", "hog", **QUICK).warnings[0]
    assert told.startswith("the pairing 'untold' does not record what it made the pairs from")


def test_a_pairing_by_chance_alone_is_not_doubted(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0, pairing={"plugin": "balanced", "within": "all"})
    found = evaluate(store, "eeg", "hog", **QUICK)
    assert (found.warnings, found.tautology) == ([], "")


def test_the_stimulus_that_a_label_chose_is_not_scored(by_label: eegstore.Store) -> None:
    with pytest.raises(InputError, match=r"not evaluated: the pairs were made from the label.*con"):
        evaluate(by_label, "eeg", "hog")
    found = evaluate(by_label, "eeg", "hog", tautology_ok=True, **QUICK)
    assert found.verdict.startswith("this shows nothing: the pairs were made from the label")
    assert found.document()["tautology"]
    fair = evaluate(by_label, "eeg", "hog", target="concept", **QUICK)
    assert fair.tautology == ""
    assert fair.verdict.startswith("above chance")


def test_a_column_of_stimuli_joined_by_the_label_is_not_scored(by_label: eegstore.Store) -> None:
    for target in ("stimulus", "concept"):
        with pytest.raises(InputError, match="compared with itself"):
            evaluate(by_label, "stimuli/hog", "hog", target=target)


def test_the_stimulus_of_an_event_may_be_compared_but_no_eeg_is_in_it(tmp_path: Path) -> None:
    smaller = {"plugin": "hog", "size": 16, "cells_per_block": 1, "orientations": 9, "as": "twin"}
    for number, pairing in enumerate(({"plugin": "event"}, LABEL)):
        store = planted(tmp_path / str(number), noise=1.0, pairing=pairing, extract=[HOG, smaller])
        if number:
            with pytest.raises(InputError, match="joined through pairs that were made from the la"):
                evaluate(store, "stimuli/twin", "hog", target="concept")
        else:
            found = evaluate(store, "stimuli/twin", "hog", **QUICK)
            assert found.warnings == [
                "stimuli/twin is a column of stimuli: no EEG is in this score"
            ]
            assert found.scores["top1"].value == 1


def test_an_older_store_that_records_nothing_is_judged_by_its_pairing(
    by_label: eegstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = by_label.document("trials/stimulus")["attributes"]["eegstore"]
    monkeypatch.delitem(facts, "made_from", raising=False)
    with pytest.raises(InputError, match="the pairs were made from the label"):
        evaluate(by_label, "eeg", "hog")


@pytest.mark.parametrize(
    ("change", "error", "line"),
    [
        (
            {"query": "egg"},
            UsageError,
            "there is no column 'trials/egg'; did you mean 'trials/eeg'",
        ),
        ({"gallery": "label"}, UsageError, "stimuli/label holds no vectors"),
        (
            {"gallery": "trials/eeg"},
            UsageError,
            "the gallery is trials/eeg, expected a column of s",
        ),
        ({"split": "train"}, UsageError, "there is no split 'train'; name one that there is: test"),
        ({"target": "label"}, UsageError, "target is 'label'; it is one of stimulus, concept"),
        ({"n_perm": -1}, UsageError, "n_perm is -1; it is 0 or more"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    store: eegstore.Store, change: dict[str, Any], error: type[Exception], line: str
) -> None:
    with pytest.raises(error) as caught:
        evaluate(store, **({"query": "eeg", "gallery": "hog"} | change))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_of_other_widths_are_refused(tmp_path: Path) -> None:
    made = recipe(extract=[{"plugin": "spectral"}, {"plugin": "hog"}])
    eegstore.build(made, tmp_path / "s.zarr", executor="serial")
    line = r"trials/eeg has 512 numbers a row and stimuli/hog 1,764; expected a column that was lea"
    with pytest.raises(InputError, match=line):
        evaluate(eegstore.open_store(tmp_path / "s.zarr"), "eeg", "hog", target="concept")


def test_a_store_without_stimuli_subjects_or_torch_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(stimuli=None, pairing=None, split=None, extract=[])
    eegstore.build(made, tmp_path / "s.zarr", executor="serial")
    bare = eegstore.open_store(tmp_path / "s.zarr")
    with pytest.raises(InputError, match="has no stimuli, so there is nothing to find"):
        evaluate(bare, "eeg", "hog")
    made = recipe(source={**SOURCE, "n_times": 36}, extract=[HOG], split=None)
    eegstore.build(made, tmp_path / "t.zarr", executor="serial")
    nobody = eegstore.open_store(tmp_path / "t.zarr")
    with pytest.raises(InputError, match="have no column 'subject' to draw by"):
        evaluate(nobody, "eeg", "hog", split="train", target="concept", by="subject")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"needs torch; run: pip install 'eegstore\[train\]'"):
        evaluate(nobody, "eeg", "hog", split="train", target="concept")


SOURCE = {"plugin": "synthetic", "n_trials": 30, "n_channels": 1, "n_times": 128}


def test_concepts_are_the_labels_where_stimuli_have_no_names(
    store: eegstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = store.stimuli["concept"]
    monkeypatch.setattr(names, "values", np.full(24, ""))
    found, which = concepts(store)
    assert found == [f"label {number}" for number in range(8)]
    np.testing.assert_array_equal(which, store.stimuli["label"][:])


@pytest.mark.parametrize(
    ("others", "lack"),
    [("c1", "has no concept, though others have"), ("", "has neither concept nor label")],
)
def test_a_stimulus_without_a_concept_is_told_from_one_without_a_label_too(
    store: eegstore.Store, monkeypatch: pytest.MonkeyPatch, others: str, lack: str
) -> None:
    lacking = np.arange(24) == 5
    monkeypatch.setattr(store.stimuli["concept"], "values", np.where(lacking, "", others))
    label = np.where(lacking & (others == ""), -1, 3)
    monkeypatch.setattr(store.stimuli["label"], "values", label)
    with pytest.raises(InputError, match=f"stimulus 5 {lack}; only the stimulus itself can be"):
        evaluate(store, "eeg", "hog", target="concept", **QUICK)


# The history.


def test_an_evaluation_is_recorded_and_changes_nothing_else(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0)
    path = store.folder
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    modified = (path / "zarr.json").stat().st_mtime_ns
    found = evaluate(store, "eeg", "hog", **QUICK)
    record_evaluation(store, found.summary(), "2026-01-01T00:00:00+00:00", 1.5)
    after = eegstore.open_store(path)
    assert after.digest == store.digest
    assert len(after.attributes.history) == 2
    entry = after.attributes.history[-1]
    assert entry.evaluation is not None
    assert entry.evaluation["top1"]["value"] == found.scores["top1"].value
    assert not {"per_concept", "confusion", "store"} & set(entry.evaluation)
    assert (entry.started, entry.seconds) == ("2026-01-01T00:00:00+00:00", 1.5)
    changed = [file for file, content in before.items() if file.read_bytes() != content]
    assert changed == [path / "zarr.json"]
    assert changed[0].stat().st_mtime_ns == modified
    assert eegstore.verify(path, deep=True) == []
    assert not beside(path, ".build").exists()
    # Images are found as before, and the recipe is still up to date.
    assert after.image(3).shape == (16, 16, 3)
    report = eegstore.build(store.recipe, path, executor="serial")
    assert report.up_to_date


def test_a_build_keeps_what_was_recorded(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0)
    record_evaluation(store, {"top1": {"value": 0.5}}, "now", 0.0)
    made = store.recipe | {"extract": [HOG, {"plugin": "temporal"}]}
    eegstore.build(made, store.folder, executor="serial")
    kinds = [one.evaluation for one in eegstore.open_store(store.folder).attributes.history]
    assert kinds == [None, {"top1": {"value": 0.5}}, None]


def test_nothing_is_recorded_of_another_content_or_beside_another_writer(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0)
    root = (store.folder / "zarr.json").read_bytes()
    with (
        writer_lock(beside(store.folder, ".lock")),
        pytest.raises(LockedError, match="another writer holds the store"),
    ):
        record_evaluation(store, {}, "now", 0.0)
    assert (store.folder / "zarr.json").read_bytes() == root
    made = store.recipe | {"extract": [HOG, {"plugin": "temporal"}]}
    eegstore.build(made, store.folder, executor="serial")
    with pytest.raises(InputError, match="was built anew since it was evaluated"):
        record_evaluation(store, {}, "now", 0.0)


def test_damage_between_the_commit_and_a_recorded_evaluation_is_still_found(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0)
    (shard,) = [one for one in (store.folder / "trials" / "eeg" / "c").rglob("*") if one.is_file()]
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    record_evaluation(store, {}, "now", 0.0)
    report = eegstore.build(store.recipe, store.folder, executor="serial")
    assert report.history is not None
    assert [one for one in report.history.mended if one.startswith("trials/eeg/")]


def test_what_an_interrupted_build_has_left_is_left_alone(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0)
    folder = beside(store.folder, ".build")
    (folder / "receipts").mkdir(parents=True)
    (folder / "eegstore-build").touch()
    record_evaluation(store, {}, "now", 0.0)
    assert sorted(one.name for one in folder.iterdir()) == ["eegstore-build", "receipts"]
    assert len(eegstore.open_store(store.folder).attributes.history) == 2


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = planted(tmp_path, noise=2.0)
    root = (store.folder / "zarr.json").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eegstore.recording.put", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        record_evaluation(store, {}, "now", 0.0)
    assert (store.folder / "zarr.json").read_bytes() == root
    assert not beside(store.folder, ".build").exists()


# The command.


def shown(*arguments: str | Path, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "eegstore", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, ""), done.stderr
    return done.stdout


def as_printed(page: Any) -> str:
    console = Console(width=80, highlight=False)
    with console.capture() as captured:
        console.print(page)
    return captured.get()


ASK = ("--query", "eeg", "--gallery", "hog", "--n-boot", "200", "--n-perm", "99")


def test_the_command_prints_the_numbers_and_a_verdict_at_80_columns(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=2.0)
    said = shown("evaluate", "planted.zarr", *ASK, "--record", cwd=tmp_path)
    lines = said.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "planted.zarr  trials/eeg in stimuli/hog"
    found = evaluate(store, "eeg", "hog", **QUICK)
    (top,) = [line.split() for line in lines if line.startswith("top-1 ")]
    assert top[1] == f"{100 * found.scores['top1'].value:.1f}"
    assert top[-2:] == ["4.2", "%"]
    assert "above chance (p = 0.01): 99 permutations" in said
    assert lines[-1] == "recorded in the store's history"
    assert "1 build; 1 evaluation" in as_printed(render.store(eegstore.open_store(store.folder)))
    document = json.loads(shown("evaluate", "planted.zarr", *ASK, "--json", cwd=tmp_path))
    assert document == json.loads(json.dumps(found.document() | {"store": "planted.zarr"}))


def test_the_command_refuses_a_tautology_and_prints_it_on_request(by_label: eegstore.Store) -> None:
    folder = by_label.folder.parent
    check_refused(
        run_command("evaluate", "planted.zarr", *ASK, cwd=folder), 3,
        "the pairs were made from the label", "--tautology-ok",
    )  # fmt: skip
    found = evaluate(by_label, "eeg", "hog", tautology_ok=True, **QUICK)
    lines = as_printed(evaluation_pages.evaluation(found)).splitlines()
    # The title takes two lines where the folder's name is long.
    first = next(line for line in lines if ": " in line)
    assert first.startswith("warning: tautology: the pairs were made from the label")
    assert any(line.startswith("this shows nothing: the pairs were") for line in lines)


def test_the_command_leaves_beside_another_writer(store: eegstore.Store) -> None:
    with writer_lock(beside(store.folder, ".lock")):
        found = run_command(
            "evaluate", "planted.zarr", *ASK, "--record", cwd=store.folder.parent
        )  # fmt: skip
    check_refused(found, 6, "another writer holds the store")


@pytest.mark.nightly
@pytest.mark.usefixtures("_plugins")
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tiny_clip import write_tiny_clip

    model = str(write_tiny_clip(tmp_path / "model", width=16, image_size=16, projection_dim=36))
    extract = [{"plugin": f"clip-{side}", "model": model} for side in ("image", "text")]
    extract.append({"plugin": "likeness", "as": "ridge"})
    store = planted(tmp_path, noise=1.0, splits={0: "train"}, extract=extract)
    store.folder.rename(tmp_path / "things.zarr")
    (tmp_path / "images" / "000_c0" / "0.png").rename(tmp_path / "photo.png")
    (tmp_path / "images" / "000_c0" / "0.png").write_bytes((tmp_path / "photo.png").read_bytes())
    page = (ROOT / "docs" / "evaluate.md").read_text()
    ran = [words for words in commands(page) if "things.zarr" in words]
    assert {words[0] for words in ran} == {"evaluate", "info", "search"}
    assert len(ran) == 8
    for words in ran:
        assert run_command(*words, cwd=tmp_path).code == 0, words
    assert (tmp_path / "nearest.png").is_file()
    history = eegstore.open_store(tmp_path / "things.zarr").attributes.history
    assert [one.evaluation is not None for one in history] == [False, True]

"""What an evaluation cannot show is said: too few stimuli, an empty question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import eegstore
from eegstore import InputError, UsageError, audit_pages, evaluation_pages
from eegstore.audit import Audit
from eegstore.evaluate import evaluate
from eegstore.limits import below_chance
from eegstore.pool import Score
from eegstore.report import report
from eegstore.report.decoding import verdict
from eegstore.report.heads import montage
from eegstore.report.material import Material
from eegstore.search import search_trial
from planted_images import HOG, planted

pytest.importorskip("torch")
NO_DRAWS: dict[str, Any] = {"n_boot": 0}
RIDGE = {"plugin": "ridge", "target": "stimuli/hog"}
FOLDS = {"plugin": "stimulus", "n_folds": 4}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> eegstore.Store:
    """Three images of one concept, told apart with ease."""
    folder = tmp_path_factory.mktemp("few")
    return planted(folder, noise=0.1, n_concepts=1, per_concept=3, n_repeats=2)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> eegstore.Store:
    """24 images, all trials of which are train, and what ridge predicts."""
    folder = tmp_path_factory.mktemp("train")
    splits = dict.fromkeys(range(4), "train")
    return planted(folder, noise=1.0, splits=splits, extract=[HOG, RIDGE])


def shown(page: Any) -> str:
    console = Console(width=300)
    with console.capture() as captured:
        console.print(page)
    return captured.get()


def test_three_stimuli_cannot_tell(few: eegstore.Store) -> None:
    found = evaluate(few, "eeg", "hog")
    told = "too few stimuli to tell: p cannot be below 0.17"
    assert found.p_value == pytest.approx(1 / 6)
    assert (found.verdict, found.document()["verdict"]) == (told, told)
    assert found.document()["smallest_p"] == pytest.approx(1 / 6)
    assert told in shown(evaluation_pages.evaluation(found))
    said = verdict(Material(few, evaluations=[found.document()], audit=Audit([], {})))
    assert said.sentence == (
        "Too few stimuli or permutations to tell whether there is decoding in this store: p cannot "
        "be below 0.17."
    )


def test_few_permutations_cannot_tell(train: eegstore.Store) -> None:
    found = evaluate(train, "eeg", "hog", split="train", n_perm=5, **NO_DRAWS)
    assert found.verdict == "too few permutations to tell: p cannot be below 0.17"
    found = evaluate(train, "eeg", "hog", split="train", n_perm=19, **NO_DRAWS)
    assert found.verdict == "above chance (p = 0.05)"


def test_a_concept_among_its_own_alone_is_no_question(few: eegstore.Store) -> None:
    found = evaluate(few, "eeg", "hog", target="concept", **NO_DRAWS)
    assert found.scores["top1"].chance == 1
    why = "all candidates are of one concept, so every answer is right"
    assert found.verdict == f"the question is empty: {why}"
    assert found.warnings[0] == f"{why}: ask for the stimulus, or among more candidates"
    said = verdict(Material(few, evaluations=[found.document()], audit=Audit([], {})))
    assert "no test of decoding" in said.reasons[0]


def test_permutations_within_a_concept_change_nothing(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=0.1, n_concepts=2, per_concept=2, n_repeats=1)
    found = evaluate(store, "eeg", "hog", target="concept", **NO_DRAWS)
    assert found.verdict == "too few stimuli or concepts to tell: p cannot be below 0.17"
    assert evaluate(store, "eeg", "hog", **NO_DRAWS).document()["smallest_p"] == pytest.approx(
        1 / 24
    )


def test_an_interval_below_chance_is_explained_once() -> None:
    under, over = Score(0.01, 0.0, 0.02, 0.05), Score(0.06, 0.03, 0.09, 0.05)
    (note,) = below_chance({"top1": over, "top5": under, "mrr": under})
    assert note.startswith("the 95 % interval of top-5 lies wholly below chance: that is no sign")
    (note,) = below_chance({"median_rank": Score(14, 13.0, 15, 12.5)})
    assert note.startswith("the 95 % interval of median rank lies")
    assert list(below_chance({"top1": over, "top3": Score(0.0, np.nan, np.nan, 0.1)})) == []


def test_what_is_out_of_fold_by_design_is_noted_and_not_doubted(train: eegstore.Store) -> None:
    found = evaluate(train, "ridge", "hog", split="train", n_perm=99, **NO_DRAWS)
    assert list(found.warnings) == []
    assert "but its values for train trials are out of fold" in found.notes[-1]


def test_swapped_columns_and_those_not_built_are_told(train: eegstore.Store) -> None:
    swap = "hog is a column of stimuli and ridge one of trials: swap --query and --gallery"
    with pytest.raises(UsageError, match=swap):
        evaluate(train, "hog", "ridge")
    with pytest.raises(UsageError, match=r"hog is a column of stimuli: .* name it 'stimuli/hog'"):
        evaluate(train, "hog", "hog")
    with pytest.raises(UsageError, match=r'add \[\[extract\]\] plugin = "clip-image" to the rec'):
        evaluate(train, "ridge", "clip_image")
    with pytest.raises(UsageError, match="ridge is a column of trials, and the gallery is of st"):
        evaluate(train, "eeg", "ridge")


def test_a_recipe_without_a_split_is_named(train: eegstore.Store) -> None:
    line = r"the recipe has no \[split\], so all trials are train: add one"
    with pytest.raises(UsageError, match=line):
        evaluate(train, "ridge", "hog")


def test_a_zero_shot_test_of_few_concepts_is_warned_of(tmp_path: Path) -> None:
    split = {"plugin": "concept", "test": ["c0", "c1", "c2", "c3"]}
    store = planted(tmp_path, noise=1.0, split=split)
    assert evaluate(store, "eeg", "hog", n_perm=99, **NO_DRAWS).warnings == [
        "the test is zero-shot and of 4 concepts alone, so it says little of other new concepts"
    ]


def test_queries_are_counted_over_folds(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=1.0, split=FOLDS)
    found = evaluate(store, "eeg", "hog", n_perm=99, **NO_DRAWS)
    assert "96 queries over 4 folds, each among 6 candidates" in shown(
        evaluation_pages.evaluation(found)
    )
    assert "train 96; 4 folds" in shown(audit_pages.page(store, Audit([], {})))
    out = report(store, tmp_path / "a.html", evaluations=[found.document()], with_audit=False)
    text = out.read_text(encoding="utf-8")
    assert "96 queries over 4 folds" in text
    assert " 96; 4 folds</small>" in text


def test_a_search_for_more_than_there_is_says_so(train: eegstore.Store) -> None:
    found = search_trial(train, 0, "eeg", "hog", k=1000)
    note = "the gallery has 24 stimuli, fewer than -k 1,000: all are told"
    assert (len(found.hits), found.document()["notes"]) == (24, [note])
    assert f"note: {note}" in shown(evaluation_pages.search(found, None))
    assert search_trial(train, 0, "eeg", "hog", k=24).notes == []


def test_a_report_makes_no_folder(train: eegstore.Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: there is no such folder to write in"):
        report(train, tmp_path / "nowhere" / "a.html")
    assert not (tmp_path / "nowhere").exists()


def test_a_numbered_net_has_to_know_every_channel() -> None:
    pytest.importorskip("mne")
    assert montage([f"E{number}" for number in range(16)]) is None
    found = montage([f"E{number}" for number in range(1, 17)])
    assert found is not None
    assert (found.name, len(found.channels)) == ("GSN-HydroCel-129", 16)

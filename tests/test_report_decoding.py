"""What the report says was decoded: the verdict, results with chance, trials and what they find."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegstore
from eegstore.audit import CHECKS, Audit
from eegstore.audit import verdict as verdict_of
from eegstore.evaluate import evaluate
from eegstore.findings import Finding
from eegstore.recording import now, record_evaluation
from eegstore.report import report
from eegstore.report.decoding import verdict
from eegstore.report.material import Material
from pages import Element, number, parse
from planted_images import HOG, planted
from reporting import installed, learnt
from test_evaluate import Likeness, Twice, Untold
from test_report import caption, check_structure, table

NOTHING = "No evidence of decoding in this store."
UNEVALUATED = "Nothing was evaluated, so there is no evidence of decoding in this store."


@pytest.fixture(scope="module", autouse=True)
def plugins() -> Iterator[None]:
    with installed():
        yield


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> eegstore.Store:
    return learnt(tmp_path_factory.mktemp("found"), noise=1.5)


@pytest.fixture(scope="module")
def page(found: eegstore.Store) -> Element:
    return parse(report(found, found.folder.parent / "a.html").read_text(encoding="utf-8"))


def score(value: float, low: float, high: float, chance: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "chance": chance}


def document(**changes: Any) -> dict[str, Any]:
    """As ``evaluate`` gives: by default a good result."""
    return {
        "query": "trials/learnt", "gallery": "stimuli/hog", "target": "stimulus", "split": "test",
        "n_query": 96, "n_gallery": 24, "p_value": 0.001, "tautology": "", "warnings": [],
        "top1": score(0.3, 0.2, 0.4, 0.04), "top5": score(0.6, 0.5, 0.7, 0.21),
    } | changes  # fmt: skip


def said(store: eegstore.Store, *documents: dict[str, Any], audit: Audit | None = None) -> Any:
    return verdict(Material(store, evaluations=documents, audit=audit or Audit([], {})))


def test_a_column_learnt_from_eeg_is_evaluated_and_told_with_interval_and_chance(
    found: eegstore.Store, page: Element
) -> None:
    check_structure(page)
    expected = evaluate(found, "learnt", "hog").document()
    box = page.one("section", id="verdict")
    assert box.one("p", class_="verdict").text() == "Evidence of decoding in this store."
    top5 = expected["top5"]
    assert (
        f"trials/learnt finds the stimulus in stimuli/hog at top-5 of 24 in "
        f"{100 * top5['value']:.1f} % (95 % interval {100 * top5['low']:.1f} % to "
        f"{100 * top5['high']:.1f} %, chance {100 * top5['chance']:.1f} %; p < 0.001)."
    ) in box.text()
    rows = {row[0]: row[1:] for row in table(page, "retrieval-1")}
    for shown, name in (("top-1", "top1"), ("top-10", "top10"), ("mAP", "map"), ("MRR", "mrr")):
        wanted = [expected[name][part] for part in ("value", "low", "high", "chance")]
        np.testing.assert_allclose([number(one) for one in rows[shown]],
                                   np.round(100 * np.array(wanted), 1), atol=0.051)  # fmt: skip
    assert number(rows["2-way"][0]) == pytest.approx(100 * expected["kway"]["2"]["value"], abs=0.06)
    assert f"Median rank {expected['median_rank']['value']:.4g} " in caption(page, "retrieval-1")
    assert len(page.one("figure", id="retrieval-1").all("path", class_="chance")) == len(rows) - 1


def test_concepts_subjects_and_confusion_are_those_of_the_evaluation(
    found: eegstore.Store, page: Element
) -> None:
    expected = evaluate(found, "learnt", "hog").document()
    subjects = table(page, "retrieval-1-subject")[1:]
    assert [row[0] for row in subjects] == ["sub-1", "sub-2"]
    for row, one in zip(subjects, expected["per_subject"], strict=True):
        assert number(row[2]) == pytest.approx(100 * one["top1"]["value"], abs=0.06)
    concepts = table(page, "retrieval-1-concept")[1:]
    assert len(concepts) == 8
    shares = [number(row[2]) for row in concepts]
    assert shares == sorted(shares, reverse=True)
    counts = page.one("table", class_="heat").rows()
    assert [[int(cell) for cell in row[1:]] for row in counts[1:]] == expected["confusion"][
        "counts"
    ]


def test_trials_are_shown_with_what_they_find(found: eegstore.Store, page: Element) -> None:
    stimulus, path = found.trials["stimulus"][:], found.stimuli["concept"][:]
    hog = found.stimuli["hog"][:].astype(np.float64)
    hog /= np.linalg.norm(hog, axis=1, keepdims=True)
    trials = page.one("ol", class_="found").all("li")
    assert len(trials) == 6
    for one in trials:
        trial = int(one.one("p").text().split(":")[0].removeprefix("trial "))
        vector = found.trials["learnt"][trial].astype(np.float64)
        scores = hog @ vector / np.linalg.norm(vector)
        rank = 1 + int((scores > scores[stimulus[trial]]).sum())
        assert f"rank {rank} of 24" in one.text()
        names = [name.text() for name in one.all("span", class_="concept")]
        best = np.argsort(-scores)[:5]
        assert names == [path[stimulus[trial]], *path[best]]
        assert len(one.all("div", class_="hit")) == (rank <= 5)
        assert len(one.all("img")) == 6
    assert "drawn at random and not for their success" in page.one("figure", id="found").text()


def test_what_ridge_finds_of_stimuli_that_it_was_fitted_on_is_no_evidence(tmp_path: Path) -> None:
    """The built-in ``ridge`` and ``quality``, and a leak: every image is in train and in test."""
    extract = [HOG, {"plugin": "quality"}, {"plugin": "ridge", "target": "stimuli/hog"}]
    splits = {0: "train", 1: "train", 2: "train", 3: "test"}
    store = planted(tmp_path, noise=1.0, n_concepts=12, splits=splits, extract=extract)
    page = parse(report(store, tmp_path / "a.html").read_text())
    check_structure(page)
    box = page.one("section", id="verdict")
    assert box.one("p", class_="verdict").text().startswith("Above chance, but no evidence")
    assert "trials/ridge finds the stimulus in stimuli/hog at top-5 of 36" in box.text()
    assert "stimulus-across-splits" in box.text()
    assert "this says nothing of stimuli that are new" in box.text()
    parts = store.trials["quality"].spec.coords[store.trials["quality"].spec.dims[0]]
    assert {row[0] for row in table(page, "quality")[1:]} == set(parts)
    rows = {row[0]: row for row in table(page, "made")[1:]}
    assert rows["trials/ridge"][3] == "ridge 2, fit on train"


def test_pairs_by_similarity_are_not_evaluated_and_the_verdict_says_why(tmp_path: Path) -> None:
    """And the image that a trial is paired with is not said to be the one that it was shown."""
    pairing = {"plugin": "similarity", "query": "trials/learnt", "gallery": "stimuli/hog"}
    store = planted(tmp_path, noise=1.0, extract=[HOG, {"plugin": "learnt"}], pairing=pairing)
    page = parse(report(store, tmp_path / "a.html", with_audit=False).read_text())
    check_structure(page)
    box = page.one("section", id="verdict")
    assert box.one("p", class_="verdict").text() == UNEVALUATED
    (reason,) = [one.text() for one in box.all("li")]
    assert reason.startswith("The pairs were made from trials/learnt, so finding them by it shows")
    assert "Retrieval results: nothing was evaluated; the verdict says why." in page.text()
    found = page.one("figure", id="found")
    assert "paired" in found.one("ol").text()
    assert not {"shown", "true, "} & set(re.findall(r"shown|true, ", found.one("ol").text()))
    assert "the word paired mark" in found.text()


def test_noise_is_no_evidence_of_decoding(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=1e6, extract=[HOG, {"plugin": "learnt"}], seed=3)
    page = parse(report(store, tmp_path / "a.html").read_text())
    box = page.one("section", id="verdict")
    assert box.one("p", class_="verdict").text() == NOTHING
    expected = evaluate(store, "learnt", "hog").document()
    assert expected["p_value"] > 0.05
    assert f"chance {100 * expected['top5']['chance']:.1f} %" in box.text()
    assert f"p = {expected['p_value']:.3f}" in box.text()


def test_a_recorded_evaluation_of_this_content_is_taken(tmp_path: Path) -> None:
    store = learnt(tmp_path, noise=1.5)
    asked = evaluate(store, "learnt", "hog", target="concept", n_perm=100)
    record_evaluation(store, asked.summary(), now(), 1.0)
    record_evaluation(store, asked.summary() | {"digest": "another"}, now(), 1.0)
    store = eegstore.open_store(store.folder)
    page = parse(report(store, tmp_path / "a.html", with_audit=False).read_text())
    check_structure(page)
    assert [one.attributes["id"] for one in page.all("figure")][:1] == ["retrieval-1"]
    assert not [one for one in page.all("figure") if one.attributes["id"] == "retrieval-2"]
    assert "finds the concept in stimuli/hog" in page.one("section", id="verdict").text()
    assert "Built by eegstore 0.1.0" in page.one("header").text()
    assert "1 build in its history" in page.one("header").text()


def test_pairs_by_label_are_asked_for_the_concept(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=1.0, extract=[HOG, {"plugin": "learnt"}],
                    pairing={"plugin": "label", "choose": "cycle"})  # fmt: skip
    page = parse(report(store, tmp_path / "a.html", with_audit=False).read_text())
    assert "of which the concept is to be found" in caption(page, "retrieval-1")
    assert "Not evaluated" not in page.text()


def test_folds_are_told_one_by_one(tmp_path: Path) -> None:
    store = planted(tmp_path, noise=1.0, extract=[HOG, {"plugin": "learnt"}],
                    split={"plugin": "folds"})  # fmt: skip
    page = parse(report(store, tmp_path / "a.html", with_audit=False).read_text())
    check_structure(page)
    assert table(page, "folds")[1:] == [[f"fold {one}", "24"] for one in range(4)]
    rows, expected = (
        table(page, "retrieval-1-fold")[1:],
        evaluate(store, "learnt", "hog").document(),
    )
    assert [row[:2] for row in rows] == [[one["fold"], "24"] for one in expected["folds"]]
    for row, one in zip(rows, expected["folds"], strict=True):
        assert number(row[2]) == pytest.approx(100 * one["top1"]["value"], abs=0.06)
    assert "each against 6 stimuli" in caption(page, "retrieval-1")
    assert len(page.one("ol", class_="found").all("li")) == 6


def test_parts_that_are_too_many_are_told_from_both_ends(
    found: eegstore.Store, tmp_path: Path
) -> None:
    parts = [{"n": 4, "top1": score(one / 300, 0.0, 1.0, 0.1)} for one in range(260)]
    named = {
        what: [{what: f"{what}{number:03}", **part} for number, part in enumerate(parts)]
        for what in ("concept", "subject", "fold")
    }
    asked = document(per_concept=named["concept"], per_subject=named["subject"],
                     folds=named["fold"])  # fmt: skip
    page = parse(report(found, tmp_path / "a.html", evaluations=[asked]).read_text())
    check_structure(page)
    for what, ends in (("concept", "best and the worst"), ("fold", "first and the last")):
        key = f"retrieval-1-{what}"
        names = [row[0] for row in table(page, key)[1:]]
        order = range(259, -1, -1) if what == "concept" else range(260)
        assert names == [f"{what}{one:03}" for one in [*order[:100], *order[-100:]]]
        shown = page.one("figure", id=key)
        assert len(shown.all("circle")) == 30
        assert f"The {ends} 15 are drawn. The table has the {ends} 100." in caption(page, key)
        assert "60 more rows are not listed." in shown.one("details").text()
    few = document(per_subject=named["subject"][:40])
    page = parse(report(found, tmp_path / "a.html", evaluations=[few]).read_text())
    assert len(table(page, "retrieval-1-subject")) == 41
    assert "not listed" not in page.one("figure", id="retrieval-1-subject").text()


def test_the_verdict_follows_the_p_value(found: eegstore.Store) -> None:
    assert said(found).sentence == UNEVALUATED
    assert said(found, document(p_value=0.05)).sentence == NOTHING
    assert said(found, document(p_value=None)).sentence == NOTHING
    assert said(found, document(p_value=0.049)).kind == "found"
    assert said(found, document()).sentence == "Evidence of decoding in this store."


def test_several_evaluations_are_corrected_for(found: eegstore.Store) -> None:
    unlucky = [document(p_value=0.6), document(p_value=0.4)]
    by_luck = said(found, document(p_value=0.03), *unlucky)
    assert by_luck.sentence == NOTHING
    assert "p = 0.030), p = 0.090 after correction for 3 evaluations." in by_luck.reasons[0]
    assert said(found, document(p_value=0.01), *unlucky).kind == "found"


def test_what_holds_by_construction_or_has_no_eeg_is_no_evidence(found: eegstore.Store) -> None:
    tautology = document(tautology="the pairs were made from the label")
    without_eeg = document(query="stimuli/clip_text")
    told = said(found, tautology, without_eeg)
    assert told.sentence == NOTHING
    assert "no test of decoding" in told.reasons[0]


def test_a_leak_takes_the_evidence_away(found: eegstore.Store) -> None:
    leak = Finding("stimulus-across-splits", "error", 3, "what", ["a"], "advice")
    told = said(found, document(), audit=Audit([leak], {}))
    assert told.kind == "doubtful"
    assert told.sentence.startswith("Above chance, but no evidence of decoding")
    assert any("1 error (stimulus-across-splits)" in one for one in told.reasons)
    torn = Finding("block-across-splits", "warning", 3, "what", ["a"], "advice")
    uneven = Finding("class-imbalance", "warning", 3, "what", ["a"], "advice")
    noted = Finding("concept-overlap", "note", 3, "what", ["a"], "advice")
    careful = said(found, document(), audit=Audit([torn, uneven, uneven, noted], {}))
    assert careful.kind == "found"
    assert careful.reasons[1:] == [
        "The audit found 3 warnings (block-across-splits, class-imbalance), for which such a "
        "result may say less than it seems to."
    ]
    warned = said(found, document(warnings=["9 of the stimuli were in train"]))
    assert "9 of the stimuli were in train." in warned.reasons


IN_SAMPLE = (
    "trials/learnt was fitted on the split 'train', which is asked here: that is sound only where "
    "its values are out of fold"
)
CIRCULAR = "trials/learnt is computed from trials/eeg, which the pairs were made from"


@pytest.mark.parametrize("recorded", [{}, {"doubtful": True}])
@pytest.mark.parametrize("warning", [IN_SAMPLE, CIRCULAR])
def test_a_score_that_can_be_had_without_decoding_is_no_evidence(
    found: eegstore.Store, warning: str, recorded: dict[str, bool]
) -> None:
    """Older records have no flag; their warnings say it."""
    doubtful = document(warnings=["the intervals come from 8 stimuli alone", warning], **recorded)
    told = said(found, doubtful)
    assert (told.kind, told.sentence.partition(":")[0]) == (
        "doubtful", "Above chance, but no evidence of decoding"
    )  # fmt: skip
    assert f"T{warning[1:]}." in told.reasons
    # Another that is sound is evidence all the same, unless it finds nothing.
    sound = document(p_value=0.01, doubtful=False)
    for both in ((doubtful, sound), (sound, doubtful)):
        assert said(found, *both).kind == "found"
        assert f"T{warning[1:]}." not in said(found, *both).reasons
    assert said(found, doubtful, document(p_value=0.4)).kind == "doubtful"
    assert said(found, document(warnings=["rough"])).kind == "found"


def test_an_in_sample_score_that_was_recorded_is_no_evidence(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    register(Likeness)
    extract = [HOG, {"plugin": "likeness"}]
    store = planted(tmp_path, noise=1.0, splits={0: "train"}, extract=extract)
    asked = evaluate(store, "likeness", "hog", split="train", n_perm=99)
    assert (asked.doubtful, asked.verdict) == (True, "above chance (p = 0.01)")
    assert asked.document()["doubtful"] is True
    # That its stimuli were seen is said of a test, and does not make it in-sample.
    tested = evaluate(store, "likeness", "hog", n_perm=99)
    assert tested.document()["doubtful"] is False
    assert "24 of the 24 stimuli are in the split 'train' too" in tested.warnings[0]
    record_evaluation(store, asked.summary(), now(), 1.0)
    store = eegstore.open_store(store.folder)
    page = parse(report(store, tmp_path / "a.html", with_audit=False).read_text())
    box = page.one("section", id="verdict")
    assert "doubtful" in str(box.attributes["class"])
    assert "can explain it" in box.one("p", class_="verdict").text()
    assert "was fitted on the split 'train', which is asked here" in box.text()


def test_a_score_by_what_made_the_pairs_is_doubtful(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    register(Likeness)
    register(Twice, Untold, kind="pairing")
    extract, splits = [HOG, {"plugin": "likeness"}], {0: "train"}
    by_eeg = {"plugin": "twice", "made_from": ["trials/eeg"]}
    for place, pairing in enumerate((by_eeg, {"plugin": "untold"}, {"plugin": "twice"})):
        store = planted(tmp_path / str(place), noise=1.0, splits=splits, pairing=pairing,
                        extract=extract)  # fmt: skip
        found = evaluate(store, "likeness", "hog", n_boot=0, n_perm=0)
        assert found.doubtful == (place < 2)


def test_an_interval_that_covers_chance_is_weak(found: eegstore.Store) -> None:
    told = said(found, document(top5=score(0.3, 0.2, 0.4, 0.21)))
    assert (told.kind, told.sentence.partition(":")[0]) == (
        "doubtful", "Weak evidence of decoding in this store"
    )  # fmt: skip


def test_findings_are_told_with_examples_and_advice(found: eegstore.Store, tmp_path: Path) -> None:
    hostile = "<b onclick=alert(1)>"
    audit = Audit(
        [Finding("a-note", "note", 1, "noted", [], "fine"),
         Finding("a-leak", "error", 1234, f"leaks {hostile}", [hostile, "b"], f"mend {hostile}")],
        {"time-baseline": f"no time {hostile}"},
    )  # fmt: skip
    page = parse(report(found, tmp_path / "a.html", evaluations=[], audit=audit).read_text())
    check_structure(page)
    section = page.one("section", id="audit")
    heads = [one.text() for one in section.all("h3")]
    assert heads == ["✕Error: a-leak 1,234", "iNote: a-note 1"]
    assert f"leaks {hostile}" in section.text()
    assert f"What to do: mend {hostile}" in section.text()
    assert "1 of 11 checks could not be made" in section.text()
    assert not section.all("b")
    assert "1 error, 1 note." in section.text()
    assert "Nothing was evaluated" in page.one("section", id="verdict").text()


def test_a_clean_audit_says_so(found: eegstore.Store, tmp_path: Path) -> None:
    clean = Audit([], {})
    page = parse(report(found, tmp_path / "a.html", evaluations=[], audit=clean).read_text())
    told = page.one("section", id="audit").text()
    assert "No leaks found; what was looked for: one stimulus in two splits, one concept" in told
    assert "could not be made" not in told


def test_checks_that_could_not_be_made_are_told_on_the_page_and_beside_the_verdict(
    found: eegstore.Store, tmp_path: Path
) -> None:
    but_one = {one.name: "no label" for one in CHECKS if one.name != "near-duplicate-trials"}
    audit = Audit([], but_one)
    page = parse(report(found, tmp_path / "a.html", audit=audit).read_text(encoding="utf-8"))
    check_structure(page)
    intro, count = [one.text() for one in page.one("section", id="audit").inside[1:3]]
    assert intro == f"N{verdict_of(audit)[1:]}."
    assert "what was looked for: copies of a trial's EEG; 10 of 11" in intro
    # Paragraphs: a page in print has no details.
    assert (
        count == "10 of 11 checks could not be made: what they look for may be there all the same."
    )
    grounds = [one.text() for one in page.one("section", id="verdict").all("li")]
    assert grounds[-1].startswith("Of the audit, 10 of 11 checks could not be made: a leak that")
    assert "time-baseline: no label" in page.one("section", id="audit").one("details").text()
    nothing = Audit([], but_one | {"near-duplicate-trials": "no trial"})
    page = parse(report(found, tmp_path / "a.html", audit=nothing).read_text(encoding="utf-8"))
    assert "Nothing could be checked." in page.one("section", id="audit").text()

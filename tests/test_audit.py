"""Audits: each planted leak is found, and by its own check; clean studies have none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import eegstore
from command import run_command
from eegstore import Block, ColumnSpec, InputError, Splits, Store, registry, sketching
from eegstore.audit import CHECKS, audit, examine, verdict
from eegstore.audit_rows import Rows
from eegstore.findings import Finding
from handbook import ROOT, commands
from handbook import blocks as code_blocks
from samples import write_npy
from studies import (
    CONCEPTS,
    LEAKS,
    SFREQ,
    clean,
    everything,
    favour_by_subject,
    order_by_label,
    path,
    tear_blocks,
)

NAMES = [check.name for check in CHECKS]


@dataclass(frozen=True)
class Folds:
    """Blocks go round three folds; or each trial does. Or two blocks of a session are the test."""

    name: ClassVar[str] = "three-folds"
    version: ClassVar[str] = "1"
    whole: bool = True
    with_test: bool = False

    def __call__(self, trials: Any, stimulus: Any, stimuli: Any) -> Splits:
        number = trials.columns["block"] if self.whole else np.arange(trials.n_trials)
        is_test = self.with_test & np.isin(trials.columns["block"], (2, 5))
        fold = np.where(is_test, -1, number % 3).astype(np.int64)
        return Splits(np.where(is_test, "test", "train"), fold)


@dataclass(frozen=True)
class Peak:
    """Each channel's largest value, less its mean over the train rows."""

    name: ClassVar[str] = "peak"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)
    fit_reads: ClassVar[tuple[str, ...]] = ()

    def describe(self, inputs: Any) -> ColumnSpec:
        return ColumnSpec(("channel",), inputs["eeg"].shape[:1], "float32")

    def fit(self, blocks: Iterable[Block]) -> dict[str, Any]:
        return {
            "mean": np.concatenate([block["eeg"].max(axis=-1) for block in blocks]).mean(axis=0)
        }

    def restore(self, state: Any) -> None:
        object.__setattr__(self, "_mean", state["mean"])

    def __call__(self, block: Block) -> Any:
        return block["eeg"].max(axis=-1) - self._mean  # type: ignore[attr-defined]


@dataclass(frozen=True)
class PeakByFold(Peak):
    """The same, told in which fold the rows are."""

    name: ClassVar[str] = "peak-by-fold"
    fit_reads: ClassVar[tuple[str, ...]] = ("fold",)


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [("split", Folds), ("extractor", Peak), ("extractor", PeakByFold)]
    added = tuple(
        registry.Plugin(kind, one.name, "1", "theirs", "1.0", "ok", one) for kind, one in mine
    )
    found = registry.plugins()
    monkeypatch.setattr(registry, "plugins", lambda: found + added)


def serious(found: Iterable[Finding]) -> set[str]:
    """The checks that found errors or warnings."""
    return {one.check for one in found if one.severity != "note"}


def of(found: Iterable[Finding], check: str) -> Finding:
    """The one finding of a check."""
    (one,) = [one for one in found if one.check == check]
    return one


def split_by(store: Store, plugin: str) -> Store:
    """The store, as if that plugin had made its split."""
    recipe = store.recipe | {"split": {"plugin": plugin}}
    store.attributes = store.attributes.model_copy(update={"recipe": recipe})
    return store


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a clean study whose blocks are held out."""
    folder = tmp_path_factory.mktemp("blocks")
    return Path(clean().build(folder).path)


def test_a_clean_study_of_new_concepts_in_new_sessions_has_no_finding_at_all(
    tmp_path: Path,
) -> None:
    found = examine(clean("zero-shot").build(tmp_path), zero_shot=True)
    assert found.findings == []
    reason = "no trial that is scored has a label that is in train"
    assert found.not_checked == {"time-baseline": reason, "identity-baseline": reason}
    assert verdict(found).startswith("no leaks found; what was looked for: one stimulus in two")
    assert verdict(found).endswith("2 of 11 checks could not be made")


@pytest.mark.parametrize("design", ["blocks", "sessions"])
def test_a_clean_study_of_known_concepts_has_notes_alone(design: str, tmp_path: Path) -> None:
    found = examine(clean(design).build(tmp_path))
    assert found.not_checked == {}
    assert serious(found.findings) == set()
    notes = {one.check: one.count for one in found.findings}
    # Where each session is torn, the study was made within sessions.
    within = {"session-across-splits": 12} if design == "blocks" else {}
    assert notes == {"concept-overlap": CONCEPTS, **within}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_found_by_its_check_and_by_no_other(leak: str, tmp_path: Path) -> None:
    design, plant = LEAKS[leak]
    study = clean(design)
    plant(study)
    found = audit(study.build(tmp_path), zero_shot=design == "zero-shot")
    assert serious(found) == {leak}
    one = of([one for one in found if one.severity != "note"], leak)
    assert one.count >= 1
    assert 1 <= len(one.examples) <= 5
    assert one.what
    assert one.advice.endswith(".")


def test_all_leaks_planted_at_once_are_all_found(tmp_path: Path) -> None:
    study = clean(n_subjects=7)
    everything(study)
    found = examine(study.build(tmp_path), zero_shot=True)
    assert serious(found.findings) == set(NAMES) == set(LEAKS)
    assert found.not_checked == {}
    order = [one.severity for one in found.findings]
    assert order == sorted(order, key=["error", "warning", "note"].index)


def test_findings_name_the_rows_that_were_planted(tmp_path: Path) -> None:
    study = clean()
    train, test = study.at(split="train"), study.at(split="test")
    study.eeg[test[3]] = -2 * study.eeg[train[40]] + 7  # turned over it is another trial
    study.eeg[test[9]] = 0.5 * study.eeg[train[41]] - 3
    study.eeg[train[7]] = study.eeg[train[8]]
    study.eeg[[train[20], test[20]]] = 4.0  # nothing was recorded, and nothing is copied
    repeated = test[[0, 5]]
    study["stimulus_key"][repeated] = path(2, 1)
    study["label"][repeated] = 2
    found = audit(study.build(tmp_path))
    across, within = [one for one in found if one.check == "near-duplicate-trials"]
    assert across.examples == [f"trial {test[9]} (test) and trial {train[41]} (train)"]
    assert (across.count, across.severity) == (2, "error")
    assert "0 pairs equal to the bit, 1 pair correlated" in across.what
    assert within.examples == [f"trial {train[7]} (train) and trial {train[8]} (train)"]
    assert (within.count, within.severity) == (2, "note")
    stimulus = of(found, "stimulus-across-splits")
    n_train = np.count_nonzero(study["stimulus_key"][train] == path(2, 1))
    assert stimulus.examples == [f"{path(2, 1)} (test: 2, train: {n_train})"]
    assert stimulus.count == 1


def test_a_stimulus_is_known_by_its_content_whatever_its_file_is_called(tmp_path: Path) -> None:
    study = clean()
    study.images[path(1, 4)] = study.images[path(1, 0)]
    found = of(audit(study.build(tmp_path)), "stimulus-across-splits")
    assert (found.count, found.severity) == (1, "error")


def test_a_block_of_one_label_in_two_splits_is_worse_than_one_of_several(tmp_path: Path) -> None:
    study = clean()
    study["label"][study.at(subject=1, session=0, block=2)] = 3
    study.show()
    for block in (2, 5):
        study.move(study.at(subject=1, session=0, block=block)[:4], "train")
    found = [one for one in audit(study.build(tmp_path)) if one.check == "block-across-splits"]
    assert [(one.severity, one.count) for one in found] == [("error", 1), ("warning", 1)]
    assert found[0].examples == ["subject 1, session 0, block 2 (test: 8, train: 4)"]
    assert "of one label each" in found[0].what


def test_a_block_design_without_labels_is_found_by_the_concepts_shown(tmp_path: Path) -> None:
    """Five of six blocks show one concept each, and every third trial is in test."""
    study = clean()
    order_by_label(study)
    study["split"][:] = np.where(np.arange(len(study["label"])) % 3 == 0, "test", "train")
    study.show()
    study["label"][:] = -1
    found = examine(study.build(tmp_path))
    assert found.not_checked == {}
    torn = [one for one in found.findings if one.check == "block-across-splits"]
    assert [(one.severity, one.count) for one in torn] == [("error", 60), ("warning", 12)]
    assert "of one label each" in torn[0].what
    assert of(found.findings, "time-baseline").severity == "error"


def test_a_clean_study_without_labels_is_as_silent_as_one_with_them(tmp_path: Path) -> None:
    study = clean()
    study["label"][:] = -1
    found = examine(study.build(tmp_path))
    assert found.not_checked == {}
    assert serious(found.findings) == set()


def test_what_is_uneven_without_labels_is_told_by_the_names_of_concepts(tmp_path: Path) -> None:
    for check, told in (
        ("class-imbalance", r"(test|train): concept0 in "),
        ("identity-baseline", r"subject ([0-3]), session [0-2]: concept\1 is right for "),
    ):
        study = clean()
        LEAKS[check][1](study)
        study["label"][:] = -1
        (tmp_path / check).mkdir()
        found = of(audit(study.build(tmp_path / check)), check)
        assert found.examples
        assert all(re.match(told, one) for one in found.examples), found.examples


def test_a_block_is_of_one_label_whatever_has_none_in_it(tmp_path: Path) -> None:
    study = clean()
    rows = study.at(subject=1, session=0, block=2)
    study["label"][rows] = 3
    study.show()
    study.move(rows[:4], "train")
    study["label"][rows[2:9:3]] = -1
    unlabelled = study.at(subject=2, session=0, block=5)
    study["label"][unlabelled] = -1
    study["split"][unlabelled[:4]] = "train"
    found = [one for one in audit(study.build(tmp_path)) if one.check == "block-across-splits"]
    assert [(one.severity, one.count) for one in found] == [("error", 1), ("warning", 1)]
    places = [one.examples[0].partition(" (")[0] for one in found]
    assert places == ["subject 1, session 0, block 2", "subject 2, session 0, block 5"]


@pytest.mark.parametrize("plugin", ["concept", "stimulus", "random", "chronological"])
def test_blocks_of_several_labels_that_a_split_goes_through_are_noted(
    plugin: str, tmp_path: Path
) -> None:
    """A block design stays an error under the same split."""
    study = clean()
    store = study.build(tmp_path, split={"plugin": plugin, "test_size": 0.3})
    torn = of(audit(store), "block-across-splits")
    assert torn.severity == "note"
    assert torn.advice.startswith("Say that trials of the test share a recording block")
    tear_blocks(study)
    study["label"][study.at(subject=1, block=2)] = 3
    (tmp_path / "again").mkdir()
    found = audit(split_by(study.build(tmp_path / "again"), plugin))
    assert of(found, "block-across-splits").severity == "error"


def test_a_zero_shot_study_in_a_random_order_is_clean(tmp_path: Path) -> None:
    study = clean()
    study["label"][:] = -1
    found = examine(study.build(tmp_path, split={"plugin": "concept", "test_size": 0.3}))
    assert found.is_clean


def test_pairs_that_a_model_chose_say_nothing_of_what_was_shown(tmp_path: Path) -> None:
    study = clean()
    study["label"][:] = -1
    study["split"][::2] = "test"
    store = study.build(tmp_path, pairing={"plugin": "balanced", "within": "all"})
    found = examine(store)
    reason = (
        "no trial has a label, and the pairs were not made from what was shown; "
        "give the source labels"
    )
    labels = ("class-imbalance", "time-baseline", "identity-baseline")
    assert [found.not_checked[one] for one in labels] == [reason] * 3
    block = of(found.findings, "block-across-splits")
    assert block.severity == "warning"
    assert block.what.endswith(f"; whether they show one label each is not known: {reason}")


def test_what_a_split_holds_out_decides_how_bad_sharing_is(blocks: Path) -> None:
    store = eegstore.open_store(blocks)
    within = of(audit(store), "session-across-splits")
    assert (within.severity, within.count) == ("note", 12)
    assert of(audit(split_by(store, "session")), "session-across-splits").severity == "error"
    assert of(audit(split_by(store, "concept")), "concept-overlap").severity == "error"
    assert of(audit(store, zero_shot=False), "concept-overlap").severity == "note"


def test_stimuli_that_a_split_by_subject_shares_are_noted(tmp_path: Path) -> None:
    """Whether the plugin says so, or the trials: who is held out, and sees what train sees."""
    study = clean()
    study["split"][:] = np.where(study["subject"] == 3, "test", "train")
    store = study.build(tmp_path)
    for made in (store, split_by(store, "subject")):
        shared = of(audit(made), "stimulus-across-splits")
        assert shared.severity == "note"
        assert "holds out subjects, not images" in shared.what
    assert of(audit(split_by(store, "stimulus")), "stimulus-across-splits").severity == "error"


def test_a_few_shared_stimuli_of_another_subject_are_a_slip(tmp_path: Path) -> None:
    study = clean()
    study["split"][:] = np.where(study["subject"] == 3, "test", "train")
    study.show()
    study["stimulus_key"][study.at(split="test")[0]] = path(0, 1)
    study["label"][study.at(split="test")[0]] = 0
    found = of(audit(study.build(tmp_path)), "stimulus-across-splits")
    assert (found.severity, found.count) == ("error", 1)


def test_the_gap_that_keeps_splits_apart_is_in_none(tmp_path: Path) -> None:
    """Windows of half a second, one each 0.2 s: those at the border are put into the gap."""
    study = clean()
    study.columns["onset"] = 0.2 * study["onset"] / 1.5
    split = {"plugin": "chronological", "test_size": 0.3}
    whole = {"plugin": "chronological", "test_size": 0.3, "gap": 3}
    (tmp_path / "gap").mkdir()
    assert "overlapping-windows" in serious(audit(study.build(tmp_path, split=split)))
    store = study.build(tmp_path / "gap", split=whole)
    found = audit(store)
    assert set(store.trials["split"][:]) == {"train", "test", "gap"}
    assert "overlapping-windows" not in {one.check for one in found}
    assert not [one for one in found if "gap" in " ".join(one.examples)]


def test_padding_is_shared_with_nobody(tmp_path: Path) -> None:
    """Trials 0.2 s apart in arrays of half a second, of which an eighth was recorded."""
    study = clean()
    study.columns["onset"] = 0.2 / 1.5 * study["onset"]
    study.columns["split"] = np.where(np.arange(len(study["label"])) % 2 == 1, "test", "train")
    study.show()
    found = {}
    for n_samples in (study.eeg.shape[-1], study.eeg.shape[-1] // 4):
        folder = tmp_path / str(n_samples)
        folder.mkdir()
        study.columns["n_samples"] = np.full(len(study["label"]), n_samples)
        study.eeg[..., n_samples:] = 0
        found[n_samples] = {one.check for one in audit(study.build(folder))}
    assert [("overlapping-windows" in one) for one in found.values()] == [True, False]


def test_mains_in_one_phase_make_no_copies(tmp_path: Path) -> None:
    study = clean()
    n_trials, _, n_times = study.eeg.shape
    step = study.rng.normal(size=study.eeg.shape).cumsum(axis=-1)
    phase = study.rng.uniform(0, 2 * np.pi, (n_trials, 1, 1))
    mains = np.sin(2 * np.pi * 50 * np.arange(n_times) / SFREQ + phase)
    study.eeg[:] = step + 30 * step.std() * mains
    copied, shown = study.at(split="test")[5], study.at(split="train")[5]
    found = audit(study.build(tmp_path))
    assert "near-duplicate-trials" not in {one.check for one in found}
    (tmp_path / "copied").mkdir()
    study.eeg[copied] = 2 * study.eeg[shown]
    found = audit(study.build(tmp_path / "copied"))
    assert of(found, "near-duplicate-trials").count == 2


def test_a_session_that_a_split_within_sessions_leaves_whole_is_no_slip(tmp_path: Path) -> None:
    study = clean()
    study.move(study.at(session=0, split="test"), "train")
    store = study.build(tmp_path)
    assert of(audit(store), "session-across-splits").severity == "warning"
    for plugin in ("random", "block", "chronological", "concept", "stimulus"):
        assert of(audit(split_by(store, plugin)), "session-across-splits").severity == "note"


@pytest.mark.usefixtures("_installed")
def test_a_leak_of_the_test_is_not_outvoted_by_folds(tmp_path: Path) -> None:
    """Each train block has a label of its own, and each test block that of its neighbour."""
    study = clean()
    order_by_label(study)
    store = study.build(tmp_path, split={"plugin": "three-folds", "with_test": True})
    assert of(audit(store), "time-baseline").severity == "error"


@pytest.mark.usefixtures("_installed")
def test_folds_count_as_splits(tmp_path: Path) -> None:
    study = clean()
    for name, whole in (("whole", True), ("torn", False)):
        (tmp_path / name).mkdir()
        split = {"plugin": "three-folds", "whole": whole}
        extract = [{"plugin": "peak"}, {"plugin": "peak-by-fold"}]
        store = study.build(tmp_path / name, split=split, extract=extract)
        found = examine(store)
        assert found.not_checked == {}
        torn = [] if whole else ["block-across-splits"]
        wanted = {*torn, "stimulus-across-splits", "fitted-on-test"}
        assert serious(found.findings) == wanted
        # Whoever fits to all folds has seen the one that is scored.
        fitted = of(found.findings, "fitted-on-test")
        assert fitted.examples == ["trials/peak: fitted on all folds at once"]
    block = of(found.findings, "block-across-splits")
    assert block.examples[0] == "subject 0, session 0, block 0 (fold 0: 4, fold 1: 4, fold 2: 4)"


@pytest.mark.usefixtures("_installed")
def test_a_column_fitted_to_another_split_is_found(tmp_path: Path) -> None:
    store = clean().build(tmp_path, extract=[{"plugin": "peak"}])
    assert serious(audit(store)) == set()
    fitted = store.document("trials/peak")["attributes"]["eegstore"]["fitted"]
    committed = dict(fitted)
    fitted["key"] = "0" * 64
    found = of(audit(store), "fitted-on-test")
    assert found.examples == [
        "trials/peak: fitted on train rows of a split that is not the store's"
    ]
    fitted.update(committed, split="test")
    assert of(audit(store), "fitted-on-test").examples == ["trials/peak: fitted on the split test"]


def test_a_normaliser_of_train_or_of_each_trial_is_no_leak(tmp_path: Path) -> None:
    study = clean()
    raw = study.eeg.astype(np.float64)
    train = raw[study.at(split="train")]
    of_train = (raw - train.mean((0, 2), keepdims=True)) / train.std((0, 2), keepdims=True)
    of_trial = (raw - raw.mean(2, keepdims=True)) / raw.std(2, keepdims=True)
    for name, eeg in (("train", of_train), ("trial", of_trial)):
        study.eeg[:] = eeg
        (tmp_path / name).mkdir()
        assert serious(audit(study.build(tmp_path / name))) == set()


def test_labels_that_differ_between_splits_are_found(tmp_path: Path) -> None:
    study = clean()
    rows = study.at(split="test")
    study["label"][rows] = study.rng.permutation(np.repeat(range(CONCEPTS), (98, 98, 46, 46)))
    study.show()
    found = of(audit(study.build(tmp_path)), "class-imbalance")
    assert found.severity == "warning"
    assert found.count == len(rows)
    assert found.examples[0].startswith("test and train: ")


def test_what_cannot_be_looked_at_is_said_and_never_passes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    eeg = rng.standard_normal((40, 2, 16)).astype(np.float32)
    write_npy(tmp_path / "npy", train_data=eeg, train_labels=np.full(40, -1))
    source = {"plugin": "npy", "path": str(tmp_path / "npy"), "sfreq": 8.0}
    eegstore.build({"source": source}, tmp_path / "s.zarr", executor="serial")
    found = examine(eegstore.open_store(tmp_path / "s.zarr"))
    assert found.findings == []
    assert set(found.not_checked) == set(NAMES) - {"near-duplicate-trials"}
    lacks = "no trial has a label or shows a stimulus with a concept; give the source labels"
    assert found.not_checked["class-imbalance"] == lacks
    one_split = "all trials are in one split (train)"
    assert found.not_checked["block-across-splits"] == one_split
    said = verdict(found)
    assert said == (
        "no leaks found; what was looked for: copies of a trial's EEG; "
        "10 of 11 checks could not be made"
    )
    ran = {one["check"]: one["ran"] for one in found.document()["checks"]}
    assert [name for name in NAMES if ran[name]] == ["near-duplicate-trials"]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    study = clean()
    for name in ("subject", "session", "block", "onset"):
        del study.columns[name]
    found = examine(study.build(tmp_path))
    assert found.not_checked == {
        "block-across-splits": "trials have no column 'block'",
        "session-across-splits": "trials have no column 'session'",
        "overlapping-windows": "trials have no column 'onset'",
        "identity-baseline": "trials have no column 'subject' or 'session'",
    }


def test_onsets_of_which_nobody_knows_the_recording_are_not_compared(tmp_path: Path) -> None:
    study = clean()
    for name in ("subject", "session"):
        del study.columns[name]
    found = examine(study.build(tmp_path))
    assert "runs backwards from row to row" in found.not_checked["overlapping-windows"]


def test_images_that_are_gone_are_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = clean().build(tmp_path)
    read = Store.image

    def image(self: Store, stimulus: int) -> Any:
        if self.stimuli["image_path"][stimulus] == path(0, 1):
            raise InputError("the disk is gone")
        return read(self, stimulus)

    monkeypatch.setattr(Store, "image", image)
    lost = of(audit(store), "near-duplicate-images")
    assert (lost.severity, lost.count) == ("note", 1)
    assert lost.examples == [f"{path(0, 1)}: the disk is gone"]
    monkeypatch.undo()
    for file in (tmp_path / "images").rglob("*.png"):
        file.unlink()
    found = examine(eegstore.open_store(store.path))
    assert "the images cannot be read: " in found.not_checked["near-duplicate-images"]


def test_a_trial_that_is_not_valid_is_left_out(tmp_path: Path) -> None:
    study = clean()
    repeated = study.at(split="test")[0]
    study["stimulus_key"][repeated] = path(int(study["label"][repeated]), 1)
    study.eeg[repeated, 0, 0] = np.nan
    source = {**study.recipe(tmp_path)["source"], "allow_skips": True}
    assert serious(audit(study.build(tmp_path, source=source))) == set()


def test_a_store_of_which_nothing_is_valid_has_nothing_to_check(tmp_path: Path) -> None:
    eeg = np.full((6, 2, 16), np.nan, dtype=np.float32)
    write_npy(tmp_path / "npy", train_data=eeg, train_labels=np.arange(6))
    source = {"plugin": "npy", "path": str(tmp_path / "npy"), "sfreq": 8.0, "allow_skips": True}
    eegstore.build({"source": source}, tmp_path / "s.zarr", executor="serial")
    found = examine(eegstore.open_store(tmp_path / "s.zarr"))
    assert found.findings == []
    assert set(found.not_checked) == set(NAMES)
    assert verdict(found) == "nothing could be checked"


def test_trials_that_a_split_leaves_apart_are_in_no_part(tmp_path: Path) -> None:
    study = clean()
    study.columns["split"] = study["split"].astype("U8")
    study["split"][study.at(subject=2)[::5]] = "unpaired"
    assert serious(audit(study.build(tmp_path))) == set()


def test_padding_is_no_signal(tmp_path: Path) -> None:
    study = clean()
    train, test = study.at(split="train"), study.at(split="test")
    n_samples = np.full(len(study["label"]), 64)
    n_samples[[train[3], test[3]]] = 40
    study.columns["n_samples"] = n_samples
    study.eeg[test[3], :, :40] = study.eeg[train[3], :, :40]
    study.eeg[test[3], :, 40:], study.eeg[train[3], :, 40:] = 500, -500
    found = of(audit(study.build(tmp_path)), "near-duplicate-trials")
    assert found.examples == [f"trial {train[3]} (train) and trial {test[3]} (test)"]


def test_the_eeg_is_read_once_in_blocks_and_images_once(
    blocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = eegstore.open_store(blocks)
    whole = Rows(store).signal
    asked: list[int] = []
    images: list[int] = []
    take, image = type(store.trials["eeg"]).take, Store.image

    def counted(self: Any, rows: Any, *rest: Any) -> Any:
        asked.append(len(rows))
        return take(self, rows, *rest)

    def seen(self: Store, stimulus: int) -> Any:
        images.append(stimulus)
        return image(self, stimulus)

    row_bytes = 4 * int(np.prod(store.trials["eeg"].spec.shape))
    monkeypatch.setattr(sketching, "BLOCK_BYTES", 10 * row_bytes)
    monkeypatch.setattr(type(store.trials["eeg"]), "take", counted)
    monkeypatch.setattr(Store, "image", seen)
    assert serious(audit(store)) == set()
    of_eeg = [n for n in asked if n <= 10]
    assert sum(of_eeg) == store.trials.n_rows
    assert sorted(images) == list(range(store.stimuli.n_rows))
    blockwise = Rows(store).signal
    np.testing.assert_array_equal(blockwise.checksum, whole.checksum)
    np.testing.assert_allclose(blockwise.total, whole.total, rtol=1e-9)


def test_the_command_prints_what_is_wrong_and_ends_as_it_is_told(
    blocks: Path, tmp_path: Path
) -> None:
    study = clean()
    LEAKS["overlapping-windows"][1](study)
    study.build(tmp_path)
    wide = {"COLUMNS": "80"}
    shown = run_command("audit", "s.zarr", "--strict", cwd=tmp_path, env=wide)
    assert shown.code == 5
    assert shown.err == "eegstore: s.zarr: 1 error, 2 notes\n"
    lines = shown.out.splitlines()
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []
    assert lines[-1] == "1 error, 2 notes"
    assert lines.index("1 error") < lines.index("  overlapping-windows") < lines.index("2 notes")
    found = run_command("audit", "s.zarr", "--json", cwd=tmp_path)
    assert found.code == 0
    document = json.loads(found.out)
    assert set(document) == {"store", "findings", "counts", "checks"}
    assert document["counts"] == {"error": 1, "warning": 0, "note": 2}
    assert document["findings"][0]["check"] == "overlapping-windows"
    assert set(document["findings"][0]) == {
        "check", "severity", "count", "what", "examples", "advice"
    }  # fmt: skip
    assert [one["check"] for one in document["checks"]] == NAMES
    quiet = run_command("audit", blocks, "--strict", "--quiet", cwd=tmp_path)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_an_audit_of_no_store_is_refused(tmp_path: Path) -> None:
    refused = run_command("audit", "none.zarr", cwd=tmp_path)
    assert refused.code == 3
    assert refused.err.startswith("eegstore: none.zarr: ")


@pytest.mark.shared_data
def test_real_epochs_that_overlap_are_found(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "eeglab-epochs" / "eeglab_data_epochs_ica.set"
    recipe = {
        "source": {"plugin": "mne", "path": str(file)},
        "split": {"plugin": "random", "test_size": 0.25, "seed": 0},
    }
    eegstore.build(recipe, tmp_path / "s.zarr", executor="serial")
    store = eegstore.open_store(tmp_path / "s.zarr")
    onset, split = store.trials["onset"][:], store.trials["split"][:]
    times = store.trials.coords["time"]
    close = abs(onset[:, None] - onset) <= times[-1] - times[0]
    wanted = np.flatnonzero((close & (split[:, None] != split)).any(axis=1))
    found = examine(store)
    overlap = of(found.findings, "overlapping-windows")
    assert (overlap.severity, overlap.count) == ("error", len(wanted))
    assert len(wanted) == 2
    # 73 of the 80 trials have one label; nothing else is wrong with them.
    assert serious(found.findings) == {"overlapping-windows", "class-imbalance"}
    labels = of(found.findings, "class-imbalance")
    assert labels.examples[0].startswith("test: label 1 in 90.0% of 20 trials; 3 labels")


def test_the_page_of_the_audit_has_a_section_of_every_check() -> None:
    text = (ROOT / "docs" / "audit.md").read_text()
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == NAMES
    shown = {tuple(words) for words in commands(text)}
    assert ("audit", "STORE", "--strict") in shown


def test_what_the_page_shows_in_python_runs(blocks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(blocks.parent)
    (code,) = code_blocks((ROOT / "docs" / "audit.md").read_text(), "python")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["errors"] == []
    assert names["reasons"] == {}


MENDS = {
    "stimulus": {"stimulus-across-splits"},
    "concept": {"stimulus-across-splits", "concept-overlap"},
    "block": {"block-across-splits", "overlapping-windows"},
    "session": {"block-across-splits", "session-across-splits", "overlapping-windows"},
    "subject": {"block-across-splits", "session-across-splits", "identity-baseline"},
}


@pytest.mark.parametrize("plugin", MENDS)
def test_the_split_that_is_advised_mends_what_it_is_advised_for(
    plugin: str, tmp_path: Path
) -> None:
    study = clean()
    favour_by_subject(study)
    study["onset"][:] = 0.2 * np.arange(len(study["onset"])) % (0.2 * 6 * 12)
    found = examine(study.build(tmp_path, split={"plugin": plugin, "test_size": 0.34}))
    assert MENDS[plugin].isdisjoint({one.check for one in found.findings})
    texts = [one.advice for one in found.findings] + [(ROOT / "docs" / "audit.md").read_text()]
    advised = set(re.findall(r'plugin = "(\w+)"', "\n".join(texts)))
    assert advised <= {one.name for one in registry.plugins() if one.kind == "split"}

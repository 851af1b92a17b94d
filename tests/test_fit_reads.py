"""Extractors that read what pairing and splitting made, and fits to the stimuli of the trials."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from rich.console import Console

import eegstore
from command import run_command
from eegstore import (
    Block,
    ColumnSpec,
    InputError,
    Pairs,
    PluginError,
    RecipeError,
    Splits,
    builder,
    catalogue,
    examination,
    plugin_pages,
    registry,
    render,
)
from eegstore.provenance import provenance
from eegstore.root import build_folder
from samples import modified, recipe
from third_party import IMPORTS, lay_out

seen: list[Any] = []
HOG = {"plugin": "hog", "size": 16}


@dataclass(frozen=True)
class Noted:
    """What pairing and splitting made of each trial, as numbers."""

    name: ClassVar[str] = "noted"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("stimulus", "score", "split", "fold", "label")

    def describe(self, inputs: Any) -> ColumnSpec:
        assert {name: spec.dtype for name, spec in inputs.items()} == {
            "stimulus": "int64", "score": "float32", "split": "str", "fold": "int64",
            "label": "int64",
        }  # fmt: skip
        return ColumnSpec(("fact",), (5,), "float64")

    def __call__(self, block: Block) -> Any:
        score = np.nan_to_num(block["score"], nan=-1)
        facts = [block["stimulus"], score, block["split"] == "train", block["fold"], block["label"]]
        return np.stack(facts, axis=-1).astype(np.float64)


@dataclass(frozen=True)
class Mapped:
    """The mean, over the train trials of its label, of what the paired stimuli have."""

    name: ClassVar[str] = "mapped"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("label",)
    target: str = field(default="stimuli/hog", metadata={"description": "Column to learn."})
    also: tuple[str, ...] = field(default=(), metadata={"description": "Further columns."})

    @property
    def fit_reads(self) -> tuple[str, ...]:
        return (self.target, "stimulus", "stimuli/concept", *self.also)

    def describe(self, inputs: Any) -> ColumnSpec:
        return replace(inputs[self.target], coords={})

    def fit(self, blocks: Any) -> dict[str, Any]:
        found = list(blocks)
        label, target = (
            np.concatenate([block[name] for block in found]) for name in ("label", self.target)
        )
        stimulus = np.concatenate([block["stimulus"] for block in found])
        concept = np.concatenate([block["stimuli/concept"] for block in found])
        seen.append((blocks, found, stimulus, concept))
        known = np.unique(label)
        means = [target[label == one].mean(axis=0, dtype=np.float64) for one in known]
        return {"label": known, "mean": np.array(means)}

    def restore(self, state: Any) -> None:
        object.__setattr__(self, "_state", state)

    def __call__(self, block: Block) -> Any:
        label, mean = self._state["label"], self._state["mean"]  # type: ignore[attr-defined]
        at = np.minimum(np.searchsorted(label, block["label"]), len(label) - 1)
        return mean[at].astype(np.float32)


@dataclass(frozen=True)
class Folds:
    """Trial i is in fold i modulo n; every tenth is in none, and a test."""

    name: ClassVar[str] = "folds"
    version: ClassVar[str] = "1"
    n: int = field(default=3, metadata={"description": "Folds.", "ge": 0})

    def __call__(self, trials: Any, stimulus: Any, stimuli: Any) -> Any:
        row = np.arange(trials.n_trials)
        tested = row % 10 == 9
        split = np.where(tested, "test", "train")
        return Splits(split, np.where(tested, -1, row % self.n)) if self.n else split


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The plugins of this module are installed, and others on request."""
    seen.clear()
    found = registry.plugins()

    def add(**more: type[Any]) -> None:
        own = [("extractor", Noted), ("extractor", Mapped), ("split", Folds), *more.items()]
        added = tuple(
            registry.Plugin(kind, one.name, one.version, "theirs", "1.0", "ok", one)
            for kind, one in own
        )
        monkeypatch.setattr(registry, "plugins", lambda: found + added)

    add()
    return add


SOURCE = {"plugin": "synthetic", "n_trials": 40, "n_channels": 2, "n_times": 16, "n_classes": 12}
KEEP = {"plugin": "label", "unmatched": "keep"}  # trials of labels 10 and 11 have no digit


def extracting(*sections: Any, **changes: Any) -> dict[str, Any]:
    wanted = [{"plugin": one} if isinstance(one, str) else one for one in sections]
    usual = {"source": SOURCE, "pairing": KEEP, "split": {"plugin": "folds"}}
    return recipe(extract=wanted, **(usual | changes))


def built(path: Path, *sections: Any, **changes: Any) -> eegstore.Store:
    eegstore.build(extracting(*sections, **changes), path, executor="serial")
    return eegstore.open_store(path)


def key_of(store: eegstore.Store, path: str) -> str:
    return next(one.key for one in store.attributes.columns if one.path == path)


def test_an_extractor_reads_what_pairing_and_splitting_made(tmp_path: Path) -> None:
    trials = built(tmp_path / "a.zarr", "noted").trials
    noted, stimulus, score = trials["noted"][:], trials["stimulus"][:], trials["score"][:]
    assert stimulus[:12].tolist() == [*range(10), -1, -1]
    np.testing.assert_array_equal(noted[:, 0], stimulus)
    np.testing.assert_array_equal(noted[:, 1], np.where(stimulus < 0, -1, np.nan_to_num(score)))
    np.testing.assert_array_equal(noted[:, 2], trials["split"][:] == "train")
    np.testing.assert_array_equal(noted[:, 3], trials["fold"][:])
    np.testing.assert_array_equal(noted[:, 4], trials["label"][:])
    assert set(noted[:, 3].tolist()) == {-1, 0, 1, 2}


def test_of_a_split_without_folds_every_trial_is_in_none(tmp_path: Path) -> None:
    store = built(tmp_path / "a.zarr", "noted", split={"plugin": "folds", "n": 0})
    assert "fold" not in store.trials
    assert set(store.trials["noted"][:][:, 3].tolist()) == {-1}


def test_another_split_computes_what_reads_it_anew_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    first = built(path, "temporal", "noted")
    before = modified(path)
    second = built(path, "temporal", "noted", split={"plugin": "folds", "n": 4})
    after = modified(path)
    kept = [name for name in before if name.startswith(("trials/eeg/c", "trials/temporal/c"))]
    assert kept
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert key_of(first, "trials/noted") != key_of(second, "trials/noted")
    assert set(second.trials["noted"][:][:, 3].tolist()) == {-1, 0, 1, 2, 3}
    assert second.digest == built(tmp_path / "b.zarr", "temporal", "noted",
                                  split={"plugin": "folds", "n": 4}).digest  # fmt: skip


@pytest.mark.parametrize(
    ("section", "place"),
    [("noted", "trials/stimulus"), ({"plugin": "mapped", "target": "stimuli/hog"}, "stimuli/hog")],
)
def test_without_stimuli_there_is_no_pair_to_read(tmp_path: Path, section: Any, place: str) -> None:
    changed = extracting(section, stimuli=None, pairing=None)
    message = rf"\[\[extract\]\] 1 \(\w+\) reads {place}, but the recipe has no \[stimuli\]"
    with pytest.raises(RecipeError, match=message):
        eegstore.build(changed, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_a_fit_gets_the_paired_stimulus_of_each_train_trial_that_has_one(tmp_path: Path) -> None:
    store = built(tmp_path / "a.zarr", "mapped", HOG)
    trials, stimuli = store.trials, store.stimuli
    stimulus, split = trials["stimulus"][:], trials["split"][:]
    expected = np.flatnonzero((split == "train") & (stimulus >= 0))
    assert 0 < len(expected) < np.count_nonzero(split == "train")
    ((blocks, found, paired, concept),) = seen
    np.testing.assert_array_equal(blocks.rows, expected)
    assert blocks.n_rows == len(expected)
    np.testing.assert_array_equal(paired, stimulus[expected])
    np.testing.assert_array_equal(concept, stimuli["concept"][:][paired])
    target = np.concatenate([block["stimuli/hog"] for block in found])
    np.testing.assert_array_equal(target, stimuli["hog"][:][paired])
    mapped, label = trials["mapped"][:], trials["label"][:]
    assert mapped.shape == (40, *store.stimuli["hog"].spec.shape)
    np.testing.assert_allclose(mapped[label == 3], stimuli["hog"][:][[3] * sum(label == 3)],
                               rtol=1e-6)  # fmt: skip


def test_what_a_fit_reads_is_in_the_columns_key_and_in_its_provenance(tmp_path: Path) -> None:
    path, other = tmp_path / "a.zarr", {"plugin": "hog", "size": 32}
    store = built(path, "mapped", HOG)
    tree = provenance(store, "mapped")
    inputs = [one["column"] for one in tree["inputs"]]
    assert inputs == [
        "trials/label", "stimuli/hog", "trials/stimulus", "stimuli/concept", "trials/split",
    ]  # fmt: skip
    assert tree["inputs"][1]["key"] == key_of(store, "stimuli/hog")
    fitted = store.trials["mapped"].attrs["eegstore"]["fitted"]
    assert fitted["inputs"]["stimuli/hog"] == key_of(store, "stimuli/hog")
    planned = builder.plan(extracting("mapped", other), path)
    why = {one["path"]: one["why"] for one in render.plan_document(planned)["columns"]}
    assert why["trials/mapped"] == "is fitted to stimuli/hog, made anew"
    eegstore.build(extracting("mapped", other), path, overwrite=True)
    assert len(seen) == 2
    eegstore.build(extracting("mapped", other, "temporal"), path)
    assert len(seen) == 2


def test_a_fit_waits_for_what_is_fitted_and_read_by_it(
    tmp_path: Path, installed: Callable[..., None]
) -> None:
    @dataclass(frozen=True)
    class Shifted:
        """Edges of an image, less their mean over the stimuli that train trials show."""

        name: ClassVar[str] = "shifted"
        version: ClassVar[str] = "1"
        table: ClassVar[str] = "stimuli"
        reads: ClassVar[tuple[str, ...]] = ("hog",)

        def describe(self, inputs: Any) -> ColumnSpec:
            return replace(inputs["hog"], coords={})

        def fit(self, blocks: Any) -> dict[str, Any]:
            assert blocks.take([1, 0])["hog"].shape[0] == 2
            np.testing.assert_array_equal(blocks.rows, np.arange(blocks.n_rows))
            return {"mean": np.concatenate([block["hog"] for block in blocks]).mean(axis=0)}

        def restore(self, state: Any) -> None:
            object.__setattr__(self, "_mean", state["mean"])

        def __call__(self, block: Block) -> Any:
            return block["hog"] - self._mean  # type: ignore[attr-defined]

    installed(extractor=Shifted)
    mapped = {"plugin": "mapped", "target": "stimuli/shifted"}
    store = built(tmp_path / "a.zarr", mapped, "shifted", HOG)
    label = store.trials["label"][:]
    expected = store.stimuli["shifted"][:][5]
    np.testing.assert_allclose(store.trials["mapped"][:][label == 5][0], expected, rtol=1e-5)
    planned = builder.plan(extracting(mapped, "shifted", HOG), tmp_path / "a.zarr")
    assert [one.phase for one in planned.columns] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "stimuli/hgo"}, "hgo, which is not there; did you mean 'stimuli/hog'"),
        ({"also": ["temporl"]}, "trials/temporl, which is not there"),
        ({"also": ["stimuli/image"]}, "is fitted to stimuli/image, but pixels are read by"),
    ],
)
def test_a_column_that_a_fit_cannot_read_is_refused_before_anything_runs(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=rf"^\[\[extract\]\] 1 \(mapped\) .*{message}"):
        eegstore.build(extracting({"plugin": "mapped", **options}, HOG), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize(("more", "such"), [([HOG], ", such as 'stimuli/hog'"), ([], "")])
def test_a_default_that_is_not_there_is_told_by_its_option(
    tmp_path: Path, more: list[Any], such: str
) -> None:
    line = (
        "[[extract]] 1 (ridge) reads stimuli/clip_image, which is not there; set target to a "
        f"column of the recipe{such}"
    )
    with pytest.raises(RecipeError, match=f"^{re.escape(line)}$"):
        eegstore.build(extracting("ridge", *more), tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ({"fit_reads": ("stimuli/hog",)}, "fit_reads is of extractors of trials that are fitted"),
        ({"reads": ["label"]}, r"reads is \['label'\], expected a tuple of names"),
        ({"reads": ()}, "reads is empty, expected names"),
    ],
)
def test_what_a_plugin_says_that_it_reads_is_checked(
    tmp_path: Path, installed: Callable[..., None], reads: dict[str, Any], message: str
) -> None:
    odd = dataclass(frozen=True)(type("Odd", (Noted,), {"name": "odd", "__annotations__": {}}))
    for name, value in reads.items():
        setattr(odd, name, value)
    installed(extractor=odd)
    with pytest.raises(PluginError, match=f"^extractor 'odd': {message}"):
        eegstore.build(extracting("odd", HOG), tmp_path / "a.zarr")


def test_what_an_extractor_reads_may_follow_from_its_options(
    tmp_path: Path, installed: Callable[..., None]
) -> None:
    @dataclass(frozen=True)
    class Either:
        """Twice what it is told to read."""

        name: ClassVar[str] = "either"
        version: ClassVar[str] = "1"
        table: ClassVar[str] = "trials"
        input: str = field(default="label", metadata={"description": "Column."})

        @property
        def reads(self) -> tuple[str, ...]:
            return (self.input,)

        def describe(self, inputs: Any) -> ColumnSpec:
            return ColumnSpec((), (), inputs[self.input].dtype)

        def __call__(self, block: Block) -> Any:
            return 2 * block[self.input]

    assert examination.problem("extractor", Either) == ""
    installed(extractor=Either)
    sections = [{"plugin": "either"}, {"plugin": "either", "input": "stimulus", "as": "paired"}]
    trials = built(tmp_path / "a.zarr", *sections).trials
    np.testing.assert_array_equal(trials["either"][:], 2 * trials["label"][:])
    np.testing.assert_array_equal(trials["paired"][:], 2 * trials["stimulus"][:])


def test_the_page_of_a_plugin_names_what_its_fit_reads() -> None:
    mine = registry.Plugin("extractor", "mapped", "1", "theirs", "1.0", "ok", Mapped)
    found = catalogue.entry(mine)
    assert found.document()["reads"] == ["label"]
    # They follow from options: those are of the defaults, where the name leads to the class.
    assert found.document()["fit_reads"] == ["stimuli/hog", "stimulus", "stimuli/concept"]
    assert found.writes is None
    console = Console(width=120)
    with console.capture() as shown:
        console.print(plugin_pages.plugin(found))
    assert (
        "learns  from the rows of the split 'train', and from stimuli/hog, trials/stimulus, "
        "stimuli/concept of these" in " ".join(shown.get().split()).replace("learns ", "learns  ")
    )


def test_without_paired_train_rows_the_build_says_so(tmp_path: Path) -> None:
    source = SOURCE | {"n_trials": 12, "n_classes": 12}
    changed = extracting("mapped", HOG, source=source, stimuli={"plugin": "digits"})

    @dataclass(frozen=True)
    class Unpaired:
        """Only what has no stimulus is trained on."""

        name: ClassVar[str] = "unpaired"
        version: ClassVar[str] = "1"

        def __call__(self, trials: Any, stimulus: Any, stimuli: Any) -> Any:
            return np.where(stimulus < 0, "train", "test")

    found = registry.plugins()
    one = registry.Plugin("split", "unpaired", "1", "theirs", "1.0", "ok", Unpaired)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "plugins", lambda: (*found, one))
        with pytest.raises(InputError, match="the split train, which has no paired rows of trials"):
            eegstore.build(changed | {"split": {"plugin": "unpaired"}}, tmp_path / "a.zarr")


def test_a_pairing_cannot_read_what_reads_the_pairs(
    tmp_path: Path, installed: Callable[..., None]
) -> None:
    @dataclass(frozen=True)
    class Circular:
        """Reads what follows from itself."""

        name: ClassVar[str] = "circular"
        version: ClassVar[str] = "1"
        reads: ClassVar[tuple[str, ...]] = ("trials/noted",)

        def __call__(self, trials: Any, stimuli: Any, columns: Any) -> Pairs:
            raise AssertionError

    installed(pairing=Circular)
    with pytest.raises(
        RecipeError, match=r"trials/noted, which follows from the pairs, .* a cycle"
    ):
        eegstore.build(extracting("noted", pairing={"plugin": "circular"}), tmp_path / "a.zarr")


def test_a_fit_takes_any_rows_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Block] = []
    fit = Mapped.fit

    def takes(self: Any, blocks: Any) -> Any:
        taken.extend(blocks.take(one) for one in ([5, 0, 5], np.empty(0, dtype=np.int64)))
        with pytest.raises(IndexError, match=f"row {blocks.n_rows} of {blocks.n_rows}"):
            blocks.take([0, blocks.n_rows])
        with pytest.raises(IndexError, match="row -1 of"):
            blocks.take([-1])
        taken.append(blocks.rows[[5, 0, 5]])
        return fit(self, blocks)

    monkeypatch.setattr(Mapped, "fit", takes)
    section = {"plugin": "mapped", "also": ["eeg", "split"]}
    store = built(tmp_path / "a.zarr", section, HOG)
    block, none, rows = taken
    np.testing.assert_array_equal(block["eeg"], store.trials["eeg"][:][rows])
    np.testing.assert_array_equal(block["label"], store.trials["label"][:][rows])
    stimulus = store.trials["stimulus"][:][rows]
    np.testing.assert_array_equal(block["stimuli/hog"], store.stimuli["hog"][:][stimulus])
    assert (block.n_rows, block.start, block.stop) == (3, min(rows), max(rows) + 1)
    assert set(block["split"]) == {"train"}
    assert (none.n_rows, none["eeg"].shape) == (0, (0, 2, 16))


def test_a_fit_that_fails_halfway_finds_its_files_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fit, found = tmp_path / "a.zarr", Mapped.fit, []

    def halfway(self: Any, blocks: Any) -> Any:
        kept = blocks.folder / "checkpoint"
        found.append(kept.read_text() if kept.exists() else None)
        if found[-1] is None:
            kept.write_text("halfway")
            raise ValueError("interrupted")
        return fit(self, blocks)

    monkeypatch.setattr(Mapped, "fit", halfway)
    with pytest.raises(PluginError, match="interrupted"):
        built(path, "mapped", HOG)
    (folder,) = build_folder(path).glob("fit-*")
    built(path, "mapped", HOG)
    assert found == [None, "halfway"]
    assert not folder.exists()
    with pytest.raises(PluginError, match="interrupted"):  # another key, another folder
        built(path, {"plugin": "mapped", "also": ["fold"]}, HOG)


def test_a_fit_that_is_checked_for_determinism_starts_twice_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Mapped.fit

    def notes(self: Any, blocks: Any) -> Any:
        assert list(blocks.folder.iterdir()) == []
        (blocks.folder / "checkpoint").touch()
        return fit(self, blocks)

    monkeypatch.setattr(Mapped, "fit", notes)
    eegstore.build(extracting("mapped", HOG), tmp_path / "a.zarr", check_determinism=True)
    assert len(seen) == 2


KILLED = f"""{IMPORTS}
import os, signal

@dataclass(frozen=True)
class Learnt:
    name: ClassVar[str] = "learnt"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg", "stimulus", "fold")
    fit_reads: ClassVar[tuple[str, ...]] = ("stimuli/hog", "split")

    def describe(self, inputs):
        return ColumnSpec((), (), "float64")

    def fit(self, blocks):
        if not (blocks.folder / "begun").exists():
            (blocks.folder / "begun").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        block = blocks.take(np.arange(blocks.n_rows)[::-1])
        return {{"mean": block["stimuli/hog"].mean(), "n": np.array(len(block["split"]))}}

    def restore(self, state):
        object.__setattr__(self, "state", state)

    def __call__(self, block):
        return self.state["mean"] + self.state["n"] + block["stimulus"] + 100.0 * block["fold"]

@hookimpl
def eegstore_extractors():
    return [Learnt]
"""
TOML = "\n".join(
    [
        "[source]", *(f"{key} = {json.dumps(value)}" for key, value in SOURCE.items()),
        '[stimuli]\nplugin = "digits"', '[pairing]\nplugin = "label"\nunmatched = "keep"',
        '[split]\nplugin = "random"', '[[extract]]\nplugin = "hog"\nsize = 16',
        '[[extract]]\nplugin = "learnt"',
    ]
)  # fmt: skip


@pytest.mark.nightly
def test_a_killed_fit_goes_on_from_its_files_in_any_executor(tmp_path: Path) -> None:
    env = lay_out(tmp_path / "site", KILLED)
    (tmp_path / "r.toml").write_text(TOML)
    for executor, code in (("serial", -9), ("processes", 0)):
        command = ("build", "r.toml", "a.zarr", "--executor", executor, "--workers", "2")
        assert run_command(*command, cwd=tmp_path, env=env, limit_s=120).code == code
    assert not (tmp_path / "a.zarr.build").exists()
    trials = eegstore.open_store(tmp_path / "a.zarr").trials
    expected = np.where(trials["stimulus"][:] < 0, -1, trials["label"][:]) - 100.0
    learnt = trials["learnt"][:] - expected
    assert np.ptp(learnt) < 1e-9
    n_train = np.count_nonzero((trials["split"][:] == "train") & (trials["stimulus"][:] >= 0))
    assert n_train < learnt[0] < n_train + 1

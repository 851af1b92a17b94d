"""Pairings that give a trial several stimuli, and what they say of how the pairs were made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import eegstore
from eegstore import ColumnSpec, Pairs, PluginError, RecipeError, Trials, builder, registry
from eegstore.torch import positives
from samples import modified, recipe

SOURCE = {"plugin": "synthetic", "n_trials": 24, "n_channels": 2, "n_times": 8, "n_classes": 12}
Answer = Callable[[Any, Any, Any, Any], Any]


@dataclass(frozen=True)
class Nearest:
    """The digit of a label and those after it, up to the last; labels 10 and 11 have none."""

    name: ClassVar[str] = "nearest"
    version: ClassVar[str] = "1"
    made_from: ClassVar[tuple[str, ...]] = ("label", "trials/temporal")
    k: int = field(default=3, metadata={"description": "Stimuli a trial.", "ge": 1})

    def __call__(self, trials: Trials, stimuli: Any, columns: Any) -> Pairs:
        first = trials.label
        rows = first[:, None] + np.arange(self.k)
        rows = np.where((first[:, None] < 10) & (rows < 10), rows, -1)
        score = np.where(rows >= 0, 1 / (1 + np.arange(self.k)), np.nan).astype(np.float32)
        if self.k == 1:
            return Pairs(rows[:, 0], score[:, 0])
        return Pairs(rows[:, 0], score[:, 0], rows[:, 1:], score[:, 1:])


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The pairing of this module is installed, and others on request."""
    found = registry.plugins()

    def add(*classes: type[Any]) -> None:
        added = tuple(
            registry.Plugin("pairing", one.name, one.version, "theirs", "1.0", "ok", one)
            for one in (Nearest, *classes)
        )
        monkeypatch.setattr(registry, "plugins", lambda: found + added)

    add()
    return add


def paired(k: int = 3, name: str = "nearest", **changes: Any) -> dict[str, Any]:
    options = {"k": k} if name == "nearest" else {}
    usual = {"source": SOURCE, "extract": [{"plugin": "temporal"}]}
    return recipe(pairing={"plugin": name, **options}, **(usual | changes))


def test_further_stimuli_are_columns_of_the_trials(tmp_path: Path) -> None:
    eegstore.build(paired(), tmp_path / "a.zarr")
    trials = eegstore.open_store(tmp_path / "a.zarr").trials
    label = trials["label"][:]
    for number, name in enumerate(("stimulus", "stimulus_2", "stimulus_3")):
        expected = np.where(label + number < 10, label + number, -1)
        np.testing.assert_array_equal(trials[name][:], expected)
        assert trials[name][:].dtype == np.int64
        score = trials[name.replace("stimulus", "score")][:]
        expected_score = np.where(expected >= 0, np.float32(1 / (1 + number)), np.nan)
        np.testing.assert_array_equal(score, expected_score)
        assert score.dtype == np.float32
    names = list(trials)
    assert [one for one in names if one.startswith(("stimulus", "score"))] == [
        "stimulus", "stimulus_2", "stimulus_3", "score", "score_2", "score_3",
    ]  # fmt: skip
    facts = trials["stimulus_2"].attrs["eegstore"]
    assert facts["producer"]["name"] == "nearest"
    assert "stimuli/content_id" in facts["inputs"]


def test_a_build_again_has_nothing_to_do_and_one_with_fewer_drops_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    eegstore.build(paired(), path)
    assert builder.plan(paired(), path).up_to_date
    before = modified(path)
    assert eegstore.build(paired(), path).up_to_date
    assert modified(path) == before
    eegstore.build(paired(extract=[{"plugin": "temporal"}, {"plugin": "hog", "size": 16}]), path)
    after = modified(path)
    kept = [name for name in before if name.startswith(("trials/stimulus", "trials/score"))]
    assert len(kept) == 12  # a document and a chunk each
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    done = eegstore.build(paired(k=2), path, overwrite=True)
    assert done.digest == eegstore.build(paired(k=2), tmp_path / "b.zarr").digest
    assert "stimulus_3" not in eegstore.open_store(path).trials
    assert not (path / "trials/stimulus_3").exists()
    assert eegstore.build(paired(k=1), path).digest != done.digest
    assert not (path / "trials/score_2").exists()
    assert eegstore.verify(path, deep=True) == []


def test_a_lost_column_of_further_stimuli_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    digest = eegstore.build(paired(), path).digest
    (path / "trials/stimulus_2/c/0").unlink()
    assert eegstore.build(paired(), path).digest == digest
    assert eegstore.verify(path, deep=True) == []


def test_an_invalid_trial_has_no_further_stimuli(tmp_path: Path) -> None:
    folder = tmp_path / "npy"
    folder.mkdir()
    eeg = np.ones((6, 2, 8), dtype=np.float32)
    eeg[2, 1, 3] = np.nan
    np.save(folder / "train_data.npy", eeg)
    np.save(folder / "train_labels.npy", np.arange(6))
    source = {"plugin": "npy", "path": str(folder), "sfreq": 8.0, "allow_skips": True}
    eegstore.build(paired(source=source, split=None, extract=[]), tmp_path / "a.zarr")
    trials = eegstore.open_store(tmp_path / "a.zarr").trials
    assert trials["stimulus_2"][:].tolist() == [1, 2, -1, 4, 5, 6]
    assert np.isnan(trials["score_3"][:]).tolist() == [False, False, True, False, False, False]


WRONG: dict[str, tuple[Answer, str]] = {
    "twice": (lambda n, r, s, m: Pairs(r, s, m * 0, s[:, None]), r"got stimuli \[0, 0\], .* twice"),
    "outside": (lambda n, r, s, m: Pairs(r, s, m + 99, s[:, None]), "got stimulus 100 of 10"),
    "behind none": (
        lambda n, r, s, m: Pairs(r - 1, s, m, s[:, None]),
        r"trial 0 got stimuli \[-1, 1\], expected -1 only where no further one comes",
    ),
    "no scores": (lambda n, r, s, m: Pairs(r, s, m), "gave more stimuli without more_score"),
    "one axis": (
        lambda n, r, s, m: Pairs(r, s, m[:, 0], s),
        r"gave int64 \(24,\) as more, expected int64 \(24, 0\)",
    ),
    "too few": (
        lambda n, r, s, m: Pairs(r, s, m[1:], s[1:, None]),
        r"gave int64 \(23, 1\) as more, expected int64 \(24, 1\)",
    ),
    "fractions": (
        lambda n, r, s, m: Pairs(r, s, m.astype(float), s[:, None]),
        r"gave float64 \(24, 1\) as more, expected int64",
    ),
    "scores of another shape": (
        lambda n, r, s, m: Pairs(r, s, m, s),
        r"gave scores float32 \(24,\) as more, expected float32 \(24, 1\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_further_stimuli_that_are_none_are_refused(
    tmp_path: Path, installed: Callable[..., None], case: str
) -> None:
    answer, message = WRONG[case]

    @dataclass(frozen=True)
    class Wrong:
        """Breaks a promise."""

        name: ClassVar[str] = "wrong"
        version: ClassVar[str] = "1"

        def __call__(self, trials: Trials, stimuli: Any, columns: Any) -> Any:
            n = trials.n_trials
            zeros, ones = np.zeros(n, dtype=np.int64), np.ones((n, 1), dtype=np.int64)
            return answer(n, zeros, np.ones(n, dtype=np.float32), ones)

    installed(Wrong)
    with pytest.raises(PluginError, match=f"^pairing 'wrong': .*{message}"):
        eegstore.build(paired(name="wrong"), tmp_path / "a.zarr")


def test_the_store_says_what_its_pairs_were_made_from(
    tmp_path: Path, installed: Callable[..., None]
) -> None:
    eegstore.build(paired(), tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    assert store.made_from == ("label", "trials/temporal")
    facts = store.trials["stimulus"].attrs["eegstore"]
    assert facts["made_from"] == ["label", "trials/temporal"]
    assert "made_from" not in store.trials["stimulus_2"].attrs["eegstore"]

    @dataclass(frozen=True)
    class Silent:
        """Does not say."""

        name: ClassVar[str] = "silent"
        version: ClassVar[str] = "1"
        k: ClassVar[int] = 3

        __call__ = Nearest.__call__

    @dataclass(frozen=True)
    class ByChance(Nearest):
        """Says that nothing decides."""

        name: ClassVar[str] = "by-chance"
        made_from: ClassVar[tuple[str, ...]] = ()

    installed(Silent, ByChance)
    for name, recorded in (("silent", None), ("by-chance", [])):
        eegstore.build(paired(name=name), tmp_path / f"{name}.zarr")
        store = eegstore.open_store(tmp_path / f"{name}.zarr")
        assert store.made_from == ()
        assert store.trials["stimulus"].attrs["eegstore"].get("made_from") == recorded
    eegstore.build(recipe(source=SOURCE, stimuli=None, pairing=None, extract=[]),
                   tmp_path / "c.zarr")  # fmt: skip
    assert eegstore.open_store(tmp_path / "c.zarr").made_from == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("label", "made_from is 'label', expected a tuple of names"),
        (("labels",), "made_from has 'labels', expected 'stimulus_key'"),
        (("trials/",), "made_from has 'trials/', expected 'stimulus_key'"),
    ],
)
def test_what_pairs_are_made_from_is_named_as_columns_are(
    tmp_path: Path, installed: Callable[..., None], given: Any, message: str
) -> None:
    @dataclass(frozen=True)
    class Odd(Nearest):
        """Says what is no column."""

        name: ClassVar[str] = "odd"
        made_from: ClassVar[Any] = given

    installed(Odd)
    with pytest.raises(PluginError, match=f"^pairing 'odd': {message}"):
        eegstore.build(paired(name="odd"), tmp_path / "a.zarr")


def test_what_a_pairing_reads_may_follow_from_its_options(
    tmp_path: Path, installed: Callable[..., None]
) -> None:
    @dataclass(frozen=True)
    class ByColumn:
        """The stimulus of a row's own number, where a column is positive."""

        name: ClassVar[str] = "by-column"
        version: ClassVar[str] = "1"
        query: str = field(default="trials/temporal", metadata={"description": "Column."})

        @property
        def reads(self) -> tuple[str, ...]:
            return (self.query,)

        @property
        def made_from(self) -> tuple[str, ...]:
            return self.reads

        def __call__(self, trials: Trials, stimuli: Any, columns: Any) -> Pairs:
            spec: ColumnSpec = columns[self.query].spec
            assert spec.dtype == "float32"
            row = np.arange(trials.n_trials) % 10
            return Pairs(row, np.ones(len(row), dtype=np.float32))

    installed(ByColumn)
    eegstore.build(paired(name="by-column"), tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    assert store.made_from == ("trials/temporal",)
    assert "trials/temporal" in store.trials["stimulus"].attrs["eegstore"]["inputs"]
    wrong = paired(name="by-column") | {"pairing": {"plugin": "by-column", "query": "trials/t"}}
    with pytest.raises(RecipeError, match="by-column reads trials/t, which the recipe does not"):
        eegstore.build(wrong, tmp_path / "b.zarr")


@pytest.mark.parametrize("name", ["fold", "stimulus_2", "score_17"])
def test_no_column_of_a_source_or_an_extractor_has_a_name_of_these(
    tmp_path: Path, name: str
) -> None:
    trials = Trials(
        n_trials=2, ch_names=["Cz"], sfreq=8.0, times=np.arange(4) / 8, units="V",
        label=np.zeros(2, dtype=np.int64), columns={"stimulus_1": np.zeros(2)},
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"Trials.columns has '{name}': not a free"):
        replace(trials, columns={name: np.zeros(2)})
    changed = paired(extract=[{"plugin": "temporal", "as": name}])
    with pytest.raises(RecipeError, match=f"trials has a column '{name}' already"):
        eegstore.build(changed, tmp_path / "a.zarr")
    images = paired(extract=[{"plugin": "hog", "size": 16, "as": name}])
    assert [one.name for one in builder.plan(images, tmp_path / "b.zarr").columns] == ["eeg", name]


def test_trials_that_share_one_of_their_stimuli_are_positives() -> None:
    stimulus = torch.tensor([[0, 1], [1, 2], [3, -1], [4, 0], [-1, -1]])
    expected = torch.zeros(5, 5, dtype=torch.bool)
    for one, other in [(0, 0), (1, 1), (2, 2), (3, 3), (0, 1), (1, 0), (0, 3), (3, 0)]:
        expected[one, other] = True
    assert torch.equal(positives(stimulus), expected)
    first = torch.tensor([0, 1, 0, -1])
    assert torch.equal(positives(first[:, None]), positives(first))

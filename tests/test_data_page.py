"""The page on own data, word for word: its code, its recipe and its commands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import eegstore
from eegstore import registry
from eegstore_plugins.columns import KNOWN
from handbook import ROOT, blocks, sections

PAGE: Final = ROOT / "docs" / "data.md"
TEXT: Final = PAGE.read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the page's code has run and its recipe has been built."""
    folder = tmp_path_factory.mktemp("own")
    (code,), (recipe,) = blocks(TEXT, "python"), blocks(TEXT, "toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(code, {})
        Path("own.toml").write_text(recipe)
        eegstore.build("own.toml", "own.zarr")
    return folder


def test_the_example_pairs_each_trial_with_the_image_that_its_key_names(folder: Path) -> None:
    store = eegstore.open_store(folder / "own.zarr")
    trials, stimuli = store.trials, store.stimuli
    shown = np.load(folder / "eeg" / "shown.npy")
    assert shown[:3].tolist() == ["ant/ant_1.png", "ant/ant_2.png", "bee/bee_1.png"]
    assert trials["stimulus"].attrs["eegstore"]["producer"]["name"] == "event"
    np.testing.assert_array_equal(stimuli["image_path"][:][trials["stimulus"][:]], shown)
    np.testing.assert_array_equal(trials["stimulus_key"][:], shown)
    assert trials["label"][:].tolist() == [-1] * 40
    np.testing.assert_array_equal(trials["eeg"][:], np.load(folder / "eeg" / "all_data.npy"))


def test_the_columns_of_the_example_are_in_the_store(folder: Path) -> None:
    trials = eegstore.open_store(folder / "own.zarr").trials
    assert trials["subject"][:].tolist() == ["anna"] * 20 + ["ben"] * 20
    assert trials["session"][:].tolist() == ([1] * 10 + [2] * 10) * 2
    assert trials["onset"][:3].tolist() == [0.0, 1.5, 3.0]


def test_no_concept_of_the_example_is_in_two_splits(folder: Path) -> None:
    store = eegstore.open_store(folder / "own.zarr")
    concept = store.stimuli["concept"][:][store.trials["stimulus"][:]]
    split = store.trials["split"][:]
    test, train = set(concept[split == "test"]), set(concept[split == "train"])
    assert (len(test), len(train), test & train) == (1, 4, set())
    assert (split == "test").sum() == 8


def test_its_splits_are_taken_and_make_the_folds_that_it_says() -> None:
    lines = re.findall(r"^split = \{.*\}$", TEXT, re.MULTILINE)
    options = [tomllib.loads(line)["split"] for line in lines]
    made = [registry.create("split", one.pop("plugin"), one, Path()) for one in options]
    assert [(one.name, one.test_size, one.n_folds, one.leave_one_out) for one in made] == [
        ("concept", 0.2, 0, False), ("concept", None, 5, False), ("subject", None, 0, True),
    ]  # fmt: skip


def test_every_name_that_splits_and_the_audit_know_is_in_the_table() -> None:
    table = sections(TEXT)["Columns that are known by name"]
    assert [name for name in KNOWN if f"\n| `{name}` |" not in table] == []


def test_the_readme_links_the_page() -> None:
    assert "(docs/data.md)" in (ROOT / "README.md").read_text()

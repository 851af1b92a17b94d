"""Input that changes while it is read is never mixed into a store."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import eegstore
from eegstore import InputError
from eegstore.inputs import input_files
from eegstore_plugins.idx import Idx
from eegstore_plugins.npy import NpyFolder
from samples import recipe, write_npy


def npy_recipe(folder: Path) -> dict[str, Any]:
    eeg = np.random.default_rng(0).standard_normal((40, 4, 128)).astype(np.float32)
    write_npy(folder, train_data=eeg, train_labels=np.arange(40) % 10)
    return recipe(source={"plugin": "npy", "path": str(folder), "sfreq": 128}, extract=[])


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "touched": (lambda file: os.utime(file, ns=(1, 1)), "was changed"),
    "deleted": (Path.unlink, "was deleted"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_input_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    made = npy_recipe(tmp_path / "in")
    read, file = NpyFolder.read, tmp_path / "in/train_data.npy"

    def changing(self: Any, start: int, stop: int) -> Any:
        values = read(self, start, stop)
        CHANGES[how][0](file)
        return values

    monkeypatch.setattr(NpyFolder, "read", changing)
    with pytest.raises(InputError) as refused:
        eegstore.build(made, tmp_path / "a.zarr", executor="serial")
    assert str(refused.value) == (
        f"{file}: {CHANGES[how][1]} while the build read it; run the same command again"
    )
    monkeypatch.undo()
    with pytest.raises(eegstore.IncompleteError):
        eegstore.open_store(tmp_path / "a.zarr")


def test_after_the_change_the_build_takes_the_new_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = npy_recipe(tmp_path / "in")
    read, file = NpyFolder.read, tmp_path / "in/train_data.npy"

    def changing(self: Any, start: int, stop: int) -> Any:
        values = read(self, start, stop)
        np.save(file, np.load(file) * 2)
        return values

    monkeypatch.setattr(NpyFolder, "read", changing)
    with pytest.raises(InputError, match="was changed while the build read it"):
        eegstore.build(made, tmp_path / "a.zarr", executor="serial")
    monkeypatch.undo()
    eegstore.build(made, tmp_path / "a.zarr", executor="serial")
    stored = eegstore.open_store(tmp_path / "a.zarr").trials["eeg"][:]
    np.testing.assert_array_equal(stored, np.load(file))


def test_files_beside_one_of_the_same_stem_are_input_too(tmp_path: Path) -> None:
    for name in ("a.set", "a.fdt", "b.set"):
        (tmp_path / name).write_bytes(gzip.compress(name.encode()))
    plugin = Idx(images=tmp_path / "a.set")
    assert [file.path.name for file in input_files(plugin)] == ["a.fdt", "a.set"]
    (tmp_path / "a.toml").write_text("a recipe")
    (tmp_path / ".a.set").write_bytes(b"what a desktop leaves")
    assert [file.path.name for file in input_files(plugin)] == ["a.fdt", "a.set"]


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_file_whose_name_is_no_text_may_lie_beside_the_images(
    tmp_path: Path, executor: str
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for label in range(10):
        Image.new("RGB", (8, 8), (label, 0, 0)).save(images / f"{label}.png")
    (images / os.fsdecode(b"Notiz-\xe4.txt")).write_text("x")
    made = recipe(stimuli={"plugin": "image-folder", "path": str(images)})
    assert eegstore.build(made, tmp_path / "a.zarr", executor=executor).n_stimuli == 10
    assert eegstore.verify(tmp_path / "a.zarr", deep=True) == []

"""The files of the npy exporter, value by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegstore
from eegstore import InputError, RecipeError, UsageError
from samples import EEG, recipe, write_npy
from tiny_clip import write_tiny_clip


def read_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    model = str(write_tiny_clip(folder / "clip"))
    extract = [{"plugin": name} for name in ("spectral", "temporal", "hog")]
    extract += [{"plugin": f"clip-{side}", "model": model} for side in ("image", "text")]
    eegstore.build(recipe(extract=extract), folder / "a.zarr")
    return folder / "a.zarr"


def test_each_file_holds_the_values_of_its_split_in_trial_order(
    store: Path, tmp_path: Path
) -> None:
    out = eegstore.export(store, tmp_path / "out", "npy", {"images": True})
    opened = eegstore.open_store(store)
    names = opened.trials["split"][:]
    for split in ("train", "test"):
        rows = np.flatnonzero(names == split)
        stimulus = opened.trials["stimulus"][rows]
        saved = {
            kind: np.load(out / f"{split}_{kind}.npy", allow_pickle=False)
            for kind in (
                "eeg_data",
                "labels",
                "img_features",
                "text_features",
                "eeg_features",
                "images",
            )
        }
        np.testing.assert_array_equal(saved["eeg_data"], opened.trials["eeg"][rows])
        assert saved["eeg_data"].dtype == np.float32
        np.testing.assert_array_equal(saved["labels"], opened.trials["label"][rows])
        assert saved["labels"].dtype == np.int64
        for kind, column in (("img", "clip_image"), ("text", "clip_text")):
            raw = opened.stimuli[column][stimulus].astype(np.float64)
            unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
            np.testing.assert_allclose(saved[f"{kind}_features"], unit, rtol=1e-6)
            assert saved[f"{kind}_features"].dtype == np.float32
        features = [opened.trials[name][rows].reshape(len(rows), -1)
                    for name in ("spectral", "temporal")]  # fmt: skip
        np.testing.assert_array_equal(saved["eeg_features"], np.concatenate(features, axis=1))
        images = np.stack([opened.image(row) for row in stimulus])
        np.testing.assert_array_equal(saved["images"], images)
        assert saved["images"].dtype == np.uint8
        paths = json.loads((out / f"{split}_image_paths.json").read_text())
        assert paths == opened.stimuli["image_path"][stimulus].tolist()


def test_the_metadata_describes_the_files(store: Path, tmp_path: Path) -> None:
    out = eegstore.export(store, tmp_path / "out", "npy")
    opened = eegstore.open_store(store)
    facts = json.loads((out / "train_metadata.json").read_text())
    assert facts["mode"] == "train"
    assert facts["n_trials"] == 45
    assert facts["n_classes"] == 10
    assert facts["eeg_shape"] == [4, 128]
    assert facts["time_window"] == [0.0, 127 / 128]
    assert facts["model_type"].endswith("clip")
    assert facts["stimuli_path"] == "digits"
    assert facts["n_unpaired"] == 0
    assert "synthetic" in facts["notice"]
    features = np.load(out / "train_eeg_features.npy")
    names = facts["eeg_feature_names"]
    assert features.shape[1] == len(names) == 4 * (14 + 12)
    alpha = features[0, names.index("spectral/ch2/alpha_power")]
    spectral = opened.trials["spectral"]
    index = list(spectral.spec.coords["spectral_feature"]).index("alpha_power")
    row = int(np.flatnonzero(opened.trials["split"][:] == "train")[0])
    assert alpha == spectral[row][1, index]
    whole = json.loads((out / "metadata.json").read_text())
    assert whole["digest"] == opened.digest
    assert whole["recipe"] == opened.recipe


def test_two_exports_are_byte_identical(store: Path, tmp_path: Path) -> None:
    folders = [eegstore.export(store, tmp_path / name, "npy") for name in ("a", "b")]
    assert read_folder(folders[0]) == read_folder(folders[1])


def test_embeddings_keep_their_length_on_request(store: Path, tmp_path: Path) -> None:
    out = eegstore.export(store, tmp_path / "out", "npy", {"normalize": False})
    opened = eegstore.open_store(store)
    stimulus = opened.trials["stimulus"][opened.trials["split"][:] == "test"]
    saved = np.load(out / "test_img_features.npy")
    np.testing.assert_array_equal(saved, opened.stimuli["clip_image"][stimulus])


def test_another_embedding_is_written_by_name(store: Path, tmp_path: Path) -> None:
    out = eegstore.export(store, tmp_path / "out", "npy", {"image_features": "hog"})
    assert np.load(out / "test_img_features.npy").shape == (15, 1764)
    with pytest.raises(InputError, match=r"'hogg'; there are hog, clip_image"):
        eegstore.export(store, tmp_path / "none", "npy", {"image_features": "hogg"})
    assert not (tmp_path / "none").exists()


def test_the_only_embedding_is_taken_and_two_must_be_chosen_from(tmp_path: Path) -> None:
    eegstore.build(recipe(extract=[{"plugin": "hog"}]), tmp_path / "one.zarr")
    out = eegstore.export(tmp_path / "one.zarr", tmp_path / "one", "npy")
    assert np.load(out / "train_img_features.npy").shape == (45, 1764)
    assert not (out / "train_text_features.npy").exists()
    two = [{"plugin": "hog"}, {"plugin": "hog", "orientations": 6, "as": "hog6"}]
    eegstore.build(recipe(extract=two), tmp_path / "two.zarr")
    with pytest.raises(InputError, match=r"hog, hog6; choose with --image-features"):
        eegstore.export(tmp_path / "two.zarr", tmp_path / "two", "npy")


def _with_gaps(folder: Path) -> dict[str, Any]:
    """Trials 0 … 19 of labels 0 … 9 and -1; stimuli of labels 0 … 9."""
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 11 - 1
    eeg = rng.standard_normal((20, 2, 128)).astype(np.float32)
    write_npy(folder, train_data=eeg, train_labels=labels)
    source = {"plugin": "npy", "path": str(folder), "sfreq": 128, "tmin": -0.25}
    return recipe(source=source, split={"plugin": "source"})


def test_unpaired_trials_are_left_out_and_counted(tmp_path: Path) -> None:
    eegstore.build(_with_gaps(tmp_path / "in"), tmp_path / "a.zarr")
    out = eegstore.export(tmp_path / "a.zarr", tmp_path / "out", "npy")
    labels = np.load(out / "train_labels.npy")
    assert len(labels) == 18
    assert (labels >= 0).all()
    facts = json.loads((out / "train_metadata.json").read_text())
    assert facts["n_unpaired"] == 2
    eeg = np.load(tmp_path / "in" / "train_data.npy")
    kept = np.load(tmp_path / "in" / "train_labels.npy") >= 0
    np.testing.assert_array_equal(np.load(out / "train_eeg_data.npy"), eeg[kept])


def test_the_time_window_is_that_of_the_data(tmp_path: Path) -> None:
    eegstore.build(_with_gaps(tmp_path / "in"), tmp_path / "a.zarr")
    out = eegstore.export(tmp_path / "a.zarr", tmp_path / "out", "npy")
    facts = json.loads((out / "train_metadata.json").read_text())
    assert facts["time_window"] == [-0.25, -0.25 + 127 / 128]


def test_images_of_unequal_size_need_one_size(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for digit in range(10):
        Image.new("RGB", (8 + digit, 8), (digit, 0, 0)).save(folder / f"{digit}.png")
    made = recipe(stimuli={"plugin": "image-folder", "path": str(folder)}, extract=[])
    eegstore.build(made, tmp_path / "a.zarr")
    with pytest.raises(InputError, match="--image-size"):
        eegstore.export(tmp_path / "a.zarr", tmp_path / "out", "npy", {"images": True})
    options = {"images": True, "image_size": 5}
    out = eegstore.export(tmp_path / "a.zarr", tmp_path / "out", "npy", options)
    images = np.load(out / "test_images.npy")
    assert images.shape == (15, 5, 5, 3)
    np.testing.assert_array_equal(images[:, 2, 2, 0], np.load(out / "test_labels.npy"))


def test_images_that_changed_since_the_build_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for digit in range(10):
        Image.new("RGB", (8, 8), (digit, 0, 0)).save(folder / f"{digit}.png")
    made = recipe(stimuli={"plugin": "image-folder", "path": str(folder)}, extract=[])
    eegstore.build(made, tmp_path / "a.zarr")
    Image.new("RGB", (8, 8), (99, 0, 0)).save(folder / "4.png")
    with pytest.raises(InputError, match="not those of the build"):
        eegstore.export(tmp_path / "a.zarr", tmp_path / "out", "npy", {"images": True})


def test_an_export_that_fails_leaves_nothing_under_its_name(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)  # texts come after the arrays
    with pytest.raises(eegstore.EegStoreError, match="No space left"):
        eegstore.export(store, tmp_path / "out", "npy")
    assert list(tmp_path.iterdir()) == []


def test_an_export_overwrites_nothing(store: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    eegstore.export(store, tmp_path / "out", "npy")  # an empty folder is free
    before = read_folder(tmp_path / "out")
    with pytest.raises(InputError, match="exists; choose another OUT"):
        eegstore.export(store, tmp_path / "out", "npy")
    assert read_folder(tmp_path / "out") == before


def test_an_unknown_option_or_format_names_the_nearest(store: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'normalize'"):
        eegstore.export(store, tmp_path / "out", "npy", {"normalise": True})
    with pytest.raises(UsageError, match="did you mean 'npy'"):
        eegstore.export(store, tmp_path / "out", "nyp")


def test_a_store_without_stimuli_exports_every_trial(tmp_path: Path) -> None:
    eegstore.build({"source": EEG}, tmp_path / "a.zarr")
    out = eegstore.export(tmp_path / "a.zarr", tmp_path / "out", "npy")
    assert np.load(out / "train_eeg_data.npy").shape == (60, 4, 128)
    assert sorted(read_folder(out)) == [
        "metadata.json", "train_eeg_data.npy", "train_labels.npy", "train_metadata.json",
    ]  # fmt: skip

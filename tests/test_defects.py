"""The defects found in the wild (the design's section 11), each shown to be impossible here.

Numbers are those of that list. 10 and 12 belong to evaluation, which is not part of the package
yet; 11 is the user's choice of a split.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import eegstore
from eegstore import InputError
from samples import EEG, data_files, recipe, write_npy
from tiny_clip import write_tiny_clip


def images(folder: Path, *levels: int, names: list[str] | None = None) -> dict[str, Any]:
    """A folder of grey images, one a level, and the recipe's section for it."""
    folder.mkdir()
    for number, level in enumerate(levels):
        name = names[number] if names else str(number)
        Image.new("RGB", (16, 16), (level, level, level)).save(folder / f"{name}.png")
    return {"plugin": "image-folder", "path": str(folder)}


def trials(folder: Path, labels: list[int], **options: Any) -> dict[str, Any]:
    """EEG that holds each trial's number, and the recipe's section for it."""
    eeg = np.zeros((len(labels), 2, 32), dtype=np.float32)
    eeg += np.arange(len(labels), dtype=np.float32)[:, None, None]
    write_npy(folder, train_data=eeg, train_labels=np.array(labels))
    return {"plugin": "npy", "path": str(folder), "sfreq": 128} | options


def build(tmp_path: Path, **sections: Any) -> eegstore.Store:
    made = recipe(**{"extract": [], "split": None} | sections)
    eegstore.build(made, tmp_path / "a.zarr")
    return eegstore.open_store(tmp_path / "a.zarr")


def test_1_a_trial_without_label_is_not_paired_with_the_last_image(tmp_path: Path) -> None:
    store = build(
        tmp_path,
        source=trials(tmp_path / "in", [0, -1, 2, -1]),
        stimuli=images(tmp_path / "images", 10, 20, 30),
    )
    assert store.trials["stimulus"][:].tolist() == [0, -1, 2, -1]
    with pytest.raises(IndexError, match="unpaired trial"):
        store.stimuli["label"][store.trials["stimulus"][:]]


def test_2_a_missing_stimulus_is_named_and_shifts_nothing(tmp_path: Path) -> None:
    source = trials(tmp_path / "in", [0, 1, 2, 3])
    stimuli = images(tmp_path / "images", 10, 20, 30, names=["0", "2", "3"])
    with pytest.raises(InputError, match="1"):
        build(tmp_path, source=source, stimuli=stimuli)
    pairing = {"plugin": "label", "unmatched": "keep"}
    store = build(tmp_path, source=source, stimuli=stimuli, pairing=pairing)
    stimulus = store.trials["stimulus"][:]
    assert stimulus[1] == -1
    paired = stimulus[[0, 2, 3]]
    assert store.stimuli["label"][paired].tolist() == [0, 2, 3]


def test_3_clip_features_are_the_same_at_every_run(tmp_path: Path) -> None:
    model = str(write_tiny_clip(tmp_path / "clip"))
    made = recipe(extract=[{"plugin": "clip-image", "model": model}])
    for name in ("a", "b"):
        eegstore.build(made, tmp_path / f"{name}.zarr")
    assert data_files(tmp_path / "a.zarr") == data_files(tmp_path / "b.zarr")


def test_4_image_10_comes_after_image_2(tmp_path: Path) -> None:
    levels = range(0, 240, 20)
    store = build(
        tmp_path,
        source=trials(tmp_path / "in", list(range(12))),
        stimuli=images(tmp_path / "images", *levels),
    )
    assert store.stimuli["image_path"][:].tolist() == [f"{number}.png" for number in range(12)]
    shown = [store.image(row)[0, 0, 0] for row in store.trials["stimulus"][:]]
    assert shown == list(levels)


def test_5_a_changed_image_is_never_served_stale(tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "source": trials(tmp_path / "in", [0, 1, 2]),
        "stimuli": images(tmp_path / "images", 10, 20, 30),
        "extract": [{"plugin": "hog", "size": 16}],
    }
    before = build(tmp_path, **sections).stimuli["hog"][:]
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "1.png")
    after = build(tmp_path, **sections).stimuli["hog"][:]
    assert (before[1] != after[1]).any()
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])


def test_6_an_embedding_is_stored_once_a_stimulus(tmp_path: Path) -> None:
    many = {"source": EEG | {"n_trials": 5000, "n_channels": 1, "n_times": 16}}
    build(tmp_path, **many, extract=[{"plugin": "hog"}])
    shards = [path for path in (tmp_path / "a.zarr" / "stimuli" / "hog" / "c").rglob("*")
              if path.is_file()]  # fmt: skip
    one_row = 1764 * 4
    assert sum(path.stat().st_size for path in shards) < 17 * one_row


def test_7_repetitions_point_at_their_own_image(tmp_path: Path) -> None:
    order = [stimulus for stimulus in range(5) for _ in range(4)]
    store = build(
        tmp_path,
        source=trials(tmp_path / "in", order),
        stimuli=images(tmp_path / "images", 0, 50, 100, 150, 200),
    )
    out = eegstore.export(tmp_path / "a.zarr", tmp_path / "out", "npy")
    paths = json.loads((out / "train_image_paths.json").read_text())
    assert paths == [f"{stimulus}.png" for stimulus in order]
    eeg = np.load(out / "train_eeg_data.npy")
    np.testing.assert_array_equal(eeg[:, 0, 0], np.arange(20))
    assert store.trials["stimulus"][:].tolist() == order


class Bait:
    """Says so when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("raw", [True, False])
def test_8_a_pickle_named_npy_is_refused_and_never_opened(tmp_path: Path, raw: bool) -> None:
    source, canary = trials(tmp_path / "in", [0, 1]), tmp_path / "canary"
    file = tmp_path / "in" / "train_data.npy"
    if raw:
        file.write_bytes(pickle.dumps(Bait(canary)))
    else:
        np.save(file, np.array([Bait(canary), 1], dtype=object))
    (tmp_path / "in" / "metadata.pkl").write_bytes(pickle.dumps(Bait(canary)))
    with pytest.raises(InputError, match=r"train_data\.npy"):
        build(tmp_path, source=source, stimuli=None, pairing=None)
    assert not canary.exists()


@pytest.mark.shared_data
def test_9_times_are_cut_with_the_data(tmp_path: Path, shared_data: Path) -> None:
    path = shared_data / "mindbigdata-raw" / "MU_excerpt.txt"
    source = {"plugin": "mindbigdata", "path": str(path), "n_times": 300}
    store = build(tmp_path, source=source, stimuli=None, pairing=None)
    times = store.trials["eeg"].spec.coords["time"]
    assert len(times) == store.trials["eeg"].spec.shape[1] == 300
    np.testing.assert_allclose(times, np.arange(300) / 220)


def test_13_a_failing_build_leaves_the_committed_store_as_it_was(tmp_path: Path) -> None:
    eegstore.build(recipe(), tmp_path / "a.zarr")
    before = data_files(tmp_path / "a.zarr")
    bad = recipe(extract=[*recipe()["extract"], {"plugin": "clip-image", "model": "no/such"}])
    with pytest.raises(eegstore.EegStoreError):
        eegstore.build(bad, tmp_path / "a.zarr")
    assert data_files(tmp_path / "a.zarr") == before
    assert eegstore.verify(tmp_path / "a.zarr", deep=True) == []

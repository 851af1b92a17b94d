"""A store in which the EEG of a trial is the image's own features and noise: what can be found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

import eegstore
from eegstore import Block
from eegstore_plugins.hog import Hog

HOG = {"plugin": "hog", "size": 16, "cells_per_block": 1}


def write_images(folder: Path, n_concepts: int, per_concept: int) -> list[str]:
    """PNG files ``001_c1/0.png``, … of random patches; their paths."""
    rng = np.random.default_rng(0)
    paths = []
    for concept in range(n_concepts):
        (folder / f"{concept:03}_c{concept}").mkdir(parents=True)
        for number in range(per_concept):
            patches = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            paths.append(f"{concept:03}_c{concept}/{number}.png")
            Image.fromarray(np.kron(patches, np.ones((4, 4, 1), np.uint8))).save(folder / paths[-1])
    return paths


def features(folder: Path, paths: list[str]) -> np.ndarray[Any, Any]:
    """float32, (image, feature): what the recipe's extractor gives."""
    images = [np.asarray(Image.open(folder / path).convert("RGB")) for path in paths]
    options = {name: value for name, value in HOG.items() if name != "plugin"}
    return Hog(**options)(Block({"image": images}, 0, len(images)))


def planted(
    folder: Path,
    *,
    noise: float,
    n_concepts: int = 8,
    per_concept: int = 3,
    n_repeats: int = 4,
    seed: int = 1,
    splits: Mapping[int, str] | None = None,
    **recipe: Any,
) -> eegstore.Store:
    """Every image shown ``n_repeats`` times, by two subjects in turn; ``splits`` by repetition.

    The EEG of one channel is the image's features, centred, with noise of ``noise`` times their
    deviation.
    """
    folder.mkdir(exist_ok=True)
    paths = write_images(folder / "images", n_concepts, per_concept)
    signal = features(folder / "images", paths)
    signal = (signal - signal.mean(0)) / signal.std()
    rng = np.random.default_rng(seed)
    shown = np.tile(np.arange(len(paths)), n_repeats)
    repetition = np.arange(n_repeats).repeat(len(paths))
    eeg = signal[shown] + noise * rng.normal(size=(len(shown), signal.shape[1]))
    columns = {
        "stimulus_key": np.array(paths)[shown],
        "split": np.array([(splits or {}).get(one, "test") for one in repetition]),
        "subject": np.array([f"sub-{one % 2 + 1}" for one in repetition]),
        "label": shown // per_concept,
        "repetition": repetition,
    }
    with h5py.File(folder / "eeg.h5", "w") as file:
        file.attrs["eegstore_version"] = "0"
        file["trials/eeg"] = eeg[:, None].astype(np.float32)
        file["trials/eeg"].attrs["sfreq"] = 100.0
        for name, values in columns.items():
            text = values.dtype.kind == "U"
            file[f"trials/{name}"] = values.astype(object) if text else values
            file[f"trials/{name}"].attrs["producer"] = '{"kind": "source"}'
    made = {
        "name": "planted",
        "source": {"plugin": "hdf5", "path": str(folder / "eeg.h5")},
        "stimuli": {"plugin": "image-folder", "path": str(folder / "images")},
        "pairing": {"plugin": "event"},
        "extract": [HOG],
    } | recipe
    eegstore.build(made, folder / "planted.zarr", executor="serial")
    return eegstore.open_store(folder / "planted.zarr")

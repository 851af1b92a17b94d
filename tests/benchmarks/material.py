"""What the reading benchmarks share: trials in an ``.npy`` file, images, and stores of them.

Everything lies in one folder, which is made by whoever asks first and removed when the process that
made it ends; ``EEGSTORE_BENCH_FOLDER`` names one to be kept.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from eeg_like import N_STIMULI, SFREQ, labels_of, write_eeg
from numpy.typing import NDArray

import eegstore
from eegstore import plan

FOLDER_VARIABLE = "EEGSTORE_BENCH_FOLDER"
TRIALS = {"quick": 4_096, "full": 51_900}
CHANNELS, TIMES = 14, 256
# 4 × 4 blocks of 2 × 2 cells of 8 orientations: 512 values, as many as a CLIP embedding has.
EMBEDDING = {"plugin": "hog", "as": "clip", "size": 40, "orientations": 8}


@functools.cache
def folder() -> Path:
    """Where everything lies."""
    if given := os.environ.get(FOLDER_VARIABLE):
        Path(given).mkdir(parents=True, exist_ok=True)
        return Path(given)
    made = Path(tempfile.mkdtemp(prefix="eegstore-bench-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@dataclass(frozen=True, eq=False)
class Material:
    """Trials: their ``.npy`` files, and stores built from them.

    Attributes
    ----------
    path
        The folder of the ``.npy`` files.
    eeg
        float32, (trial, channel, time): the file, mapped.
    labels
        int64, (trial,): which image each showed.
    """

    path: Path
    eeg: NDArray[np.float32]
    labels: NDArray[np.int64]

    def store(self, name: str = "raw", shard_bytes: int | None = None, **section: Any) -> Path:
        """A store of it, built once; ``section`` is the recipe's ``[store]``."""
        store = self.path / f"{name}.zarr"
        if not store.exists():
            usual, plan.SHARD_BYTES = plan.SHARD_BYTES, shard_bytes or plan.SHARD_BYTES
            try:
                eegstore.build(self.recipe(**section), store)
            finally:
                plan.SHARD_BYTES = usual
        return store

    def recipe(self, **section: Any) -> dict[str, Any]:
        """The recipe of its stores."""
        source = {"plugin": "npy", "path": str(self.path / "npy"), "sfreq": SFREQ, "units": "uV"}
        return {
            "name": "bench",
            "source": source,
            "stimuli": {"plugin": "image-folder", "path": str(folder() / "images")},
            "pairing": {"plugin": "label"},
            "extract": [EMBEDDING],
            "store": section,
        }

    @functools.cached_property
    def embeddings(self) -> NDArray[np.float32]:
        """float32, (stimulus, feature): the images' embeddings, as the store has them."""
        return eegstore.open_store(self.store()).stimuli["clip"][:]


@functools.cache
def material(n_trials: int, n_channels: int = CHANNELS, n_times: int = TIMES) -> Material:
    """Trials of a size, written once."""
    path = folder() / f"{n_trials}x{n_channels}x{n_times}"
    data, labels = path / "npy" / "train_data.npy", labels_of(n_trials)
    if not data.exists():
        write_images(folder() / "images")
        data.parent.mkdir(parents=True, exist_ok=True)
        np.save(path / "npy" / "train_labels.npy", labels)
        partial = path / "partial.npy"
        write_eeg(partial, n_trials, n_channels, n_times)
        partial.rename(data)
    return Material(path, np.load(data, mmap_mode="r"), labels)


def usual(quick: bool) -> Material:
    """The trials that most rows are measured with."""
    return material(TRIALS["quick" if quick else "full"])


def write_images(images: Path) -> None:
    """Small pictures, named by their label."""
    from PIL import Image

    if images.exists():
        return
    images.mkdir(parents=True)
    rng = np.random.default_rng(2)
    for label in range(N_STIMULI):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{label}.png")

"""Small recipes and input that many tests build from."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np

EEG = {"plugin": "synthetic", "n_trials": 60, "n_channels": 4, "n_times": 128, "seed": 3}
IDX = '[stimuli]\nplugin = "idx"\nimages = "images"\nlabels = "labels"\n'
DIGITS = {"plugin": "digits", "caption": "This picture is digit {concept}"}


def recipe(**changes: Any) -> dict[str, Any]:
    """Synthetic EEG with ten digits; ``changes`` replace whole sections, None removes one."""
    whole: dict[str, Any] = {
        "name": "tiny",
        "source": EEG,
        "stimuli": DIGITS,
        "pairing": {"plugin": "label"},
        "split": {"plugin": "random", "test_size": 0.25, "seed": 0},
        "extract": [{"plugin": "spectral"}, {"plugin": "hog"}],
    }
    return {key: value for key, value in (whole | changes).items() if value is not None}


def write_npy(folder: Path, **arrays: np.ndarray[Any, Any]) -> Path:
    """A folder of npy files, named by keyword."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def write_idx(folder: Path, n_images: int = 10, size: int = 28) -> None:
    """The files ``images`` and ``labels``: noise, labelled 0 to 9 in turn."""
    pixels = random.Random(0).randbytes(n_images * size * size)
    (folder / "images").write_bytes(struct.pack(">IIII", 0x803, n_images, size, size) + pixels)
    labels = bytes(number % 10 for number in range(n_images))
    (folder / "labels").write_bytes(struct.pack(">II", 0x801, n_images) + labels)


def data_files(store: Path) -> dict[str, bytes]:
    """Every data file of a store (metadata documents aside), by its path in the store."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name != "zarr.json"
    }


def modified(store: Path) -> dict[str, int]:
    """When each file of a store was last written, in ns."""
    return {
        path.relative_to(store).as_posix(): path.stat().st_mtime_ns
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }

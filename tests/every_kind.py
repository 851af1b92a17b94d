"""A small store of every kind of column, made from files of which every value is known."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import eegstore
from eegstore import plan

PROFILES: Final[dict[str, dict[str, Any]]] = {
    "raw": {"codec": "raw"},
    "fast": {"codec": "fast"},
    "random": {"codec": "fast", "random": True},
    "small": {"codec": "small"},
    "archive": {"codec": "archive"},
    "int16": {"codec": "raw", "dtype": "int16"},
}
N_TRIALS: Final = 19  # in chunks of two, the last of which has one row of padding
CH_NAMES: Final = ("Fz", "Cz", "Öz")
N_TIMES, SFREQ = 64, 128.0
INVALID: Final = 5
IMAGES: Final = ("Äpfel/1.png", "Äpfel/2.png", "dog/1.png", "dog/2.png", "雪/1.png", "雪/2.png")
TRIAL_BYTES: Final = len(CH_NAMES) * N_TIMES * 4
RECIPE: Final[dict[str, Any]] = {
    "name": "jede Art ✓",
    "source": {"plugin": "hdf5", "path": "eeg.h5", "allow_skips": True},
    "stimuli": {"plugin": "image-folder", "path": "images", "caption": "Das ist {concept} 🦉"},
    "pairing": {"plugin": "event"},
    "split": {"plugin": "source"},
    "extract": [
        {"plugin": "spectral"},
        {"plugin": "temporal"},
        {"plugin": "hog", "size": 16, "as": "gradients"},
    ],
}


def given_columns() -> dict[str, NDArray[Any]]:
    """The signal and the narrow columns of the trials, as the recording's file holds them."""
    rng = np.random.default_rng(7)
    row = np.arange(N_TRIALS)
    n_samples = np.where(row % 3 == 0, N_TIMES - 9, N_TIMES)
    eeg = 0.5 * rng.integers(-40, 40, (N_TRIALS, len(CH_NAMES), N_TIMES)).astype(np.float32)
    eeg[np.arange(N_TIMES) >= n_samples[:, None, None] + np.zeros((1, len(CH_NAMES), 1))] = 0
    eeg[INVALID, 1, 7] = np.nan
    return {
        "eeg": eeg,
        "label": row % 3,
        "stimulus_key": np.array([*(IMAGES[i % len(IMAGES)] for i in row[:-1]), ""]),
        "split": np.array(["train", "test", "val"])[row // 8],
        "n_samples": n_samples,
        "onset": 0.1 + row / 3,
        "target": row % 4 == 0,
        "subject": np.array(["Łukasz", "Øyvind", "a\tb", ""])[row % 4],
    }


def unpacked(stored: NDArray[Any], attributes: Mapping[str, Any]) -> NDArray[Any]:
    """The values of a stored array, by the conventions of CF for packed data."""
    if "scale_factor" not in attributes:
        return stored
    values = stored * np.float64(attributes["scale_factor"]) + attributes["add_offset"]
    return np.where(stored == attributes["_FillValue"], np.nan, values).astype(np.float32)


def write_input(folder: Path) -> None:
    """The recording, as the exporter ``hdf5`` writes it, and the images."""
    rng = np.random.default_rng(8)
    with h5py.File(folder / "eeg.h5", "w", track_order=True) as file:
        file.attrs["eegstore_version"] = eegstore.__version__
        for name, values in given_columns().items():
            dtype = h5py.string_dtype() if values.dtype.kind == "U" else values.dtype
            dataset = file.create_dataset(f"trials/{name}", data=values.astype(dtype))
            dataset.attrs["producer"] = json.dumps({"kind": "source"})
        signal = file["trials/eeg"]
        signal.attrs.update(sfreq=SFREQ, units="uV")
        for axis, values in ((1, CH_NAMES), (2, np.arange(N_TIMES) / SFREQ - 0.1)):
            scale = file.create_dataset(f"axis{axis}", data=values)
            scale.make_scale()
            signal.dims[axis].attach_scale(scale)
    for name in IMAGES:
        image = folder / "images" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(image)
    twin, original = (folder / "images" / name for name in (IMAGES[5], IMAGES[0]))
    twin.write_bytes(original.read_bytes())


def build_in_shards(
    recipe: Mapping[str, Any], out: Path, shard_bytes: int, stimuli: int, **options: Any
) -> eegstore.builder.Report:
    """Build with shards of four chunks, of so many bytes of EEG and of so many stimuli."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_BYTES", shard_bytes)
        patch.setattr(plan, "CHUNK_BYTES", shard_bytes // 4)
        patch.setattr(plan, "STIMULI_SHARD_ROWS", stimuli)
        return eegstore.build(recipe, out, **options)


def build(folder: Path, profile: str, **options: Any) -> Path:
    """The store ``folder/PROFILE.zarr`` of the input in a folder.

    Three shards of trials and two of stimuli; options are those of ``eegstore.build``.
    """
    store = folder / f"{profile}.zarr"
    with contextlib.chdir(folder):
        recipe = {**RECIPE, "store": PROFILES[profile]}
        build_in_shards(recipe, store, 8 * TRIAL_BYTES, 4, **options)
    return store

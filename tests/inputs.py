"""Small sound input of every format, each in a folder of its own, with the recipe that reads it."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from recordings import write_brainvision, write_eeglab
from samples import write_npy

SYNTHETIC = {"plugin": "synthetic", "n_trials": 4, "n_channels": 2, "n_times": 32}
KEEP = {"plugin": "label", "unmatched": "keep"}
HOG = {"plugin": "hog", "size": 16}
Recipe = dict[str, Any]


def npy(folder: Path) -> Recipe:
    write_npy(folder, train_data=np.ones((3, 2, 8), np.float32), train_labels=np.arange(3))
    return {"source": {"plugin": "npy", "path": str(folder), "sfreq": 100.0}}


def hdf5(folder: Path) -> Recipe:
    with h5py.File(folder / "trials.h5", "w") as file:
        file["eeg"] = np.ones((3, 2, 8), np.float32)
    path = str(folder / "trials.h5")
    return {"source": {"plugin": "hdf5", "path": path, "eeg": "eeg", "sfreq": 100.0}}


def mindbigdata(folder: Path) -> Recipe:
    values = ",".join(["0"] * 440)
    rows = [
        f"{number}\t1\tMU\t{channel}\t5\t440\t{values}\n"
        for number, channel in enumerate(("TP9", "FP1", "FP2", "TP10"))
    ]
    (folder / "MU.txt").write_text("".join(rows))
    return {"source": {"plugin": "mindbigdata", "path": str(folder / "MU.txt"), "n_times": 440}}


def idx(folder: Path, opener: Callable[..., Any] = open, suffix: str = "") -> Recipe:
    images, labels = folder / f"images-idx3-ubyte{suffix}", folder / f"labels-idx1-ubyte{suffix}"
    with opener(images, "wb") as file:
        file.write(struct.pack(">IIII", 0x803, 2, 8, 8) + bytes(range(128)))
    with opener(labels, "wb") as file:
        file.write(struct.pack(">II", 0x801, 2) + bytes([0, 1]))
    return stimuli({"plugin": "idx", "images": str(images), "labels": str(labels)})


def stimuli(section: Recipe, *extract: Recipe) -> Recipe:
    return {
        "source": SYNTHETIC, "stimuli": section, "pairing": KEEP, "extract": [HOG, *extract]
    }  # fmt: skip


def images(folder: Path) -> Recipe:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    for number, suffix in enumerate(("png", "jpg", "jpeg", "bmp", "gif", "tif", "tiff", "webp")):
        Image.fromarray(pixels).save(folder / f"{number}.{suffix}")
    return stimuli({"plugin": "image-folder", "path": str(folder)})


def recording(path: Path) -> Recipe:
    pytest.importorskip("mne")
    return {"source": {"plugin": "mne", "path": str(path), "tmin": 0.0, "tmax": 0.5}}


def fif(folder: Path, name: str = "rec_raw.fif") -> Recipe:
    mne = pytest.importorskip("mne")
    raw = mne.io.RawArray(
        np.zeros((3, 500)), mne.create_info(3, 100.0, "eeg"), verbose="ERROR"
    ).set_annotations(mne.Annotations([1.0, 3.0], 0.0, ["face", "house"]))
    raw.save(folder / name, verbose="ERROR")
    return recording(folder / name)


def fif_epochs(folder: Path) -> Recipe:
    fif(folder)
    mne = pytest.importorskip("mne")
    raw = mne.io.read_raw(folder / "rec_raw.fif", verbose="ERROR")
    epochs = mne.Epochs(raw, tmin=0, tmax=0.5, baseline=None, verbose="ERROR")
    epochs.save(folder / "rec-epo.fif", verbose="ERROR")
    (folder / "rec_raw.fif").unlink()
    return recording(folder / "rec-epo.fif")


def eeglab(folder: Path) -> Recipe:
    write_eeglab(folder / "rec.set", "rec.fdt")
    return recording(folder / "rec.set")


def brainvision(folder: Path) -> Recipe:
    write_brainvision(folder / "rec.vhdr")
    return recording(folder / "rec.vhdr")


def model(folder: Path, side: str) -> Recipe:
    """A CLIP model, and one image in a folder beside it."""
    pytest.importorskip("transformers")
    from tiny_clip import write_tiny_clip

    write_tiny_clip(folder, width=16, image_size=16)
    shown = folder.parent / f"{folder.name}-images"
    shown.mkdir()
    Image.new("RGB", (16, 16)).save(shown / "0.png")
    section = {"plugin": f"clip-{side}", "model": str(folder)}
    recipe = stimuli({"plugin": "image-folder", "path": str(shown)}, section)
    return recipe | {"extract": [section]}


def compared(folder: Path, pairing: str) -> Recipe:
    """A pairing of the columns that the conformance kit has in both tables."""
    return {
        "pairing": {
            "plugin": pairing, "query": "trials/embedding", "gallery": "stimuli/embedding"
        }
    }  # fmt: skip


def published(folder: Path) -> Recipe:
    """A split by the labels of the conformance kit's trials."""
    path = folder / "split.json"
    path.write_text(json.dumps({"train": [0, 1], "val": [2], "test": [3]}))
    return {"split": {"plugin": "published", "path": str(path), "by": "label"}}


INPUT: dict[str, Callable[[Path], Recipe]] = {
    "npy": npy,
    "hdf5": hdf5,
    "mindbigdata": mindbigdata,
    "idx": idx,
    "idx in gzip": lambda folder: idx(folder, gzip.open, ".gz"),
    "image-folder": images,
    "mne: FIF": fif,
    "mne: FIF in gzip": lambda folder: fif(folder, "rec_raw.fif.gz"),
    "mne: FIF epochs": fif_epochs,
    "mne: EEGLAB": eeglab,
    "mne: BrainVision": brainvision,
    "clip-image": lambda folder: model(folder, "image"),
    "clip-text": lambda folder: model(folder, "text"),
}


def as_toml(recipe: Recipe) -> str:
    """A recipe as TOML: JSON's strings, numbers and lists are TOML's."""
    lines = []
    for name, section in recipe.items():
        for one in section if isinstance(section, list) else [section]:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in one.items()]
    return "\n".join(lines)

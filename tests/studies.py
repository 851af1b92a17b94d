"""A study as a test makes it up: clean, or with a leak planted in it; and the store of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
from PIL import Image

import eegstore

SUBJECTS, SESSIONS, BLOCKS, TRIALS = 4, 3, 6, 12
CONCEPTS, IMAGES = 4, 6
SFREQ, N_CHANNELS, N_TIMES = 128.0, 4, 64
SOURCE = json.dumps({"kind": "source"})
Array = np.ndarray[Any, Any]


@dataclass
class Study:
    """Trials and images; leaks are planted by changing them in place.

    Images 0 to 3 of a concept are shown in train, 4 and 5 in test.
    """

    columns: dict[str, Array]
    eeg: Array
    images: dict[str, Image.Image]
    rng: np.random.Generator

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def at(self, **values: int | str) -> Array:
        """The rows whose columns have these values."""
        wanted = [self[name] == value for name, value in values.items()]
        return np.flatnonzero(np.logical_and.reduce(wanted))

    def show(self) -> None:
        """Let each trial show an image of its label and its split."""
        number = self.rng.permutation(len(self["label"]))
        of_test = self["split"] == "test"
        image = np.where(of_test, 4 + number % 2, number % 4)
        pairs = zip(self["label"].tolist(), image.tolist(), strict=True)
        self.columns["stimulus_key"] = np.array([path(*one) for one in pairs])

    def move(self, rows: Array, split: str) -> None:
        """Put trials into another split, with an image that it shows."""
        self["split"][rows] = split
        for row in rows.tolist():
            image = 4 + row % 2 if split == "test" else row % 4
            self["stimulus_key"][row] = path(int(self["label"][row]), image)

    def build(self, folder: Path, **sections: Any) -> eegstore.Store:
        """The store of it, which need not outlive a power loss."""
        with mock.patch.object(os, "fsync"):
            eegstore.build(self.recipe(folder) | sections, folder / "s.zarr", executor="serial")
        return eegstore.open_store(folder / "s.zarr")

    def recipe(self, folder: Path) -> dict[str, Any]:
        """Write the files, and say how they are read."""
        with h5py.File(folder / "trials.h5", "w") as file:
            # As the exporter of a store marks its files: then every column comes along.
            file.attrs["eegstore_version"] = "0"
            for name, values in {"eeg": self.eeg, **self.columns}.items():
                text = values.dtype.kind == "U"
                data = values.astype(object) if text else values
                dtype = h5py.string_dtype() if text else None
                column = file.create_dataset(f"trials/{name}", data=data, dtype=dtype)
                column.attrs["producer"] = SOURCE
        for name, image in self.images.items():
            (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            image.save(folder / "images" / name)
        return {
            "name": "study",
            "source": {"plugin": "hdf5", "path": str(folder / "trials.h5"), "sfreq": SFREQ},
            "stimuli": {"plugin": "image-folder", "path": str(folder / "images")},
        }


def path(label: int, image: int) -> str:
    """Where an image of a concept lies."""
    return f"{label:02}_concept{label}/{image}.png"


def pattern(rng: np.random.Generator) -> Image.Image:
    """A smooth picture unlike any other."""
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC)


def clean(design: str = "blocks", n_subjects: int = SUBJECTS, seed: int = 0) -> Study:
    """A study without leaks.

    Two of six blocks of each session are in test (``"blocks"``), or one of three sessions
    (``"sessions"``), or that with two concepts of which train has none (``"zero-shot"``).
    """
    rng = np.random.default_rng(seed)
    trial = np.arange(n_subjects * SESSIONS * BLOCKS * TRIALS)
    place, block = trial % TRIALS, trial // TRIALS % BLOCKS
    session = trial // (TRIALS * BLOCKS) % SESSIONS
    held_out = np.isin(block, (2, 5)) if design == "blocks" else session == 2
    drawn = [rng.permutation(np.arange(TRIALS) % CONCEPTS) for _ in range(len(trial) // TRIALS)]
    label = np.concatenate(drawn)
    if design == "zero-shot":
        label = label % 2 + 2 * held_out
    columns = {
        "subject": trial // (TRIALS * BLOCKS * SESSIONS), "session": session, "block": block,
        "onset": 1.5 * place + 60.0 * block + 5, "label": label,
        "split": np.where(held_out, "test", "train"),
    }  # fmt: skip
    steps = rng.normal(size=(len(trial), N_CHANNELS, N_TIMES)).cumsum(axis=-1)
    gain = 1 + 0.2 * rng.random((len(trial), 1, 1))
    eeg = (10 * gain * steps + np.arange(N_CHANNELS)[:, None]).astype(np.float32)
    images = {path(one, k): pattern(rng) for one in range(CONCEPTS) for k in range(IMAGES)}
    study = Study(columns, eeg, images, rng)
    study.show()
    return study


def repeat_stimuli(study: Study) -> None:
    rows = study.at(split="test")[:6]
    study["stimulus_key"][rows] = [path(int(label), 1) for label in study["label"][rows]]


def tear_blocks(study: Study) -> None:
    for session in range(SESSIONS):
        study.move(study.at(subject=1, session=session, block=2)[:4], "train")


def tear_sessions(study: Study) -> None:
    study.move(study.at(subject=0, session=2, block=0), "train")


def copy_trials(study: Study) -> None:
    train, test = study.at(split="train"), study.at(split="test")
    noise = study.rng.normal(size=study.eeg[0].shape).astype(np.float32)
    study.eeg[test[3]] = 1.7 * study.eeg[train[40]] + 5 + noise
    study.eeg[test[70]] = study.eeg[train[9]]


def copy_images(study: Study) -> None:
    for label in range(CONCEPTS):
        shown = study.images[path(label, 0)].resize((60, 60))
        study.images[path(label, 4)] = Image.eval(shown, lambda value: int(0.9 * value) + 8)


def overlap(study: Study) -> None:
    before, after = (study.at(subject=0, session=1, block=block) for block in (1, 2))
    study["onset"][after] += study["onset"][before[-1]] + 0.2 - study["onset"][after[0]]


def share_concepts(study: Study) -> None:
    rows = study.at(split="test")[::3]
    study["label"][rows] = 1
    study.move(rows, "test")


def favour_a_label(study: Study) -> None:
    for start in range(0, len(study["label"]), TRIALS):
        labels = np.array([0] * 7 + [1, 1, 2, 2, 3])
        study["label"][start : start + TRIALS] = study.rng.permutation(labels)
    study.show()


def normalise_with_the_test(study: Study) -> None:
    eeg = study.eeg.astype(np.float64)
    eeg -= eeg.mean(axis=(0, 2), keepdims=True)
    study.eeg[:] = eeg / eeg.std(axis=(0, 2), keepdims=True)


def order_by_label(study: Study) -> None:
    """A train block shows one label each, and a test block that of its neighbour in time."""
    label = study["label"].reshape(-1, BLOCKS, TRIALS)
    for recording, blocks in enumerate(label):
        a, b, c, d = np.roll(np.arange(CONCEPTS), recording)
        blocks[:] = np.array([a, b, b, c, d, d])[:, None]
        blocks[2, TRIALS // 2 :] = c
    study.show()


def favour_by_subject(study: Study) -> None:
    label = study["label"].reshape(-1, SESSIONS * BLOCKS, TRIALS)
    for subject, blocks in enumerate(label):
        for block in blocks:
            rest = study.rng.choice(CONCEPTS, 4)
            block[:] = study.rng.permutation(np.r_[np.full(8, subject), rest])
    study.show()


def everything(study: Study) -> None:
    """All leaks at once, in a study of seven subjects, whose labels follow from time or subject."""
    order_by_label(study)
    for subject, label in ((3, 0), (4, 0), (5, 3), (6, 0)):
        rows = study.at(subject=subject)
        drawn = study.rng.integers(0, CONCEPTS, len(rows))
        study["label"][rows] = np.where(study.rng.random(len(rows)) < 0.8, label, drawn)
    study.show()
    study.move(study.at(subject=2, session=1, split="test"), "train")
    for plant in (repeat_stimuli, tear_blocks, copy_images, overlap):
        plant(study)
    copy_trials(study)
    normalise_with_the_test(study)


# What is planted, in a study of which design, and the check that has to find it.
LEAKS: dict[str, tuple[str, Callable[[Study], None]]] = {
    "stimulus-across-splits": ("blocks", repeat_stimuli),
    "block-across-splits": ("blocks", tear_blocks),
    "session-across-splits": ("sessions", tear_sessions),
    "near-duplicate-trials": ("blocks", copy_trials),
    "near-duplicate-images": ("blocks", copy_images),
    "overlapping-windows": ("blocks", overlap),
    "concept-overlap": ("zero-shot", share_concepts),
    "class-imbalance": ("blocks", favour_a_label),
    "fitted-on-test": ("blocks", normalise_with_the_test),
    "time-baseline": ("blocks", order_by_label),
    "identity-baseline": ("blocks", favour_by_subject),
}

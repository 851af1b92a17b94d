"""Plugins and stores that the tests of the report are made with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import eegstore
from eegstore import Block, ColumnSpec, Splits, Stimuli, Trials, digest_bytes, registry
from planted_images import HOG, planted

CH_NAMES = ("Fz", "Cz", "Pz", "Oz", "O1", "O2", "P7", "P8", "T7", "EOG")
HOSTILE = (
    "<script>alert(1)</script>",
    '" onmouseover="alert(2)',
    "' onfocus='alert(3)' autofocus='",
    "]]><!-- &amp; {{7*7}}",
    "\u202etxet desrever",
    "שלום עולם",
    "very long " * 600,
    "javascript:alert(4)",
)


@dataclass(frozen=True)
class Waves:
    """Labels in turn: a rhythm of 10 Hz, and a bump of three heights, one after another; in V."""

    name: ClassVar[str] = "waves"
    version: ClassVar[str] = "1"
    n_trials: int = field(default=90, metadata={"description": "Number."})
    short: bool = field(default=False, metadata={"description": "Pad the end of some trials."})
    notice: str = field(default="", metadata={"description": "Notice."})
    n_labels: int = field(default=3, metadata={"description": "Labels."})

    def scan(self) -> Trials:
        trial = np.arange(self.n_trials)
        columns = {"subject": np.array([f"s{one % 2}" for one in trial])}
        if self.short:
            columns["n_samples"] = np.where(trial % 5 == 0, 100, 128)
        return Trials(
            n_trials=self.n_trials, ch_names=CH_NAMES, sfreq=128.0,
            ch_types=("eeg",) * 9 + ("eog",), times=np.arange(128) / 128 - 0.25, units="V",
            label=trial % self.n_labels, columns=columns, notice=self.notice,
        )  # fmt: skip

    def read(self, start: int, stop: int) -> Any:
        every = [np.random.default_rng(one).normal(size=(10, 128)) for one in range(start, stop)]
        eeg, time = np.stack(every) * 3 + 40, np.arange(128) / 128 - 0.25
        eeg += 10 * np.sin(2 * np.pi * 10 * time)
        for row, trial in enumerate(range(start, stop)):
            eeg[row, 3] += 5 * (trial % 3) * np.exp(-0.5 * ((time - 0.3) / 0.05) ** 2)
            if self.short and trial % 5 == 0:
                eeg[row, :, 100:] = np.nan
        return (eeg * 1e-6).astype(np.float32)


@dataclass(frozen=True)
class Shown:
    """Coloured squares, one or more a concept, with texts of any kind."""

    name: ClassVar[str] = "shown"
    version: ClassVar[str] = "1"
    concepts: tuple[str, ...] = field(default=("cat", "dog", "owl"), metadata={"description": "N"})
    per_concept: int = field(default=2, metadata={"description": "Images of each."})
    missing: str = field(default="", metadata={"description": "A file without which none is read."})

    def scan(self) -> Stimuli:
        number = np.arange(len(self.concepts) * self.per_concept)
        names = np.array([self.concepts[one // self.per_concept] for one in number])
        return Stimuli(
            image_path=np.array([f"{name}/{one}.png" for one, name in enumerate(names)]),
            label=number // self.per_concept, concept=names,
            caption=np.array([f"a {name}" for name in names]),
            content_id=np.array([digest_bytes(b"%d" % one) for one in number]),
        )  # fmt: skip

    def read(self, start: int, stop: int) -> list[Any]:
        if self.missing and not Path(self.missing).exists():
            raise eegstore.InputError(f"{self.missing}: there is no such file")
        patches = [np.random.default_rng(one).integers(0, 256, (6, 8, 3), dtype=np.uint8)
                   for one in range(start, stop)]  # fmt: skip
        return [np.kron(one, np.ones((20, 20, 1), dtype=np.uint8)) for one in patches]


@dataclass(frozen=True)
class Worth:
    """Stands for the extractor ``quality``: two parts, the second of which is the score."""

    name: ClassVar[str] = "worth"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)

    def describe(self, inputs: Any) -> ColumnSpec:
        units = {"feature_units": ["V", "1"]}
        return ColumnSpec(
            ("feature",), (2,), "float32", {"feature": ["spread", "score"]}, "", units
        )

    def __call__(self, block: Block) -> Any:
        spread = block["eeg"].std(axis=(1, 2))
        return np.stack([spread, np.exp(-spread * 1e5)], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Vectors:
    """Stands for a model: vectors of images, or of captions, that follow from what is read."""

    name: ClassVar[str] = "vectors"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "stimuli"
    reads: ClassVar[tuple[str, ...]] = ("image",)

    def describe(self, inputs: Any) -> ColumnSpec:
        return ColumnSpec(("embedding",), (6,), "float32")

    def __call__(self, block: Block) -> Any:
        seeds = [int(np.asarray(image).sum()) for image in block["image"]]
        return np.stack([_direction(seed) for seed in seeds])


@dataclass(frozen=True)
class Texts(Vectors):
    """As ``Vectors``, of captions."""

    name: ClassVar[str] = "texts"
    reads: ClassVar[tuple[str, ...]] = ("caption",)

    def __call__(self, block: Block) -> Any:
        return np.stack([_direction(sum(caption.encode())) for caption in block["caption"]])


def _direction(seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=6).astype(np.float32)


@dataclass(frozen=True)
class Learnt:
    """Stands for a column learnt from EEG: the only channel, which is the target and noise."""

    name: ClassVar[str] = "learnt"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)
    target: str = field(default="stimuli/hog", metadata={"description": "Column."})

    def describe(self, inputs: Any) -> ColumnSpec:
        return ColumnSpec(("embedding",), inputs["eeg"].shape[1:], "float32")

    def __call__(self, block: Block) -> Any:
        return block["eeg"][:, 0]


@dataclass(frozen=True)
class Folds:
    """Four folds, by stimulus."""

    name: ClassVar[str] = "folds"
    version: ClassVar[str] = "1"

    def __call__(self, trials: Trials, stimulus: Any, stimuli: Stimuli | None) -> Splits:
        return Splits(np.full(trials.n_trials, "train"), stimulus % 4)


KINDS = {"source": (Waves,), "stimuli": (Shown,), "split": (Folds,),
         "extractor": (Worth, Vectors, Texts, Learnt)}  # fmt: skip


@contextmanager
def installed() -> Iterator[None]:
    """The plugins of this module are installed."""
    found = registry.plugins()
    added = tuple(
        registry.Plugin(kind, one.name, one.version, "theirs", "1.0", "ok", one)
        for kind, classes in KINDS.items()
        for one in classes
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "plugins", lambda: found + added)
        yield


def waves_recipe(**changes: Any) -> dict[str, Any]:
    """A store with everything that a section needs, but for what is learnt."""
    whole: dict[str, Any] = {
        "name": "waves",
        "source": {"plugin": "waves"},
        "stimuli": {"plugin": "shown"},
        "pairing": {"plugin": "label", "choose": "cycle"},
        "split": {"plugin": "random", "test_size": 0.2, "seed": 0},
        "extract": [
            {"plugin": "worth", "as": "quality"},
            {"plugin": "vectors", "as": "clip_image"},
            {"plugin": "texts", "as": "clip_text"},
        ],
    }
    return {key: value for key, value in (whole | changes).items() if value is not None}


def build(out: Path, **changes: Any) -> eegstore.Store:
    """Build ``waves_recipe`` with changes."""
    eegstore.build(waves_recipe(**changes), out, executor="serial")
    return eegstore.open_store(out)


def learnt(folder: Path, noise: float) -> eegstore.Store:
    """A store with a column that finds its stimulus, the better the less noise there is."""
    return planted(folder, noise=noise, extract=[HOG, {"plugin": "learnt"}])

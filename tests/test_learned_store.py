"""A planted embedding from files to the evaluation: built, weighed by quality, killed, asked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import eegstore
from eegstore.evaluate import evaluate
from eegstore_plugins.training import Training
from planted import SFREQ, Planted
from planted_images import HOG, features, write_images
from samples import data_files

RIDGE = {"plugin": "ridge", "target": "stimuli/hog"}
CONTRASTIVE = {
    "plugin": "contrastive", "target": "stimuli/hog", "device": "cpu", "n_folds": 2,
    "checkpoint_epochs": 1,
}  # fmt: skip
BUILD = (
    "import json, sys, eegstore\n"
    "eegstore.build(json.loads(sys.argv[1]), sys.argv[2], executor='serial')"
)


@dataclass(frozen=True)
class OfImages(Planted):
    """What is planted are the features of images."""

    known: NDArray[np.float32] = field(kw_only=True)

    @cached_property
    def embeddings(self) -> NDArray[np.float32]:
        return self.known


def written(folder: Path, extract: list[dict[str, Any]], ratio: float, **sizes: int) -> Any:
    """The recipe of a planted study; its images and its EEG are in ``folder``.

    Every image is a concept of its own; those of the test split are in no train trial.
    """
    n_stimuli = sizes["n_train"] + sizes["n_test"]
    paths = write_images(folder / "images", n_stimuli, 1)
    known = features(folder / "images", paths)
    data = OfImages(ratio, **sizes, width=known.shape[1], known=known)
    columns = {"stimulus_key": np.array(paths)[data.stimulus], "split": data.split}
    with h5py.File(folder / "eeg.h5", "w") as file:
        file.attrs["eegstore_version"] = "0"
        file["trials/eeg"] = data.eeg
        file["trials/eeg"].attrs["sfreq"] = SFREQ
        for name, values in columns.items():
            file[f"trials/{name}"] = values.astype(object)
            file[f"trials/{name}"].attrs["producer"] = '{"kind": "source"}'
    return {
        "name": "planted",
        "source": {"plugin": "hdf5", "path": str(folder / "eeg.h5")},
        "stimuli": {"plugin": "image-folder", "path": str(folder / "images")},
        "extract": [HOG, *extract],
    }


def built(folder: Path, made: Any) -> eegstore.Store:
    eegstore.build(made, folder / "s.zarr", executor="serial")
    return eegstore.open_store(folder / "s.zarr")


@pytest.mark.parametrize("query", ["ridge", "cca"])
def test_what_is_planted_is_found_among_200_unseen_concepts(tmp_path: Path, query: str) -> None:
    extract = [{"plugin": query, "target": "stimuli/hog"}]
    store = built(tmp_path, written(tmp_path, extract, 1.0, n_train=300, n_test=200))
    found = evaluate(store, query, "hog")
    assert (found.n_query, found.n_gallery) == (200, 200)
    assert found.scores["top5"].value > 0.6
    assert found.verdict == "above chance (p = 0.001)"


@pytest.mark.parametrize("seed", range(3))
def test_what_is_not_there_is_not_found(tmp_path: Path, seed: int) -> None:
    made = written(tmp_path, [RIDGE], 0.0, n_train=300, n_test=200, seed=seed)
    found = evaluate(built(tmp_path, made), "ridge", "hog")
    top5 = found.scores["top5"]
    assert top5.low <= top5.chance <= top5.high
    assert found.verdict.startswith("no evidence of decoding")


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_contrastive_finds_what_is_planted_and_nothing_where_nothing_is(tmp_path: Path) -> None:
    verdicts = {}
    for ratio in (1.0, 0.0):
        folder = tmp_path / str(ratio)
        folder.mkdir()
        made = written(folder, [CONTRASTIVE], ratio, n_train=600, n_test=200, n_channels=16)
        verdicts[ratio] = evaluate(built(folder, made), "contrastive", "hog")
    assert verdicts[1.0].scores["top5"].value > 0.6
    assert verdicts[1.0].verdict == "above chance (p = 0.001)"
    nothing = verdicts[0.0].scores["top5"]
    assert nothing.low <= nothing.chance <= nothing.high
    assert verdicts[0.0].verdict.startswith("no evidence of decoding")


def test_trials_that_quality_gives_no_weight_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    """Half of the train trials are flat: their quality is 0, and nothing is learnt of them."""
    sizes = {"n_train": 60, "n_test": 20, "repetitions": 2, "n_channels": 4, "n_times": 64}
    found = []
    for name, weight in (("weighed", {"weight": "quality"}), ("left out", {})):
        folder = tmp_path / name
        folder.mkdir()
        made = written(folder, [{"plugin": "quality"}, RIDGE | weight], 1.0, **sizes)
        with h5py.File(folder / "eeg.h5", "r+") as file:
            file["trials/eeg"][:60] = 0.0
            file["trials/split"][:60] = "train" if weight else "val"
        found.append(built(folder, made))
    weighed, left_out = found
    score = weighed.trials["quality"][:][:, -1]
    assert (score[:60] == 0).all()
    # All others count alike but for their own quality, which here hardly differs.
    assert np.ptp(score[60:120]) < 0.1
    np.testing.assert_allclose(
        weighed.trials["ridge"][-20:], left_out.trials["ridge"][-20:], rtol=0, atol=0.02
    )
    assert evaluate(weighed, "ridge", "hog").scores["mrr"].value > 0.3


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"n_train": 60, "n_test": 10, "repetitions": 2, "n_channels": 4, "n_times": 32}
    slow = CONTRASTIVE | {"width": 8, "batch_size": 16, "max_epochs": 40, "patience": 40}
    made = written(tmp_path, [slow], 1.0, **sizes)
    whole, store = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    eegstore.build(made, whole, executor="serial")
    process = subprocess.Popen([sys.executable, "-c", BUILD, json.dumps(made), str(store)])
    beside = store.with_name(store.name + ".build")
    while process.poll() is None and not list(beside.glob("fit-*/training-1.safetensors")):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    begun: list[tuple[int, int]] = []
    epoch = Training.epoch

    def noted(self: Training, number: int) -> None:
        begun.append((self._number, number))
        epoch(self, number)

    monkeypatch.setattr(Training, "epoch", noted)
    eegstore.build(made, store, executor="serial")
    # The first network was done, of the second a pass at least.
    assert begun[0] > (1, 0)
    assert begun[-1] == (2, 39)
    assert data_files(store) == data_files(whole)
    assert eegstore.open_store(store).digest == eegstore.open_store(whole).digest
    assert not beside.exists()

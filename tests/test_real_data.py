"""Real recordings, from their files to a store and its export."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegstore
from eegstore import InputError

pytestmark = pytest.mark.shared_data

MUSE = ("TP9", "FP1", "FP2", "TP10")


def parse(path: Path) -> dict[int, tuple[int, dict[str, list[float]]]]:
    """An independent reading of MindBigData's text: event to label and values by channel."""
    events: dict[int, tuple[int, dict[str, list[float]]]] = {}
    for line in path.read_text().splitlines():
        _, event, _, channel, code, _, data = line.split("\t")
        values = [float(value) for value in data.split(",")]
        events.setdefault(int(event), (int(code), {}))[1][channel] = values
    return events


def muse_recipe(shared_data: Path) -> dict[str, Any]:
    mnist = shared_data / "mnist-t10k"
    return {
        "source": {
            "plugin": "mindbigdata",
            "path": str(shared_data / "mindbigdata-raw" / "MU_excerpt.txt"),
            "n_times": 440,
        },
        "stimuli": {
            "plugin": "idx",
            "images": str(mnist / "t10k-images-idx3-ubyte.gz"),
            "labels": str(mnist / "t10k-labels-idx1-ubyte.gz"),
            "caption": "This picture is digit {concept}",
        },
        "pairing": {"plugin": "label", "choose": "cycle"},
        "split": {"plugin": "random", "test_size": 0.2, "seed": 0},
        "extract": [{"plugin": "spectral"}, {"plugin": "temporal"}],
    }


def test_the_muse_excerpt_is_exported_to_the_number(shared_data: Path, tmp_path: Path) -> None:
    eegstore.build(muse_recipe(shared_data), tmp_path / "mu.zarr")
    assert eegstore.verify(tmp_path / "mu.zarr", deep=True) == []
    out = eegstore.export(tmp_path / "mu.zarr", tmp_path / "out", "npy", {"images": True})
    events = parse(shared_data / "mindbigdata-raw" / "MU_excerpt.txt")
    assert len(events) == 10
    names = eegstore.open_store(tmp_path / "mu.zarr").trials["split"][:]
    for split in ("train", "test"):
        eeg = np.load(out / f"{split}_eeg_data.npy")
        labels = np.load(out / f"{split}_labels.npy")
        chosen = [event for event, name in zip(events.values(), names, strict=True)
                  if name == split]  # fmt: skip
        expected = np.array(
            [[channels[name][:440] for name in MUSE] for _, channels in chosen], dtype=np.float32
        )
        np.testing.assert_array_equal(eeg, expected)
        assert labels.tolist() == [code for code, _ in chosen]
        # The k-th trial of a label has the k-th image of that label.
        assert np.load(out / f"{split}_images.npy").shape == (len(chosen), 28, 28, 3)


def test_the_mindwave_excerpt_reports_its_bad_events_by_line(
    shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data / "mindbigdata-raw" / "MW_excerpt.txt"
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    bad = [
        number
        for number, fields in enumerate(lines, 1)
        if int(fields[5]) != len(fields[6].split(","))
    ]
    assert len(bad) == 20
    source = {"plugin": "mindbigdata", "path": str(path), "n_times": 1000}
    with pytest.raises(InputError, match=rf"20 .*line {bad[0]}: .*allow_skips = true"):
        eegstore.build({"source": source}, tmp_path / "mw.zarr")
    report = eegstore.build({"source": source | {"allow_skips": True}}, tmp_path / "mw.zarr")
    assert report.history is not None
    [hint] = report.hints
    assert "20 of 20 trials are shorter than n_times = 1000 and are padded (pad = 'nan')" in hint
    assert [int(line.split(":")[0].removeprefix("line ")) for line in report.history.skipped] == bad
    eeg = eegstore.open_store(tmp_path / "mw.zarr").trials["eeg"][:]
    sound = [fields for number, fields in enumerate(lines, 1) if number not in bad]
    assert eeg.shape == (20, 1, 1000)
    for trial, fields in zip(eeg, sound, strict=True):
        values = np.array([float(value) for value in fields[6].split(",")], dtype=np.float32)[:1000]
        np.testing.assert_array_equal(trial[0, : len(values)], values)
        assert np.isnan(trial[0, len(values) :]).all()


@pytest.mark.parametrize(
    ("path", "options", "n_trials"),
    [
        ("eeglab-epochs/eeglab_data_epochs_ica.set", {}, 80),
        ("eeg-formats/mne_test.edf", {"tmin": 0.0, "tmax": 0.5}, None),
        ("eeg-formats/eeglab_testbva.vhdr", {"tmin": 0.0, "tmax": 0.2}, None),
    ],
)
def test_real_formats_build_with_the_values_of_mne(
    shared_data: Path, tmp_path: Path, path: str, options: dict[str, Any], n_trials: int | None
) -> None:
    import mne

    file = shared_data / path
    source = {"plugin": "mne", "path": str(file), **options}
    features = [{"plugin": "temporal"}]
    eegstore.build({"source": source, "extract": features}, tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    if path.endswith(".set"):
        expected = mne.read_epochs_eeglab(file, verbose="ERROR").get_data(picks="eeg")
    else:
        raw = mne.io.read_raw(file, preload=True, verbose="ERROR")
        events, ids = mne.events_from_annotations(raw, verbose="ERROR")
        window = {"tmin": options["tmin"], "tmax": options["tmax"], "baseline": None}
        epochs = mne.Epochs(raw, events, ids, preload=True, verbose="ERROR", **window,
                            event_repeated="drop")  # fmt: skip
        expected = epochs.get_data(picks="eeg")
    assert n_trials is None or len(expected) == n_trials
    np.testing.assert_array_equal(store.trials["eeg"][:], expected.astype(np.float32))
    assert store.trials["eeg"].spec.units == "V"


def test_real_clip_embeddings_pass_through_a_store_and_its_export(
    shared_data: Path, tmp_path: Path
) -> None:
    """The ten digits' embeddings, read from HDF5 as EEG would be, come out unchanged."""
    import h5py

    saved = np.load(
        shared_data / "trainflow-clip-digits" / "ViT-B_32_features_mindbigdata_train.npz"
    )
    features = saved["image_or_second"]
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["signal"] = features[:, None, :]
        file["digit"] = np.arange(10)
    source = {"plugin": "hdf5", "path": str(tmp_path / "in.h5"), "eeg": "signal",
              "labels": "digit", "sfreq": 128}  # fmt: skip
    eegstore.build({"source": source}, tmp_path / "a.zarr")
    out = eegstore.export(tmp_path / "a.zarr", tmp_path / "out", "npy")
    np.testing.assert_array_equal(
        np.load(out / "train_eeg_data.npy")[:, 0], features.astype(np.float32)
    )


def test_the_demo_command_works_on_real_input(shared_data: Path, tmp_path: Path) -> None:
    """The shipped recipe, its paths given on the command line."""
    mnist = shared_data / "mnist-t10k"
    text = shared_data / "mindbigdata-raw" / "MU_excerpt.txt"
    overrides = {
        "source.path": text,
        "stimuli.images": mnist / "t10k-images-idx3-ubyte.gz",
        "stimuli.labels": mnist / "t10k-labels-idx1-ubyte.gz",
        "extract": '[{plugin = "spectral"}]',
    }
    sets = [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "eegstore", "build", "mindbigdata", "mu.zarr", *sets, "--json"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_trials"] == 10

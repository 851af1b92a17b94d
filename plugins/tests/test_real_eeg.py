"""Both packages as they are installed, in one store of real EEG.

`make test-plugins` makes the environment for it: eegstore from its wheel, each package by pip.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pycatch22
import pytest
from pyriemann.geometry.covariance import covariances
from pyriemann.geometry.mean import gmean
from pyriemann.geometry.tangentspace import tangent_space

import eegstore

pytestmark = pytest.mark.shared_data

RECIPE = """
[source]
plugin = "mne"
path = "{path}"

[split]
plugin = "random"
test_size = 0.25
seed = 0

[[extract]]
plugin = "riemann-covariance"
estimator = "scm"

[[extract]]
plugin = "riemann-tangent"

[[extract]]
plugin = "riemann-tangent"
as = "log_euclidean"
estimator = "lwf"
metric = "logeuclid"
regularisation = 1e-3

[[extract]]
plugin = "catch22"
catch24 = true
"""


def command(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run eegstore as a user does."""
    done = subprocess.run(
        [sys.executable, "-m", "eegstore", *arguments], cwd=work, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def epochs() -> Path:
    """The file of 80 epochs of 30 channels of EEG and two of EOG."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "eeglab-epochs"
    if not folder.is_dir():
        pytest.skip("the folder of real recordings is not beside the project")
    return folder / "eeglab_data_epochs_ica.set"


@pytest.fixture(scope="module")
def work(epochs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe and the store that was built of it."""
    folder = tmp_path_factory.mktemp("real-eeg")
    (folder / "recipe.toml").write_text(RECIPE.format(path=epochs.as_posix()))
    command(folder, "build", "recipe.toml", "a.zarr")
    return folder


@pytest.fixture(scope="module")
def trials(work: Path) -> Any:
    return eegstore.open_store(work / "a.zarr").trials


@pytest.fixture(scope="module")
def eeg(epochs: Path) -> np.ndarray:
    """float64, (trial, channel, time): what MNE reads itself, as a store holds it."""
    import mne

    read = mne.read_epochs_eeglab(epochs, verbose="ERROR").get_data(picks="eeg")
    return read.astype(np.float32).astype(np.float64)


def test_all_comes_from_installed_distributions(work):
    rows = json.loads(command(work, "plugins", "--json").stdout)
    found = {row["name"]: (row["distribution"], row["status"]) for row in rows}
    for name, distribution in [
        ("riemann-covariance", "eegstore-riemann"),
        ("riemann-tangent", "eegstore-riemann"),
        ("catch22", "eegstore-catch22"),
    ]:
        assert found[name] == (f"{distribution} {version(distribution)}", "ok")
    for module in ("eegstore", "eegstore_riemann", "eegstore_catch22"):
        code = f"import {module}; print({module}.__file__)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=work, capture_output=True, text=True
        )
        assert Path(done.stdout.strip()).is_relative_to(sys.prefix)


def test_covariances_are_those_that_pyriemann_gives(trials, eeg):
    column = trials["riemann_covariance"]
    assert column[:].shape == (80, 30, 30)
    np.testing.assert_allclose(column[:], covariances(eeg, "scm"), rtol=1e-9, atol=1e-18)
    assert column.spec.units == "V^2"
    ch_names = list(trials["eeg"].spec.coords["channel"])
    assert column.spec.dims == ("channel", "riemann_covariance_other_channel")
    assert list(column.spec.coords["riemann_covariance_other_channel"]) == ch_names


def expected_vectors(
    eeg: np.ndarray, train: np.ndarray, estimator: str, metric: str, share: float
) -> np.ndarray:
    """By pyriemann, at the mean of the train trials."""
    found = covariances(eeg, estimator)
    variances = np.array([np.diag(one).mean() for one in found])
    added = share * (variances + np.median(variances[train]))
    found += added[:, None, None] * np.eye(eeg.shape[1])
    return tangent_space(found, gmean(found[train], metric=metric), metric=metric)


@pytest.mark.parametrize(
    ("column", "options"),
    [
        ("riemann_tangent", ("oas", "riemann", 1e-5)),
        ("log_euclidean", ("lwf", "logeuclid", 1e-3)),
    ],
)
def test_tangent_vectors_are_at_the_mean_of_the_train_trials_alone(trials, eeg, column, options):
    train = trials["split"][:] == "train"
    assert train.sum() == 60
    found = trials[column][:]
    assert found.shape == (80, 30 * 31 // 2)
    expected = expected_vectors(eeg, train, *options)
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * size)
    at_the_mean_of_all = expected_vectors(eeg, np.full(80, True), *options)
    assert np.abs(found - at_the_mean_of_all).max() > 1e-3 * size
    names = trials["eeg"].spec.coords["channel"]
    features = list(trials[column].spec.coords[f"{column}_feature"])
    assert features[:2] == [f"{names[0]}:{names[0]}", f"{names[0]}:{names[1]}"]
    assert features[-1] == f"{names[29]}:{names[29]}"


def test_features_are_those_that_pycatch22_gives(trials, eeg):
    column = trials["catch22"]
    assert column[:].shape == (80, 30, 24)
    names = list(column.spec.coords["catch22_feature"])
    for trial, channel in [(0, 0), (17, 5), (79, 29)]:
        direct = pycatch22.catch22_all(eeg[trial, channel].tolist(), catch24=True)
        assert direct["names"] == names
        expected = np.array(direct["values"], np.float32)
        np.testing.assert_array_equal(column[:][trial, channel], expected)
    np.testing.assert_allclose(column[:][..., 22], eeg.mean(axis=2), rtol=1e-4, atol=1e-9)


def test_the_store_says_where_each_column_comes_from(trials):
    producer = trials["log_euclidean"].attrs["eegstore"]["producer"]
    assert producer["distribution"] == "eegstore-riemann"
    assert producer["distribution_version"] == version("eegstore-riemann")
    assert producer["options"] == {
        "estimator": "lwf", "metric": "logeuclid", "regularisation": 1e-3,
    }  # fmt: skip


def test_the_store_is_sound_and_any_workers_give_the_same(work):
    command(work, "verify", "--deep", "a.zarr")
    digests = []
    for out, workers in (("a.zarr", []), ("b.zarr", ["--executor", "serial"])):
        if workers:
            command(work, "build", "recipe.toml", out, *workers)
        digests.append(json.loads(command(work, "info", out, "--json").stdout)["digest"])
    assert digests[0] == digests[1]

"""A third party's distribution, from its own wheel in an environment of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import eegstore
from environments import Environment, with_eegstore

THEIRS = Path(__file__).parent / "their_plugin"
RECIPE = """
[source]
plugin = "synthetic"
n_trials = 30
n_channels = 5
n_times = 64
seed = 4

[[extract]]
plugin = "peak"
scale = 2.5
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """eegstore from its wheel, and their plugin from its source, in a fresh environment."""
    environment = with_eegstore(tmp_path_factory.mktemp("third-party"))
    environment.install(str(THEIRS))
    return environment


@pytest.fixture(scope="module")
def store(environment: Environment) -> Path:
    """A store that their plugin has a column in."""
    (environment.work / "recipe.toml").write_text(RECIPE)
    environment.run("eegstore", "build", "recipe.toml", "a.zarr")
    return environment.work / "a.zarr"


def test_the_environment_has_its_own_eegstore(environment):
    for name in ("eegstore", "eegstore_plugins", "their_plugin"):
        file = environment.run("python", "-c", f"import {name}; print({name}.__file__)").stdout
        assert Path(file.strip()).is_relative_to(environment.work / "venv")


def test_the_plugin_is_listed_with_its_distribution(environment):
    rows = json.loads(environment.run("eegstore", "plugins", "--json").stdout)
    assert [row for row in rows if row["name"] == "peak"] == [
        {
            "kind": "extractor",
            "name": "peak",
            "version": "1",
            "distribution": "their-plugin 2.5",
            "status": "ok",
        }
    ]
    assert {row["status"] for row in rows} == {"ok"}


def test_the_plugins_options_are_in_the_schema_of_recipes(environment):
    schema = json.loads(environment.run("eegstore", "schema", "recipe").stdout)
    sections = schema["properties"]["extract"]["items"]["anyOf"]
    (peak,) = [one for one in sections if one["title"] == "peak"]
    assert peak["properties"]["scale"]["exclusiveMinimum"] == 0
    assert peak["properties"]["scale"]["unit"] == "1"


def test_the_plugins_column_has_its_values_its_axis_and_its_origin(store):
    trials = eegstore.open_store(store).trials
    eeg, peak = trials["eeg"], trials["peak"]
    assert eeg[:].shape == (30, 5, 64)
    expected = np.float32(2.5) * np.abs(eeg[:]).max(axis=2)
    assert expected.min() > 0
    np.testing.assert_array_equal(peak[:], expected)
    assert peak[:].dtype == np.float32
    assert peak.spec.dims == ("channel",)
    assert list(peak.spec.coords["channel"]) == list(eeg.spec.coords["channel"])
    assert peak.spec.units == "uV"
    producer = peak.attrs["eegstore"]["producer"]
    assert producer["distribution"] == "their-plugin"
    assert producer["distribution_version"] == "2.5"
    assert producer["options"] == {"scale": 2.5}


def test_the_plugins_options_are_validated_as_any(environment, store):
    wrong = "extract.0.scale=0"
    done = environment.run("eegstore", "build", "recipe.toml", "b.zarr", "--set", wrong, code=3)
    assert "scale: got 0, expected greater than 0" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_plugins_column_is_exported(environment, store):
    environment.run("eegstore", "export", "a.zarr", "flat", "--format", "npy")
    features = np.load(environment.work / "flat" / "train_eeg_features.npy", allow_pickle=False)
    eeg = np.load(environment.work / "flat" / "train_eeg_data.npy", allow_pickle=False)
    np.testing.assert_array_equal(features, np.float32(2.5) * np.abs(eeg).max(axis=2))


def test_without_the_plugin_a_store_still_opens_and_a_build_says_what_is_missing(
    environment, store
):
    """The last test: what it removes, no other test needs."""
    peak = eegstore.open_store(store).trials["peak"][:]
    environment.pip("uninstall", "--quiet", "--yes", "their-plugin")
    facts = json.loads(environment.run("eegstore", "info", "a.zarr", "--json").stdout)
    (entry,) = [one for one in facts["columns"] if one["name"] == "peak"]
    assert entry["shape"] == [30, 5]
    environment.run("eegstore", "verify", "--deep", "a.zarr")
    code = "import eegstore; print(eegstore.open_store('a.zarr').trials['peak'][:].tolist())"
    assert json.loads(environment.run("python", "-c", code).stdout) == peak.tolist()
    done = environment.run("eegstore", "build", "recipe.toml", "a.zarr", code=3)
    assert done.stderr.startswith("eegstore: ")
    assert "no extractor is called 'peak'" in done.stderr
    remedy = "the store's was made by their-plugin 2.5; run: pip install their-plugin==2.5\n"
    assert done.stderr.endswith(f"; {remedy}")
    assert len(done.stderr.splitlines()) == 1
    np.testing.assert_array_equal(eegstore.open_store(store).trials["peak"][:], peak)

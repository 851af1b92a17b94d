"""A third party's distribution, from its own wheel in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import eegstore

ROOT = Path(__file__).resolve().parents[1]
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


@dataclass(frozen=True)
class Environment:
    """A virtual environment and a folder to work in."""

    bin: Path
    work: Path

    def run(self, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs there; its exit status is as expected."""
        program, *arguments = command
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        done = subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.work,
            env=kept | {"PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def pip(self, *arguments: str) -> None:
        self.run("python", "-m", "pip", *arguments)

    def install(self, *what: str) -> None:
        # Nothing is downloaded, and what the environment of the tests has installed is no reason
        # to leave a distribution out.
        offline = ("--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed")
        self.pip("install", "--quiet", *offline, *what)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """eegstore from its wheel, and their plugin from its source, in a fresh environment."""
    work = tmp_path_factory.mktemp("third-party")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", work]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = work.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True, timeout=120)
    bin_ = work / "venv" / ("Scripts" if os.name == "nt" else "bin")
    environment = Environment(bin_, work)
    # The dependencies are those of the tests' own environment. A line of a .pth file adds its
    # folder and does not read the .pth files in there, so that no editable eegstore comes along.
    site = environment.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(site.stdout.strip()) / "lent.pth").write_text("\n".join(sorted(lent)) + "\n")
    environment.install(str(wheel))
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
    assert len(done.stderr.splitlines()) == 1
    np.testing.assert_array_equal(eegstore.open_store(store).trials["peak"][:], peak)

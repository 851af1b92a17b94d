"""The plugin guide, word for word, as a new user follows it in an environment of their own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import eegstore
from environments import with_eegstore
from handbook import GUIDE, blocks, guide_class

BEGIN, CHANGED, DEBUGGING = blocks(GUIDE.read_text(), "console")
LOOK, _, TESTS = blocks(GUIDE.read_text(), "python")
# The words of the guide are left as they are: what keeps pip off the network is said here.
OFFLINE: Final = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # pip's own way to say no
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PYTHONNOUSERSITE": "1",
}


@dataclass(frozen=True)
class Shell:
    """A user's shell, in a folder, with an environment first on its path."""

    bin: Path
    folder: Path

    def run(self, line: str) -> str:
        """What a line prints; it succeeds, and says nothing on stderr but what pip does."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        path = os.pathsep.join([str(self.bin), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env={**kept, **OFFLINE, "PATH": path},
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert "eegstore: " not in done.stderr, done.stderr
        return done.stdout

    def follow(self, block: str) -> list[str]:
        """What each line of a block prints."""
        lines = [line.removeprefix("$ ") for line in block.splitlines()]
        assert all(line.startswith("$ ") for line in block.splitlines())
        return [self.run(line) for line in lines]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell whose environment has eegstore and nothing of a plugin."""
    environment = with_eegstore(tmp_path_factory.mktemp("guide"))
    folder = tmp_path_factory.mktemp("user")
    return Shell(environment.bin, folder)


def column(shell: Shell) -> tuple[Any, Any]:
    """The EEG, and the plugin's column."""
    trials = eegstore.open_store(shell.folder / "my-extractor.zarr").trials
    assert trials["my_extractor"].spec.dims == ("channel",)
    assert trials["my_extractor"].spec.units == trials["eeg"].spec.units
    return trials["eeg"][:], trials["my_extractor"][:]


@pytest.mark.timeout(600)  # several builds, and the kit twice
@pytest.mark.nightly
def test_from_nothing_to_a_column_that_is_changed_and_computed_anew(shell: Shell) -> None:
    *_, tested, built = shell.follow(BEGIN)
    assert " passed" in tested
    assert "failed" not in tested
    assert "computed trials/eeg, trials/my_extractor" in " ".join(built.split())
    eeg, values = column(shell)
    np.testing.assert_allclose(values, np.sqrt(np.square(eeg.astype(float)).mean(-1)), rtol=1e-5)
    (shell.folder / "look.py").write_text(LOOK)
    assert f"('channel',) {shell_units(shell)}" in shell.run("python look.py")
    shell.run("eegstore info my-extractor.zarr --provenance my_extractor")

    project = shell.folder / "my-extractor"
    (project / "src" / "my_extractor" / "__init__.py").write_text(guide_class())
    (project / "tests" / "test_my_extractor.py").write_text(TESTS)
    tested, shown, checked, rebuilt = shell.follow(CHANGED)
    assert " passed" in tested
    assert "tmax" in shown
    assert "10.0" in shown
    assert checked
    shell.run("eegstore plugins check ./my-extractor")
    shell.run("cd my-extractor && python -m ruff check . && python -m ruff format --check .")
    assert "computed trials/my_extractor" in " ".join(rebuilt.split())
    eeg, values = column(shell)
    np.testing.assert_array_equal(values, np.ptp(eeg, axis=-1))

    *_, listed = shell.follow(DEBUGGING)
    assert "my-extractor" in listed


def shell_units(shell: Shell) -> str:
    units: str = eegstore.open_store(shell.folder / "my-extractor.zarr").trials["eeg"].spec.units
    return units

"""``eegstore plugins new``: what it writes passes its tests, and is used, unedited."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eegstore
from eegstore.scaffolding import SUMMARIES
from environments import Environment, with_eegstore

NIGHTLY = [pytest.mark.nightly, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """eegstore from its wheel, with which every kind of project is scaffolded."""
    return with_eegstore(tmp_path_factory.mktemp("scaffold"))


def scaffolded(environment: Environment, kind: str, name: str) -> list[str]:
    """Scaffold a project; the commands that are printed as the next ones."""
    shown = environment.run("eegstore", "plugins", "new", name, "--kind", kind).stdout
    return [line.strip() for line in shown.partition("Next:\n")[2].splitlines()]


def run_printed(environment: Environment, command: str) -> None:
    """Run a line that was printed; what pip would fetch is there already."""
    for part in command.split(" && "):
        program, *arguments = shlex.split(part)
        if "pip" in arguments:
            (project,) = [one for one in arguments if "[test]" in one]
            environment.install("-e", project.removesuffix("[test]"))
        else:
            environment.run(program, *arguments)


@pytest.mark.parametrize(
    "kind",
    ["extractor", *(pytest.param(one, marks=NIGHTLY) for one in SUMMARIES if one != "extractor")],
)
def test_a_scaffold_passes_its_tests_ruff_and_mypy_and_is_used_unedited(
    environment, monkeypatch, kind
):
    """Four commands: new, and the three that it prints; and those of its workflow."""
    # What mypy learns of numpy and eegstore holds for all kinds.
    monkeypatch.setenv("MYPY_CACHE_DIR", str(environment.work / "mypy"))
    name = f"their-{kind}"
    for command in scaffolded(environment, kind, name):
        run_printed(environment, command)
    folder = environment.work / name
    inside = Environment(environment.bin, folder)
    workflow = (folder / ".github" / "workflows" / "test.yml").read_text()
    tools = [line.partition("- run: ")[2] for line in workflow.splitlines() if "- run: " in line]
    assert tools == [
        "python -m pip install -e '.[test]'",
        "python -m pytest",
        "python -m ruff check .",
        "python -m mypy",
    ]
    for tool in tools[2:]:
        inside.run(*shlex.split(tool))
    inside.run("python", "-m", "ruff", "format", "--check", ".")
    facts = tomllib.loads((folder / "pyproject.toml").read_text())
    assert facts["tool"]["mypy"]["strict"] is True
    assert facts["project"]["optional-dependencies"]["test"] == ["mypy", "pytest", "ruff"]
    rows = json.loads(environment.run("eegstore", "plugins", "--json").stdout)
    (row,) = [row for row in rows if row["name"] == name]
    assert (row["kind"], row["status"]) == (kind, "ok")
    assert row["distribution"] == f"{name} 0.1.0"
    store = eegstore.open_store(environment.work / f"{name}.zarr")
    assert store.trials.n_rows > 0
    if kind == "extractor":
        check_amplitudes(store.trials)
        return
    made: dict[str, Callable[[], bool]] = {
        "source": lambda: store.trials["eeg"][:].shape == (3, 2, 4),
        "stimuli": lambda: store.stimuli.n_rows == 8,
        "pairing": lambda: min(store.trials["stimulus"][:]) >= 0,
        "split": lambda: store.splits["test"] == round(store.trials.n_rows * 0.2),
        "exporter": lambda: (environment.work / f"{name}.csv").stat().st_size > 0,
    }
    assert made[kind]()


def check_amplitudes(trials: Any) -> None:
    """The column of the scaffolded extractor has the values of its class."""
    eeg, column = trials["eeg"], trials["their_extractor"]
    expected = np.sqrt(np.square(eeg[:].astype(np.float64)).mean(axis=-1))
    np.testing.assert_allclose(column[:], expected, rtol=1e-6)
    assert column.spec.units == eeg.spec.units
    assert column.attrs["eegstore"]["producer"]["distribution"] == "their-extractor"


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_a_project_with_the_longest_name_is_sound_too(environment):
    name = "a-" + "very-" * 7 + "big"
    assert len(name) == 40
    scaffolded(environment, "split", name)
    inside = Environment(environment.bin, environment.work / name)
    inside.run("python", "-m", "ruff", "check", ".")
    checked = environment.run("eegstore", "plugins", "check", f"./{name}", "--json").stdout
    assert json.loads(checked)[0]["ok"]


def test_the_templates_are_in_the_wheel(environment):
    (wheel,) = Path(environment.work).glob("*.whl")
    listed = environment.run("python", "-m", "zipfile", "-l", wheel.name).stdout
    for kind in SUMMARIES:
        assert f"eegstore/templates/{kind}.py.template" in listed
        assert f"eegstore/templates/{kind}_test.py.template" in listed

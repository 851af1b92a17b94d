"""What the README and its page on training say runs as it stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import eegstore
from handbook import blocks

README = Path(__file__).parents[1] / "README.md"
TRAIN = README.parent / "docs" / "train.md"


@pytest.fixture(scope="module")
def beside_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the demo's store was built."""
    folder = tmp_path_factory.mktemp("readme")
    eegstore.build("demo", folder / "demo" / "demo.zarr")
    return folder


def test_its_training_code_runs(beside_demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    section = README.read_text().partition("## Train from it")[2].partition("\n## ")[0]
    codes = blocks(section, "python")
    assert len(codes) == 3
    monkeypatch.chdir(beside_demo)
    names: dict[str, object] = {"torch": torch, "eegstore": eegstore, "rows": [3, 1]}
    for code in codes:
        exec(code, names)
    batch = names["batch"]
    assert isinstance(batch, dict)
    assert batch["eeg"].dtype == torch.float32


def test_the_page_on_training_learns_finds_and_goes_on(
    beside_demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchdata")
    learning, finding, going_on = blocks(TRAIN.read_text(), "python")
    monkeypatch.chdir(beside_demo)
    names: dict[str, Any] = {}
    exec(learning, names)
    exec(finding, names)
    assert names["accuracy"] > 2 / len(names["rows"])
    exec(going_on, names)
    # Whoever goes on is where it was: the sixth epoch is the same once more.
    model, batches = names["model"], names["batches"]
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    state = batches.state_dict()
    exec(going_on[going_on.index("for name, kept") :], names)
    assert batches.state_dict() == state
    for name, value in model.state_dict().items():
        assert value.equal(trained[name])

"""What the README says of training runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import eegstore

README = Path(__file__).parents[1] / "README.md"


def test_its_training_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    section = README.read_text().partition("## Train from it")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    eegstore.build("demo", "demo/demo.zarr")
    names: dict[str, object] = {"torch": torch, "eegstore": eegstore, "rows": [3, 1]}
    for block in blocks:
        exec(block, names)
    batch = names["batch"]
    assert isinstance(batch, dict)
    assert batch["eeg"].dtype == torch.float32

"""Names and files of the states of fitted extractors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import eegstore
from eegstore import ColumnSpec, PluginError, RecipeError
from eegstore.root import build_folder
from eegstore.states import decoded, encoded
from samples import data_files, recipe
from test_fit import Centred, extracting, own_extractors, seen

__all__ = ["own_extractors"]
SPECTRAL, CENTRED = {"plugin": "spectral", "as": "centred_state"}, {"plugin": "centred"}


@pytest.mark.parametrize("sections", [[SPECTRAL, CENTRED], [CENTRED, SPECTRAL]])
def test_a_state_and_a_column_of_one_name_are_refused(tmp_path: Path, sections: Any) -> None:
    with pytest.raises(RecipeError, match="trials has a column 'centred_state' already"):
        eegstore.build(recipe(extract=sections), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_a_state_and_an_axis_of_one_name_are_refused(tmp_path: Path, register: Any) -> None:
    @dataclass(frozen=True)
    class Hidden(Centred):
        """Has an axis of hidden states."""

        name: ClassVar[str] = "hidden"

        def describe(self, inputs: Any) -> ColumnSpec:
            return ColumnSpec(("state",), (2,), "float32", {"state": ["a", "b"]})

    register(Hidden)
    with pytest.raises(RecipeError, match="the axis 'hidden_state' of trials/hidden"):
        eegstore.build(extracting("hidden"), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_a_damaged_state_of_an_interrupted_build_is_fitted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(Centred, "__call__", lambda *_: None)
        with pytest.raises(PluginError):
            eegstore.build(extracting("centred"), path)
    (file,) = build_folder(path).glob("state-*")
    content = file.read_bytes()
    file.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    eegstore.build(extracting("centred"), path)
    assert seen == [("centred", 45, 45)] * 2
    eegstore.build(extracting("centred"), tmp_path / "fresh.zarr")
    assert data_files(path) == data_files(tmp_path / "fresh.zarr")


def test_a_flipped_bit_of_a_state_raises_nothing_but_that_it_is_damaged() -> None:
    content = encoded({"mean": np.arange(3.0)})
    for bit in range(content.size * 8):
        flipped = content.copy()
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            decoded(flipped, "here")
        except eegstore.DamageError:
            continue

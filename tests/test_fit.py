"""Extractors that are fitted: on train rows alone, once, and what they learnt is in the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import eegstore
from eegstore import Block, ColumnSpec, InputError, PluginError, RecipeError, builder, render
from eegstore.states import decoded, encoded
from samples import EEG, data_files, modified, recipe
from third_party import IMPORTS, lay_out

seen: list[tuple[str, int, int]] = []


@dataclass(frozen=True)
class Centred:
    """Each channel's largest value, less its mean over the train rows."""

    name: ClassVar[str] = "centred"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)
    scale: float = field(default=1.0, metadata={"description": "Factor."})

    def describe(self, inputs: Any) -> ColumnSpec:
        return ColumnSpec(("channel",), inputs["eeg"].shape[:1], "float32")

    def fit(self, blocks: Iterable[Block]) -> dict[str, Any]:
        peaks = np.concatenate([block["eeg"].max(axis=-1) for block in blocks])
        again = np.concatenate([block["eeg"].max(axis=-1) for block in blocks])
        np.testing.assert_array_equal(peaks, again)
        seen.append((self.name, len(peaks), sum(block.n_valid.size for block in blocks)))
        return {"mean": peaks.mean(axis=0, dtype=np.float64), "names": np.array(["a", "b"])}

    def restore(self, state: Any) -> None:
        assert state["names"].tolist() == ["a", "b"]
        object.__setattr__(self, "_mean", state["mean"])

    def __call__(self, block: Block) -> Any:
        values = self.scale * (block["eeg"].max(axis=-1) - self._mean)  # type: ignore[attr-defined]
        return values.astype(np.float32)


@dataclass(frozen=True)
class Scaled:
    """Reads a fitted column and a label, and is fitted itself."""

    name: ClassVar[str] = "scaled"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("centred", "label")

    def describe(self, inputs: Any) -> ColumnSpec:
        return ColumnSpec(("channel",), inputs["centred"].shape, "float32")

    def fit(self, blocks: Iterable[Block]) -> dict[str, Any]:
        rows = np.concatenate([block["centred"] for block in blocks])
        seen.append((self.name, len(rows), 0))
        return {"std": rows.std(axis=0)}

    def restore(self, state: Any) -> None:
        object.__setattr__(self, "_std", state["std"])

    def __call__(self, block: Block) -> Any:
        return block["centred"] / self._std + block["label"][:, None].astype(np.float32)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Brightness:
    """Mean of an image, less the mean of those that train trials showed."""

    name: ClassVar[str] = "brightness"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "stimuli"
    reads: ClassVar[tuple[str, ...]] = ("image",)

    def describe(self, inputs: Any) -> ColumnSpec:
        return ColumnSpec((), (), "float64")

    def fit(self, blocks: Iterable[Block]) -> dict[str, Any]:
        means = np.array([image.mean() for block in blocks for image in block["image"]])
        seen.append((self.name, len(means), 0))
        return {"mean": means.mean()}

    def restore(self, state: Any) -> None:
        object.__setattr__(self, "_mean", state["mean"])

    def __call__(self, block: Block) -> Any:
        return np.array([image.mean() - self._mean for image in block["image"]])  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def own_extractors(register: Callable[..., None]) -> None:
    """The extractors of this module are installed."""
    seen.clear()
    register(Centred, Scaled, Brightness)


def extracting(*names: str, **changes: Any) -> dict[str, Any]:
    return recipe(extract=[{"plugin": name} for name in names], **changes)


def train_of(store: eegstore.Store) -> Any:
    return np.flatnonzero(store.trials["split"][:] == "train")


def test_it_is_fitted_on_valid_train_rows_alone(tmp_path: Path) -> None:
    eegstore.build(extracting("centred"), tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    train, peaks = train_of(store), store.trials["eeg"][:].max(axis=-1)
    assert seen == [("centred", 45, 45)]
    assert len(train) == 45
    expected = (peaks - peaks[train].mean(axis=0, dtype=np.float64)).astype(np.float32)
    np.testing.assert_array_equal(store.trials["centred"][:], expected)
    assert abs(peaks.mean() - peaks[train].mean()) > 1e-3  # all rows would give another mean


def test_invalid_trials_are_not_among_the_train_rows(tmp_path: Path) -> None:
    folder = tmp_path / "npy"
    folder.mkdir()
    eeg = np.random.default_rng(0).normal(size=(12, 3, 40)).astype(np.float32)
    eeg[4] = 1e6
    eeg[4, 1, 2] = np.nan
    np.save(folder / "train_data.npy", eeg)
    np.save(folder / "train_labels.npy", np.arange(12))
    source = {"plugin": "npy", "path": str(folder), "sfreq": 100, "allow_skips": True}
    changed = extracting("centred", source=source, stimuli=None, pairing=None, split=None)
    eegstore.build(changed, tmp_path / "a.zarr")
    values = eegstore.open_store(tmp_path / "a.zarr").trials["centred"][:]
    assert seen == [("centred", 11, 11)]
    sound = np.delete(np.arange(12), 4)
    peaks = eeg[sound].max(axis=-1)
    np.testing.assert_allclose(values[sound], peaks - peaks.mean(axis=0), rtol=1e-6, atol=1e-6)
    assert np.isnan(values[4]).all()


def test_a_fitted_extractor_reads_another_ones_column(tmp_path: Path) -> None:
    eegstore.build(extracting("scaled", "centred", "spectral"), tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    assert seen == [("centred", 45, 45), ("scaled", 45, 0)]
    centred = store.trials["centred"][:]
    std = centred[train_of(store)].std(axis=0)
    expected = centred / std + store.trials["label"][:][:, None].astype(np.float32)
    np.testing.assert_array_equal(store.trials["scaled"][:], expected)


def test_of_stimuli_those_that_train_trials_show_are_fitted_on(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    @dataclass(frozen=True)
    class Half:
        """Trials of the digits from 6 are tests."""

        name: ClassVar[str] = "half"
        version: ClassVar[str] = "1"

        def __call__(self, trials: Any, stimulus: Any, stimuli: Any) -> Any:
            return np.where(stimulus < 6, "train", "test")

    register(Half, kind="split")
    changed = extracting("brightness", split={"plugin": "half"})
    eegstore.build(changed, tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    assert seen == [("brightness", 6, 0)]
    means = np.array([store.image(row).mean() for row in range(10)])
    np.testing.assert_allclose(store.stimuli["brightness"][:], means - means[:6].mean())


def test_the_state_is_in_the_store_and_no_column_of_it(tmp_path: Path) -> None:
    eegstore.build(extracting("centred"), tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    assert "centred_state" not in store.trials
    (entry,) = [one for one in store.attributes.columns if one.kind == "state"]
    assert entry.path == "trials/centred_state"
    assert entry.key == store.trials["centred"].entry.key
    import zarr

    content = zarr.open_array(tmp_path / "a.zarr" / entry.path)[:]
    state = decoded(np.asarray(content), "state")
    peaks = store.trials["eeg"][:][train_of(store)].max(axis=-1)
    np.testing.assert_array_equal(state["mean"], peaks.mean(axis=0, dtype=np.float64))
    fitted = store.trials["centred"].attrs["eegstore"]["fitted"]
    assert fitted["split"] == "train"
    assert dict(store.trials.to_xarray().sizes)["trial"] == 60  # no warning, which is an error


def test_a_flipped_bit_of_the_state_is_found_and_mended_by_fitting_again(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    digest = eegstore.build(extracting("centred"), path).digest
    (file,) = [one for one in (path / "trials/centred_state/c").rglob("*") if one.is_file()]
    whole = file.read_bytes()
    file.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    assert [one.file for one in eegstore.verify(path, deep=True)] == ["trials/centred_state/c/0"]
    before = modified(path)
    seen.clear()
    assert eegstore.build(extracting("centred"), path, deep=True).digest == digest
    assert seen == [("centred", 45, 45)]
    assert file.read_bytes() == whole
    after = modified(path)
    shards = [name for name in before if name.startswith("trials/centred/c")]
    assert shards
    assert {name: after[name] for name in shards} == {name: before[name] for name in shards}
    assert eegstore.verify(path, deep=True) == []


def test_a_lost_shard_is_made_again_from_the_state_without_fitting(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    eegstore.build(extracting("centred"), path)
    whole = data_files(path)
    (shard,) = [name for name in whole if name.startswith("trials/centred/c")]
    (path / shard).unlink()
    seen.clear()
    eegstore.build(extracting("centred"), path)
    assert seen == []
    assert data_files(path) == whole


def test_an_interrupted_build_does_not_fit_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zarr"
    called = Centred.__call__

    def fails(self: Any, block: Block) -> Any:
        raise ValueError("not yet")

    monkeypatch.setattr(Centred, "__call__", fails)
    with pytest.raises(PluginError, match="not yet"):
        eegstore.build(extracting("centred"), path)
    assert seen == [("centred", 45, 45)]
    monkeypatch.setattr(Centred, "__call__", called)
    eegstore.build(extracting("centred"), path)
    assert seen == [("centred", 45, 45)]
    fresh = tmp_path / "fresh.zarr"
    eegstore.build(extracting("centred"), fresh)
    assert data_files(path) == data_files(fresh)


def test_another_split_fits_anew_and_leaves_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    eegstore.build(extracting("spectral", "centred"), path)
    before, seen[:] = modified(path), []
    other = {"plugin": "random", "test_size": 0.25, "seed": 1}
    eegstore.build(extracting("spectral", "centred", split=other), path)
    assert seen == [("centred", 45, 45)]
    after = modified(path)
    kept = {name for name in before if name.startswith(("trials/eeg/c", "trials/spectral/c"))}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    store = eegstore.open_store(path)
    peaks = store.trials["eeg"][:].max(axis=-1)
    expected = (peaks - peaks[train_of(store)].mean(axis=0, dtype=np.float64)).astype(np.float32)
    np.testing.assert_array_equal(store.trials["centred"][:], expected)


def test_a_change_elsewhere_does_not_fit_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    eegstore.build(extracting("centred"), path)
    seen.clear()
    eegstore.build(extracting("centred", "temporal"), path)
    assert seen == []
    sections = [{"plugin": "centred", "scale": 2.0}, {"plugin": "temporal"}]
    eegstore.build(recipe(extract=sections), path)
    assert seen == [("centred", 45, 45)]


def test_a_pairing_cannot_read_what_follows_from_it(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    @dataclass(frozen=True)
    class ByFitted:
        """Reads a fitted column."""

        name: ClassVar[str] = "by-fitted"
        version: ClassVar[str] = "1"
        reads: ClassVar[tuple[str, ...]] = ("trials/centred",)

        def __call__(self, trials: Any, stimuli: Any, columns: Any) -> Any:
            raise AssertionError

    register(ByFitted, kind="pairing")
    changed = extracting("centred", pairing={"plugin": "by-fitted"})
    with pytest.raises(RecipeError, match=r"trials/centred, which is fitted .* a cycle"):
        eegstore.build(changed, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_without_a_split_it_is_told_that_all_rows_are_fitted_on(tmp_path: Path) -> None:
    said = "trials/centred: fitted on all rows, as the recipe has no [split]"
    for split, hints, n_rows in ((None, [said], 60), ({"plugin": "random"}, [], 48)):
        changed = extracting("centred", split=split)
        planned = builder.plan(changed, tmp_path / "absent.zarr")
        assert [hint for hint in planned.hints if "fitted" in hint] == hints
        done = eegstore.build(changed, tmp_path / f"{n_rows}.zarr")
        assert [hint for hint in done.hints if "fitted" in hint] == hints
        assert seen.pop() == ("centred", n_rows, n_rows)
        for shown in (render.plan(planned), render.report(done)):
            console = Console(width=200)
            with console.capture() as captured:
                console.print(shown)
            assert (f"note: {said}\n" in captured.get()) == bool(hints)


def test_without_train_rows_the_build_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "npy"
    folder.mkdir()
    np.save(folder / "test_data.npy", np.ones((6, 3, 40), dtype=np.float32))
    np.save(folder / "test_labels.npy", np.arange(6))
    source = {"plugin": "npy", "path": str(folder), "sfreq": 100}
    changed = extracting("centred", source=source, stimuli=None, pairing=None, split=None)
    message = "extractor 'centred': is fitted on the split train, which has no valid rows of trials"
    with pytest.raises(InputError, match=message):
        eegstore.build(changed, tmp_path / "a.zarr")


def test_what_is_no_state_is_refused(tmp_path: Path, register: Callable[..., None]) -> None:
    for given_, message in (
        ([1], r"fit\(\) gave list, expected a Mapping"),
        ({"a": object()}, r"fit\(\) gave objects as 'a', expected numbers or strings"),
    ):

        @dataclass(frozen=True)
        class Odd(Centred):
            """Breaks a promise."""

            name: ClassVar[str] = "odd"

            def fit(self, blocks: Any, given_: Any = given_) -> Any:
                return given_

        register(Odd)
        with pytest.raises(PluginError, match=message):
            eegstore.build(extracting("odd"), tmp_path / "a.zarr", overwrite=True)


def test_a_fit_that_is_not_deterministic_is_found(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    @dataclass(frozen=True)
    class Rolled(Centred):
        """Another state each time."""

        name: ClassVar[str] = "rolled"

        def fit(self, blocks: Any) -> Any:
            return {"mean": np.random.default_rng().normal(size=4), "names": np.array(["a", "b"])}

    register(Rolled)
    with pytest.raises(PluginError, match="gave other values when it was called again"):
        eegstore.build(extracting("rolled"), tmp_path / "a.zarr", check_determinism=True)


def test_blocks_have_as_few_rows_as_an_extractor_wants(
    tmp_path: Path, register: Callable[..., None]
) -> None:
    sizes: list[int] = []

    @dataclass(frozen=True)
    class Few:
        """The row's number, a few rows at a time."""

        name: ClassVar[str] = "few"
        version: ClassVar[str] = "1"
        table: ClassVar[str] = "trials"
        reads: ClassVar[tuple[str, ...]] = ("eeg",)
        block_rows: int = field(default=7, metadata={"description": "Rows at a time."})

        def describe(self, inputs: Any) -> ColumnSpec:
            return ColumnSpec((), (), "int64")

        def fit(self, blocks: Iterable[Block]) -> dict[str, Any]:
            return {"sizes": np.array([block.n_rows for block in blocks])}

        def restore(self, state: Any) -> None:
            assert state["sizes"].tolist() == [7] * 6 + [3]

        def __call__(self, block: Block) -> Any:
            sizes.append(block.n_rows)
            assert block.n_rows == len(block["eeg"]) == len(block.n_valid)
            return np.arange(block.start, block.stop)

    register(Few)
    eegstore.build(extracting("few"), tmp_path / "a.zarr")
    assert sizes == [7] * 8 + [4]
    values = eegstore.open_store(tmp_path / "a.zarr").trials["few"][:]
    np.testing.assert_array_equal(values, np.arange(60))
    for wrong in (0, -3):
        changed = recipe(extract=[{"plugin": "few", "block_rows": wrong}])
        with pytest.raises(PluginError, match=f"block_rows is {wrong}, expected a whole number"):
            eegstore.build(changed, tmp_path / "b.zarr")


@pytest.mark.parametrize("device", ["cuda:97", "cuda:x"])
def test_a_device_that_is_not_there_is_refused_before_anything_runs(
    tmp_path: Path, register: Callable[..., None], device: str
) -> None:
    @dataclass(frozen=True)
    class Elsewhere(Centred):
        """Wants a device."""

        name: ClassVar[str] = "elsewhere"
        device: str = field(default="cpu", metadata={"description": "Where it runs."})

    register(Elsewhere)
    changed = recipe(extract=[{"plugin": "elsewhere", "device": device}])
    with pytest.raises(RecipeError, match=f"device is '{device}', but torch sees"):
        eegstore.build(changed, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


LAID_OUT = f'''{IMPORTS}
@dataclass(frozen=True)
class Learnt:
    """The largest value less the train rows' mean."""
    name: ClassVar[str] = "learnt"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)

    def describe(self, inputs):
        return ColumnSpec(("channel",), inputs["eeg"].shape[:1], "float32")

    def fit(self, blocks):
        return {{"mean": np.concatenate([b["eeg"].max(axis=-1) for b in blocks]).mean(axis=0)}}

    def restore(self, state):
        object.__setattr__(self, "mean", state["mean"])

    def __call__(self, block):
        return block["eeg"].max(axis=-1) - self.mean

@hookimpl
def eegstore_extractors():
    return [Learnt]
'''
RECIPE = f"""
name = "tiny"
[source]
{chr(10).join(f"{key} = {json.dumps(value)}" for key, value in EEG.items())}
[split]
plugin = "random"
[[extract]]
plugin = "learnt"
"""


def test_any_executor_gives_the_same_bytes(tmp_path: Path) -> None:
    environment = os.environ | lay_out(tmp_path / "site", LAID_OUT)
    (tmp_path / "r.toml").write_text(RECIPE)
    for executor in ("serial", "processes"):
        command = [sys.executable, "-m", "eegstore", "build", "r.toml", f"{executor}.zarr"]
        subprocess.run(
            [*command, "--executor", executor, "--workers", "2", "--quiet"],
            cwd=tmp_path, env=environment, check=True, timeout=120,
        )  # fmt: skip
    serial, processes = (data_files(tmp_path / f"{one}.zarr") for one in ("serial", "processes"))
    assert serial == processes
    assert [name for name in serial if "learnt_state" in name]


values = st.dictionaries(
    st.text("abcxyz_", min_size=1, max_size=8),
    st.one_of(
        st.lists(st.floats(allow_nan=False), max_size=5).map(np.array),
        st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5).map(np.array),
        st.lists(st.text("abc é", max_size=4), min_size=1, max_size=3).map(np.array),
    ),
    max_size=4,
)


@given(state=values)
def test_a_state_comes_back_as_it_was(state: dict[str, Any]) -> None:
    content = encoded(state)
    assert encoded(dict(reversed(state.items()))).tobytes() == content.tobytes()
    found = decoded(content, "here")
    assert sorted(found) == sorted(state)
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype

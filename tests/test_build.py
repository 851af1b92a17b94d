"""A build from a recipe to a committed store, and what it does the second time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

import eegstore
from eegstore import (
    Block,
    ColumnSpec,
    InputError,
    PluginError,
    RecipeError,
    commit,
    plan,
    prepare,
)
from eegstore_plugins.hog import Hog
from eegstore_plugins.spectral import Spectral
from eegstore_plugins.synthetic import Synthetic
from samples import DIGITS, EEG, data_files, modified, recipe, write_npy
from tiny_clip import write_tiny_clip

EEG_OPTIONS = {key: value for key, value in EEG.items() if key != "plugin"}


@dataclass(frozen=True)
class Peak:
    """Largest absolute value of each channel."""

    name: ClassVar[str] = "peak"
    version: ClassVar[str] = "1"
    table: ClassVar[str] = "trials"
    reads: ClassVar[tuple[str, ...]] = ("eeg",)
    scale: float = field(default=1.0, metadata={"description": "Factor."})

    def describe(self, inputs: Any) -> ColumnSpec:
        return ColumnSpec(("channel",), inputs["eeg"].shape[:1], "float32")

    def __call__(self, block: Block) -> Any:
        return np.float32(self.scale) * abs(block["eeg"]).max(axis=-1)


Register = Callable[..., None]


def only(*extractors: str) -> dict[str, Any]:
    """A recipe with these extractors and no stimuli."""
    sections = [{"plugin": name} for name in extractors]
    return recipe(stimuli=None, pairing=None, extract=sections)


def test_build_stores_what_the_plugins_give(tmp_path: Path) -> None:
    report = eegstore.build(recipe(), tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")

    source = Synthetic(**EEG_OPTIONS)
    trials, eeg = source.scan(), source.read(0, 60)
    np.testing.assert_array_equal(store.trials["eeg"][:], eeg)
    np.testing.assert_array_equal(store.trials["label"][:], trials.label)
    block = Block({"eeg": eeg}, 0, 60, sfreq=trials.sfreq, times=trials.times)
    np.testing.assert_array_equal(store.trials["spectral"][:], Spectral()(block))
    np.testing.assert_array_equal(store.stimuli["label"][store.trials["stimulus"][:]], trials.label)
    images = [store.image(row) for row in range(10)]
    np.testing.assert_array_equal(store.stimuli["hog"][:], Hog()(Block({"image": images}, 0, 10)))
    assert store.splits == {"test": 15, "train": 45}
    assert store.digest == report.digest
    assert eegstore.verify(tmp_path / "a.zarr", deep=True) == []
    assert not (tmp_path / "a.zarr.build").exists()


def test_building_again_does_nothing_and_says_so(tmp_path: Path) -> None:
    first = eegstore.build(recipe(), tmp_path / "a.zarr")
    before = modified(tmp_path / "a.zarr")
    second = eegstore.build(recipe(), tmp_path / "a.zarr")
    assert second.up_to_date
    assert second.digest == first.digest
    assert modified(tmp_path / "a.zarr") == before


def test_an_added_extractor_is_computed_alone(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    eegstore.build(recipe(), store)
    before = modified(store)
    longer = recipe(extract=[{"plugin": "spectral"}, {"plugin": "hog"}, {"plugin": "temporal"}])
    report = eegstore.build(longer, store)
    assert report.history is not None
    assert report.history.computed == ["trials/temporal"]
    assert sorted(report.history.reused) == ["stimuli/hog", "trials/eeg", "trials/spectral"]
    rewritten = {path for path, when in modified(store).items() if before.get(path) != when}
    others = {path for path in rewritten if "temporal" not in path}
    assert others == {"zarr.json"}
    fresh = eegstore.build(longer, tmp_path / "b.zarr")
    assert report.digest == fresh.digest
    assert data_files(store) == data_files(tmp_path / "b.zarr")


def test_a_changed_option_replaces_its_column_alone(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    eegstore.build(recipe(), store)
    before = modified(store)
    changed = recipe(extract=[{"plugin": "spectral"}, {"plugin": "hog", "orientations": 6}])
    with pytest.raises(InputError, match=r"hog, whose rows are \(1764,\), for rows of \(1176,\);"):
        eegstore.build(changed, store)
    assert modified(store) == before
    report = eegstore.build(changed, store, overwrite=True)
    assert report.history is not None
    assert report.history.computed == ["stimuli/hog"]
    opened = eegstore.open_store(store)
    images = [opened.image(row) for row in range(10)]
    np.testing.assert_array_equal(
        opened.stimuli["hog"][:], Hog(orientations=6)(Block({"image": images}, 0, 10))
    )
    rewritten = {path for path, when in modified(store).items() if before.get(path) != when}
    assert all("hog" in path or path == "zarr.json" for path in rewritten)
    assert eegstore.verify(store, deep=True) == []


def test_another_seed_rewrites_the_split_alone(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    eegstore.build(recipe(), store)
    before = modified(store)
    split = eegstore.open_store(store).trials["split"][:]
    changed = recipe(split={"plugin": "random", "test_size": 0.25, "seed": 1})
    report = eegstore.build(changed, store)
    assert report.history is not None
    assert report.history.computed == []
    assert (eegstore.open_store(store).trials["split"][:] != split).any()
    rewritten = {path for path, when in modified(store).items() if before.get(path) != when}
    assert rewritten == {"zarr.json", "trials/split/zarr.json", "trials/split/c/0"}


def test_a_column_that_left_the_recipe_is_dropped_only_when_asked(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    eegstore.build(recipe(), store)
    files = data_files(store)
    shorter = recipe(extract=[{"plugin": "spectral"}])
    with pytest.raises(InputError, match=r"would lose hog.*--overwrite"):
        eegstore.build(shorter, store)
    assert data_files(store) == files
    report = eegstore.build(shorter, store, overwrite=True)
    assert report.history is not None
    assert report.history.dropped == ["stimuli/hog"]
    assert "hog" not in eegstore.open_store(store).stimuli
    assert not list(store.rglob("*hog*"))
    assert eegstore.verify(store, deep=True) == []


def test_other_trials_replace_a_store_only_when_asked(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    eegstore.build(recipe(), store)
    files = data_files(store)
    other = recipe(source=EEG | {"seed": 4})
    with pytest.raises(InputError, match=r"other input.*--overwrite"):
        eegstore.build(other, store)
    assert data_files(store) == files
    eegstore.build(other, store, overwrite=True)
    source = Synthetic(**EEG_OPTIONS | {"seed": 4})
    np.testing.assert_array_equal(eegstore.open_store(store).trials["eeg"][:], source.read(0, 60))
    assert eegstore.verify(store, deep=True) == []


def _npy_recipe(folder: Path) -> dict[str, Any]:
    source = {"plugin": "npy", "path": str(folder), "sfreq": 128}
    return only("spectral") | {"source": source, "split": {"plugin": "source"}}


def test_input_changed_in_place_is_never_served_stale(tmp_path: Path) -> None:
    eeg = np.random.default_rng(0).standard_normal((20, 2, 128)).astype(np.float32)
    folder = write_npy(tmp_path / "in", train_data=eeg, train_labels=np.zeros(20, dtype=int))
    eegstore.build(_npy_recipe(folder), tmp_path / "a.zarr")
    eeg[7, 1, 5] += 1  # the same size, and the same names
    write_npy(folder, train_data=eeg)
    with pytest.raises(InputError, match="other input"):
        eegstore.build(_npy_recipe(folder), tmp_path / "a.zarr")
    eegstore.build(_npy_recipe(folder), tmp_path / "a.zarr", overwrite=True)
    np.testing.assert_array_equal(eegstore.open_store(tmp_path / "a.zarr").trials["eeg"][:], eeg)


def test_moved_input_keeps_its_columns(tmp_path: Path) -> None:
    eeg = np.random.default_rng(0).standard_normal((20, 2, 128)).astype(np.float32)
    folder = write_npy(tmp_path / "in", train_data=eeg, train_labels=np.zeros(20, dtype=int))
    first = eegstore.build(_npy_recipe(folder), tmp_path / "a.zarr")
    folder.rename(tmp_path / "moved")
    second = eegstore.build(_npy_recipe(tmp_path / "moved"), tmp_path / "a.zarr")
    assert second.history is not None
    assert second.history.computed == []
    assert second.digest == first.digest


@pytest.mark.parametrize("there", ["file", "folder"])
def test_whatever_else_is_at_the_output_is_left_alone(tmp_path: Path, there: str) -> None:
    out = tmp_path / "precious"
    kept = out if there == "file" else out / "thesis.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("three years")
    with pytest.raises(InputError, match="not an eegstore store; nothing was touched"):
        eegstore.build(recipe(), out, overwrite=True)
    assert kept.read_text() == "three years"


def test_trials_with_nan_reject_the_build_by_number(tmp_path: Path) -> None:
    eeg = np.ones((20, 2, 128), dtype=np.float32)
    eeg[3, 0, 0] = np.nan
    eeg[11, 1, 127] = np.inf
    folder = write_npy(tmp_path / "in", train_data=eeg, train_labels=np.zeros(20, dtype=int))
    with pytest.raises(InputError, match=r"Inf in trials 3, 11 .*allow_skips = true under .source"):
        eegstore.build(_npy_recipe(folder), tmp_path / "a.zarr")
    with pytest.raises(eegstore.IncompleteError):
        eegstore.open_store(tmp_path / "a.zarr")


def test_skipped_trials_stay_as_invalid_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    eeg = rng.standard_normal((20, 2, 128)).astype(np.float32)
    eeg[3, 0, 0] = np.nan
    labels = np.arange(20) % 10
    folder = write_npy(tmp_path / "in", train_data=eeg, train_labels=labels)
    source = {"plugin": "npy", "path": str(folder), "sfreq": 128, "allow_skips": True}
    report = eegstore.build(recipe(source=source), tmp_path / "a.zarr")
    assert report.history is not None
    assert report.history.counts["invalid"] == 1
    trials = eegstore.open_store(tmp_path / "a.zarr").trials
    others = np.arange(20) != 3
    np.testing.assert_array_equal(trials["valid"][:], others)
    assert trials["stimulus"][3] == -1
    assert np.isnan(trials["score"][3])
    assert trials["split"][3] == "skipped"
    assert np.isnan(trials["spectral"][3]).all()
    assert np.isfinite(trials["spectral"][others]).all()
    np.testing.assert_array_equal(trials["eeg"][:], eeg)
    strict = recipe(source=source | {"allow_skips": False})
    with pytest.raises(InputError, match="trials 3"):
        eegstore.build(strict, tmp_path / "a.zarr")


def test_columns_are_computed_after_those_that_they_read(
    tmp_path: Path, register: Register
) -> None:
    @dataclass(frozen=True)
    class Doubled(Peak):
        name: ClassVar[str] = "doubled"
        reads: ClassVar[tuple[str, ...]] = ("peak",)

        def describe(self, inputs: Any) -> ColumnSpec:
            return inputs["peak"]

        def __call__(self, block: Block) -> Any:
            return 2 * block["peak"]

    register(Peak, Doubled)
    eegstore.build(only("doubled", "peak"), tmp_path / "a.zarr")
    trials = eegstore.open_store(tmp_path / "a.zarr").trials
    expected = abs(trials["eeg"][:]).max(axis=-1)
    np.testing.assert_array_equal(trials["peak"][:], expected)
    np.testing.assert_array_equal(trials["doubled"][:], 2 * expected)
    # The same from a committed column.
    eegstore.build(only("peak"), tmp_path / "b.zarr")
    report = eegstore.build(only("doubled", "peak"), tmp_path / "b.zarr")
    assert report.history is not None
    assert report.history.computed == ["trials/doubled"]
    trials = eegstore.open_store(tmp_path / "b.zarr").trials
    np.testing.assert_array_equal(trials["doubled"][:], 2 * expected)


def test_columns_that_read_each_other_are_named(tmp_path: Path, register: Register) -> None:
    @dataclass(frozen=True)
    class Chicken(Peak):
        name: ClassVar[str] = "chicken"
        reads: ClassVar[tuple[str, ...]] = ("egg",)

    @dataclass(frozen=True)
    class Egg(Peak):
        name: ClassVar[str] = "egg"
        reads: ClassVar[tuple[str, ...]] = ("chicken",)

    register(Chicken, Egg)
    with pytest.raises(RecipeError, match="cycle: chicken, egg"):
        eegstore.build(only("chicken", "egg"), tmp_path / "a.zarr")
    with pytest.raises(RecipeError, match=r"reads trials/egg, which is not there"):
        eegstore.build(only("chicken"), tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (lambda eeg: np.zeros((len(eeg), 3), np.float32), r"\(60, 3\), expected float32 \(60, 4\)"),
        (lambda eeg: np.zeros(eeg.shape[:2]), "float64"),
        (lambda eeg: np.zeros((1, eeg.shape[1]), np.float32), r"\(1, 4\)"),
        (lambda eeg: np.full(eeg.shape[:2], np.nan, np.float32), "NaN or Inf for row 0"),
        (lambda eeg: 1 / 0, "ZeroDivisionError"),
        (lambda eeg: eeg.__setitem__(0, 0), "read-only"),
        (lambda eeg: None, "NoneType"),
    ],
)
def test_an_extractor_that_breaks_its_promise_is_named(
    tmp_path: Path, register: Register, result: Callable[[Any], Any], complaint: str
) -> None:
    @dataclass(frozen=True)
    class Broken(Peak):
        name: ClassVar[str] = "broken"

        def __call__(self, block: Block) -> Any:
            return result(block["eeg"])

    register(Broken)
    with pytest.raises(PluginError, match=f"(?s)'broken'.*{complaint}"):
        eegstore.build(only("broken"), tmp_path / "a.zarr")
    assert "Traceback" in (tmp_path / "a.zarr.build" / "log.txt").read_text()


def test_images_of_one_content_are_computed_once(tmp_path: Path, register: Register) -> None:
    seen: list[int] = []

    @dataclass(frozen=True)
    class Mean(Peak):
        name: ClassVar[str] = "brightness"
        table: ClassVar[str] = "stimuli"
        reads: ClassVar[tuple[str, ...]] = ("image",)

        def describe(self, inputs: Any) -> ColumnSpec:
            return ColumnSpec((), (), "float32")

        def __call__(self, block: Block) -> Any:
            seen.extend(image[0, 0, 0] for image in block["image"])
            return np.array([image.mean() for image in block["image"]], dtype=np.float32)

    folder = tmp_path / "images"
    folder.mkdir()
    levels = [10, 200, 10, 90, 200, 10]
    for number, level in enumerate(levels):
        Image.new("RGB", (8, 8), (level, level, level)).save(folder / f"{number}.png")
    register(Mean)
    images = {"plugin": "image-folder", "path": str(folder)}
    made = recipe(source=EEG | {"n_classes": 6}, stimuli=images, extract=[{"plugin": "brightness"}])
    eegstore.build(made, tmp_path / "a.zarr")
    assert seen == [10, 200, 90]
    column = eegstore.open_store(tmp_path / "a.zarr").stimuli["brightness"]
    np.testing.assert_array_equal(column[:], np.array(levels, dtype=np.float32))


@pytest.mark.parametrize("codec", ["raw", "fast", "small", "archive"])
def test_every_codec_profile_keeps_the_values(tmp_path: Path, codec: str) -> None:
    eegstore.build(recipe(store={"codec": codec}), tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    source = Synthetic(**EEG_OPTIONS)
    rows = np.array([59, 0, 17, 17, 3])
    np.testing.assert_array_equal(store.trials["eeg"][rows], source.read(0, 60)[rows])
    assert eegstore.verify(tmp_path / "a.zarr", deep=True) == []


def test_a_store_of_an_older_format_is_replaced_only_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        for module in (plan, commit):
            patch.setattr(module, "FORMAT", 1)
        eegstore.build(recipe(), tmp_path / "a.zarr")
    assert len(eegstore.open_store(tmp_path / "a.zarr").trials["eeg"]) == 60
    with pytest.raises(InputError, match=r"would lose eeg.*: its format is older than 2, .*--over"):
        eegstore.build(recipe(), tmp_path / "a.zarr")
    eegstore.build(recipe(), tmp_path / "a.zarr", overwrite=True)
    assert eegstore.open_store(tmp_path / "a.zarr").attributes.format == 2


@pytest.mark.parametrize("codec", ["fast", "small", "archive"])
def test_random_access_stores_one_trial_an_inner_chunk(tmp_path: Path, codec: str) -> None:
    eegstore.build(recipe(store={"codec": codec, "random": True}), tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    assert store.trials["eeg"].values.layout.chunk_rows == 1
    np.testing.assert_array_equal(store.trials["eeg"][41], Synthetic(**EEG_OPTIONS).read(41, 42)[0])


def test_another_caption_recomputes_the_text_embedding_alone(tmp_path: Path) -> None:
    model = str(write_tiny_clip(tmp_path / "clip"))
    extract = [{"plugin": f"clip-{side}", "model": model} for side in ("image", "text")]
    eegstore.build(recipe(extract=extract), tmp_path / "a.zarr")
    before = eegstore.open_store(tmp_path / "a.zarr").stimuli["clip_text"][:]
    other = recipe(stimuli=DIGITS | {"caption": "a dig {concept}"}, extract=extract)
    report = eegstore.build(other, tmp_path / "a.zarr")
    assert report.history is not None
    assert report.history.computed == ["stimuli/clip_text"]
    after = eegstore.open_store(tmp_path / "a.zarr").stimuli["clip_text"][:]
    assert not np.allclose(before, after)


def test_other_weights_in_the_same_folder_recompute_the_embedding(tmp_path: Path) -> None:
    model = str(write_tiny_clip(tmp_path / "clip", seed=0))
    made = recipe(extract=[{"plugin": "clip-image", "model": model}])
    eegstore.build(made, tmp_path / "a.zarr")
    before = eegstore.open_store(tmp_path / "a.zarr").stimuli["clip_image"][:]
    write_tiny_clip(tmp_path / "clip", seed=1)
    eegstore.build(made, tmp_path / "a.zarr")
    after = eegstore.open_store(tmp_path / "a.zarr").stimuli["clip_image"][:]
    assert not np.allclose(before, after)


def test_a_script_without_a_guard_builds_in_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import eegstore\n"
        f"made = {recipe()!r}\n"
        "print('once')\n"
        "print(eegstore.build(made, 'a.zarr', executor='processes', n_workers=2).digest)\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    digest = eegstore.build(recipe(), tmp_path / "b.zarr").digest
    assert done.stdout.split() == ["once", digest]


def test_a_build_that_cannot_fit_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = (10**12, 10**12, 1000)
    monkeypatch.setattr(
        prepare.shutil, "disk_usage", lambda path: type("Usage", (), {"free": usage[2]})
    )
    with pytest.raises(InputError, match=r"MB free, the build writes .* make room"):
        eegstore.build(recipe(), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_two_columns_of_one_name_need_another_name(tmp_path: Path) -> None:
    twice = [{"plugin": "spectral"}, {"plugin": "spectral", "window": "boxcar"}]
    with pytest.raises(RecipeError, match=r"has a column 'spectral' already.*as ="):
        eegstore.build(recipe(extract=twice), tmp_path / "a.zarr")
    twice[1]["as"] = "spectral_boxcar"
    eegstore.build(recipe(extract=twice), tmp_path / "b.zarr")
    trials = eegstore.open_store(tmp_path / "b.zarr").trials
    assert not np.allclose(trials["spectral"][:], trials["spectral_boxcar"][:])


def test_without_stimuli_nothing_is_paired_and_all_is_train(tmp_path: Path) -> None:
    eegstore.build({"source": EEG}, tmp_path / "a.zarr")
    store = eegstore.open_store(tmp_path / "a.zarr")
    assert (store.trials["stimulus"][:] == -1).all()
    assert store.splits == {"train": 60}
    assert store.stimuli.n_rows == 0


def test_an_extractor_may_read_what_the_scan_gave(tmp_path: Path, register: Register) -> None:
    @dataclass(frozen=True)
    class Labelled(Peak):
        name: ClassVar[str] = "labelled"
        reads: ClassVar[tuple[str, ...]] = ("eeg", "label", "repetition")

        def __call__(self, block: Block) -> Any:
            weight = block["label"] + 100 * block["repetition"]
            return (abs(block["eeg"]).max(axis=-1) * weight[:, None]).astype(np.float32)

    register(Labelled)
    eegstore.build(only("labelled"), tmp_path / "a.zarr")
    trials = eegstore.open_store(tmp_path / "a.zarr").trials
    weight = trials["label"][:] + 100 * trials["repetition"][:]
    expected = (abs(trials["eeg"][:]).max(axis=-1) * weight[:, None]).astype(np.float32)
    np.testing.assert_array_equal(trials["labelled"][:], expected)


def test_values_are_stored_in_one_byte_order(tmp_path: Path, register: Register) -> None:
    @dataclass(frozen=True)
    class Swapped(Peak):
        name: ClassVar[str] = "swapped"

        def describe(self, inputs: Any) -> ColumnSpec:
            return ColumnSpec(("channel",), inputs["eeg"].shape[:1], ">f4")

    register(Swapped)
    eegstore.build(only("swapped"), tmp_path / "a.zarr")
    trials = eegstore.open_store(tmp_path / "a.zarr").trials
    np.testing.assert_array_equal(trials["swapped"][:], abs(trials["eeg"][:]).max(axis=-1))


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (lambda: None, "gave NoneType, expected a ColumnSpec"),
        (lambda: ColumnSpec(("channel", "channel"), (4, 4), "float32"), "one name an axis"),
        (lambda: ColumnSpec(("lag",), (0,), "float32"), "lengths of at least 1"),
        (lambda: ColumnSpec((), (), "str"), "expected numbers"),
        (lambda: ColumnSpec((), (), "complex64"), "expected bool, int or float"),
        (lambda: ColumnSpec(("lag",), (3,), "float32", {"lag": [1, 2]}), "2 values for 3"),
        (lambda: ColumnSpec((), (), "float32", attrs={"fit": object()}), "expected JSON values"),
    ],
)
def test_a_description_no_column_can_be_made_of_is_refused(
    tmp_path: Path, register: Register, spec: Callable[[], Any], complaint: str
) -> None:
    @dataclass(frozen=True)
    class Odd(Peak):
        name: ClassVar[str] = "odd"

        def describe(self, inputs: Any) -> Any:
            return spec()

    register(Odd)
    with pytest.raises(PluginError, match=f"'odd'.*{complaint}"):
        eegstore.build(only("odd"), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_numpy_values_describe_a_column(tmp_path: Path, register: Register) -> None:
    @dataclass(frozen=True)
    class Lags(Peak):
        name: ClassVar[str] = "lags"

        def describe(self, inputs: Any) -> ColumnSpec:
            coords = {"lag": np.arange(3) / 10}
            return ColumnSpec(("lag",), (3,), "float32", coords, attrs={"n": np.int64(3)})

        def __call__(self, block: Block) -> Any:
            return block["eeg"][:, 0, :3].copy()

    register(Lags)
    eegstore.build(only("lags"), tmp_path / "a.zarr")
    column = eegstore.open_store(tmp_path / "a.zarr").trials["lags"]
    assert column.spec.coords == {"lags_lag": [0.0, 0.1, 0.2]}
    assert column.attrs["n"] == 3


def test_an_axis_and_a_column_of_one_name_are_refused_before_anything_runs(
    tmp_path: Path, register: Register
) -> None:
    register(Peak)
    clash = recipe(extract=[{"plugin": "spectral"}, {"plugin": "peak", "as": "spectral_feature"}])
    with pytest.raises(RecipeError, match=r"axis 'spectral_feature' of trials/spectral"):
        eegstore.build(clash, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("raised", ["SystemExit(0)", "ValueError('two\\nlines')"])
def test_a_plugin_that_exits_or_writes_lines_is_one_line(
    tmp_path: Path, register: Register, raised: str
) -> None:
    @dataclass(frozen=True)
    class Quits(Peak):
        name: ClassVar[str] = "quits"

        def __call__(self, block: Block) -> Any:
            raise eval(raised)

    register(Quits)
    with pytest.raises(PluginError) as caught:
        eegstore.build(only("quits"), tmp_path / "a.zarr")
    assert "\n" not in str(caught.value)
    assert raised.split("(", maxsplit=1)[0] in str(caught.value)


def test_a_file_that_an_option_names_is_part_of_the_key(tmp_path: Path, register: Register) -> None:
    @dataclass(frozen=True)
    class Weighted(Peak):
        name: ClassVar[str] = "weighted"
        weights: Path = Path("weights.txt")

        def __call__(self, block: Block) -> Any:
            weight = np.float32(self.weights.read_text())
            return weight * abs(block["eeg"]).max(axis=-1)

    register(Weighted)
    weights = tmp_path / "weights.txt"
    made = recipe(stimuli=None, pairing=None,
                  extract=[{"plugin": "weighted", "weights": str(weights)}])  # fmt: skip
    values = []
    for weight in ("1", "3"):
        weights.write_text(weight)
        eegstore.build(made, tmp_path / "a.zarr")
        values.append(eegstore.open_store(tmp_path / "a.zarr").trials["weighted"][:])
    np.testing.assert_array_equal(values[1], 3 * values[0])


def test_a_pairing_that_cannot_be_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="label"):
        eegstore.build(recipe(source=EEG | {"n_classes": 12}), tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()
    with pytest.raises(RecipeError, match=r"\[pairing\]: there is nothing to pair with"):
        eegstore.build(recipe(stimuli=None), tmp_path / "b.zarr")


def test_moved_images_are_found_again_after_a_build(tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "images").mkdir(parents=True)
    for digit in range(10):
        Image.new("RGB", (8, 8), (digit, 0, 0)).save(here / "images" / f"{digit}.png")
    (here / "r.toml").write_text(
        '[source]\nplugin = "synthetic"\nn_trials = 20\n'
        '[stimuli]\nplugin = "image-folder"\npath = "images"\n'
    )
    first = eegstore.build(here / "r.toml", tmp_path / "a.zarr")
    here.rename(tmp_path / "there")
    with pytest.raises(InputError):
        eegstore.open_store(tmp_path / "a.zarr").image(3)
    second = eegstore.build(tmp_path / "there" / "r.toml", tmp_path / "a.zarr")
    assert second.history is not None
    assert second.history.computed == []
    assert second.digest == first.digest
    assert eegstore.open_store(tmp_path / "a.zarr").image(3)[0, 0, 0] == 3


@pytest.mark.parametrize("name", ["../../evil", "a/b", "skipped", "", ".hidden"])
def test_a_split_that_could_name_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from eegstore_plugins.splits import RandomSplit

    monkeypatch.setattr(RandomSplit, "__call__", lambda self, trials, *_: np.full(60, name))
    with pytest.raises(InputError, match=r"\[split\] random: a split is called"):
        eegstore.build(recipe(extract=[]), tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "lost", ["trials/spectral/c/0/0/0", "trials/label/c/0", "trials/valid/c/0", "trials/eeg"]
)
def test_a_column_that_lost_a_file_is_made_again_alone(tmp_path: Path, lost: str) -> None:
    store = tmp_path / "a.zarr"
    first = eegstore.build(recipe(), store)
    files = data_files(store)
    for path in sorted((store / lost).rglob("*"), reverse=True) or [store / lost]:
        if path.is_file() and path.name != "zarr.json":
            path.unlink()
    column = lost.split("/")[1]
    kept = {path: when for path, when in modified(store).items() if column not in path}
    report = eegstore.build(recipe(), store)
    assert report.history is not None
    assert report.history.computed == []
    shard = {"trials/eeg": "trials/eeg/c/0/0/0"}.get(lost, lost)
    assert report.history.mended == [shard]
    assert report.digest == first.digest
    assert data_files(store) == files
    now = modified(store)
    assert {path for path, when in kept.items() if now[path] != when} <= {"zarr.json"}
    assert eegstore.verify(store, deep=True) == []


def test_a_plan_names_what_is_rewritten(tmp_path: Path) -> None:
    eegstore.build(recipe(), tmp_path / "a.zarr")
    changed = recipe(split={"plugin": "random", "test_size": 0.25, "seed": 1})
    planned = eegstore.builder.plan(changed, tmp_path / "a.zarr")
    assert planned.rewritten == ("trials/split",)
    assert planned.tasks == ()
    assert not planned.up_to_date


def test_a_column_of_labels_follows_from_the_eeg_too(tmp_path: Path, register: Register) -> None:
    """Which trials are invalid shows in every column of trials."""

    @dataclass(frozen=True)
    class Digit(Peak):
        name: ClassVar[str] = "digit"
        reads: ClassVar[tuple[str, ...]] = ("label",)

        def describe(self, inputs: Any) -> ColumnSpec:
            return ColumnSpec((), (), "float32")

        def __call__(self, block: Block) -> Any:
            return block["label"].astype(np.float32)

    register(Digit)
    eeg = np.random.default_rng(0).standard_normal((20, 2, 128)).astype(np.float32)
    labels = np.arange(20)
    for bad in (3, 5):
        holes = eeg.copy()
        holes[bad, 0, 0] = np.nan
        folder = write_npy(tmp_path / "in", train_data=holes, train_labels=labels)
        source = {"plugin": "npy", "path": str(folder), "sfreq": 128, "allow_skips": True}
        made = only("digit") | {"source": source}
        eegstore.build(made, tmp_path / "a.zarr", overwrite=True)
        digits = eegstore.open_store(tmp_path / "a.zarr").trials["digit"][:]
        assert np.flatnonzero(np.isnan(digits)).tolist() == [bad]
        assert (digits[labels != bad] == labels[labels != bad]).all()

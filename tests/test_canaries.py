"""Nothing in a data file is ever executed: bait lies in the place of every file that is read.

Each time it is shown after the run that the very bytes do leave their mark if they are executed.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import eegstore
from baits import BAITS, baits, check_live, expression, is_refused, planted
from command import run_command
from eegstore import EegStoreError, InputError
from inputs import INPUT, SYNTHETIC, Recipe, as_toml, mindbigdata, recording, stimuli

# Names beside the sound files that are opened where they are there.
OPTIONAL = {
    "npy": ("test_data.npy",),
    "clip-image": ("adapter_config.json", "processor_config.json"),
    "clip-text": ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
}
# Names that something else might be tempted to open.
PASSED_OVER = {
    "npy": ("metadata.pkl", "train_metadata.pkl", "metadata.json"),
    "image-folder": ("labels.txt", "manifest.yaml", "index.json", ".hidden.png"),
    "mne: FIF": ("rec_raw-1.fif", "rec_raw.fdt", "rec_raw.eeg"),
    "mne: EEGLAB": ("rec.dat", "rec.mat"),
    "clip-image": (
        *("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt"),
        *("model.ckpt", "flax_model.msgpack", "modeling_clip.py", "__init__.py"),
        *("model.safetensors.index.json", "pytorch_model.bin.index.json"),
        *("model-00001-of-00002.safetensors", "generation_config.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    ),
    "clip-text": (
        *("vocab.json", "merges.txt", "spiece.model", "tokenizer.model"),
        *("tokenization_clip.py", "preprocessor_config.json"),
    ),
}
ALL = pytest.param(
    list(BAITS), id="all", marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]
)  # fmt: skip
KINDS = pytest.mark.parametrize("kinds", [pytest.param([], id="some"), ALL])


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What every bait makes when it is executed."""
    return tmp_path / "executed"


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.promise("P13")
@KINDS
@pytest.mark.parametrize("name", INPUT)
def test_no_input_file_is_executed(
    tmp_path: Path, mark: Path, name: str, kinds: list[str], figure: Callable[..., None]
) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    recipe = INPUT[name](folder)
    sound = files_in(folder)
    eegstore.build(recipe, tmp_path / "sound.zarr")
    passed_over = [folder / other for other in PASSED_OVER.get(name, ())]
    needed = [file for file in sound if file not in passed_over]
    optional = [folder / other for other in OPTIONAL.get(name, ())]
    one_by_one = list(baits(kinds, [*needed, *optional]))
    together = list(baits(kinds, passed_over))
    for number, (kind, file) in enumerate(one_by_one):
        with planted(kind, file, mark):
            refused = is_refused(eegstore.build, recipe, tmp_path / f"{number}.zarr")
            assert refused or file in optional, f"{file.name} was not read"
    for turn in range(len(kinds) or 1):
        with contextlib.ExitStack() as stack:
            for kind, file in together[turn :: len(kinds) or 1]:
                stack.enter_context(planted(kind, file, mark))
            eegstore.build(recipe, tmp_path / f"together-{turn}.zarr")
    n_baits = len(one_by_one) + len(together)
    figure("baits that lay still", n_baits, n_baits)


@pytest.mark.promise("P13")
@KINDS
def test_no_recording_of_any_suffix_is_executed(
    tmp_path: Path, mark: Path, kinds: list[str], figure: Callable[..., None]
) -> None:
    from mne.io._read_raw import _get_readers

    suffixes = [*_get_readers(), ".npy", ".pkl"]
    assert len(suffixes) > 30
    files = [tmp_path / f"rec{suffix}" for suffix in suffixes]
    planted_baits = list(baits(kinds, files))
    for kind, file in planted_baits:
        with planted(kind, file, mark):
            assert is_refused(eegstore.build, recording(file), tmp_path / "out.zarr")
    figure("baits that lay still", len(planted_baits), len(planted_baits))


@pytest.fixture
def two_tables(tmp_path: Path) -> Recipe:
    """A recipe whose source and provider keep their scans for the workers."""
    (tmp_path / "eeg").mkdir()
    (tmp_path / "shown").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "shown" / "5.png")
    recipe = stimuli({"plugin": "image-folder", "path": str(tmp_path / "shown")})
    return recipe | mindbigdata(tmp_path / "eeg")


@pytest.mark.promise("P13")
@KINDS
def test_no_file_of_a_running_build_is_executed(
    tmp_path: Path, mark: Path, two_tables: Recipe, kinds: list[str], figure: Callable[..., None]
) -> None:
    """The files are replaced when workers are about to read them."""
    folder = tmp_path / "out.zarr.build"
    names: list[Path] = []

    def look(stage: str, done: int, total: int) -> None:
        if stage == "extract" and not names:
            names.extend(files_in(folder))

    eegstore.build(two_tables, tmp_path / "out.zarr", listener=look)
    kept = {name.name for name in names}
    assert {"rows.npz", "source.npz", "stimuli.npz", "eegstore-build"} <= kept
    assert any(name.startswith("plan-") for name in kept)
    patterns = ["rows.npz", "source.npz", "stimuli.npz", "plan-*.json", "eegstore-build"]
    planted_baits = list(baits(kinds, [Path(pattern) for pattern in patterns]))
    for kind, pattern in planted_baits:
        bait = BAITS[kind].make(mark)

        def plant(stage: str, done: int, total: int, bait=bait, pattern=pattern) -> None:
            if stage == "extract" and done == 0:
                (file,) = folder.glob(str(pattern))
                file.write_bytes(bait)

        shutil.rmtree(tmp_path / "out.zarr")
        with contextlib.suppress(Exception):  # no data of a user's: any end will do but one
            eegstore.build(two_tables, tmp_path / "out.zarr", listener=plant)
        assert not mark.exists(), f"{kind} was executed from {pattern}"
        check_live(kind, bait, mark)
        shutil.rmtree(folder, ignore_errors=True)
        (tmp_path / "out.zarr").mkdir(exist_ok=True)
    figure("baits that lay still", len(planted_baits), len(planted_baits))


@pytest.mark.promise("P13")
@KINDS
def test_no_file_that_an_interrupted_build_left_is_executed(
    tmp_path: Path, mark: Path, two_tables: Recipe, kinds: list[str], figure: Callable[..., None]
) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "extract" and done == total:
            raise KeyboardInterrupt

    store = tmp_path / "out.zarr"
    with pytest.raises(EegStoreError):
        eegstore.build(two_tables, store, listener=interrupt)
    left = tmp_path / "left"
    for path in tmp_path.glob("out.zarr*"):
        (left / path.name).parent.mkdir(exist_ok=True)
        path.rename(left / path.name)
    names = [path.relative_to(left) for path in files_in(left)]
    assert any("receipts" in name.parts for name in names)
    planted_baits = list(baits(kinds, names))
    for kind, name in planted_baits:
        shutil.copytree(left, tmp_path, dirs_exist_ok=True)
        file = tmp_path / name
        with planted(kind, file, mark):
            bait = file.read_bytes()
            is_refused(eegstore.build, two_tables, store)
            assert not mark.exists(), f"{kind} was executed from {name}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bait)
        for path in tmp_path.glob("out.zarr*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    figure("baits that lay still", len(planted_baits), len(planted_baits))


def read_all(store: Path) -> None:
    """Every column and coordinate of a store."""
    opened = eegstore.open_store(store)
    for table in (opened.trials, opened.stimuli):
        for name in table:
            table[name][:]
            assert table[name].attrs
        assert table.coords is not None


@pytest.fixture
def store(tmp_path: Path, two_tables: Recipe) -> Path:
    eegstore.build(two_tables, tmp_path / "store.zarr")
    return tmp_path / "store.zarr"


@pytest.mark.promise("P13")
@KINDS
def test_no_file_of_a_store_is_executed(
    tmp_path: Path, mark: Path, store: Path, two_tables: Recipe, kinds: list[str],
    figure: Callable[..., None],
) -> None:  # fmt: skip
    damaged = tmp_path / "damaged.zarr"
    names = [path.relative_to(store) for path in files_in(store)]
    assert len([name for name in names if name.name == "zarr.json"]) > 10
    planted_baits = list(baits(kinds, names))
    for kind, name in planted_baits:
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(store, damaged)
        with planted(kind, damaged / name, mark):
            assert is_refused(read_all, damaged) or eegstore.verify(damaged, deep=True)
            bait = (damaged / name).read_bytes()
            eegstore.build(two_tables, damaged)
            assert not mark.exists(), f"{kind} was executed from {name}"
            read_all(damaged)
            assert not eegstore.verify(damaged, deep=True)
            (damaged / name).write_bytes(bait)
    figure("baits that lay still", len(planted_baits), len(planted_baits))


A_PLUGIN_EACH = ("npy", "hdf5", "mindbigdata", "idx", "image-folder", "mne: FIF", "clip-image")
OTHERS = [name for name in INPUT if name not in A_PLUGIN_EACH]


@pytest.mark.promise("P13")
@pytest.mark.parametrize(
    "name", [*A_PLUGIN_EACH, *(pytest.param(one, marks=pytest.mark.nightly) for one in OTHERS)]
)
def test_the_command_executes_no_input_file(
    tmp_path: Path, mark: Path, name: str, figure: Callable[..., None]
) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    recipe = INPUT[name](folder)
    (tmp_path / "recipe.toml").write_text(as_toml(recipe))
    file = min(path for path in files_in(folder) if path.suffix != ".json")
    kind = list(BAITS)[list(INPUT).index(name) % len(BAITS)]
    with planted(kind, file, mark):
        outcome = run_command("build", "recipe.toml", "out.zarr", cwd=tmp_path)
        assert outcome.code == 3, outcome
        assert file.stem in outcome.err or "model 'input'" in outcome.err
        assert len(outcome.err.splitlines()) == 1
    figure("baits that lay still", 1, 1)


@pytest.mark.promise("P13")
@pytest.mark.parametrize("kind", BAITS)
@pytest.mark.parametrize("name", ["recipe.toml", "recipe.yaml", "recipe.pkl"])
def test_no_recipe_is_executed(tmp_path: Path, mark: Path, name: str, kind: str) -> None:
    with planted(kind, tmp_path / name, mark), pytest.raises(InputError):
        eegstore.build(tmp_path / name, tmp_path / "out.zarr")


@pytest.mark.promise("P13")
def test_the_command_executes_no_recipe(tmp_path: Path, mark: Path) -> None:
    with planted("YAML", tmp_path / "recipe.yaml", mark):
        assert run_command("build", "recipe.yaml", "out.zarr", cwd=tmp_path).code == 3


@pytest.mark.promise("P13")
@pytest.mark.parametrize(
    "command",
    [
        ("info", "store.zarr"),
        ("verify", "store.zarr"),
        ("verify", "store.zarr", "--deep"),
        ("export", "store.zarr", "out", "--format", "npy"),
        ("export", "store.zarr", "out", "--format", "hdf5"),
    ],
    ids=" ".join,
)
def test_no_command_executes_a_file_of_a_store(
    tmp_path: Path, mark: Path, store: Path, command: tuple[str, ...]
) -> None:
    for kind, name in (("pickle 2", "zarr.json"), ("object array", "trials/label/c/0")):
        with planted(kind, store / name, mark):
            outcome = run_command(*command, cwd=tmp_path)
            assert outcome.code in (0, 5), outcome
            assert "Traceback" not in outcome.err
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        (tmp_path / "out").unlink(missing_ok=True)


@pytest.mark.promise("P13")
def test_no_module_of_the_current_folder_is_imported(tmp_path: Path, mark: Path) -> None:
    command = Path(sys.executable).with_name("eegstore")
    if not command.exists():
        pytest.skip("the command is not installed beside the interpreter")
    names = ("signal", "socket", "random", "pickle", "numpy", "zarr", "torch", "eegstore_plugins")
    for name in names:
        (tmp_path / f"{name}.py").write_text(expression(mark))
    (tmp_path / "recipe.toml").write_text(as_toml({"source": SYNTHETIC}))
    for executor in (["serial"], ["processes", "--workers", "2"]):
        out = f"{executor[0]}.zarr"
        arguments = [command, "build", "recipe.toml", out, "--executor", *executor]
        subprocess.run(arguments, cwd=tmp_path, check=True, capture_output=True)
        assert not mark.exists()
        assert eegstore.open_store(tmp_path / out).trials.n_rows == 4
    subprocess.run([sys.executable, "-c", "import random"], cwd=tmp_path, check=True)
    mark.rmdir()

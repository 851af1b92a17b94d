"""Places that are no store, or cannot become one: refused, and what is there is left alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

import eegstore
from command import LIMIT_S, Outcome, check_refused, run_command
from samples import IDX, write_idx, write_npy
from third_party import extractor, lay_out

pytestmark = pytest.mark.promise("P14")

SOURCE = '[source]\nplugin = "synthetic"\nn_trials = 8\nn_channels = 2\nn_times = 64\n'
Make = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "recipe.toml").write_text(SOURCE)
    eegstore.build(folder / "recipe.toml", folder / "s.zarr")
    return folder / "s.zarr"


def tree(folder: Path) -> dict[str, str]:
    """Every name below a folder with what it is, but for the files of locks."""
    kinds = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            kinds[str(path)] = f"-> {path.readlink()}"
        elif path.is_file() and path.suffix != ".lock":
            kinds[str(path)] = path.read_bytes().hex()
        elif not path.is_file():
            kinds[str(path)] = "no file"
    return kinds


def build(folder: Path, out: str, *arguments: str, recipe: str = SOURCE) -> Outcome:
    (folder / "recipe.toml").write_text(recipe)
    return run_command("build", "recipe.toml", out, *arguments, cwd=folder, limit_s=LIMIT_S)


def document(content: bytes) -> Make:
    """A folder with a root document of this content."""

    def make(path: Path) -> None:
        path.mkdir()
        (path / "zarr.json").write_bytes(content)

    return make


def with_document(make: Make) -> Make:
    """A folder in which something is called as the root document is."""

    def make_folder(path: Path) -> None:
        path.mkdir()
        make(path / "zarr.json")

    return make_folder


def link(target: str) -> Make:
    return lambda path: path.symlink_to(target)


# What is at the place of a store, and the part of the message; all exit with 3.
NO_STORES: dict[str, tuple[Make, str]] = {
    "nothing": (lambda path: None, "there is no such folder"),
    "a file": (lambda path: path.write_bytes(b"x"), "there is no zarr.json in it"),
    "an empty folder": (Path.mkdir, "there is no zarr.json in it"),
    "a plain group": (zarr.create_group, "its zarr.json is not ours"),
    "a plain array": (
        lambda path: zarr.create_array(path, shape=(2,), dtype="int64"), "zarr.json is not ours",
    ),
    "a group of Zarr 2": (
        lambda path: zarr.create_group(path, zarr_format=2), "there is no zarr.json in it",
    ),
    "a dangling link": (link("absent"), "there is no such folder"),
    "a link in a loop": (link("s.zarr"), "s.zarr: "),
    "a pipe": (os.mkfifo, "there is no zarr.json in it"),
    "a pipe as the document": (with_document(os.mkfifo), "there is no zarr.json in it"),
    "a folder as the document": (with_document(Path.mkdir), "there is no zarr.json in it"),
    "an endless document": (with_document(link("/dev/zero")), "there is no zarr.json in it"),
    "a list": (document(b"[]"), "not ours"),
    "a document of another": (document(b'{"zarr_format": 3, "node_type": "group"}'), "not ours"),
}  # fmt: skip
READERS = (("info", "s.zarr"), ("verify", "s.zarr"), ("export", "s.zarr", "out", "--format", "npy"))


@pytest.mark.parametrize("case", NO_STORES)
def test_what_is_no_store_is_refused_by_whatever_reads_one(tmp_path, case):
    make, part = NO_STORES[case]
    make(tmp_path / "s.zarr")
    before = tree(tmp_path)
    for command in READERS if case == "a plain group" else READERS[:1]:
        outcome = run_command(*command, cwd=tmp_path, limit_s=LIMIT_S)
        check_refused(outcome, 3, "s.zarr: ", part)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[" * 1_000_000, b'{"a":' * 1_000_000, b"\0" * 100],
    ids=["empty", "cut", "no text", "brackets", "braces", "zeros"],
)
def test_a_root_document_that_is_not_whole_is_damage(tmp_path, content):
    document(content)(tmp_path / "s.zarr")
    outcome = run_command("info", "s.zarr", cwd=tmp_path, limit_s=LIMIT_S)
    check_refused(outcome, 5, "s.zarr: zarr.json is not whole")


@pytest.mark.parametrize("command", [*READERS, ("build", "recipe.toml", "s.zarr", "--overwrite")])
def test_a_store_of_the_future_is_refused_by_name_and_left_alone(tmp_path, whole, command):
    shutil.copytree(whole, tmp_path / "s.zarr")
    root = json.loads((tmp_path / "s.zarr" / "zarr.json").read_bytes())
    root["attributes"]["eegstore"]["format"] = 99
    (tmp_path / "s.zarr" / "zarr.json").write_text(json.dumps(root))
    (tmp_path / "recipe.toml").write_text(SOURCE)
    before = tree(tmp_path)
    outcome = run_command(*command, cwd=tmp_path, limit_s=LIMIT_S)
    check_refused(outcome, 3, "s.zarr: store format 99 is newer than this eegstore reads (2)")
    assert tree(tmp_path) == before


def filled(path: Path) -> None:
    """A folder with somebody's work."""
    path.mkdir()
    (path / "thesis.txt").write_text("years")


def beside(suffix: str, make: Make) -> Make:
    """Something at a name that the build would use itself."""
    return lambda path: make(path.with_name(path.name + suffix))


def link_to(make: Make) -> Make:
    """A link to something that is made beside it."""

    def make_link(path: Path) -> None:
        make(path.with_name("theirs"))
        path.symlink_to("theirs")

    return make_link


def torn(path: Path) -> None:
    """A group with an array, the root's document of which is not whole."""
    path.mkdir()
    (path / "trials").mkdir()
    filled(path / "trials" / "signal")
    (path / "trials" / "zarr.json").write_bytes(b"{}")
    (path / "zarr.json").write_bytes(b"")


NOT_OURS = "exists and is not an eegstore store; nothing was touched"
OUTPUTS: dict[str, tuple[Make, str]] = {
    "a file": (lambda path: path.write_bytes(b"x"), NOT_OURS),
    "a folder with files": (filled, NOT_OURS),
    "a plain group": (zarr.create_group, "its zarr.json is not ours"),
    "a group whose root is torn": (torn, NOT_OURS),
    "a link to a file": (link_to(lambda path: path.write_bytes(b"x")), NOT_OURS),
    "a link to a folder with files": (link_to(filled), NOT_OURS),
    "a dangling link": (link("absent"), "s.zarr: a link that leads nowhere"),
    "a link in a loop": (link("s.zarr"), "s.zarr: a link that leads nowhere"),
    "a pipe": (os.mkfifo, NOT_OURS),
    "a folder of the build's name": (
        beside(".build", filled), "s.zarr.build: in the way of the build's own files",
    ),
    "a file of the build's name": (
        beside(".build", lambda path: path.write_bytes(b"x")), "s.zarr.build: in the way",
    ),
    "a folder of the lock's name": (beside(".lock", filled), "s.zarr.lock"),
}  # fmt: skip


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("case", OUTPUTS)
def test_an_output_that_is_something_else_is_never_touched(tmp_path, case, overwrite):
    make, part = OUTPUTS[case]
    make(tmp_path / "s.zarr")
    (tmp_path / "recipe.toml").write_text(SOURCE)
    before = tree(tmp_path)
    check_refused(build(tmp_path, "s.zarr", *overwrite), 3, part)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("out", "part"),
    [
        (".", "."),
        ("..", ".."),
        ("/", "/"),
        ("/proc/s.zarr", "/proc/s.zarr"),
        ("recipe.toml/s.zarr", "recipe.toml"),
        ("n" * 300, "name too long"),
        ("é" * 125, "name too long"),
        ("n/" * 3000, "name too long"),
    ],
)
def test_a_place_where_no_store_can_be_is_refused(tmp_path, out, part):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "recipe.toml").write_text(SOURCE)
    before = tree(tmp_path)
    check_refused(build(inner, out), 3, part)
    if part == "name too long":  # a place that cannot be written to is found by writing
        check_refused(build(inner, out, "--plan"), 3, part)
        check_refused(run_command("info", out, cwd=inner), 3, "not an eegstore store")
    assert tree(tmp_path) == before
    assert not inner.with_name("inner.build").exists()


def test_no_place_at_all_is_refused(tmp_path, whole):
    """Such as that of a variable that is not set; an empty path is the current folder's."""
    (tmp_path / "empty").mkdir()
    command = ("build", os.fspath(whole.with_name("recipe.toml")), "")
    check_refused(run_command(*command, cwd=tmp_path / "empty"), 2, "OUT is empty, expected")
    command = ("export", os.fspath(whole), "", "--format", "npy")
    check_refused(run_command(*command, cwd=tmp_path / "empty"), 2, "OUT is empty, expected")
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]
    assert not list((tmp_path / "empty").iterdir())


def test_folders_on_the_way_to_the_output_are_made(tmp_path):
    outcome = build(tmp_path, "a/b/s.zarr")
    assert (outcome.code, outcome.err) == (0, "")
    assert eegstore.verify(tmp_path / "a" / "b" / "s.zarr", deep=True) == []


@pytest.mark.parametrize(
    "out", ["in", "in/s.zarr", "in/deeper/s.zarr", "link/s.zarr", "in/../in/s"]
)
def test_an_output_inside_the_input_is_refused(tmp_path, out):
    eeg = np.random.default_rng(0).standard_normal((4, 2, 64), dtype=np.float32)
    write_npy(tmp_path / "in", train_data=eeg, train_labels=np.arange(4))
    (tmp_path / "link").symlink_to("in")
    recipe = '[source]\nplugin = "npy"\npath = "in"\nsfreq = 128\n'
    (tmp_path / "recipe.toml").write_text(recipe)
    before = tree(tmp_path)
    for plan in ((), ("--plan",)):
        check_refused(build(tmp_path, out, *plan, recipe=recipe), 3, out)
        assert tree(tmp_path) == before


@pytest.mark.parametrize("out", ["inner.zarr", "trials/inner.zarr", "trials/eeg/c/9"])
def test_nothing_is_written_inside_a_store(tmp_path, whole, out):
    shutil.copytree(whole, tmp_path / "s.zarr")
    before = tree(tmp_path / "s.zarr")
    check_refused(build(tmp_path, f"s.zarr/{out}"), 3, f"s.zarr/{out}: lies inside the store")
    export = "export", "s.zarr", f"s.zarr/{out}", "--format", "npy"
    check_refused(run_command(*export, cwd=tmp_path), 3, "lies inside the store")
    assert tree(tmp_path / "s.zarr") == before


def test_a_folder_in_place_of_the_root_document_is_named(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "s.zarr")
    (tmp_path / "s.zarr" / "zarr.json").unlink()
    (tmp_path / "s.zarr" / "zarr.json").mkdir()
    check_refused(build(tmp_path, "s.zarr"), 3, "s.zarr/zarr.json: a folder, expected a file")
    assert not (tmp_path / "s.zarr.build").exists()


def test_an_export_that_has_no_room_says_where_and_what_to_do(tmp_path, whole):
    with mounted(tmp_path / "small", "size=8k") as folder:
        for form in ("npy", "hdf5"):
            command = "export", str(whole), str(folder / "out"), "--format", form
            outcome = run_command(*command, cwd=folder)
            check_refused(outcome, 3, f"{folder}/out: ", "No space left", "choose another OUT")
            assert list(folder.iterdir()) == []


def test_what_an_interrupted_build_has_done_is_not_dropped_without_a_word(tmp_path):
    failing = extractor("if 'SOUND' not in os.environ: raise ValueError('late')\n"
                        "return block['eeg'].max(axis=(1, 2))")  # fmt: skip
    env = lay_out(tmp_path / "site", failing)
    odd = '[[extract]]\nplugin = "odd"\n'
    write_idx(tmp_path)
    recipe = f'{SOURCE}{IDX}[[extract]]\nplugin = "hog"\nsize = 16\n{odd}'
    (tmp_path / "recipe.toml").write_text(recipe)
    command = ("build", "recipe.toml", "out.zarr")
    check_refused(run_command(*command, cwd=tmp_path, env=env), 4, "ValueError: late")
    before = tree(tmp_path / "out.zarr")
    assert any("hog" in path for path in before)
    (tmp_path / "recipe.toml").write_text(recipe.replace("size = 16", "size = 32"))
    outcome = run_command(*command, cwd=tmp_path, env=env | {"SOUND": "1"})
    check_refused(outcome, 3, "out.zarr: would lose the finished shards of stimuli/hog (1) of an "
                  "interrupted build: [[extract]] 1: size 16 → 32; ", "--overwrite")  # fmt: skip
    assert tree(tmp_path / "out.zarr") == before
    outcome = run_command(*command, "--plan", cwd=tmp_path, env=env | {"SOUND": "1"})
    told = " ".join(outcome.out.split())
    assert "drop the finished shards of stimuli/hog (1) of an interrupted build" in told
    outcome = run_command(*command, "--overwrite", cwd=tmp_path, env=env | {"SOUND": "1"})
    assert outcome.code == 0
    assert eegstore.open_store(tmp_path / "out.zarr").recipe["extract"][0]["size"] == 32
    assert eegstore.verify(tmp_path / "out.zarr", deep=True) == []


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A file system of its own in memory."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, whole):
    """Root may write to a folder of any mode; to a file system that is read-only it may not."""
    with mounted(tmp_path / "fixed", "size=8m") as folder:
        shutil.copytree(whole, folder / "s.zarr")
        (folder / "recipe.toml").write_text(SOURCE)
        remount(folder, "ro")
        before = tree(folder)
        for out in ("new.zarr", "s.zarr"):
            outcome = run_command("build", "recipe.toml", out, cwd=folder, limit_s=LIMIT_S)
            check_refused(outcome, 3, out, "Read-only file system")
        for command in (("info", "s.zarr"), ("verify", "s.zarr", "--deep")):
            assert run_command(*command, cwd=folder).code == 0
        outcome = run_command("export", "s.zarr", "out", "--format", "npy", cwd=folder)
        check_refused(outcome, 3, "out: cannot be written: Read-only file system")
        assert tree(folder) == before


def test_a_build_that_has_no_room_does_not_start(tmp_path):
    with mounted(tmp_path / "small", "size=2m") as folder:
        large = SOURCE.replace("n_trials = 8", "n_trials = 10_000")
        check_refused(
            build(folder, "s.zarr", recipe=large), 3, "MB free, the build writes 5.1 MB; make room"
        )
        assert {path.name for path in folder.iterdir()} == {"recipe.toml", "s.zarr.lock"}
        outcome = build(folder, "s.zarr")
        assert (outcome.code, outcome.err) == (0, "")


def test_a_disk_that_fills_up_keeps_what_was_done(tmp_path):
    """Of compressed values nobody knows the size before."""
    small = SOURCE.replace("n_trials = 8", "n_trials = 10_000") + '[store]\ncodec = "small"\n'
    with mounted(tmp_path / "small", "size=2m") as folder:
        check_refused(
            build(folder, "s.zarr", recipe=small), 75, "No space left on device", "resume"
        )
        with pytest.raises(eegstore.EegStoreError):
            eegstore.open_store(folder / "s.zarr")
        remount(folder, "size=32m")
        assert build(folder, "s.zarr", recipe=small).code == 0
        assert eegstore.verify(folder / "s.zarr", deep=True) == []


def test_free_space_is_that_of_the_disk_that_a_link_leads_to(tmp_path):
    with mounted(tmp_path / "small", "size=2m") as folder:
        (folder / "s.zarr").mkdir()
        (tmp_path / "link.zarr").symlink_to(folder / "s.zarr")
        large = SOURCE.replace("n_trials = 8", "n_trials = 10_000")
        outcome = build(tmp_path, "link.zarr", recipe=large)
        check_refused(outcome, 3, f"{folder}: ", "MB free, the build writes 5.1 MB; make room")

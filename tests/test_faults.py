"""A disk that fails at the k-th call that changes it: one line, the old version whole, resume."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import eegstore
from command import Outcome, check_refused, run_command
from faults import Commands, Disk, check_between, columns
from faults.mounts import mounts
from samples import EEG, data_files, recipe

Figure = Callable[[str, int, int], None]

SPECTRAL, HOG, TEMPORAL = {"plugin": "spectral"}, {"plugin": "hog"}, {"plugin": "temporal"}
FEW = EEG | {"n_trials": 24}
PLAIN = recipe(source=FEW)
# What is committed before (None for nothing), and what is built then.
CHANGES: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "first build": (None, PLAIN),
    "column added": (PLAIN, recipe(source=FEW, extract=[SPECTRAL, HOG, TEMPORAL])),
    "column replaced": (PLAIN, recipe(source=FEW, extract=[SPECTRAL | {"window": "boxcar"}, HOG])),
    "column dropped": (PLAIN, recipe(source=FEW, extract=[HOG])),
}
# zipfile opens a file anew in another mode, and nothing is in a lock that could be lost.
NEEDLESS = re.compile(r"open .*\.npz|close .*\.(lock|build/eegstore-build)")


@dataclass(frozen=True)
class Case:
    """A change of a store: what is there before, and what an undisturbed build makes of it."""

    before: Path
    made: dict[str, Any]
    whole: Path

    def begin(self, folder: Path) -> Path:
        """The store before the change, in a new folder."""
        shutil.copytree(self.before, folder)
        return folder / self.whole.name

    @property
    def columns(self) -> set[tuple[str, str, str]]:
        """The columns before the change."""
        store = self.before / self.whole.name
        return columns(store) if store.exists() else set()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return Disk(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def commands(disk: Disk) -> Iterator[Commands]:
    commands = Commands(disk.env)
    yield commands
    commands.close()


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> dict[str, Case]:
    cases = {}
    for name, (first, then) in CHANGES.items():
        folder = tmp_path_factory.mktemp("case")
        (folder / "before").mkdir()
        if first:
            assert commands.build(first, folder / "before" / "a.zarr") == (0, "")
        shutil.copytree(folder / "before", folder / "whole")
        assert commands.build(then, folder / "whole" / "a.zarr") == (0, "")
        cases[name] = Case(folder / "before", then, folder / "whole" / "a.zarr")
    return cases


def check_whole(store: Path, case: Case) -> None:
    """The store is what an undisturbed build makes, and nothing is left beside it."""
    assert data_files(store) == data_files(case.whole)
    assert columns(store) == columns(case.whole)
    assert eegstore.verify(store, deep=True) == []
    assert not store.with_name("a.zarr.build").exists()


def check_told(store: Path, code: int, message: str, error: int) -> None:
    """One line: what failed, where, what to do; 75 once there is something to resume."""
    begun = store.with_name("a.zarr.build") / "eegstore-build"
    assert message.startswith(f"{store}: ")
    assert "\n" not in message
    assert os.strerror(error) in message
    if begun.exists() or "committed and whole" in message:
        assert code == 75
        assert "run the same command again" in message
    else:
        assert code == 3
        assert "mend that or choose another OUT" in message


@pytest.mark.promise("P8")
@pytest.mark.parametrize(
    "n_calls", [2, pytest.param(None, marks=[pytest.mark.nightly, pytest.mark.timeout(7200)])]
)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", CHANGES)
def test_a_build_whose_disk_fails_says_so_and_resumes(
    tmp_path: Path, disk: Disk, commands: Commands, cases: dict[str, Case], figure: Figure,
    name: str, error: int, lasting: bool, n_calls: int | None,
) -> None:  # fmt: skip
    case = cases[name]
    store = case.begin(tmp_path / "counted")
    disk.watch(store.parent)
    assert commands.build(case.made, store) == (0, "")
    calls: list[int] = list(range(1, disk.seen + 1))
    if n_calls:
        calls = random.Random(f"{name} {error} {lasting}").sample(calls, n_calls)
    for k in calls:
        store = case.begin(tmp_path / str(k))
        disk.watch(store.parent, k, error, lasting)
        code, message = commands.build(case.made, store)
        failed = disk.failed
        print(f"call {k}: {failed}: {code} {message}")  # shown where an assertion fails
        assert failed
        disk.watch(store.parent)
        if code == 0 and NEEDLESS.fullmatch(failed):
            check_whole(store, case)
        else:
            check_told(store, code, message, error)
            check_between(store, case.columns, case.whole)
        assert commands.build(case.made, store) == (0, "")
        check_whole(store, case)
        shutil.rmtree(store.parent)
    figure("calls that failed, then resumed to the same bytes", len(calls), len(calls))


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A folder with the recipe of a small store."""
    (tmp_path / "recipe.toml").write_text(
        'name = "few"\n[source]\nplugin = "synthetic"\nn_trials = 24\n'
        '[stimuli]\nplugin = "digits"\n[pairing]\nplugin = "label"\n'
        '[[extract]]\nplugin = "hog"\n'
    )
    return tmp_path


@pytest.mark.promise("P8")
@pytest.mark.parametrize(
    "n_calls", [1, pytest.param(20, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])]
)
@pytest.mark.parametrize(
    ("error", "workers"), [(errno.EIO, 1), (errno.ENOSPC, 2)], ids=["one process", "two workers"]
)
def test_the_command_says_so_too_whichever_of_its_processes_meets_the_failure(
    few: Path, disk: Disk, figure: Figure, error: int, workers: int, n_calls: int
) -> None:
    def build(store: Path) -> Outcome:
        given = "build", "recipe.toml", store, "--quiet", "--workers", str(workers)
        return run_command(*given, cwd=few, env=disk.env)

    (few / "whole").mkdir()
    disk.watch(few / "whole")
    assert build(few / "whole" / "a.zarr").code == 0
    whole, n_all = data_files(few / "whole" / "a.zarr"), disk.seen
    chance = random.Random(f"{error} {workers}")
    for number in range(n_calls):
        store = few / str(number) / "a.zarr"
        store.parent.mkdir()
        disk.watch(store.parent, chance.randint(10, n_all - 10), error, lasting=True)
        outcome = build(store)
        check_refused(outcome, 75, os.strerror(error), "run the same command again")
        disk.watch(store.parent)
        assert build(store).code == 0
        assert data_files(store) == whole
        assert eegstore.verify(store, deep=True) == []
    figure("commands that failed, then resumed to the same bytes", n_calls, n_calls)


CHANGING = (
    "/open.*,write,pwrite64,writev,pwritev,sendfile,copy_file_range,ftruncate,truncate,fallocate,"
    "fsync,fdatasync,/rename.*,/mkdir.*,/unlink.*,rmdir,/link.*,/symlink.*"
)
OPENED = r"O_(WRONLY|RDWR|CREAT).* = \d"


@pytest.mark.nightly
@pytest.mark.parametrize("command", ["build", "npy", "hdf5"])
def test_the_library_sees_every_call_that_the_kernel_sees(
    few: Path, disk: Disk, command: str
) -> None:
    """A call that went by another way would never fail here."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    given = ["build", "recipe.toml", f"{few}/w/a.zarr", "--workers", "1"]
    if command != "build":
        assert run_command("build", "recipe.toml", "in/a.zarr", cwd=few).code == 0
        given = ["export", "in/a.zarr", f"{few}/w/out", "--format", command]
    disk.watch(few / "w")
    assert run_command(*given, cwd=few, env=disk.env).code == 0
    shutil.rmtree(few / "w")
    tracing = ["strace", "-f", "-y", "-qq", "-o", "trace", "-e", f"trace={CHANGING}"]
    subprocess.run([*tracing, sys.executable, "-m", "eegstore", *given, "--quiet"], cwd=few)
    calls = re.findall(r"^\d+ +(\w+)\((.*)$", (few / "trace").read_text(), re.MULTILINE)
    there = [(call, rest) for call, rest in calls if str(few / "w") in rest]
    opened = [rest for call, rest in there if call == "openat" and re.search(OPENED, rest)]
    others = Counter(call for call, _ in there if call != "openat")
    assert min(others["write"], others["fsync"], others["rename"], others["mkdir"]) > 0
    assert disk.seen == others.total() + 2 * len(opened)  # each is closed


@pytest.mark.promise("P8")
@pytest.mark.parametrize(
    "n_calls", [2, pytest.param(None, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])]
)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["npy", "hdf5"])
def test_an_export_whose_disk_fails_says_so_and_nothing_half_done_has_its_name(
    tmp_path: Path, disk: Disk, commands: Commands, cases: dict[str, Case], figure: Figure,
    name: str, error: int, lasting: bool, n_calls: int | None,
) -> None:  # fmt: skip
    store = cases["first build"].whole
    disk.watch(tmp_path / "whole")
    assert commands.export(store, tmp_path / "whole" / "out", name) == (0, "")
    whole = exported(tmp_path / "whole" / "out")
    calls: list[int] = list(range(1, disk.seen + 1))
    if n_calls:
        calls = random.Random(f"{name} {error} {lasting}").sample(calls, n_calls)
    for k in calls:
        out = tmp_path / str(k) / "out"
        disk.watch(out.parent, k, error, lasting)
        code, message = commands.export(store, out, name)
        failed = disk.failed
        print(f"call {k}: {failed}: {code} {message}")  # shown where an assertion fails
        assert failed
        disk.watch(tmp_path)
        if code:
            assert code == 3
            assert "\n" not in message
            assert os.strerror(error) in message
        else:  # all is done, but for the folder that it was done in
            assert re.fullmatch(r"rmdir .*/\.out-\w+", failed)
        if out.exists():
            assert exported(out) == whole
        else:
            assert code == 3
            assert commands.export(store, out, name) == (0, "")
            assert exported(out) == whole
    figure("exports that failed, nothing half done under their names", len(calls), len(calls))


def exported(out: Path) -> dict[str, bytes]:
    """The files of an export."""
    return data_files(out) if out.is_dir() else {"": out.read_bytes()}


def test_a_commit_whose_sync_failed_is_synced_by_the_next_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next build finds a whole store, which a power cut might still take."""
    store = tmp_path / "a.zarr"
    real, synced = os.fsync, set[int]()

    def fsync(file: int) -> None:
        synced.add(os.fstat(file).st_ino)
        if broken and (store / "zarr.json").exists() and store.stat().st_ino in synced:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    broken = True
    with pytest.raises(eegstore.IncompleteError, match="Input/output error"):
        eegstore.build(PLAIN, store, executor="serial")
    broken = False
    synced.clear()
    assert eegstore.build(PLAIN, store, executor="serial").up_to_date
    assert store.stat().st_ino in synced


NOISE = """name = "noise"
[source]
plugin = "synthetic"
n_trials = 600
n_channels = 8
n_times = 256
"""
SMALL = '[store]\ncodec = "small"\n'
FEATURES = '[[extract]]\nplugin = "temporal"\n'
ROOM = "size=256m,nr_inodes=100k"
# What is committed before (nothing where it is empty), what is built then, and the room for it.
FULL = {
    "bytes, first build": ("", NOISE + SMALL, "size=3m"),
    "files, first build": ("", NOISE, "size=256m,nr_inodes=60"),
    "bytes, column added": (NOISE + SMALL, NOISE + SMALL + FEATURES, "size={used}k"),
}


@pytest.mark.promise("P8")
@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_ends_a_build_that_goes_on_once_there_is_room(
    tmp_path: Path, figure: Figure, name: str
) -> None:
    first, then, full = FULL[name]
    (tmp_path / "first.toml").write_text(first)
    (tmp_path / "then.toml").write_text(then)
    eegstore.build(tmp_path / "then.toml", tmp_path / "whole.zarr")
    disk = tmp_path / "disk"
    disk.mkdir()
    store = disk / "a.zarr"
    with mounts(user=True) as namespace:
        namespace.do_or_skip("mount", "-t", "tmpfs", "-o", ROOM, "none", disk)

        def copied(name: str) -> Path:
            namespace.do("cp", "-r", disk, tmp_path / name)
            return tmp_path / name / store.name

        before = set()
        if first:
            assert namespace.eegstore("build", tmp_path / "first.toml", store).code == 0
            before = columns(copied("before"))
        used = int(namespace.run("du", "-sk", disk).out.split()[0]) + 100
        namespace.do("mount", "-o", f"remount,{full.format(used=used)}", disk)
        outcome = namespace.eegstore("build", tmp_path / "then.toml", store)
        check_refused(outcome, 75, f"{store}: No space left on device", "to resume")
        check_between(copied("full"), before, tmp_path / "whole.zarr")
        namespace.do("mount", "-o", f"remount,{ROOM}", disk)
        assert namespace.eegstore("build", tmp_path / "then.toml", store).code == 0
        resumed = copied("resumed")
    assert data_files(resumed) == data_files(tmp_path / "whole.zarr")
    assert eegstore.verify(resumed, deep=True) == []
    assert {path.name for path in resumed.parent.iterdir()} == {"a.zarr", "a.zarr.lock"}
    figure("full disks that ended a build, which went on once there was room", 1, 1)


@pytest.mark.promise("P8")
def test_a_disk_too_small_for_what_is_planned_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "recipe.toml").write_text(NOISE)
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounts(user=True) as namespace:
        namespace.do_or_skip("mount", "-t", "tmpfs", "-o", "size=3m", "none", disk)
        outcome = namespace.eegstore("build", tmp_path / "recipe.toml", disk / "a.zarr")
        check_refused(outcome, 3, f"{disk}: 3.1 MB free, the build writes 4.9 MB; make room")
        assert namespace.run("ls", disk).out == "a.zarr.lock\n"

"""One writer a store: many start at once, die at any moment, or lose their lock's file."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import eegstore
from eegstore import IncompleteError, LockedError
from eegstore.disk import writer_lock
from samples import data_files, modified, recipe

NIGHTLY = [pytest.mark.nightly, pytest.mark.timeout(3600)]
MADE = recipe(stimuli=None, pairing=None, extract=[{"plugin": "temporal"}])
WIDER = recipe(stimuli=None, pairing=None, extract=[{"plugin": "temporal"}, {"plugin": "spectral"}])
N_RACERS = 3
LIMIT_S = 2

# The command, from the moment that it is told to begin. It says when it reaches the lock and,
# where it gets it, goes on only when it is told to.
RACER = """
import json, os, sys, time
from eegstore import builder, cli
from eegstore_plugins import spectral, synthetic, temporal
make_plan, writer_lock = builder.make_plan, builder.writer_lock
made, out = json.loads(sys.argv[1]), os.dup(1)

def told(path):
    if path.suffix == ".lock":
        os.write(out, f"{time.monotonic()}\\n".encode())
    return writer_lock(path)

def kept(*arguments):
    sys.stdin.readline()
    return make_plan(*arguments)

builder.read_recipe = lambda *_: (builder.parse_recipe(made, "made"), builder.Path.cwd())
builder.writer_lock, builder.make_plan = told, kept
print("ready", flush=True)
sys.stdin.readline()
sys.argv = ["eegstore", "build", "made", "s.zarr", "--quiet", "--executor", "serial"]
cli.main()
"""


class Racer:
    """A builder that starts when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RACER, json.dumps(WIDER)], cwd=folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.left = 0.0

    def hear(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def tell(self) -> None:
        """Let it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def has_left(self) -> bool:
        """Whether it has ended, and note when."""
        ended = self.process.poll() is not None
        if ended and not self.left:
            self.left = time.monotonic()
        return ended


def race(folder: Path) -> tuple[Racer, list[Racer]]:
    """Builders started at once, until all but one have left: that one, and the others."""
    racers = [Racer(folder) for _ in range(N_RACERS)]
    assert [racer.hear() for racer in racers] == ["ready\n"] * N_RACERS
    for racer in racers:
        racer.tell()
    deadline = time.monotonic() + 60
    while sum(racer.has_left() for racer in racers) < N_RACERS - 1:
        assert time.monotonic() < deadline, "more than one builder holds the lock"
        time.sleep(0.005)
    (winner,) = [racer for racer in racers if not racer.has_left()]
    return winner, [racer for racer in racers if racer is not winner]


@pytest.mark.promise("P4")
@pytest.mark.parametrize("n_races", [3, pytest.param(50, marks=NIGHTLY)])
def test_of_builders_started_at_once_one_builds_and_the_others_are_told_which(
    tmp_path: Path, figure: Callable[[str, int, int], None], n_races: int
) -> None:
    eegstore.build(MADE, tmp_path / "first.zarr")
    whole = eegstore.build(WIDER, tmp_path / "whole.zarr")
    gone = subprocess.Popen(["true"])
    gone.wait()
    for number in range(n_races):
        folder = tmp_path / f"race-{number}"
        folder.mkdir()
        store, begin = folder / "s.zarr", datetime.datetime.now(datetime.UTC)
        if number % 2:
            # A column is to be added, and the last holder's name is still in the file.
            shutil.copytree(tmp_path / "first.zarr", store)
            earlier = f"host {socket.gethostname()}, pid {gone.pid}, since 2026-01-01T00:00:00\n"
            (folder / "s.zarr.lock").write_text(earlier)
        before = modified(store)
        winner, losers = race(folder)
        assert modified(store) == before
        for loser in losers:
            assert loser.left - float(loser.hear()) < LIMIT_S
            out, errors = loser.process.communicate()
            assert (loser.process.returncode, out) == (6, "")
            said = re.fullmatch(
                rf"eegstore: {store}\.lock: another writer holds the store \(host (\S+), "
                r"pid (\d+), since (\S+)\); wait for it to end\n",
                errors,
            )
            assert said, errors
            assert said[1] == socket.gethostname()
            assert int(said[2]) == winner.process.pid
            start = datetime.datetime.fromisoformat(said[3])
            assert begin - datetime.timedelta(seconds=1) < start
            assert start <= datetime.datetime.now(datetime.UTC)
        winner.tell()
        _, errors = winner.process.communicate(timeout=60)
        assert (winner.process.returncode, errors) == (0, "")
        assert eegstore.open_store(store).digest == whole.digest
        assert data_files(store) == data_files(tmp_path / "whole.zarr")
        assert eegstore.verify(store, deep=True) == []
        shutil.rmtree(folder)
    figure(f"races of {N_RACERS} builders had one winner", n_races, n_races)


BUILDER = """
import json, sys, eegstore
def tell(*arguments):
    print(flush=True)
eegstore.build(json.loads(sys.argv[1]), sys.argv[2], executor="processes", n_workers=2,
               listener=tell)
"""


@pytest.mark.promise("P5")
@pytest.mark.parametrize("n_kills", [5, pytest.param(50, marks=NIGHTLY)])
def test_the_lock_of_a_builder_is_its_own_until_it_is_killed_and_then_free_at_once(
    tmp_path: Path, figure: Callable[[str, int, int], None], n_kills: int
) -> None:
    store, lock = tmp_path / "s.zarr", tmp_path / "s.zarr.lock"
    moments = random.Random(0)
    n_killed = 0
    while n_killed < n_kills:
        with subprocess.Popen(
            [sys.executable, "-c", BUILDER, json.dumps(WIDER), str(store)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()  # it holds the lock
            with (
                pytest.raises(LockedError, match=rf", pid {process.pid}, since "),
                writer_lock(lock),
            ):
                pytest.fail("a living builder's lock was stolen")
            time.sleep(moments.uniform(0, 2))
            process.kill()
        if process.returncode == -9:  # else it was faster
            n_killed += 1
        with writer_lock(lock), writer_lock(tmp_path / "s.zarr.build" / "eegstore-build"):
            assert lock.read_text().startswith(f"host {socket.gethostname()}, pid {os.getpid()}, ")
        shutil.rmtree(tmp_path / "s.zarr.build")
        shutil.rmtree(store, ignore_errors=True)
    figure("killed builders' locks were free at once", n_killed, n_kills)


# Processes that hold the lock, in random order, and leave it, raise, or die with it. Whoever has
# it is alone: the file that each creates, as its first deed, is there only as long as it holds.
CONTENDERS = """
import os, random, signal, sys, time
from pathlib import Path
from eegstore import LockedError
from eegstore.disk import writer_lock

folder, deleted = Path(sys.argv[1]), sys.argv[4:]
n_processes, n_holds = map(int, sys.argv[2:4])
lock, mark, alone, count = (folder / name for name in ("lock", "mark", "alone", "count"))
count.touch()

def hold(moments):
    with writer_lock(lock), writer_lock(mark):
        alone.touch(exist_ok=False)
        with count.open("ab") as file:
            file.write(b".")
        time.sleep(moments.uniform(0, 0.002))
        alone.unlink()
        if moments.random() < 0.5:
            mark.unlink()  # as a build's folder is, by its holder
        end = moments.random()
        if end < 0.2:
            os.kill(os.getpid(), signal.SIGKILL)
        if end < 0.4:
            raise ZeroDivisionError

def contend(moments):
    while count.stat().st_size < n_holds:
        try:
            hold(moments)
        except (LockedError, ZeroDivisionError):
            time.sleep(moments.uniform(0, 0.002))

def clean_up(moments):
    while count.stat().st_size < n_holds:
        time.sleep(moments.uniform(0, 0.002))
        (folder / moments.choice(deleted)).unlink(missing_ok=True)

def start(task, seed):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            task(random.Random(seed))
            code = 0
        except FileExistsError:
            code = 3
        finally:
            os._exit(code)
    return pid

living = {start(contend, seed) for seed in range(n_processes)}
living |= {start(clean_up, -1)} if deleted else set()
seed = n_processes
while living:
    pid, status = os.wait()
    living.discard(pid)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        for one in living:
            os.kill(one, signal.SIGKILL)
        sys.exit("two held the lock" if code == 3 else "a contender failed")
    if code:
        seed += 1
        living.add(start(contend, seed))
print(count.stat().st_size, seed - n_processes)
"""


@pytest.mark.promise("P5")
@pytest.mark.parametrize("n_holds", [300, pytest.param(5_000, marks=NIGHTLY)])
@pytest.mark.parametrize("deleted", [[], ["lock"]])
def test_two_never_hold_the_lock_whoever_starts_dies_or_deletes_it(
    tmp_path: Path, figure: Callable[[str, int, int], None], deleted: list[str], n_holds: int
) -> None:
    command = [sys.executable, "-c", CONTENDERS, str(tmp_path), "8", str(n_holds), *deleted]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    n_held, n_died = map(int, done.stdout.split())
    assert n_held >= n_holds
    assert n_died > n_holds / 10
    figure("holders were alone", n_held, n_held)


@pytest.mark.promise("P5")
@pytest.mark.parametrize("stage", ["scan", "extract", "pair, split and commit"])
def test_a_build_whose_lock_file_is_deleted_still_keeps_others_out(
    tmp_path: Path, stage: str
) -> None:
    store = tmp_path / "s.zarr"
    refused = []

    def delete(begun: str, *_: int) -> None:
        if begun == stage and not refused:
            (tmp_path / "s.zarr.lock").unlink()
            with pytest.raises(LockedError, match=f"pid {os.getpid()}, since ") as error:
                eegstore.build(MADE, store)
            refused.append(error)

    report = eegstore.build(WIDER, store, executor="serial", listener=delete)
    assert len(refused) == 1
    assert eegstore.open_store(store).digest == report.digest
    assert eegstore.verify(store, deep=True) == []


@pytest.mark.promise("P5")
@pytest.mark.parametrize("stage", ["scan", "extract", "pair, split and commit"])
@pytest.mark.parametrize("deleted", ["*.lock *.build", "*.lock *.build *.zarr", "*.build"])
def test_a_build_whose_files_are_deleted_stops_and_leaves_the_store_to_others(
    tmp_path: Path, stage: str, deleted: str
) -> None:
    store = tmp_path / "s.zarr"
    eegstore.build(recipe(extract=[], stimuli=None, pairing=None), store)
    digests = [eegstore.open_store(store).digest]

    def clean_up(begun: str, *_: int) -> None:
        if begun != stage or len(digests) > 1:
            return
        for path in [path for name in deleted.split() for path in tmp_path.glob(name)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if "*.lock" in deleted:
            digests.append(eegstore.build(MADE, store).digest)

    with pytest.raises(IncompleteError, match="run the same command again to resume"):
        eegstore.build(WIDER, store, executor="serial", listener=clean_up)
    assert eegstore.open_store(store).digest == digests[-1]
    # What the build had written before its folder was deleted is in nobody's way.
    assert all("does not belong" in one.problem for one in eegstore.verify(store, deep=True))
    eegstore.build(WIDER, store)
    assert eegstore.verify(store, deep=True) == []


@pytest.mark.parametrize(
    "spelling",
    [
        "s.zarr", "./s.zarr/", ".//s.zarr", "inner/../s.zarr", "../real/s.zarr", "{here}/s.zarr",
        "../link/s.zarr", "../to-inner/../s.zarr", "../t.zarr", "../t.zarr/", "../again.zarr",
    ],
)  # fmt: skip
@pytest.mark.promise("P5")
def test_a_store_has_one_lock_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    here = tmp_path / "real"
    (here / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "to-inner").symlink_to("real/inner")
    (tmp_path / "t.zarr").symlink_to("real/s.zarr")
    (tmp_path / "again.zarr").symlink_to("t.zarr")
    eegstore.build(MADE, here / "s.zarr")
    before = modified(here / "s.zarr")
    monkeypatch.chdir(here)
    with writer_lock(here / "s.zarr.lock"), pytest.raises(LockedError, match="another writer"):
        eegstore.build(WIDER, spelling.format(here=here))
    assert modified(here / "s.zarr") == before
    assert {path.name for path in tmp_path.iterdir()} == {
        "real", "link", "to-inner", "t.zarr", "again.zarr",
    }  # fmt: skip
    report = eegstore.build(WIDER, spelling.format(here=here))
    assert eegstore.open_store(here / "s.zarr").digest == report.digest


def test_a_holder_notices_that_its_file_is_deleted_or_replaced(tmp_path: Path) -> None:
    lock = tmp_path / "s.zarr.lock"
    with writer_lock(lock) as check:
        check()
        lock.unlink()
        with pytest.raises(IncompleteError, match=rf"^{lock}: deleted while this build held it"):
            check()
        with writer_lock(lock) as check_other:
            check_other()
            with pytest.raises(IncompleteError, match="another may have begun"):
                check()


def test_a_file_that_is_deleted_before_it_is_locked_is_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, flock, calls = tmp_path / "s.zarr.lock", fcntl.flock, []

    def late(file: int, operation: int) -> None:
        calls.append(operation)
        if len(calls) == 1:
            lock.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with writer_lock(lock) as check:
        check()
        assert len(calls) == 2
        with pytest.raises(LockedError), writer_lock(lock):
            pytest.fail("two writers hold the lock")


@pytest.mark.promise("P4")
def test_who_finds_the_store_held_leaves_nothing_in_its_holders_folder(tmp_path: Path) -> None:
    store, folder = tmp_path / "s.zarr", tmp_path / "s.zarr.build"
    folder.mkdir()
    (folder / "eegstore-build").touch()
    for lock in (tmp_path / "s.zarr.lock", folder / "eegstore-build"):
        with writer_lock(lock), pytest.raises(LockedError):
            eegstore.build(MADE, store, executor="serial")
        assert [path.name for path in folder.iterdir()] == ["eegstore-build"]

"""The power is cut while builds run: what a receipt or a commit vouches for is there all the same.

An ext4 file system in a file is shut down by its own ioctl: what was not synced is lost with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import eegstore
from eegstore.disk import digest_file
from eegstore.receipts import read_receipt
from faults import Commands, Disk, check_between, columns
from faults.mounts import Mounts, mounts
from samples import data_files, recipe

Figure = Callable[[str, int, int], None]

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN of the kernel's fs/ext4/ext4.h
# What the kernel does before it stops: nothing; write its journal, not the data; sync all.
CUTS = {"at once": 2, "journal written": 1, "frozen": 0}
# The kernel neither syncs by itself nor writes data before the names that lead to them.
OPTIONS = "loop,commit=300,noauto_da_alloc,data=writeback"
SPECTRAL, HOG, TEMPORAL = {"plugin": "spectral"}, {"plugin": "hog"}, {"plugin": "temporal"}
BOXCAR = SPECTRAL | {"window": "boxcar"}
# Built one after the other: a store, a column more, a column replaced.
RECIPES = [recipe(extract=some) for some in ([SPECTRAL, HOG], [SPECTRAL, HOG, TEMPORAL])]
RECIPES.append(recipe(extract=[BOXCAR, HOG, TEMPORAL]))


class Machine:
    """A file system on a disk of its own, which can lose its power.

    Attributes
    ----------
    folder
        Where it is mounted, inside the namespace.
    store
        The store that is built there.
    """

    def __init__(self, namespace: Mounts, place: Path) -> None:
        self.namespace = namespace
        self._place, self.folder = place, place / "disk"
        self.store = self.folder / "a.zarr"
        self.folder.mkdir(parents=True)
        with (place / "image").open("wb") as image:
            image.truncate(1 << 26)
        namespace.do("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", place / "image")
        self._mount = "mount", "-o", OPTIONS, place / "image", self.folder
        namespace.do_or_skip(*self._mount)

    def cut(self, how: str) -> None:
        """Cut the power."""
        there = self.namespace.root / self.folder.relative_to("/")
        (there / "unsynced").write_bytes(b"x" * 5000)
        with _opened(there) as folder:
            try:
                fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", CUTS[how]))
            except OSError as error:
                pytest.skip(f"no file system is shut down here: {error.strerror}")
        with pytest.raises(OSError, match="Input/output error"):
            (there / "after").touch()

    def restart(self, how: str) -> Path:
        """Mount the disk again; a copy of the store as it is then."""
        self._unmount()
        self.namespace.do(*self._mount)
        left = self.copy("left")
        unsynced = left.with_name("unsynced")
        is_lost = not unsynced.exists() or unsynced.stat().st_size == 0
        assert is_lost == (how != "frozen")
        return left

    def copy(self, name: str) -> Path:
        """Copy all that is on the disk to a name outside of it; where the store is then."""
        self.namespace.do("cp", "-r", self.folder, self._place / name)
        return self._place / name / self.store.name

    def end(self) -> None:
        """Delete the disk, and all copies."""
        self._unmount()
        shutil.rmtree(self._place)

    def _unmount(self) -> None:
        while self.namespace.run("umount", self.folder).code:  # killed processes may still end
            time.sleep(0.02)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def namespace() -> Iterator[Mounts]:
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root and mkfs.ext4")
    with mounts(user=False) as namespace:
        yield namespace


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The store after each of the recipes, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    commands, stores = Commands(), []
    for number, made in enumerate(RECIPES):
        stores.append(folder / f"{number}.zarr")
        if number:
            shutil.copytree(stores[number - 1], stores[number])
        assert commands.build(made, stores[number]) == (0, "")
    commands.close()
    return stores


def n_vouched(store: Path) -> int:
    """How many shards the receipts vouch for, each of which has the digest that they say."""
    count = 0
    for path in store.with_name(store.name + ".build").glob("receipts/*.json"):
        receipt = read_receipt(path)
        for column, facts in receipt.get("columns", {}).items():
            (shard,) = [
                file
                for file in (store / column / "c" / str(receipt["shard"])).rglob("*")
                if file.is_file()
            ]
            assert digest_file(shard) == facts["digest"], shard
            count += 1
    return count


def build_all(
    machine: Machine, executor: str = "serial", env: Mapping[str, str] | None = None
) -> Commands:
    """A process that begins to build the recipes, one after the other, in a store of the disk."""
    commands = Commands(env, machine.namespace.enter)
    assert commands.build(RECIPES[0], machine.folder.with_name("warm.zarr")) == (0, "")
    for made in RECIPES:
        commands.begin_build(made, machine.store, executor)
    return commands


@pytest.mark.promise("P2")
@pytest.mark.parametrize(
    ("n_cuts", "executor"),
    [
        (2, "serial"),
        pytest.param(40, "serial", marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]),
        pytest.param(20, "processes", marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]),
    ],
)
def test_what_was_vouched_for_is_there_after_a_power_cut(
    tmp_path: Path, namespace: Mounts, wholes: list[Path], figure: Figure,
    n_cuts: int, executor: str,
) -> None:  # fmt: skip
    undisturbed = build_all(Machine(namespace, tmp_path / "undisturbed"), executor)
    begin = time.monotonic()
    assert [undisturbed.answer() for _ in RECIPES] == [(0, "")] * len(RECIPES)
    duration = time.monotonic() - begin
    undisturbed.close()
    chance, n_shards = random.Random(n_cuts), 0
    resuming = Commands(enter=namespace.enter)
    for number in range(n_cuts):
        how = chance.choice(["at once", *CUTS])
        machine = Machine(namespace, tmp_path / str(number))
        commands = build_all(machine, executor)
        time.sleep(chance.uniform(0, duration))
        machine.cut(how)
        n_built = commands.kill().count((0, ""))
        left = machine.restart(how)
        n_shards += n_vouched(left)
        last = min(n_built, len(RECIPES) - 1)
        check_between(left, columns(wholes[n_built - 1]) if n_built else set(), wholes[last])
        assert resuming.build(RECIPES[last], machine.store) == (0, "")
        resumed = machine.copy("resumed")
        assert data_files(resumed) == data_files(wholes[last])
        assert eegstore.verify(resumed, deep=True) == []
        machine.end()
    resuming.close()
    assert n_shards >= n_cuts // 10
    figure("cuts, after which builds went on to the same bytes", n_cuts, n_cuts)
    figure("shards that receipts vouched for, there with their digests", n_shards, n_shards)


def test_a_store_that_was_never_synced_does_not_survive(
    tmp_path: Path, namespace: Mounts, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The cut takes what the page cache holds: else nothing above would prove anything."""
    disk = Disk(tmp_path_factory.mktemp("faults"))
    machine = Machine(namespace, tmp_path / "a")
    disk.watch(machine.folder)  # no sync of it is passed on
    commands = build_all(machine, env=disk.env)
    assert [commands.answer() for _ in RECIPES] == [(0, "")] * len(RECIPES)
    machine.cut("at once")
    commands.kill()
    assert not machine.restart("at once").exists()

"""One flipped bit, wherever it is: no reader takes it for data, and ``verify`` names its file."""

from __future__ import annotations

import contextlib
import itertools
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

import eegstore
from eegstore import DamageError, InputError, verify
from eegstore.arrays import layout_of
from eegstore.shards import CRC_BYTES, Layout
from every_kind import PROFILES, build, write_input

ROOT = "zarr.json"
Part = tuple[str, range]  # a file, and the positions of some of its bytes
Flip = tuple[str, int, int]  # a file, a position, a bit
COUNTS = pytest.mark.parametrize(
    "count", [20, pytest.param(1000, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])]
)


@pytest.fixture(scope="module", params=PROFILES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of each codec profile; a test that damages it mends it again."""
    folder = tmp_path_factory.mktemp(request.param)
    write_input(folder)
    return build(folder, request.param, executor="serial")


def parts_of_shard(content: bytes, layout: Layout) -> Iterator[range]:
    """Values and checksum of the first chunk and of the last; the index and its checksum."""
    end = len(content)
    index = np.frombuffer(content[end - layout.index_bytes : end - CRC_BYTES], dtype="<u8")
    used = [(int(start), int(length)) for start, length in index.reshape(-1, 2) if start < end]
    for start, length in (used[0], used[-1]):
        yield range(start, start + length - CRC_BYTES)
        yield range(start + length - CRC_BYTES, start + length)
    yield range(end - layout.index_bytes, end - CRC_BYTES)
    yield range(end - CRC_BYTES, end)


def parts_of(store: Path) -> list[Part]:
    """Every file of a store, a shard by its parts."""
    opened = eegstore.open_store(store)
    layouts = {
        entry.path: layout_of(opened.document(entry.path))
        for entry in opened.attributes.columns
        if entry.kind == "wide"
    }
    parts: list[Part] = []
    for path in sorted(path for path in store.rglob("*") if path.is_file()):
        name, content = path.relative_to(store).as_posix(), path.read_bytes()
        array, inside, _ = name.partition("/c/")
        if inside and array in layouts:
            parts += [(name, part) for part in parts_of_shard(content, layouts[array])]
        else:
            parts.append((name, range(len(content))))
    return parts


def flips(store: Path, count: int) -> list[Flip]:
    """So many flips, in each part of each file in turn."""
    chance = random.Random(f"{store.name}, {count}")
    parts = parts_of(store)
    turns = itertools.chain.from_iterable(chance.sample(parts, len(parts)) for _ in range(count))
    return [
        (name, chance.choice(positions), chance.randrange(8))
        for name, positions in itertools.islice(turns, count)
    ]


@contextlib.contextmanager
def flipped(file: Path, position: int, bit: int) -> Iterator[None]:
    """One bit of a file is another while the context lasts."""
    before = file.read_bytes()
    after = bytearray(before)
    after[position] ^= 1 << bit
    file.write_bytes(after)
    try:
        yield
    finally:
        file.write_bytes(before)


def read_everything(store: Path) -> None:
    """Every column by slice and by row numbers, and every coordinate."""
    opened = eegstore.open_store(store)
    for table in (opened.trials, opened.stimuli):
        assert all(table.coords.values())
        rows = np.arange(table.n_rows)[::-1]
        for column in table.values():
            np.testing.assert_array_equal(column[:], column[rows][::-1])


def is_refused(store: Path, name: str) -> bool:
    """Whether reading everything raises, and says which array (or store) is damaged."""
    try:
        read_everything(store)
    except (DamageError, InputError) as error:
        place = str(store) if name == ROOT else name.removesuffix(ROOT).partition("/c/")[0]
        return place in str(error)
    return False


def is_named(store: Path, name: str) -> bool:
    """Whether ``verify --deep`` names the file, and no other."""
    try:
        return [damage.file for damage in verify(store, deep=True)] == [name]
    except InputError as error:  # the root document no longer says that the store is ours
        return name == ROOT and str(store) in str(error)


@pytest.mark.promise("P6")
@COUNTS
def test_a_flipped_bit_is_never_read_and_its_file_is_named(
    store: Path, count: int, figure: Callable[[str, int, int], None]
) -> None:
    read_everything(store)
    read: list[Flip] = []
    unnamed: list[Flip] = []
    for flip in flips(store, count):
        name, position, bit = flip
        with flipped(store / name, position, bit):
            read += [] if is_refused(store, name) else [flip]
            unnamed += [] if is_named(store, name) else [flip]
    figure("flipped bits raised when read", count - len(read), count)
    figure("flipped bits named by verify --deep", count - len(unnamed), count)
    assert (read, unnamed) == ([], [])
    assert verify(store, deep=True) == []


def test_every_part_of_a_shard_is_among_the_flips(store: Path) -> None:
    shards = {name for name, _ in parts_of(store) if name.startswith("trials/eeg/c/")}
    assert shards == {f"trials/eeg/c/{shard}/0/0" for shard in range(3)}
    for name in shards:
        parts = [part for known, part in parts_of(store) if known == name]
        assert len(parts) == 6
        assert parts[-1].stop == (store / name).stat().st_size


@pytest.mark.promise("P6")
@COUNTS
def test_a_flipped_bit_of_values_is_refused_by_zarr_too(
    store: Path, count: int, figure: Callable[[str, int, int], None]
) -> None:
    read: list[Flip] = []
    of_values = [flip for flip in flips(store, 2 * count) if not flip[0].endswith(ROOT)][:count]
    for name, position, bit in of_values:
        array = store / name.partition("/c/")[0]
        with warnings.catch_warnings():
            # pcodec is not in the Zarr v3 specification, as zarr-python says of the archive.
            warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3")
            zarr.open_array(array, mode="r")[...]
            with flipped(store / name, position, bit):
                try:
                    zarr.open_array(array, mode="r")[...]
                except Exception:  # whatever it raises, it has not read the flipped bit
                    continue
        read.append((name, position, bit))
    figure("flipped bits refused by zarr-python", len(of_values) - len(read), len(of_values))
    assert len(of_values) > count * 0.9
    assert read == []

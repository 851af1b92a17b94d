"""The reader: the values that zarr-python gives, whatever the profile, the type and the rows."""

from __future__ import annotations

import os
import pickle
import resource
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eegstore import DamageError, compiling, decoding, mapping, threads
from eegstore.mapping import OneByOne, OneRange
from eegstore.part import Part
from eegstore.reader import ShardedArray
from eegstore.shards import Layout, effective_codec
from test_shards import CODECS, layouts, read_with_zarr, sizes_of, values_of, write, write_documents

# The way of copying is the same in all examples.
UNHARMED = [HealthCheck.function_scoped_fixture]


def written(folder: Path, layout: Layout) -> ShardedArray:
    finished = write(folder, layout, values_of(layout))
    return ShardedArray(folder, layout, sizes_of(finished))


@st.composite
def signals(draw: st.DrawFn) -> Layout:
    dtype = draw(st.sampled_from(("float32", "float64", "int16", "uint8", "float16")))
    chunk_rows = 2 ** draw(st.integers(0, 3))
    return Layout(
        n_rows=draw(st.integers(1, 40)),
        # Pieces that are shorter, and longer, than what compiled code copies at a time.
        row_shape=(draw(st.integers(1, 5)), draw(st.integers(1, 9) | st.integers(30, 600))),
        dtype=dtype,
        shard_rows=chunk_rows * 2 ** draw(st.integers(0, 2)),
        chunk_rows=chunk_rows,
        codec=effective_codec(draw(st.sampled_from(CODECS)), dtype),
    )


@pytest.fixture(autouse=True, params=["numpy", "compiled"])
def copied_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of memory are copied by numpy, and by compiled code."""
    is_compiled = request.param == "compiled"
    if is_compiled:
        pytest.importorskip("numba")
        assert compiling.loaded() is not None
    monkeypatch.setattr(compiling, "BYTES_BEFORE", -1 if is_compiled else 1 << 62)


@pytest.mark.parametrize("in_one_range", [True, False])
@settings(deadline=None, max_examples=40, suppress_health_check=UNHARMED)
@given(layout=layouts(), data=st.data())
def test_any_rows_are_those_of_zarr(
    in_one_range: bool, layout: Layout, data: st.DataObject
) -> None:
    rows = st.lists(st.integers(0, layout.n_rows - 1), max_size=90)
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        if not in_one_range:
            patch.setattr(mapping, "MOST_IN_ONE_RANGE", 0)
            patch.setattr(mapping, "FILES_KEPT", 2)
        array = written(Path(temporary, "column"), layout)
        assert isinstance(array._files, OneRange if in_one_range else OneByOne)
        write_documents(Path(temporary), layout)
        expected = read_with_zarr(Path(temporary, "column"))
        for _ in range(3):
            chosen = np.array(data.draw(rows), dtype=np.int64)
            found = array.take(chosen)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected[chosen])
        start, stop = sorted(data.draw(st.integers(0, layout.n_rows)) for _ in range(2))
        np.testing.assert_array_equal(array.read(start, stop), expected[start:stop])
        row = data.draw(st.integers(0, layout.n_rows - 1))
        np.testing.assert_array_equal(array.row(row), expected[row])


@settings(deadline=None, max_examples=60, suppress_health_check=UNHARMED)
@given(layout=signals(), data=st.data())
def test_a_part_of_each_row_is_that_of_the_whole(layout: Layout, data: st.DataObject) -> None:
    n_channels, n_times = layout.row_shape
    channels = data.draw(st.lists(st.integers(0, n_channels - 1), max_size=6))
    times = slice(*sorted(data.draw(st.integers(0, n_times)) for _ in range(2)))
    rows = np.array(data.draw(st.lists(st.integers(0, layout.n_rows - 1), max_size=30)), dtype=int)
    with tempfile.TemporaryDirectory() as temporary:
        array = written(Path(temporary), layout)
        part = Part.of(layout, np.array(channels, dtype=np.int64), times)
        expected = values_of(layout)[rows][:, channels, times]
        found = array.take(rows, part)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("codec", CODECS)
def test_rows_are_read_into_the_callers_array(tmp_path: Path, codec: str) -> None:
    layout = Layout(50, (3, 5), "float32", 16, 4, codec)
    array, values = written(tmp_path, layout), values_of(layout)
    rows = np.array([49, 0, 17, 17])
    out = np.zeros((6, 3, 5), dtype=np.float32)
    assert array.take(rows, out=out[1:5]).base is out
    np.testing.assert_array_equal(out[1:5], values[rows])
    assert not out[0].any()
    assert not out[5].any()
    array.read(3, 9, out=out)
    np.testing.assert_array_equal(out, values[3:9])
    for wrong in (out, out[:4].astype("f8"), np.zeros((3, 5, 4), "f4").T, out[:4, :, :4]):
        with pytest.raises(
            ValueError, match=r"^out is .*, expected contiguous float32 \(4, 3, 5\)"
        ):
            array.take(rows, out=wrong)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8"])
def test_large_rows_are_whole(tmp_path: Path, dtype: str) -> None:
    layout = Layout(9, (64, 1024), dtype, 4, 2, "raw")
    array, values = written(tmp_path, layout), values_of(layout)
    rows = np.array([8, 0, 5, 5])
    np.testing.assert_array_equal(array.take(rows), values[rows])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("row", [-1, 50, 63, 64, 10**12, -(10**12)])
def test_a_row_that_is_not_there_is_never_copied(tmp_path: Path, codec: str, row: int) -> None:
    array = written(tmp_path, Layout(50, (3, 5), "float32", 32, 4, codec))
    with pytest.raises(IndexError, match=f"{row} .*of 50|to {row} of 50"):
        array.take(np.array([7, row]))


@pytest.mark.parametrize("codec", ["fast", "small", "archive"])
def test_more_chunks_than_there_is_room_for_are_read(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(300, (3,), "float32", 64, 4, codec)
    monkeypatch.setattr(decoding, "KEPT_BYTES", 5 * layout.chunk_bytes)
    monkeypatch.setattr(threads, "PART_BYTES", 1)
    array, values = written(tmp_path, layout), values_of(layout)
    generator = np.random.default_rng(0)
    for size in (1, 7, 300, 40, 300):
        rows = generator.integers(0, 300, size)
        np.testing.assert_array_equal(array.take(rows), values[rows])
    assert array._decoded is not None
    assert array._decoded.memory.shape == (5, layout.chunk_bytes)


@pytest.mark.parametrize("direct", [True, False])
def test_rows_that_are_chunks_of_their_own_are_decoded_in_place(
    tmp_path: Path, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "PART_BYTES", 1)
    if not direct:
        monkeypatch.setattr("eegstore.reader.blosc_function", lambda: None)
    layout = Layout(100, (4, 30), "float32", 64, 1, "fast")
    array, values = written(tmp_path, layout), values_of(layout)
    rows = np.random.default_rng(0).integers(0, 100, 70)
    np.testing.assert_array_equal(array.take(rows), values[rows])
    part = Part.of(layout, np.array([3, 1]), slice(5, 9))
    np.testing.assert_array_equal(array.take(rows, part), values[rows][:, [3, 1], 5:9])


@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_chunk_raises_every_time_and_the_others_are_read(
    tmp_path: Path, codec: str
) -> None:
    layout = Layout(40, (3, 50), "float32", 16, 4, codec)
    finished = write(tmp_path, layout, values_of(layout))
    shard = tmp_path / layout.shard_name(1)
    content = bytearray(shard.read_bytes())
    content[10] ^= 4  # in rows 16 to 19
    shard.write_bytes(content)
    array = ShardedArray(tmp_path, layout, sizes_of(finished))
    good = np.r_[:16, 20:40]
    for _ in range(2):
        with pytest.raises(DamageError, match="c/1/0/0: inner chunk 0 fails its crc32c"):
            array.take(np.array([0, 17, 39]))
        with pytest.raises(DamageError, match="c/1/0/0: inner chunk 0 fails its crc32c"):
            array.row(19)
        np.testing.assert_array_equal(array.take(good), values_of(layout)[good])


@pytest.mark.parametrize("codec", CODECS)
def test_shards_of_another_column_are_not_decoded(tmp_path: Path, codec: str) -> None:
    layout = Layout(16, (3,), "float32", 16, 4, codec)
    write(tmp_path, layout, values_of(layout))
    wider = Layout(16, (4,), "float32", 16, 4, codec)
    with pytest.raises(DamageError, match="inner chunk 0 is not one of this column"):
        ShardedArray(tmp_path, wider).take(np.array([1]))


@pytest.mark.parametrize("codec", ["raw", "fast"])
def test_a_shard_that_is_replaced_or_deleted_is_read_on_as_it_was(
    tmp_path: Path, codec: str
) -> None:
    layout = Layout(40, (3,), "float32", 16, 4, codec)
    array, values = written(tmp_path, layout), values_of(layout)
    array.take(np.array([0, 20]))
    other = write(tmp_path / "other", layout, values_of(layout, seed=1))
    assert len(other) == 3
    (tmp_path / "other" / layout.shard_name(0)).rename(tmp_path / layout.shard_name(0))
    (tmp_path / layout.shard_name(1)).unlink()
    rows = np.arange(31)[::-1]
    np.testing.assert_array_equal(array.take(rows), values[rows])


def test_a_limit_on_addresses_is_no_hindrance(tmp_path: Path) -> None:
    layout = Layout(64, (1 << 18,), "float32", 2, 1, "raw")
    values = np.arange(64, dtype="f4")[:, None] * np.ones(1 << 18, "f4")
    sizes = sizes_of(write(tmp_path, layout, values))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
            resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20), -1))
            array = ShardedArray(tmp_path, layout, sizes)
            found = array.take(np.array([63, 0, 20]))[:, -1].tolist()
            os.write(writing, f"{type(array._files).__name__} {found}".encode())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reading, 100) == b"OneByOne [63.0, 0.0, 20.0]"


def test_memory_is_unmapped_with_the_array(tmp_path: Path) -> None:
    layout = Layout(40, (3,), "float32", 16, 4, "raw")

    def n_mappings() -> int:
        return Path("/proc/self/maps").read_text().count(str(tmp_path))

    array = written(tmp_path, layout)
    array.read(0, 40)
    assert n_mappings() == 3
    del array
    assert n_mappings() == 0


@pytest.mark.parametrize("codec", ["raw", "fast", "small"])
def test_threads_may_share_an_array(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(500, (7,), "float32", 64, 4, codec)
    monkeypatch.setattr(decoding, "KEPT_BYTES", 20 * layout.chunk_bytes)
    array, values = written(tmp_path, layout), values_of(layout)
    wrong: list[int] = []

    def read(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for _ in range(60):
            rows = generator.integers(0, 500, 50)
            if not np.array_equal(array.take(rows), values[rows], equal_nan=True):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("codec", ["raw", "fast", "small"])
def test_a_fork_reads_on(tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PART_BYTES", 1)
    layout = Layout(500, (7,), "float32", 64, 4, codec)
    array, values = written(tmp_path, layout), values_of(layout)
    rows = np.random.default_rng(0).permutation(500)
    np.testing.assert_array_equal(array.take(rows[:100]), values[rows[:100]])
    child = os.fork()
    if not child:
        same = np.array_equal(array.take(rows), values[rows], equal_nan=True)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_pickled_is_small(tmp_path: Path, codec: str) -> None:
    array = written(tmp_path, Layout(4000, (30,), "float32", 1024, 64, codec))
    array.read(0, 4000)
    content: Any = pickle.dumps(array)
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content).row(3999), array.row(3999))

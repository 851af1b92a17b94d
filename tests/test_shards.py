"""Shards: what is written is what any Zarr reader reads, and no damaged byte is read as data."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import resource
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eegstore import DamageError
from eegstore.documents import Documents
from eegstore.reader import ShardedArray
from eegstore.shards import (
    CRC_BYTES,
    MOST_COMING,
    MOST_UNDIGESTED,
    Codec,
    Layout,
    ShardWriter,
    effective_codec,
    fill_value,
    rows_holding,
    rows_near,
)

CODECS = ("raw", "fast", "small", "archive")
DTYPES = ("float32", "float64", "int64", "uint8", "bool")


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    dtype = draw(st.sampled_from(DTYPES))
    chunk_rows = 2 ** draw(st.integers(0, 4))
    return Layout(
        n_rows=draw(st.integers(1, 70)),
        row_shape=tuple(draw(st.lists(st.integers(1, 5), max_size=3))),
        dtype=dtype,
        shard_rows=chunk_rows * 2 ** draw(st.integers(0, 3)),
        chunk_rows=chunk_rows,
        codec=effective_codec(draw(st.sampled_from(CODECS)), dtype),
    )


def values_of(layout: Layout, seed: int = 0) -> NDArray[Any]:
    """Rows with every kind of value of the type, NaN and infinity included."""
    generator = np.random.default_rng(seed)
    shape = (layout.n_rows, *layout.row_shape)
    if layout.dtype == "bool":
        return generator.random(shape) < 0.5
    if layout.dtype.startswith("float"):
        values = generator.standard_normal(shape).astype(layout.dtype)
        special = generator.random(shape)
        values[special < 0.1] = np.nan
        values[special > 0.9] = -np.inf
        return values
    limits = np.iinfo(layout.dtype)
    return generator.integers(limits.min, limits.max, shape, layout.dtype, endpoint=True)


def write(
    folder: Path,
    layout: Layout,
    values: NDArray[Any],
    sizes: tuple[int, ...] = (7,),
    helpers: Executor | None = None,
) -> list[tuple[int, str]]:
    """Write all shards, in appends of these sizes, over and over; what ``finish`` returned."""
    finished = []
    for shard in range(layout.n_shards):
        path = folder / layout.shard_name(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        start, stop = layout.shard_range(shard)
        with ShardWriter(path, layout, helpers) as writer:
            for size in itertools.cycle(sizes):
                writer.append(values[start : min(start + size, stop)])
                start += size
                if start >= stop:
                    break
            finished.append(writer.finish())
    return finished


def write_documents(store: Path, layout: Layout) -> None:
    """The metadata that ``eegstore.documents`` makes for the array ``column``."""
    documents = Documents()
    dims = ("row", *(f"axis_{number}" for number in range(len(layout.row_shape))))
    documents.add_wide("column", layout, dims, {"units": "uV"})
    for path, content in documents.files().items():
        (store / path).parent.mkdir(parents=True, exist_ok=True)
        (store / path).write_bytes(content)


def read_with_zarr(folder: Path) -> NDArray[Any]:
    with warnings.catch_warnings():
        # pcodec is not in the Zarr v3 specification, as zarr-python says of the profile archive.
        warnings.filterwarnings("ignore", "Numcodecs codecs are not in the Zarr version 3")
        return np.asarray(zarr.open_array(folder, mode="r")[...])


def sizes_of(finished: list[tuple[int, str]]) -> NDArray[np.int64]:
    return np.array([size for size, _ in finished], dtype=np.int64)


@settings(deadline=None, max_examples=150)
@given(layout=layouts(), appends=st.lists(st.integers(1, 40), min_size=1), data=st.data())
def test_rows_are_read_back_by_zarr_and_by_number(
    layout: Layout, appends: list[int], data: st.DataObject
) -> None:
    values = values_of(layout)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "column")
        finished = write(folder, layout, values, tuple(appends))
        write_documents(Path(temporary), layout)
        read = read_with_zarr(folder)
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)

        array = ShardedArray(folder, layout, sizes_of(finished))
        assert len(array) == layout.n_rows
        rows = np.array(
            data.draw(st.lists(st.integers(0, layout.n_rows - 1), max_size=80)), dtype=np.int64
        )
        taken = array.take(rows)
        assert taken.dtype == values.dtype
        np.testing.assert_array_equal(taken, values[rows])
        start = data.draw(st.integers(0, layout.n_rows))
        stop = data.draw(st.integers(start, layout.n_rows))
        np.testing.assert_array_equal(array.read(start, stop), values[start:stop])
        np.testing.assert_array_equal(array.take(np.arange(start, stop)), values[start:stop])


@settings(deadline=None, max_examples=60)
@given(layout=layouts(), appends=st.lists(st.integers(1, 40), min_size=1))
def test_bytes_do_not_depend_on_how_rows_are_appended_nor_on_threads(
    layout: Layout, appends: list[int]
) -> None:
    values = values_of(layout)
    with tempfile.TemporaryDirectory() as temporary:
        once, many = Path(temporary, "once"), Path(temporary, "many")
        finished = write(once, layout, values, (layout.n_rows,))
        with ThreadPoolExecutor(3) as helpers:
            assert write(many, layout, values, tuple(appends), helpers) == finished
        for shard, (size, digest) in enumerate(finished):
            content = (once / layout.shard_name(shard)).read_bytes()
            assert (many / layout.shard_name(shard)).read_bytes() == content
            assert (size, digest) == (len(content), hashlib.sha256(content).hexdigest())


def test_an_error_of_a_helping_thread_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(64, (3,), "float32", 64, 2, "fast")

    def encode(_: Any) -> bytes:
        raise MemoryError("no room to encode")

    with ThreadPoolExecutor(2) as helpers, ShardWriter(tmp_path / "0", layout, helpers) as writer:
        monkeypatch.setattr(writer, "_codec", Codec(encode, writer._codec.decode))
        writer.append(values_of(layout))
        with pytest.raises(MemoryError, match="no room to encode"):
            writer.finish()


def test_few_rows_are_in_use_however_slowly_they_are_digested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(64, (3,), "float32", 64, 1, "raw")
    kept: list[weakref.ref[Any]] = []
    most = 0
    with ThreadPoolExecutor(3) as helpers, ShardWriter(tmp_path / "0", layout, helpers) as writer:
        digest = writer._digest
        monkeypatch.setattr(writer, "_digest", lambda: (time.sleep(0.01), digest()))
        for number in range(64):
            rows = np.full((1, 3), number, np.float32)
            kept.append(weakref.ref(rows))
            writer.append(rows)
            del rows
            most = max(most, sum(one() is not None for one in kept))
        _, found = writer.finish()
    assert found == hashlib.sha256((tmp_path / "0").read_bytes()).hexdigest()
    assert MOST_COMING < most <= MOST_COMING + 1 + MOST_UNDIGESTED + 1


def test_appends_take_any_strides_and_byte_order(tmp_path: Path) -> None:
    layout = Layout(6, (3,), "float32", 8, 2, "raw")
    values = values_of(layout)
    finished = write(tmp_path / "a", layout, np.asfortranarray(values))
    assert write(tmp_path / "b", layout, values.astype(">f4")) == finished
    np.testing.assert_array_equal(ShardedArray(tmp_path / "b", layout).read(0, 6), values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_is_the_fill_value(tmp_path: Path, dtype: str) -> None:
    layout = Layout(5, (2,), dtype, 8, 4, "raw")
    write(tmp_path, layout, np.ones((5, 2), dtype=dtype))
    content = (tmp_path / layout.shard_name(0)).read_bytes()
    first = 4 * layout.row_bytes + CRC_BYTES
    second = np.frombuffer(content, dtype=dtype, offset=first, count=8).reshape(4, 2)
    np.testing.assert_array_equal(second[0], np.ones(2))
    expected = np.nan if dtype.startswith("float") else 0
    np.testing.assert_array_equal(second[1:], np.full((3, 2), expected))
    np.testing.assert_array_equal(fill_value(dtype), expected)


def test_chunks_past_the_last_row_are_absent_from_the_index(tmp_path: Path) -> None:
    layout = Layout(3, (), "uint8", 8, 2, "raw")
    write(tmp_path, layout, np.array([1, 2, 3], dtype=np.uint8))
    content = (tmp_path / "c/0").read_bytes()
    index = np.frombuffer(content[-layout.index_bytes : -CRC_BYTES], dtype="<u8").reshape(4, 2)
    nothing = 2**64 - 1
    assert index.tolist() == [[0, 6], [6, 6], [nothing, nothing], [nothing, nothing]]
    assert len(content) == 12 + 64 + CRC_BYTES


@pytest.mark.promise("P6")
@pytest.mark.parametrize("codec", CODECS)
def test_every_flipped_bit_is_found_before_it_is_read(
    tmp_path: Path, codec: str, figure: Callable[[str, int, int], None]
) -> None:
    layout = Layout(7, (3,), "float32", 8, 4, codec)
    finished = write(tmp_path / "t" / "column", layout, values_of(layout))
    shard = tmp_path / "t" / "column" / layout.shard_name(0)
    content = shard.read_bytes()
    for position, bit in itertools.product(range(len(content)), range(8)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << bit
        shard.write_bytes(damaged)
        array = ShardedArray(tmp_path / "t" / "column", layout, sizes_of(finished))
        with pytest.raises(DamageError, match=r"t/column/c/0/0: .*crc32c"):
            array.take(np.array([6, 0]))
    figure("of all bits of a small shard found when flipped", 8 * len(content), 8 * len(content))


@pytest.mark.promise("P6")
@settings(deadline=None, max_examples=80)
@given(layout=layouts(), data=st.data())
def test_a_flipped_bit_is_found_in_any_shard(layout: Layout, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "column")
        finished = write(folder, layout, values_of(layout))
        damaged = data.draw(st.integers(0, layout.n_shards - 1))
        shard = folder / layout.shard_name(damaged)
        content = bytearray(shard.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        shard.write_bytes(content)
        array = ShardedArray(folder, layout, sizes_of(finished))
        start, stop = layout.shard_range(damaged)
        with pytest.raises(DamageError, match=layout.shard_name(damaged)):
            array.read(start, stop)
        values = values_of(layout)
        rest = np.r_[:start, stop : layout.n_rows]
        np.testing.assert_array_equal(array.take(rest), values[rest])


def test_rows_of_whole_chunks_are_read_beside_a_damaged_one(tmp_path: Path) -> None:
    layout = Layout(8, (2,), "int64", 8, 2, "raw")
    values = values_of(layout)
    write(tmp_path, layout, values)
    shard = tmp_path / layout.shard_name(0)
    content = bytearray(shard.read_bytes())
    content[40] ^= 1  # the second chunk begins at 2 * 16 + 4
    shard.write_bytes(content)
    array = ShardedArray(tmp_path, layout)
    np.testing.assert_array_equal(array.take(np.array([7, 0])), values[[7, 0]])
    for _ in range(2):
        with pytest.raises(DamageError, match="inner chunk 1 fails its crc32c"):
            array.take(np.array([0, 3]))


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("kept", [-1, 30, 10, 1, 0])
def test_a_truncated_shard_is_refused_by_name(tmp_path: Path, kept: int, committed: bool) -> None:
    layout = Layout(10, (2,), "float32", 4, 2, "raw")
    finished = write(tmp_path / "t" / "column", layout, values_of(layout))
    shard = tmp_path / "t" / "column" / layout.shard_name(1)
    shard.write_bytes(shard.read_bytes()[:kept])
    sizes = sizes_of(finished) if committed else None
    array = ShardedArray(tmp_path / "t" / "column", layout, sizes)
    expected = r"has \d+ bytes, expected 76" if committed else "has|fails"
    with pytest.raises(DamageError, match=rf"^t/column/c/1/0: .*({expected})"):
        array.read(4, 8)
    np.testing.assert_array_equal(array.read(0, 4), values_of(layout)[:4])


def test_a_missing_shard_is_refused_by_name(tmp_path: Path) -> None:
    layout = Layout(10, (2,), "float32", 4, 2, "raw")
    finished = write(tmp_path / "t" / "column", layout, values_of(layout))
    shard = tmp_path / "t" / "column" / layout.shard_name(2)
    shard.unlink()
    array = ShardedArray(tmp_path / "t" / "column", layout, sizes_of(finished))
    with pytest.raises(DamageError, match=r"^t/column/c/2/0: is missing"):
        array.take(np.array([9, 0]))
    shard.mkdir()
    with pytest.raises(DamageError, match=r"^t/column/c/2/0: is missing"):
        array.take(np.array([9, 0]))


def test_a_column_of_more_shards_than_files_may_be_open_is_read(tmp_path: Path) -> None:
    layout = Layout(400, (2,), "float32", 1, 1, "raw")
    finished = write(tmp_path / "column", layout, values_of(layout))
    array = ShardedArray(tmp_path / "column", layout, sizes_of(finished))
    rows = np.random.default_rng(2).permutation(np.repeat(np.arange(400), 3))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
    try:
        np.testing.assert_array_equal(array.read(0, 400), values_of(layout))
        np.testing.assert_array_equal(array.take(rows), values_of(layout)[rows])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_index_that_lacks_a_needed_chunk_is_refused(tmp_path: Path) -> None:
    short = Layout(4, (2,), "float32", 8, 2, "raw")
    write(tmp_path, short, values_of(short))
    longer = Layout(5, (2,), "float32", 8, 2, "raw")
    with pytest.raises(DamageError, match="the index names chunks that are not there"):
        ShardedArray(tmp_path, longer).read(0, 1)


@pytest.mark.parametrize("codec", CODECS)
def test_a_pickled_array_reads_the_same(tmp_path: Path, codec: str) -> None:
    layout = Layout(300, (3, 2), "float32", 128, 8, codec)
    values = values_of(layout)
    finished = write(tmp_path, layout, values)
    array = ShardedArray(tmp_path, layout, sizes_of(finished))
    rows = np.random.default_rng(1).permutation(300)
    np.testing.assert_array_equal(array.take(rows), values[rows])
    assert len(pickle.dumps(array)) < 1000
    again = pickle.loads(pickle.dumps(array))
    np.testing.assert_array_equal(again.take(rows), values[rows])
    (tmp_path / layout.shard_name(0)).write_bytes(b"")
    with pytest.raises(DamageError, match="has 0 bytes"):
        pickle.loads(pickle.dumps(array)).read(0, 1)


def test_what_is_read_can_be_written_to_and_is_no_view_of_the_file(tmp_path: Path) -> None:
    layout = Layout(4, (2,), "float32", 4, 2, "raw")
    values = values_of(layout)
    write(tmp_path, layout, values)
    array = ShardedArray(tmp_path, layout)
    for rows in (array.read(0, 4), array.take(np.array([3, 1]))):
        rows[...] = 7
    np.testing.assert_array_equal(array.read(0, 4), values)


@pytest.mark.parametrize(
    ("n_bytes", "row_bytes", "rows"),
    [
        (1 << 20, 1 << 20, 1),
        (1 << 20, 1 << 30, 1),
        (1 << 20, 14 * 256 * 4, 64),
        (1 << 20, 0, 1 << 20),
    ],
)
def test_rows_near_a_size_are_a_power_of_two(n_bytes: int, row_bytes: int, rows: int) -> None:
    assert rows_near(n_bytes, row_bytes) == rows


def test_rows_holding_is_the_least_power_of_two() -> None:
    assert [rows_holding(n) for n in (0, 1, 2, 3, 4, 5, 1024, 1025)] == [
        *(1, 1, 2, 4, 4, 8, 1024, 2048)
    ]


def test_archive_stores_what_pcodec_lacks_as_small() -> None:
    given = {dtype: effective_codec("archive", dtype) for dtype in (*DTYPES, "int8", "uint16")}
    assert given == {
        "float32": "archive",
        "float64": "archive",
        "int64": "archive",
        "uint8": "small",
        "bool": "small",
        "int8": "small",
        "uint16": "archive",
    }
    assert [effective_codec(one, "uint8") for one in ("raw", "fast", "small")] == [
        *("raw", "fast", "small")
    ]

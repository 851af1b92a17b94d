"""What a Zarr document says of an array, and the arrays of one chunk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from crc32c import crc32c
from numpy.typing import ArrayLike, NDArray

from eegstore.disk import Place, digest_bytes, read_regular
from eegstore.errors import DamageError
from eegstore.root import REMEDY, chunk_path
from eegstore.shards import CRC_BYTES, Layout

CODEC_OF: Final = {
    "bytes": "raw",
    "blosc": "fast",
    "zstd": "small",
    "numcodecs.pcodec": "archive",
}
TEXTS_AT_ONCE: Final = 1 << 14


def read_file(store: Place, path: str) -> bytes:
    """A file of a store, or a DamageError that names it and what to do."""
    try:
        return read_regular(store / path)
    except FileNotFoundError:
        raise DamageError(f"{store}: {path} is missing; {REMEDY}") from None
    except OSError as error:
        raise DamageError(f"{store}: {path} cannot be read ({error.strerror})") from None


def layout_of(document: Mapping[str, Any]) -> Layout:
    """The layout that a wide column's Zarr document describes."""
    sharding = document["codecs"][0]["configuration"]
    names = [codec["name"] for codec in sharding["codecs"]]
    coder = names[0] if len(names) == 2 else names[1]
    return Layout(
        n_rows=document["shape"][0],
        row_shape=tuple(document["shape"][1:]),
        dtype=document["data_type"],
        shard_rows=document["chunk_grid"]["configuration"]["chunk_shape"][0],
        chunk_rows=sharding["chunk_shape"][0],
        codec=CODEC_OF[coder],
    )


def read_narrow(
    store: Place, path: str, document: Mapping[str, Any], digest: str | None = None
) -> NDArray[Any]:
    """The values of an array of one chunk; its crc32c and, where given, its digest are checked.

    Strings follow the ``vlen-utf8`` codec: a count, then each string's length and bytes.
    """
    shape = tuple(document["shape"])
    chunk = chunk_path(path, len(shape))
    content = read_file(store, chunk)
    data = content[:-CRC_BYTES]
    if crc32c(data).to_bytes(CRC_BYTES, "little") != content[-CRC_BYTES:]:
        raise DamageError(f"{store}: {chunk} fails its crc32c; {REMEDY}")
    if digest is not None and digest_bytes(content) != digest:
        raise DamageError(f"{store}: {chunk} is not what was committed; open the store again")
    if document["data_type"] == "string":
        from numcodecs.vlen import VLenUTF8

        values: NDArray[Any] = VLenUTF8().decode(data).astype(np.str_)
    else:
        dtype = np.dtype(document["data_type"]).newbyteorder("<")
        expected = math.prod(shape) * dtype.itemsize
        if len(data) != expected:
            found = f"has {len(data)} bytes of values, expected {expected}"
            raise DamageError(f"{store}: {chunk} {found}; {REMEDY}")
        values = np.frombuffer(data, dtype=dtype)
    return values.reshape(shape)


def narrow_content(values: NDArray[Any]) -> bytes:
    """The chunk of an array of one chunk, as ``read_narrow`` reads it and zarr-python writes it.

    That library makes an object of every string, twice: of many trials more than all else.
    """
    if values.dtype.kind == "U":
        data = bytes(_texts(values.reshape(-1)))
    else:
        data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return data + _count(crc32c(data))


def _texts(values: NDArray[np.str_]) -> bytearray:
    """A count, then each string's length and bytes, some at a time."""
    content = bytearray(_count(len(values)))
    for start in range(0, len(values), TEXTS_AT_ONCE):
        texts = values[start : start + TEXTS_AT_ONCE].tolist()
        encoded = {text: text.encode() for text in set(texts)}
        record = {text: _count(len(one)) + one for text, one in encoded.items()}
        content += b"".join([record[text] for text in texts])
    return content


def _count(number: int) -> bytes:
    return number.to_bytes(4, "little")


def row_numbers(where: str, rows: ArrayLike, n_rows: int) -> NDArray[np.int64]:
    """int64, (row,): the rows that a list of numbers, none of them negative, or a mask names."""
    rows = np.asarray(rows)
    kind = rows.dtype.kind
    if kind == "b":
        if rows.shape != (n_rows,):
            raise IndexError(f"{where}: a mask of {rows.shape} for {n_rows} rows, one truth each")
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (kind not in "iu" and len(rows)):
        raise IndexError(
            f"{where}: rows must be integers or a mask, in a list or an array of one axis; these "
            f"are {rows.dtype} of shape {rows.shape}"
        )
    numbers = rows.astype(np.int64, copy=False)
    # As an unsigned number a negative one is too large.
    if len(rows) and numbers.view(np.uint64).max() >= n_rows:
        outside = rows[(numbers < 0) | (numbers >= n_rows)][0]
        unpaired = ""
        if outside < 0 and where.startswith("stimuli/"):
            unpaired = ", and an unpaired trial (stimulus -1) has none"
        raise IndexError(f"{where}: row {outside} of {n_rows}; rows count from 0{unpaired}")
    return numbers

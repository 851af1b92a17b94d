"""Arrays in ``.npy`` files: their headers, checked, and their values, by row ranges.

The format is numpy's NEP 1, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from eegstore import InputError
from eegstore_plugins.files import what_is_there

MAGIC: Final = b"\x93NUMPY"
# Of each version of the format: the bytes of the header's length, and numpy's parser.
HEADERS: Final = {
    b"\x01\x00": (2, npy_format.read_array_header_1_0),
    b"\x02\x00": (4, npy_format.read_array_header_2_0),
}
MAX_HEADER_BYTES: Final = 10_000  # numpy's own limit
BLOCK_BYTES: Final = 1 << 20
NUMBERS: Final = "fiu"  # the kinds of numpy's types that a signal and labels may be of
NATIVE: Final = np.dtype(np.float32)
PICKLED: Final = (
    "as THINGS-EEG2's preprocessed_eeg_*.npy are; a pickle can run code and is never loaded: "
    "save the array inside as plain .npy"
)
PICKLED_TEXT: Final = (
    "which can run code and is never loaded: save it as text or numbers, such as "
    "numpy.save(file, values.astype(str))"
)
IMPOSTORS: Final = {
    b"\x80": f"a pickle under the name .npy, {PICKLED}",
    b"PK": "a .npz archive under the name .npy; save the array inside with numpy.save",
}


class Array(NamedTuple):
    """An array as its file's header describes it; ``offset`` is of the first value, in bytes."""

    path: Path
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    offset: int


def header(path: Path, n_dims: int, kinds: str = NUMBERS) -> Array:
    """The header of a whole, non-empty array with ``n_dims`` axes, of some of numpy's kinds."""
    if not path.is_file():
        raise InputError(
            f"{path.name}: {what_is_there(path)} in {path.parent}, expected a .npy file; "
            "name it by data, labels, stimulus_keys or columns"
        )
    try:
        with path.open("rb") as file:
            shape, fortran_order, dtype = _read_header(file)
            offset = file.tell()
    except ValueError as error:
        raise InputError(f"{path.name}: {error}") from None
    if dtype.hasobject:
        how = PICKLED if kinds == NUMBERS else PICKLED_TEXT
        raise InputError(f"{path.name}: a pickled object array, {how}")
    if dtype.kind not in kinds or not dtype.itemsize:
        expected = "floats or integers" if kinds == NUMBERS else "text, numbers or bools"
        raise InputError(f"{path.name}: dtype {dtype!s:.100}, expected {expected}; save it as such")
    if len(shape) != n_dims or min(shape) < 1:
        axes = "(trial, channel, time)" if n_dims == 3 else "(trial,)"
        raise InputError(f"{path.name}: shape {shape!s:.100}, expected {axes} with no empty axis")
    promised, size = offset + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if size != promised:
        raise InputError(
            f"{path.name}: has {size} bytes, its header promises {promised} (shape {shape}, "
            f"{dtype}); it is {'truncated' if size < promised else 'followed by something else'}, "
            "copy it again"
        )
    return Array(path, shape, fortran_order, dtype, offset)


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype, by the format's specification.

    Raises
    ------
    ValueError
        Where it is no header, in words for the user.
    """
    start = file.read(len(MAGIC))
    for magic, what in IMPOSTORS.items():
        if start.startswith(magic):
            raise ValueError(what)
    version = file.read(2)
    if start != MAGIC or version not in HEADERS:
        began = f"begins with {start + version!r}" if start else "empty"
        raise ValueError(f"{began}, expected .npy of version 1 or 2; write it with numpy.save")
    width, parse = HEADERS[version]
    length = file.read(width)
    n_bytes = int.from_bytes(length, "little")
    if n_bytes > MAX_HEADER_BYTES:
        raise ValueError(
            f"a header of {n_bytes} bytes, expected at most {MAX_HEADER_BYTES}; "
            "write it with numpy.save"
        )
    header = file.read(n_bytes)
    if len(length) < width or len(header) < n_bytes:
        raise ValueError("ends inside its header; copy it again")
    try:
        with warnings.catch_warnings(action="ignore"):  # that Python 2 wrote it
            shape, fortran_order, dtype = parse(io.BytesIO(length + header))
    except Exception:  # a damaged header fails in numpy's parser in any of many ways
        raise ValueError(
            f"its header {header[:80]!r} does not give descr, fortran_order and shape; "
            "write it with numpy.save"
        ) from None
    # Such a number may have too many digits to be printed.
    if any(abs(one) >= 2**63 for one in shape):
        raise ValueError("an axis of 2**63 or more values, which no file holds; copy it again")
    return tuple(map(int, shape)), fortran_order, dtype


def read_vector(array: Array) -> NDArray[Any]:
    """All values of an array of one axis, in the machine's byte order."""
    values = np.fromfile(array.path, array.dtype, offset=array.offset)
    return values.astype(array.dtype.newbyteorder("="), copy=False)


def blocks(array: Array) -> Iterator[NDArray[Any]]:
    """All values, in the file's order."""
    with array.path.open("rb") as file:
        file.seek(array.offset)
        while len(block := np.fromfile(file, array.dtype, BLOCK_BYTES // array.dtype.itemsize)):
            yield block


def read_rows(array: Array, descriptor: int, start: int, out: NDArray[np.float32]) -> None:
    """Fill ``out`` with an array's rows from ``start`` on."""
    with np.errstate(over="ignore"):
        if array.fortran_order:
            out[:] = _mapped(array, descriptor)[start : start + len(out)]
            return
        rows = out if array.dtype == NATIVE else np.empty(out.shape, array.dtype)
        position = array.offset + start * rows[0].nbytes
        _read_exactly(array.path, descriptor, rows, position)
        if rows is not out:
            out[:] = rows


def _mapped(array: Array, descriptor: int) -> NDArray[Any]:
    """An array in Fortran order, whose rows lie scattered over the file."""
    end = array.offset + math.prod(array.shape) * array.dtype.itemsize
    size = os.fstat(descriptor).st_size
    if size < end:
        raise _cut(array.path, size)
    mapped = mmap.mmap(descriptor, end, access=mmap.ACCESS_READ)
    return np.ndarray(array.shape, array.dtype, mapped, array.offset, order="F")


def _read_exactly(path: Path, descriptor: int, rows: NDArray[Any], position: int) -> None:
    """Fill ``rows`` from a position of the file; the kernel may hand over less than was asked."""
    rest = rows.reshape(-1).view(np.uint8).data
    while rest:
        n_bytes = os.preadv(descriptor, [rest], position)
        if not n_bytes:
            raise _cut(path, position)
        rest, position = rest[n_bytes:], position + n_bytes


def _cut(path: Path, size: int) -> InputError:
    return InputError(f"{path.name}: ends at byte {size}; it was cut during the build")

"""Reads a folder of ``.npy`` arrays, one pair of data and labels a split, by row ranges."""

from __future__ import annotations

import io
import math
import mmap
import os
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from eegstore import InputError, Trials, digest_bytes, digest_files, hookimpl
from eegstore_plugins.files import what_is_there
from eegstore_plugins.labels import whole_labels
from eegstore_plugins.rounding import rounding_hints

DATA_SUFFIX: Final = "_data.npy"
LABELS_SUFFIX: Final = "_labels.npy"
MAGIC: Final = b"\x93NUMPY"
# Of each version of the format: the bytes of the header's length, and numpy's parser.
HEADERS: Final = {
    b"\x01\x00": (2, npy_format.read_array_header_1_0),
    b"\x02\x00": (4, npy_format.read_array_header_2_0),
}
MAX_HEADER_BYTES: Final = 10_000  # numpy's own limit
BLOCK_BYTES: Final = 1 << 20
NATIVE: Final = np.dtype(np.float32)
PICKLED: Final = (
    "as THINGS-EEG2's preprocessed_eeg_*.npy are; a pickle can run code and is never loaded: "
    "save the array inside as plain .npy"
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


class Split(NamedTuple):
    """A split: its signal, and its labels."""

    name: str
    data: Array
    labels: Array


@dataclass(frozen=True)
class NpyFolder:
    """``.npy`` arrays of a folder: of each split the signal (trial, channel, time) and the labels.

    Values may be floats or integers of any size and byte order; they are read as float32, a range
    at a time, never a whole file; what that changes most is said once. Object arrays and pickles
    are refused unread. The file format is numpy's NEP 1,
    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
    """

    name: ClassVar[str] = "npy"
    version: ClassVar[str] = "1"

    path: Path = field(metadata={"description": "The folder."})
    sfreq: float = field(
        metadata={
            "description": "Sampling rate.",
            "gt": 0,
            "allow_inf_nan": False,
            "json_schema_extra": {"unit": "Hz"},
        }
    )
    data: dict[str, str] = field(
        default_factory=dict,
        metadata={"description": "Split to file of its signal; every *_data.npy by default."},
    )
    labels: dict[str, str] = field(
        default_factory=dict,
        metadata={"description": "Split to file of its labels; SPLIT_labels.npy by default."},
    )
    ch_names: tuple[str, ...] = field(
        default=(), metadata={"description": "Channel names; ch1, ch2, … by default."}
    )
    tmin: float = field(
        default=0.0,
        metadata={
            "description": "Time of the first sample, from stimulus onset.",
            "allow_inf_nan": False,
            "json_schema_extra": {"unit": "s"},
        },
    )
    units: str = field(
        default="1", metadata={"description": "Unit of the signal, such as V; 1 is unknown."}
    )

    def __post_init__(self) -> None:
        if len(set(self.ch_names)) != len(self.ch_names):
            raise ValueError("ch_names holds a name twice, expected different names")

    def scan(self) -> Trials:
        _, n_channels, n_times = self._splits[0].data.shape
        ch_names = self.ch_names or tuple(f"ch{number}" for number in range(1, n_channels + 1))
        if len(ch_names) != n_channels:
            raise InputError(
                f"{self._splits[0].data.path.name}: has {n_channels} channels, "
                f"ch_names has {len(ch_names)}; name each channel once"
            )
        lengths = [split.data.shape[0] for split in self._splits]
        return Trials(
            n_trials=sum(lengths),
            ch_names=ch_names,
            sfreq=self.sfreq,
            times=self.tmin + np.arange(n_times) / self.sfreq,
            units=self.units,
            label=np.concatenate([_read_labels(split.labels) for split in self._splits]),
            split=np.repeat([split.name for split in self._splits], lengths),
            hints=(*self._pickle_hints(), *self._rounding_hints()),
        )

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        eeg = np.empty((stop - start, *self._splits[0].data.shape[1:]), dtype=np.float32)
        first = 0
        for split, descriptor in zip(self._splits, self._descriptors, strict=True):
            n_trials = split.data.shape[0]
            low, high = max(start - first, 0), min(stop - first, n_trials)
            if low < high:
                part = eeg[first + low - start : first + high - start]
                _read_rows(split.data, descriptor, low, part)
            first += n_trials
        return eeg

    def fingerprint(self) -> str:
        """Digest of the splits' names and their files' bytes."""
        return digest_bytes(
            *(
                f"{split.name}: {digest_files([split.data.path, split.labels.path])}\n".encode()
                for split in self._splits
            )
        )

    @cached_property
    def _splits(self) -> list[Split]:
        """The splits, ``train`` first; their headers are checked, their values untouched."""
        splits = [
            Split(name, _header(self.path / data, 3), _header(self.path / labels, 1))
            for name, data, labels in self._files()
        ]
        first = splits[0].data
        for _, data, labels in splits:
            if data.shape[1:] != first.shape[1:]:
                raise InputError(
                    f"{data.path.name}: trials of {data.shape[1:]} (channel, time), "
                    f"{first.path.name} has {first.shape[1:]}; splits must agree"
                )
            if labels.shape[0] != data.shape[0]:
                raise InputError(
                    f"{labels.path.name}: {labels.shape[0]} labels for the {data.shape[0]} trials "
                    f"of {data.path.name}; expected one a trial"
                )
        return splits

    def _files(self) -> Iterator[tuple[str, str, str]]:
        """Name, data file and labels file of each split."""
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no folder, expected one that holds .npy arrays")
        found = self.data or {
            path.name.removesuffix(DATA_SUFFIX): path.name
            for path in self.path.glob(f"?*{DATA_SUFFIX}")
        }
        if not found:
            raise InputError(
                f'{self.path}: holds no *{DATA_SUFFIX}; name the files: data = {{train = "…"}}'
            )
        strangers = sorted(set(self.labels) - set(found))
        if strangers:
            raise InputError(
                f"{self.path}: labels names the split {strangers[0]!r}, the data are of "
                f"{', '.join(sorted(found))}; give both for each split"
            )
        for name in sorted(found, key=lambda name: (name != "train", name)):
            if not (name + found[name]).isprintable():
                raise InputError(f"{self.path}: the name {found[name]!r} is no text; rename it")
            yield name, found[name], self.labels.get(name, f"{name}{LABELS_SUFFIX}")

    def _pickle_hints(self) -> Iterator[str]:
        if (self.path / "metadata.pkl").exists():
            yield (
                "metadata.pkl is not opened, for a pickle can run code: give what it says as "
                "sfreq, ch_names, tmin and units under [source]"
            )

    def _rounding_hints(self) -> Iterator[str]:
        """A line for each file whose numbers are not all the same as float32."""
        for _, data, _ in self._splits:
            yield from rounding_hints(data.path.name, data.dtype, _blocks(data))

    @cached_property
    def _descriptors(self) -> list[int]:
        """A file descriptor a split, opened once a process."""
        descriptors = []
        for split in self._splits:
            descriptors.append(os.open(split.data.path, os.O_RDONLY))
            weakref.finalize(self, os.close, descriptors[-1])
        return descriptors


def _header(path: Path, n_dims: int) -> Array:
    """The header of a whole, non-empty array of numbers with ``n_dims`` axes."""
    if not path.is_file():
        raise InputError(
            f"{path.name}: {what_is_there(path)} in {path.parent}, expected a .npy file; "
            "name it by data or labels"
        )
    try:
        with path.open("rb") as file:
            shape, fortran_order, dtype = _read_header(file)
            offset = file.tell()
    except ValueError as error:
        raise InputError(f"{path.name}: {error}") from None
    if dtype.hasobject:
        raise InputError(f"{path.name}: a pickled object array, {PICKLED}")
    if dtype.kind not in "fiu":
        raise InputError(
            f"{path.name}: dtype {dtype!s:.100}, expected floats or integers; save it as such"
        )
    if len(shape) != n_dims or min(shape) < 1:
        axes = "(trial, channel, time)" if n_dims == 3 else "(trial,)"
        raise InputError(f"{path.name}: shape {shape!s:.100}, expected {axes} with no empty axis")
    expected, size = offset + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if size != expected:
        raise InputError(
            f"{path.name}: has {size} bytes, its header promises {expected} (shape {shape}, "
            f"{dtype}); it is {'truncated' if size < expected else 'followed by something else'}, "
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


def _read_labels(array: Array) -> NDArray[np.int64]:
    """int64, (trial,): the labels, from any numbers that are whole."""
    return whole_labels(array.path.name, np.fromfile(array.path, array.dtype, offset=array.offset))


def _blocks(array: Array) -> Iterator[NDArray[Any]]:
    """All values, in the file's order."""
    with array.path.open("rb") as file:
        file.seek(array.offset)
        while len(block := np.fromfile(file, array.dtype, BLOCK_BYTES // array.dtype.itemsize)):
            yield block


def _read_rows(array: Array, descriptor: int, start: int, out: NDArray[np.float32]) -> None:
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


@hookimpl
def eegstore_sources() -> list[type[NpyFolder]]:
    """Offer the source."""
    return [NpyFolder]

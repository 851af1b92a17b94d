"""Reads a folder of ``.npy`` arrays, one pair of data and labels a split, by row ranges."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eegstore import InputError, Trials, digest_bytes, digest_files, hookimpl
from eegstore_plugins.columns import KINDS, check_names, checked_column, checked_keys
from eegstore_plugins.labels import whole_labels
from eegstore_plugins.npy_file import Array, blocks, header, read_rows, read_vector
from eegstore_plugins.rounding import rounding_hints

DATA_SUFFIX: Final = "_data.npy"
LABELS_SUFFIX: Final = "_labels.npy"
SPLIT: Final = "{split}"  # stands for a split's name in the name of a file
OF_FILES: Final = f"one file, '{SPLIT}_NAME.npy' of each split, or a table of split to file"

# The name of a file, or split to file.
Files = str | dict[str, str]


class Split(NamedTuple):
    """A split: its signal, its labels and keys where it has them, and its further columns."""

    name: str
    data: Array
    labels: Array | None
    keys: Array | None
    columns: dict[str, Array]

    @property
    def vectors(self) -> list[Array]:
        """The files of one value a trial."""
        return [one for one in (self.labels, self.keys, *self.columns.values()) if one]


@dataclass(frozen=True)
class NpyFolder:
    """``.npy`` arrays of a folder: of each split the signal (trial, channel, time) and the labels.

    Further files give what was shown in each trial (``stimulus_keys``) and columns such as subject
    and session; with keys, labels may be absent. Files are named from the folder on.

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
    stimulus_keys: Files = field(
        default="",
        metadata={
            "description": "File of what was shown in each trial, text or whole numbers ('' or -1: "
            f"nothing): {OF_FILES}."
        },
    )
    columns: dict[str, Files] = field(
        default_factory=dict,
        metadata={
            "description": "Column to file of one value a trial, text, numbers or bools, such as "
            f"subject = 'subject.npy': {OF_FILES}."
        },
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
        check_names(self.columns)

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
            label=np.concatenate([_labels(split) for split in self._splits]),
            stimulus_key=self._keys(),
            columns={name: self._column(name) for name in self.columns},
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
                read_rows(split.data, descriptor, low, part)
            first += n_trials
        return eeg

    def fingerprint(self) -> str:
        """Digest of the splits' names and their files' bytes."""
        return digest_bytes(
            *(f"{split.name}: {_digest(split)}\n".encode() for split in self._splits)
        )

    def _keys(self) -> NDArray[np.str_] | None:
        """What was shown in each trial, where the recipe says."""
        files = [split.keys for split in self._splits if split.keys]
        parts = [checked_keys(one.path.name, read_vector(one)) for one in files]
        return np.concatenate(parts) if parts else None

    def _column(self, name: str) -> NDArray[Any]:
        """The values of a column, of all splits."""
        files = [split.columns[name] for split in self._splits]
        parts = [checked_column(one.path.name, name, read_vector(one)) for one in files]
        for file, part in zip(files, parts, strict=True):
            if (part.dtype.kind == "U") != (parts[0].dtype.kind == "U"):
                raise InputError(
                    f"{file.path.name}: {part.dtype}, {files[0].path.name} has {parts[0].dtype}; "
                    f"save the column {name!r} as text or as numbers in all splits"
                )
        return checked_column(files[0].path.name, name, np.concatenate(parts))

    @cached_property
    def _splits(self) -> list[Split]:
        """The splits, ``train`` first; their headers are checked, their values untouched."""
        splits = [self._split(name, data) for name, data in self._files()]
        first = splits[0].data
        for split in splits:
            data = split.data
            if data.shape[1:] != first.shape[1:]:
                raise InputError(
                    f"{data.path.name}: trials of {data.shape[1:]} (channel, time), "
                    f"{first.path.name} has {first.shape[1:]}; splits must agree"
                )
            for one in split.vectors:
                if one.shape[0] != data.shape[0]:
                    what = "labels" if one is split.labels else "values"
                    raise InputError(
                        f"{one.path.name}: {one.shape[0]} {what} for the {data.shape[0]} trials "
                        f"of {data.path.name}; expected one a trial"
                    )
        return splits

    def _split(self, name: str, data: str) -> Split:
        """The headers of a split's files."""
        signal = header(self.path / data, 3)
        labels = self.path / self.labels.get(name, f"{name}{LABELS_SUFFIX}")
        # With keys, a trial needs no label: it is paired by what was shown.
        is_labelled = name in self.labels or not self.stimulus_keys or labels.exists()
        keys = _file_of(self.stimulus_keys, name)
        return Split(
            name,
            signal,
            header(labels, 1) if is_labelled else None,
            header(self.path / keys, 1, KINDS) if keys else None,
            {
                column: header(self.path / _file_of(files, name), 1, KINDS)
                for column, files in self.columns.items()
            },
        )

    def _files(self) -> Iterator[tuple[str, str]]:
        """Name and data file of each split."""
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
        self._check_tables(set(found))
        for name in sorted(found, key=lambda name: (name != "train", name)):
            if not (name + found[name]).isprintable():
                raise InputError(f"{self.path}: the name {found[name]!r} is no text; rename it")
            yield name, found[name]

    def _check_tables(self, splits: set[str]) -> None:
        """Refuse options that name files of other splits than there are, or not of all."""
        further = {f"columns.{name}": files for name, files in self.columns.items()}
        if self.stimulus_keys:
            further["stimulus_keys"] = self.stimulus_keys
        named = {"labels": self.labels} | further
        there = ", ".join(sorted(splits))
        for option, files in named.items():
            strangers = sorted(set(files) - splits) if isinstance(files, dict) else []
            if strangers:
                raise InputError(
                    f"{self.path}: {option} names the split {strangers[0]!r}, the data are of "
                    f"{there}; give both for each split"
                )
        for option, files in further.items():
            missing = sorted(splits - set(files)) if isinstance(files, dict) else []
            if missing:
                raise InputError(
                    f"{self.path}: {option} names no file of the split {missing[0]!r}, expected "
                    f"one of each of {there}"
                )
            if isinstance(files, str) and SPLIT not in files and len(splits) > 1:
                raise InputError(
                    f"{self.path}: {option} is {files!r}, one file for the splits {there}; name "
                    f"one of each: '{SPLIT}_NAME.npy', or {{train = \"…\", …}}"
                )

    def _pickle_hints(self) -> Iterator[str]:
        if (self.path / "metadata.pkl").exists():
            yield (
                "metadata.pkl is not opened, for a pickle can run code: give what it says as "
                "sfreq, ch_names, tmin and units under [source]"
            )

    def _rounding_hints(self) -> Iterator[str]:
        """A line for each file whose numbers are not all the same as float32."""
        for data in (split.data for split in self._splits):
            yield from rounding_hints(data.path.name, data.dtype, blocks(data))

    @cached_property
    def _descriptors(self) -> list[int]:
        """A file descriptor a split, opened once a process."""
        descriptors = []
        for split in self._splits:
            descriptors.append(os.open(split.data.path, os.O_RDONLY))
            weakref.finalize(self, os.close, descriptors[-1])
        return descriptors


def _file_of(files: Files, split: str) -> str:
    """The file of a split; empty where there is none."""
    return files.replace(SPLIT, split) if isinstance(files, str) else files.get(split, "")


def _labels(split: Split) -> NDArray[np.int64]:
    """int64, (trial,): the labels, from any numbers that are whole; -1 where there are none."""
    if split.labels is None:
        return np.full(split.data.shape[0], -1, dtype=np.int64)
    return whole_labels(split.labels.path.name, read_vector(split.labels))


def _digest(split: Split) -> str:
    """Digest of the bytes of a split's files, each of the further ones with what it is."""
    files = [one.path for one in (split.data, split.labels) if one]
    further = {f"columns.{name}": one for name, one in sorted(split.columns.items())}
    if split.keys:
        further["stimulus_keys"] = split.keys
    digests = [f"{option} {digest_files([one.path])}" for option, one in further.items()]
    return " ".join([digest_files(files), *digests])


@hookimpl
def eegstore_sources() -> list[type[NpyFolder]]:
    """Offer the source."""
    return [NpyFolder]

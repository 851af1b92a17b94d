"""Source and exporter ``hdf5``: trials in one HDF5 file, read and written by row ranges."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eegstore import Column, InputError, Trials, __version__, digest_files, hookimpl
from eegstore_plugins.columns import KNOWN, check_names, checked_column
from eegstore_plugins.hdf5_file import (
    BLOCK_BYTES,
    Output,
    blocks,
    check_written,
    find_dataset,
    inside,
    opened,
    place,
)
from eegstore_plugins.labels import whole_labels
from eegstore_plugins.rounding import rounding_hints

if TYPE_CHECKING:
    from eegstore import Store

ROW_DIMENSION: Final = {"trials": "trial", "stimuli": "stimulus"}
EEG: Final = "trials/eeg"
TEXTS: Final = ("split", "stimulus_key")
VERSION: Final = "eegstore_version"  # the root attribute that marks a file of the exporter
CHUNK_BYTES: Final = 1 << 20
TEXT_BYTES: Final = 64  # a string's length is not known before it is read
LIBVER: Final = ("v108", "v110")  # attributes above 64 KiB, such as a long recipe; HDF5 1.10 reads


@dataclass(frozen=True)
class Hdf5Source:
    """Arrays of an HDF5 file, named by their paths in it; a file of the exporter needs no names.

    The signal is (trial, channel, time), of floats or integers of any size. What the options do
    not give comes from the signal's dimension scales and its attributes ``sfreq``, ``units`` and
    ``ch_types``. From a file of the exporter every column that its source gave comes back too.
    Data outside the file (external links, external storage, virtual datasets) are refused, and
    so are datasets with parts that were never written, which HDF5 would read as zeros. The format
    is the HDF5 File Format Specification, https://docs.hdfgroup.org.
    """

    name: ClassVar[str] = "hdf5"
    version: ClassVar[str] = "1"

    path: Path = field(metadata={"description": "The HDF5 file."})
    eeg: str = field(
        default=EEG, metadata={"description": "Path of the signal in the file.", "min_length": 1}
    )
    labels: str | None = field(
        default=None, metadata={"description": "Path of the labels; no trial has one by default."}
    )
    split: str | None = field(
        default=None, metadata={"description": "Path of the name of each trial's split."}
    )
    stimulus_key: str | None = field(
        default=None, metadata={"description": "Path of what was shown in each trial."}
    )
    columns: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "description": "Column to path of its values, one a trial, such as subject = "
            "'trials/subject': text, numbers or bools."
        },
    )
    ch_names: tuple[str, ...] | str | None = field(
        default=None,
        metadata={"description": "Channel names, or the path of them; ch1, ch2, … by default."},
    )
    times: str | None = field(
        default=None,
        metadata={
            "description": "Path of the time of each sample from stimulus onset.",
            "json_schema_extra": {"unit": "s"},
        },
    )
    tmin: float = field(
        default=0.0,
        metadata={
            "description": "Time of the first sample, where the file has no times.",
            "allow_inf_nan": False,
            "json_schema_extra": {"unit": "s"},
        },
    )
    sfreq: float | None = field(
        default=None,
        metadata={
            "description": "Sampling rate; the signal's attribute by default.",
            "gt": 0,
            "allow_inf_nan": False,
            "json_schema_extra": {"unit": "Hz"},
        },
    )
    units: str | None = field(
        default=None,
        metadata={"description": "Unit of the signal; its attribute by default, else 1 (unknown)."},
    )

    def __post_init__(self) -> None:
        check_names(self.columns)

    def scan(self) -> Trials:
        with opened(self.path) as file:
            eeg = _signal(file, self.eeg)
            check_written(eeg)
            columns = self._columns(file, len(eeg))
            sfreq = self.sfreq or _sfreq(eeg)
            return Trials(
                n_trials=len(eeg),
                ch_names=self._ch_names(file, eeg),
                ch_types=[_text(one) for one in np.ravel(eeg.attrs.get("ch_types", ()))],
                sfreq=sfreq,
                times=self._times(file, eeg, sfreq),
                units=self.units or _text(eeg.attrs.get("units", "1")),
                label=columns.pop("label", np.full(len(eeg), -1)),
                split=columns.pop("split", None),
                stimulus_key=columns.pop("stimulus_key", None),
                columns=columns,
                notice=_text(file.attrs.get("notice", "")),
                hints=(
                    *rounding_hints(place(eeg), eeg.dtype, blocks(eeg)),
                    *_unread_hints(eeg, columns),
                ),
            )

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        with opened(self.path) as file, np.errstate(over="ignore"):
            return np.asarray(_signal(file, self.eeg)[start:stop].astype(np.float32))

    def fingerprint(self) -> str:
        """Digest of the file's bytes."""
        return digest_files([self.path])

    def _columns(self, file: Any, n_trials: int) -> dict[str, NDArray[Any]]:
        """The narrow columns, one value a trial."""
        given = {"label": self.labels, "split": self.split, "stimulus_key": self.stimulus_key}
        datasets = _own_columns(file, self.eeg) | {
            name: find_dataset(file, path) for name, path in (given | self.columns).items() if path
        }
        columns = {name: _vector(one, n_trials) for name, one in datasets.items()}
        if "label" in columns:
            columns["label"] = _labels(datasets["label"], columns["label"])
        for name in self.columns:
            columns[name] = checked_column(place(datasets[name]), name, columns[name])
        texts = {name: columns[name].astype(np.str_) for name in TEXTS if name in columns}
        return columns | texts

    def _times(self, file: Any, eeg: Any, sfreq: float) -> NDArray[np.float64]:
        times = find_dataset(file, self.times) if self.times else _scale(eeg, 2)
        if times is None:
            return self.tmin + np.arange(eeg.shape[2]) / sfreq
        values = _vector(times, eeg.shape[2])
        if values.dtype.kind not in "iuf":
            raise InputError(f"{place(times)}: dtype {times.dtype}, expected seconds")
        return values.astype(np.float64)

    def _ch_names(self, file: Any, eeg: Any) -> list[str]:
        n_channels = eeg.shape[1]
        named = (
            find_dataset(file, self.ch_names) if isinstance(self.ch_names, str) else _scale(eeg, 1)
        )
        if isinstance(self.ch_names, tuple):
            names = list(self.ch_names)
        elif named is not None:
            names = _vector(named, n_channels).astype(np.str_).tolist()
        else:
            names = [f"ch{number}" for number in range(1, n_channels + 1)]
        if len(names) != n_channels or len(set(names)) != n_channels:
            raise InputError(
                f"{place(eeg)}: has {n_channels} channels, ch_names has {len(set(names))} "
                "different names; name each channel once"
            )
        return names


def _unread_hints(eeg: Any, columns: Mapping[str, Any]) -> Iterator[str]:
    """A line where columns that splits know lie beside the signal, and the recipe reads none."""
    unread = [name for name in KNOWN if name in eeg.parent and name not in columns]
    if unread:
        path = f"{eeg.parent.name}/{unread[0]}".strip("/")
        yield (
            f"{place(eeg)}: beside it lie {', '.join(unread)}, which are not read; name them "
            f'under [source]: columns = {{{unread[0]} = "{path}"}}'
        )


def _scale(eeg: Any, axis: int) -> Any:
    """The first dimension scale of an axis, or None."""
    scales = eeg.dims[axis]
    return inside(scales[0]) if len(scales) else None


def _signal(file: Any, path: str) -> Any:
    eeg = find_dataset(file, path)
    if eeg.dtype.kind not in "fiu":
        raise InputError(f"{place(eeg)}: dtype {eeg.dtype!s:.100}, expected floats or integers")
    if eeg.ndim != 3 or min(eeg.shape) < 1:
        raise InputError(
            f"{place(eeg)}: shape {eeg.shape}, expected (trial, channel, time) with no empty axis"
        )
    return eeg


def _vector(dataset: Any, length: int) -> NDArray[Any]:
    """(length,): the values of a dataset of bools, numbers or strings."""
    import h5py

    if dataset.shape != (length,):
        raise InputError(f"{place(dataset)}: shape {dataset.shape}, expected ({length},)")
    check_written(dataset)
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr(errors="backslashreplace")[...], dtype=np.str_)
    if dataset.dtype.kind not in "biuf":
        raise InputError(f"{place(dataset)}: dtype {dataset.dtype}, expected numbers or strings")
    return np.asarray(dataset[...])


def _labels(dataset: Any, values: NDArray[Any]) -> NDArray[np.int64]:
    """int64, (trial,): labels, from any numbers that are whole."""
    if values.dtype.kind not in "iuf":
        raise InputError(f"{place(dataset)}: dtype {dataset.dtype}, expected whole numbers")
    return whole_labels(place(dataset), values)


def _text(attribute: Any) -> str:
    """An attribute of either kind of string."""
    if isinstance(attribute, bytes):
        return attribute.decode("utf-8", "backslashreplace")
    return str(attribute)


def _sfreq(eeg: Any) -> float:
    found = np.ravel(eeg.attrs.get("sfreq", ()))
    if len(found) != 1 or found.dtype.kind not in "iuf":
        raise InputError(f"{place(eeg)}: has no attribute sfreq; give sfreq, in Hz")
    return float(found[0])


def _own_columns(file: Any, path: str) -> dict[str, Any]:
    """What the source of an exported store gave, but for its signal; empty for other files."""
    if VERSION not in file.attrs or path != EEG:
        return {}
    columns = {name: find_dataset(file, f"trials/{name}") for name in file["trials"]}
    return {name: column for name, column in columns.items() if _is_given(name, column)}


def _is_given(name: str, column: Any) -> bool:
    """Whether a column is part of what a source hands over."""
    producer = json.loads(column.attrs.get("producer", "{}"))
    of_source = producer.get("kind") == "source" and name not in {"eeg", "valid"}
    return of_source or name == "split"


@dataclass(frozen=True)
class Hdf5Exporter:
    """One HDF5 file: the groups ``trials`` and ``stimuli``, of which each column is a dataset.

    The first axis is the row. Coordinates (channels, times, features) are dimension scales of the
    axes that they belong to. A dataset's attributes hold its unit, its producer and its key; the
    root's the store's digest, name, notice and recipe. Strings are UTF-8 of variable length. The
    same store gives the same bytes. A stimulus' columns are stored once, and joined to the trials
    through ``trials/stimulus``. The format is that of HDF5 1.10 and its Dimension Scales,
    https://docs.hdfgroup.org.
    """

    name: ClassVar[str] = "hdf5"
    version: ClassVar[str] = "1"

    compression: Literal["gzip", "none"] = field(
        default="gzip", metadata={"description": "How chunks are compressed, after a shuffle."}
    )
    level: int = field(
        default=4, metadata={"description": "Effort of gzip, 1 to 9.", "ge": 1, "le": 9}
    )

    def __call__(self, store: Store, out: Path) -> None:
        """Write the new file ``out``."""
        import h5py

        with Output(out) as output, h5py.File(output, "w", libver=LIBVER) as file:
            file.attrs[VERSION] = __version__
            file.attrs["digest"] = store.digest
            file.attrs["name"] = store.name
            file.attrs["notice"] = store.notice
            file.attrs["recipe"] = json.dumps(store.recipe, sort_keys=True, ensure_ascii=False)
            for table, columns in (("trials", store.trials), ("stimuli", store.stimuli)):
                group = file.create_group(table, track_order=True)
                for name, column in columns.items():
                    for _ in self._write(group, name, column, ROW_DIMENSION[table]):
                        output.check()
            file.close()
            output.check()

    def _write(self, group: Any, name: str, column: Column, row_dim: str) -> Iterator[int]:
        """Copy a column into a dataset by row ranges; yields how many rows are there."""
        import h5py

        spec, n_rows = column.spec, len(column)
        is_text = spec.dtype == "str"
        chunk_rows = max(1, CHUNK_BYTES // (spec.row_bytes or TEXT_BYTES))
        # A string's bytes lie outside its chunk, where no filter reaches them.
        filters = {} if is_text or self.compression == "none" else self._filters
        dataset = group.create_dataset(
            name,
            shape=(n_rows, *spec.shape),
            dtype=h5py.string_dtype() if is_text else spec.dtype,
            chunks=(min(chunk_rows, n_rows), *spec.shape),
            **filters,
        )
        step = chunk_rows * max(1, BLOCK_BYTES // CHUNK_BYTES)
        for start in range(0, n_rows, step):
            rows = column[start : start + step]
            dataset[start : start + step] = rows.astype(object) if is_text else rows
            yield start + len(rows)
        _describe(dataset, column, row_dim)

    @property
    def _filters(self) -> dict[str, Any]:
        return {"shuffle": True, "compression": "gzip", "compression_opts": self.level}


def _describe(dataset: Any, column: Column, row_dim: str) -> None:
    """Name the axes of a dataset, attach their coordinates, and write its attributes."""
    spec = column.spec
    for axis, dim in enumerate((row_dim, *spec.dims)):
        dataset.dims[axis].label = dim
        if dim in spec.coords:
            dataset.dims[axis].attach_scale(_coordinate(dataset.parent, dim, spec.coords[dim]))
    facts = {**spec.attrs, **spec.attrs.get("eegstore", {}), "units": spec.units}
    for key, value in facts.items():
        if key != "eegstore" and value not in (None, ""):
            dataset.attrs[key] = _attribute(value)


def _coordinate(group: Any, dim: str, values: Any) -> Any:
    """The dimension scale of an axis, shared by all columns of the table that have the axis."""
    if dim not in group:
        scale = group.create_dataset(dim, data=list(values))
        scale.make_scale(dim)
        if dim == "time":
            scale.attrs["units"] = "s"
    return group[dim]


def _attribute(value: Any) -> Any:
    """A JSON value as HDF5 can hold it: itself, a vector of one type, or its text."""
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list) and value and {*map(type, value)} <= {str}:
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


@hookimpl
def eegstore_sources() -> list[type[Hdf5Source]]:
    """Trials of any HDF5 file, and of this exporter's."""
    return [Hdf5Source]


@hookimpl
def eegstore_exporters() -> list[type[Hdf5Exporter]]:
    """A store as one HDF5 file."""
    return [Hdf5Exporter]

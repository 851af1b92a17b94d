"""The peers: trials in other libraries' formats, read as their documentation has it at its fastest.

Arrays (h5py, zarr-python, zarrs, tensorstore, a mapped ``.npy``) hold the EEG alone; tables (Lance,
Arrow) and ``streams.py``'s formats hold the EEG, an embedding and a label a trial, because they
know no join. Where a choice of layout matters, the one that was fastest at random batches here is
used, and said. None compresses.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import mmap
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from material import Material
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

BATCH = 256
BLOCK = 4096
Fields = dict[str, Any]  # eeg, clip, label: of a batch


class Missing(Exception):
    """Why a peer cannot be measured here."""


class Peer:
    """Trials in a peer's format, written when first asked for.

    Attributes
    ----------
    name
        In a table.
    distribution
        Whose version is told.
    modules
        That have to import.
    """

    name: ClassVar[str]
    distribution: ClassVar[str]
    modules: ClassVar[tuple[str, ...]] = ()

    def __init__(self, material: Material) -> None:
        for module in self.modules:
            try:
                importlib.import_module(module)
            except Exception as error:  # a broken installation raises anything
                why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                raise Missing(f"{self.name}: import {module} fails: {why}") from None
        self.material = material
        self.path = material.path / "peers" / self.name.replace(" ", "-")
        if not self.path.exists():
            partial = self.path.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self.write(partial)
            partial.rename(self.path)
        self.open()

    def write(self, folder: Path) -> None:
        """Write all trials."""

    def open(self) -> None:
        """Open what was written."""

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        """The EEG of trials, float32 (trial, channel, time)."""
        raise NotImplementedError

    def read(self, start: int, stop: int) -> torch.Tensor:
        """The EEG of neighbouring trials."""
        return self.batch(np.arange(start, stop))

    def trial(self, row: int) -> torch.Tensor:
        """The EEG of one trial."""
        return self.batch(np.array([row]))[0]

    def epoch(self) -> Iterator[Fields]:
        """Shuffled batches with embeddings and labels; another order in each call."""
        raise NotImplementedError

    def blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """Some trials at a time: number of the first, EEG, embeddings, labels."""
        eeg, labels = self.material.eeg, self.material.labels
        for start in range(0, len(eeg), BLOCK):
            some = labels[start : start + BLOCK]
            yield start, np.array(eeg[start : start + BLOCK]), self.material.embeddings[some], some

    def tables(self) -> tuple[Any, Iterator[Any]]:
        """The trials as record batches of Arrow, behind their schema."""
        batches = (table_of(*fields) for _, *fields in self.blocks())
        first = next(batches)
        return first.schema, itertools.chain([first], batches)


class BatchReader(torch.utils.data.Dataset[Fields]):
    """Reads batches as ``DataLoader`` asks for them, and hands them on as they are."""

    def __init__(self, n_trials: int, read: Callable[[list[int]], Fields]) -> None:
        self._n_trials, self._read = n_trials, read

    def __len__(self) -> int:
        return self._n_trials

    def __getitem__(self, rows: list[int]) -> Fields:
        return self._read(rows)


def batch_by_batch(n_trials: int, read: Callable[[list[int]], Fields]) -> DataLoader[Fields]:
    """A shuffled ``DataLoader`` without the detour over single trials."""
    batches = BatchSampler(RandomSampler(range(n_trials)), BATCH, drop_last=False)
    return DataLoader(BatchReader(n_trials, read), sampler=batches, batch_size=None)


class MemoryMap(Peer):
    """A mapped ``.npy`` file; embeddings are in memory, once an image."""

    name, distribution = "np.memmap", "numpy"

    def open(self) -> None:
        self.eeg = self.material.eeg
        # Each page is mapped before anything is timed, as a store's are when chunks are checked.
        self.eeg.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE].max()

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.eeg[rows])

    def read(self, start: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(np.array(self.eeg[start:stop]))

    def trial(self, row: int) -> torch.Tensor:
        return torch.from_numpy(np.array(self.eeg[row]))

    def epoch(self) -> Iterator[Fields]:
        return iter(batch_by_batch(len(self.eeg), self._fields))

    def _fields(self, rows: list[int]) -> Fields:
        labels = self.material.labels[rows]
        return {
            "eeg": self.batch(np.array(rows)),
            "clip": torch.from_numpy(self.material.embeddings[labels]),
            "label": torch.from_numpy(labels),
        }


class Hdf5(Peer):
    """A contiguous data set, by a sorted list of rows (in chunks it takes longer)."""

    name, distribution, modules = "h5py", "h5py", ("h5py",)

    def write(self, folder: Path) -> None:
        import h5py

        with h5py.File(folder / "eeg.h5", "w") as file:
            target = file.create_dataset("eeg", self.material.eeg.shape, np.float32)
            for start, eeg, _, _ in self.blocks():
                target[start : start + len(eeg)] = eeg

    def open(self) -> None:
        import h5py

        self._eeg = h5py.File(self.path / "eeg.h5")["eeg"]

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        order = np.argsort(rows)
        out = np.empty((len(rows), *self._eeg.shape[1:]), np.float32)
        out[order] = self._eeg[rows[order]]
        return torch.from_numpy(out)

    def read(self, start: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(self._eeg[start:stop])

    def trial(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self._eeg[row])


class ZarrPython(Peer):
    """Shards of 4,096 trials with inner chunks of 64."""

    name, distribution, modules = "zarr-python", "zarr", ("zarr",)
    chunk_rows: ClassVar[int] = 64
    pipeline: ClassVar[str] = "zarr.core.codec_pipeline.BatchedCodecPipeline"

    def write(self, folder: Path) -> None:
        import zarr

        shape = self.material.eeg.shape
        target = zarr.create_array(
            folder / "eeg", shape=shape, dtype="f4", compressors=None,
            chunks=(self.chunk_rows, *shape[1:]), shards=(BLOCK, *shape[1:]),
        )  # fmt: skip
        for start, eeg, _, _ in self.blocks():
            target[start : start + len(eeg)] = eeg

    def open(self) -> None:
        import zarr

        with zarr.config.set({"codec_pipeline.path": self.pipeline}):
            self._eeg: Any = zarr.open_array(self.path / "eeg", mode="r")

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self._eeg.oindex[rows])

    def read(self, start: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(self._eeg[start:stop])

    def trial(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self._eeg[row])


class Zarrs(ZarrPython):
    """zarr-python with the codec pipeline of zarrs; inner chunks of a trial."""

    name, distribution, modules = "zarrs", "zarrs", ("zarr", "zarrs")
    chunk_rows = 1
    pipeline = "zarrs.ZarrsCodecPipeline"


class TensorStore(Zarrs):
    """Inner chunks of a trial; the system's page cache alone, which is faster than its own too."""

    name, distribution, modules = "tensorstore", "tensorstore", ("zarr", "tensorstore")
    pipeline = ZarrPython.pipeline

    def open(self) -> None:
        import tensorstore

        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(self.path / "eeg")},
            "recheck_cached_data": "open",
            "recheck_cached_metadata": "open",
        }
        context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}})
        self._eeg = tensorstore.open(spec, read=True, context=context).result()

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self._eeg[rows].read().result())

    def read(self, start: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(self._eeg[start:stop].read().result())

    def trial(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self._eeg[row].read().result())


def table_of(eeg: Any, clip: Any, labels: Any) -> Any:
    """A record batch of trials: EEG and embedding as lists of a fixed size."""
    import pyarrow

    columns = [
        pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values[0].size)
        for values in (eeg, clip)
    ]
    return pyarrow.record_batch([*columns, pyarrow.array(labels)], ["eeg", "clip", "label"])


def tensor_of(column: Any, *shape: int) -> torch.Tensor:
    """The values of a column of lists of a fixed size."""
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=True)
    return torch.from_numpy(values.reshape(-1, *shape).copy())


class Lance(Peer):
    """Lance, lists of a fixed size, by ``take``."""

    name, distribution, modules = "Lance", "pylance", ("lance",)

    def write(self, folder: Path) -> None:
        import lance
        import pyarrow

        reader = pyarrow.RecordBatchReader.from_batches(*self.tables())
        lance.write_dataset(reader, str(folder / "trials"))

    def open(self) -> None:
        import lance

        self._table = lance.dataset(str(self.path / "trials"))
        self._shape = self.material.eeg.shape[1:]

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        found = self._table.take(rows.tolist(), columns=["eeg"])
        return tensor_of(found.column("eeg"), *self._shape)

    def read(self, start: int, stop: int) -> torch.Tensor:
        found = self._table.to_table(columns=["eeg"], offset=start, limit=stop - start)
        return tensor_of(found.column("eeg"), *self._shape)

    def epoch(self) -> Iterator[Fields]:
        return iter(batch_by_batch(len(self.material.eeg), self._fields))

    def _fields(self, rows: list[int]) -> Fields:
        return fields_of(self._table.take(rows), self._shape)


def fields_of(found: Any, shape: Sequence[int]) -> Fields:
    """A batch from a table of Arrow."""
    return {
        "eeg": tensor_of(found.column("eeg"), *shape),
        "clip": tensor_of(found.column("clip"), found.schema.field("clip").type.list_size),
        "label": torch.from_numpy(found.column("label").to_numpy().copy()),
    }


class Arrow(Peer):
    """Hugging Face datasets on a mapped Arrow file, in the format that hands out Arrow's tables.

    Their values become tensors in one copy, in some eighth of the time that format ``torch`` takes.
    """

    name, distribution, modules = "Arrow", "datasets", ("datasets",)

    def write(self, folder: Path) -> None:
        import pyarrow

        schema, batches = self.tables()
        with (
            pyarrow.OSFile(str(folder / "trials.arrow"), "wb") as file,
            pyarrow.ipc.new_stream(file, schema) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)

    def open(self) -> None:
        import datasets

        datasets.disable_progress_bars()
        self._table = datasets.Dataset.from_file(str(self.path / "trials.arrow"))
        self._table = self._table.with_format("arrow")
        self._eeg = self._table.select_columns("eeg")
        self._shape = self.material.eeg.shape[1:]

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        return tensor_of(self._eeg[rows.tolist()].column("eeg"), *self._shape)

    def read(self, start: int, stop: int) -> torch.Tensor:
        return tensor_of(self._eeg[start:stop].column("eeg"), *self._shape)

    def epoch(self) -> Iterator[Fields]:
        return iter(batch_by_batch(len(self.material.eeg), self._fields))

    def _fields(self, rows: list[int]) -> Fields:
        return fields_of(self._table[rows], self._shape)


class ArrowTorch(Arrow):
    """The same in the format ``torch``, as its documentation has it for training."""

    name = "Arrow, torch"

    def open(self) -> None:
        super().open()
        self._table = self._table.with_format("torch")
        self._eeg = self._eeg.with_format("torch")

    def batch(self, rows: np.ndarray) -> torch.Tensor:
        return self._eeg[rows.tolist()]["eeg"].reshape(len(rows), *self._shape)

    def read(self, start: int, stop: int) -> torch.Tensor:
        return self._eeg[start:stop]["eeg"].reshape(stop - start, *self._shape)

    def _fields(self, rows: list[int]) -> Fields:
        found = self._table[rows]
        return found | {"eeg": found["eeg"].reshape(len(rows), *self._shape)}


@functools.cache
def opened(kind: type[Peer], material: Material) -> Peer:
    """A peer's trials, opened once; those that it gives by number were compared."""
    peer = kind(material)
    if kind.batch is not Peer.batch:
        check(peer.batch, material)
    return peer


def check(read: Callable[[np.ndarray], torch.Tensor], material: Material) -> None:
    """Whoever gives other values may be as fast as it likes."""
    chosen = np.random.default_rng(5).choice(len(material.eeg), 16, False)
    if not np.array_equal(read(chosen).numpy(), material.eeg[chosen]):
        raise SystemExit(f"{read} gives other trials than were written")


ARRAYS = (Hdf5, ZarrPython, Zarrs, TensorStore)
TABLES = (Lance, Arrow, ArrowTorch)

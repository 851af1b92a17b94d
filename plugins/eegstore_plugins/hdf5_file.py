"""Opens HDF5 files, and finds datasets whose values all lie in them."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from numpy.typing import NDArray

from eegstore import InputError
from eegstore_plugins.files import what_is_there

if TYPE_CHECKING:
    from typing_extensions import Buffer

BLOCK_BYTES: Final = 1 << 22


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file, with what the library cannot read turned into an InputError."""
    import h5py

    if not path.is_file():
        raise InputError(f"{path}: {what_is_there(path)}, expected an HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file fails in h5py in any of many ways
        reason = " ".join(str(error).split())
        raise InputError(f"{path.name}: not readable as HDF5 trials: {reason:.150}") from error


class Output(io.FileIO):
    """A new file for HDF5 to write, which hides failures from it: they would crash the process.

    What failed first is raised by ``check``; nothing is written after it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+b")
        self._failure: OSError | None = None

    def write(self, data: Buffer) -> int:
        """Write all of the data, or nothing more."""
        view = memoryview(data).cast("B")
        try:
            while len(view) and self._failure is None:
                view = view[super().write(view) or 0 :]
        except OSError as error:
            self._failure = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """Make the file as long as HDF5 wants it."""
        try:
            if self._failure is None:
                super().truncate(size)
        except OSError as error:
            self._failure = error
        return size or 0

    def check(self) -> None:
        """Raise what failed first, if anything did."""
        if self._failure is not None:
            raise self._failure


def place(dataset: Any) -> str:
    """A dataset as the user knows it: its file and its path."""
    return f"{Path(dataset.file.filename).name}: {dataset.name.strip('/')}"


def find_dataset(file: Any, path: str) -> Any:
    """The dataset at a path, reached without a link, whose values lie in this very file."""
    import h5py

    where = f"{Path(file.filename).name}: {path}"
    found = file
    for name in filter(None, path.split("/")):
        link = found.get(name, getlink=True) if isinstance(found, h5py.Group) else None
        if link is None:
            raise InputError(f"{where}: no such dataset; {_nearest(file, path)}")
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{where}: {name!r} is a link to {link.path!r}; name what it links to")
        found = found[name]
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{where}: a group, expected a dataset; {_nearest(file, path)}")
    return inside(found)


def inside(dataset: Any) -> Any:
    """The dataset, where its values lie in this very file."""
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{place(dataset)}: its values lie in other files; copy them into one")
    return dataset


def check_written(dataset: Any) -> None:
    """Refuse a dataset of which parts were never written: HDF5 reads them as zeros."""
    if dataset.chunks:
        steps = zip(dataset.shape, dataset.chunks, strict=True)
        expected = math.prod(-(-length // step) for length, step in steps)
        found = dataset.id.get_num_chunks()
    else:
        expected, found = 1, int(dataset.id.get_storage_size() > 0)
    if found < expected:
        raise InputError(
            f"{place(dataset)}: of its shape {dataset.shape} {expected - found} of {expected} "
            "parts were never written; write the file again"
        )


def blocks(dataset: Any) -> Iterator[NDArray[Any]]:
    """All values of a dataset, each chunk once."""
    step = max(1, BLOCK_BYTES // (dataset.dtype.itemsize * math.prod(dataset.shape[1:])))
    rows = (slice(start, start + step) for start in range(0, len(dataset), step))
    for part in dataset.iter_chunks() if dataset.chunks else rows:
        yield dataset[part]


def _nearest(file: Any, path: str) -> str:
    """The datasets of the file whose paths look most like one that is not there."""
    import h5py

    known: list[str] = []
    file.visititems(
        lambda name, found: known.append(name) if isinstance(found, h5py.Dataset) else None
    )
    near = get_close_matches(path, known, n=3, cutoff=0.3) or known[:3]
    return f"nearest: {', '.join(near)}" if near else "the file has none"

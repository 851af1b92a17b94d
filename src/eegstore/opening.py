"""Opens the shards of a wide column, where they are the ones that were committed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eegstore.disk import Place
from eegstore.errors import DamageError
from eegstore.mapping import Files, mapped
from eegstore.remote import Fetched, RemotePath
from eegstore.shards import Layout


class Shards:
    """The shard files of a column.

    Parameters
    ----------
    folder
        The array's folder.
    layout
        Where its rows lie.
    sizes
        int64, (shard,): bytes of each, as they were written; None while a build has not committed
        them.
    key
        Key of the committed column; opening raises once another is in its place.
    """

    def __init__(
        self, folder: Place, layout: Layout, sizes: NDArray[np.int64] | None, key: str | None
    ) -> None:
        self._folder = folder
        self._layout = layout
        self._sizes = sizes
        self._key = key
        self._seen: tuple[tuple[int, ...], str | None] = (), None

    def open(self, shard: int) -> int:
        """The descriptor of a shard that is of this column and as long as it was written.

        Raises
        ------
        DamageError
            Where it is not, or is missing.
        """
        assert isinstance(self._folder, Path)
        path = self._folder / self._layout.shard_name(shard)
        if not path.is_file():  # a pipe may never answer
            raise self.damage(shard, "is missing")
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            raise self.damage(shard, "is missing") from None
        try:
            self._check(shard, path, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def facts(self, shard: int) -> tuple[int, str | None]:
        """Size and entity tag of a shard behind a URL, checked as ``open`` checks a file."""
        path = self._remote(shard)
        try:
            found = path.facts()
        except OSError as error:
            raise self._unreadable(shard, error) from None
        self._check_size(shard, found["size"])
        if self._is_replaced():
            raise self._replaced()
        return found["size"], found["e_tag"]

    def fetch(self, shard: int, start: int, stop: int, e_tag: str | None) -> memoryview:
        """A range of bytes of a shard behind a URL, where it is still the one that was checked."""
        try:
            return self._remote(shard).read_range(start, stop, e_tag)
        except OSError as error:
            raise self._unreadable(shard, error) from None

    def files(self) -> Files:
        """All of the shards, none of them opened."""
        if isinstance(self._folder, Path):
            return mapped(self._layout.n_shards, self._most_bytes(), self.open)
        return Fetched(self.facts, self.fetch)

    def damage(self, shard: int, problem: str) -> DamageError:
        """What to raise where a shard is not as it was written."""
        if self._is_replaced():
            return self._replaced()
        name = f"{self._folder.name}/{self._layout.shard_name(shard)}"
        return DamageError(
            f"{self._folder.parent.name}/{name}: {problem}; 'eegstore verify --deep' shows all "
            "damage, 'eegstore build RECIPE STORE --deep' mends it"
        )

    def _remote(self, shard: int) -> RemotePath:
        assert isinstance(self._folder, RemotePath)
        return self._folder / self._layout.shard_name(shard)

    def _unreadable(self, shard: int, error: OSError) -> DamageError:
        if isinstance(error, FileNotFoundError):
            return self.damage(shard, "is missing, or was changed")
        return self.damage(shard, f"cannot be read ({error.strerror})")

    def _most_bytes(self) -> int:
        if self._sizes is None:
            return self._layout.most_shard_bytes
        return max(1, int(self._sizes.max(initial=0)))

    def _check_size(self, shard: int, size: int) -> None:
        if self._sizes is None:
            expected = min(max(size, self._layout.index_bytes), self._most_bytes())
        else:
            expected = int(self._sizes[shard])
        if size != expected:
            raise self.damage(shard, f"has {size} bytes, expected {expected}")

    def _check(self, shard: int, path: Path, opened: os.stat_result) -> None:
        self._check_size(shard, opened.st_size)
        # A column's document is there only while its shards are, and no file ever comes back: what
        # still is in its place, after the document was read, was in it then.
        if self._is_replaced() or not _is_at(path, opened):
            raise self._replaced()

    def _key_on_disk(self) -> str | None:
        """The key that the array's document records now; None where there is none."""
        try:
            file = self._document()
            if not file or file != self._seen[0]:
                document = json.loads((self._folder / "zarr.json").read_bytes())
                self._seen = file, str(document["attributes"]["eegstore"]["key"])
            return self._seen[1]
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def _document(self) -> tuple[int, ...]:
        """Which file the array's document is: another one has been put in its place if it differs.

        Nothing behind a URL, where to ask takes as long as to read.
        """
        if not isinstance(self._folder, Path):
            return ()
        found = (self._folder / "zarr.json").stat()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _is_replaced(self) -> bool:
        return self._key is not None and self._key != self._key_on_disk()

    def _replaced(self) -> DamageError:
        return DamageError(f"{self._folder}: was replaced by a later build; open the store again")


def _is_at(path: Path, opened: os.stat_result) -> bool:
    """Whether a path still names the file that was opened through it, and is open."""
    try:
        return os.path.samestat(path.stat(), opened)
    except OSError:
        return False

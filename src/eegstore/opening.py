"""Opens the shards of a wide column, where they are the ones that were committed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eegstore.errors import DamageError
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
        self, folder: Path, layout: Layout, sizes: NDArray[np.int64] | None, key: str | None
    ) -> None:
        self._folder = folder
        self._layout = layout
        self._sizes = sizes
        self._key = key

    @property
    def most_bytes(self) -> int:
        """Bytes that no shard exceeds."""
        if self._sizes is None:
            return self._layout.most_shard_bytes
        return max(1, int(self._sizes.max(initial=0)))

    def open(self, shard: int) -> int:
        """The descriptor of a shard that is of this column and as long as it was written.

        Raises
        ------
        DamageError
            Where it is not, or is missing.
        """
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

    def damage(self, shard: int, problem: str) -> DamageError:
        """What to raise where a shard is not as it was written."""
        if self._is_replaced():
            return self._replaced()
        name = f"{self._folder.name}/{self._layout.shard_name(shard)}"
        return DamageError(
            f"{self._folder.parent.name}/{name}: {problem}; 'eegstore verify --deep' shows all "
            "damage, 'eegstore build RECIPE STORE --deep' mends it"
        )

    def _check(self, shard: int, path: Path, opened: os.stat_result) -> None:
        size, least = opened.st_size, self._layout.index_bytes
        expected = (
            min(max(size, least), self.most_bytes)
            if self._sizes is None
            else int(self._sizes[shard])
        )
        if size != expected:
            raise self.damage(shard, f"has {size} bytes, expected {expected}")
        # A column's document is there only while its shards are, and no file ever comes back: what
        # still is in its place, after the document was read, was in it then.
        if self._is_replaced() or not _is_at(path, opened):
            raise self._replaced()

    def _key_on_disk(self) -> str | None:
        """The key that the array's document records now; None where there is none."""
        try:
            document = json.loads((self._folder / "zarr.json").read_bytes())
            return str(document["attributes"]["eegstore"]["key"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

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

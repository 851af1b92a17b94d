"""A ``torch`` data set that reads straight from a store (extra ``train``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from eegstore.errors import DamageError
from eegstore.load import TrialLoader
from eegstore.store import open_store


class Dataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Trials of a store as dictionaries of tensors; give it to a ``DataLoader``.

    Parameters
    ----------
    path
        The store's folder.
    split, columns, rows
        As in ``eegstore.load.TrialLoader``: columns of the stimuli arrive a row a trial.

    It is picklable: each worker of a ``DataLoader`` opens the store itself, and raises where a
    column is no longer the one that was opened first. With a warm page cache no worker at all is
    the fastest.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        columns: Sequence[str] = ("eeg", "label"),
        rows: ArrayLike | None = None,
    ) -> None:
        self._arguments = (Path(path), split, tuple(columns), rows)
        self._open()

    def _open(self) -> None:
        path, split, columns, rows = self._arguments
        self._loader = TrialLoader(open_store(path), split, columns, rows)

    def __getstate__(self) -> dict[str, Any]:
        return {"_arguments": self._arguments, "keys": self._loader.keys}

    def __setstate__(self, state: dict[str, Any]) -> None:
        keys = state.pop("keys")
        self.__dict__.update(state)
        self._open()
        for path, key in self._loader.keys.items():
            if keys[path] != key:
                raise DamageError(
                    f"{self._arguments[0]}: {path} was replaced by a later build; "
                    "make the data set again"
                )

    def __len__(self) -> int:
        return len(self._loader)

    def __getitem__(self, number: int) -> dict[str, Any]:
        if not 0 <= number < len(self):
            raise IndexError(f"trial {number} of {len(self)}")
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """A batch, read at once; ``DataLoader`` calls this where it is there."""
        batch = {
            name: values.tolist() if values.dtype.kind == "U" else _tensor(values)
            for name, values in self._loader.batch(numbers).items()
        }
        return [
            {name: values[row] for name, values in batch.items()} for row in range(len(numbers))
        ]


def _tensor(values: np.ndarray[Any, Any]) -> torch.Tensor:
    """The array as a tensor; a copy where it cannot be written to."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())

"""Training with ``torch`` straight from a store (extra ``train``)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from eegstore import samplers
from eegstore.errors import DamageError, InputError
from eegstore.load import Normalize, TrialLoader
from eegstore.rounds import concepts
from eegstore.store import open_store
from eegstore.tables import is_whole

Order = Literal["window", "balanced", "distinct"]


class Trial(dict[str, Any]):
    """One trial: name to tensor or string."""


class Batch(dict[str, Any]):
    """Trials: name to tensor, first axis (trial,), or to a list of strings.

    ``batch["eeg"]`` is a column, ``batch[0]`` a trial.
    """

    def __missing__(self, key: str | int) -> Trial:
        if isinstance(key, str):
            raise KeyError(key)
        return Trial({name: values[key] for name, values in self.items()})


def collate(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Pass what was read at once as it is; put trials together that come in a list.

    ``DataLoader`` takes it by default for a ``Batch``, wherever ``eegstore.torch`` was imported.
    """
    if not isinstance(batch, list) or not batch:
        return batch
    if all(isinstance(trial, Mapping) for trial in batch):
        return Batch(default_collate([dict(trial) for trial in batch]))
    return default_collate(batch)


def _first(batch: Any) -> Any:
    """The first trial of a batch, or of what a transform made of it."""
    if isinstance(batch, Mapping):
        return Trial({name: values[0] for name, values in batch.items()})
    return tuple(values[0] for values in batch) if isinstance(batch, tuple | list) else batch[0]


default_collate_fn_map[Trial] = collate


class Dataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Trials of a store as tensors; give it to ``eegstore.torch.loader``, or to a ``DataLoader``.

    Parameters
    ----------
    path, storage_options
        The store's folder or URL, as for ``eegstore.open_store``.
    split, columns, rows, fold, tmin, tmax, channels, normalize, average
        As in ``eegstore.load.TrialLoader``: columns of the stimuli arrive a row a trial.
    dtype
        Of floating columns, such as ``torch.bfloat16``; as they are stored by default.
    transform
        Called with each ``Batch``; gives what takes its place: a batch, a tensor, or several in a
        tuple. For these a ``DataLoader`` that is not of ``eegstore.torch.loader`` wants
        ``collate_fn=eegstore.torch.collate``.

    It is picklable: each worker of a ``DataLoader`` opens the store itself, and raises where a
    column is no longer the one that was opened first. With a warm page cache no worker at all is
    the fastest: a batch is read at once, in threads, into memory of batches that are gone. Workers
    that read a store behind a URL have to be started by ``spawn`` or ``forkserver``.

    Attributes
    ----------
    trials
        The ``TrialLoader`` that reads; has ``rows``, ``ch_names``, ``times``, ``scale``.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        columns: Sequence[str] = ("eeg", "label"),
        rows: ArrayLike | None = None,
        *,
        fold: int | None = None,
        tmin: float | None = None,
        tmax: float | None = None,
        channels: Sequence[str | int] | None = None,
        normalize: Normalize = None,
        average: Literal["repetition"] | None = None,
        dtype: torch.dtype | None = None,
        transform: Callable[[Batch], Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"path is {path!r}, expected the folder or URL of a store")
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise InputError(f"dtype is {dtype!r}, expected a floating one such as torch.bfloat16")
        # Shards are opened when they are first read, wherever the process is by then.
        self._path = path if "://" in str(path) else Path(path).absolute()
        self._storage_options = storage_options
        self._dtype = dtype
        self._transform = transform
        self._arguments: dict[str, Any] = {
            "split": split, "columns": columns, "rows": rows, "fold": fold, "tmin": tmin,
            "tmax": tmax, "channels": channels, "normalize": normalize, "average": average,
        }  # fmt: skip
        self._open()

    def _open(self) -> None:
        self.trials = TrialLoader(open_store(self._path, self._storage_options), **self._arguments)
        if self.trials.scale is not None:  # a worker need not find it again
            self._arguments["normalize"] = self.trials.scale

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name != "trials"}
        return state | {"keys": self.trials.keys}

    def __setstate__(self, state: dict[str, Any]) -> None:
        keys = state.pop("keys")
        self.__dict__.update(state)
        self._open()
        for path, key in self.trials.keys.items():
            if keys[path] != key:
                raise DamageError(
                    f"{self._path}: {path} was replaced by a later build; make the data set again"
                )

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        split, columns = self._arguments["split"], self._arguments["columns"]
        names = columns if isinstance(columns, str) else ", ".join(columns)
        of_split = "" if split is None else f" of the split {split}"
        return f"<Dataset {self._path}: {names} of {len(self):,} trials{of_split}>"

    def __getitem__(self, number: int) -> Any:
        if not is_whole(number):
            raise TypeError(
                f"trials are counted from 0, not by {number!r}; several at once are "
                "dataset.__getitems__([0, 1])"
            )
        if not 0 <= number < len(self):
            raise IndexError(f"trial {number} of {len(self)}")
        return _first(self.__getitems__([number]))

    def __getitems__(self, numbers: ArrayLike) -> Any:
        """A whole batch, read at once; ``DataLoader`` calls this where it is there.

        Parameters
        ----------
        numbers
            int, (trial,): which, counted within this data set.
        """
        batch = Batch()
        for name, values in self.trials.batch(numbers).items():
            batch[name] = self._tensor(values)
        return batch if self._transform is None else self._transform(batch)

    def _tensor(self, values: NDArray[Any]) -> torch.Tensor | list[str]:
        if values.dtype.kind == "U":
            strings: list[str] = values.tolist()
            return strings
        tensor = torch.from_numpy(values)
        return tensor if self._dtype is None or values.dtype.kind != "f" else tensor.to(self._dtype)


class Batches(IterableDataset[Any]):
    """Ready batches of a data set, one after another.

    Parameters
    ----------
    dataset
        The trials.
    sampler
        Their order, of ``eegstore.samplers``.

    Iterate over it as it is, or through a ``DataLoader(…, batch_size=None)``; the workers of one
    share the batches, and have to be told of a new epoch by ``sampler.set_epoch``.
    """

    def __init__(self, dataset: Dataset, sampler: samplers.Sampler) -> None:
        self.dataset = dataset
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> _Reading:
        return _Reading(self.dataset, iter(self.sampler))


class _Reading(Iterator[Any]):
    """One pass over ready batches, which can be resumed."""

    def __init__(self, dataset: Dataset, epoch: samplers.Epoch) -> None:
        self._dataset = dataset
        self._epoch = epoch

    def __next__(self) -> Any:
        worker = get_worker_info()
        while True:
            position, numbers = self._epoch.position, next(self._epoch)
            if worker is None or position % worker.num_workers == worker.id:
                return self._dataset.__getitems__(numbers)

    def state_dict(self) -> dict[str, Any]:
        return self._epoch.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._epoch.load_state_dict(state)


class _Loader(DataLoader[Any]):
    """A ``DataLoader`` that, without workers, does nothing between the batches of a ``Dataset``.

    What torch does there takes as long as a fifth of the copy of a batch; so a profile of torch's
    has no region of the loader, and an iterator no length.
    """

    def __iter__(self) -> Any:
        if self.num_workers or self.pin_memory or self.batch_sampler is None:
            return super().__iter__()
        # As torch does: what is random after it is the same with and without workers.
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        data, order = cast(Dataset, self.dataset), cast(samplers.Sampler, self.batch_sampler)
        # A map goes on behind a batch that failed.
        return map(self.collate_fn, map(data.__getitems__, order))


def loader(
    dataset: Dataset,
    batch_size: int = 256,
    shuffle: bool | Order = True,
    *,
    seed: int = 0,
    drop_last: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
    stateful: bool = False,
    **options: Any,
) -> DataLoader[Any]:
    """A ``DataLoader`` that reads a data set batch by batch.

    Parameters
    ----------
    dataset
        The trials.
    batch_size
        Trials a batch and rank.
    shuffle
        True for any order; ``"window"`` to shuffle a few inner chunks at a time, for compressed
        stores; ``"balanced"`` for every label as often, or where no trial has a label, every
        concept of the paired stimuli; ``"distinct"`` for no stimulus twice in a batch; False for
        the order of the data set. See ``eegstore.samplers``.
    seed, drop_last
        As for the samplers.
    rank, world_size
        Those of ``torch.distributed`` by default, where that is initialised. Both or neither.
    stateful
        Give torchdata's ``StatefulDataLoader``, whose ``state_dict`` resumes in mid-epoch.
    **options
        For the ``DataLoader``. Workers are seldom worth it: see ``Dataset``.

    Raises
    ------
    InputError
        Where the order cannot be had, such as a balanced one without labels and concepts, or is
        of no batch.
    """
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"a loader reads an eegstore.torch.Dataset, not a {type(dataset).__name__}; "
            "for some of its trials give the Dataset rows or split"
        )
    if taken := {"batch_sampler", "sampler"} & set(options):
        raise InputError(
            f"{min(taken)} is what shuffle says here; give it to a torch DataLoader of the data set"
        )
    if rank is None and world_size is None:
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if is_distributed else 0
        world_size = torch.distributed.get_world_size() if is_distributed else 1
    elif rank is None or world_size is None:
        raise InputError(f"rank is {rank} and world_size {world_size}; give both, or neither")
    order = sampler(
        dataset, batch_size, shuffle,
        seed=seed, drop_last=drop_last, rank=rank, world_size=world_size,
    )  # fmt: skip
    if len(dataset) and not len(order):
        raise InputError(
            f"drop_last leaves no batch of {len(dataset)} trials: a batch has {batch_size} on each "
            f"of {world_size} ranks; make it smaller, or keep the last"
        )
    given: dict[str, Any] = {"batch_sampler": order, "collate_fn": collate} | options
    return _stateful_loader(dataset, given) if stateful else _Loader(dataset, **given)


def sampler(
    dataset: Dataset, batch_size: int, shuffle: bool | Order = True, **options: Any
) -> samplers.Sampler:
    """The order of ``loader``'s arguments, for ``Batches`` or another ``DataLoader``."""
    trials = dataset.trials
    if shuffle is True:
        return samplers.Shuffle(len(trials), batch_size, **options)
    if shuffle is False:
        return samplers.InOrder(len(trials), batch_size, **options)
    if shuffle == "window":
        chunks, together = trials.chunks()
        return samplers.WindowShuffle(chunks, batch_size, window_chunks=together, **options)
    if shuffle == "balanced":
        return samplers.Balanced(_classes(trials), batch_size, **options)
    if shuffle == "distinct":
        return samplers.Distinct(trials.values("stimulus"), batch_size, **options)
    raise InputError(
        f"shuffle is {shuffle!r}, expected True, False, 'window', 'balanced' or 'distinct'"
    )


def _classes(trials: TrialLoader) -> NDArray[np.int64]:
    """int64, (trial,): the label, or where no trial has one, the concept that it shows; or -1."""
    label, shown = trials.values("label"), trials.values("stimulus")
    if (label >= 0).any() or not (shown >= 0).any():
        return label
    return np.where(shown >= 0, concepts(trials.store)[1][shown], -1)


def positives(stimulus: torch.Tensor) -> torch.Tensor:
    """bool, (trial, trial): which trials show the same stimulus; false negatives otherwise.

    Parameters
    ----------
    stimulus
        int, (trial,): the column ``stimulus`` of a batch; -1, no stimulus, equals none. Or
        (trial, k), such as ``stimulus`` and ``stimulus_2`` side by side: trials that share one.
    """
    if stimulus.ndim == 1:
        return (stimulus[:, None] == stimulus) & (stimulus >= 0)
    shared = torch.zeros(len(stimulus), len(stimulus), dtype=torch.bool, device=stimulus.device)
    for one in stimulus.T:
        for other in stimulus.T:
            shared |= (one[:, None] == other) & (other >= 0)
    return shared


def _stateful_loader(dataset: Dataset, given: Mapping[str, Any]) -> DataLoader[Any]:
    try:
        from torchdata.stateful_dataloader import StatefulDataLoader
    except ImportError:
        raise InputError(
            "stateful=True needs torchdata; run: pip install 'eegstore[train]'"
        ) from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'set_vital' is deprecated")  # torchdata's own call
        made: DataLoader[Any] = StatefulDataLoader(dataset, **given)
    return made

"""Reads batches of trials for training, the stimuli's columns joined to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eegstore.arrays import row_numbers
from eegstore.crew import crew_for
from eegstore.decoding import KEPT_BYTES
from eegstore.errors import InputError
from eegstore.part import Part
from eegstore.recipe import nearest
from eegstore.signals import Repetitions, Scale, averaged, chosen_channels, normalize_trials
from eegstore.split import SKIPPED
from eegstore.store import Store, StoredColumn
from eegstore.tables import is_whole

TRAIN: Final = "train"
TEST: Final = "test"
FITTED_BYTES: Final = 1 << 25  # of signals that are in memory while a scale is fitted
Normalize = Literal["trial", "train"] | Scale | None


@dataclass(frozen=True)
class Read:
    """How a column of a batch is read."""

    column: StoredColumn
    is_joined: bool  # through the trial's stimulus
    is_averaged: bool
    is_eeg: bool
    part: Part | None


class TrialLoader:
    """Some trials of a store, a few columns of them at a time.

    Parameters
    ----------
    store
        An open store.
    split
        Take the trials of this split; all but the skipped ones by default.
    columns
        Columns of ``trials``, and columns of ``stimuli``, which arrive a row a trial without being
        stored so. A name that both tables have means the trials'; ``"stimuli/label"`` the other.
    rows
        Take these trials; instead of a split.
    fold
        Of a store with folds, one that is held out: with the split ``train`` take its trials that
        are not in this fold, and with ``test`` those of this fold, whatever their split.
    tmin, tmax
        Of ``eeg``, read the samples from ``tmin`` up to and with ``tmax`` (s from stimulus onset,
        as in MNE), and touch no others.
    channels
        Of ``eeg``, read these channels, by name or number, in this order.
    normalize
        ``"trial"`` gives each channel of each trial mean 0 and standard deviation 1 over the
        samples read; ``"train"`` subtracts each channel's mean over the split ``train``, and
        divides by its standard deviation there, whatever split is read; a held-out fold is not
        in it. Padding is not counted.
        The ``scale`` of another loader of the same channels may be given too.
    average
        ``"repetition"`` makes one trial of those that showed one stimulus to one subject in one
        split, by the mean of each floating wide column; other columns are of the first of them.

    Trials that are invalid are never among them, nor, where a stimulus' column or an average over
    repetitions is asked for, trials without a stimulus.

    Attributes
    ----------
    store
        The store.
    rows
        int64, (trial,): the trials, as rows of the store; of averaged ones the first.
    keys
        Path to key of each column that is read: other keys, other values.
    ch_names, times
        Of ``eeg`` as it is read; times in s.
    scale
        What ``normalize="train"`` found; None otherwise.

    Raises
    ------
    InputError
        Where the split, a column or a channel is unknown (names the nearest), there is no such
        fold, no sample lies between ``tmin`` and ``tmax``, a scale is of other channels, or both
        a split and rows are given.
    """

    def __init__(
        self,
        store: Store,
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
    ) -> None:
        if not (normalize in (None, "trial", TRAIN) or isinstance(normalize, Scale)):
            raise InputError(f"normalize is {normalize!r}, expected 'trial', 'train' or a scale")
        if average not in (None, "repetition"):
            raise InputError(f"average is {average!r}, expected 'repetition'")
        self._stimulus = store.trials["stimulus"][:]
        self._window(store, tmin, tmax, channels)
        names = [columns] if isinstance(columns, str) else columns
        if names is None or not len(names):
            raise InputError("columns has no name, expected at least one, such as 'eeg'")
        self._reads = {name: self._read_of(name, average is not None) for name in names}
        self.rows = _rows(store, split, rows) if fold is None else _folded(store, split, rows, fold)
        used = [] if fold is None else [store.trials["fold"]]
        used += [store.trials["stimulus"], store.trials["split"]]
        used += [read.column for read in self._reads.values()]
        self.keys = {column.entry.path: column.entry.key for column in used}
        if average or any(read.is_joined for read in self._reads.values()):
            self.rows = self.rows[self._stimulus[self.rows] >= 0]
        self._groups = _repetitions(store, self.rows) if average else None
        if self._groups is not None:
            self.rows = self._groups.first
        self._n_samples = store.trials["n_samples"][:] if "n_samples" in store.trials else None
        self._is_normalized = normalize == "trial"
        self.scale = normalize if isinstance(normalize, Scale) else None
        if self.scale is not None and self.scale.ch_names != tuple(self.ch_names):
            raise InputError(
                f"the scale is of {_listed(self.scale.ch_names)}, and {_listed(self.ch_names)} are "
                "read; fit it on the same channels"
            )
        if normalize == TRAIN:
            same = TrialLoader(
                store, TRAIN, "eeg", fold=fold, tmin=tmin, tmax=tmax, channels=channels,
                average=average,
            )  # fmt: skip
            self.scale = same.fitted_scale()

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, numbers: ArrayLike) -> dict[str, NDArray[Any]]:
        """The columns of some trials, which are counted within this loader.

        Parameters
        ----------
        numbers
            (trial,): integers, or a mask.

        Returns
        -------
        Name to array, first axis (trial,) in the order asked for; it is the caller's own.
        """
        chosen = np.asarray(numbers)
        crew = crew_for(0)
        trials = None if crew is None else crew.picked(self.rows, chosen)
        if trials is None:
            chosen = row_numbers("the loader's trials", chosen, len(self))
            trials = self.rows[chosen]
        batch = {}
        for name, read in self._reads.items():
            batch[name] = self._values(read, chosen, trials)
        return batch

    def values(self, name: str) -> NDArray[Any]:
        """A column of all of the loader's trials at once, such as ``label`` or ``concept``.

        Raises
        ------
        IndexError
            Where a trial without a stimulus has no such value.
        """
        read = self._read_of(name, False)
        if read.is_joined:
            row_numbers(read.column.entry.path, self._stimulus[self.rows], len(read.column))
        return self._values(read, np.arange(len(self)), self.rows)

    def chunks(self) -> tuple[NDArray[np.int64], int]:
        """In which inner chunk of the largest column each trial lies; how many to shuffle together.

        Half of the decoded chunks that a reader holds: a batch may lie in two windows.
        """
        read = [read.column.layout for read in self._reads.values() if not read.is_joined]
        layouts = [layout for layout in read if layout is not None]
        if not layouts:
            return self.rows, len(self)
        largest = max(layouts, key=lambda layout: layout.row_bytes)
        chunks: NDArray[np.int64] = self.rows // largest.chunk_rows
        return chunks, max(1, KEPT_BYTES // 2 // largest.chunk_bytes)

    def fitted_scale(self) -> Scale:
        """Mean and standard deviation of each channel of ``eeg`` over all of the trials."""
        row_bytes = 4 * max(1, len(self.ch_names) * len(self.times))
        step = max(1, FITTED_BYTES // row_bytes)

        def blocks() -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
            for start in range(0, len(self), step):
                numbers = np.arange(start, min(start + step, len(self)))
                yield self.batch(numbers)["eeg"], self._n_valid(self.rows[numbers])

        scale = Scale.of(blocks(), self.ch_names)
        if scale is None:
            raise InputError(f"{self.store.path}: the split 'train' has no sample to normalise by")
        return scale

    def _values(
        self, read: Read, chosen: NDArray[np.int64], trials: NDArray[np.int64]
    ) -> NDArray[Any]:
        if read.is_averaged and self._groups is not None:
            members, counts = self._groups.members(chosen)
            values = averaged(read.column.take(members, read.part), counts)
        else:
            rows = self._stimulus[trials] if read.is_joined else trials
            values = read.column.take(rows, read.part)
        if read.is_eeg and self.scale is not None:
            self.scale.apply(values)
        elif read.is_eeg and self._is_normalized:
            normalize_trials(values, self._n_valid(trials))
        return values

    def _n_valid(self, trials: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64, (trial,): how many of the samples that are read are no padding."""
        n_times = len(self.times)
        if self._n_samples is None:
            return np.full(len(trials), n_times)
        found: NDArray[np.int64] = np.clip(self._n_samples[trials] - self._times.start, 0, n_times)
        return found

    def _window(
        self,
        store: Store,
        tmin: float | None,
        tmax: float | None,
        channels: Sequence[str | int] | None,
    ) -> None:
        """Which channels and samples of ``eeg`` to read."""
        for what, time in (("tmin", tmin), ("tmax", tmax)):
            if not (time is None or isinstance(time, int | float | np.number)):
                raise InputError(f"{what} is {time!r}, expected seconds from stimulus onset")
        self.store = store
        names, times = store.trials.coords["channel"], np.array(store.trials.coords["time"])
        within = np.flatnonzero(
            (times >= (times[0] if tmin is None else tmin - _slack(times)))
            & (times <= (times[-1] if tmax is None else tmax + _slack(times)))
        )
        if not len(within):
            raise InputError(
                f"{store.path}: no sample from tmin {tmin} to tmax {tmax}; "
                f"the trials last from {times[0]:g} to {times[-1]:g} s"
            )
        self._times = slice(int(within[0]), int(within[-1]) + 1)
        self._channels = _channel_numbers(store, names, channels)
        self._is_windowed = len(within) < len(times) or channels is not None
        self.ch_names = [names[number] for number in self._channels]
        self.times = times[self._times]

    def _read_of(self, name: str, average: bool) -> Read:
        column, is_joined = _find(self.store, name)
        is_mean = average and not is_joined and column.entry.kind == "wide"
        is_mean = is_mean and np.dtype(column.entry.dtype).kind == "f"
        is_eeg, part = column.entry.path == "trials/eeg", None
        if is_eeg and self._is_windowed and column.layout is not None:
            part = Part.of(column.layout, np.array(self._channels, dtype=np.int64), self._times)
        return Read(column, is_joined, is_mean, is_eeg, part)


def _listed(names: Sequence[str]) -> str:
    """A few names, the others as a number."""
    some = ", ".join(names[:4])
    return f"the channels {some}" + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _channel_numbers(
    store: Store, names: Sequence[str], channels: Sequence[str | int] | str | int | None
) -> list[int]:
    """Those that are asked for, by name or number; all by default."""
    if channels is None:
        return list(range(len(names)))
    wanted: Any = [channels] if np.ndim(channels) == 0 else channels
    if not len(wanted):
        raise InputError("channels has none, expected at least one name or number")
    try:
        return chosen_channels(names, wanted)
    except KeyError as error:
        asked = error.args[0]
        hint = nearest(asked, names) if isinstance(asked, str) else ", ".join(names)
        if not isinstance(asked, str):
            hint = f"expected names, or numbers from 0 to {len(names) - 1}, of {hint}"
        raise InputError(f"{store.path}: has no channel {asked!r}; {hint}") from None


def _slack(times: NDArray[np.float64]) -> float:
    """A millionth of a sample: a time such as 0.1 is not quite what a float holds."""
    return 1e-6 * float(times[1] - times[0]) if len(times) > 1 else 0.0


def _repetitions(store: Store, rows: NDArray[np.int64]) -> Repetitions:
    names = ["stimulus", "split", *(["subject"] if "subject" in store.trials else [])]
    return Repetitions(rows, *[store.trials[name][:][rows] for name in names])


def _find(store: Store, name: str) -> tuple[StoredColumn, bool]:
    """The column of a name, and whether it is joined through the stimulus."""
    if not isinstance(name, str):
        raise InputError(f"columns has {name!r}, expected names, such as 'eeg'")
    table, slash, column = name.rpartition("/")
    if name in store.trials or (slash and table == "trials" and column in store.trials):
        return store.trials[column], False
    if column in store.stimuli and table in ("", "stimuli"):
        return store.stimuli[column], True
    ambiguous = set(store.trials) & set(store.stimuli)
    joined = [f"stimuli/{one}" if one in ambiguous else one for one in store.stimuli]
    hint = nearest(column, [*store.trials, *joined])
    raise InputError(f"{store.path}: has no column {name!r}; {hint}")


def _rows(store: Store, split: str | None, rows: ArrayLike | None) -> NDArray[np.int64]:
    """The trials to read, in trial order or as given."""
    names = store.trials["split"][:]
    if not (split is None or isinstance(split, str)):
        raise InputError(f"split is {split!r}, expected one of {', '.join(store.splits)}")
    if rows is not None:
        if split is not None:
            raise InputError(f"rows are given and split {split!r}; give one of them")
        chosen = row_numbers("trials", rows, len(names))
        return np.asarray(chosen[names[chosen] != SKIPPED])
    if split is None:
        return np.flatnonzero(names != SKIPPED)
    if split not in store.splits:
        raise InputError(f"{store.path}: has no split {split!r}; {nearest(split, store.splits)}")
    return np.flatnonzero(names == split)


def _folded(
    store: Store, split: str | None, rows: ArrayLike | None, fold: int
) -> NDArray[np.int64]:
    """The trials outside a fold for training, those of it for the test."""
    if rows is not None or split not in (TRAIN, TEST):
        given = "rows" if rows is not None else f"split {split!r}"
        raise InputError(f"fold is {fold} with {given}; it goes with split 'train' or 'test' alone")
    if not store.folds:
        raise InputError(
            f"{store.path}: has no folds; build it with a [split] that makes some (n_folds)"
        )
    if not is_whole(fold) or fold not in store.folds:
        known = ", ".join(map(str, store.folds))
        raise InputError(f"{store.path}: has no fold {fold!r:.80}; it has {known}")
    held_out = store.trials["fold"][:] == fold
    if split == TEST:
        return np.flatnonzero(held_out)
    return np.flatnonzero(~held_out & (store.trials["split"][:] == TRAIN))
